//! Links to HTTP handlers on other nodes: the import `wasi:http/incoming-handler` of a slice, whose every call is one
//! request that goes to another node with its body, and one answer that comes back with its own.
//!
//! Whoever calls a handler gives its request and its answer away, so the answer goes on to the client as it comes, and
//! the caller is told nothing of it: not that it failed, either. What failed is answered as the ingress would.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, Uri};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use model::digest::Digest;
use model::link::{Binding, Body, Call, Frame as LinkFrame, GraphVersion, LinkFailure, LinkReason, Open};
use model::log::Level;
use prost::Message as _;
use proto::weft::link::v1 as wire;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::p2::{InputStream as _, Pollable as _, StreamError};
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::bindings::http::types::HostIncomingRequest as _;
use wasmtime_wasi_http::p2::body::{
    HostFutureTrailers, HostIncomingBody, HostIncomingBodyStream, HyperOutgoingBody,
};
use wasmtime_wasi_http::p2::types::{HostIncomingRequest, HostResponseOutparam};

use crate::host::fuse::Slot;
use crate::host::remote::There;
use crate::host::request::Refusal;
use crate::host::state::State;
use crate::http_road::{CarryError, HttpRoad, RequestBody};
use crate::traces::Over;

/// In a request over a link: the frames that open a session and call, as hex.
pub(crate) const LINK: HeaderName = HeaderName::from_static("weft-link");
/// In its answer, where there is none of the provider's: the frame that says why.
pub(crate) const LINK_FAILED: HeaderName = HeaderName::from_static("weft-link-failed");
/// In a request whose body its caller has taken already: the provider finds none.
pub(crate) const BODY_TAKEN: HeaderName = HeaderName::from_static("weft-body-taken");
/// The function.
pub(crate) const HANDLE: &str = "handle";
/// The number of the session in a request, of which it is the only one.
const SESSION: u64 = 1;
/// How much of a body is sent at one time.
const CHUNK_BYTES: usize = 64 << 10;

/// A handler on another node.
struct HttpLink {
    open: Open,
    there: There,
    road: Arc<HttpRoad>,
    /// For people: `guard -> app, handle of wasi:http/incoming-handler@0.2.0, on node n2`.
    label: String,
}

/// Fills the slot `name`, whose provider is `there`, for a graph at `version`.
pub(crate) fn offer(
    linker: &mut Linker<State>,
    name: &str,
    slot: &Slot,
    there: &There,
    version: &GraphVersion,
    road: &Arc<HttpRoad>,
) -> wasmtime::Result<()> {
    let function = Binding {
        interface: slot.interface.clone(),
        function: HANDLE.to_owned(),
        // Of HTTP there is one form, and its resources are the host's.
        digest: Digest::from_bytes([0; 32]),
    };
    let open = Open {
        version: version.clone(),
        from: slot.component.clone(),
        to: there.to.clone(),
        request: String::new(),
        trace_state: None,
        functions: vec![function],
    };
    let label = format!("{} -> {}, {HANDLE} of {}, {}", open.from, open.to, slot.interface, there.place());
    let link = Arc::new(HttpLink { open, there: there.clone(), road: road.clone(), label });
    type Arguments = (Resource<HostIncomingRequest>, Resource<HostResponseOutparam>);
    linker.instance(name)?.func_wrap_async(
        HANDLE,
        move |mut store: StoreContextMut<'_, State>, (request, out): Arguments| {
            let link = link.clone();
            Box::new(async move { link.handle(store.data_mut(), request, out).await })
        },
    )
}

impl HttpLink {
    async fn handle(
        &self,
        state: &mut State,
        request: Resource<HostIncomingRequest>,
        out: Resource<HostResponseOutparam>,
    ) -> wasmtime::Result<()> {
        let mut request = taken(state, request)?;
        let out = state.table.delete(out)?;
        let call = state.call.clone();
        let mut span = call.trace.calling(|| {
            let There { to, nodes, .. } = &self.there;
            let node = nodes.first()?;
            let Open { from, functions, .. } = &self.open;
            let interface = &functions.first()?.interface;
            Some(Over { graph: call.log.graph(), from, to, node, interface, function: HANDLE })
        });
        let now = Instant::now();
        let longest = self.there.terms.timeout.unwrap_or(Duration::MAX);
        let left = call.deadline.saturating_duration_since(now).min(longest);
        let trace = span.trace();
        let open = Open {
            request: call.request.to_string(),
            trace_state: trace.state().cloned(),
            ..self.open.clone()
        };
        let asked = Call {
            function: 0,
            arguments: Vec::new(),
            deadline_us: u64::try_from(left.as_micros()).unwrap_or(u64::MAX),
            trace: trace.carried(),
        };
        let frames = encode([Body::Open(Box::new(open)), Body::Call(asked)]);
        request.headers_mut().insert(LINK, http::HeaderValue::try_from(frames)?);
        let all = &self.there.nodes;
        let passing = self.road.passing(&self.open.version.graph, all);
        // Where none of those is reached, the others are asked.
        let whither = || passing.as_ref().map(|_| all.clone());
        let nodes = passing.as_ref().unwrap_or(all);
        let (node, sent) = self.road.send(nodes, request, Some(now + left), false, whither).await;
        node.iter().for_each(|node| span.node(node));
        let outcome = match sent {
            Err(error) => Err(unanswered(error)),
            Ok(mut response) => match response.headers_mut().remove(LINK_FAILED) {
                None => Ok(response),
                Some(failed) => Err(failure(&failed)),
            },
        };
        let response = match span.ended(outcome) {
            Ok(response) => response.map(|body| body.map_err(Into::into).boxed_unsync()),
            Err(failure) => {
                let message = format!("the link {} failed{}: {failure}", self.label, span.trace());
                call.log.agent(Some(&self.open.from), Some(&call.request), Level::Error, &message);
                Refusal::of_link(&failure).response(&call.request).map(whole)
            }
        };
        (out.send)(Ok(response));
        Ok(())
    }
}

/// The body of an answer of the agent's own.
fn whole(body: crate::host::Body) -> HyperOutgoingBody {
    let unfinished = |_| wasmtime_wasi_http::Error::HttpResponseIncomplete;
    body.map_err(unfinished).boxed_unsync()
}

fn unanswered(error: CarryError) -> LinkFailure {
    let reason = match &error {
        CarryError::Unreached(_) => LinkReason::Unavailable,
        CarryError::Lost(_) => LinkReason::Lost,
        CarryError::Late => {
            return LinkFailure::new(LinkReason::Deadline, "the provider did not answer in time");
        }
        CarryError::Request(_) => LinkReason::Protocol,
    };
    LinkFailure::new(reason, error.to_string())
}

/// Takes a request out of the instance that gives it away.
fn taken(
    state: &mut State,
    request: Resource<HostIncomingRequest>,
) -> wasmtime::Result<http::Request<RequestBody>> {
    let rep = request.rep();
    let named = || Resource::new_borrow(rep);
    let mut http = state.http();
    let method = http.method(named())?;
    let target = http.path_with_query(named())?;
    let authority = http.authority(named())?;
    let fields = http.headers(named())?;
    let headers: HeaderMap = state.table.delete(fields)?.into();
    let body = state.table.delete(request)?.body;

    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = authority.map(Authority::try_from).transpose()?;
    uri.path_and_query = Some(PathAndQuery::try_from(target.unwrap_or_else(|| "/".to_owned()))?);
    let (carried, is_taken) = match body {
        Some(body) => (carried(body), false),
        None => (http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync(), true),
    };
    let mut request = http::Request::new(carried);
    *request.method_mut() = method.try_into()?;
    *request.uri_mut() = Uri::from_parts(uri)?;
    *request.headers_mut() = headers;
    if is_taken {
        request.headers_mut().insert(BODY_TAKEN, http::HeaderValue::from_static("1"));
    }
    Ok(request)
}

/// What is left to send of a body.
enum Rest {
    Data(HostIncomingBodyStream, HostIncomingBody),
    Trailers(HostIncomingBody),
    Nothing,
}

/// A body as it comes, with its trailers.
fn carried(mut body: HostIncomingBody) -> RequestBody {
    let rest = match body.take_stream() {
        Some(stream) => Rest::Data(stream, body),
        None => Rest::Nothing,
    };
    let frames = stream::unfold(rest, |mut rest| async move {
        loop {
            rest = match rest {
                Rest::Data(mut stream, body) => {
                    stream.ready().await;
                    match stream.read(CHUNK_BYTES) {
                        Ok(bytes) if bytes.is_empty() => Rest::Data(stream, body),
                        Ok(bytes) => return Some((Ok(Frame::data(bytes)), Rest::Data(stream, body))),
                        Err(StreamError::Closed) => Rest::Trailers(body),
                        Err(error) => return Some((Err(error.to_string().into()), Rest::Nothing)),
                    }
                }
                Rest::Trailers(body) => {
                    let mut trailers = body.into_future_trailers();
                    trailers.ready().await;
                    match trailers {
                        HostFutureTrailers::Done(Ok(Some(trailers))) => {
                            return Some((Ok(Frame::trailers(trailers)), Rest::Nothing));
                        }
                        HostFutureTrailers::Done(Err(error)) => {
                            return Some((Err(format!("{error:?}").into()), Rest::Nothing));
                        }
                        _ => return None,
                    }
                }
                Rest::Nothing => return None,
            };
        }
    });
    StreamBody::new(frames).boxed_unsync()
}

/// Frames as the value of a header.
pub(crate) fn encode(bodies: impl IntoIterator<Item = Body>) -> String {
    let frames = bodies.into_iter().map(|body| LinkFrame { session: SESSION, body }.into()).collect();
    hex::encode(wire::Frames { frames }.encode_to_vec())
}

/// The frames in a header, or what is wrong with them.
pub(crate) fn decode(value: &http::HeaderValue) -> Result<Vec<Body>, String> {
    let bytes = hex::decode(value.as_bytes()).map_err(|error| error.to_string())?;
    let frames = wire::Frames::decode(&bytes[..]).map_err(|error| error.to_string())?;
    let bodies = frames.frames.into_iter().map(|frame| LinkFrame::try_from(frame).map(|frame| frame.body));
    bodies.collect::<Result<_, _>>().map_err(|error| error.to_string())
}

fn failure(value: &http::HeaderValue) -> LinkFailure {
    match decode(value).map(|bodies| bodies.into_iter().next()) {
        Ok(Some(Body::Failed(failure))) => failure,
        Ok(_) => LinkFailure::new(LinkReason::Protocol, "the provider's agent did not say why it failed"),
        Err(error) => LinkFailure::new(LinkReason::Protocol, format!("the answer is wrong: {error}")),
    }
}
