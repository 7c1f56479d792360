//! Observed: all that one node does run, as one value.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{Generation, GraphKey, Uid};
use crate::name::NodeName;

/// The full picture from one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The node that says it.
    pub node: NodeName,
    /// The assignment it has accepted.
    pub accepted: Generation,
    /// What it runs or tries to, sorted by key.
    pub graphs: Vec<GraphReport>,
}

/// One graph as a node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphReport {
    /// Its full name.
    pub key: GraphKey,
    /// Its identity.
    pub uid: Uid,
    /// The generation that answers requests now, if any.
    pub serving: Option<Generation>,
    /// The generation the node is working towards.
    pub desired: Generation,
    /// How far it is with that.
    pub progress: Progress,
    /// Why what serves fails here, if it does: a component does not pass the check that is made again and again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<String>,
}

/// How far a node is with a generation of a graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "phase")]
pub enum Progress {
    /// Pulling artifacts.
    Fetching,
    /// Fusing and compiling.
    Compiling,
    /// Making a first instance.
    Starting,
    /// Answering requests.
    Serving,
    /// It will not serve as it is; a new revision or a restart of the node may help.
    Failed(Failure),
    /// It went wrong and is tried again by itself.
    Retrying(Failure),
}

impl Progress {
    /// The word shown to people.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Fetching => "fetching",
            Self::Compiling => "compiling",
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Failed(_) => "failed",
            Self::Retrying(_) => "retrying",
        }
    }
}

/// Why something does not serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// A stable word: `start_failed`, `compile_limit`, `artifact_unavailable`.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.reason, self.message)
    }
}
