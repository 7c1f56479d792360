//! HTTP from outside: takes connections, finds the graph behind a request, and hands it over.
//!
//! It knows nothing of what runs a component; `routes` is the table, this file the sockets.

mod routes;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER};
use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use self::routes::RouteTableHandle;
use self::routes::Unanswered;
use crate::assigned::Assigned;
use crate::host::Body;
use crate::traces::{Answering, Traces};

/// Headers of this prefix are Weft's own; a client's are taken off.
const OWN_HEADER_PREFIX: &str = "weft-";

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

/// A bound socket that serves the graphs of this node.
pub struct Ingress {
    listener: TcpListener,
    address: SocketAddr,
    limits: IngressLimits,
    routes: RouteTableHandle,
    traces: Traces,
}

impl Ingress {
    /// Binds `address`. Nothing is answered until [`Ingress::serve`] runs.
    pub async fn bind(
        address: SocketAddr,
        limits: IngressLimits,
        assigned: Assigned,
        traces: Traces,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, limits, routes: RouteTableHandle::new(assigned), traces })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The table that decides what answers; replace it at any time.
    pub fn routes(&self) -> RouteTableHandle {
        self.routes.clone()
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
        let shared = Arc::new((self.routes.clone(), self.traces.clone(), leaving));
        let service = service_fn(move |request: Request<Incoming>| {
            let shared = shared.clone();
            async move {
                let (routes, traces, leaving) = &*shared;
                // HTTP/2 says it by itself, and has no such header.
                let has_header = request.version() < Version::HTTP_2;
                let mut response = answer(routes, traces, request).await;
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

async fn answer(routes: &RouteTableHandle, traces: &Traces, mut request: Request<Incoming>) -> Response<Body> {
    strip_own_headers(&mut request);
    let found = routes.find(host_of(&request), request.uri().path());
    let answering = found.as_ref().map(|(running, route)| Answering { graph: running.key(), route });
    let (mut span, trace) = traces.request(&mut request, answering);
    let response = match found {
        Some((running, route)) => running.handle(&route, request, trace).await,
        None => match routes.unanswered(host_of(&request), request.uri().path()) {
            Some(unanswered) => not_yet(&unanswered),
            None => not_found(host_of(&request), request.uri().path()),
        },
    };
    span.answered(&response);
    response.map(|body| body.within(span))
}

/// The host a request is for: of its target if that is absolute (RFC 9112 §3.2.2), else of its header; without port.
fn host_of<B>(request: &Request<B>) -> Option<&str> {
    let authority = match request.uri().authority() {
        Some(authority) => authority.as_str(),
        None => request.headers().get(HOST)?.to_str().ok()?,
    };
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if authority.starts_with('[') {
        return authority.split_inclusive(']').next();
    }
    let host = authority.split(':').next()?;
    Some(host.strip_suffix('.').unwrap_or(host))
}

fn strip_own_headers<B>(request: &mut Request<B>) {
    let own: Vec<http::HeaderName> =
        request.headers().keys().filter(|name| name.as_str().starts_with(OWN_HEADER_PREFIX)).cloned().collect();
    for name in own {
        request.headers_mut().remove(name);
    }
}

/// A route that is known and not answered: a client that tries again, here or elsewhere, will be served.
fn not_yet(unanswered: &Unanswered) -> Response<Body> {
    let Unanswered { graph, elsewhere } = unanswered;
    let (status, reason, message) = match elsewhere {
        None => (
            StatusCode::SERVICE_UNAVAILABLE,
            "graph_not_serving",
            format!("graph {graph} is assigned to this node and does not serve yet"),
        ),
        Some(node) => (
            StatusCode::MISDIRECTED_REQUEST,
            "graph_not_here",
            format!("requests of graph {graph} are answered on node {node}"),
        ),
    };
    let text = serde_json::json!({"error": reason, "message": message});
    let mut response = Response::new(Body::text(format!("{text}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if elsewhere.is_none() {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn not_found(host: Option<&str>, path: &str) -> Response<Body> {
    /// A path is the client's and may be long.
    const SHOWN: usize = 200;
    let path: String = path.chars().take(SHOWN).collect();
    let host: String = host.unwrap_or("(none)").chars().take(SHOWN).collect();
    let text = format!(
        "no route: no graph on this node serves host `{host}` and path `{path}`\n\
         hint: `ctl list` shows the graphs, `ctl status GRAPH` the hosts and paths of one\n"
    );
    let mut response = Response::new(Body::text(text));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_the_targets_or_the_headers() {
        let cases = [
            ("/a", Some("Example.com:80"), Some("Example.com")),
            ("http://x.example:81/a", Some("other"), Some("x.example")),
            ("/a", None, None),
            ("/a", Some("[::1]:80"), Some("[::1]")),
            ("/a", Some("example.com."), Some("example.com")),
        ];
        for (target, header, expected) in cases {
            let mut request = Request::builder().uri(target);
            if let Some(header) = header {
                request = request.header(HOST, header);
            }
            let request = request.body(()).unwrap();
            assert_eq!(host_of(&request), expected, "{target} {header:?}");
        }
    }

    #[test]
    fn a_clients_weft_headers_are_taken_off() {
        let mut request = Request::builder()
            .header("weft-request-id", "forged")
            .header("Weft-Anything", "x")
            .header("weftless", "stays")
            .body(())
            .unwrap();
        strip_own_headers(&mut request);
        assert_eq!(request.headers().keys().map(http::HeaderName::as_str).collect::<Vec<_>>(), ["weftless"]);
    }
}
