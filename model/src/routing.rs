//! Where requests of the ingress go: every route of a cluster, and the nodes that answer it.

use std::collections::BTreeMap;

use crate::assignment::Peer;
use crate::id::{ClusterId, Generation, GraphKey, RevisionNumber, StateRevision};
use crate::name::NodeName;
use crate::rollout::Share;
use crate::route::HttpRoute;

/// The full picture, the same for all nodes; a later one replaces it whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteMap {
    /// The cluster whose routes these are.
    pub cluster: ClusterId,
    /// The state in which they were read; it holds in later states as well, until another one comes.
    pub at: StateRevision,
    /// Every route of a graph that is placed; none of a candidate.
    pub routes: Vec<PlacedRoute>,
    /// The candidates that answer a share of their graphs' requests, sorted by graph.
    pub candidates: Vec<Candidate>,
    /// The nodes that answer them.
    pub nodes: BTreeMap<NodeName, Peer>,
}

/// One route, and who answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedRoute {
    /// The graph that it is of.
    pub graph: GraphKey,
    /// The route.
    pub route: HttpRoute,
    /// The nodes of the component behind it that answer, sorted; never none.
    pub nodes: Vec<NodeName>,
}

/// A candidate that answers a share of its graph's requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The graph that it is to replace.
    pub graph: GraphKey,
    /// Which revision it is: another candidate of the graph is not asked in its place.
    pub revision: RevisionNumber,
    /// Its generation.
    pub generation: Generation,
    /// What it answers of the requests that both can answer.
    pub share: Share,
    /// Its routes.
    pub routes: Vec<PlacedRoute>,
}

impl RouteMap {
    /// Whether it says the same as another, whenever both were read.
    pub fn is_like(&self, other: &Self) -> bool {
        self.cluster == other.cluster
            && self.routes == other.routes
            && self.candidates == other.candidates
            && self.nodes == other.nodes
    }
}
