//! Graphs: deploy, delete, relink, place.

use model::graph::Artifact;
use model::id::{Generation, GraphKey, RevisionNumber};
use model::linked::LinkedGraph;

use super::moves::touch;
use super::rollout;
use crate::command::{DeleteGraph, Deploy, DeployOrigin, Relink};
use crate::outcome::{Outcome, Refusal};
use crate::state::{GRAPHS_MAX, GraphRecord, RevisionRecord, State};

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
    if found.is_none() && state.graphs.len() >= GRAPHS_MAX && state.graph_count() >= GRAPHS_MAX {
        return Err(Refusal::Exhausted { what: "graphs".to_owned(), bound: GRAPHS_MAX as u64 });
    }
    admit(state, &deploy.key, &deploy.linked)?;
    if deploy.by_steps
        && deploy.origin == DeployOrigin::Deploy
        && let Some(generation) = rollout::same_candidate(state, deploy)
    {
        let (key, revision) = (deploy.key.clone(), number.unwrap_or_default());
        return Ok(Outcome::Deployed { key, revision, generation, unchanged: true });
    }
    if rollout::is_by_steps(state, deploy) {
        if found.is_some_and(|record| record.is_promoting() || record.open_policy().is_some()) {
            return Err(Refusal::Stale { what: format!("the rollout of graph {}", deploy.key) });
        }
        return Ok(rollout::begin(state, deploy));
    }
    if let Some(record) = found
        && deploy.origin == DeployOrigin::Deploy
        && record.open_rollout().is_none()
        && is_what_is_asked(record, deploy)
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

/// Whether a graph, or a candidate, is at its last revision what a deploy asks for.
pub(super) fn is_what_is_asked(record: &GraphRecord, deploy: &Deploy) -> bool {
    record.linked == deploy.linked
        && record.current().is_some_and(|r| r.manifest == deploy.manifest && r.spec == deploy.spec)
}

/// Whether a linked graph can be run in this state: its artifacts are stored, its routes are its own.
pub(super) fn admit(state: &State, key: &GraphKey, linked: &LinkedGraph) -> Result<(), Refusal> {
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
    let known = state.graphs.get(&deploy.key).cloned();
    let ran_before = known.as_ref().map(GraphRecord::running);
    let mut record =
        known.unwrap_or_else(|| GraphRecord::new(deploy.uid.clone(), now_ms, deploy.linked.clone()));
    let running = record.number();
    record.ran_before = ran_before;
    let number = push_revision(&mut record, deploy, now_ms, running).number;
    record.rollout = rollout::ended(&record);
    record.reverted = None;
    // A revision that links to the same graph needs nothing from the node.
    if record.linked != deploy.linked || record.generation == Generation::default() {
        record.generation = at.into();
        record.linked = deploy.linked.clone();
    }
    let generation = record.generation;
    let nodes = record.nodes();
    state.graphs.insert(deploy.key.clone(), record);
    touch(state, &nodes);
    state.event(subject(&deploy.key), "deployed", committed(number, &deploy.origin));
    Outcome::Deployed { key: deploy.key.clone(), revision: number, generation, unchanged: false }
}

pub(super) fn committed(number: RevisionNumber, origin: &DeployOrigin) -> String {
    match origin {
        DeployOrigin::Deploy => format!("revision {number} committed"),
        DeployOrigin::Rollback { to } => format!("revision {number} committed, equal to revision {to}"),
    }
}

/// Gives a graph the revision that a deploy makes.
pub(super) fn push_revision(
    record: &mut GraphRecord,
    deploy: &Deploy,
    now_ms: u64,
    running: RevisionNumber,
) -> RevisionRecord {
    let revision = RevisionRecord {
        number: RevisionNumber(record.number().0 + 1),
        deployed_at_ms: now_ms,
        origin: deploy.origin.clone(),
        manifest: deploy.manifest.clone(),
        spec: deploy.spec.clone(),
    };
    record.revisions.push_back(revision.clone());
    record.trim(running);
    revision
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
    let nodes = record.nodes();
    let at = state.advance();
    state.graphs_at = at;
    state.graphs.remove(&delete.key);
    rollout::drop_candidate(state, &delete.key);
    touch(state, &nodes);
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
        .filter(|record| record.uid == relink.uid && record.running() == relink.revision);
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
    let nodes = record.nodes();
    state.graphs.insert(relink.key.clone(), record);
    touch(state, &nodes);
    let message = if names.is_empty() {
        "no policy stands on its links".to_owned()
    } else {
        format!("policies on its links: {}", names.join(", "))
    };
    state.event(subject(&relink.key), "relinked", message);
    Ok(state.done())
}
