//! From "committed" to "serving": follows a graph until it serves a generation, certainly never will, or the time is up.
//!
//! A deploy that does not serve is not ready, so every command that changes a graph waits here unless told not to. A
//! revision that takes over by steps is followed through them.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use model::id::{Generation, GraphKey, RevisionNumber};
use model::rollout::{HOLD_MAX, Phase, PolicyRolloutStatus, RolloutStatus, STEPS_MAX, Step};
use model::status::{GraphState, GraphStatus};
use tokio::time::Instant;

use crate::failure::Failure;
use crate::reference::short;
use crate::render;
use crate::render::table::printable;
use crate::session::Session;
use crate::terminal::Terminal;
use crate::watch::{GraphWatch, Seen};

/// How long a change is waited for, unless `--deadline` says otherwise: the largest guests compile in under a minute. The
/// times that a revision stays at its steps come on top.
pub const SERVING_PATIENCE: Duration = Duration::from_secs(300);
/// How often the spinner turns.
const SPINNER_TICK: Duration = Duration::from_millis(120);

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Goal {
    /// The graph.
    pub key: GraphKey,
    /// What must answer: this generation, or a later one of the same revision.
    pub generation: Generation,
    /// Of which revision, and what ends the wait for it.
    pub wanted: Wanted,
}

/// Which revision is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Whichever there is, as for a policy, which later revisions obey as well.
    Any,
    /// This one. Another would be another matter, and a step at which it stays until somebody promotes it is an end.
    Revision(RevisionNumber),
    /// This one, which somebody has promoted: no step of it is an end.
    Promoted(RevisionNumber),
    /// That this one, which somebody has reverted, is let go of.
    Reverted(RevisionNumber),
    /// Whichever there is, with this version of a policy, which took over by steps and is in force.
    WithPolicy(Generation),
    /// That the candidate with this version of a policy, which was given up, is let go of.
    WithoutPolicy(Generation),
}

/// How a wait ended well.
pub enum End {
    /// What was waited for is there.
    Reached(Seen),
    /// The revision answers the share of this step, and goes on once somebody promotes it.
    AtStep(Seen, Step),
}

/// Follows a graph until it is where it should be.
pub async fn until_reached(session: &mut Session<'_>, goal: &Goal) -> Result<End, Failure> {
    let start = Instant::now();
    let mut patience = session.deadline.unwrap_or(SERVING_PATIENCE);
    let mut steps = Steps::new(&session.terminal);
    let mut watch = GraphWatch::new(&goal.key);
    let mut last = "the control plane does not answer".to_owned();
    let ended = loop {
        let next = tokio::select! {
            // Cancel-safe: an item that was taken off the stream is returned by the same poll.
            next = watch.next(&session.client) => next,
            () = tokio::time::sleep_until(start + patience) => break Err(time_is_up(goal, &last, patience)),
            _ = tokio::signal::ctrl_c() => break Err(detached(goal)),
        };
        let seen = match next {
            Ok(seen) => seen,
            Err(error) if error.is_not_found() => break Err(deleted(goal)),
            Err(error) => break Err(error.into()),
        };
        match judge(goal, &seen.status) {
            Verdict::Reached => break Ok(End::Reached(seen)),
            Verdict::AtStep(step) => break Ok(End::AtStep(seen, step)),
            Verdict::Stopped(failure) => break Err(failure),
            Verdict::Waiting(line) => {
                steps.step(&mut session.terminal, &format!("{} {line}", short(&goal.key)))?;
                last = line;
            }
        }
        patience = patience.max(patience_for(session.deadline, goal, &seen.status));
    };
    steps.finish();
    ended
}

/// How long is waited, once it is known which steps there are: the times of those that end by themselves come on top,
/// unless somebody said how long.
fn patience_for(deadline: Option<Duration>, goal: &Goal, status: &GraphStatus) -> Duration {
    if let Some(deadline) = deadline {
        return deadline;
    }
    let steps = match (goal.wanted, &status.rollout) {
        (Wanted::Revision(wanted), Some(rollout)) if rollout.revision == wanted => rollout.steps.as_slice(),
        _ => &[],
    };
    patience_of(steps)
}

/// How long is waited for what takes over by these steps.
pub fn patience_of(steps: &[Step]) -> Duration {
    // Bounded as manifests bound them, so that no answer makes a time that cannot be counted.
    let holds = steps.iter().take(STEPS_MAX).filter_map(|step| step.hold).map(|hold| hold.min(HOLD_MAX));
    SERVING_PATIENCE + holds.sum::<Duration>()
}

fn time_is_up(goal: &Goal, last: &str, patience: Duration) -> Failure {
    let took = model::unit::format_duration(patience);
    let lack = match goal.wanted {
        Wanted::Any => format!("{} does not serve", goal.key),
        Wanted::Revision(wanted) | Wanted::Promoted(wanted) => format!("{}@{wanted} does not serve", goal.key),
        Wanted::Reverted(wanted) => format!("{}@{wanted} is not let go of", goal.key),
        Wanted::WithPolicy(_) => format!("{} does not serve with it", goal.key),
        Wanted::WithoutPolicy(_) => format!("the candidate of {} is not let go of", goal.key),
    };
    let message = format!("{lack} after {took}: {last}; the work goes on");
    Failure::StillRunning { message, next: format!("ctl status {} --watch", short(&goal.key.base())) }
}

fn detached(goal: &Goal) -> Failure {
    let message = format!("{} is no longer waited for; the work goes on", goal.key);
    Failure::StillRunning { message, next: format!("ctl status {} --watch", short(&goal.key.base())) }
}

fn deleted(goal: &Goal) -> Failure {
    let message = format!("graph {} was deleted while it was waited for", goal.key);
    Failure::Refused { reason: Some("deleted".to_owned()), message, help: None, next: None }
}

enum Verdict {
    Reached,
    AtStep(Step),
    Waiting(String),
    /// It comes to nothing, or not before somebody does something.
    Stopped(Failure),
}

fn judge(goal: &Goal, status: &GraphStatus) -> Verdict {
    let is_seen = status.generation >= goal.generation;
    match goal.wanted {
        Wanted::Revision(wanted) | Wanted::Promoted(wanted) => judge_revision(goal, wanted, status),
        Wanted::Any | Wanted::Reverted(_) | Wanted::WithPolicy(_) if !is_seen => unseen(),
        Wanted::Any => judge_state(goal, status),
        Wanted::Reverted(wanted) => match &status.rollout {
            Some(rollout) if rollout.revision == wanted => Verdict::Waiting(render::rollout::sentence(rollout)),
            _ => Verdict::Reached,
        },
        Wanted::WithPolicy(version) => judge_policy(goal, version, status),
        Wanted::WithoutPolicy(version) => match with_policy(status, version) {
            Some(rollout) => Verdict::Waiting(render::policy_rollout::of_graph(rollout)),
            None => Verdict::Reached,
        },
    }
}

/// The version of a policy that takes over by steps, as far as the graph is with it.
fn with_policy(status: &GraphStatus, version: Generation) -> Option<&PolicyRolloutStatus> {
    status.policy_rollout.as_ref().filter(|rollout| rollout.version.generation == version)
}

/// Once a version is in force, each graph that has a candidate with it becomes that, and those without are linked anew.
fn judge_policy(goal: &Goal, version: Generation, status: &GraphStatus) -> Verdict {
    let Some(rollout) = with_policy(status, version) else { return judge_state(goal, status) };
    let sentence = render::policy_rollout::of_graph(rollout);
    match (rollout.phase, judge_state(goal, status)) {
        (Phase::Ending, verdict) => verdict,
        (Phase::Promoting, Verdict::Stopped(failure)) => Verdict::Stopped(failure),
        (Phase::Promoting, Verdict::Waiting(state)) => Verdict::Waiting(format!("{sentence}: {state}")),
        // Before that, the status is of an earlier time.
        _ => Verdict::Waiting(sentence),
    }
}

/// As long as a revision takes over by steps, the status is that of the one before, of an earlier generation: so the steps
/// are looked at first.
fn judge_revision(goal: &Goal, wanted: RevisionNumber, status: &GraphStatus) -> Verdict {
    if let Some(reverted) = status.reverted.as_ref().filter(|reverted| reverted.revision == wanted) {
        return Verdict::Stopped(given_up(goal, wanted, &reverted.why, status));
    }
    let rollout = status.rollout.as_ref();
    if status.revision != wanted {
        let latest = rollout.map_or(status.revision, |rollout| rollout.revision.max(status.revision));
        if latest > wanted {
            return Verdict::Stopped(replaced(goal, wanted, latest));
        }
        if let Some(rollout) = rollout.filter(|rollout| rollout.revision == wanted) {
            return judge_steps(goal, rollout);
        }
    }
    if status.generation < goal.generation {
        return unseen();
    }
    if status.revision != wanted {
        // Deleted and deployed anew, its revisions begin anew as well.
        return Verdict::Stopped(replaced(goal, wanted, status.revision));
    }
    match (judge_state(goal, status), rollout.filter(|rollout| rollout.revision == wanted)) {
        (Verdict::Waiting(state), Some(rollout)) => {
            Verdict::Waiting(format!("{}: {state}", render::rollout::sentence(rollout)))
        }
        (verdict, _) => verdict,
    }
}

fn judge_steps(goal: &Goal, rollout: &RolloutStatus) -> Verdict {
    let sentence = render::rollout::sentence(rollout);
    if matches!(goal.wanted, Wanted::Promoted(_)) {
        return Verdict::Waiting(sentence);
    }
    if rollout.paused.is_some() {
        let name = short(&goal.key);
        let message = format!("{}: {sentence}", goal.key);
        return Verdict::Stopped(Failure::StillRunning { message, next: format!("ctl rollout status {name}") });
    }
    match (rollout.phase, rollout.steps.get(rollout.step)) {
        (Phase::Answering { .. }, Some(step)) if step.hold.is_none() => Verdict::AtStep(*step),
        _ => Verdict::Waiting(sentence),
    }
}

fn judge_state(goal: &Goal, status: &GraphStatus) -> Verdict {
    match &status.state {
        GraphState::Serving => Verdict::Reached,
        GraphState::Failed { failure, serving } => {
            let meanwhile = match serving {
                Some(generation) => format!("; generation {generation} answers meanwhile"),
                None => "; nothing answers".to_owned(),
            };
            Verdict::Stopped(Failure::Refused {
                reason: Some(failure.reason.clone()),
                message: format!(
                    "{}@{} does not serve: {}{meanwhile}",
                    goal.key,
                    status.revision,
                    printable(&failure.message)
                ),
                help: None,
                next: Some(format!("ctl logs {} --since 5m", short(&goal.key.base()))),
            })
        }
        state => Verdict::Waiting(render::status::sentence(state)),
    }
}

fn unseen() -> Verdict {
    Verdict::Waiting("waiting for the change to be seen".to_owned())
}

fn replaced(goal: &Goal, wanted: RevisionNumber, by: RevisionNumber) -> Failure {
    Failure::Refused {
        reason: Some("replaced".to_owned()),
        message: format!("{}@{wanted} was replaced by revision {by}", goal.key),
        help: None,
        next: Some(format!("ctl history {}", short(&goal.key))),
    }
}

fn given_up(goal: &Goal, wanted: RevisionNumber, why: &str, status: &GraphStatus) -> Failure {
    Failure::Refused {
        reason: Some("rollout_reverted".to_owned()),
        message: format!(
            "{}@{wanted} was given up: {}; revision {}, equal to the one before, answers everything",
            goal.key,
            printable(why),
            status.revision
        ),
        help: None,
        next: Some(format!("ctl events {}", short(&goal.key))),
    }
}

/// Steps as they pass: a spinner where a person watches, a line with the time otherwise.
pub struct Steps {
    spinner: Option<ProgressBar>,
    last: String,
}

impl Steps {
    /// None has passed yet.
    pub fn new(terminal: &Terminal<'_>) -> Self {
        let look = terminal.look();
        let spinner = (look.is_watched && !look.quiet).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(SPINNER_TICK);
            bar
        });
        Self { spinner, last: String::new() }
    }

    /// Says what passes, once.
    pub fn step(&mut self, terminal: &mut Terminal<'_>, line: &str) -> Result<(), Failure> {
        if self.last == line {
            return Ok(());
        }
        line.clone_into(&mut self.last);
        match &self.spinner {
            Some(spinner) => spinner.set_message(line.to_owned()),
            None => terminal.progress(line)?,
        }
        Ok(())
    }

    /// Takes the spinner away.
    pub fn finish(&self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use model::id::{StateRevision, Uid};
    use model::report::Failure as Cause;
    use model::rollout::Reverted;

    use super::*;
    use crate::testing::{policy_rollout, rolling, rollout};

    fn status(revision: u64, generation: u64, state: GraphState) -> GraphStatus {
        GraphStatus {
            key: "sales/crm".parse().unwrap(),
            uid: Uid::new("u").unwrap(),
            revision: RevisionNumber(revision),
            generation: Generation(generation),
            state_revision: StateRevision(generation),
            deployed_at_ms: 0,
            state,
            placement: None,
            ingress_address: None,
            ingress: Vec::new(),
            components: Vec::new(),
            rollout: None,
            reverted: None,
            policy_rollout: None,
            scales: Vec::new(),
            failing: std::collections::BTreeMap::new(),
            unkept: std::collections::BTreeMap::new(),
        }
    }

    fn goal(generation: u64, wanted: Wanted) -> Goal {
        Goal { key: "sales/crm".parse().unwrap(), generation: Generation(generation), wanted }
    }

    fn of_deploy(revision: u64) -> Wanted {
        Wanted::Revision(RevisionNumber(revision))
    }

    fn word(goal: &Goal, status: &GraphStatus) -> String {
        match judge(goal, status) {
            Verdict::Reached => "reached".to_owned(),
            Verdict::AtStep(step) => format!("at {step}"),
            Verdict::Waiting(line) => line,
            Verdict::Stopped(failure) => failure.to_string(),
        }
    }

    #[test]
    fn only_the_wanted_generation_or_a_later_one_of_its_revision_counts() {
        let serving = |revision, generation| status(revision, generation, GraphState::Serving);
        let deploy = goal(12, of_deploy(7));
        assert_eq!(word(&deploy, &serving(7, 12)), "reached");
        assert_eq!(word(&deploy, &serving(7, 15)), "reached", "a policy changed meanwhile");
        assert_eq!(word(&deploy, &serving(6, 11)), "waiting for the change to be seen");
        assert_eq!(word(&deploy, &serving(8, 14)), "sales/crm@7 was replaced by revision 8");
        assert_eq!(
            word(&deploy, &serving(8, 9)),
            "sales/crm@7 was replaced by revision 8",
            "rolled back by steps"
        );
        assert_eq!(
            word(&deploy, &serving(1, 20)),
            "sales/crm@7 was replaced by revision 1",
            "deleted meanwhile"
        );
        let policy = goal(12, Wanted::Any);
        assert_eq!(word(&policy, &serving(8, 14)), "reached", "later revisions obey the policy too");
        assert_eq!(word(&policy, &serving(8, 11)), "waiting for the change to be seen");
    }

    #[test]
    fn certain_failure_names_the_cause_and_what_answers_meanwhile() {
        let cause = Cause { reason: "start_failed".to_owned(), message: "a trap".to_owned() };
        let failed = |serving| status(7, 12, GraphState::Failed { failure: cause.clone(), serving });
        assert_eq!(
            word(&goal(12, of_deploy(7)), &failed(Some(Generation(9)))),
            "sales/crm@7 does not serve: a trap; generation 9 answers meanwhile"
        );
        let Verdict::Stopped(failure) = judge(&goal(12, of_deploy(7)), &failed(None)) else {
            panic!("a failed graph is hopeless");
        };
        let Failure::Refused { reason, message, next, .. } = failure else { panic!("it is a refusal") };
        assert_eq!(reason.unwrap(), "start_failed");
        assert!(message.ends_with("; nothing answers"));
        assert_eq!(next.unwrap(), "ctl logs sales/crm --since 5m");
    }

    /// A status at a step, from 0.
    fn at(step: usize) -> GraphStatus {
        rolling(RolloutStatus { step, ..rollout(Phase::Answering { since_ms: 0 }) })
    }

    #[test]
    fn a_revision_is_followed_through_its_steps() {
        let deploy = goal(12, of_deploy(4));
        let before = GraphStatus { rollout: None, ..at(0) };
        assert_eq!(word(&deploy, &before), "waiting for the change to be seen");
        let candidate = "it comes up: compiling".to_owned();
        let starting = rolling(RolloutStatus { candidate, ..rollout(Phase::Starting) });
        assert_eq!(word(&deploy, &starting), "revision 4 comes up: compiling");
        assert_eq!(word(&deploy, &at(1)), "revision 4 answers 10% for 1m: step 2 of 3");
        assert_eq!(word(&deploy, &at(2)), "revision 4 answers 50% for 5m: step 3 of 3");
        assert_eq!(word(&deploy, &at(9)), "revision 4 answers", "a step that is none");
        // The stable revision was linked anew meanwhile, or does not serve: neither says anything of the new one.
        let relinked = GraphStatus { generation: Generation(20), ..at(1) };
        assert_eq!(word(&deploy, &relinked), "revision 4 answers 10% for 1m: step 2 of 3");
        let failure = Cause { reason: "start_failed".to_owned(), message: "a trap".to_owned() };
        let failed = GraphStatus { state: GraphState::Failed { failure, serving: None }, ..relinked };
        assert_eq!(word(&deploy, &failed), "revision 4 answers 10% for 1m: step 2 of 3");

        let promoted = |phase, state| GraphStatus {
            revision: RevisionNumber(4),
            generation: Generation(21),
            state,
            ..rolling(rollout(phase))
        };
        let compiling = || GraphState::Starting { phase: "compiling".to_owned(), serving: Some(Generation(9)) };
        assert_eq!(
            word(&deploy, &promoted(Phase::Promoting, compiling())),
            "revision 4 is promoted: compiling (generation 9 answers meanwhile)"
        );
        assert_eq!(word(&deploy, &promoted(Phase::Promoting, GraphState::Serving)), "reached");
        assert_eq!(word(&deploy, &promoted(Phase::Ending, GraphState::Serving)), "reached");
        let over = GraphStatus { rollout: None, ..promoted(Phase::Ending, GraphState::Serving) };
        assert_eq!(word(&deploy, &over), "reached");
    }

    #[test]
    fn a_step_without_an_end_is_the_end_of_a_deploy_and_a_pause_is_not() {
        let deploy = goal(12, of_deploy(4));
        assert_eq!(word(&deploy, &at(0)), "at 0% until it is promoted");
        let starting = rolling(RolloutStatus { step: 0, ..rollout(Phase::Starting) });
        assert!(matches!(judge(&deploy, &starting), Verdict::Waiting(_)), "it is not at that step yet");
        let mut paused = at(0);
        paused.rollout.as_mut().unwrap().paused = Some("an operator".to_owned());
        let Verdict::Stopped(Failure::StillRunning { message, next }) = judge(&deploy, &paused) else {
            panic!("nothing happens until somebody says so");
        };
        assert_eq!(message, "sales/crm: revision 4 is paused at 0%, step 1 of 3: an operator");
        assert_eq!(next, "ctl rollout status sales/crm");
        // Whoever has promoted it waits on, though the status may be older.
        let promoted = goal(9, Wanted::Promoted(RevisionNumber(4)));
        assert_eq!(word(&promoted, &paused), "revision 4 is paused at 0%, step 1 of 3: an operator");
        assert_eq!(word(&promoted, &at(0)), "revision 4 answers 0% until it is promoted: step 1 of 3");
    }

    #[test]
    fn a_revision_that_was_given_up_or_replaced_has_failed() {
        let reverted = |phase| GraphStatus {
            revision: RevisionNumber(5),
            reverted: Some(Reverted {
                revision: RevisionNumber(4),
                why: "12 of its 20\nrequests failed".to_owned(),
            }),
            ..rolling(rollout(phase))
        };
        for wanted in [of_deploy(4), Wanted::Promoted(RevisionNumber(4))] {
            let over = GraphStatus { rollout: None, ..reverted(Phase::Ending) };
            for seen in [reverted(Phase::Ending), over] {
                let Verdict::Stopped(failure) = judge(&goal(12, wanted), &seen) else {
                    panic!("it was given up")
                };
                assert_eq!(failure.exit(), crate::exit::Exit::Failed);
                let Failure::Refused { reason, message, next, .. } = failure else { panic!("it is a refusal") };
                assert_eq!(reason.unwrap(), "rollout_reverted");
                assert_eq!(
                    message,
                    "sales/crm@4 was given up: 12 of its 20 requests failed; revision 5, equal to the one before, \
                     answers everything"
                );
                assert_eq!(next.unwrap(), "ctl events sales/crm");
            }
        }
        assert_eq!(word(&goal(9, of_deploy(5)), &reverted(Phase::Ending)), "reached", "another one was");
        let newer = GraphStatus { reverted: None, ..at(1) };
        assert_eq!(word(&goal(10, of_deploy(2)), &newer), "sales/crm@2 was replaced by revision 4");
        assert_eq!(word(&goal(9, of_deploy(3)), &newer), "reached", "it is the stable one");
    }

    #[test]
    fn a_revert_is_done_once_the_candidate_is_gone() {
        let revert = goal(9, Wanted::Reverted(RevisionNumber(4)));
        assert_eq!(word(&revert, &rolling(rollout(Phase::Ending))), "the candidate of revision 4 is let go of");
        let gone = GraphStatus { rollout: None, ..rolling(rollout(Phase::Ending)) };
        assert_eq!(word(&revert, &gone), "reached");
        let other = RolloutStatus { revision: RevisionNumber(6), ..rollout(Phase::Starting) };
        assert_eq!(word(&revert, &rolling(other)), "reached");
    }

    #[test]
    fn a_policy_that_took_over_by_steps_is_waited_for_until_each_graph_is_what_its_candidate_was() {
        let version = Generation(12);
        let asked = |phase, state| GraphStatus {
            policy_rollout: Some(policy_rollout(phase, "it answers where it was placed")),
            ..status(7, 15, state)
        };
        let answering = Phase::Answering { since_ms: 0 };
        let compiling = || GraphState::Starting { phase: "compiling".to_owned(), serving: Some(Generation(9)) };
        let with = goal(15, Wanted::WithPolicy(version));
        let at_step = "policy pii@12 answers 5% for 5m: step 1 of 2; with it, it answers where it was placed";
        assert_eq!(word(&with, &asked(answering, GraphState::Serving)), at_step, "it is of before");
        assert_eq!(
            word(&with, &asked(Phase::Promoting, compiling())),
            "policy pii@12 is promoted: compiling (generation 9 answers meanwhile)"
        );
        assert_eq!(word(&with, &asked(Phase::Promoting, GraphState::Serving)), "policy pii@12 is promoted");
        assert_eq!(word(&with, &asked(Phase::Ending, GraphState::Serving)), "reached");
        assert_eq!(word(&with, &status(7, 15, GraphState::Serving)), "reached", "it had no candidate");
        assert_eq!(word(&with, &status(7, 14, GraphState::Serving)), "waiting for the change to be seen");
        let cause = Cause { reason: "start_failed".to_owned(), message: "a trap".to_owned() };
        let failed = asked(Phase::Promoting, GraphState::Failed { failure: cause, serving: None });
        assert_eq!(word(&with, &failed), "sales/crm@7 does not serve: a trap; nothing answers");

        let without = goal(0, Wanted::WithoutPolicy(version));
        let ending = asked(Phase::Ending, GraphState::Serving);
        assert_eq!(word(&without, &ending), "the candidate with policy pii@12 is let go of");
        assert_eq!(word(&without, &status(7, 15, compiling())), "reached");
        assert_eq!(word(&goal(0, Wanted::WithoutPolicy(Generation(11))), &ending), "reached", "of another");
    }

    #[test]
    fn the_times_of_steps_are_waited_for_on_top() {
        let minutes = Duration::from_mins;
        let deploy = goal(12, of_deploy(4));
        assert_eq!(patience_for(None, &deploy, &at(1)), SERVING_PATIENCE + minutes(6));
        assert_eq!(patience_for(Some(minutes(1)), &deploy, &at(1)), minutes(1), "somebody said how long");
        assert_eq!(patience_for(None, &goal(12, of_deploy(5)), &at(1)), SERVING_PATIENCE, "steps of another");
        assert_eq!(patience_for(None, &goal(12, Wanted::Any), &at(1)), SERVING_PATIENCE);
        let endless = Step { share: "1%".parse().unwrap(), hold: Some(Duration::MAX) };
        let hostile = rolling(RolloutStatus { steps: vec![endless; 1_000], ..rollout(Phase::Starting) });
        assert_eq!(patience_for(None, &deploy, &hostile), SERVING_PATIENCE + HOLD_MAX * 20);
    }

    #[test]
    fn who_waits_no_longer_is_told_where_it_is() {
        let Failure::StillRunning { message, next } =
            time_is_up(&goal(12, of_deploy(4)), "revision 4 answers 10% for 1m: step 2 of 3", SERVING_PATIENCE)
        else {
            panic!("the work goes on")
        };
        assert_eq!(
            message,
            "sales/crm@4 does not serve after 5m: revision 4 answers 10% for 1m: step 2 of 3; the work goes on"
        );
        assert_eq!(next, "ctl status sales/crm --watch");
    }
}
