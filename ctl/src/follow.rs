//! From "committed" to "serving": follows a graph until it serves a generation, certainly never will, or the time is up.
//!
//! A deploy that does not serve is not ready, so every command that changes a graph waits here unless told not to.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use model::id::{Generation, GraphKey, RevisionNumber};
use model::status::{GraphState, GraphStatus};
use proto::weft::graph::v1 as wire;
use tokio::time::Instant;
use tonic::Streaming;

use crate::client::CallError;
use crate::failure::Failure;
use crate::reference::short;
use crate::render;
use crate::session::Session;
use crate::terminal::Terminal;

/// How long a change is waited for, unless `--deadline` says otherwise: the largest guests compile in under a minute.
pub const SERVING_PATIENCE: Duration = Duration::from_secs(300);
/// The wait before a broken watch is opened again.
const WATCH_PAUSE: Duration = Duration::from_millis(500);
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
    let mut watch = Watch { goal, last: None, stream: None };
    let ended = loop {
        let next = tokio::select! {
            // Cancel-safe: an item that was taken off the stream is returned by the same poll.
            next = watch.next(session) => next,
            () = tokio::time::sleep_until(until) => break Err(watch.time_is_up(patience)),
            _ = tokio::signal::ctrl_c() => break Err(watch.detached()),
        };
        match next {
            Ok(status) => match judge(goal, &status) {
                Verdict::Serving => break Ok(status.0),
                Verdict::Hopeless(failure) => break Err(failure),
                Verdict::Waiting(line) => {
                    steps.step(&mut session.terminal, &format!("{} {line}", short(&goal.key)))?;
                }
            },
            Err(failure) => break Err(failure),
        }
    };
    steps.finish();
    ended
}

/// A status as the wire has it, and as the model has it.
struct Seen(wire::GraphStatus, GraphStatus);

/// A watch that is opened again when it breaks.
struct Watch<'a> {
    goal: &'a Goal,
    last: Option<GraphStatus>,
    stream: Option<Streaming<wire::GraphStatus>>,
}

impl Watch<'_> {
    async fn next(&mut self, session: &Session<'_>) -> Result<Seen, Failure> {
        loop {
            let Some(stream) = &mut self.stream else {
                self.open(session).await?;
                continue;
            };
            match stream.message().await {
                Ok(Some(status)) => {
                    let read = GraphStatus::try_from(status.clone()).map_err(CallError::Answer)?;
                    self.last = Some(read.clone());
                    return Ok(Seen(status, read));
                }
                // The control plane stops or is gone: what was committed is kept, and it will be back.
                Ok(None) => self.stream = None,
                Err(status) => {
                    self.stream = None;
                    self.check(session.client.error(status))?;
                }
            }
            tokio::time::sleep(WATCH_PAUSE).await;
        }
    }

    async fn open(&mut self, session: &Session<'_>) -> Result<(), Failure> {
        let call = |services: crate::client::Services| {
            let request = wire::WatchRequest { graph: self.goal.key.to_string() };
            async move { services.graphs().watch(request).await }
        };
        match session.client.stream(call).await {
            Ok(stream) => self.stream = Some(stream),
            Err(error) => {
                self.check(error)?;
                tokio::time::sleep(WATCH_PAUSE).await;
            }
        }
        Ok(())
    }

    /// Whether the wait goes on behind this error.
    fn check(&self, error: CallError) -> Result<(), Failure> {
        match error {
            CallError::Unreachable { .. } => Ok(()),
            error if error.is_not_found() => {
                let message = format!("graph {} was deleted while it was waited for", self.goal.key);
                Err(Failure::Refused { reason: Some("deleted".to_owned()), message, help: None, next: None })
            }
            error => Err(error.into()),
        }
    }

    fn time_is_up(&self, patience: Duration) -> Failure {
        let took = model::unit::format_duration(patience);
        let state = self.last.as_ref().map_or_else(
            || "the control plane does not answer".to_owned(),
            |status| render::status::sentence(&status.state),
        );
        Failure::StillRunning {
            message: format!("{} does not serve after {took}: {state}; the work goes on", self.goal.key),
            next: format!("ctl status {} --watch", short(&self.goal.key)),
        }
    }

    fn detached(&self) -> Failure {
        Failure::StillRunning {
            message: format!("{} is no longer waited for; the work goes on", self.goal.key),
            next: format!("ctl status {} --watch", short(&self.goal.key)),
        }
    }
}

enum Verdict {
    Serving,
    Waiting(String),
    Hopeless(Failure),
}

fn judge(goal: &Goal, seen: &Seen) -> Verdict {
    let status = &seen.1;
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
                    goal.key, status.revision, failure.message
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
