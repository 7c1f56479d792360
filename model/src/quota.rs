//! What the graphs of one namespace may use together, and what they do.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::reserve::Priority;
use crate::unit::ByteSize;

/// Bounds of what the graphs of a namespace use together; what has no bound here is not bounded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// How many graphs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graphs: Option<u64>,
    /// On how many nodes their components, all together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u64>,
    /// The memory limits of their components, each as often as it has replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
    /// The instances that are reserved for their components, each as often as it has replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved: Option<u64>,
    /// The highest priority of what is reserved for one of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
}

/// What graphs use of a quota.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// How many there are.
    pub graphs: u64,
    /// On how many nodes their components should run, all together.
    pub replicas: u64,
    /// The memory limits of their components, each as often as it has replicas.
    pub memory: ByteSize,
    /// The instances that are reserved for their components, each as often as it has replicas.
    pub reserved: u64,
}

/// What a quota measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Graphs.
    Graphs,
    /// Components, each as often as the nodes that it should run on.
    Replicas,
    /// Bytes.
    Memory,
    /// Instances that are reserved.
    Reserved,
}

impl Measure {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 4] = [Self::Graphs, Self::Replicas, Self::Memory, Self::Reserved];

    /// The word shown to people.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Graphs => "graphs",
            Self::Replicas => "replicas",
            Self::Memory => "memory",
            Self::Reserved => "reserved",
        }
    }

    /// An amount as people read it: `12`, `512Mi`.
    pub fn shown(self, amount: u64) -> String {
        match self {
            Self::Graphs | Self::Replicas | Self::Reserved => amount.to_string(),
            Self::Memory => ByteSize(amount).to_string(),
        }
    }
}

impl Quota {
    /// The bound of a measure, if it has one.
    pub fn bound(&self, measure: Measure) -> Option<u64> {
        match measure {
            Measure::Graphs => self.graphs,
            Measure::Replicas => self.replicas,
            Measure::Memory => self.memory.map(|memory| memory.0),
            Measure::Reserved => self.reserved,
        }
    }

    /// Whether it bounds nothing.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it says something of what is reserved.
    pub const fn bounds_reserves(&self) -> bool {
        self.reserved.is_some() || self.priority.is_some()
    }
}

impl fmt::Display for Quota {
    /// `graphs 20, memory 8Gi, priority 50`, or `none`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bounds = Measure::ALL.into_iter().filter_map(|measure| {
            self.bound(measure).map(|bound| format!("{} {}", measure.word(), measure.shown(bound)))
        });
        let priority = self.priority.map(|priority| format!("priority {priority}"));
        let bounds: Vec<String> = bounds.chain(priority).collect();
        out.pad(&if bounds.is_empty() { "none".to_owned() } else { bounds.join(", ") })
    }
}

impl Usage {
    /// How much of a measure.
    pub const fn of(&self, measure: Measure) -> u64 {
        match measure {
            Measure::Graphs => self.graphs,
            Measure::Replicas => self.replicas,
            Measure::Memory => self.memory.0,
            Measure::Reserved => self.reserved,
        }
    }

    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            graphs: self.graphs.saturating_add(other.graphs),
            replicas: self.replicas.saturating_add(other.replicas),
            memory: ByteSize(self.memory.0.saturating_add(other.memory.0)),
            reserved: self.reserved.saturating_add(other.reserved),
        }
    }

    /// Of each measure that of whichever uses more of it.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            graphs: self.graphs.max(other.graphs),
            replicas: self.replicas.max(other.replicas),
            memory: self.memory.max(other.memory),
            reserved: self.reserved.max(other.reserved),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_reads_as_its_bounds() {
        assert_eq!(Quota::default().to_string(), "none");
        let quota = Quota { graphs: Some(20), memory: Some(ByteSize(8 << 30)), ..Quota::default() };
        assert_eq!(quota.to_string(), "graphs 20, memory 8Gi");
        assert!(!quota.bounds_reserves());
        let quota = Quota { reserved: Some(16), priority: Some(Priority::DEFAULT), ..Quota::default() };
        assert_eq!(quota.to_string(), "reserved 16, priority 50");
        assert!(quota.bounds_reserves());
        assert!(Quota::default().is_none() && !quota.is_none());
        assert!(!Quota { graphs: Some(0), ..Quota::default() }.is_none(), "nothing at all is a bound");
    }

    #[test]
    fn usage_adds_up_and_does_not_overflow() {
        let one = Usage { graphs: 1, replicas: 3, memory: ByteSize(64), reserved: 7 };
        let most = Usage { graphs: u64::MAX, replicas: 1, memory: ByteSize(u64::MAX), reserved: 1 };
        let (graphs, memory) = (u64::MAX, ByteSize(u64::MAX));
        assert_eq!(one.and(most), Usage { graphs, replicas: 4, memory, reserved: 8 });
        assert_eq!(one.or(most), Usage { graphs, replicas: 3, memory, reserved: 7 });
        assert_eq!(Measure::ALL.map(|measure| one.of(measure)), [1, 3, 64, 7]);
    }
}
