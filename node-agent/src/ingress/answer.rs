//! Who answers a request, and what is said where nobody does.

use std::sync::Arc;

use http::header::{
    CONNECTION, CONTENT_TYPE, HOST, HeaderName, HeaderValue, RETRY_AFTER, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use model::id::RevisionNumber;
use model::name::NodeName;
use model::route::HttpRoute;

use crate::host::{Body, Caller, Reach};
use crate::http_road::{CarryError, HttpRoad, not_begun, take_not_begun};
use crate::ingress::routes::{Placed, RouteTableHandle, Target};
use crate::lease::{ISOLATED, Lease};
use crate::traces::{Answering, Trace, Traces};
use crate::traffic::Counted;

/// Headers of this prefix are Weft's own; a client's are taken off.
const OWN_HEADER_PREFIX: &str = "weft-";

/// In a request that is carried to another node: the revision of the candidate that it was drawn for.
const CANDIDATE: HeaderName = HeaderName::from_static("weft-candidate");

/// Headers between the two ends of one connection (RFC 9110 §7.6.1), besides those that `connection` names.
const OF_ONE_CONNECTION: [HeaderName; 6] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Answers requests.
pub struct Answers {
    routes: RouteTableHandle,
    traces: Traces,
    road: Arc<HttpRoad>,
    reach: Reach,
    lease: Lease,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asker {
    /// A client, of this node's ingress.
    Client,
    /// The ingress of another node, which found that this one answers. Nothing is passed on twice, so nothing goes in
    /// a circle while nodes know different routes.
    Node,
}

impl Answers {
    /// By these routes; requests for other nodes go by `road`, and those over links are for what can be reached.
    pub const fn new(
        routes: RouteTableHandle,
        traces: Traces,
        road: Arc<HttpRoad>,
        reach: Reach,
        lease: Lease,
    ) -> Self {
        Self { routes, traces, road, reach, lease }
    }

    /// Answers a client.
    pub(crate) async fn answer(&self, mut request: Request<Incoming>) -> Response<Body> {
        strip_own_headers(&mut request);
        strip_of_one_connection(request.headers_mut());
        let mut response = self.answer_to(Asker::Client, request).await;
        take_not_begun(&mut response);
        response
    }

    /// Answers a request that another node carries here: of its ingress, or over a link.
    pub(crate) async fn answer_node(&self, caller: &Caller, request: Request<Incoming>) -> Response<Body> {
        match self.reach.request(caller, request).await {
            Ok(response) => response,
            Err(request) => self.answer_to(Asker::Node, request).await,
        }
    }

    async fn answer_to(&self, asker: Asker, mut request: Request<Incoming>) -> Response<Body> {
        let candidate = request.headers_mut().remove(CANDIDATE);
        let (host, path) = (host_of(&request), request.uri().path());
        let found = match asker {
            Asker::Client => self.routes.find(host, path),
            Asker::Node => {
                let candidate = candidate.and_then(|revision| revision.to_str().ok()?.parse().ok());
                self.routes.find_carried(candidate.map(RevisionNumber), host, path)
            }
        };
        let answering =
            found.as_ref().map(|found| Answering { graph: found.target.graph(), route: &found.route });
        let (mut span, trace) = self.traces.request(&mut request, answering);
        if let Some(found) = &found {
            name_host(&mut request, &found.route);
        }
        let counting = found.as_ref().and_then(|found| found.counted.clone()).map(Counted::begin);
        let response = match found.map(|found| (found.target, found.route)) {
            Some((Target::Here(running), route)) => running.handle(&route, request, trace).await,
            Some((Target::Placed(placed), route)) if asker == Asker::Node || placed.nodes.is_empty() => {
                match &placed.here {
                    Some(running) => running.clone().handle(&route, request, trace).await,
                    None if self.is_isolated(&placed) => isolated(&placed),
                    None => not_yet(&placed),
                }
            }
            Some((Target::Placed(placed), _)) => self.pass_on(&placed, request, &trace).await,
            None => not_found(host_of(&request), request.uri().path()),
        };
        if let Some(counting) = counting {
            counting.answered(response.status());
        }
        span.answered(&response);
        response.map(|body| body.within(span))
    }

    /// Whether a graph that comes to this node waits for a control plane to confirm that.
    fn is_isolated(&self, placed: &Placed) -> bool {
        !self.lease.is_held() && self.routes.stops_in_isolation(&placed.graph)
    }

    /// Has one of the nodes answer on which the graph is.
    async fn pass_on(&self, placed: &Placed, mut request: Request<Incoming>, trace: &Trace) -> Response<Body> {
        let mut span = trace.passing_on(&mut request);
        let (host, path) = (host_of(&request).map(str::to_owned), request.uri().path().to_owned());
        let whither = || self.routes.whither(placed, host.as_deref(), &path);
        if let Some(revision) = placed.candidate {
            request.headers_mut().insert(CANDIDATE, HeaderValue::from(revision.0));
        }
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        let (node, outcome) =
            self.road.send(&placed.nodes, request, None, placed.candidate.is_some(), whither).await;
        span.passed_on(node.as_ref());
        match outcome {
            Ok(response) => {
                span.answered(&response);
                response.map(|body| Body::carried(body, span))
            }
            Err(error) => {
                let node = node.as_ref().map_or("none", NodeName::as_str);
                tracing::debug!(graph = %placed.graph, %node, %error, "a request was not answered{trace}");
                let answer = unanswered(placed, &error);
                span.answered(&answer);
                answer
            }
        }
    }
}

/// Guests are promised an authority, which HTTP/1.0 need not send.
fn name_host(request: &mut Request<Incoming>, route: &HttpRoute) {
    if request.uri().authority().is_none() && !request.headers().contains_key(HOST) {
        let host = route.host.as_ref().map_or("localhost", |host| host.as_str());
        if let Ok(value) = HeaderValue::from_str(host) {
            request.headers_mut().insert(HOST, value);
        }
    }
}

/// A graph that is known and does not serve yet: a client that tries again will be served.
fn not_yet(Placed { graph, .. }: &Placed) -> Response<Body> {
    let message = format!("graph {graph} does not serve yet");
    not_begun(refuse(StatusCode::SERVICE_UNAVAILABLE, "graph_not_serving", &message))
}

/// A graph that must not serve here now: it does once a control plane has confirmed that it is to.
fn isolated(Placed { graph, .. }: &Placed) -> Response<Body> {
    not_begun(refuse(StatusCode::SERVICE_UNAVAILABLE, "isolated", &format!("graph {graph}: {ISOLATED}")))
}

/// The names of nodes are none of a client's business.
fn unanswered(Placed { graph, .. }: &Placed, error: &CarryError) -> Response<Body> {
    let unknown = "whether the request was handled is not known";
    let (status, reason, message) = match error {
        CarryError::Unreached(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "node_unreachable",
            format!("the node of graph {graph} cannot be reached now; the request was not handled"),
        ),
        CarryError::Lost(_) => (
            StatusCode::BAD_GATEWAY,
            "answer_lost",
            format!("the node of graph {graph} was lost before it answered; {unknown}"),
        ),
        CarryError::Late => (
            StatusCode::GATEWAY_TIMEOUT,
            "deadline_exceeded",
            format!("the node of graph {graph} did not answer in time; {unknown}"),
        ),
        CarryError::Request(why) => {
            (StatusCode::BAD_REQUEST, "request_not_carried", format!("graph {graph} is on another node: {why}"))
        }
    };
    refuse(status, reason, &message)
}

fn refuse(status: StatusCode, reason: &str, message: &str) -> Response<Body> {
    let text = serde_json::json!({"error": reason, "message": message});
    let mut response = Response::new(Body::text(format!("{text}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // Only what was not handled may be sent again by those who do not know what it does.
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
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
    let own: Vec<HeaderName> =
        request.headers().keys().filter(|name| name.as_str().starts_with(OWN_HEADER_PREFIX)).cloned().collect();
    for name in own {
        request.headers_mut().remove(name);
    }
}

fn strip_of_one_connection(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&OF_ONE_CONNECTION) {
        headers.remove(name);
    }
}

fn not_found(host: Option<&str>, path: &str) -> Response<Body> {
    /// A path is the client's and may be long.
    const SHOWN: usize = 200;
    let path: String = path.chars().take(SHOWN).collect();
    let host: String = host.unwrap_or("(none)").chars().take(SHOWN).collect();
    let text = format!(
        "no route: no graph serves host `{host}` and path `{path}`\n\
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
        assert_eq!(request.headers().keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["weftless"]);
    }

    #[test]
    fn what_is_of_a_connection_ends_with_it() {
        let mut headers = HeaderMap::new();
        let sent = [
            ("connection", "close, X-Of-This-Hop"),
            ("x-of-this-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("trailer", "x-sum"),
            ("x-stays", "2"),
        ];
        for (name, value) in sent {
            headers.append(name, HeaderValue::from_static(value));
        }
        strip_of_one_connection(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["trailer", "x-stays"]);
    }
}
