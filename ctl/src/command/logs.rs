//! `ctl logs`: what components and the agent say of a graph.

use std::time::Duration;

use clap::{Args, ValueEnum};
use model::log::{Level, LogLine};
use proto::weft::log::v1 as wire;
use tokio::time::Instant;
use tonic::Code;

use crate::cli::Format;
use crate::client::{CallError, Services};
use crate::clock::now_ms;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::lookup;
use crate::reference::ComponentReference;
use crate::render::table::printable;
use crate::render::time;
use crate::session::Session;

/// The lines that are shown unless a number or a time is given: a screen or two.
const LINES_DEFAULT: u32 = 100;
/// The wait before a broken stream is opened again.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);

/// Arguments of `logs`.
#[derive(Debug, Args)]
pub struct LogsArguments {
    /// The graph or the component, `[namespace/]graph[/component]`.
    pub of: ComponentReference,
    /// Go on with what is said from now on.
    #[arg(short, long)]
    pub follow: bool,
    /// Only what was said in this last time: `30s`, `5m`, `2h`.
    #[arg(long, value_parser = model::unit::parse_duration, value_name = "TIME")]
    pub since: Option<Duration>,
    /// Only lines of this level or graver.
    #[arg(long, value_enum)]
    pub level: Option<LevelName>,
    /// Only lines of this request, by the id that its client was given.
    #[arg(long, value_name = "ID")]
    pub request: Option<String>,
    /// The last lines to begin with [default: 100, or all with --since].
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub lines: Option<u32>,
}

/// The levels by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LevelName {
    /// Finest.
    Trace,
    /// For those who write the component.
    Debug,
    /// Usual.
    Info,
    /// Something is off.
    Warn,
    /// A request failed.
    Error,
}

impl From<LevelName> for Level {
    fn from(name: LevelName) -> Self {
        match name {
            LevelName::Trace => Self::Trace,
            LevelName::Debug => Self::Debug,
            LevelName::Info => Self::Info,
            LevelName::Warn => Self::Warn,
            LevelName::Error => Self::Error,
        }
    }
}

/// Shows.
pub async fn run(arguments: LogsArguments, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let found = lookup::component(&session.client, &session.namespace, &arguments.of).await?;
    let since_ms = arguments
        .since
        .map_or(0, |since| now_ms().saturating_sub(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)));
    let lines = arguments.lines.unwrap_or(if arguments.since.is_some() { 0 } else { LINES_DEFAULT });
    let request = wire::TailRequest {
        graph: found.key.to_string(),
        component: found.component.map(String::from).unwrap_or_default(),
        lines,
        follow: arguments.follow,
        least_level: arguments.level.map_or(wire::Level::Unspecified, |name| Level::from(name).into()).into(),
        request: arguments.request.unwrap_or_default(),
        since_ms,
    };
    let until = session.deadline.map(|deadline| Instant::now() + deadline);
    let mut tail = Tail { request, last: None, has_shown: false, noted: None };
    let followed = tail.follow(session);
    match until {
        None => followed.await?,
        // A follow that was asked to end in time has done what it was asked.
        Some(until) => tokio::time::timeout_at(until, followed).await.unwrap_or(Ok(()))?,
    }
    if !tail.has_shown {
        session.terminal.note("nothing was said")?;
    }
    Ok(Exit::Done)
}

/// A tail that is opened again, behind the last line, when it breaks.
struct Tail {
    request: wire::TailRequest,
    last: Option<Place>,
    has_shown: bool,
    /// What was said of the last break: once is enough.
    noted: Option<String>,
}

/// Where a line stands: an agent counts its lines over one life.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    node: String,
    time_ms: u64,
    sequence: u64,
}

impl Tail {
    async fn follow(&mut self, session: &mut Session<'_>) -> Result<(), Failure> {
        loop {
            let ended = self.once(session).await;
            if !self.request.follow {
                return ended.map_err(Failure::from_tail);
            }
            match ended {
                Ok(()) => {}
                Err(Ended::Call(error)) if is_passing(&error) => {
                    let note = format!("the log broke off ({error}); trying again");
                    if self.noted.as_ref() != Some(&note) {
                        session.terminal.note(&note)?;
                        self.noted = Some(note);
                    }
                }
                Err(other) => return Err(Failure::from_tail(other)),
            }
            if let Some(last) = &self.last {
                self.request.since_ms = last.time_ms;
                self.request.lines = 0;
            }
            tokio::time::sleep(REOPEN_PAUSE).await;
        }
    }

    async fn once(&mut self, session: &mut Session<'_>) -> Result<(), Ended> {
        let call = |services: Services| {
            let request = self.request.clone();
            async move { services.logs().tail(request).await }
        };
        let mut lines = session.client.stream(call).await?;
        loop {
            match lines.message().await {
                Ok(Some(line)) => self.show(session, line)?,
                Ok(None) => return Ok(()),
                Err(status) => return Err(session.client.error(status).into()),
            }
        }
    }

    fn show(&mut self, session: &mut Session<'_>, wire: wire::LogLine) -> Result<(), Ended> {
        let place = Place { node: wire.node.clone(), time_ms: wire.time_ms, sequence: wire.sequence };
        if self.last.as_ref().is_some_and(|last| is_seen(last, &place)) {
            return Ok(());
        }
        self.last = Some(place);
        self.has_shown = true;
        self.noted = None;
        match session.format {
            Format::Json | Format::Yaml => session.write_item(&wire)?,
            format => {
                let line = LogLine::try_from(wire).map_err(CallError::Answer)?;
                let text = text(&line, format == Format::Wide, now_ms());
                session.terminal.data_line(&text).map_err(Failure::Output)?;
            }
        }
        Ok(())
    }
}

/// Whether a line was shown before the tail was opened again.
fn is_seen(last: &Place, line: &Place) -> bool {
    last.node == line.node && line.time_ms <= last.time_ms && line.sequence <= last.sequence
}

/// Why a tail ended.
enum Ended {
    Call(CallError),
    Failure(Failure),
}

impl From<CallError> for Ended {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl Failure {
    fn from_tail(ended: Ended) -> Self {
        match ended {
            Ended::Call(error) => error.into(),
            Ended::Failure(failure) => failure,
        }
    }
}

/// Whether a follow goes on behind this error: somebody is away for a moment, or the graph moves.
fn is_passing(error: &CallError) -> bool {
    match error {
        CallError::Unreachable { .. } => true,
        CallError::Refused { reason, code, .. } => {
            matches!(reason.as_deref(), Some("agent_unreachable" | "not_placed" | "graph_not_here"))
                // The agent went away in the middle, and the control plane passes on how it noticed.
                || matches!(code, Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled)
        }
        CallError::Unknown { .. } | CallError::Answer(_) | CallError::Credentials(_) => false,
    }
}

/// `14:02:11 n1/app INFO order 42 saved request=4b1f`; further lines of the same message are indented below it.
fn text(line: &LogLine, is_wide: bool, now_ms: u64) -> String {
    let moment = if is_wide { time::stamp(line.time_ms) } else { time::moment(line.time_ms, now_ms) };
    let who = line.component.as_ref().map_or("agent", |component| component.as_str());
    let mut parts = line.message.trim_end().lines().map(printable);
    let first = parts.next().unwrap_or_default();
    let mut text = format!("{moment} {}/{who} {} {first}", line.node, line.level.as_str());
    if let Some(request) = &line.request {
        text.push_str(&format!(" request={}", printable(request)));
    }
    if is_wide {
        text.push_str(&format!(" source={}", line.source.as_str()));
    }
    for part in parts.filter(|part| !part.is_empty()) {
        text.push_str(&format!("\n    {part}"));
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use model::log::LogSource;

    use super::*;

    #[test]
    fn a_line_says_when_where_how_grave_and_for_whom() {
        let line = LogLine {
            sequence: 1,
            time_ms: 1_795_548_605_120,
            node: "n1".parse().unwrap(),
            graph: "sales/crm".parse().unwrap(),
            component: Some("app".parse().unwrap()),
            request: Some("4b1f".to_owned()),
            level: Level::Info,
            source: LogSource::Stdout,
            message: "order 42 \u{1b}[2Jsaved".to_owned(),
        };
        assert_eq!(
            text(&line, true, 0),
            "2026-11-24T19:30:05.120Z n1/app INFO order 42 \u{fffd}[2Jsaved request=4b1f source=stdout"
        );
        let trap = LogLine { message: "it trapped:\n  0: f\n\n  1: g\n".to_owned(), ..line.clone() };
        assert!(
            text(&trap, false, 0).ends_with(" n1/app INFO it trapped: request=4b1f\n      0: f\n      1: g")
        );
        let agent = LogLine { component: None, request: None, ..line };
        assert!(text(&agent, true, 0).contains(" n1/agent INFO "));
    }

    #[test]
    fn a_tail_that_is_opened_again_repeats_nothing() {
        let place = |node: &str, time_ms, sequence| Place { node: node.to_owned(), time_ms, sequence };
        let last = place("n1", 50, 10);
        assert!(is_seen(&last, &place("n1", 50, 10)));
        assert!(is_seen(&last, &place("n1", 50, 9)));
        assert!(!is_seen(&last, &place("n1", 50, 11)));
        assert!(!is_seen(&last, &place("n1", 60, 1)), "an agent that was started again counts from 1");
        assert!(!is_seen(&last, &place("n2", 40, 1)));
    }
}
