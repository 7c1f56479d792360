//! Desired: all that one node should run, as one value with a generation.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::graph::Artifact;
use crate::id::{ClusterId, Generation, GraphKey, RevisionNumber, Uid};
use crate::linked::LinkedGraph;
use crate::name::NodeName;
use crate::node::Labels;
use crate::placement::Placement;

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
    /// The other nodes that have a part in one of the graphs.
    pub peers: BTreeMap<NodeName, Peer>,
    /// The identities that nobody must believe in any more.
    #[serde(default)]
    pub revoked: BTreeSet<Uid>,
    /// The labels that an operator has given the node; they count before its own.
    #[serde(default)]
    pub labels: Labels,
}

/// Another node, as links need it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Where its agent's API listens, `host:port`.
    pub address: String,
    /// Its identity.
    pub uid: Uid,
    /// Where it is: its label `zone`, nothing if it has none.
    #[serde(default)]
    pub zone: String,
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
    /// The whole graph.
    pub linked: LinkedGraph,
    /// Which part of it runs where.
    pub placement: Placement,
    /// The nodes of it on which it fails: others are asked before them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub failing: BTreeSet<NodeName>,
}

impl Assignment {
    /// A graph, if the node should run it.
    pub fn graph(&self, key: &GraphKey) -> Option<&AssignedGraph> {
        let at = self.graphs.binary_search_by(|graph| graph.key.cmp(key)).ok()?;
        self.graphs.get(at)
    }
}

impl AssignedGraph {
    /// Whether what of it is on `node` stops serving there once the node is cut off.
    pub fn stops_in_isolation(&self, node: &NodeName) -> bool {
        self.linked.stops_in_isolation(|member| self.placement.runs_on(member, node))
    }

    /// Every artifact that `node` needs for its part.
    pub fn artifacts_on<'a>(&'a self, node: &'a NodeName) -> impl Iterator<Item = Artifact> {
        self.linked.artifacts_of(move |member| self.placement.runs_on(member, node))
    }
}
