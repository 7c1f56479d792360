//! Where the members of a linked graph run, and what they ask of a node.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::linked::Link;
use crate::name::{ComponentName, NodeName};
use crate::node::Labels;

/// The label that every node has by itself: its name.
pub const NODE_LABEL: &str = "node";

/// What the names of attributes begin with that every node has by itself, and no label.
pub const ATTRIBUTES: &str = "weft.";

/// The attribute that says of which version a node's agent is.
pub const VERSION_ATTRIBUTE: &str = "weft.version";

/// The attribute that says how many processors a node has.
pub const CPUS_ATTRIBUTE: &str = "weft.cpus";

/// The attribute that says how many bytes of memory a node has for guests.
pub const MEMORY_ATTRIBUTE: &str = "weft.memory";

/// The label that says where a node is: nodes of one zone are lost together, and are near each other.
pub const ZONE_LABEL: &str = "zone";

/// The most nodes that one member runs on.
pub const REPLICAS_MAX: u32 = 100;

/// The most nodes of a member that runs on each: at every node that comes or goes, all of them are told of all, which at a
/// thousand is some ten megabytes.
pub const EACH_NODE_MAX: usize = 1_000;

/// What a node must be like, by labels and by the attributes that it has by itself.
pub type Requirements = BTreeMap<String, Condition>;

/// What a member wishes of its node: what it says of nodes besides those that it requires.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wishes {
    /// Nodes of which this holds go before others: each condition that holds counts one for it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub prefer: Requirements,
    /// Nodes of which this holds go after others: each condition that holds counts one against it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub avoid: Requirements,
    /// The taints of a node that do not keep it away.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tolerate: Labels,
}

impl Wishes {
    /// Whether nothing is wished.
    pub fn is_empty(&self) -> bool {
        !self.ranks() && self.tolerate.is_empty()
    }

    /// Whether one node is better than another by them.
    pub fn ranks(&self) -> bool {
        !self.prefer.is_empty() || !self.avoid.is_empty()
    }

    /// Whether a taint does not keep it away.
    pub fn tolerates(&self, taint: &str, value: &str) -> bool {
        self.tolerate.get(taint).is_some_and(|tolerated| tolerated == value)
    }
}

/// How far apart the ends of a link may be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Locality {
    /// On one node or on two, as the members are placed.
    #[default]
    Any,
    /// On one node.
    SameNode,
}

/// What the owner of a link asks of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkTerms {
    /// How far apart its ends may be.
    pub locality: Locality,
    /// The longest one call to another node may take; the caller's deadline ends it earlier.
    pub timeout: Option<Duration>,
    /// The case of a function's error type that a lost call answers with; without it, its caller's instance ends.
    pub on_loss: Option<String>,
    /// Whether a call may be made again that may have been done: one that was lost on its way.
    #[serde(default)]
    pub idempotent: bool,
}

/// The nodes of each member, components and capabilities alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The first node of all members that are not named in `away`.
    pub home: NodeName,
    /// The members whose first node is another than `home`.
    pub away: BTreeMap<ComponentName, NodeName>,
    /// The members that run on more than one node, and their other nodes: never their first, never none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub more: BTreeMap<ComponentName, BTreeSet<NodeName>>,
}

impl fmt::Display for Placement {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes: Vec<&str> = self.nodes().into_iter().map(NodeName::as_str).collect();
        out.pad(&nodes.join(", "))
    }
}

impl Placement {
    /// Everything on one node.
    pub const fn whole(home: NodeName) -> Self {
        Self { home, away: BTreeMap::new(), more: BTreeMap::new() }
    }

    /// The first node of a member; the only one of a capability.
    pub fn first_node_of(&self, member: &ComponentName) -> &NodeName {
        self.away.get(member).unwrap_or(&self.home)
    }

    /// Where a member runs, its first node first.
    pub fn nodes_of(&self, member: &ComponentName) -> impl Iterator<Item = &NodeName> + Clone {
        std::iter::once(self.first_node_of(member)).chain(self.more.get(member).into_iter().flatten())
    }

    /// Whether a member runs on a node.
    pub fn runs_on(&self, member: &ComponentName, node: &NodeName) -> bool {
        self.first_node_of(member) == node || self.more.get(member).is_some_and(|nodes| nodes.contains(node))
    }

    /// The nodes that have a part.
    pub fn nodes(&self) -> BTreeSet<&NodeName> {
        self.away.values().chain([&self.home]).chain(self.more.values().flatten()).collect()
    }

    /// Whether it is on more than one node.
    pub fn is_parted(&self) -> bool {
        !self.away.is_empty() || !self.more.is_empty()
    }

    /// The nodes of a member as people read them: `n1, n2`.
    pub fn shown(&self, member: &ComponentName) -> String {
        self.nodes_of(member).map(NodeName::as_str).collect::<Vec<_>>().join(", ")
    }

    /// Whether this node has a part.
    pub fn is_on(&self, node: &NodeName) -> bool {
        self.home == *node
            || self.away.values().any(|other| other == node)
            || self.more.values().any(|others| others.contains(node))
    }

    /// Whether its caller is on some node where the other end of a link is not.
    pub fn is_remote(&self, link: &Link) -> bool {
        link.to.member().is_some_and(|to| self.nodes_of(&link.from).any(|node| !self.runs_on(to, node)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::linked::{LinkOrigin, Target};

    fn link(from: &str, to: &str) -> Link {
        let interface: crate::interface::InterfaceName = "a:b/c@1.0.0".parse().unwrap();
        Link {
            from: from.parse().unwrap(),
            interface: interface.clone(),
            to: Target::Component { name: to.parse().unwrap(), export: interface },
            wiring: LinkOrigin::Explicit,
            functions: Vec::new(),
            terms: LinkTerms::default(),
        }
    }

    #[test]
    fn a_link_is_remote_where_a_node_has_its_caller_alone() {
        let node = |name: &str| name.parse::<NodeName>().unwrap();
        let member = |name: &str| name.parse::<ComponentName>().unwrap();
        let mut placed = Placement::whole(node("n1"));
        placed.more.insert(member("app"), [node("n2"), node("n3")].into());
        placed.more.insert(member("search"), [node("n2")].into());
        assert_eq!(placed.to_string(), "n1, n2, n3");
        assert!(placed.nodes_of(&member("app")).map(NodeName::as_str).eq(["n1", "n2", "n3"]));
        assert!(placed.nodes_of(&member("db")).map(NodeName::as_str).eq(["n1"]));
        assert!(placed.is_on(&node("n3")) && !placed.is_on(&node("n4")));
        assert!(
            placed.runs_on(&member("search"), &node("n2")) && !placed.runs_on(&member("search"), &node("n3"))
        );
        assert!(placed.is_remote(&link("app", "search")), "n3 has no search of its own");
        assert!(!placed.is_remote(&link("search", "app")));
        assert!(placed.is_remote(&link("search", "db")) && !placed.is_remote(&link("db", "search")));
    }
}
