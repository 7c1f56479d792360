//! The consumer's half of sessions: one for each provider that an instance calls on another node, opened by its first
//! call.

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::id::{Generation, GraphKey, Uid};
use model::link::{Binding, Body, Call, LinkFailure, LinkReason, MESSAGE_MAX_BYTES, Open};
use model::name::{ComponentName, NodeName};

use crate::link::carrier::{Carrier, Line};

/// How often a call that was not delivered is tried again, at most; the call's deadline ends it earlier.
const TRIES_MAX: u32 = 8;
/// The first wait before such a try; it doubles.
const RETRY_LEAST: Duration = Duration::from_millis(20);
/// The longest wait before such a try.
const RETRY_MOST: Duration = Duration::from_millis(500);

/// A provider on another node, as one instance of a consumer may call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remote {
    /// The consumer.
    pub(crate) from: ComponentName,
    /// The provider.
    pub(crate) to: ComponentName,
    /// Where it runs.
    pub(crate) node: NodeName,
    /// The functions that may be called, by their place.
    pub(crate) functions: Vec<Binding>,
}

/// Which graph an instance is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) graph: GraphKey,
    pub(crate) uid: Uid,
    pub(crate) generation: Generation,
}

/// What an instance needs to call providers on other nodes; the same for all instances of a slice.
pub(crate) struct Links {
    pub(crate) origin: Origin,
    pub(crate) remotes: Vec<Remote>,
    pub(crate) carrier: Arc<Carrier>,
}

/// The sessions of one instance. Dropped with it, which ends them.
pub(crate) struct Sessions {
    links: Arc<Links>,
    open: Vec<Session>,
}

#[derive(Default)]
enum Session {
    /// Not called yet.
    #[default]
    Idle,
    /// Opened by a call that has been answered.
    Open(Opened),
    /// Its provider is gone, and with it all handles.
    Gone,
}

/// A session at the other end; dropped, it is closed there.
struct Opened {
    line: Arc<Line>,
    id: u64,
    /// Handles that were dropped since the last call.
    dropped: Vec<u64>,
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.line.close(self.id);
    }
}

impl Opened {
    fn new(line: Arc<Line>) -> Self {
        let id = line.session();
        Self { line, id, dropped: Vec::new() }
    }
}

impl Sessions {
    /// None open yet.
    pub(crate) fn new(links: Arc<Links>) -> Self {
        let open = links.remotes.iter().map(|_| Session::Idle).collect();
        Self { links, open }
    }

    /// The guest has dropped a handle of the provider at this place.
    pub(crate) fn dropped(&mut self, remote: usize, handle: u64) {
        if let Some(Session::Open(opened)) = self.open.get_mut(remote) {
            opened.dropped.push(handle);
        }
    }

    /// Calls a function of the provider at this place. `request` is what the log calls the work.
    pub(crate) async fn call(
        &mut self,
        remote: usize,
        function: u32,
        arguments: Vec<u8>,
        request: &str,
        deadline: Instant,
    ) -> Result<Vec<u8>, LinkFailure> {
        if arguments.len() > MESSAGE_MAX_BYTES {
            let message = format!(
                "the arguments have {} bytes, at most {MESSAGE_MAX_BYTES} are carried",
                arguments.len()
            );
            return Err(LinkFailure::new(LinkReason::Protocol, message));
        }
        let (Some(session), Some(to)) = (self.open.get_mut(remote), self.links.remotes.get(remote)) else {
            return Err(LinkFailure::new(LinkReason::Protocol, "the link is not known"));
        };
        let call = |arguments| {
            let left = deadline.saturating_duration_since(Instant::now()).as_micros();
            Body::Call(Call { function, arguments, deadline_us: u64::try_from(left).unwrap_or(u64::MAX) })
        };
        // Taken out: a call that is given up half-way ends the session.
        match std::mem::replace(session, Session::Gone) {
            Session::Gone => {
                let message = format!("the instance of {} on node {} is gone", to.to, to.node);
                Err(LinkFailure::new(LinkReason::Lost, message))
            }
            Session::Open(mut opened) => {
                let mut frames = Vec::with_capacity(2);
                if !opened.dropped.is_empty() {
                    frames.push(Body::Dropped(std::mem::take(&mut opened.dropped)));
                }
                frames.push(call(arguments));
                let answer = opened.line.call(opened.id, frames).await?;
                *session = Session::Open(opened);
                Ok(answer)
            }
            Session::Idle => {
                let mut wait = RETRY_LEAST;
                let mut tries = 1;
                loop {
                    let (opened, answer) = self.links.open(to, call(arguments.clone()), request).await;
                    match answer {
                        Ok(answer) => {
                            *session = opened.map_or(Session::Gone, Session::Open);
                            return Ok(answer);
                        }
                        // Nothing was done: it may be done now.
                        Err(failure)
                            if failure.reason.is_undelivered()
                                && tries < TRIES_MAX
                                && Instant::now() + wait < deadline =>
                        {
                            tokio::time::sleep(wait).await;
                            wait = (wait * 2).min(RETRY_MOST);
                            tries += 1;
                        }
                        Err(failure) => return Err(failure),
                    }
                }
            }
        }
    }
}

impl Links {
    /// Opens a session with its first call.
    async fn open(
        &self,
        to: &Remote,
        call: Body,
        request: &str,
    ) -> (Option<Opened>, Result<Vec<u8>, LinkFailure>) {
        let line = match self.carrier.line(&to.node).await {
            Ok(line) => line,
            Err(failure) => return (None, Err(failure)),
        };
        let opened = Opened::new(line);
        let open = Body::Open(Box::new(Open {
            graph: self.origin.graph.clone(),
            uid: self.origin.uid.clone(),
            generation: self.origin.generation,
            from: to.from.clone(),
            to: to.to.clone(),
            request: request.to_owned(),
            functions: to.functions.clone(),
        }));
        let answer = opened.line.call(opened.id, vec![open, call]).await;
        (Some(opened), answer)
    }
}
