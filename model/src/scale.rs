//! On how many nodes a component runs that is scaled by what is asked of it, and how much that is.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::placement::REPLICAS_MAX;

/// The calls under way on one node that can be aimed at: more than the pool of any node has room for is never reached.
pub const CONCURRENCY: RangeInclusive<u32> = 1..=100_000;
/// How long fewer nodes must have been enough before there are fewer. Less than what three heartbeats take says nothing.
pub const DOWN_AFTER: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60);
/// The same for a component that does not say.
pub const DOWN_AFTER_DEFAULT: Duration = Duration::from_secs(60);

/// How a component is scaled by what is asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Scaling {
    min: u32,
    max: u32,
    concurrency: u32,
    down_after: Duration,
}

/// What is stored of it.
#[derive(Serialize, Deserialize)]
struct Written {
    min: u32,
    max: u32,
    concurrency: u32,
    down_after: Duration,
}

/// Why a component cannot be scaled so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScalingError {
    /// It would run nowhere.
    #[error("a component that is scaled runs on 1 node at least, not on {0}")]
    Min(u32),
    /// It would run on more nodes than it may.
    #[error("a component runs on 1 to {REPLICAS_MAX} nodes, not on {0}")]
    Max(u32),
    /// No number is between its bounds.
    #[error("at least {min} nodes are more than at most {max}")]
    Bounds {
        /// The least.
        min: u32,
        /// The most.
        max: u32,
    },
    /// So many calls are aimed at on no node.
    #[error("{least} to {most} calls under way are aimed at on each node, not {0}", least = CONCURRENCY.start(), most = CONCURRENCY.end())]
    Concurrency(u32),
    /// That is too soon to know, or too late to be of use.
    #[error(
        "fewer nodes come between {} and {} after they are enough",
        crate::unit::format_duration(*DOWN_AFTER.start()),
        crate::unit::format_duration(*DOWN_AFTER.end())
    )]
    DownAfter,
}

impl Scaling {
    /// From `min` to `max` nodes, so that each has `concurrency` calls under way, and fewer once these have been enough for
    /// `down_after`.
    pub fn new(min: u32, max: u32, concurrency: u32, down_after: Duration) -> Result<Self, ScalingError> {
        if min == 0 {
            return Err(ScalingError::Min(min));
        }
        if !(1..=REPLICAS_MAX).contains(&max) {
            return Err(ScalingError::Max(max));
        }
        if min > max {
            return Err(ScalingError::Bounds { min, max });
        }
        if !CONCURRENCY.contains(&concurrency) {
            return Err(ScalingError::Concurrency(concurrency));
        }
        if !DOWN_AFTER.contains(&down_after) {
            return Err(ScalingError::DownAfter);
        }
        Ok(Self { min, max, concurrency, down_after })
    }

    /// The fewest nodes.
    pub const fn min(&self) -> u32 {
        self.min
    }

    /// The most nodes.
    pub const fn max(&self) -> u32 {
        self.max
    }

    /// The calls under way that are aimed at on each node.
    pub const fn concurrency(&self) -> u32 {
        self.concurrency
    }

    /// How long fewer nodes must have been enough before there are fewer.
    pub const fn down_after(&self) -> Duration {
        self.down_after
    }

    /// The number of nodes within the bounds that is nearest to `count`.
    pub fn within(&self, count: u32) -> u32 {
        count.clamp(self.min, self.max)
    }
}

impl fmt::Display for Scaling {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}-{} nodes by {} calls under way on each", self.min, self.max, self.concurrency)
    }
}

impl TryFrom<Written> for Scaling {
    type Error = ScalingError;

    fn try_from(written: Written) -> Result<Self, ScalingError> {
        Self::new(written.min, written.max, written.concurrency, written.down_after)
    }
}

impl From<Scaling> for Written {
    fn from(scaling: Scaling) -> Self {
        let Scaling { min, max, concurrency, down_after } = scaling;
        Self { min, max, concurrency, down_after }
    }
}

/// Calls under way, on average over some time, in thousandths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Calls(u64);

impl Calls {
    /// So many thousandths of a call.
    pub const fn from_thousandths(thousandths: u64) -> Self {
        Self(thousandths)
    }

    /// In thousandths.
    pub const fn thousandths(self) -> u64 {
        self.0
    }

    /// These and others.
    #[must_use]
    pub const fn and(self, others: Self) -> Self {
        Self(self.0.saturating_add(others.0))
    }
}

impl fmt::Display for Calls {
    /// Few with one digit behind the point, many without.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = self.0.saturating_add(50) / 100;
        match (tenths / 10, tenths % 10) {
            (whole @ 0..10, tenths @ 1..) => write!(out, "{whole}.{tenths}"),
            (0..10, 0) => write!(out, "{}", tenths / 10),
            _ => write!(out, "{}", self.0.saturating_add(500) / 1_000),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn what_cannot_be_is_refused_and_said() {
        let scaling = Scaling::new(1, 8, 50, MINUTE).unwrap();
        assert_eq!(scaling.to_string(), "1-8 nodes by 50 calls under way on each");
        assert_eq!([0, 1, 5, 9].map(|count| scaling.within(count)), [1, 1, 5, 8]);
        let refused = |min, max, concurrency, down_after| {
            Scaling::new(min, max, concurrency, down_after).unwrap_err().to_string()
        };
        assert_eq!(refused(0, 8, 50, MINUTE), "a component that is scaled runs on 1 node at least, not on 0");
        assert_eq!(refused(1, 101, 50, MINUTE), "a component runs on 1 to 100 nodes, not on 101");
        assert_eq!(refused(3, 2, 50, MINUTE), "at least 3 nodes are more than at most 2");
        assert_eq!(refused(1, 2, 0, MINUTE), "1 to 100000 calls under way are aimed at on each node, not 0");
        let late = refused(1, 2, 1, Duration::from_millis(999));
        assert_eq!(late, "fewer nodes come between 1s and 24h after they are enough");
    }

    #[test]
    fn calls_are_shown_as_precisely_as_is_of_use() {
        let shown = [0, 49, 50, 400, 949, 951, 1_000, 1_550, 9_949, 9_950, 10_400, 10_500, 180_000]
            .map(|thousandths| Calls::from_thousandths(thousandths).to_string());
        let expected = ["0", "0", "0.1", "0.4", "0.9", "1", "1", "1.6", "9.9", "10", "10", "11", "180"];
        assert_eq!(shown, expected);
    }
}
