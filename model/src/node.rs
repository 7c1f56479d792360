//! Nodes as the cluster knows them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::Uid;
use crate::name::NodeName;
use crate::placement::{NODE_LABEL, Requirements};

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
}

impl NodeDescription {
    /// Whether the node has these labels; its name is the label `node`.
    pub fn meets(&self, require: &Requirements) -> bool {
        require.iter().all(|(label, value)| match label.as_str() {
            NODE_LABEL => self.name.as_str() == value,
            other => self.labels.get(other) == Some(value),
        })
    }
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
