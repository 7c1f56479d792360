//! What people and nodes are told, derived from the state.

mod parts;

use std::collections::{BTreeMap, BTreeSet};

use model::assignment::{AssignedGraph, Assignment, Peer};
use model::id::{Generation, GraphKey};
use model::name::{ComponentName, NodeName};
use model::node::{KNOWS_CANDIDATES, NodeDescription};
use model::placement::Placement;
use model::policy::PolicyVersion;
use model::report::Progress;
use model::rollout::{CANDIDATES_SHOWN, CandidateStatus, PolicyRolloutStatus, RolloutStatus, Share};
use model::routing::{Candidate, PlacedRoute, RouteMap};
use model::scale::Scaling;
use model::status::{ComponentStatus, GraphState, GraphStatus, ScaleStatus};

use crate::rollout::is_well;
use crate::scaling;
use crate::schedule::{self, Reservations};
use crate::state::{GraphRecord, PolicyRecord, State};

pub use parts::{Part, PartState, parts};

/// All that `node` should run; `None` for a node that has not joined.
pub fn assignment(state: &State, node: &NodeName) -> Option<Assignment> {
    let record = state.nodes.get(node)?;
    // An agent that does not know what a candidate is could read none of it.
    let is_known = |key: &GraphKey| !key.is_candidate || record.description.level >= KNOWS_CANDIDATES;
    let graphs = state.graphs.iter().filter(|(key, _)| is_known(key));
    let graphs: Vec<AssignedGraph> = graphs.filter_map(|(key, graph)| assigned(key, graph, node)).collect();
    // What is moved goes on calling from where it was.
    let peers: BTreeSet<NodeName> = graphs
        .iter()
        .filter_map(|assigned| state.graphs.get(&assigned.key))
        .flat_map(GraphRecord::nodes)
        .filter(|other| other != node)
        .collect();
    Some(Assignment {
        peers: peers.into_iter().filter_map(|name| peer(state, name)).collect(),
        cluster: state.cluster.clone()?,
        node: node.clone(),
        generation: record.assigned_at,
        graphs,
        revoked: state.revoked.keys().cloned().collect(),
        labels: record.labels.clone(),
    })
}

/// What a node should run of a graph: what it is placed for, else what it goes on with until that answers.
fn assigned(key: &GraphKey, graph: &GraphRecord, node: &NodeName) -> Option<AssignedGraph> {
    let (revision, generation, linked, placement) = if graph.is_on(node) {
        (graph.running(), graph.generation, &graph.linked, graph.placement.as_ref()?)
    } else {
        let leaving = graph.leaving.as_ref().filter(|leaving| leaving.placement.is_on(node))?;
        (leaving.revision, leaving.generation, &leaving.linked, &leaving.placement)
    };
    Some(AssignedGraph {
        key: key.clone(),
        uid: graph.uid.clone(),
        revision,
        generation,
        linked: linked.clone(),
        placement: placement.clone(),
        failing: placement
            .nodes()
            .into_iter()
            .filter(|name| graph.failing_on(name).is_some())
            .cloned()
            .collect(),
    })
}

/// How the others reach a node.
fn peer(state: &State, name: NodeName) -> Option<(NodeName, Peer)> {
    let record = state.nodes.get(&name)?;
    let NodeDescription { api_address, uid, .. } = &record.description;
    let zone = schedule::zone_of(record).to_owned();
    let peer = Peer { address: api_address.clone(), uid: uid.clone(), zone };
    Some((name, peer))
}

/// Which nodes answer which route; `None` for a cluster without an identity. A graph that is moved answers where it was
/// until it answers where it is going.
pub fn route_map(state: &State) -> Option<RouteMap> {
    let graphs = state.graphs.iter().filter(|(key, _)| !key.is_candidate);
    let placed = graphs.filter_map(|(key, graph)| Some((key, graph, graph.placement.as_ref()?)));
    let routes: Vec<PlacedRoute> = placed
        .flat_map(|(key, graph, placement)| {
            graph.linked.ingress.iter().map(|route| PlacedRoute {
                graph: key.clone(),
                route: route.clone(),
                nodes: answering_nodes(state, graph, placement, &route.to).into_iter().cloned().collect(),
            })
        })
        .collect();
    let candidates: Vec<Candidate> =
        state.graphs.iter().filter_map(|(key, graph)| candidate(state, key, graph)).collect();
    let of_candidates = candidates.iter().flat_map(|candidate| &candidate.routes);
    let answering: BTreeSet<NodeName> =
        routes.iter().chain(of_candidates).flat_map(|placed| placed.nodes.clone()).collect();
    Some(RouteMap {
        cluster: state.cluster.clone()?,
        at: state.revision,
        nodes: answering.into_iter().filter_map(|name| peer(state, name)).collect(),
        routes,
        candidates,
    })
}

/// The candidate of a graph, and what it answers; none where it answers nothing.
fn candidate(state: &State, key: &GraphKey, graph: &GraphRecord) -> Option<Candidate> {
    let share = graph.rollout.as_ref()?.share();
    if share == Share::default() {
        return None;
    }
    let record = state.graphs.get(&key.candidate())?;
    let placement = record.placement.as_ref()?;
    let placed = record.linked.ingress.iter().filter_map(|route| {
        let nodes = serving_nodes(state, record, placement, &route.to);
        (!nodes.is_empty()).then(|| PlacedRoute {
            graph: key.candidate(),
            route: route.clone(),
            nodes: nodes.into_iter().cloned().collect(),
        })
    });
    let routes: Vec<PlacedRoute> = placed.collect();
    let generation = record.generation;
    let revision = record.number();
    (!routes.is_empty()).then(|| Candidate { graph: key.clone(), revision, generation, share, routes })
}

/// The nodes that answer the requests of a component: those where it is placed and serves, and those that a graph is moved
/// from, until it answers where it goes. Where there is none of these, those where it is placed and that are heard of, or
/// else all where it is placed.
fn answering_nodes<'a>(
    state: &State,
    graph: &'a GraphRecord,
    placement: &'a Placement,
    component: &'a ComponentName,
) -> BTreeSet<&'a NodeName> {
    let answering = serving_nodes(state, graph, placement, component);
    if !answering.is_empty() {
        return answering;
    }
    let placed = placement.nodes_of(component);
    let is_ready = |name: &&NodeName| state.is_ready(name);
    let ready: BTreeSet<&NodeName> = placed.clone().filter(is_ready).collect();
    if ready.is_empty() { placed.collect() } else { ready }
}

/// The nodes where a component is placed and serves, and those that its graph is moved from, until it answers where it goes.
/// Those where it passes its checks, if there are any: where all fail, the fault may be of what they all need, and nobody
/// would be left to answer what can be answered.
fn serving_nodes<'a>(
    state: &State,
    graph: &'a GraphRecord,
    placement: &'a Placement,
    component: &'a ComponentName,
) -> BTreeSet<&'a NodeName> {
    let serves = |name: &&NodeName| {
        let serving = graph.observed.get(*name).and_then(|seen| seen.serving);
        // What it serves of before it got its part is another part.
        serving.is_some_and(|serving| graph.gained.get(*name).is_none_or(|gained| serving >= *gained))
    };
    let leaving = graph.leaving.as_ref().filter(|leaving| leaving.answered_ms.is_none());
    let before = leaving.into_iter().flat_map(|leaving| leaving.placement.nodes_of(component));
    let placed = placement.nodes_of(component);
    let all: BTreeSet<&NodeName> =
        placed.filter(serves).chain(before).filter(|name| state.is_ready(name)).collect();
    let passes = |name: &&NodeName| graph.failing_on(name).is_none();
    if all.iter().any(passes) { all.into_iter().filter(passes).collect() } else { all }
}

/// The nodes that are heard of on which a graph serves and fails, and why.
fn failing(state: &State, graph: &GraphRecord) -> BTreeMap<NodeName, String> {
    let ready = graph.observed.keys().filter(|name| state.is_ready(name));
    ready.filter_map(|name| Some((name.clone(), graph.failing_on(name)?.to_owned()))).collect()
}

/// Where one graph stands.
pub fn status(state: &State, key: &GraphKey) -> Option<GraphStatus> {
    let is_reserving = state.graphs.get(key).is_some_and(|record| !record.linked.reserves.is_empty());
    let reservations = if is_reserving { Reservations::of(&state.graphs) } else { Reservations::default() };
    status_with(state, key, &reservations)
}

/// The same, among what is reserved in all.
pub fn status_with(state: &State, key: &GraphKey, reservations: &Reservations<'_>) -> Option<GraphStatus> {
    let record = state.graphs.get(key)?;
    let placed = |name: &ComponentName, is_counted: &dyn Fn(&&NodeName) -> bool| {
        let nodes = record.placement.iter().flat_map(|placement| placement.nodes_of(name));
        nodes.filter(is_counted).count()
    };
    let serves = |node: &&NodeName| {
        let seen = record.observed.get(*node);
        state.is_ready(node) && seen.is_some_and(|seen| seen.serving == Some(record.generation))
    };
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let components = record
        .linked
        .components
        .iter()
        .map(|(name, component)| ComponentStatus {
            name: name.clone(),
            origin: component.origin.clone(),
            artifact: component.artifact.digest.short(),
            nodes: count(placed(name, &|_| true)),
            serving: count(placed(name, &serves)),
        })
        .collect();
    let first = record.linked.ingress.first().map(|route| &route.to);
    let node = record.placement.as_ref().and_then(|placement| match first {
        Some(root) => answering_nodes(state, record, placement, root).into_iter().next(),
        None => Some(&placement.home),
    });
    let node = node.and_then(|name| state.nodes.get(name));
    Some(GraphStatus {
        key: key.clone(),
        uid: record.uid.clone(),
        revision: record.running(),
        generation: record.generation,
        state_revision: state.revision,
        deployed_at_ms: record.running_revision().map_or(0, |revision| revision.deployed_at_ms),
        state: graph_state(state, key, record),
        placement: record.placement.clone(),
        ingress_address: node.map(|node| node.description.ingress_address.clone()),
        ingress: record.linked.ingress.clone(),
        components,
        scales: scales(record),
        rollout: rollout_status(state, key, record),
        reverted: record.reverted.clone(),
        policy_rollout: policy_rollout_of(state, key, record),
        failing: failing(state, record),
        unkept: record
            .placement
            .as_ref()
            .map(|placement| reservations.unkept(state, key, &record.linked, placement))
            .unwrap_or_default(),
    })
}

/// How far a version of a policy is that takes over by steps, and the graphs that are asked with it.
pub fn policy_rollout(state: &State, record: &PolicyRecord) -> Option<PolicyRolloutStatus> {
    let (rollout, version) = (record.rollout.as_ref()?, record.taking_over()?);
    let version = PolicyVersion { name: version.spec.name.clone(), generation: version.generation };
    let asked = state.graphs.iter().filter(|(_, graph)| graph.open_policy() == Some(&version));
    let keys: Vec<&GraphKey> = asked.map(|(key, _)| key).collect();
    let (well, unwell): (Vec<&GraphKey>, Vec<&GraphKey>) =
        keys.iter().partition(|key| is_well(state, &key.candidate()));
    let shown = unwell.into_iter().chain(well).take(CANDIDATES_SHOWN);
    Some(PolicyRolloutStatus {
        version,
        stable: record.current().map(|stable| stable.generation),
        phase: rollout.phase,
        step: rollout.step,
        steps: rollout.spec.steps.clone(),
        paused: rollout.paused.clone(),
        candidates: shown.filter_map(|key| candidate_status(state, key)).collect(),
        count: keys.len(),
    })
}

fn candidate_status(state: &State, key: &GraphKey) -> Option<CandidateStatus> {
    let candidate = state.graphs.get(&key.candidate())?;
    let how = standing(state, &graph_state(state, &key.candidate(), candidate), candidate);
    Some(CandidateStatus { graph: key.clone(), how })
}

/// The same for one graph, until its candidate is let go of.
fn policy_rollout_of(state: &State, key: &GraphKey, record: &GraphRecord) -> Option<PolicyRolloutStatus> {
    let rollout = record.rollout.as_ref()?;
    let version = rollout.policy.clone()?;
    let of_all = state.policies.get(&version.name);
    let stable = of_all.and_then(|policy| policy.current()).map(|stable| stable.generation);
    Some(PolicyRolloutStatus {
        version,
        stable,
        phase: rollout.phase,
        step: rollout.step,
        steps: rollout.spec.steps.clone(),
        paused: rollout.paused.clone(),
        candidates: candidate_status(state, key).into_iter().collect(),
        count: 1,
    })
}

/// Its components that are scaled by their calls; how many of these there are, the state does not know.
fn scales(record: &GraphRecord) -> Vec<ScaleStatus> {
    let status = |(name, scaling): (&ComponentName, &Scaling)| ScaleStatus {
        name: name.clone(),
        replicas: scaling::replicas(&record.linked, &record.scaled, name),
        scaling: *scaling,
        calls: None,
    };
    record.linked.scaling.iter().map(status).collect()
}

fn rollout_status(state: &State, key: &GraphKey, record: &GraphRecord) -> Option<RolloutStatus> {
    let rollout = record.rollout.as_ref().filter(|rollout| rollout.policy.is_none())?;
    let candidate = state.graphs.get(&key.candidate())?;
    Some(RolloutStatus {
        revision: candidate.number(),
        generation: candidate.generation,
        stable: rollout.running,
        phase: rollout.phase,
        step: rollout.step,
        steps: rollout.spec.steps.clone(),
        paused: rollout.paused.clone(),
        candidate: standing(state, &graph_state(state, &key.candidate(), candidate), candidate),
        // The state does not know.
        traffic: None,
    })
}

/// How a graph is, in words.
pub(crate) fn standing(state: &State, how: &GraphState, record: &GraphRecord) -> String {
    let failing = failing(state, record);
    let failing = failing.iter().map(|(node, why)| format!("; failing on {node}: {why}"));
    format!("{}{}", sentence(how), failing.collect::<String>())
}

/// A state in words.
fn sentence(state: &GraphState) -> String {
    match state {
        GraphState::Pending { why } => format!("it is on no node: {}", why.join("; ")),
        GraphState::Starting { phase, .. } => format!("it comes up: {phase}"),
        GraphState::Serving => "it answers where it was placed".to_owned(),
        GraphState::Failed { failure, .. } => format!("it will not serve: {failure}"),
        GraphState::Unknown { why } => why.clone(),
    }
}

/// How a graph is.
pub(crate) fn graph_state(state: &State, key: &GraphKey, record: &GraphRecord) -> GraphState {
    let Some(placement) = &record.placement else {
        return GraphState::Pending { why: schedule::explain(state, key, record) };
    };
    // It is as far as the node that is furthest behind; a failure is certain, what is not heard of is not.
    let parts = placement.nodes().into_iter().map(|name| part_state(state, record, name, placement));
    let missing = schedule::missing(state, &record.linked, Some(record), placement)
        .map(|phase| GraphState::Starting { phase, serving: answering(record, placement) });
    parts.chain(missing).max_by_key(severity).unwrap_or(GraphState::Serving)
}

/// The generation that answers.
fn answering(record: &GraphRecord, placement: &Placement) -> Option<Generation> {
    let at_home = record.observed.get(&placement.home).and_then(|seen| seen.serving);
    let elsewhere = || record.observed.values().filter_map(|seen| seen.serving).max();
    at_home.or_else(elsewhere).or_else(|| record.leaving.as_ref().map(|leaving| leaving.generation))
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
    if !state.is_ready(name) {
        let is_ready_elsewhere = |member: &ComponentName| {
            let mut others = placement.nodes_of(member).filter(|other| *other != name);
            others.any(|other| state.is_ready(other))
        };
        let mut had = record.linked.members().filter(|member| placement.runs_on(member, name));
        let is_on_each = schedule::has_each_node_part_alone(&record.linked, placement, name);
        let is_elsewhere = had.all(is_ready_elsewhere);
        if is_on_each && is_elsewhere {
            // It has it again once it is back, and until then nothing is missing elsewhere.
            return GraphState::Serving;
        }
        if is_elsewhere {
            let phase = format!("node {name} is not heard of; what it has runs on others too");
            return GraphState::Starting { phase, serving: answering(record, placement) };
        }
        let stays = schedule::stays(state, record, name).map(|why| format!(". It is not moved: {why}"));
        let stays = stays.unwrap_or_default();
        let why = format!("node {name} is not heard of; what it runs may still serve{stays}");
        return GraphState::Unknown { why };
    }
    let serving = answering(record, placement);
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
