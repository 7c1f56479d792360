//! From "applied" to "in force": follows a version of a policy that takes over by steps until it has done so, was given up,
//! waits for somebody, or the time is up.

use std::collections::BTreeSet;
use std::time::Duration;

use model::id::{Generation, GraphKey};
use model::rollout::{Phase, PolicyRolloutStatus, Step};
use proto::weft::policy::v1 as wire;
use tokio::time::Instant;

use super::show;
use super::versions::Versions;
use crate::client::{CallError, Client};
use crate::failure::Failure;
use crate::follow::{SERVING_PATIENCE, Steps, patience_of};
use crate::render::policy_rollout;
use crate::render::table::printable;
use crate::session::Session;

/// How often it is asked how far a version is. No step takes less than 3 s.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// The version that is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Goal {
    /// The policy.
    pub(super) name: String,
    /// The version.
    pub(super) generation: Generation,
    /// Somebody has promoted it: no step of it is an end.
    pub(super) is_promoted: bool,
}

impl Goal {
    /// `pii-firewall@12`
    fn subject(&self) -> String {
        format!("{}@{}", self.name, self.generation)
    }
}

/// How a wait ended well.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The version is in force; these graphs were asked with it before that.
    InForce(BTreeSet<GraphKey>),
    /// It answers the share of this step, and goes on once somebody promotes it.
    AtStep(Box<PolicyRolloutStatus>, Step),
}

/// Follows a version until it is decided what becomes of it.
pub(super) async fn until_decided(session: &mut Session<'_>, goal: &Goal) -> Result<End, Failure> {
    let start = Instant::now();
    let mut patience = session.deadline.unwrap_or(SERVING_PATIENCE);
    let mut steps = Steps::new(&session.terminal);
    let mut polls = Polls { name: goal.name.clone(), has_asked: false };
    let mut graphs = BTreeSet::new();
    let mut last = "the control plane does not answer".to_owned();
    let ended = loop {
        let next = tokio::select! {
            // Cancel-safe: asking changes nothing, and whoever cancels asks no more.
            next = polls.next(&session.client) => next,
            () = tokio::time::sleep_until(start + patience) => break Err(time_is_up(goal, &last, patience)),
            _ = tokio::signal::ctrl_c() => break Err(detached(goal)),
        };
        let seen = match next {
            Ok(seen) => seen,
            Err(error) if error.is_not_found() => break Err(deleted(goal)),
            Err(error) => break Err(error.into()),
        };
        if let Some(rollout) = seen.of(goal.generation) {
            graphs.extend(rollout.candidates.iter().map(|candidate| candidate.graph.clone()));
            if session.deadline.is_none() {
                patience = patience.max(patience_of(&rollout.steps));
            }
        }
        match judge(goal, &seen) {
            Verdict::InForce => break Ok(End::InForce(graphs)),
            Verdict::AtStep(rollout, step) => break Ok(End::AtStep(rollout, step)),
            Verdict::Stopped(failure) => break Err(failure),
            Verdict::Waiting(line) => {
                steps.step(&mut session.terminal, &line)?;
                last = line;
            }
        }
    };
    steps.finish();
    ended
}

/// A policy at one moment.
struct Seen {
    versions: Versions,
    given_up: Vec<wire::GivenUp>,
}

impl Seen {
    /// How far this version is, if it is the one that takes over.
    fn of(&self, version: Generation) -> Option<&PolicyRolloutStatus> {
        self.versions.rollout.as_ref().filter(|rollout| rollout.version.generation == version)
    }
}

/// A policy as it is asked for again and again.
struct Polls {
    name: String,
    has_asked: bool,
}

impl Polls {
    /// How it is: now for the first time, after an interval for those after it. Waits for a control plane that is away, so
    /// the caller brings the deadline; an error is final.
    async fn next(&mut self, client: &Client) -> Result<Seen, CallError> {
        loop {
            if std::mem::replace(&mut self.has_asked, true) {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
            match show::get(client, &self.name, 0).await {
                Ok(answer) => {
                    return Ok(Seen { versions: Versions::of_answer(&answer)?, given_up: answer.given_up });
                }
                Err(CallError::Unreachable { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

enum Verdict {
    InForce,
    AtStep(Box<PolicyRolloutStatus>, Step),
    Waiting(String),
    /// It comes to nothing, or not before somebody does something.
    Stopped(Failure),
}

fn judge(goal: &Goal, seen: &Seen) -> Verdict {
    if let Some(version) = seen.given_up.iter().find(|version| version.generation == goal.generation.0) {
        return Verdict::Stopped(given_up(&goal.subject(), &version.why, &goal.name, &seen.versions));
    }
    if let Some(rollout) = seen.of(goal.generation) {
        return judge_steps(goal, rollout);
    }
    let versions = &seen.versions;
    if versions.in_force == Some(goal.generation) {
        return Verdict::InForce;
    }
    let latest = versions.rollout.as_ref().map(|rollout| rollout.version.generation).max(versions.in_force);
    match latest.filter(|latest| *latest > goal.generation) {
        Some(latest) => Verdict::Stopped(replaced(goal, latest)),
        None => Verdict::Waiting("waiting for the change to be seen".to_owned()),
    }
}

fn judge_steps(goal: &Goal, rollout: &PolicyRolloutStatus) -> Verdict {
    let sentence = policy_rollout::sentence(rollout);
    if goal.is_promoted {
        return Verdict::Waiting(sentence);
    }
    if rollout.paused.is_some() {
        let next = policy_rollout::look(&goal.name);
        return Verdict::Stopped(Failure::StillRunning { message: sentence, next });
    }
    match (rollout.phase, rollout.steps.get(rollout.step)) {
        (Phase::Answering { .. }, Some(step)) if step.hold.is_none() => {
            Verdict::AtStep(Box::new(rollout.clone()), *step)
        }
        _ => Verdict::Waiting(sentence),
    }
}

/// What is said of a version that was given up while it was to take over.
pub(super) fn given_up(subject: &str, why: &str, name: &str, versions: &Versions) -> Failure {
    Failure::Refused {
        reason: Some("rollout_reverted".to_owned()),
        message: format!(
            "{subject} was given up for all graphs: {}; {}",
            printable(why),
            policy_rollout::in_force(name, versions.in_force)
        ),
        help: None,
        next: Some(policy_rollout::look(name)),
    }
}

fn replaced(goal: &Goal, by: Generation) -> Failure {
    Failure::Refused {
        reason: Some("replaced".to_owned()),
        message: format!("{} was replaced by version {by}", goal.subject()),
        help: None,
        next: Some(format!("ctl policy show {}", goal.name)),
    }
}

fn time_is_up(goal: &Goal, last: &str, patience: Duration) -> Failure {
    let took = model::unit::format_duration(patience);
    let message = format!("{} is not in force after {took}: {last}; the work goes on", goal.subject());
    Failure::StillRunning { message, next: policy_rollout::look(&goal.name) }
}

fn detached(goal: &Goal) -> Failure {
    let message = format!("{} is no longer waited for; the work goes on", goal.subject());
    Failure::StillRunning { message, next: policy_rollout::look(&goal.name) }
}

fn deleted(goal: &Goal) -> Failure {
    let message = format!("policy {} was deleted while it was waited for", goal.name);
    Failure::Refused { reason: Some("deleted".to_owned()), message, help: None, next: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::policy_rollout;

    fn goal(generation: u64) -> Goal {
        Goal { name: "pii".to_owned(), generation: Generation(generation), is_promoted: false }
    }

    fn seen(in_force: u64, rollout: Option<PolicyRolloutStatus>) -> Seen {
        let in_force = (in_force != 0).then_some(Generation(in_force));
        Seen { versions: Versions { in_force, rollout }, given_up: Vec::new() }
    }

    fn answering() -> PolicyRolloutStatus {
        policy_rollout(Phase::Answering { since_ms: 0 }, "it answers where it was placed")
    }

    fn word(goal: &Goal, seen: &Seen) -> String {
        match judge(goal, seen) {
            Verdict::InForce => "in force".to_owned(),
            Verdict::AtStep(_, step) => format!("at {step}"),
            Verdict::Waiting(line) => line,
            Verdict::Stopped(failure) => failure.to_string(),
        }
    }

    #[test]
    fn a_version_is_followed_until_it_is_in_force() {
        assert_eq!(word(&goal(12), &seen(9, None)), "waiting for the change to be seen");
        assert_eq!(word(&goal(12), &seen(0, None)), "waiting for the change to be seen");
        let starting = policy_rollout(Phase::Starting, "it comes up: compiling");
        assert_eq!(
            word(&goal(12), &seen(9, Some(starting))),
            "pii version 12 comes up on 2 graphs, crm: compiling"
        );
        assert_eq!(
            word(&goal(12), &seen(9, Some(answering()))),
            "pii version 12 answers 5% for 5m: step 1 of 2, on 2 graphs"
        );
        assert_eq!(word(&goal(12), &seen(12, None)), "in force");
        let next = PolicyRolloutStatus { stable: Some(Generation(9)), ..answering() };
        assert_eq!(word(&goal(9), &seen(9, Some(next))), "in force", "another one takes over from it");
    }

    #[test]
    fn a_version_that_another_took_the_place_of_is_not_waited_for() {
        assert_eq!(word(&goal(11), &seen(12, None)), "pii@11 was replaced by version 12");
        assert_eq!(word(&goal(11), &seen(9, Some(answering()))), "pii@11 was replaced by version 12");
    }

    #[test]
    fn a_step_without_an_end_is_the_end_of_an_apply_and_a_pause_is_not() {
        let waiting = PolicyRolloutStatus { step: 1, ..answering() };
        assert_eq!(word(&goal(12), &seen(9, Some(waiting.clone()))), "at 50% until it is promoted");
        let starting = PolicyRolloutStatus { phase: Phase::Starting, ..waiting.clone() };
        assert!(
            matches!(judge(&goal(12), &seen(9, Some(starting))), Verdict::Waiting(_)),
            "it is not there yet"
        );
        let promoted = Goal { is_promoted: true, ..goal(12) };
        assert_eq!(
            word(&promoted, &seen(9, Some(waiting.clone()))),
            "pii version 12 answers 50% until it is promoted: step 2 of 2, on 2 graphs"
        );
        let paused = PolicyRolloutStatus { paused: Some("an operator".to_owned()), ..waiting };
        let Verdict::Stopped(Failure::StillRunning { message, next }) =
            judge(&goal(12), &seen(9, Some(paused.clone())))
        else {
            panic!("nothing happens until somebody says so");
        };
        assert_eq!(message, "pii version 12 is paused at 50%, step 2 of 2: an operator");
        assert_eq!(next, "ctl policy rollout status pii");
        assert!(matches!(judge(&promoted, &seen(9, Some(paused))), Verdict::Waiting(_)), "it is of before");
    }

    #[test]
    fn a_version_that_was_given_up_has_failed_and_what_is_in_force_is_told() {
        let version = wire::GivenUp { generation: 12, why: "3 of its 20\nrequests failed".to_owned() };
        for (in_force, told) in [(9, "pii@9 is in force"), (0, "no version of pii is in force")] {
            let seen = Seen { given_up: vec![version.clone()], ..seen(in_force, None) };
            let Verdict::Stopped(failure) = judge(&goal(12), &seen) else { panic!("it was given up") };
            assert_eq!(failure.exit(), crate::exit::Exit::Failed);
            let Failure::Refused { reason, message, .. } = failure else { panic!("it is a refusal") };
            assert_eq!(reason.as_deref(), Some("rollout_reverted"));
            assert_eq!(
                message,
                format!("pii@12 was given up for all graphs: 3 of its 20 requests failed; {told}")
            );
        }
    }
}
