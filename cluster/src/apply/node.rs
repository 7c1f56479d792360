//! Nodes: registration, liveness, reports.

use std::collections::BTreeSet;

use model::id::{Generation, GraphKey};
use model::name::{ComponentName, NodeName};
use model::node::{Admission, KNOWS_CANDIDATES, LABELS_MAX, Labels, NodeDescription, NodeState, TAINTS_MAX};
use model::report::{GraphReport, Progress, Report};

use super::{graph, moves};
use crate::command::{LabelNode, TaintNode};
use crate::feature::{MOVES, REPLICAS, ROLLOUTS};
use crate::outcome::{Outcome, Refusal};
use crate::schedule::{self, MOVES_RESUME_MS};
use crate::state::{GraphRecord, NODES_MAX, NodeRecord, State};

pub(super) fn subject(name: &NodeName) -> String {
    format!("node/{name}")
}

pub(super) fn register(state: &mut State, description: &NodeDescription) -> Result<Outcome, Refusal> {
    let name = &description.name;
    if state.revoked.contains_key(&description.uid) {
        return Err(Refusal::NodeRevoked { name: name.to_string() });
    }
    let identity = state.enrolled.get(name).map(|record| &record.uid);
    if let Some(known) = identity.filter(|known| **known != description.uid) {
        return Err(Refusal::NodeIdentity { name: name.to_string(), known: known.to_string() });
    }
    let known = state.nodes.get(name);
    if let Some(record) = known {
        if record.description.uid != description.uid {
            return Err(Refusal::NodeIdentity {
                name: name.to_string(),
                known: record.description.uid.to_string(),
            });
        }
        if record.description == *description && record.state == NodeState::Ready {
            return Ok(state.done());
        }
    } else if state.nodes.len() >= NODES_MAX {
        return Err(Refusal::Exhausted { what: "nodes".to_owned(), bound: NODES_MAX as u64 });
    }
    let known = known.cloned();
    let zone_before = known.as_ref().map(|record| schedule::zone_of(record).to_owned());
    let moved = known.as_ref().is_some_and(|record| record.description.api_address != description.api_address);
    let at = state.advance();
    let now_ms = state.now_ms;
    let record = match known {
        Some(record) => NodeRecord {
            description: description.clone(),
            state: NodeState::Ready,
            changed_at_ms: now_ms,
            stays_until_ms: None,
            ..record
        },
        None => NodeRecord {
            description: description.clone(),
            state: NodeState::Ready,
            joined_at_ms: now_ms,
            changed_at_ms: now_ms,
            accepted: Generation::default(),
            assigned_at: at.into(),
            admission: Admission::Open,
            labels: Labels::new(),
            taints: Labels::new(),
            stays_until_ms: None,
        },
    };
    let is_of_another_level =
        state.nodes.get(name).is_some_and(|node| node.description.level != record.description.level);
    let is_elsewhere = zone_before.is_some_and(|before| before != schedule::zone_of(&record));
    state.nodes.insert(name.clone(), record);
    if moved || is_elsewhere && state.level() >= REPLICAS {
        tell_peers(state, name);
    }
    if is_of_another_level && state.level() >= ROLLOUTS {
        // It may be told more than before, or less.
        state.touch_node(name);
        if description.level < KNOWS_CANDIDATES {
            forget_candidates(state, name);
        }
    }
    state.event(subject(name), "ready", format!("agent {} connected", description.version));
    Ok(state.done())
}

/// Nothing of candidates answers any more where the agent does not know what they are.
fn forget_candidates(state: &mut State, name: &NodeName) {
    let there =
        state.graphs.iter().filter(|(key, record)| key.is_candidate && record.observed.contains_key(name));
    let there: Vec<GraphKey> = there.map(|(key, _)| key.clone()).collect();
    for key in &there {
        let Some(record) = state.graphs.get_mut(key) else { continue };
        let nodes = record.nodes();
        if record.observed.remove(name).is_some_and(|seen| seen.failing.is_some()) {
            moves::touch(state, &nodes);
        }
    }
}

/// The agents that have links with a node must learn where it listens now, and who it is.
pub(super) fn tell_peers(state: &mut State, name: &NodeName) {
    let shared = state.graphs.values().map(GraphRecord::nodes).filter(|nodes| nodes.contains(name));
    let peers: BTreeSet<NodeName> = shared.flatten().collect();
    for peer in peers.iter().filter(|peer| *peer != name) {
        state.touch_node(peer);
    }
}

pub(super) fn set_state(
    state: &mut State,
    name: &NodeName,
    to: NodeState,
    why: &str,
) -> Result<Outcome, Refusal> {
    let Some(record) = state.nodes.get(name) else {
        return Err(Refusal::NotFound { what: format!("node {name}") });
    };
    if record.state == to {
        return Ok(state.done());
    }
    let mut record = record.clone();
    state.advance();
    record.state = to;
    record.changed_at_ms = state.now_ms;
    state.nodes.insert(name.clone(), record);
    state.event(subject(name), &to.to_string(), why.to_owned());
    Ok(state.done())
}

/// All of these that were ready are down.
pub(super) fn lose(state: &mut State, lost: &[NodeName], why: &str) -> Outcome {
    let fresh: Vec<&NodeName> = lost.iter().filter(|node| state.is_ready(node)).collect();
    if fresh.is_empty() {
        return state.done();
    }
    state.advance();
    for node in fresh {
        let now_ms = state.now_ms;
        let Some(record) = state.nodes.get_mut(node) else { continue };
        (record.state, record.changed_at_ms) = (NodeState::Down, now_ms);
        state.event(subject(node), &NodeState::Down.to_string(), why.to_owned());
    }
    // What is moved does not wait for those that are lost.
    let moved = state.graphs.iter().filter(|(_, record)| record.leaving.is_some());
    let moved: Vec<GraphKey> = moved.map(|(key, _)| key.clone()).collect();
    for key in &moved {
        moves::settle(state, key);
    }
    state.done()
}

/// The zones off which nothing is moved now.
pub(super) fn zones_cut_off(state: &State) -> BTreeSet<String> {
    if state.level() < MOVES {
        return BTreeSet::new();
    }
    schedule::cut_off(state).into_keys().map(str::to_owned).collect()
}

/// Tells of the zones that were cut off since `before`, and of those that are no longer, whether because their nodes came
/// back or because they were taken out.
pub(super) fn note_cut_off(state: &mut State, before: &BTreeSet<String>, came_back: bool) {
    let now = zones_cut_off(state);
    let shown = |zone: &String| {
        if zone.is_empty() { "nodes without a zone".to_owned() } else { format!("zone {zone}") }
    };
    for zone in now.difference(before) {
        let message = format!(
            "{}: more than half are down. They may be cut off and go on serving, so nothing is moved off them",
            shown(zone)
        );
        state.event("cluster".to_owned(), "moves_stopped", message);
    }
    for zone in before.difference(&now) {
        let is_held = came_back && state.level() >= REPLICAS;
        let waits = if is_held { hold(state, zone) } else { String::new() };
        let message = format!("{}: half or more are ready{waits}", shown(zone));
        state.event("cluster".to_owned(), "moves_resumed", message);
    }
}

/// Nothing is moved for a while off those of a zone that are down: they may come back as the others did. Says so.
fn hold(state: &mut State, zone: &str) -> String {
    let until_ms = state.now_ms.saturating_add(MOVES_RESUME_MS);
    let is_down = |node: &NodeRecord| node.state == NodeState::Down && schedule::zone_of(node) == zone;
    let down: Vec<NodeName> =
        state.nodes.iter().filter(|(_, node)| is_down(node)).map(|(name, _)| name.clone()).collect();
    for name in &down {
        if let Some(node) = state.nodes.get_mut(name) {
            node.stays_until_ms = Some(until_ms);
        }
    }
    match down.len() {
        0 => String::new(),
        held => format!("; {held} are not, and are waited for {} s", MOVES_RESUME_MS / 1_000),
    }
}

pub(super) fn record_report(state: &mut State, report: &Report) -> Result<Outcome, Refusal> {
    let Some(node) = state.nodes.get(&report.node) else {
        return Err(Refusal::NotFound { what: format!("node {}", report.node) });
    };
    // Reports of one node may overtake each other at a reconnect.
    if report.accepted < node.accepted {
        return Err(Refusal::Stale { what: format!("the assignment of node {}", report.node) });
    }
    if report.accepted > node.assigned_at {
        let what = format!("assignment {} of node {}", report.accepted, report.node);
        return Err(Refusal::NotFound { what });
    }
    let accepted_moved = report.accepted > node.accepted;
    let news: Vec<GraphReport> =
        report.graphs.iter().filter(|seen| is_news(state, &report.node, seen)).cloned().collect();
    if !accepted_moved && news.is_empty() {
        return Ok(state.done());
    }
    state.advance();
    if let Some(node) = state.nodes.get_mut(&report.node) {
        node.accepted = report.accepted;
    }
    for seen in news {
        observe(state, &report.node, seen);
    }
    Ok(state.done())
}

fn is_news(state: &State, node: &NodeName, seen: &GraphReport) -> bool {
    state.graphs.get(&seen.key).is_some_and(|record| {
        record.uid == seen.uid
            && record.is_on(node)
            && record.observed.get(node) != Some(seen)
            && seen.desired <= record.generation
            && record.observed.get(node).is_none_or(|known| known.desired <= seen.desired)
    })
}

fn observe(state: &mut State, node: &NodeName, seen: GraphReport) {
    let key = seen.key.clone();
    let before = state.graphs.get(&key).and_then(|record| record.observed.get(node)).cloned();
    let judged = judged(before.as_ref(), &seen, node);
    let is_other = before.is_none_or(|before| GraphReport { failing: seen.failing.clone(), ..before } != seen);
    let event = match &seen.progress {
        Progress::Serving => Some(("serving", format!("generation {} answers on node {node}", seen.desired))),
        Progress::Failed(failure) => Some(("failed", format!("on node {node}: {failure}"))),
        Progress::Retrying(failure) => Some(("retrying", format!("on node {node}: {failure}"))),
        Progress::Fetching | Progress::Compiling | Progress::Starting => None,
    };
    let keeps_data = state.level() >= REPLICAS;
    if let Some(record) = state.graphs.get_mut(&key) {
        if keeps_data && seen.serving == Some(record.generation) {
            made(record, node);
        }
        record.observed.insert(node.clone(), seen);
    }
    if let Some((reason, message)) = event.filter(|_| is_other) {
        state.event(graph::subject(&key), reason, message);
    }
    if let Some((reason, message)) = judged {
        state.event(graph::subject(&key), reason, message);
        // Those who call it there are told to ask others before.
        let nodes = state.graphs.get(&key).map(GraphRecord::nodes).unwrap_or_default();
        moves::touch(state, &nodes);
    }
    moves::settle(state, &key);
}

/// What is to be told of the checks of what serves, if a report says something new of them.
fn judged(before: Option<&GraphReport>, seen: &GraphReport, node: &NodeName) -> Option<(&'static str, String)> {
    match (before.and_then(|before| before.failing.as_ref()), &seen.failing) {
        (None, Some(why)) => Some(("check_failing", format!("on node {node}: {why}"))),
        (Some(_), None) => Some(("check_passing", format!("on node {node}"))),
        (Some(_), Some(_)) | (None, None) => None,
    }
}

/// The capabilities that a revision has added since the graph was placed are made where it serves, and have their data there.
fn made(record: &mut GraphRecord, node: &NodeName) {
    let Some(placement) = &record.placement else { return };
    let is_new =
        |name: &&ComponentName| !record.data.contains_key(*name) && placement.first_node_of(name) == node;
    let new: Vec<ComponentName> = record.linked.capabilities.keys().filter(is_new).cloned().collect();
    record.data.extend(new.into_iter().map(|name| (name, node.clone())));
}

pub(super) fn admit(state: &mut State, name: &NodeName, admission: Admission) -> Result<Outcome, Refusal> {
    let Some(record) = state.nodes.get(name) else {
        return Err(Refusal::NotFound { what: format!("node {name}") });
    };
    if record.admission == admission {
        return Ok(state.done());
    }
    let mut record = record.clone();
    state.advance();
    record.admission = admission;
    state.nodes.insert(name.clone(), record);
    let (reason, message) = match admission {
        Admission::Open => ("uncordoned", "it gets work again"),
        Admission::Cordoned => ("cordoned", "it gets nothing new and keeps what it has"),
        Admission::Draining { .. } => ("draining", "it gets nothing new, and what it has is moved"),
    };
    state.event(subject(name), reason, message.to_owned());
    Ok(state.done())
}

pub(super) fn label(state: &mut State, label: &LabelNode) -> Result<Outcome, Refusal> {
    let name = &label.node;
    let Some(record) = state.nodes.get(name) else {
        return Err(Refusal::NotFound { what: format!("node {name}") });
    };
    let labels = changed(&record.labels, &label.set, &label.unset);
    if labels == record.labels {
        return Ok(state.done());
    }
    if labels.len() > LABELS_MAX {
        return Err(Refusal::Exhausted { what: format!("labels of node {name}"), bound: LABELS_MAX as u64 });
    }
    let mut record = record.clone();
    state.advance();
    let before = schedule::zone_of(&record).to_owned();
    record.labels = labels;
    let is_elsewhere = schedule::zone_of(&record) != before;
    state.nodes.insert(name.clone(), record);
    state.touch_node(name);
    if is_elsewhere && state.level() >= REPLICAS {
        tell_peers(state, name);
    }
    state.event(subject(name), "labelled", shown(&label.set, &label.unset));
    Ok(state.done())
}

/// Its agent is not told: what is there stays.
pub(super) fn taint(state: &mut State, taint: &TaintNode) -> Result<Outcome, Refusal> {
    let name = &taint.node;
    let Some(record) = state.nodes.get(name) else {
        return Err(Refusal::NotFound { what: format!("node {name}") });
    };
    let taints = changed(&record.taints, &taint.set, &taint.unset);
    if taints == record.taints {
        return Ok(state.done());
    }
    if taints.len() > TAINTS_MAX {
        return Err(Refusal::Exhausted { what: format!("taints of node {name}"), bound: TAINTS_MAX as u64 });
    }
    let record = NodeRecord { taints, ..record.clone() };
    state.advance();
    state.nodes.insert(name.clone(), record);
    state.event(subject(name), "tainted", shown(&taint.set, &taint.unset));
    Ok(state.done())
}

fn changed(labels: &Labels, set: &Labels, unset: &BTreeSet<String>) -> Labels {
    let kept = labels.iter().filter(|(name, _)| !unset.contains(*name));
    kept.chain(set).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// `zone=a, rack-`.
fn shown(set: &Labels, unset: &BTreeSet<String>) -> String {
    let set = set.iter().map(|(name, value)| format!("{name}={value}"));
    set.chain(unset.iter().map(|name| format!("{name}-"))).collect::<Vec<_>>().join(", ")
}
