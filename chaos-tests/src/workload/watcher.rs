//! A watcher of everything that becomes of graphs: breaks off now and then, and resumes at another member.

use std::time::Duration;

use proto::weft::event::v1::events_client::EventsClient;
use proto::weft::event::v1::{Event, WatchRequest};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Streaming};

use super::graph::key_of;
use super::recorder::Recorder;
use crate::api::{Api, shown};
use crate::history::{Change, Line, Seen, Watched};
use crate::seed::Choices;

/// What all events of graphs are about.
const SUBJECT: &str = "graph";
/// How long a stream may take to begin.
const BEGIN_PATIENCE: Duration = Duration::from_millis(1_500);
/// A stream on which nothing came for so long is given up: its member may stand still.
const SILENCE_MAX: Duration = Duration::from_millis(1_000);
/// The wait before another member is asked.
const RETRY_AFTER: Duration = Duration::from_millis(50);
/// What was acknowledged is told within this, once all members are well again: whoever is not told waits no longer.
const END_PATIENCE: Duration = Duration::from_secs(20);
/// A stream is broken off behind fewer events than this.
const STREAM_MAX: u64 = 20;

struct Watcher {
    number: u64,
    stream: u64,
    last: u64,
    recorder: Recorder,
}

/// Watches until it has seen what brought the state that `end` names.
pub(super) async fn run(
    number: u64,
    apis: Vec<Api>,
    recorder: Recorder,
    mut choices: Choices,
    end: watch::Receiver<Option<u64>>,
) {
    let mut watcher = Watcher { number, stream: 0, last: 0, recorder };
    let mut ends_by = None;
    while end.borrow().is_none_or(|end| watcher.last < end) {
        if let Some(last) = *end.borrow()
            && Instant::now() > *ends_by.get_or_insert_with(|| Instant::now() + END_PATIENCE)
        {
            let seen = watcher.last;
            watcher
                .recorder
                .strange(format!("watcher {number} was not told of state {last}, only up to {seen}"));
            return;
        }
        let member = choices.below(apis.len() as u64);
        let api = &apis[usize::try_from(member).expect("a small number")];
        let subject = SUBJECT.to_owned();
        let request = WatchRequest { subject, after_revision: watcher.last, follow: true, bookmarks: true };
        let mut client = EventsClient::new(api.channel());
        match timeout(BEGIN_PATIENCE, client.watch(request)).await {
            Ok(Ok(events)) => {
                watcher.saw(Seen::Began { member: member + 1, after: watcher.last, key: None });
                watcher.follow(events.into_inner(), 1 + choices.below(STREAM_MAX), &end).await;
                watcher.stream += 1;
            }
            Ok(Err(status)) => {
                // What it has seen must not be unknown to whom it asks, nor may what comes next be gone.
                if status.code() == Code::OutOfRange {
                    watcher.recorder.strange(format!("a watch after {}: {}", watcher.last, shown(&status)));
                }
                sleep(RETRY_AFTER).await;
            }
            Err(_) => {}
        }
    }
}

impl Watcher {
    fn saw(&self, seen: Seen) {
        let (watcher, stream, at_us) = (self.number, self.stream, self.recorder.now_us());
        self.recorder.add(Line::Watched(Watched { watcher, stream, at_us, seen }));
    }

    /// Takes so many events of a stream, or as many as come.
    async fn follow(&mut self, mut events: Streaming<Event>, count: u64, end: &watch::Receiver<Option<u64>>) {
        for _ in 0..count {
            let Ok(Ok(Some(event))) = timeout(SILENCE_MAX, events.message()).await else { return };
            self.last = self.last.max(event.revision);
            let position = event.revision;
            if event.bookmark {
                self.saw(Seen::Bookmark { position });
                continue;
            }
            self.saw(Seen::Event { position, key: key_of(&event.subject).to_owned(), change: change(&event) });
            if end.borrow().is_some_and(|end| self.last >= end) {
                return;
            }
        }
    }
}

fn change(event: &Event) -> Change {
    let number = event.message.strip_prefix("revision ").and_then(|rest| rest.split_once(' '));
    match (event.reason.as_str(), number) {
        ("deployed", Some((number, _))) => {
            Change::Put { revision: number.parse().unwrap_or_else(|_| panic!("{event:?} names no revision")) }
        }
        ("deleted", _) => Change::Deleted,
        (reason, _) => Change::Other { what: format!("{reason}: {}", event.message) },
    }
}
