//! Where requests of the ingress go: every route of a cluster, and the nodes that answer it.

use std::collections::BTreeMap;

use crate::assignment::Peer;
use crate::id::{ClusterId, GraphKey, StateRevision};
use crate::name::NodeName;
use crate::route::HttpRoute;

/// The full picture, the same for all nodes; a later one replaces it whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteMap {
    /// The cluster whose routes these are.
    pub cluster: ClusterId,
    /// The state in which they were read; it holds in later states as well, until another one comes.
    pub at: StateRevision,
    /// Every route of a graph that is placed.
    pub routes: Vec<PlacedRoute>,
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

impl RouteMap {
    /// Whether it says the same as another, whenever both were read.
    pub fn is_like(&self, other: &Self) -> bool {
        self.cluster == other.cluster && self.routes == other.routes && self.nodes == other.nodes
    }
}
