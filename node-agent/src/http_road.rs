//! HTTP between agents: requests that another node answers, over HTTP/2 with the identities of both ends.
//!
//! It shares the port of the agents' API; which of the two a connection is for is settled in its handshake (ALPN). A
//! body goes on as it comes, in both directions, with its trailers. Knows nothing of routes, graphs or links.

use std::collections::HashMap;
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::HOST;
use http::uri::{Authority, Scheme};
use http::{HeaderName, HeaderValue, Method, Request, Response, Uri, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use model::id::GraphKey;
use model::name::NodeName;
use tower::Service as _;

use crate::choice::{Candidate, choose};
use crate::health::{Admission, Breaker, Open};
use crate::roads::{
    CONNECTION_WINDOW_BYTES, Condition, DIAL_TIMEOUT, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, Pool, Road, Roads,
    STREAM_WINDOW_BYTES, Tries,
};

/// The name of the protocol in a handshake: HTTP/2 that carries requests of the ingress and of links.
pub const PROTOCOL: &[u8] = b"weft-http";
/// The most bytes of a head, of requests and of answers.
pub(crate) const HEAD_MAX_BYTES: u32 = 128 << 10;
/// How long a node may take to be reached: longer than the restart of its agent, and than it takes until what was on a
/// node that is lost is on another one.
const REACH_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a head may take: the longest deadline of a graph, and some. Which one holds, the other node knows.
const HEAD_TIMEOUT: Duration = model::graph::DEADLINE_MAX.saturating_add(Duration::from_secs(5));
/// In the answer to a request that was not begun, for whatever reason: another node may do it.
const NOT_BEGUN: HeaderName = HeaderName::from_static("weft-not-begun");
/// The body of a request that is carried.
pub(crate) type RequestBody = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

/// Carries requests to other agents.
pub struct HttpRoad {
    roads: Arc<dyn Roads>,
    lines: Pool<Line, String>,
    /// One for each node that was ever asked.
    breakers: Mutex<HashMap<NodeName, Arc<Breaker>>>,
}

/// A connection, and how often the certificate had been renewed that was shown: see [`Roads::renewals`].
type Line = (http2::SendRequest<RequestBody>, u64);

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CarryError {
    /// It was not delivered.
    #[error("{0}")]
    Unreached(String),
    /// It was delivered, or may have been: whether it was handled is not known.
    #[error("{0}")]
    Lost(String),
    /// No answer came within the longest time that there is; whether it was handled is not known.
    #[error("no answer came within {} s", HEAD_TIMEOUT.as_secs())]
    Late,
    /// It cannot be carried.
    #[error("{0}")]
    Request(&'static str),
}

/// Why a request was not delivered, or not begun.
#[derive(Debug, thiserror::Error)]
enum Unsent {
    /// Nobody was reached.
    #[error("{0}")]
    NotReached(String),
    /// Nobody was asked.
    #[error("{0}")]
    Open(Open),
    /// It was not begun there, as this answer says.
    #[error("it is not begun there")]
    Refused(Box<Response<Incoming>>),
}

/// Where a request is sent.
struct Way<'a> {
    node: &'a NodeName,
    breaker: &'a Breaker,
    /// Whether another node is asked if this one does not begin it, at once or in a moment.
    may_be_elsewhere: bool,
    deadline: Instant,
}

/// Says of an answer that its request was not begun.
pub(crate) fn not_begun<B>(mut response: Response<B>) -> Response<B> {
    response.headers_mut().insert(NOT_BEGUN, HeaderValue::from_static("1"));
    response
}

/// Takes that off, and says whether it was there: a guest must not say it, and a client has no use for it.
pub(crate) fn take_not_begun<B>(response: &mut Response<B>) -> bool {
    response.headers_mut().remove(NOT_BEGUN).is_some()
}

impl HttpRoad {
    /// No connections yet.
    pub fn new(roads: Arc<dyn Roads>) -> Self {
        Self { roads, lines: Pool::default(), breakers: Mutex::default() }
    }

    /// Has one of `nodes` answer a request that names its host, or one of those that `whither` says by then: what it is for
    /// may be moved while nobody is reached. Where it `is_passing`, what a node refuses may be another's in a moment. Says which
    /// was asked last. Takes until `deadline` at the longest.
    pub(crate) async fn send(
        &self,
        nodes: &Arc<[NodeName]>,
        request: Request<RequestBody>,
        deadline: Option<Instant>,
        is_passing: bool,
        whither: impl Fn() -> Option<Arc<[NodeName]>>,
    ) -> (Option<NodeName>, Result<Response<Incoming>, CarryError>) {
        let request = match prepared(request) {
            Ok(request) => request,
            Err(why) => return (None, Err(CarryError::Request(why))),
        };
        let is_broken = Arc::new(AtomicBool::new(false));
        let (head, body) = request.into_parts();
        let broken = is_broken.clone();
        let body = body.map_err(move |error| {
            broken.store(true, Ordering::Release);
            error
        });
        let mut request = Request::from_parts(head, body.boxed_unsync());
        let mut nodes = nodes.clone();
        // Those that were not reached since the last wait, and whether all of them have been lost for long.
        let (mut asked, mut are_lost): (Vec<NodeName>, bool) = (Vec::new(), true);
        let now = Instant::now();
        let deadline = deadline.unwrap_or(now + HEAD_TIMEOUT + REACH_TIMEOUT);
        let mut tries = Tries::until(deadline.min(now + REACH_TIMEOUT));
        let mut last = CarryError::Unreached("no node has it now".to_owned());
        loop {
            if let Some((node, breaker)) = self.choose(&nodes, &asked) {
                let is_another = nodes.iter().any(|other| *other != node && !asked.contains(other));
                let may_be_elsewhere = is_another || is_passing;
                let way = Way { node: &node, breaker: &breaker, may_be_elsewhere, deadline };
                match self.deliver(way, request, &is_broken).await {
                    Ok(outcome) => return (Some(node), outcome),
                    Err((Unsent::Refused(answer), _)) if tries.are_over() => return (Some(node), Ok(*answer)),
                    Err((Unsent::Refused(_), back)) => {
                        request = back;
                        asked.push(node);
                    }
                    Err((why, back)) => {
                        request = back;
                        are_lost &= matches!(&why, Unsent::Open(open) if open.age > REACH_TIMEOUT);
                        last = CarryError::Unreached(format!("node {node}: {why}"));
                        asked.push(node);
                    }
                }
                // Another may answer at once.
                if is_another && !tries.are_over() {
                    continue;
                }
            }
            let is_new = |now: &Arc<[NodeName]>| now.iter().any(|node| !asked.contains(node));
            let is_waited_for = !are_lost || whither().as_ref().is_some_and(is_new);
            // Who has been lost for longer is not waited for, unless somebody else answers by now.
            if !is_waited_for || !tries.again().await {
                return (asked.pop(), Err(last));
            }
            nodes = whither().unwrap_or(nodes);
            asked.clear();
            // Where nobody is left, it comes to this node.
            are_lost = !nodes.is_empty();
        }
    }

    /// Those of `nodes` on which a graph does not fail, if it fails on others.
    pub(crate) fn passing(&self, graph: &GraphKey, nodes: &Arc<[NodeName]>) -> Option<Arc<[NodeName]>> {
        let passing: Arc<[NodeName]> =
            nodes.iter().filter(|node| !self.roads.is_failing(graph, node)).cloned().collect();
        (!passing.is_empty() && passing.len() < nodes.len()).then_some(passing)
    }

    /// One of `nodes` that is not among `asked`, and how it goes with it: one that may be asked, if there is any.
    fn choose(&self, nodes: &[NodeName], asked: &[NodeName]) -> Option<(NodeName, Arc<Breaker>)> {
        let left = nodes.iter().filter(|node| !asked.contains(node));
        let mut known: Vec<(&NodeName, Arc<Breaker>)> = {
            let mut breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
            left.map(|node| (node, breakers.entry(node.clone()).or_default().clone())).collect()
        };
        if known.len() > 1 {
            let now = Instant::now();
            if known.iter().any(|(_, breaker)| !breaker.is_open(now)) {
                known.retain(|(_, breaker)| !breaker.is_open(now));
            }
        }
        let is_alone = known.len() == 1;
        let candidates = known.into_iter().map(|(node, breaker)| Candidate {
            is_failing: false,
            is_near: !is_alone && self.roads.is_near(node),
            asking: breaker.asking(),
            who: (node.clone(), breaker),
        });
        choose(candidates)
    }

    /// Sends it once; it comes back where it is certain that it was not delivered.
    async fn deliver(
        &self,
        Way { node, breaker, may_be_elsewhere, deadline }: Way<'_>,
        request: Request<RequestBody>,
        is_broken: &AtomicBool,
    ) -> Result<Result<Response<Incoming>, CarryError>, (Unsent, Request<RequestBody>)> {
        let admission = match breaker.admit(Instant::now()) {
            Ok(admission) => admission,
            Err(open) => return Err((Unsent::Open(open), request)),
        };
        let failed = |admission: Admission<'_>, why: &dyn std::fmt::Display| {
            if let Some(wait) = admission.failed(Instant::now()) {
                let wait_ms = wait.as_millis();
                tracing::warn!(%node, %why, wait_ms, "no requests are passed on to a node for a while");
            }
        };
        let longest = Instant::now() + HEAD_TIMEOUT;
        let renewals = self.roads.renewals();
        let condition = |(line, made): &Line| Condition::of(!line.is_closed(), *made, renewals);
        let line = self.lines.get(node, condition, self.dial(node));
        let (mut line, _) = match tokio::time::timeout_at(deadline.into(), line).await {
            Ok(Ok(line)) => line,
            Err(_) => return Err((Unsent::NotReached("no connection in time".to_owned()), request)),
            Ok(Err(why)) => {
                failed(admission, &why);
                return Err((Unsent::NotReached(why), request));
            }
        };
        let again = may_be_elsewhere.then(|| without_body(&request)).flatten();
        let answer = tokio::time::timeout_at(deadline.into(), line.try_send_request(request)).await;
        let outcome = match answer {
            Ok(Ok(mut response)) => {
                let has_begun = !take_not_begun(&mut response);
                match again.filter(|_| !has_begun) {
                    None => Ok(response),
                    Some(again) => {
                        // The node is well: it is this graph that it does not answer for.
                        admission.answered();
                        return Err((Unsent::Refused(Box::new(response)), again));
                    }
                }
            }
            Ok(Err(mut unsent)) => match unsent.take_message() {
                Some(back) => {
                    let why = explained(unsent.into_error());
                    failed(admission, &why);
                    return Err((Unsent::NotReached(why), back));
                }
                // What the sender of a body does not finish says nothing of the node.
                None if is_broken.load(Ordering::Acquire) => Err(CarryError::Request("its body broke off")),
                None => Err(CarryError::Lost(explained(unsent.into_error()))),
            },
            // A short deadline is its caller's, and says nothing of the node.
            Err(_) if deadline < longest => return Ok(Err(CarryError::Late)),
            Err(_) => Err(CarryError::Late),
        };
        match &outcome {
            Ok(_) | Err(CarryError::Request(_)) => {
                if admission.answered() {
                    tracing::info!(%node, "requests are passed on to a node again: it answers");
                }
            }
            Err(why) => failed(admission, why),
        }
        Ok(outcome)
    }

    async fn dial(&self, node: &NodeName) -> Result<Line, String> {
        let renewals = self.roads.renewals();
        let Road { address, connector } =
            self.roads.to(node).ok_or_else(|| "its address is not known".to_owned())?;
        let uri: Uri = format!("http://{address}").parse().map_err(|error| format!("{address}: {error}"))?;
        let greet = async {
            let connection =
                connector.with_protocols(&[PROTOCOL]).call(uri).await.map_err(|error| error.to_string())?;
            http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .keep_alive_interval(KEEPALIVE_INTERVAL)
                .keep_alive_timeout(KEEPALIVE_TIMEOUT)
                .keep_alive_while_idle(true)
                .initial_stream_window_size(STREAM_WINDOW_BYTES)
                .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                .max_header_list_size(HEAD_MAX_BYTES)
                .handshake(connection)
                .await
                .map_err(explained)
        };
        let late = |_| format!("no answer within {} s", DIAL_TIMEOUT.as_secs());
        let (line, connection) = tokio::time::timeout(DIAL_TIMEOUT, greet).await.map_err(late)??;
        let node = node.clone();
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::info!(%node, why = %explained(error), "a connection for HTTP ended");
            }
        });
        Ok((line, renewals))
    }
}

/// The same request, if it has no body: one that has is given away with it.
fn without_body(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    if !request.body().is_end_stream() {
        return None;
    }
    let mut again = Request::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *again.method_mut() = request.method().clone();
    *again.uri_mut() = request.uri().clone();
    *again.version_mut() = request.version();
    *again.headers_mut() = request.headers().clone();
    Some(again)
}

/// The request as HTTP/2 has it: its host in the target. What is of the connection it came by is off already.
fn prepared(mut request: Request<RequestBody>) -> Result<Request<RequestBody>, &'static str> {
    if request.method() == Method::CONNECT {
        return Err("requests with the method CONNECT are not carried to other nodes");
    }
    let authority = match request.uri().authority() {
        Some(authority) => authority.clone(),
        None => {
            let host = request.headers().get(HOST).ok_or("the request names no host")?;
            Authority::try_from(host.as_bytes()).map_err(|_| "its header `host` is not a host")?
        }
    };
    let mut target = std::mem::take(request.uri_mut()).into_parts();
    target.scheme = Some(Scheme::HTTP);
    target.authority = Some(authority);
    *request.uri_mut() = Uri::from_parts(target).map_err(|_| "its target is not one")?;
    *request.version_mut() = Version::HTTP_2;
    request.headers_mut().remove(HOST);
    Ok(request)
}

/// The error with its causes: hyper's own words say little.
fn explained(error: hyper::Error) -> String {
    format!("{:#}", anyhow::Error::new(error))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn request(target: &str, headers: &[(&str, &str)]) -> Request<RequestBody> {
        let mut request = Request::builder().uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Empty::new().map_err(|never| match never {}).boxed_unsync()).unwrap()
    }

    #[test]
    fn the_host_of_the_target_counts_before_that_of_the_header() {
        let carried = prepared(request("http://x.example/a", &[("host", "other")])).unwrap();
        assert_eq!(carried.uri(), "http://x.example/a");
        let carried = prepared(request("/a?b=c", &[("host", "a.example:81"), ("x-stays", "2")])).unwrap();
        assert_eq!(carried.uri(), "http://a.example:81/a?b=c");
        assert_eq!((carried.version(), carried.headers().len()), (Version::HTTP_2, 1));
        assert_eq!(prepared(request("/", &[])).unwrap_err(), "the request names no host");
        assert!(prepared(request("/", &[("host", "a b")])).is_err());
        let mut connect = request("a.example:80", &[]);
        *connect.method_mut() = Method::CONNECT;
        assert!(prepared(connect).is_err());
    }
}
