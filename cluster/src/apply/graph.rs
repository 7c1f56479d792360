//! Graphs: deploy, delete, relink, place.

use model::graph::Artifact;
use model::id::{Generation, GraphKey};
use model::linked::LinkedGraph;
use model::name::NodeName;
use model::node::NodeState;
use model::placement::Placement;

use crate::command::{DeleteGraph, Deploy, DeployOrigin, Place, Relink};
use crate::outcome::{Outcome, Refusal};
use crate::state::{GRAPHS_MAX, GraphRecord, HISTORY_MAX, RevisionRecord, State};

pub(super) fn subject(key: &GraphKey) -> String {
    format!("graph/{key}")
}

pub(super) fn deploy(state: &mut State, deploy: &Deploy) -> Result<Outcome, Refusal> {
    if deploy.policies_at != state.policies_at {
        return Err(Refusal::Stale { what: "the policies".to_owned() });
    }
    let found = state.graphs.get(&deploy.key);
    let number = found.map(GraphRecord::number);
    if number != deploy.base {
        return Err(Refusal::RevisionConflict {
            key: deploy.key.clone(),
            expected: deploy.base,
            found: number,
        });
    }
    if found.is_none() && state.graphs.len() >= GRAPHS_MAX {
        return Err(Refusal::Exhausted { what: "graphs".to_owned(), bound: GRAPHS_MAX as u64 });
    }
    admit(state, &deploy.key, &deploy.linked)?;
    if let Some(record) = found
        && deploy.origin == DeployOrigin::Deploy
        && record.linked == deploy.linked
        && record.current().is_some_and(|r| r.manifest == deploy.manifest && r.spec == deploy.spec)
    {
        return Ok(Outcome::Deployed {
            key: deploy.key.clone(),
            revision: record.number(),
            generation: record.generation,
            unchanged: true,
        });
    }
    Ok(commit_revision(state, deploy))
}

/// Whether a linked graph can be run in this state: its artifacts are stored, its routes are its own.
fn admit(state: &State, key: &GraphKey, linked: &LinkedGraph) -> Result<(), Refusal> {
    stored(state, linked.artifacts())?;
    for route in &linked.ingress {
        if let Some(by) = state.route_owner(route, key) {
            return Err(Refusal::RouteTaken { route: route.origin(), by: by.clone() });
        }
    }
    Ok(())
}

/// Whether the bytes of all these are stored.
pub(super) fn stored(state: &State, mut artifacts: impl Iterator<Item = Artifact>) -> Result<(), Refusal> {
    match artifacts.find(|artifact| !state.artifacts.contains_key(&artifact.digest)) {
        Some(artifact) => Err(Refusal::NotFound { what: format!("artifact {}", artifact.digest) }),
        None => Ok(()),
    }
}

fn commit_revision(state: &mut State, deploy: &Deploy) -> Outcome {
    let at = state.advance();
    state.graphs_at = at;
    let now_ms = state.now_ms;
    let mut record = state.graphs.get(&deploy.key).cloned().unwrap_or_else(|| GraphRecord {
        uid: deploy.uid.clone(),
        created_at_ms: now_ms,
        revisions: imbl::Vector::new(),
        generation: Generation::default(),
        linked: deploy.linked.clone(),
        placement: None,
        data: imbl::OrdMap::new(),
        observed: imbl::OrdMap::new(),
    });
    let mut number = record.number();
    number.0 += 1;
    record.revisions.push_back(RevisionRecord {
        number,
        deployed_at_ms: now_ms,
        origin: deploy.origin.clone(),
        manifest: deploy.manifest.clone(),
        spec: deploy.spec.clone(),
    });
    while record.revisions.len() > HISTORY_MAX {
        record.revisions.pop_front();
    }
    // A revision that links to the same graph needs nothing from the node.
    if record.linked != deploy.linked || record.generation == Generation::default() {
        record.generation = at.into();
        record.linked = deploy.linked.clone();
    }
    let generation = record.generation;
    let placement = record.placement.clone();
    state.graphs.insert(deploy.key.clone(), record);
    touch(state, placement.as_ref());
    let message = match deploy.origin {
        DeployOrigin::Deploy => format!("revision {number} committed"),
        DeployOrigin::Rollback { to } => format!("revision {number} committed, equal to revision {to}"),
    };
    state.event(subject(&deploy.key), "deployed", message);
    Outcome::Deployed { key: deploy.key.clone(), revision: number, generation, unchanged: false }
}

pub(super) fn delete(state: &mut State, delete: &DeleteGraph) -> Result<Outcome, Refusal> {
    let Some(record) = state.graphs.get(&delete.key) else {
        return Err(Refusal::NotFound { what: format!("graph {}", delete.key) });
    };
    if delete.expected.is_some_and(|expected| expected != record.number()) {
        return Err(Refusal::RevisionConflict {
            key: delete.key.clone(),
            expected: delete.expected,
            found: Some(record.number()),
        });
    }
    let placement = record.placement.clone();
    let at = state.advance();
    state.graphs_at = at;
    state.graphs.remove(&delete.key);
    touch(state, placement.as_ref());
    state.event(subject(&delete.key), "deleted", "the data of its capabilities is kept".to_owned());
    Ok(Outcome::GraphDeleted)
}

pub(super) fn relink(state: &mut State, relink: &Relink) -> Result<Outcome, Refusal> {
    if relink.policies_at != state.policies_at {
        return Err(Refusal::Stale { what: "the policies".to_owned() });
    }
    let current = state
        .graphs
        .get(&relink.key)
        .filter(|record| record.uid == relink.uid && record.number() == relink.revision);
    let Some(record) = current else {
        return Err(Refusal::Stale { what: format!("graph {}", relink.key) });
    };
    if record.linked == relink.linked {
        return Ok(state.done());
    }
    admit(state, &relink.key, &relink.linked)?;
    let mut record = record.clone();
    let at = state.advance();
    record.generation = at.into();
    record.linked = relink.linked.clone();
    let names: Vec<String> = record.linked.policies.iter().map(|p| p.name.to_string()).collect();
    let placement = record.placement.clone();
    state.graphs.insert(relink.key.clone(), record);
    touch(state, placement.as_ref());
    let message = if names.is_empty() {
        "no policy stands on its links".to_owned()
    } else {
        format!("policies on its links: {}", names.join(", "))
    };
    state.event(subject(&relink.key), "relinked", message);
    Ok(state.done())
}

/// Applies the parts whose preconditions hold; the next pass of the scheduler plans the others again.
pub(super) fn place(state: &mut State, places: &[Place]) -> Result<Outcome, Refusal> {
    let fresh: Vec<&Place> = places.iter().filter(|place| is_fresh(state, place)).collect();
    if fresh.is_empty() {
        return Err(Refusal::Stale { what: "every graph or node of the placement".to_owned() });
    }
    state.advance();
    let at = state.revision;
    for place in fresh {
        let Some(record) = state.graphs.get_mut(&place.key) else { continue };
        let before = record.placement.replace(place.placement.clone());
        record.observed = imbl::OrdMap::new();
        // Where a capability was first placed, it was made.
        let kept = std::mem::take(&mut record.data);
        let node_of = |name| kept.get(name).unwrap_or_else(|| place.placement.node_of(name)).clone();
        record.data = record.linked.capabilities.keys().map(|name| (name.clone(), node_of(name))).collect();
        if before.is_some() {
            // Other links are remote than before: the nodes link their parts again.
            record.generation = at.into();
        }
        touch(state, before.as_ref());
        touch(state, Some(&place.placement));
        let nodes: Vec<String> = place.placement.nodes().into_iter().map(ToString::to_string).collect();
        let on = if nodes.len() == 1 { "on node" } else { "on nodes" };
        state.event(subject(&place.key), "placed", format!("{on} {}", nodes.join(", ")));
    }
    Ok(state.done())
}

/// What the nodes of a placement should run has changed.
fn touch(state: &mut State, placement: Option<&Placement>) {
    for node in placement.into_iter().flat_map(Placement::nodes) {
        state.touch_node(node);
    }
}

fn is_fresh(state: &State, place: &Place) -> bool {
    let Some(record) = state.graphs.get(&place.key) else { return false };
    let is_new = record.uid == place.uid
        && record.generation == place.generation
        && record.placement.as_ref() != Some(&place.placement);
    // A node that has a part already keeps it while it is not heard of.
    let takes = |name: &NodeName| {
        record.is_on(name) || state.nodes.get(name).is_some_and(|node| node.state == NodeState::Ready)
    };
    is_new && place.placement.nodes().into_iter().all(takes)
}
