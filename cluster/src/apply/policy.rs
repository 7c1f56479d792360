//! Policies: put and delete. The graphs they stand on are linked again by commands of their own.

use model::id::{Generation, StateRevision};
use model::name::PolicyName;
use model::policy::Action;

use super::graph;
use crate::command::{DeletePolicy, PutPolicy};
use crate::outcome::{Outcome, Refusal};
use crate::state::{HISTORY_MAX, POLICIES_MAX, PolicyRecord, PolicyVersionRecord, State};

fn subject(name: &PolicyName) -> String {
    format!("policy/{name}")
}

fn unchanged_since(state: &State, graphs: StateRevision, policies: StateRevision) -> Result<(), Refusal> {
    if state.graphs_at != graphs {
        return Err(Refusal::Stale { what: "a graph".to_owned() });
    }
    if state.policies_at != policies {
        return Err(Refusal::Stale { what: "the policies".to_owned() });
    }
    Ok(())
}

pub(super) fn put(state: &mut State, put: &PutPolicy) -> Result<Outcome, Refusal> {
    unchanged_since(state, put.graphs_at, put.policies_at)?;
    let name = put.spec.name.clone();
    let known = state.policies.get(&name);
    let current = known.and_then(PolicyRecord::current);
    if let Some(current) = current.filter(|c| c.spec == put.spec && c.manifest == put.manifest) {
        let generation = current.generation;
        return Ok(Outcome::PolicyPut { name, generation, unchanged: true });
    }
    if known.is_none() && state.policies.len() >= POLICIES_MAX {
        return Err(Refusal::Exhausted { what: "policies".to_owned(), bound: POLICIES_MAX as u64 });
    }
    if let Action::Interpose(components) = &put.spec.action {
        graph::stored(state, components.iter().map(|component| component.artifact))?;
    }
    let mut record = known.cloned().unwrap_or_else(|| PolicyRecord { versions: imbl::Vector::new() });
    let at = state.advance();
    state.policies_at = at;
    let generation = Generation::from(at);
    record.versions.push_back(PolicyVersionRecord {
        generation,
        applied_at_ms: state.now_ms,
        manifest: put.manifest.clone(),
        spec: put.spec.clone(),
    });
    while record.versions.len() > HISTORY_MAX {
        record.versions.pop_front();
    }
    state.policies.insert(name.clone(), record);
    let message = format!("version {generation}, mode {}", put.spec.mode);
    state.event(subject(&name), "applied", message);
    Ok(Outcome::PolicyPut { name, generation, unchanged: false })
}

pub(super) fn delete(state: &mut State, delete: &DeletePolicy) -> Result<Outcome, Refusal> {
    if !state.policies.contains_key(&delete.name) {
        return Err(Refusal::NotFound { what: format!("policy {}", delete.name) });
    }
    unchanged_since(state, delete.graphs_at, delete.policies_at)?;
    let at = state.advance();
    state.policies_at = at;
    state.policies.remove(&delete.name);
    state.event(subject(&delete.name), "deleted", "its links are made without it".to_owned());
    Ok(Outcome::PolicyDeleted)
}
