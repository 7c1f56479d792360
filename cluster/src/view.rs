//! What people and nodes are told, derived from the state.

use std::collections::BTreeSet;

use model::assignment::{AssignedGraph, Assignment, Peer};
use model::id::GraphKey;
use model::name::NodeName;
use model::node::NodeState;
use model::placement::Placement;
use model::report::Progress;
use model::routing::{PlacedRoute, RouteMap};
use model::status::{ComponentStatus, GraphState, GraphStatus};

use crate::schedule;
use crate::state::{GraphRecord, State};

/// All that `node` should run; `None` for a node that has not joined.
pub fn assignment(state: &State, node: &NodeName) -> Option<Assignment> {
    let record = state.nodes.get(node)?;
    let graphs: Vec<AssignedGraph> = state
        .graphs
        .iter()
        .filter_map(|(key, graph)| Some((key, graph, graph.placement.as_ref().filter(|p| p.is_on(node))?)))
        .map(|(key, graph, placement)| AssignedGraph {
            key: key.clone(),
            uid: graph.uid.clone(),
            revision: graph.number(),
            generation: graph.generation,
            linked: graph.linked.clone(),
            placement: placement.clone(),
        })
        .collect();
    let others = |graph: &AssignedGraph| -> Vec<NodeName> {
        graph.placement.nodes().into_iter().filter(|other| *other != node).cloned().collect()
    };
    Some(Assignment {
        peers: graphs.iter().flat_map(others).filter_map(|name| peer(state, name)).collect(),
        cluster: state.cluster.clone()?,
        node: node.clone(),
        generation: record.assigned_at,
        graphs,
        revoked: state.revoked.keys().cloned().collect(),
    })
}

/// How the others reach a node.
fn peer(state: &State, name: NodeName) -> Option<(NodeName, Peer)> {
    let description = &state.nodes.get(&name)?.description;
    let peer = Peer { address: description.api_address.clone(), uid: description.uid.clone() };
    Some((name, peer))
}

/// Which node answers which route; `None` for a cluster without an identity. One node answers a component's requests,
/// so a route of a graph that is being moved is that of its new node from the start.
pub fn route_map(state: &State) -> Option<RouteMap> {
    let placed = state.graphs.iter().filter_map(|(key, graph)| Some((key, graph, graph.placement.as_ref()?)));
    let routes: Vec<PlacedRoute> = placed
        .flat_map(|(key, graph, placement)| {
            graph.linked.ingress.iter().map(|route| PlacedRoute {
                graph: key.clone(),
                route: route.clone(),
                node: placement.node_of(&route.to).clone(),
            })
        })
        .collect();
    let answering: BTreeSet<NodeName> = routes.iter().map(|placed| placed.node.clone()).collect();
    Some(RouteMap {
        cluster: state.cluster.clone()?,
        at: state.revision,
        nodes: answering.into_iter().filter_map(|name| peer(state, name)).collect(),
        routes,
    })
}

/// Where one graph stands.
pub fn status(state: &State, key: &GraphKey) -> Option<GraphStatus> {
    let record = state.graphs.get(key)?;
    let components = record
        .linked
        .components
        .iter()
        .map(|(name, component)| ComponentStatus {
            name: name.clone(),
            origin: component.origin.clone(),
            artifact: component.artifact.digest.short(),
        })
        .collect();
    let first = record.linked.ingress.first().map(|route| &route.to);
    let node = record.placement.as_ref().map(|placement| match first {
        Some(root) => placement.node_of(root),
        None => &placement.home,
    });
    let node = node.and_then(|name| state.nodes.get(name));
    Some(GraphStatus {
        key: key.clone(),
        uid: record.uid.clone(),
        revision: record.number(),
        generation: record.generation,
        state_revision: state.revision,
        deployed_at_ms: record.current().map_or(0, |revision| revision.deployed_at_ms),
        state: graph_state(state, record),
        placement: record.placement.clone(),
        ingress_address: node.map(|node| node.description.ingress_address.clone()),
        ingress: record.linked.ingress.clone(),
        components,
    })
}

fn graph_state(state: &State, record: &GraphRecord) -> GraphState {
    let Some(placement) = &record.placement else {
        return GraphState::Pending { why: schedule::explain(state, record) };
    };
    // It is as far as the node that is furthest behind; a failure is certain, what is not heard of is not.
    let parts = placement.nodes().into_iter().map(|name| part_state(state, record, name, placement));
    parts.max_by_key(severity).unwrap_or(GraphState::Serving)
}

fn severity(state: &GraphState) -> u8 {
    match state {
        GraphState::Serving => 0,
        GraphState::Starting { .. } => 1,
        GraphState::Pending { .. } => 2,
        GraphState::Unknown { .. } => 3,
        GraphState::Failed { .. } => 4,
    }
}

/// How far one node is with its part.
fn part_state(state: &State, record: &GraphRecord, name: &NodeName, placement: &Placement) -> GraphState {
    let ready = state.nodes.get(name).is_some_and(|node| node.state == NodeState::Ready);
    if !ready {
        let why = format!("node {name} is not heard of; what it runs may still serve");
        return GraphState::Unknown { why };
    }
    let serving = record.observed.get(&placement.home).and_then(|seen| seen.serving);
    let phase = |word: String| match placement.nodes().len() {
        1 => word,
        _ => format!("node {name}: {word}"),
    };
    let Some(seen) = record.observed.get(name).filter(|seen| seen.desired == record.generation) else {
        return GraphState::Starting { phase: format!("waiting for node {name}"), serving };
    };
    match &seen.progress {
        Progress::Serving if seen.serving == Some(record.generation) => GraphState::Serving,
        Progress::Failed(failure) => GraphState::Failed { failure: failure.clone(), serving },
        Progress::Retrying(failure) => {
            GraphState::Starting { phase: phase(format!("retrying after {failure}")), serving }
        }
        other => GraphState::Starting { phase: phase(other.word().to_owned()), serving },
    }
}
