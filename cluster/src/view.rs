//! What people and nodes are told, derived from the state.

use model::assignment::{AssignedGraph, Assignment};
use model::id::{Generation, GraphKey};
use model::name::NodeName;
use model::node::NodeState;
use model::report::{GraphReport, Progress};
use model::status::{ComponentStatus, GraphState, GraphStatus};

use crate::schedule;
use crate::state::{GraphRecord, State};

/// All that `node` should run; `None` for a node that has not joined.
pub fn assignment(state: &State, node: &NodeName) -> Option<Assignment> {
    let record = state.nodes.get(node)?;
    let graphs = state
        .graphs
        .iter()
        .filter(|(_, graph)| graph.node.as_ref() == Some(node))
        .map(|(key, graph)| AssignedGraph {
            key: key.clone(),
            uid: graph.uid.clone(),
            revision: graph.number(),
            generation: graph.generation,
            linked: graph.linked.clone(),
        })
        .collect();
    Some(Assignment {
        cluster: state.cluster.clone()?,
        node: node.clone(),
        generation: record.assigned_at,
        graphs,
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
    let node = record.node.as_ref().and_then(|name| state.nodes.get(name));
    Some(GraphStatus {
        key: key.clone(),
        uid: record.uid.clone(),
        revision: record.number(),
        generation: record.generation,
        state_revision: state.revision,
        deployed_at_ms: record.current().map_or(0, |revision| revision.deployed_at_ms),
        state: graph_state(state, record),
        node: record.node.clone(),
        ingress_address: node.map(|node| node.description.ingress_address.clone()),
        ingress: record.linked.ingress.clone(),
        components,
    })
}

fn graph_state(state: &State, record: &GraphRecord) -> GraphState {
    let Some(name) = &record.node else {
        return GraphState::Pending { why: schedule::explain(state, record) };
    };
    let ready = state.nodes.get(name).is_some_and(|node| node.state == NodeState::Ready);
    if !ready {
        let why = format!("node {name} is not heard of; what it runs may still serve");
        return GraphState::Unknown { why };
    }
    match &record.observed {
        None => GraphState::Starting { phase: format!("waiting for node {name}"), serving: None },
        Some(seen) if seen.desired != record.generation => {
            GraphState::Starting { phase: format!("waiting for node {name}"), serving: seen.serving }
        }
        Some(seen) => observed_state(record.generation, seen),
    }
}

fn observed_state(wanted: Generation, seen: &GraphReport) -> GraphState {
    match &seen.progress {
        Progress::Serving if seen.serving == Some(wanted) => GraphState::Serving,
        Progress::Failed(failure) => GraphState::Failed { failure: failure.clone(), serving: seen.serving },
        Progress::Retrying(failure) => {
            GraphState::Starting { phase: format!("retrying after {failure}"), serving: seen.serving }
        }
        other => GraphState::Starting { phase: other.word().to_owned(), serving: seen.serving },
    }
}
