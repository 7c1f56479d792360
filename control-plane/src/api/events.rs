//! `weft.event.v1.Events`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use cluster::State;
use futures::stream;
use model::event::Event;
use model::id::CANDIDATE;
use proto::status::refuse;
use proto::weft::event::v1 as wire;
use tokio::sync::watch;
use tonic::{Code, Request, Response, Status};

use super::{Answers, Context, refusal, until_stopped};
use crate::planted::{Bug, Planted};

/// How long nothing happens until a bookmark says so.
const BOOKMARK_EVERY: Duration = Duration::from_secs(5);

/// The service.
#[derive(Debug, Clone)]
pub struct Events {
    context: Context,
}

impl Events {
    /// The service over `context`.
    pub fn new(context: Context) -> Self {
        Self { context }
    }
}

fn is_about(event: &Event, subject: &str) -> bool {
    // What happens to a candidate happens to its graph.
    let is_part =
        |rest: &str| rest.is_empty() || rest.starts_with('/') || rest.strip_prefix('@') == Some(CANDIDATE);
    subject.is_empty() || event.subject.strip_prefix(subject).is_some_and(is_part)
}

/// How often a watch leaves an event out, if that is planted.
const LOST_ONE_OF: u64 = 7;

/// What a watcher still has to be told.
struct Watcher {
    states: watch::Receiver<Arc<State>>,
    subject: String,
    after: u64,
    follow: bool,
    bookmarks: bool,
    waiting: VecDeque<Event>,
    /// Set once it cannot be told everything: said behind what is waiting.
    missed: Option<Status>,
    planted: Planted,
}

/// The refusal of a watcher that has seen everything up to `after`, if some of what came then may be gone.
fn compacted(state: &State, after: u64) -> Option<Status> {
    let oldest = state.events.front().map_or(0, |event| event.revision.0);
    // One revision may bring several events, of which the first may be gone.
    let some_are_gone = state.events.len() >= cluster::state::EVENTS_MAX && after < oldest;
    some_are_gone.then(|| {
        let message = format!("the oldest kept events are those of revision {oldest}: begin again from there");
        refuse(Code::OutOfRange, "compacted", message)
    })
}

impl Watcher {
    fn take_news(&mut self, state: &State) {
        let news = state.events.iter().filter(|event| event.revision.0 > self.after);
        let lost =
            |event: &Event| self.planted.has(Bug::LostEvent) && event.revision.0.is_multiple_of(LOST_ONE_OF);
        let news = news.filter(|event| !lost(event));
        self.waiting.extend(news.filter(|event| is_about(event, &self.subject)).cloned());
        self.after = self.after.max(state.revision.0);
    }

    async fn next(mut self) -> Option<(Result<wire::Event, Status>, Self)> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some((Ok(event.into()), self));
            }
            if let Some(missed) = self.missed.take() {
                self.follow = false;
                return Some((Err(missed), self));
            }
            if !self.follow {
                return None;
            }
            // Cancel safe: a change is still seen by the next call.
            let changed = match self.bookmarks {
                true => tokio::time::timeout(BOOKMARK_EVERY, self.states.changed()).await,
                false => Ok(self.states.changed().await),
            };
            match changed {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return None,
                Err(_) => {
                    let bookmark =
                        wire::Event { revision: self.after, bookmark: true, ..wire::Event::default() };
                    return Some((Ok(bookmark), self));
                }
            }
            let state = self.states.borrow_and_update().clone();
            // A slow reader may find that events came and went meanwhile: it is told, never silently skipped.
            self.missed = compacted(&state, self.after);
            if self.missed.is_none() {
                self.take_news(&state);
            }
        }
    }
}

#[tonic::async_trait]
impl wire::events_server::Events for Events {
    type WatchStream = Answers<wire::Event>;

    async fn watch(&self, request: Request<wire::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        let state = self.context.raft.read().await.map_err(|error| refusal::read(&error))?;
        // 0 asks for all that are kept, however many are gone.
        if request.after_revision != 0 {
            compacted(&state, request.after_revision).map_or(Ok(()), Err)?;
        }
        if request.after_revision > state.revision.0 {
            let message = format!("the state is at revision {}", state.revision);
            return Err(refuse(Code::OutOfRange, "future_revision", message));
        }
        let planted = self.context.raft.planted();
        let mut watcher = Watcher {
            states: self.context.raft.changes(),
            subject: request.subject,
            after: request.after_revision.saturating_sub(u64::from(planted.has(Bug::RepeatedEvent))),
            follow: request.follow,
            bookmarks: request.bookmarks,
            waiting: VecDeque::new(),
            missed: None,
            planted,
        };
        let state = watcher.states.borrow_and_update().clone();
        watcher.take_news(&state);
        Ok(Response::new(until_stopped(stream::unfold(watcher, Watcher::next), &self.context.stop)))
    }
}
