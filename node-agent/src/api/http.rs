//! HTTP that other agents carry here, on the port of the API.

use std::convert::Infallible;
use std::sync::Arc;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trust::{Connection, Role};

use super::{KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT, RENEWAL_NOTICE};
use crate::host::Caller;
use crate::http_road::{HEAD_MAX_BYTES, PROTOCOL};
use crate::ingress::Answers;
use crate::roads;

/// Connections at one time: a few of each node.
const CONNECTIONS_MAX: usize = 10_000;
/// Requests under way on one connection; more wait on the node that sends them.
const STREAMS_MAX: u32 = 1_000;

/// Answers them.
pub(super) struct FromNodes {
    answers: Arc<Answers>,
    room: Arc<Semaphore>,
    connections: TaskTracker,
    stop: CancellationToken,
}

impl FromNodes {
    /// Nothing is open yet. After `stop`, connections end with the requests under way.
    pub(super) fn new(answers: Arc<Answers>, stop: CancellationToken) -> Self {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Self { answers, room, connections: TaskTracker::new(), stop }
    }

    /// Keeps a connection that carries HTTP, and gives back one that does not.
    pub(super) fn take(&self, connection: Connection) -> Option<Connection> {
        if connection.protocol() != Some(PROTOCOL) {
            return Some(connection);
        }
        let peer = connection.peer().clone();
        let Some(id) = peer.id.as_ref().filter(|id| id.role() == Role::Node) else {
            tracing::info!(?peer, "HTTP is carried for nodes alone; the connection is cut");
            return None;
        };
        let caller = Caller { id: id.uid().clone(), until: peer.certificate_ends };
        let Ok(place) = self.room.clone().try_acquire_owned() else {
            tracing::warn!(?peer, "there is no room for one more connection that carries HTTP; it is cut");
            return None;
        };
        let (answers, stop) = (self.answers.clone(), self.stop.clone());
        self.connections.spawn(async move {
            serve(connection, caller, answers, stop).await;
            drop(place);
        });
        None
    }

    /// Waits until all connections have ended, after the stop.
    pub(super) async fn ended(&self) {
        self.connections.close();
        self.connections.wait().await;
    }
}

async fn serve(connection: Connection, caller: Caller, answers: Arc<Answers>, stop: CancellationToken) {
    let left = caller.granted_for().saturating_sub(RENEWAL_NOTICE);
    let shared = Arc::new((answers, caller));
    let service = service_fn(move |request: Request<Incoming>| {
        let shared = shared.clone();
        async move {
            let (answers, caller) = &*shared;
            Ok::<_, Infallible>(answers.answer_node(caller, request).await)
        }
    });
    let serving = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_MAX_BYTES)
        .initial_stream_window_size(roads::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(roads::CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .serve_connection(TokioIo::new(connection), service);
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => ended,
        // Nothing new comes by one whose certificate ends.
        _ = tokio::time::timeout(left, stop.cancelled()) => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection that carried HTTP ended");
    }
}
