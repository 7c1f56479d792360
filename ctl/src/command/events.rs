//! `ctl events`: what happened, with reasons.

use std::time::Duration;

use clap::Args;
use proto::weft::event::v1 as wire;
use tokio::time::Instant;

use crate::cli::Format;
use crate::client::{CallError, Services};
use crate::clock::now_ms;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::lookup;
use crate::reference::GraphReference;
use crate::render::table::printable;
use crate::render::time;
use crate::session::Session;

/// The wait before a broken stream is opened again.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);

/// Arguments of `events`.
#[derive(Debug, Args)]
pub struct EventsArguments {
    /// Only events of this graph, `[namespace/]graph`.
    pub graph: Option<GraphReference>,
    /// Go on with what happens from now on.
    #[arg(short, long)]
    pub follow: bool,
}

/// Shows.
pub async fn run(arguments: EventsArguments, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let subject = match &arguments.graph {
        None => String::new(),
        Some(reference) if reference.revision.is_some() => {
            return Err(Failure::Usage(
                "events are of the whole graph: write it without a revision".to_owned(),
            ));
        }
        Some(reference) => format!("graph/{}", reference.key(&session.namespace)),
    };
    let until = session.deadline.map(|deadline| Instant::now() + deadline);
    let follow = arguments.follow;
    let request = wire::WatchRequest { subject, after_revision: 0, follow, bookmarks: follow };
    let mut watch = Watch { request, last: None, to_skip: 0, noted: None };
    let followed = watch.follow(session);
    match until {
        None => followed.await?,
        // A follow that was asked to end in time has done what it was asked.
        Some(until) => tokio::time::timeout_at(until, followed).await.unwrap_or(Ok(()))?,
    }
    if watch.last.is_some() {
        return Ok(Exit::Done);
    }
    // Events of deleted graphs are kept for a while, so only an empty answer asks whether the graph is there.
    if let Some(reference) = &arguments.graph {
        lookup::graph(&session.client, &reference.key(&session.namespace), 0).await?;
    }
    session.terminal.note("nothing happened that is still kept")?;
    Ok(Exit::Done)
}

/// A watch that is opened again, behind the last event, when it breaks.
struct Watch {
    request: wire::WatchRequest,
    /// The last revision that was shown, and how many events of it.
    last: Option<(u64, usize)>,
    /// Events of that revision that come again.
    to_skip: usize,
    /// What was said of the last break: once is enough.
    noted: Option<String>,
}

impl Watch {
    async fn follow(&mut self, session: &mut Session<'_>) -> Result<(), Failure> {
        loop {
            match self.once(session).await? {
                None if !self.request.follow => return Ok(()),
                None => {}
                Some(error) if self.request.follow && matches!(error, CallError::Unreachable { .. }) => {
                    let note = format!("the events broke off ({error}); trying again");
                    if self.noted.as_ref() != Some(&note) {
                        session.terminal.note(&note)?;
                        self.noted = Some(note);
                    }
                }
                Some(error) => return Err(error.into()),
            }
            tokio::time::sleep(REOPEN_PAUSE).await;
            // A revision may have several events, and the stream may have broken between two of them.
            if let Some((revision, count)) = self.last
                && revision > self.request.after_revision
            {
                self.request.after_revision = revision.saturating_sub(1);
                self.to_skip = count;
            }
        }
    }

    /// Until the stream ends; `Some` is why, if it did not end well.
    async fn once(&mut self, session: &mut Session<'_>) -> Result<Option<CallError>, Failure> {
        let call = |services: Services| {
            let request = self.request.clone();
            async move { services.events().watch(request).await }
        };
        let mut events = match session.client.stream(call).await {
            Ok(events) => events,
            Err(error) => return Ok(Some(error)),
        };
        loop {
            match events.message().await {
                Ok(Some(event)) => self.show(session, &event)?,
                Ok(None) => return Ok(None),
                Err(status) => return Ok(Some(session.client.error(status))),
            }
        }
    }

    fn show(&mut self, session: &mut Session<'_>, event: &wire::Event) -> Result<(), Failure> {
        self.noted = None;
        if event.bookmark {
            self.request.after_revision = event.revision;
            return Ok(());
        }
        match &mut self.last {
            Some((revision, _)) if *revision == event.revision && self.to_skip > 0 => {
                self.to_skip -= 1;
                return Ok(());
            }
            Some((revision, count)) if *revision == event.revision => *count += 1,
            last => *last = Some((event.revision, 1)),
        }
        match session.format {
            Format::Json | Format::Yaml => session.write_item(event),
            Format::Name => Ok(session.terminal.data_line(&event.subject)?),
            format => {
                let text = text(event, format == Format::Wide, now_ms());
                Ok(session.terminal.data_line(&text)?)
            }
        }
    }
}

/// `14:03:07 node/n2 down: not heard of for 3s`
fn text(event: &wire::Event, is_wide: bool, now_ms: u64) -> String {
    let moment = if is_wide {
        format!("{} revision {}", time::stamp(event.time_ms), event.revision)
    } else {
        time::moment(event.time_ms, now_ms)
    };
    format!("{moment} {} {}: {}", event.subject, event.reason, printable(&event.message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_says_when_about_what_and_why() {
        let event = wire::Event {
            revision: 9,
            time_ms: 1_795_548_605_120,
            subject: "graph/sales/crm".to_owned(),
            reason: "placed".to_owned(),
            message: "on node n1".to_owned(),
            bookmark: false,
        };
        assert_eq!(
            text(&event, true, 0),
            "2026-11-24T19:30:05.120Z revision 9 graph/sales/crm placed: on node n1"
        );
    }
}
