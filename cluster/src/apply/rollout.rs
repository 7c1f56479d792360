//! Revisions that take over by steps.
//!
//! The new revision runs as a graph of its own, its *candidate*, beside the one that it is to replace: everything that is
//! true of graphs is true of it, its policies, its placement and its moves. Promoted, the graph becomes what the candidate is, as
//! by a deploy; given up, it stays what it is. In both cases nobody is sent to the candidate any more, and once every
//! ingress knows, it is let go of.
//!
//! A version of a policy takes over by steps in the same way: each graph that it concerns has a candidate of the revision that
//! it runs, linked with that version. How far they are is one thing for all of them, and kept with the policy.

use model::id::{Generation, GraphKey};
use model::linked::LinkedGraph;
use model::name::PolicyName;
use model::policy::PolicyVersion;
use model::rollout::{Phase, Reverted, Step};

use super::graph::{admit, committed, is_what_is_asked, push_revision, subject};
use super::moves::touch;
use crate::command::{ChangeRollout, Deploy, DeployOrigin, OpenCandidate, RolloutChange};
use crate::feature::{POLICY_STEPS, ROLLOUTS};
use crate::outcome::{Outcome, Refusal};
use crate::scaling;
use crate::state::{GraphRecord, PolicyRollout, RevisionRecord, Rollout, State};

/// Whether a deploy takes over by steps: it says so, and there is something else to take over from.
pub(super) fn is_by_steps(state: &State, deploy: &Deploy) -> bool {
    let is_other = |record: &GraphRecord| record.linked != deploy.linked;
    deploy.by_steps
        && state.level() >= ROLLOUTS
        && deploy.spec.rollout.is_some()
        && state.graphs.get(&deploy.key).is_some_and(is_other)
}

/// The generation of the candidate that is what a deploy asks for, if there is one.
pub(super) fn same_candidate(state: &State, deploy: &Deploy) -> Option<Generation> {
    state.graphs.get(&deploy.key)?.open_rollout()?;
    let candidate = state.graphs.get(&deploy.key.candidate())?;
    is_what_is_asked(candidate, deploy).then_some(candidate.generation)
}

/// Begins to let a revision take over by steps, in place of one that does so already.
pub(super) fn begin(state: &mut State, deploy: &Deploy) -> Outcome {
    let (Some(mut record), Some(spec)) = (state.graphs.get(&deploy.key).cloned(), deploy.spec.rollout.clone())
    else {
        return state.done();
    };
    let at = state.advance();
    state.graphs_at = at;
    let now_ms = state.now_ms;
    let running = record.running();
    let revision = push_revision(&mut record, deploy, now_ms, running);
    let number = revision.number;
    let before = state.graphs.get(&deploy.key.candidate()).cloned();
    let candidate =
        before.unwrap_or_else(|| GraphRecord::new(deploy.uid.clone(), now_ms, deploy.linked.clone()));
    // One that there is goes on answering those who do not know yet that there is another one.
    let candidate = beside(candidate, &record, revision, &deploy.linked, at.into());
    let nodes = candidate.nodes();
    let message = format!(
        "revision {number} takes over by steps: {}; revision {running} answers the rest",
        spec.steps.iter().map(Step::to_string).collect::<Vec<_>>().join(", ")
    );
    record.reverted = None;
    record.rollout = Some(Box::new(Rollout {
        running,
        spec,
        started_ms: now_ms,
        phase: Phase::Starting,
        step: 0,
        paused: None,
        policy: None,
    }));
    state.graphs.insert(deploy.key.clone(), record);
    state.graphs.insert(deploy.key.candidate(), candidate);
    touch(state, &nodes);
    state.event(subject(&deploy.key), "deployed", committed(number, &deploy.origin));
    state.event(subject(&deploy.key), "rollout_started", message);
    Outcome::Deployed { key: deploy.key.clone(), revision: number, generation: at.into(), unchanged: false }
}

/// A candidate as it is to be beside its graph.
fn beside(
    candidate: GraphRecord,
    graph: &GraphRecord,
    revision: RevisionRecord,
    linked: &LinkedGraph,
    generation: Generation,
) -> GraphRecord {
    // What has its data somewhere has them there for both.
    let data = candidate.data.into_iter().chain(graph.data.clone());
    let data = data.filter(|(name, _)| linked.capabilities.contains_key(name)).collect();
    GraphRecord {
        revisions: [revision].into_iter().collect(),
        generation,
        // As many nodes as its graph has, whose requests it is to answer.
        scaled: scaling::carried(&graph.linked, &graph.scaled, linked),
        linked: linked.clone(),
        data,
        ..candidate
    }
}

/// What a rollout comes to when its graph is deployed anew at once: nobody is sent to its candidate any more. One that is
/// promoted answers on until its graph does.
pub(super) fn ended(record: &GraphRecord) -> Option<Box<Rollout>> {
    let rollout = record.rollout.as_ref()?;
    let phase = if record.is_promoting() { Phase::Promoting } else { Phase::Ending };
    Some(Box::new(Rollout { running: record.number(), phase, paused: None, ..(**rollout).clone() }))
}

/// Lets go of a candidate, if there is one.
pub(super) fn drop_candidate(state: &mut State, key: &GraphKey) {
    if let Some(candidate) = state.graphs.remove(&key.candidate()) {
        touch(state, &candidate.nodes());
    }
}

pub(super) fn change(state: &mut State, wanted: &ChangeRollout) -> Result<Outcome, Refusal> {
    let ChangeRollout { key, uid, revision, phase, step, is_paused, change } = wanted;
    let stale = || Refusal::Stale { what: format!("the rollout of graph {key}") };
    let record = state.graphs.get(key).filter(|record| record.uid == *uid && record.number() == *revision);
    let Some(mut record) = record.cloned() else { return Err(stale()) };
    let mut rollout = match record.rollout.take() {
        Some(rollout)
            if rollout.phase == *phase && rollout.step == *step && rollout.paused.is_some() == *is_paused =>
        {
            rollout
        }
        _ => return Err(stale()),
    };
    let at = state.revision.0 + 1;
    let now_ms = state.now_ms;
    let answering = Phase::Answering { since_ms: now_ms };
    let mut events: Vec<(&str, String)> = Vec::new();
    let steps = rollout.spec.steps.len();
    let is_of_policy = rollout.policy.is_some();
    match change {
        // A candidate that came later than the others goes where they are.
        RolloutChange::Begin if is_of_policy && rollout.phase == Phase::Starting => {
            let Some(of_all) = rollout.policy.as_ref().and_then(|version| rollout_of(state, version)) else {
                return Err(stale());
            };
            (rollout.phase, rollout.step, rollout.paused) = (of_all.phase, of_all.step, of_all.paused.clone());
        }
        _ if is_of_policy && rollout.is_open() => return Err(stale()),
        RolloutChange::Begin if rollout.phase == Phase::Starting => {
            rollout.phase = answering;
            events.push(("rollout_step", at_step(&rollout, &record, "it answers where it was placed")));
        }
        RolloutChange::Next { why } if rollout.is_open() && rollout.step + 1 < steps => {
            rollout.step += 1;
            rollout.paused = None;
            if rollout.phase != Phase::Starting {
                rollout.phase = answering;
            }
            events.push(("rollout_step", at_step(&rollout, &record, why)));
        }
        RolloutChange::Pause { why } if rollout.is_open() => {
            rollout.paused = Some(why.clone());
            events.push(("rollout_paused", format!("revision {revision} stays at its step: {why}")));
        }
        RolloutChange::Resume if rollout.is_open() && rollout.paused.is_some() => {
            rollout.paused = None;
            if rollout.phase == Phase::Starting {
                // It has its whole time again to come up.
                rollout.started_ms = now_ms;
            } else {
                rollout.phase = answering;
            }
            events.push(("rollout_resumed", format!("revision {revision} goes on")));
        }
        RolloutChange::Promote { why } if rollout.is_open() => {
            let Some(candidate) = state.graphs.get(&key.candidate()) else { return Err(stale()) };
            become_candidate(&mut record, candidate, Generation(at));
            record.trim(*revision);
            record.ran_before = Some(rollout.running);
            (rollout.running, rollout.phase, rollout.paused) = (*revision, Phase::Promoting, None);
            events.push(("promoted", format!("revision {revision} answers everything: {why}")));
        }
        RolloutChange::Revert { why } if rollout.is_open() => {
            let Some(stable) = record.revision(rollout.running).cloned() else { return Err(stale()) };
            let origin = DeployOrigin::Rollback { to: stable.number };
            let number = model::id::RevisionNumber(revision.0 + 1);
            let back = RevisionRecord { number, deployed_at_ms: now_ms, origin, ..stable.clone() };
            record.revisions.push_back(back);
            record.trim(number);
            record.reverted = Some(Reverted { revision: *revision, why: why.clone() });
            (rollout.running, rollout.phase, rollout.paused) = (number, Phase::Ending, None);
            let message = format!(
                "revision {revision} was given up: {why}. Revision {number} is equal to {}",
                stable.number
            );
            events.push(("reverted", message));
        }
        RolloutChange::End if rollout.phase == Phase::Promoting => rollout.phase = Phase::Ending,
        RolloutChange::Finish if rollout.phase == Phase::Ending => {}
        _ => return Err(stale()),
    }
    state.advance();
    if matches!(change, RolloutChange::Promote { .. }) {
        state.promoted_at = state.revision;
    }
    let is_over = *change == RolloutChange::Finish;
    let is_linked_anew = matches!(change, RolloutChange::Promote { .. } | RolloutChange::Revert { .. });
    if is_linked_anew {
        // A deploy that was linked against the state before is decided again.
        state.graphs_at = state.revision;
    }
    record.rollout = (!is_over).then_some(rollout);
    let nodes = record.nodes();
    state.graphs.insert(key.clone(), record);
    if is_linked_anew {
        touch(state, &nodes);
    }
    if is_over {
        drop_candidate(state, key);
        if state.level() >= POLICY_STEPS {
            // A policy that takes over by steps was waiting for that.
            state.graphs_at = state.revision;
        }
    }
    for (reason, message) in events {
        state.event(subject(key), reason, message);
    }
    Ok(state.done())
}

/// Links a graph with a version of a policy that takes over by steps, beside what it is.
pub(super) fn open_candidate(state: &mut State, open: &OpenCandidate) -> Result<Outcome, Refusal> {
    if open.policies_at != state.policies_at {
        return Err(Refusal::Stale { what: "the policies".to_owned() });
    }
    let stale = || Refusal::Stale { what: format!("graph {}", open.key) };
    let is_it = |record: &&GraphRecord| {
        record.uid == open.uid && record.running() == open.revision && record.rollout.is_none()
    };
    let record = state.graphs.get(&open.key).filter(is_it);
    let (Some(mut record), false) = (record.cloned(), open.key.is_candidate) else { return Err(stale()) };
    let Some(of_all) = rollout_of(state, &open.policy).cloned() else { return Err(stale()) };
    let Some(revision) = record.running_revision().cloned() else { return Err(stale()) };
    if record.linked == open.linked {
        return Ok(state.done());
    }
    admit(state, &open.key, &open.linked)?;
    let at = state.advance();
    let now_ms = state.now_ms;
    let candidate = GraphRecord::new(open.candidate.clone(), now_ms, open.linked.clone());
    let candidate = beside(candidate, &record, revision, &open.linked, at.into());
    record.rollout = Some(Box::new(Rollout {
        running: record.number(),
        spec: of_all.spec,
        started_ms: now_ms,
        phase: Phase::Starting,
        step: of_all.step,
        paused: of_all.paused,
        policy: Some(open.policy.clone()),
    }));
    state.graphs.insert(open.key.clone(), record);
    state.graphs.insert(open.key.candidate(), candidate);
    let PolicyVersion { name, generation } = &open.policy;
    let message = format!("linked with version {generation} of policy {name}, which takes over by steps");
    state.event(subject(&open.key), "policy_candidate", message);
    Ok(state.done())
}

/// How far a version of a policy is, if it still takes over by steps.
fn rollout_of<'a>(state: &'a State, version: &PolicyVersion) -> Option<&'a PolicyRollout> {
    let record = state.policies.get(&version.name)?;
    let is_it = record.taking_over().is_some_and(|taking_over| taking_over.generation == version.generation);
    record.rollout.as_deref().filter(|_| is_it)
}

/// The graphs that are asked with a version of this policy that takes over by steps.
fn asked_with(state: &State, name: &PolicyName) -> Vec<GraphKey> {
    let is_asked = |record: &GraphRecord| record.open_policy().is_some_and(|version| version.name == *name);
    state.graphs.iter().filter(|(_, record)| is_asked(record)).map(|(key, _)| key.clone()).collect()
}

/// The graphs are as far as their policy is. Those of which the candidate does not answer yet come later, but for when all
/// begin.
pub(super) fn follow(state: &mut State, name: &PolicyName, of_all: &PolicyRollout, begins: bool) {
    for key in asked_with(state, name) {
        let record = state.graphs.get_mut(&key);
        let Some(rollout) = record.and_then(|record| record.rollout.as_deref_mut()) else { continue };
        if begins || rollout.phase != Phase::Starting {
            rollout.phase = of_all.phase;
        }
        (rollout.step, rollout.paused) = (of_all.step, of_all.paused.clone());
    }
}

/// Nobody is sent to the candidates of this policy any more.
pub(super) fn end_candidates(state: &mut State, name: &PolicyName) {
    for key in asked_with(state, name) {
        let record = state.graphs.get_mut(&key);
        if let Some(rollout) = record.and_then(|record| record.rollout.as_deref_mut()) {
            (rollout.phase, rollout.paused) = (Phase::Ending, None);
        }
    }
}

/// The graphs become what their candidates are.
pub(super) fn promote_candidates(state: &mut State, name: &PolicyName) {
    let at = Generation::from(state.revision);
    for key in asked_with(state, name) {
        let Some(candidate) = state.graphs.get(&key.candidate()).cloned() else { continue };
        let Some(record) = state.graphs.get_mut(&key) else { continue };
        become_candidate(record, &candidate, at);
        if let Some(rollout) = record.rollout.as_deref_mut() {
            (rollout.phase, rollout.paused) = (Phase::Promoting, None);
        }
        let nodes = record.nodes();
        touch(state, &nodes);
    }
}

/// A graph is what its candidate is.
fn become_candidate(record: &mut GraphRecord, candidate: &GraphRecord, at: Generation) {
    record.link(candidate.linked.clone());
    record.generation = at;
    for (name, node) in &candidate.data {
        record.data.entry(name.clone()).or_insert_with(|| node.clone());
    }
}

fn at_step(rollout: &Rollout, record: &GraphRecord, why: &str) -> String {
    let step = rollout.spec.steps.get(rollout.step).map(Step::to_string).unwrap_or_default();
    let (revision, at, all) = (record.number(), rollout.step + 1, rollout.spec.steps.len());
    format!("revision {revision} answers {step}, step {at} of {all}: {why}")
}
