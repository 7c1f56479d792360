//! Calls from other nodes: the sessions of one stream, each in a task of its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use model::link::{Body, Frame, GraphVersion, LinkFailure, LinkReason, STREAM};
use proto::weft::link::v1 as wire;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::RENEWAL_NOTICE;
use crate::host::{Caller, Inbound, Reach};
use crate::link::carrier::messages;
use crate::link::pipe::{Party, Pipes};

/// Sessions of one stream: more than instances fit into the pool.
const SESSIONS_MAX: usize = 4_096;
/// Frames of one session that wait: an open, what was dropped, a call, an end.
const FRAMES_WAITING_MAX: usize = 8;
/// Answers that wait to be sent; a session that finds no room waits.
const ANSWERS_WAITING_MAX: usize = 1_024;
/// How long a stream stays when the agent stops, for what its peer has sent before it was told: that is refused and
/// done elsewhere or later, where the end of the stream would leave in doubt whether it was done.
const FAREWELL: Duration = Duration::from_millis(250);
/// How long what is under way may take when the agent stops: with the drain of the ingress before it, less than the 30 s
/// after which container runtimes kill.
pub(super) const ENDING_MAX: Duration = Duration::from_secs(8);

/// The service over what can be reached.
pub struct Links {
    reach: Reach,
    stop: CancellationToken,
}

impl Links {
    /// A service over `reach`, until `stop`.
    pub fn new(reach: Reach, stop: CancellationToken) -> Self {
        Self { reach, stop }
    }
}

#[tonic::async_trait]
impl wire::links_server::Links for Links {
    type CarryStream = BoxStream<'static, Result<wire::Frames, Status>>;

    async fn carry(
        &self,
        request: Request<Streaming<wire::Frames>>,
    ) -> Result<Response<Self::CarryStream>, Status> {
        let caller = Caller::of(&request)?;
        let (answers, ready) = mpsc::channel(ANSWERS_WAITING_MAX);
        let (reach, stop) = (self.reach.clone(), self.stop.clone());
        let stream = Stream { caller, reach, stop, answers, sessions: HashMap::new() };
        tokio::spawn(stream.run(request.into_inner()));
        Ok(Response::new(messages(ready).map(Ok).boxed()))
    }

    async fn arrived(
        &self,
        request: Request<wire::ArrivedRequest>,
    ) -> Result<Response<wire::ArrivedResponse>, Status> {
        let caller = Caller::of(&request)?;
        let version = GraphVersion::try_from(request.into_inner())?;
        let running = self.reach.arrived(&version, &caller).await;
        let unchecked = running.as_ref().is_some_and(|running| !running.has_passed());
        Ok(Response::new(wire::ArrivedResponse { arrived: running.is_some(), unchecked }))
    }
}

/// One stream. Its sessions end with it: they find their frames at an end.
struct Stream {
    caller: Caller,
    reach: Reach,
    stop: CancellationToken,
    answers: mpsc::Sender<Frame>,
    sessions: HashMap<u64, Member>,
}

/// A session of a stream, as what comes for it is passed on.
struct Member {
    frames: mpsc::Sender<Body>,
    pipes: Arc<Pipes>,
}

impl Stream {
    async fn run(mut self, mut incoming: Streaming<wire::Frames>) {
        let (mut stopped, mut farewell) = (None, self.farewell());
        loop {
            let end = stopped.map(|stopped| self.end(stopped));
            // All are safe to cancel.
            let message = tokio::select! {
                message = incoming.message() => message,
                () = self.stop.cancelled(), if stopped.is_none() => {
                    stopped = Some(Instant::now());
                    // One who does not read it is refused session by session.
                    let _ = self.answers.try_send(Frame { session: STREAM, body: Body::Failed(stops()) });
                    continue;
                }
                () = at(farewell) => {
                    farewell = None;
                    let _ = self.answers.try_send(Frame { session: STREAM, body: Body::Failed(outlived()) });
                    continue;
                }
                () = at(end) => return,
            };
            let frames = match message {
                Ok(Some(message)) => message.frames,
                Ok(None) => return,
                Err(status) => {
                    tracing::debug!(%status, "a stream of links was lost");
                    return;
                }
            };
            for frame in frames {
                match Frame::try_from(frame) {
                    Ok(frame) => self.take(frame).await,
                    Err(error) => {
                        tracing::warn!(%error, "a stream of links was ended: its peer sent a frame that is wrong");
                        return;
                    }
                }
            }
        }
    }

    /// When its consumer is told to open another, since nothing more will be granted to it on this one: a moment before
    /// the certificate ends. One that renews it does not wait for that.
    fn farewell(&self) -> Option<Instant> {
        Instant::now().checked_add(self.caller.granted_for().saturating_sub(RENEWAL_NOTICE))
    }

    /// When the stream ends if nothing more comes. A consumer whose session has ended says so.
    fn end(&mut self, stopped: Instant) -> Instant {
        self.sessions.retain(|_, member| !member.frames.is_closed());
        stopped + if self.sessions.is_empty() { FAREWELL } else { ENDING_MAX }
    }

    async fn take(&mut self, Frame { session, body }: Frame) {
        match body {
            Body::Open(open) => {
                if let Some(failure) = self.hindrance(session) {
                    let _ = self.answers.send(Frame { session, body: Body::Failed(failure) }).await;
                    return;
                }
                let (sender, frames) = mpsc::channel(FRAMES_WAITING_MAX);
                let pipes = Arc::new(Pipes::new(Party::Provider));
                pipes.attach(self.answers.clone(), session);
                self.sessions.insert(session, Member { frames: sender, pipes: pipes.clone() });
                let inbound = Inbound { session, frames, answers: self.answers.clone(), pipes };
                let (reach, caller) = (self.reach.clone(), self.caller.clone());
                tokio::spawn(async move { reach.session(&caller, *open, inbound).await });
            }
            Body::Closed => {
                // Its frames end, and with them the session.
                self.sessions.remove(&session);
            }
            // A session that has failed is not known any more: its consumer has been told.
            Body::Pipe { pipe, piped } => {
                let heard = self.sessions.get(&session).map(|member| member.pipes.hear(pipe, piped));
                if let Some(Err(why)) = heard {
                    self.sessions.remove(&session);
                    let message = format!("the consumer's agent said what it must not: {why}");
                    let body = Body::Failed(LinkFailure::new(LinkReason::Protocol, message));
                    let _ = self.answers.send(Frame { session, body }).await;
                }
            }
            other => {
                if let Some(member) = self.sessions.get(&session)
                    && member.frames.try_send(other).is_err()
                {
                    self.sessions.remove(&session);
                }
            }
        }
    }

    /// Why no session can begin.
    fn hindrance(&mut self, session: u64) -> Option<LinkFailure> {
        if self.stop.is_cancelled() {
            return Some(stops());
        }
        if self.sessions.len() >= SESSIONS_MAX {
            self.sessions.retain(|_, member| !member.frames.is_closed());
        }
        if self.sessions.len() >= SESSIONS_MAX {
            let message = format!("a stream has at most {SESSIONS_MAX} sessions");
            return Some(LinkFailure::new(LinkReason::Busy, message));
        }
        if session == STREAM {
            return Some(LinkFailure::new(LinkReason::Protocol, "no session has this number"));
        }
        if self.sessions.contains_key(&session) {
            return Some(LinkFailure::new(LinkReason::Protocol, "the session is open already"));
        }
        None
    }
}

fn outlived() -> LinkFailure {
    LinkFailure::new(LinkReason::Unavailable, "the certificate ends that this stream was opened with")
}

fn stops() -> LinkFailure {
    LinkFailure::new(LinkReason::Unavailable, "the node's agent stops")
}

async fn at(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}
