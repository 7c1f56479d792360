//! The streams to other agents: a few to each, dialled when they are first needed, shared by all sessions.
//!
//! A stream that is lost ends its sessions with [`LinkReason::Lost`]; the next session dials again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::Stream;
use futures::stream::unfold;
use model::id::GraphKey;
use model::link::{Body, Frame, GraphVersion, LinkFailure, LinkReason, MESSAGE_MAX_BYTES, Piped, STREAM};
use model::name::NodeName;
use proto::weft::link::v1 as wire;
use proto::weft::link::v1::links_client::LinksClient;
use tokio::sync::{mpsc, oneshot};
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use crate::link::pipe::Pipes;
use crate::roads::{
    CONNECTION_WINDOW_BYTES, Condition, DIAL_TIMEOUT, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, Pool, Road, Roads,
    STREAM_WINDOW_BYTES,
};

/// Frames that wait to be sent on one stream. A session has one call under way, so more are never needed than there
/// are instances; who finds it full waits.
const FRAMES_WAITING_MAX: usize = 1_024;
/// Frames in one message: whatever is ready, until their values are as large as one may be.
const FRAMES_PER_MESSAGE_MAX: usize = 64;
/// The most bytes of one message of a peer: far above what values that are bounded so can be together.
pub(crate) const FRAMES_MAX_BYTES: usize = 32 << 20;
/// How long a peer may take to say whether it has a generation: it waits for it itself, and some.
const ARRIVED_TIMEOUT: Duration = Duration::from_secs(4);
/// How far a generation of a graph is on another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It cannot be called.
    Absent,
    /// It can be called, and has not passed its checks.
    Unchecked,
    /// It can be called by whoever takes over.
    Whole,
}

/// The streams of this agent.
pub(crate) struct Carrier {
    roads: Arc<dyn Roads>,
    lines: Pool<Arc<Line>, LinkFailure>,
}

/// One stream to one agent.
pub(crate) struct Line {
    outgoing: mpsc::Sender<Frame>,
    sessions: Arc<Sessions>,
    next: AtomicU64,
    /// For what is no session.
    client: LinksClient<Channel>,
    /// How often the certificate had been renewed that was shown: see [`Roads::renewals`].
    renewals: u64,
}

/// What a call comes to.
type Answer = Result<Vec<u8>, LinkFailure>;

/// Who waits for answers on a stream.
#[derive(Default)]
struct Sessions {
    waiting: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
    /// The pipes of the sessions that have any.
    pipes: Mutex<HashMap<u64, Arc<Pipes>>>,
    is_lost: AtomicBool,
    /// The other agent stops: what is open goes on, nothing new is begun.
    is_ending: AtomicBool,
}

impl Carrier {
    /// No streams yet.
    pub(crate) fn new(roads: Arc<dyn Roads>) -> Self {
        Self { roads, lines: Pool::default() }
    }

    /// Whether a node is asked before others that answer as well.
    pub(crate) fn is_near(&self, node: &NodeName) -> bool {
        self.roads.is_near(node)
    }

    /// Whether a graph fails on a node: it is asked after others that answer as well.
    pub(crate) fn is_failing(&self, graph: &GraphKey, node: &NodeName) -> bool {
        self.roads.is_failing(graph, node)
    }

    /// A stream to `node`.
    pub(crate) async fn line(&self, node: &NodeName) -> Result<Arc<Line>, LinkFailure> {
        let renewals = self.roads.renewals();
        let condition = |line: &Arc<Line>| Condition::of(line.takes_sessions(), line.renewals, renewals);
        self.lines.get(node, condition, self.dial(node)).await
    }

    /// Whether a graph can be called on `node` at a generation; waits a moment for it. It can be called there for longer by
    /// being asked for.
    pub(crate) async fn arrival(
        &self,
        node: &NodeName,
        version: &GraphVersion,
    ) -> Result<Arrival, LinkFailure> {
        let mut client = self.line(node).await?.client.clone();
        let request = wire::ArrivedRequest::from(version.clone());
        let unavailable = |message: String| LinkFailure::new(LinkReason::Unavailable, message);
        match tokio::time::timeout(ARRIVED_TIMEOUT, client.arrived(request)).await {
            Ok(Ok(answer)) => Ok(match answer.into_inner() {
                wire::ArrivedResponse { arrived: false, .. } => Arrival::Absent,
                wire::ArrivedResponse { unchecked: true, .. } => Arrival::Unchecked,
                wire::ArrivedResponse { .. } => Arrival::Whole,
            }),
            Ok(Err(status)) => Err(unavailable(status.message().to_owned())),
            Err(_) => Err(unavailable(format!("no answer within {} s", ARRIVED_TIMEOUT.as_secs()))),
        }
    }

    async fn dial(&self, node: &NodeName) -> Result<Arc<Line>, LinkFailure> {
        let unavailable = |message: String| {
            LinkFailure::new(LinkReason::Unavailable, format!("node {node} cannot be reached: {message}"))
        };
        // Before the handshake: one that shows a later certificate is made once more at worst.
        let renewals = self.roads.renewals();
        let Road { address, connector } =
            self.roads.to(node).ok_or_else(|| unavailable("its address is not known".to_owned()))?;
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| unavailable(error.to_string()))?
            .connect_timeout(DIAL_TIMEOUT)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        let (outgoing, frames) = mpsc::channel(FRAMES_WAITING_MAX);
        let greet = async {
            let connected = endpoint.connect_with_connector(connector).await;
            let channel = connected.map_err(|error| format!("{:#}", anyhow::Error::new(error)))?;
            let mut client = LinksClient::new(channel).max_decoding_message_size(FRAMES_MAX_BYTES);
            let answer = client.carry(messages(frames)).await.map_err(|status| status.message().to_owned())?;
            Ok::<_, String>((client, answer.into_inner()))
        };
        let (client, incoming) = match tokio::time::timeout(DIAL_TIMEOUT, greet).await {
            Ok(greeted) => greeted.map_err(unavailable)?,
            Err(_) => return Err(unavailable(format!("no answer within {} s", DIAL_TIMEOUT.as_secs()))),
        };
        let sessions = Arc::new(Sessions::default());
        tokio::spawn(deliver(incoming, sessions.clone(), node.clone()));
        Ok(Arc::new(Line { outgoing, sessions, next: AtomicU64::new(1), client, renewals }))
    }
}

impl Line {
    /// An id for a session.
    pub(crate) fn session(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn takes_sessions(&self) -> bool {
        let Sessions { is_lost, is_ending, .. } = &*self.sessions;
        !is_lost.load(Ordering::Acquire) && !is_ending.load(Ordering::Acquire) && !self.outgoing.is_closed()
    }

    /// Sends a call of one session, after what comes before it, and waits for its answer.
    pub(crate) async fn call(&self, session: u64, before: Option<Body>, call: Body) -> Answer {
        let (sender, answer) = oneshot::channel();
        self.sessions.wait(session, sender)?;
        let mut waiting = Waiting { sessions: &self.sessions, session, answer };
        let not_sent = || {
            LinkFailure::new(LinkReason::Unavailable, "the stream to the other node was lost before the call")
        };
        let frames = 1 + usize::from(before.is_some());
        let permits = self.outgoing.reserve_many(frames).await.map_err(|_| not_sent())?;
        for (permit, body) in permits.zip(before.into_iter().chain([call])) {
            permit.send(Frame { session, body });
        }
        (&mut waiting.answer).await.map_err(|_| lost())?
    }

    /// From now on, what comes of pipes of a session is for these. `false` if they are lost.
    pub(crate) fn attach(&self, session: u64, pipes: &Arc<Pipes>) -> bool {
        let is_whole = pipes.attach(self.outgoing.clone(), session);
        self.sessions.pipes().insert(session, pipes.clone());
        // Whoever ends the stream has said so before it looks for pipes.
        if self.sessions.is_lost.load(Ordering::Acquire) {
            pipes.lose();
        }
        is_whole
    }

    /// Says that a session's consumer is gone. Never waits: what ends an instance cannot.
    pub(crate) fn close(&self, session: u64) {
        self.sessions.pipes().remove(&session);
        let frame = Frame { session, body: Body::Closed };
        if let Err(mpsc::error::TrySendError::Full(frame)) = self.outgoing.try_send(frame) {
            let outgoing = self.outgoing.clone();
            tokio::spawn(async move { outgoing.send(frame).await });
        }
    }
}

fn lost() -> LinkFailure {
    let message = "the stream to the other node was lost; whether the call was done is not known";
    LinkFailure::new(LinkReason::Lost, message)
}

impl Sessions {
    fn wait(&self, session: u64, sender: oneshot::Sender<Answer>) -> Result<(), LinkFailure> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that whoever ends the stream sees this one or is seen.
        if self.is_lost.load(Ordering::Acquire) {
            let message = "the stream to the other node is lost";
            return Err(LinkFailure::new(LinkReason::Unavailable, message));
        }
        waiting.insert(session, sender);
        Ok(())
    }

    fn answer(&self, session: u64, answer: Answer) {
        let waits = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&session);
        // A session whose consumer is gone may still be answered.
        if let Some(waits) = waits {
            let _ = waits.send(answer);
        }
    }

    fn pipes(&self) -> MutexGuard<'_, HashMap<u64, Arc<Pipes>>> {
        self.pipes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session is over. What was not begun may be tried in another, with the same pipes.
    fn fail(&self, session: u64, failure: LinkFailure) {
        let pipes = self.pipes().remove(&session);
        if let Some(pipes) = pipes.filter(|_| !failure.reason.is_undelivered()) {
            pipes.lose();
        }
        self.answer(session, Err(failure));
    }

    fn hear(&self, session: u64, pipe: u64, piped: Piped) {
        // A session whose consumer is gone may still be told something.
        let Some(pipes) = self.pipes().get(&session).cloned() else { return };
        if let Err(why) = pipes.hear(pipe, piped) {
            pipes.lose();
            let message = format!("the provider's agent said what it must not: {why}");
            self.answer(session, Err(LinkFailure::new(LinkReason::Protocol, message)));
        }
    }

    fn lose(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_lost.store(true, Ordering::Release);
        for (_, waits) in waiting.drain() {
            let _ = waits.send(Err(lost()));
        }
        drop(waiting);
        for (_, pipes) in self.pipes().drain() {
            pipes.lose();
        }
    }
}

/// A place in the list of those who wait. Who gives up waiting leaves it, and who is answered has left it with that.
struct Waiting<'a> {
    sessions: &'a Sessions,
    session: u64,
    answer: oneshot::Receiver<Answer>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.answer.is_terminated() {
            self.sessions.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.session);
        }
    }
}

/// Gives answers to those who wait for them, until the stream ends.
async fn deliver(mut incoming: Streaming<wire::Frames>, sessions: Arc<Sessions>, node: NodeName) {
    let why = loop {
        match incoming.message().await {
            Ok(Some(message)) => {
                if let Err(why) = take(message, &sessions) {
                    break why;
                }
            }
            Ok(None) => break "the other agent ended it".to_owned(),
            Err(status) => break status.message().to_owned(),
        }
    };
    sessions.lose();
    tracing::info!(%node, %why, "a stream of links ended");
}

fn take(message: wire::Frames, sessions: &Sessions) -> Result<(), String> {
    for frame in message.frames {
        let Frame { session, body } = frame.try_into().map_err(|error| format!("a frame is wrong: {error}"))?;
        match body {
            Body::Failed(_) if session == STREAM => sessions.is_ending.store(true, Ordering::Release),
            Body::Returned(result) => sessions.answer(session, Ok(result)),
            Body::Failed(failure) => sessions.fail(session, failure),
            Body::Pipe { pipe, piped } => sessions.hear(session, pipe, piped),
            Body::Open(_) | Body::Call(_) | Body::Dropped(_) | Body::Closed => {
                return Err("a provider's agent sent a frame of consumers".to_owned());
            }
        }
    }
    Ok(())
}

/// Whatever is ready, as one message each time.
pub(crate) fn messages(frames: mpsc::Receiver<Frame>) -> impl Stream<Item = wire::Frames> + Send + 'static {
    unfold(frames, |mut frames| async move {
        let first = frames.recv().await?;
        // Whoever else can speak does so first: then all of it is one message, one record of TLS and one write.
        tokio::task::yield_now().await;
        let mut bytes = value_bytes(&first);
        let mut ready = vec![first.into()];
        while ready.len() < FRAMES_PER_MESSAGE_MAX && bytes < MESSAGE_MAX_BYTES {
            let Ok(frame) = frames.try_recv() else { break };
            bytes += value_bytes(&frame);
            ready.push(frame.into());
        }
        Some((wire::Frames { frames: ready }, frames))
    })
}

/// The bytes of the value that a frame carries; all else in it is small.
fn value_bytes(frame: &Frame) -> usize {
    match &frame.body {
        Body::Call(call) => call.arguments.len(),
        Body::Returned(result) => result.len(),
        Body::Pipe { piped: Piped::Data(bytes), .. } => bytes.len(),
        Body::Open(_) | Body::Failed(_) | Body::Dropped(_) | Body::Closed | Body::Pipe { .. } => 0,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use futures::StreamExt as _;
    use prost::Message as _;

    use super::*;

    #[tokio::test]
    async fn values_that_are_ready_together_are_more_than_one_message_if_they_are_large() {
        let (sender, ready) = mpsc::channel(FRAMES_WAITING_MAX);
        let sizes = [10, MESSAGE_MAX_BYTES, MESSAGE_MAX_BYTES, 0, 7];
        let frames = (1..).zip(sizes.into_iter().cycle().take(100));
        for (session, size) in frames.clone() {
            sender.try_send(Frame { session, body: Body::Returned(vec![1; size]) }).unwrap();
        }
        drop(sender);
        let mut came = Vec::new();
        let mut messages = std::pin::pin!(messages(ready));
        while let Some(message) = messages.next().await {
            assert!(message.encoded_len() < FRAMES_MAX_BYTES);
            came.extend(message.frames.into_iter().map(|frame| match Frame::try_from(frame).unwrap() {
                Frame { session, body: Body::Returned(value) } => (session, value.len()),
                other => panic!("{other:?}"),
            }));
        }
        assert!(came.into_iter().eq(frames), "all come, in their order");
    }
}
