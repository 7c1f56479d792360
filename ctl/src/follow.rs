//! From "committed" to "serving": follows a graph until it serves a generation, certainly never will, or the time is up.
//!
//! A deploy that does not serve is not ready, so every command that changes a graph waits here unless told not to.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use model::id::{Generation, GraphKey, RevisionNumber};
use model::status::{GraphState, GraphStatus};
use proto::weft::graph::v1 as wire;
use tokio::time::Instant;

use crate::failure::Failure;
use crate::reference::short;
use crate::render;
use crate::render::table::printable;
use crate::session::Session;
use crate::terminal::Terminal;
use crate::watch::GraphWatch;

/// How long a change is waited for, unless `--deadline` says otherwise: the largest guests compile in under a minute.
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
    /// Set where another revision would be another matter: a deploy. `None` for a policy, which later revisions obey
    /// as well.
    pub revision: Option<RevisionNumber>,
}

/// Follows a graph until it serves.
pub async fn until_serving(session: &mut Session<'_>, goal: &Goal) -> Result<wire::GraphStatus, Failure> {
    let patience = session.deadline.unwrap_or(SERVING_PATIENCE);
    let until = Instant::now() + patience;
    let mut steps = Steps::new(&session.terminal);
    let mut watch = GraphWatch::new(&goal.key);
    let mut last: Option<GraphStatus> = None;
    let ended = loop {
        let next = tokio::select! {
            // Cancel-safe: an item that was taken off the stream is returned by the same poll.
            next = watch.next(&session.client) => next,
            () = tokio::time::sleep_until(until) => break Err(time_is_up(goal, last.as_ref(), patience)),
            _ = tokio::signal::ctrl_c() => break Err(detached(goal)),
        };
        let seen = match next {
            Ok(seen) => seen,
            Err(error) if error.is_not_found() => break Err(deleted(goal)),
            Err(error) => break Err(error.into()),
        };
        match judge(goal, &seen.status) {
            Verdict::Serving => break Ok(seen.wire),
            Verdict::Hopeless(failure) => break Err(failure),
            Verdict::Waiting(line) => {
                steps.step(&mut session.terminal, &format!("{} {line}", short(&goal.key)))?;
            }
        }
        last = Some(seen.status);
    };
    steps.finish();
    ended
}

fn time_is_up(goal: &Goal, last: Option<&GraphStatus>, patience: Duration) -> Failure {
    let took = model::unit::format_duration(patience);
    let state = last.map_or_else(
        || "the control plane does not answer".to_owned(),
        |status| render::status::sentence(&status.state),
    );
    let message = format!("{} does not serve after {took}: {state}; the work goes on", goal.key);
    Failure::StillRunning { message, next: format!("ctl status {} --watch", short(&goal.key)) }
}

fn detached(goal: &Goal) -> Failure {
    let message = format!("{} is no longer waited for; the work goes on", goal.key);
    Failure::StillRunning { message, next: format!("ctl status {} --watch", short(&goal.key)) }
}

fn deleted(goal: &Goal) -> Failure {
    let message = format!("graph {} was deleted while it was waited for", goal.key);
    Failure::Refused { reason: Some("deleted".to_owned()), message, help: None, next: None }
}

enum Verdict {
    Serving,
    Waiting(String),
    Hopeless(Failure),
}

fn judge(goal: &Goal, status: &GraphStatus) -> Verdict {
    if status.generation < goal.generation {
        return Verdict::Waiting("waiting for the change to be seen".to_owned());
    }
    if let Some(wanted) = goal.revision
        && status.revision != wanted
    {
        let message = format!("{}@{wanted} was replaced by revision {}", goal.key, status.revision);
        return Verdict::Hopeless(Failure::Refused {
            reason: Some("replaced".to_owned()),
            message,
            help: None,
            next: Some(format!("ctl history {}", short(&goal.key))),
        });
    }
    match &status.state {
        GraphState::Serving => Verdict::Serving,
        GraphState::Failed { failure, serving } => {
            let meanwhile = match serving {
                Some(generation) => format!("; generation {generation} answers meanwhile"),
                None => "; nothing answers".to_owned(),
            };
            Verdict::Hopeless(Failure::Refused {
                reason: Some(failure.reason.clone()),
                message: format!(
                    "{}@{} does not serve: {}{meanwhile}",
                    goal.key,
                    status.revision,
                    printable(&failure.message)
                ),
                help: None,
                next: Some(format!("ctl logs {} --since 5m", short(&goal.key))),
            })
        }
        state => Verdict::Waiting(render::status::sentence(state)),
    }
}

/// Steps as they pass: a spinner where a person watches, a line with the time otherwise.
struct Steps {
    spinner: Option<ProgressBar>,
    last: String,
}

impl Steps {
    fn new(terminal: &Terminal<'_>) -> Self {
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

    fn step(&mut self, terminal: &mut Terminal<'_>, line: &str) -> Result<(), Failure> {
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

    fn finish(&self) {
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

    use super::*;

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
        }
    }

    fn goal(generation: u64, revision: Option<u64>) -> Goal {
        Goal {
            key: "sales/crm".parse().unwrap(),
            generation: Generation(generation),
            revision: revision.map(RevisionNumber),
        }
    }

    fn word(goal: &Goal, status: &GraphStatus) -> String {
        match judge(goal, status) {
            Verdict::Serving => "serving".to_owned(),
            Verdict::Waiting(line) => line,
            Verdict::Hopeless(failure) => failure.to_string(),
        }
    }

    #[test]
    fn only_the_wanted_generation_or_a_later_one_of_its_revision_counts() {
        let serving = |revision, generation| status(revision, generation, GraphState::Serving);
        let deploy = goal(12, Some(7));
        assert_eq!(word(&deploy, &serving(7, 12)), "serving");
        assert_eq!(word(&deploy, &serving(7, 15)), "serving", "a policy changed meanwhile");
        assert_eq!(word(&deploy, &serving(6, 11)), "waiting for the change to be seen");
        assert_eq!(word(&deploy, &serving(8, 14)), "sales/crm@7 was replaced by revision 8");
        let policy = goal(12, None);
        assert_eq!(word(&policy, &serving(8, 14)), "serving", "later revisions obey the policy too");
    }

    #[test]
    fn certain_failure_names_the_cause_and_what_answers_meanwhile() {
        let cause = Cause { reason: "start_failed".to_owned(), message: "a trap".to_owned() };
        let failed = |serving| status(7, 12, GraphState::Failed { failure: cause.clone(), serving });
        assert_eq!(
            word(&goal(12, Some(7)), &failed(Some(Generation(9)))),
            "sales/crm@7 does not serve: a trap; generation 9 answers meanwhile"
        );
        let Verdict::Hopeless(failure) = judge(&goal(12, Some(7)), &failed(None)) else {
            panic!("a failed graph is hopeless");
        };
        let Failure::Refused { reason, message, next, .. } = failure else { panic!("it is a refusal") };
        assert_eq!(reason.unwrap(), "start_failed");
        assert!(message.ends_with("; nothing answers"));
        assert_eq!(next.unwrap(), "ctl logs sales/crm --since 5m");
    }
}
