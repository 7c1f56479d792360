//! Where the members of a linked graph run, and what they ask of a node.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::linked::Link;
use crate::name::{ComponentName, NodeName};

/// The label that every node has by itself: its name.
pub const NODE_LABEL: &str = "node";

/// Labels that a node must have, with these values.
pub type Requirements = BTreeMap<String, String>;

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

/// A node for each member, components and capabilities alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The node of all members that are not named in `away`.
    pub home: NodeName,
    /// The members on other nodes than `home`.
    pub away: BTreeMap<ComponentName, NodeName>,
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
        Self { home, away: BTreeMap::new() }
    }

    /// Where a member runs.
    pub fn node_of(&self, member: &ComponentName) -> &NodeName {
        self.away.get(member).unwrap_or(&self.home)
    }

    /// The nodes that have a part.
    pub fn nodes(&self) -> BTreeSet<&NodeName> {
        self.away.values().chain([&self.home]).collect()
    }

    /// Whether this node has a part.
    pub fn is_on(&self, node: &NodeName) -> bool {
        self.home == *node || self.away.values().any(|other| other == node)
    }

    /// Whether the ends of a link are on two nodes.
    pub fn is_remote(&self, link: &Link) -> bool {
        link.to.member().is_some_and(|to| self.node_of(&link.from) != self.node_of(to))
    }
}
