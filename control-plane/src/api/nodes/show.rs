//! Nodes as people see them: what the state says of them, and what whoever leads has heard.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cluster::State;
use cluster::command::Place;
use cluster::state::{GraphRecord, NodeRecord};
use cluster::view::{self, Part};
use model::id::GraphKey;
use model::name::{ComponentName, NodeName};
use model::node::{Admission, NodeState};
use model::placement::Placement;
use model::status::GraphStatus;
use proto::weft::node::v1 as wire;
use proto::weft::node::v1::nodes_client::NodesClient;
use tokio::time::timeout;

use crate::api::Context;
use crate::leader::liveness::Signs;

/// How long the member that leads may take to say what it has heard: people wait for the rest, which is known here.
const HEARD_PATIENCE: Duration = Duration::from_millis(500);

/// What whoever leads knows of these nodes, or of all if none is named, and of a graph: what it counts is in its status. Nothing
/// where it does not say in time.
async fn ask_leader(
    context: &Context,
    names: &BTreeSet<NodeName>,
    graph: Option<&GraphKey>,
) -> (BTreeMap<NodeName, Signs>, Option<GraphStatus>) {
    let Some(channel) = context.raft.leader_channel() else { return Default::default() };
    let mut leader = NodesClient::new(channel);
    let request = wire::HeardRequest {
        nodes: names.iter().map(ToString::to_string).collect(),
        graph: graph.map(ToString::to_string).unwrap_or_default(),
    };
    match timeout(HEARD_PATIENCE, leader.heard(request)).await {
        Ok(Ok(answer)) => {
            let answer = answer.into_inner();
            let graph = answer.graph.map(GraphStatus::try_from).transpose().unwrap_or_else(|error| {
                tracing::debug!(%error, "what the member that leads counts cannot be read");
                None
            });
            (answer.nodes.into_iter().filter_map(read).collect(), graph)
        }
        Ok(Err(status)) => {
            tracing::debug!(%status, "the member that leads does not say what it has heard of nodes");
            Default::default()
        }
        Err(_) => Default::default(),
    }
}

/// What was heard of these nodes, or of all if none is named, where this member leads.
fn heard_here(
    context: &Context,
    state: &State,
    names: &BTreeSet<NodeName>,
) -> Option<BTreeMap<NodeName, Signs>> {
    let is_asked = |(name, _): &(&NodeName, &NodeRecord)| names.is_empty() || names.contains(*name);
    let signs = || context.liveness.signs(state.nodes.iter().filter(is_asked));
    context.raft.is_leader().then(signs)
}

/// What whoever leads has heard of these nodes, or of all if none is named; nothing where it does not say in time.
pub(in crate::api) async fn signs_of(
    context: &Context,
    state: &State,
    names: &BTreeSet<NodeName>,
) -> BTreeMap<NodeName, Signs> {
    match heard_here(context, state, names) {
        Some(signs) => signs,
        None => ask_leader(context, names, None).await.0,
    }
}

/// Adds to a status what whoever leads has counted of its graph, and returns those of these nodes that are suspect, with how
/// long ago each was heard of.
pub(in crate::api) async fn counts_and_suspects(
    context: &Context,
    state: &State,
    names: &BTreeSet<NodeName>,
    status: &mut GraphStatus,
) -> Vec<(NodeName, Option<Duration>)> {
    if names.is_empty() {
        return Vec::new();
    }
    let signs = match heard_here(context, state, names) {
        Some(signs) => {
            context.tell(state, status);
            signs
        }
        None => {
            let (signs, counted) =
                ask_leader(context, names, Some(&status.key).filter(|_| status.is_counted())).await;
            counted.into_iter().for_each(|counted| status.take_counts(counted));
            signs
        }
    };
    let suspects = signs.into_iter().filter(|(name, signs)| signs.is_suspect && state.is_ready(name));
    suspects.map(|(name, signs)| (name, signs.silent)).collect()
}

fn read(signs: wire::Signs) -> Option<(NodeName, Signs)> {
    let name = signs.name.parse().ok()?;
    let certificate_expires_ms = Some(signs.certificate_expires_ms).filter(|expires_ms| *expires_ms > 0);
    let silent = signs.silent_ms.map(Duration::from_millis);
    Some((name, Signs { silent, is_suspect: signs.is_suspect, certificate_expires_ms }))
}

/// What was heard of a node, for another member.
pub(super) fn signs((name, signs): (&NodeName, &Signs)) -> wire::Signs {
    wire::Signs {
        name: name.to_string(),
        silent_ms: signs.silent.map(milliseconds),
        is_suspect: signs.is_suspect,
        certificate_expires_ms: signs.certificate_expires_ms.unwrap_or_default(),
    }
}

/// A length of time on the wire.
fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Where a graph would go.
pub(super) fn moved(state: &State, place: &Place) -> wire::Move {
    let now = state.graphs.get(&place.key).and_then(|record| record.placement.as_ref());
    let before = now.map(Placement::nodes).unwrap_or_default();
    let after = place.placement.nodes();
    let names = |nodes: &BTreeSet<&NodeName>, others: &BTreeSet<&NodeName>| {
        nodes.difference(others).map(|node| node.as_str()).collect::<Vec<_>>().join(", ")
    };
    wire::Move { graph: place.key.to_string(), from: names(&before, &after), to: names(&after, &before) }
}

/// All of a node, with what is there of each graph.
pub(super) fn page(state: &State, name: &NodeName, record: &NodeRecord, signs: Option<&Signs>) -> wire::Node {
    let parts = view::parts(state, name).into_iter().map(part).collect();
    wire::Node { parts, ..row(state, name, record, signs) }
}

fn part(part: Part) -> wire::Part {
    let names = |names: Vec<ComponentName>| names.into_iter().map(String::from).collect();
    let (reserve, priority) = part.reserve;
    wire::Part {
        graph: part.key.to_string(),
        revision: part.revision.0,
        generation: part.generation.0,
        state: part.state.word().to_owned(),
        why: part.state.failure().map(ToString::to_string).unwrap_or_default(),
        members: names(part.members),
        data: names(part.data),
        reserved_instances: reserve.instances,
        reserved_memory_bytes: reserve.memory_bytes,
        priority: if reserve.is_none() { 0 } else { priority.get() },
    }
}

/// A node as one of a list.
pub(super) fn row(state: &State, name: &NodeName, record: &NodeRecord, signs: Option<&Signs>) -> wire::Node {
    let on_it: Vec<_> = state.graphs.iter().filter(|(_, graph)| graph.is_on(name)).collect();
    let leaving = |graph: &&GraphRecord| {
        graph.leaving.as_ref().is_some_and(|leaving| leaving.placement.is_on(name)) && !graph.is_on(name)
    };
    let leaving = state.graphs.iter().filter(|(_, graph)| leaving(graph));
    let (admission, drain_deadline_ms) = match record.admission {
        Admission::Open => (wire::Admission::Open, 0),
        Admission::Cordoned => (wire::Admission::Cordoned, 0),
        Admission::Draining { deadline_ms } => (wire::Admission::Draining, deadline_ms),
    };
    let is_left = record.state == NodeState::Down || admission == wire::Admission::Draining;
    let staying = on_it.iter().filter(|_| is_left).filter_map(|(key, graph)| {
        let why = cluster::schedule::stays(state, graph, name)?;
        Some(wire::Staying { graph: key.to_string(), why })
    });
    let is_suspect = record.state == NodeState::Ready && signs.is_some_and(|signs| signs.is_suspect);
    wire::Node {
        staying: staying.collect(),
        description: Some(record.description.clone().into()),
        state: record.state.to_string(),
        is_suspect,
        joined_at_ms: record.joined_at_ms,
        changed_at_ms: record.changed_at_ms,
        accepted_generation: record.accepted.0,
        assigned_generation: record.assigned_at.0,
        graphs: on_it.iter().map(|(key, _)| key.to_string()).collect(),
        admission: admission.into(),
        drain_deadline_ms,
        labels: record.description.labels.clone().into_iter().chain(record.labels.clone()).collect(),
        leaving: leaving.map(|(key, _)| key.to_string()).collect(),
        taints: record.taints.clone().into_iter().collect(),
        silent_ms: signs.and_then(|signs| signs.silent).map(milliseconds),
        certificate_expires_ms: signs.and_then(|signs| signs.certificate_expires_ms).unwrap_or_default(),
        enrolled_at_ms: state.enrolled.get(name).map(|enrolled| enrolled.enrolled_at_ms).unwrap_or_default(),
        given_labels: record.labels.clone().into_iter().collect(),
        parts: Vec::new(),
    }
}
