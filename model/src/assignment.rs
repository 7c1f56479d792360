//! Desired: all that one node should run, as one value with a generation.

use serde::{Deserialize, Serialize};

use crate::id::{ClusterId, Generation, GraphKey, RevisionNumber, Uid};
use crate::linked::LinkedGraph;
use crate::name::NodeName;

/// The full picture for one node; a later one replaces it whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The cluster that assigns.
    pub cluster: ClusterId,
    /// The node it is for.
    pub node: NodeName,
    /// The node refuses an older one than it has.
    pub generation: Generation,
    /// What to run, sorted by key.
    pub graphs: Vec<AssignedGraph>,
}

/// One graph that a node should run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignedGraph {
    /// Its full name.
    pub key: GraphKey,
    /// Its identity.
    pub uid: Uid,
    /// The revision people know.
    pub revision: RevisionNumber,
    /// Grows with each revision and each change of the policies on it.
    pub generation: Generation,
    /// What to run.
    pub linked: LinkedGraph,
}
