//! Nodes as the cluster knows them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::id::Uid;
use crate::name::NodeName;
use crate::placement::{
    ATTRIBUTES, CPUS_ATTRIBUTE, MEMORY_ATTRIBUTE, NODE_LABEL, Requirements, VERSION_ATTRIBUTE,
};

/// What an agent says of its node when it connects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeDescription {
    /// The node's name.
    pub name: NodeName,
    /// Made once and kept in the agent's data directory.
    pub uid: Uid,
    /// Where the agent's gRPC API listens, `host:port`.
    pub api_address: String,
    /// Where its HTTP ingress listens, `host:port`.
    pub ingress_address: String,
    /// The agent's version.
    pub version: String,
    /// What constraints select on.
    pub labels: BTreeMap<String, String>,
    /// The capabilities its host offers: `sqlite`.
    pub capabilities: Vec<String>,
    /// What it has to give.
    pub capacity: Capacity,
    /// What its agent knows: [`AGENT_LEVEL`] of its version; 0 of those that did not say.
    #[serde(default)]
    pub level: u32,
}

/// What agents of this version know. 1: components on several nodes, and checks. 2: candidates of graphs, and routes that
/// come encoded. 3: checks of what serves, and what stops in isolation. 4: instances that are kept for a component.
pub const AGENT_LEVEL: u32 = 4;
/// From this level on agents know components on several nodes, and checks.
pub const KNOWS_REPLICAS: u32 = 1;
/// From this level on agents know candidates of graphs.
pub const KNOWS_CANDIDATES: u32 = 2;
/// From this level on agents check again what serves.
pub const KNOWS_RECHECKS: u32 = 3;
/// From this level on agents know what stops serving once they are cut off from the control plane.
pub const KNOWS_ISOLATION: u32 = 3;
/// From this level on agents keep instances for components.
pub const KNOWS_RESERVES: u32 = 4;
/// From this level on agents know routes that come encoded.
pub const KNOWS_ENCODED_ROUTES: u32 = 2;

impl NodeDescription {
    /// The value of a label, of those that an operator has given the node or of its own; its name is the label `node`.
    pub fn label<'a>(&'a self, given: &'a Labels, name: &str) -> Option<&'a str> {
        match name {
            NODE_LABEL => Some(self.name.as_str()),
            other => given.get(other).or_else(|| self.labels.get(other)).map(String::as_str),
        }
    }

    /// What it is like in one respect: an attribute that it has by itself, or a label.
    pub fn attribute<'a>(&'a self, given: &'a Labels, name: &str) -> Option<Cow<'a, str>> {
        match name {
            VERSION_ATTRIBUTE => Some(Cow::Borrowed(&self.version)),
            CPUS_ATTRIBUTE => Some(Cow::Owned(self.capacity.cpus.to_string())),
            MEMORY_ATTRIBUTE => Some(Cow::Owned(self.capacity.memory_bytes.to_string())),
            label => self.label(given, label).map(Cow::Borrowed),
        }
    }

    /// Whether a condition on a label or an attribute holds of it.
    pub fn is(&self, given: &Labels, name: &str, condition: &Condition) -> bool {
        condition.holds(self.attribute(given, name).as_deref())
    }

    /// Whether all of these conditions hold of it.
    pub fn meets(&self, given: &Labels, require: &Requirements) -> bool {
        require.iter().all(|(name, condition)| self.is(given, name, condition))
    }
}

/// Labels of a node, by name.
pub type Labels = BTreeMap<String, String>;

/// Whether a node gets work, as an operator has said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Admission {
    /// It does.
    #[default]
    Open,
    /// It gets nothing new and keeps what it has.
    Cordoned,
    /// It gets nothing new, and what it has is moved to other nodes.
    Draining {
        /// What still answers here is not waited for after this, milliseconds since 1970.
        deadline_ms: u64,
    },
}

impl Admission {
    /// The word shown to people.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Cordoned => "cordoned",
            Self::Draining { .. } => "draining",
        }
    }
}

/// The longest label, name or value, in bytes.
pub const LABEL_MAX_BYTES: usize = 128;
/// The most labels of a node.
pub const LABELS_MAX: usize = 64;

/// The most taints of a node.
pub const TAINTS_MAX: usize = 64;

/// Whether a text can be the name of a label or a taint, whoever may give it: printable ASCII without spaces, and not empty.
pub fn is_plain(name: &str) -> bool {
    !name.is_empty() && is_short(name)
}

fn is_short(text: &str) -> bool {
    text.len() <= LABEL_MAX_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether a node can be given a label, or a taint: of printable ASCII without spaces, its name neither empty nor one that every
/// node has by itself: `node`, and those that begin with `weft.`.
pub fn is_label(name: &str, value: &str) -> bool {
    let is_own = name == NODE_LABEL || name.starts_with(ATTRIBUTES);
    !is_own && is_plain(name) && is_short(value)
}

/// What a node has to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Memory for guests, in bytes.
    pub memory_bytes: u64,
    /// Processors.
    pub cpus: u32,
    /// Instances at one time.
    pub instances: u32,
}

/// Whether a node can be given work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// Its agent is connected.
    Ready,
    /// Its agent has not been heard of for too long; what it runs may still serve.
    Down,
}

impl fmt::Display for NodeState {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Ready => "ready",
            Self::Down => "down",
        })
    }
}
