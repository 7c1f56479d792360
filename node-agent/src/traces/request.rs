//! The span of a request at the ingress, and the headers that say where it stands.

use http::header::HOST;
use http::{HeaderMap, Request, Response};
use model::id::GraphKey;
use model::name::NodeName;
use model::route::HttpRoute;
use model::trace::{TRACE_STATE_MAX_BYTES, TraceContext, TraceState};
use opentelemetry::trace::SpanKind;

use crate::host::REQUEST_ID;
use crate::traces::{Span, TRACE_PARENT, TRACE_STATE, Trace, Traces, put};

/// The most bytes of a path or a host that are told: both are the client's.
const TOLD_MAX_BYTES: usize = 256;
/// The methods that are named as they are: others are the client's words, and could be any number.
const METHODS: [&str; 9] = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];

/// What answers a request.
pub(crate) struct Answering<'a> {
    pub(crate) graph: &'a GraphKey,
    pub(crate) route: &'a HttpRoute,
}

impl Traces {
    /// Begins what is done for a request: the client's trace goes on, or another begins; the guest is told by the
    /// request's headers.
    pub(crate) fn request<B>(
        &self,
        request: &mut Request<B>,
        answering: Option<Answering<'_>>,
    ) -> (Span, Trace) {
        let parent = parent(request.headers());
        let state = parent.and_then(|_| state(request.headers()));
        let is_unwanted = parent.is_some_and(|parent| !parent.flags.is_sampled());
        if self.on.is_none() || is_unwanted {
            // As it came: whoever reads it next finds the span before this node.
            return (Span(None), self.at(parent, state));
        }
        let mut span = self.begin(SpanKind::Server, parent, state.as_ref());
        if span.is_recording() {
            describe(&mut span, request, answering);
        }
        let context = span.context();
        if let Some(context) = &context {
            put(request.headers_mut(), TRACE_PARENT, &context.to_string());
        }
        if state.is_none() {
            request.headers_mut().remove(TRACE_STATE);
        }
        (span, self.at(context, state))
    }
}

impl Trace {
    /// Begins the passing on of a request to another node, which is told by the request's headers.
    pub(crate) fn passing_on<B>(&self, request: &mut Request<B>) -> Span {
        let (Some(parent), true) = (self.carried(), self.traces.on.is_some()) else { return Span(None) };
        let span = self.traces.begin(SpanKind::Client, Some(parent), self.state.as_ref());
        if let Some(context) = span.context() {
            put(request.headers_mut(), TRACE_PARENT, &context.to_string());
        }
        span
    }
}

impl Span {
    /// It was sent to this node, if to any.
    pub(crate) fn passed_on(&mut self, node: Option<&NodeName>) {
        match node {
            Some(node) if self.is_recording() => {
                self.name(format!("pass on to {node}"));
                self.set("weft.node", node.to_string());
            }
            _ => {}
        }
    }

    /// The head of the answer is there.
    pub(crate) fn answered<B>(&mut self, response: &Response<B>) {
        if !self.is_recording() {
            return;
        }
        let status = response.status();
        self.set("http.response.status_code", i64::from(status.as_u16()));
        if let Some(id) = response.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()) {
            self.set("weft.request", id.to_owned());
        }
        // What a client did wrong is no failure of a server.
        if status.is_server_error() {
            self.failed(status.as_str().to_owned(), String::new());
        }
    }
}

/// The client's place in its trace. Two of them are none: which is meant is not known.
fn parent(headers: &HeaderMap) -> Option<TraceContext> {
    let mut values = headers.get_all(TRACE_PARENT).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok()?.parse().ok(),
        _ => None,
    }
}

fn state(headers: &HeaderMap) -> Option<TraceState> {
    let mut joined = String::new();
    for value in headers.get_all(TRACE_STATE) {
        if joined.len() + value.len() > TRACE_STATE_MAX_BYTES {
            return None;
        }
        if !joined.is_empty() {
            joined.push(',');
        }
        joined.push_str(value.to_str().ok()?);
    }
    joined.parse().ok()
}

fn describe<B>(span: &mut Span, request: &Request<B>, answering: Option<Answering<'_>>) {
    let asked = request.method().as_str();
    let method = METHODS.into_iter().find(|method| *method == asked);
    span.set("http.request.method", method.unwrap_or("_OTHER"));
    span.set("url.scheme", "http");
    span.set("url.path", told(request.uri().path()));
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    if let Some(host) = request.uri().authority().map(http::uri::Authority::as_str).or(host) {
        span.set("server.address", told(host));
    }
    let method = method.unwrap_or("HTTP");
    match answering {
        None => span.name(method.to_owned()),
        Some(Answering { graph, route }) => {
            span.name(format!("{method} {}", route.path.as_str()));
            span.set("http.route", route.path.as_str().to_owned());
            span.set("weft.graph", graph.to_string());
            span.set("weft.component", route.to.to_string());
        }
    }
}

fn told(text: &str) -> String {
    text[..text.floor_char_boundary(TOLD_MAX_BYTES)].to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(of: &[(&'static str, &str)]) -> HeaderMap {
        of.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn one_parent_counts_and_two_are_none() {
        let read = |of: &[(&'static str, &str)]| parent(&headers(of)).map(|context| context.to_string());
        assert_eq!(read(&[("traceparent", VALID)]).as_deref(), Some(VALID));
        assert_eq!(read(&[("TraceParent", VALID)]).as_deref(), Some(VALID));
        assert_eq!(read(&[("traceparent", VALID), ("traceparent", VALID)]), None);
        assert_eq!(read(&[("trace-parent", VALID)]), None);
        assert_eq!(read(&[]), None);
    }

    #[test]
    fn states_of_several_headers_are_one_in_their_order() {
        let read = |of: &[(&'static str, &str)]| state(&headers(of)).map(|state| state.as_str().to_owned());
        assert_eq!(read(&[("tracestate", "a=1,b=2"), ("tracestate", "c=3")]).as_deref(), Some("a=1,b=2,c=3"));
        assert_eq!(read(&[("tracestate", "a=1"), ("tracestate", "a=2")]), None);
        let long = format!("a={}", "v".repeat(200));
        assert_eq!(read(&[("tracestate", long.as_str()); 3]), None);
        assert_eq!(read(&[("tracestate", "")]), None);
        assert_eq!(read(&[]), None);
    }

    #[test]
    fn without_a_collector_a_request_stays_as_it_is_and_its_trace_goes_on() {
        let headers = headers(&[("traceparent", VALID), ("tracestate", "a=1")]);
        let mut request = Request::new(());
        *request.headers_mut() = headers.clone();
        let (span, trace) = Traces::default().request(&mut request, None);
        assert!(span.context().is_none());
        assert_eq!(*request.headers(), headers);
        assert_eq!(trace.carried().unwrap().to_string(), VALID);
        assert_eq!(trace.to_string(), " (trace 4bf92f3577b34da6a3ce929d0e0e4736)");
        let mut outgoing = HeaderMap::new();
        trace.tell(&mut outgoing);
        assert_eq!(outgoing, headers);
        // The guest's own word counts.
        let mut own = self::headers(&[("traceparent", "x")]);
        trace.tell(&mut own);
        assert_eq!(own, self::headers(&[("traceparent", "x")]));

        *request.headers_mut() = HeaderMap::new();
        let (_, trace) = Traces::default().request(&mut request, None);
        assert!(request.headers().is_empty() && trace.carried().is_none() && trace.to_string().is_empty());
    }
}
