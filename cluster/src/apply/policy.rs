//! Policies: put, delete, and versions that take over by steps. The graphs they stand on are linked again by commands of
//! their own.

use model::id::{Generation, StateRevision};
use model::name::PolicyName;
use model::policy::Action;
use model::rollout::{Phase, Step};

use super::{graph, rollout};
use crate::command::{ChangePolicyRollout, DeletePolicy, PutPolicy, RolloutChange};
use crate::feature::POLICY_STEPS;
use crate::outcome::{Outcome, Refusal};
use crate::state::{POLICIES_MAX, PolicyRecord, PolicyRollout, PolicyVersionRecord, State};

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

/// The policy of which a version takes over by steps; there is at most one.
fn taking_over(state: &State) -> Option<&PolicyName> {
    state.policies.iter().find(|(_, record)| record.rollout.is_some()).map(|(name, _)| name)
}

/// The version that is what is asked for already.
fn same(record: &PolicyRecord, put: &PutPolicy, by_steps: bool) -> Option<Generation> {
    let is_same = |version: &&PolicyVersionRecord| version.spec == put.spec && version.manifest == put.manifest;
    let version = match record.taking_over() {
        Some(version) if by_steps => Some(version),
        // What somebody wants at once, while something else takes over, is not there yet.
        Some(_) => None,
        None => record.current(),
    };
    version.filter(is_same).map(|version| version.generation)
}

pub(super) fn put(state: &mut State, put: &PutPolicy) -> Result<Outcome, Refusal> {
    unchanged_since(state, put.graphs_at, put.policies_at)?;
    let name = put.spec.name.clone();
    let steps = put.spec.rollout.as_ref().filter(|_| put.by_steps && state.level() >= POLICY_STEPS);
    let known = state.policies.get(&name);
    if let Some(generation) = known.and_then(|record| same(record, put, steps.is_some())) {
        return Ok(Outcome::PolicyPut { name, generation, unchanged: true });
    }
    if let Some(other) = taking_over(state).filter(|other| steps.is_some() && **other != name) {
        return Err(Refusal::PolicyRolloutOpen { name: other.to_string() });
    }
    if known.is_none() && state.policies.len() >= POLICIES_MAX {
        return Err(Refusal::Exhausted { what: "policies".to_owned(), bound: POLICIES_MAX as u64 });
    }
    if let Action::Interpose(components) = &put.spec.action {
        graph::stored(state, components.iter().map(|component| component.artifact))?;
    }
    let fresh = PolicyRecord { versions: imbl::Vector::new(), rollout: None };
    let mut record = known.cloned().unwrap_or(fresh);
    let at = state.advance();
    state.policies_at = at;
    let generation = Generation::from(at);
    give_up(state, &mut record, &name, format!("version {generation} took its place"));
    record.versions.push_back(PolicyVersionRecord {
        generation,
        applied_at_ms: state.now_ms,
        manifest: put.manifest.clone(),
        spec: put.spec.clone(),
        given_up: None,
    });
    record.rollout = steps.map(|spec| {
        let (spec, started_ms) = (spec.clone(), state.now_ms);
        Box::new(PolicyRollout { spec, started_ms, phase: Phase::Starting, step: 0, paused: None })
    });
    record.trim();
    let message = match &record.rollout {
        None => None,
        Some(rollout) => {
            let steps = rollout.spec.steps.iter().map(Step::to_string).collect::<Vec<_>>().join(", ");
            let stable = record.current().map(|stable| format!("version {} is in force", stable.generation));
            let stable = stable.unwrap_or_else(|| "there is no such policy".to_owned());
            Some(format!("version {generation} takes over by steps: {steps}; {stable} for the rest"))
        }
    };
    state.policies.insert(name.clone(), record);
    state.event(subject(&name), "applied", format!("version {generation}, mode {}", put.spec.mode));
    if let Some(message) = message {
        state.event(subject(&name), "rollout_started", message);
    }
    Ok(Outcome::PolicyPut { name, generation, unchanged: false })
}

/// Lets a version that takes over by steps not do so: nobody is sent to its candidates any more.
fn give_up(state: &mut State, record: &mut PolicyRecord, name: &PolicyName, why: String) {
    if record.rollout.take().is_none() {
        return;
    }
    if let Some(version) = record.versions.back_mut() {
        version.given_up = Some(why);
    }
    rollout::end_candidates(state, name);
}

pub(super) fn delete(state: &mut State, delete: &DeletePolicy) -> Result<Outcome, Refusal> {
    if !state.policies.contains_key(&delete.name) {
        return Err(Refusal::NotFound { what: format!("policy {}", delete.name) });
    }
    unchanged_since(state, delete.graphs_at, delete.policies_at)?;
    let at = state.advance();
    state.policies_at = at;
    if let Some(record) = state.policies.remove(&delete.name)
        && record.rollout.is_some()
    {
        rollout::end_candidates(state, &delete.name);
    }
    state.event(subject(&delete.name), "deleted", "its links are made without it".to_owned());
    Ok(Outcome::PolicyDeleted)
}

pub(super) fn change_rollout(state: &mut State, wanted: &ChangePolicyRollout) -> Result<Outcome, Refusal> {
    let ChangePolicyRollout { name, generation, phase, step, is_paused, change } = wanted;
    let stale = || Refusal::Stale { what: format!("the rollout of policy {name}") };
    let Some(mut record) = state.policies.get(name).cloned() else { return Err(stale()) };
    let is_it = record.taking_over().is_some_and(|version| version.generation == *generation);
    let mut rollout = match record.rollout.take() {
        Some(rollout)
            if is_it
                && rollout.phase == *phase
                && rollout.step == *step
                && rollout.paused.is_some() == *is_paused =>
        {
            rollout
        }
        _ => return Err(stale()),
    };
    let answering = Phase::Answering { since_ms: state.now_ms };
    let steps = rollout.spec.steps.len();
    let (reason, message) = match change {
        RolloutChange::Begin if rollout.phase == Phase::Starting => {
            rollout.phase = answering;
            ("rollout_step", at_step(&rollout, *generation, "every graph that it concerns answers with it"))
        }
        RolloutChange::Next { why } if rollout.step + 1 < steps => {
            rollout.step += 1;
            rollout.paused = None;
            if rollout.phase != Phase::Starting {
                rollout.phase = answering;
            }
            ("rollout_step", at_step(&rollout, *generation, why))
        }
        RolloutChange::Pause { why } => {
            rollout.paused = Some(why.clone());
            ("rollout_paused", format!("version {generation} stays at its step: {why}"))
        }
        RolloutChange::Resume if rollout.paused.is_some() => {
            rollout.paused = None;
            if rollout.phase == Phase::Starting {
                // It has its whole time again to come up.
                rollout.started_ms = state.now_ms;
            } else {
                rollout.phase = answering;
            }
            ("rollout_resumed", format!("version {generation} goes on"))
        }
        RolloutChange::Promote { why } => {
            return Ok(promote(state, record, name, *generation, why));
        }
        RolloutChange::Revert { why } => {
            state.advance();
            record.rollout = Some(rollout);
            give_up(state, &mut record, name, why.clone());
            let stays = match record.current() {
                Some(stable) => format!("version {} stays in force", stable.generation),
                None => "no version of it is in force".to_owned(),
            };
            state.policies_at = state.revision;
            state.policies.insert(name.clone(), record);
            let message = format!("version {generation} was given up: {why}. {stays}");
            state.event(subject(name), "reverted", message);
            return Ok(state.done());
        }
        _ => return Err(stale()),
    };
    state.advance();
    rollout::follow(state, name, &rollout, *change == RolloutChange::Begin);
    record.rollout = Some(rollout);
    state.policies.insert(name.clone(), record);
    state.event(subject(name), reason, message);
    Ok(state.done())
}

/// The version is in force: the graphs become what their candidates are, and those that have none are linked again.
fn promote(
    state: &mut State,
    record: PolicyRecord,
    name: &PolicyName,
    generation: Generation,
    why: &str,
) -> Outcome {
    let at = state.advance();
    (state.policies_at, state.promoted_at) = (at, at);
    // A deploy that was linked against the state before is decided again.
    state.graphs_at = at;
    state.policies.insert(name.clone(), record);
    rollout::promote_candidates(state, name);
    state.event(subject(name), "promoted", format!("version {generation} is in force: {why}"));
    state.done()
}

fn at_step(rollout: &PolicyRollout, generation: Generation, why: &str) -> String {
    let step = rollout.spec.steps.get(rollout.step).map(Step::to_string).unwrap_or_default();
    let (at, all) = (rollout.step + 1, rollout.spec.steps.len());
    format!("version {generation} answers {step}, step {at} of {all}: {why}")
}
