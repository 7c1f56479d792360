//! HTTP from outside: takes connections, finds the graph behind a request, and hands it over, here or on its node.
//!
//! It knows nothing of what runs a component; `routes` is the table, `answer` decides who answers, this file has the
//! sockets.

mod answer;
mod routes;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue};
use http::{Request, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use self::answer::Answers;
pub use self::routes::RouteTableHandle;

/// Bounds of what clients may hold.
#[derive(Debug, Clone, Copy)]
pub struct IngressLimits {
    /// Open connections; more wait in the kernel's queue.
    pub connections: usize,
    /// Headers of one request.
    pub headers: usize,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// How long the head of a request may take to arrive.
    pub head_timeout: Duration,
    /// Requests under way on one HTTP/2 connection.
    pub streams: u32,
    /// How long connections may take to end their requests at shutdown.
    pub drain: Duration,
}

impl Default for IngressLimits {
    fn default() -> Self {
        Self {
            // A connection costs some 20 KiB and a file descriptor.
            connections: 10_000,
            headers: 100,
            head_bytes: 64 << 10,
            // Slow clients hold a connection each; a head is one or two packets.
            head_timeout: Duration::from_secs(10),
            streams: 200,
            // Longer than the usual deadline of a call, shorter than what service managers wait.
            drain: Duration::from_secs(20),
        }
    }
}

/// A bound socket that serves the graphs of the cluster.
pub struct Ingress {
    listener: TcpListener,
    address: SocketAddr,
    limits: IngressLimits,
    answers: Arc<Answers>,
}

impl Ingress {
    /// Binds `address`. Nothing is answered until [`Ingress::serve`] runs.
    pub async fn bind(address: SocketAddr, limits: IngressLimits, answers: Arc<Answers>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, limits, answers })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` resolves, then until the requests under way have ended, within bounds.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) {
        let graceful = GracefulShutdown::new();
        let room = Arc::new(Semaphore::new(self.limits.connections));
        let leaving = Arc::new(AtomicBool::new(false));
        self.accept_until(shutdown, &room, &graceful, &leaving).await;
        // A connection that is closed while the next request is on its way loses it. So clients are told first: each
        // answer from now on is the last of its connection. Only connections without a request are closed then.
        leaving.store(true, Ordering::Release);
        self.accept_until(tokio::time::sleep(LEAVING), &room, &graceful, &leaving).await;
        drop(self.listener);
        if tokio::time::timeout(self.limits.drain, graceful.shutdown()).await.is_err() {
            tracing::warn!(
                "requests were still under way at the end of the drain time; their connections are cut"
            );
        }
    }

    async fn accept_until(
        &self,
        end: impl Future<Output = ()>,
        room: &Arc<Semaphore>,
        graceful: &GracefulShutdown,
        leaving: &Arc<AtomicBool>,
    ) {
        let mut end = std::pin::pin!(end);
        loop {
            // Both are cancel safe: no connection is taken without room for it.
            let accepted = tokio::select! {
                biased;
                () = &mut end => break,
                accepted = accept(&self.listener, room.clone()) => accepted,
            };
            match accepted {
                Ok((stream, place)) => self.connection(stream, place, graceful, leaving.clone()),
                Err(error) => {
                    // Out of file descriptors, or a connection that ended in the queue: others may work.
                    tracing::warn!(%error, "a connection cannot be taken");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn connection(
        &self,
        stream: TcpStream,
        place: OwnedSemaphorePermit,
        graceful: &GracefulShutdown,
        leaving: Arc<AtomicBool>,
    ) {
        // Responses are written whole; waiting for more would only delay them.
        let _ = stream.set_nodelay(true);
        // One count of each for the connection, so that requests of different connections touch no common memory.
        let shared = Arc::new((self.answers.clone(), leaving));
        let service = service_fn(move |request: Request<Incoming>| {
            let shared = shared.clone();
            async move {
                let (answers, leaving) = &*shared;
                // HTTP/2 says it by itself, and has no such header.
                let has_header = request.version() < Version::HTTP_2;
                let mut response = answers.answer(request).await;
                if has_header && leaving.load(Ordering::Acquire) {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        let limits = self.limits;
        let mut server = auto::Builder::new(TokioExecutor::new());
        server
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_timeout)
            .max_headers(limits.headers)
            .max_buf_size(limits.head_bytes)
            .keep_alive(true);
        server
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams)
            .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE);
        let connection = server.serve_connection(TokioIo::new(stream), service).into_owned();
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                // Clients go away and send nonsense; neither is the node's concern.
                tracing::debug!(%error, "a connection ended with an error");
            }
            drop(place);
        });
    }
}

/// How long to wait after a failed accept; usually file descriptors are short, and come back as requests end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long clients are told that their connections end before idle ones are closed: busy clients have had an answer
/// by then.
const LEAVING: Duration = Duration::from_millis(250);
/// How often a silent HTTP/2 client is asked whether it is there, and how long it may take to say so.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

async fn accept(listener: &TcpListener, room: Arc<Semaphore>) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = room.acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}
