//! `weft.event.v1.Events`.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

use cluster::State;
use futures::{Stream, stream};
use model::event::Event;
use proto::status::refuse;
use proto::weft::event::v1 as wire;
use tokio::sync::watch;
use tonic::{Code, Request, Response, Status};

use super::{Context, refusal};

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
    subject.is_empty()
        || event.subject.strip_prefix(subject).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What a watcher still has to be told.
struct Watcher {
    states: watch::Receiver<Arc<State>>,
    subject: String,
    after: u64,
    follow: bool,
    waiting: VecDeque<Event>,
}

impl Watcher {
    fn collect(&mut self) {
        let state = self.states.borrow_and_update().clone();
        let news = state.events.iter().filter(|event| event.revision.0 > self.after);
        self.waiting.extend(news.filter(|event| is_about(event, &self.subject)).cloned());
        self.after = self.after.max(state.revision.0);
    }

    async fn next(mut self) -> Option<(Result<wire::Event, Status>, Self)> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some((Ok(event.into()), self));
            }
            if !self.follow || self.states.changed().await.is_err() {
                return None;
            }
            self.collect();
        }
    }
}

#[tonic::async_trait]
impl wire::events_server::Events for Events {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<wire::Event, Status>> + Send>>;

    async fn watch(&self, request: Request<wire::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        let state = self.context.raft.read().await.map_err(|error| refusal::read(&error))?;
        let oldest = state.events.front().map_or(0, |event| event.revision.0);
        let some_are_gone = state.events.len() >= cluster::state::EVENTS_MAX;
        if request.after_revision != 0 && some_are_gone && request.after_revision + 1 < oldest {
            let message = format!("the oldest kept event is of revision {oldest}: start there");
            return Err(refuse(Code::OutOfRange, "compacted", message));
        }
        if request.after_revision > state.revision.0 {
            let message = format!("the state is at revision {}", state.revision);
            return Err(refuse(Code::OutOfRange, "future_revision", message));
        }
        let mut watcher = Watcher {
            states: self.context.raft.changes(),
            subject: request.subject,
            after: request.after_revision,
            follow: request.follow,
            waiting: VecDeque::new(),
        };
        watcher.collect();
        Ok(Response::new(Box::pin(stream::unfold(watcher, Watcher::next))))
    }
}
