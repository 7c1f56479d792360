//! Instances that are kept for a component on each of its nodes, and whose come first where not all can be.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::linked::{Link, LinkedGraph};
use crate::name::{ComponentName, NodeName};
use crate::node::Capacity;
use crate::placement::Placement;

/// The instances that can be kept for a component on each of its nodes: no node has room for more.
pub const RESERVED: RangeInclusive<u32> = 1..=10_000;
/// The priorities there are.
pub const PRIORITIES: RangeInclusive<u32> = 0..=100;
/// Members of a slice that one instance of a node's pool has room for; a slice with more takes several.
pub const MEMBERS_PER_INSTANCE: u64 = 2;
/// The members that a slice unfolds to: `graph` refuses more, and no node makes such a slice.
const UNFOLDED_MAX: u64 = 256;

/// Whose instances are kept first where those of all cannot be: the higher, of 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Priority(u32);

/// No graph has such a priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a priority is {least} to {most}, not {0}", least = PRIORITIES.start(), most = PRIORITIES.end())]
pub struct PriorityError(pub u32);

/// What a graph has kept for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserves {
    /// Whose come first.
    #[serde(default)]
    pub priority: Priority,
    /// The instances on each node of a component; those that have none kept are left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub instances: BTreeMap<ComponentName, u32>,
}

/// What is kept of a node, or can be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reserve {
    /// Instances of its pool.
    pub instances: u64,
    /// The memory that these may use together, in bytes.
    pub memory_bytes: u64,
}

impl Priority {
    /// That of a graph that does not say.
    pub const DEFAULT: Self = Self(50);

    /// A priority within its bounds.
    pub fn new(priority: u32) -> Result<Self, PriorityError> {
        PRIORITIES.contains(&priority).then_some(Self(priority)).ok_or(PriorityError(priority))
    }

    /// As a number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl TryFrom<u32> for Priority {
    type Error = PriorityError;

    fn try_from(priority: u32) -> Result<Self, PriorityError> {
        Self::new(priority)
    }
}

impl From<Priority> for u32 {
    fn from(priority: Priority) -> Self {
        priority.0
    }
}

impl Reserves {
    /// Whether nothing is kept. A priority alone says nothing.
    pub fn is_empty(&self) -> bool {
        self.instances.is_empty()
    }

    /// Whether nothing was said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Reserve {
    /// What can be kept of a node: three quarters of it, so that what has nothing kept is served as well.
    pub const fn of_node(capacity: Capacity) -> Self {
        let instances = capacity.instances as u64;
        let memory = capacity.memory_bytes;
        Self { instances: instances - instances / 4, memory_bytes: memory - memory / 4 }
    }

    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            instances: self.instances.saturating_add(other.instances),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
        }
    }

    /// What is left of it without `other`.
    #[must_use]
    pub const fn less(self, other: Self) -> Self {
        Self {
            instances: self.instances.saturating_sub(other.instances),
            memory_bytes: self.memory_bytes.saturating_sub(other.memory_bytes),
        }
    }

    /// Of each the smaller.
    #[must_use]
    pub fn least(self, other: Self) -> Self {
        Self {
            instances: self.instances.min(other.instances),
            memory_bytes: self.memory_bytes.min(other.memory_bytes),
        }
    }

    /// Whether `other` is no more than this.
    pub const fn holds(self, other: Self) -> bool {
        other.instances <= self.instances && other.memory_bytes <= self.memory_bytes
    }

    /// Whether it is nothing.
    pub fn is_none(self) -> bool {
        self == Self::default()
    }

    fn times(self, count: u32) -> Self {
        Self {
            instances: self.instances.saturating_mul(u64::from(count)),
            memory_bytes: self.memory_bytes.saturating_mul(u64::from(count)),
        }
    }
}

impl fmt::Display for Reserve {
    /// `16 instances with 2Gi`: whole mebibytes.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = crate::unit::ByteSize::mebibytes(self.memory_bytes >> 20);
        write!(out, "{} instances with {memory}", self.instances)
    }
}

impl LinkedGraph {
    /// What is reserved on a node for what of it is there when it is placed so.
    pub fn reserve_on(&self, placement: &Placement, node: &NodeName) -> Reserve {
        self.reserve(|member| placement.runs_on(member, node), |link| placement.is_remote(link))
    }

    /// What is reserved for these members where they are together, as if all others were elsewhere: not less than what it
    /// comes to. Of what runs on as many nodes as its callers it is known that these find it on their own.
    pub fn reserve_together(&self, is_there: impl Fn(&ComponentName) -> bool) -> Reserve {
        let spread = |member: &ComponentName| {
            (self.replicas.get(member), self.scaling.get(member), self.each_node.contains(member))
        };
        let is_remote = |link: &Link| {
            let is_beside = |to: &ComponentName| is_there(to) && spread(to) == spread(&link.from);
            !is_there(&link.from) || !link.to.member().is_some_and(is_beside)
        };
        self.reserve(&is_there, is_remote)
    }

    /// For each instance of the members that `is_there` also what it calls, as if all of that were on its node. What others
    /// call on its own node alone is a part of theirs.
    fn reserve(&self, is_there: impl Fn(&ComponentName) -> bool, is_remote: impl Fn(&Link) -> bool) -> Reserve {
        let of = |(name, count): (&ComponentName, &u32)| self.instance_of(name).times(*count);
        let is_called = |name: &ComponentName| self.is_entry(name) || self.is_called(name, &is_remote);
        let reserved = self.reserves.instances.iter().filter(|(name, _)| is_there(name) && is_called(name));
        reserved.map(of).fold(Reserve::default(), Reserve::and)
    }

    /// The components that instances are to be kept for and that are called on the nodes of their callers alone when it is
    /// placed so: these have none of their own.
    pub fn unreserved<'a>(&'a self, placement: &'a Placement) -> impl Iterator<Item = &'a ComponentName> {
        let is_remote = |link: &Link| placement.is_remote(link);
        self.reserves
            .instances
            .keys()
            .filter(move |name| !self.is_entry(name) && !self.is_called(name, is_remote))
    }

    /// Whether a component is called from outside: by an ingress or, in a graph without one, because no link leads to it.
    pub fn is_entry(&self, name: &ComponentName) -> bool {
        match self.ingress.as_slice() {
            [] => !self.is_called(name, |_| true),
            routes => routes.iter().any(|route| route.to == *name),
        }
    }

    /// Whether one of these links leads to it.
    fn is_called(&self, name: &ComponentName, counts: impl Fn(&Link) -> bool) -> bool {
        self.links.iter().any(|link| link.to.member() == Some(name) && counts(link))
    }

    /// What one instance of a component takes with all that it calls. Each of these has its own instance of what it calls.
    fn instance_of(&self, root: &ComponentName) -> Reserve {
        let (mut members, mut memory_bytes) = (0_u64, 0_u64);
        let mut ahead = vec![root];
        while let Some(member) = ahead.pop() {
            let Some(component) = self.components.get(member) else { continue };
            members += 1;
            memory_bytes = memory_bytes.saturating_add(component.settings.limits.memory.0);
            if members >= UNFOLDED_MAX {
                break;
            }
            let called: BTreeSet<&ComponentName> =
                self.links_of(member).filter_map(|link| link.to.member()).collect();
            ahead.extend(called);
        }
        Reserve { instances: members.div_ceil(MEMBERS_PER_INSTANCE), memory_bytes }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::graph::{Artifact, Settings};
    use crate::linked::{LinkOrigin, LinkedComponent, Origin, Target};
    use crate::placement::LinkTerms;
    use crate::unit::ByteSize;

    fn graph(links: &[(&str, &str)], reserved: &[(&str, u32)]) -> LinkedGraph {
        let name = |name: &str| ComponentName::new(name).unwrap();
        let component = || {
            let mut settings = Settings::default();
            settings.limits.memory = ByteSize(1 << 20);
            let artifact = Artifact { digest: Digest::from_bytes([1; 32]), size: 1 };
            LinkedComponent { artifact, origin: Origin::Graph, exports: Vec::new(), settings }
        };
        let link = |(from, to): &(&str, &str)| Link {
            from: name(from),
            interface: "a:b/c".parse().unwrap(),
            to: Target::Component { name: name(to), export: "a:b/c".parse().unwrap() },
            wiring: LinkOrigin::Inferred,
            functions: Vec::new(),
            terms: LinkTerms::default(),
        };
        let members =
            links.iter().flat_map(|(from, to)| [*from, *to]).chain(reserved.iter().map(|(name, _)| *name));
        let instances = reserved.iter().map(|(member, count)| (name(member), *count)).collect();
        LinkedGraph {
            components: members.map(|member| (name(member), component())).collect(),
            links: links.iter().map(link).collect(),
            reserves: Reserves { priority: Priority::DEFAULT, instances },
            ..LinkedGraph::default()
        }
    }

    #[test]
    fn an_instance_takes_what_it_calls_with_it_once_for_each_caller() {
        let kept = |links: &[(&str, &str)], reserved: &[(&str, u32)]| {
            let kept = graph(links, reserved).reserve(|_| true, |_| true);
            (kept.instances, kept.memory_bytes >> 20)
        };
        assert_eq!(kept(&[], &[]), (0, 0));
        assert_eq!(kept(&[], &[("a", 8)]), (8, 8));
        assert_eq!(kept(&[("a", "b")], &[("a", 8)]), (8, 16));
        // By two interfaces, and yet one instance.
        assert_eq!(kept(&[("a", "b"), ("a", "b"), ("b", "c")], &[("a", 8)]), (16, 24));
        // Two callers of `d`.
        assert_eq!(
            kept(&[("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")], &[("a", 1), ("d", 3)]),
            (3 + 3, 5 + 3)
        );
        // None of these is, but it must not take forever.
        assert_eq!(kept(&[("a", "b"), ("b", "a")], &[("a", 1)]), (128, 256));
    }

    #[test]
    fn what_is_called_on_the_node_of_its_callers_is_a_part_of_their_instances() {
        let both = graph(&[("a", "b")], &[("a", 8), ("b", 100)]);
        let node = |name: &str| NodeName::new(name).unwrap();
        let together = Placement::whole(node("n1"));
        let parted = Placement { away: [("b".parse().unwrap(), node("n2"))].into(), ..together.clone() };
        let on = |placement: &Placement, name| both.reserve_on(placement, &node(name)).instances;
        assert_eq!((on(&together, "n1"), on(&together, "n2")), (8, 0));
        assert_eq!((on(&parted, "n1"), on(&parted, "n2")), (8, 100));
        assert_eq!(both.reserve_together(|_| true).instances, 8);
        assert_eq!(both.reserve_together(|name| name.as_str() == "b").instances, 100, "it may be elsewhere");
    }

    #[test]
    fn a_quarter_of_a_node_is_not_kept_for_anybody() {
        let capacity = Capacity { memory_bytes: 4 << 30, cpus: 2, instances: 1_000 };
        let most = Reserve::of_node(capacity);
        assert_eq!(most.to_string(), "750 instances with 3Gi");
        assert!(most.holds(Reserve { instances: 750, memory_bytes: 0 }));
        assert!(!most.holds(Reserve { instances: 751, memory_bytes: 0 }));
        assert!(!most.holds(Reserve { instances: 0, memory_bytes: (3 << 30) + 1 }));
    }

    #[test]
    fn a_priority_is_within_its_bounds() {
        assert_eq!(Priority::new(101), Err(PriorityError(101)));
        assert!(Priority::new(100).unwrap() > Priority::DEFAULT);
        assert!(serde_json::from_str::<Priority>("101").is_err());
    }
}
