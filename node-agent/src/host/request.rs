//! One HTTP request through one instance.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{HeaderName, StatusCode};
use hyper::body::Incoming;
use model::link::{self, Call as LinkCall, LinkFailure, LinkReason, Open};
use model::log::Level;
use model::name::{ComponentName, NodeName};
use model::route::HttpRoute;
use tokio::sync::{Semaphore, oneshot};
use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::body::{HostOutgoingBody, HyperOutgoingBody, StreamContext};
use wasmtime_wasi_http::p2::types::{HostIncomingRequest, HostResponseOutparam};

use crate::calls::UnderWay;
use crate::host::Room;
use crate::host::body::{self, Body, GuestBody};
use crate::host::http_link;
use crate::host::instance::{CallError, Prepared, until};
use crate::host::running::{Pass, Running};
use crate::host::state::Call;
use crate::http_road::{not_begun, take_not_begun};
use crate::lease::{ISOLATED, Isolated, Lease};
use crate::traces::{Over, Trace};

/// Carries the request's id to the client; `ctl logs --request` takes it.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("weft-request-id");

/// How long a request waits for room in the pool.
const ROOM_TIMEOUT: Duration = Duration::from_secs(1);

/// What is asked of a component by one request.
struct Asked<'a> {
    to: &'a ComponentName,
    id: &'a Arc<str>,
    /// The longest that whoever asks waits; the component's own deadline ends it earlier.
    longest: Duration,
    trace: Trace,
    /// The room that there is for it, if it is less than all.
    share: Option<Arc<Semaphore>>,
}

/// The body of a request: a client's, or one of the agent's own.
pub(crate) trait RequestBody:
    hyper::body::Body<Data = Bytes, Error = hyper::Error> + Send + 'static
{
}

impl<B: hyper::body::Body<Data = Bytes, Error = hyper::Error> + Send + 'static> RequestBody for B {}

type Answer = Result<http::Response<HyperOutgoingBody>, ErrorCode>;
type Guest = Pin<Box<dyn Future<Output = Ended> + Send>>;

/// How the guest ended.
struct Ended {
    call: Result<(), CallError>,
    /// Whether it left a body unfinished, which was cut then.
    cut: bool,
}

/// What the client is told where the component gave no response.
pub(crate) enum Refusal {
    Failed,
    Deadline,
    Busy,
    NoHandler,
    /// The node is cut off, and the graph stops then: before the request was begun.
    Isolated,
    /// The same, when it was under way.
    Cut,
    /// A provider on another node could not be called, or its answer was lost.
    Link(LinkReason),
}

impl Running {
    /// Answers a request that `route` brought here and that names its host, as a part of `trace`. Always answers; why a
    /// request failed is in the log only.
    pub async fn handle(
        self: Arc<Self>,
        route: &HttpRoute,
        request: http::Request<Incoming>,
        trace: Trace,
    ) -> http::Response<Body> {
        let id = self.host.request_id();
        let pass = self.traffic.enter();
        let prepared = self.entries.get(&route.to);
        let asked = Asked { to: &route.to, id: &id, longest: Duration::MAX, trace, share: None };
        let mut response = match self.answer(prepared, asked, request, pass).await {
            Ok(mut response) => {
                take_not_begun(&mut response);
                response
            }
            Err(refusal) if refusal.is_before() => not_begun(refusal.response(&id)),
            Err(refusal) => refusal.response(&id),
        };
        if let Ok(value) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        response
    }

    /// Answers a request of a node that came over a link, which is granted. What failed is told in a header.
    pub(crate) async fn handle_link(
        &self,
        caller: NodeName,
        open: &Open,
        call: &LinkCall,
        request: http::Request<Incoming>,
    ) -> http::Response<Body> {
        let pass = self.traffic.enter();
        let trace = self.host.traces().at(call.trace, open.trace_state.clone());
        let mut span = trace.answering(|| {
            let interface = &open.functions.first()?.interface;
            let (graph, node) = (self.key(), self.plan.site().node);
            Some(Over { graph, from: &open.from, to: &open.to, node, interface, function: http_link::HANDLE })
        });
        let id = Arc::from(open.request.as_str());
        let longest = Duration::from_micros(call.deadline_us);
        let prepared = self.providers.get(&open.to).map(|provider| provider.prepared());
        let share = Some(self.host.share(caller));
        let asked = Asked { to: &open.to, id: &id, longest, trace: span.trace().clone(), share };
        let answer = self.answer(prepared, asked, request, pass).await;
        let has_begun = !answer.as_ref().is_err_and(Refusal::is_before);
        match span.ended(answer.map_err(|refusal| refusal.as_failure())) {
            Ok(mut response) => {
                // A guest says nothing in the agents' own words.
                response.headers_mut().remove(http_link::LINK_FAILED);
                take_not_begun(&mut response);
                response
            }
            Err(failure) if has_begun => link_failed(failure),
            Err(failure) => not_begun(link_failed(failure)),
        }
    }

    /// Answers a request of the agent's own, by which a component is checked, unless this node has no room for it.
    pub(crate) async fn answer_check(
        &self,
        prepared: &Arc<Prepared>,
        to: &ComponentName,
        id: &Arc<str>,
        longest: Duration,
        request: http::Request<impl RequestBody>,
    ) -> Option<http::Response<Body>> {
        let asked = Asked { to, id, longest, trace: Trace::default(), share: None };
        match self.answer(Some(prepared), asked, request, self.traffic.enter()).await {
            Ok(response) => Some(response),
            Err(Refusal::Busy) => None,
            Err(refusal) => Some(refusal.response(id)),
        }
    }

    async fn answer(
        &self,
        prepared: Option<&Arc<Prepared>>,
        asked: Asked<'_>,
        request: http::Request<impl RequestBody>,
        pass: Pass,
    ) -> Result<http::Response<Body>, Refusal> {
        let Asked { to, id, longest, trace, share } = asked;
        let say = |level, message: &str| self.log.agent(Some(to), Some(id), level, message);
        if !self.may_serve() {
            say(Level::Warn, ISOLATED);
            return Err(Refusal::Isolated);
        }
        let Some(prepared) = prepared.filter(|prepared| prepared.handle.is_some()) else {
            say(Level::Error, "the component exports no `wasi:http/incoming-handler@0.2`");
            return Err(Refusal::NoHandler);
        };
        let under_way = prepared.begin();
        let Some(room) = self.host.room(prepared, ROOM_TIMEOUT, share.as_ref()).await else {
            say(Level::Warn, "no room in this node's pool of instances");
            return Err(Refusal::Busy);
        };
        if !self.may_serve() {
            say(Level::Warn, ISOLATED);
            return Err(Refusal::Isolated);
        }
        let deadline = Instant::now() + prepared.deadline.min(longest);
        let call = Call { request: id.clone(), log: self.log.clone(), deadline, trace };
        let (sender, mut receiver) = oneshot::channel();
        let mut guest: Guest =
            Box::pin(run(prepared.clone(), call, request, sender, (room, under_way), self.lease().cloned()));
        // The guest runs here until it answers: no task is made for a response that is whole when the guest ends.
        let (answer, ended) = tokio::select! {
            biased;
            answer = &mut receiver => (answer.ok(), None),
            ended = &mut guest => (receiver.try_recv().ok(), Some(ended)),
        };
        match (answer, ended) {
            // An agent that stood still finds the answer there, and the lease over since long.
            (Some(_), _) if !self.may_serve() => {
                say(Level::Error, &Isolated.to_string());
                Err(Refusal::Cut)
            }
            // Nothing of the response was sent yet: a refusal says more than half an answer.
            (Some(Ok(_)), Some(ended)) if ended.cut => {
                self.say_ended(&ended, to, id);
                Err(refusal(&ended))
            }
            (Some(Ok(response)), ended) => {
                let guest = match ended {
                    None => Some(body::Running(Some(self.run_on(guest, to, id)))),
                    Some(ended) => {
                        self.say_ended(&ended, to, id);
                        None
                    }
                };
                Ok(respond(response, guest, pass))
            }
            (Some(Err(code)), _) => {
                say(Level::Error, &format!("the component answered with an error: {code:?}"));
                Err(Refusal::Failed)
            }
            (None, ended) => {
                // Its outparam is gone, so no answer can come; how it ends says why.
                let ended = match ended {
                    Some(ended) => ended,
                    None => guest.await,
                };
                self.say_ended(&ended, to, id);
                if ended.call.is_ok() {
                    say(Level::Error, "the component returned without a response");
                }
                Err(refusal(&ended))
            }
        }
    }

    /// Lets the guest go on behind its response.
    fn run_on(&self, guest: Guest, to: &ComponentName, id: &Arc<str>) -> tokio::task::JoinHandle<()> {
        let (log, component, id) = (self.log.clone(), to.clone(), id.clone());
        let pass = self.traffic.enter();
        tokio::spawn(async move {
            if let Some(reason) = guest.await.reason() {
                log.agent(Some(&component), Some(&id), Level::Error, &reason);
            }
            drop(pass);
        })
    }

    fn say_ended(&self, ended: &Ended, to: &ComponentName, id: &str) {
        if let Some(reason) = ended.reason() {
            self.log.agent(Some(to), Some(id), Level::Error, &reason);
        }
    }
}

/// Makes the instance, calls it, drops it.
async fn run(
    prepared: Arc<Prepared>,
    call: Call,
    mut request: http::Request<impl RequestBody>,
    sender: oneshot::Sender<Answer>,
    held: (Room, UnderWay),
    lease: Option<Lease>,
) -> Ended {
    let deadline = call.deadline;
    let mut store = prepared.store(call);
    let calling = until(deadline, async {
        let instance = prepared.instantiate(&mut store).await?;
        let is_taken = request.headers_mut().remove(http_link::BODY_TAKEN).is_some();
        let incoming = store.data_mut().http().new_incoming_request(Scheme::Http, request)?;
        if is_taken {
            store.data_mut().table.get_mut(&incoming)?.body = None;
        }
        let out = store.data_mut().http().new_response_outparam(sender)?;
        let Some(handle) = &prepared.handle else { return Ok(()) };
        type Arguments = (Resource<HostIncomingRequest>, Resource<HostResponseOutparam>);
        let handle = instance.get_typed_func::<Arguments, ()>(&mut store, handle)?;
        handle.call_async(&mut store, (incoming, out)).await
    });
    let isolated = async {
        match &lease {
            Some(lease) => lease.ended().await,
            None => std::future::pending().await,
        }
    };
    let call = tokio::select! {
        // The lease first: one that is over counts more than an answer that came meanwhile.
        biased;
        () = isolated => Err(CallError::Trap(Isolated.into())),
        call = calling => call,
    };
    let cut = cut_unfinished(&mut store.data_mut().table);
    drop(store);
    drop(held);
    Ended { call, cut }
}

/// Ends the bodies that the guest has not finished as broken: dropped with their store, they would look complete.
fn cut_unfinished(table: &mut ResourceTable) -> bool {
    let mut cut = false;
    for body in table.iter_mut().filter_map(|entry| entry.downcast_mut::<HostOutgoingBody>()) {
        let (empty, _) = HostOutgoingBody::new(StreamContext::Response, None, 1, 1);
        std::mem::replace(body, empty).abort();
        cut = true;
    }
    cut
}

/// Tells the caller's node why there is no answer.
pub(crate) fn link_failed(failure: LinkFailure) -> http::Response<Body> {
    let mut response = http::Response::new(Body::text(Vec::new()));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    if let Ok(value) = HeaderValue::try_from(http_link::encode([link::Body::Failed(failure)])) {
        response.headers_mut().insert(http_link::LINK_FAILED, value);
    }
    response
}

fn respond(
    response: http::Response<HyperOutgoingBody>,
    guest: Option<body::Running>,
    pass: Pass,
) -> http::Response<Body> {
    let remaining = response
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse().ok());
    response.map(|body| Body::guest(GuestBody { body, remaining, guest, _pass: pass }))
}

impl Ended {
    /// For the log: the trap and the guest's functions on the stack.
    fn reason(&self) -> Option<String> {
        match &self.call {
            Err(CallError::Deadline) => Some("the call's deadline passed; the instance was ended".to_owned()),
            Err(CallError::Trap(error)) => Some(format!("the instance trapped: {error:?}")),
            Ok(()) if self.cut => Some("the component returned without finishing its response".to_owned()),
            Ok(()) => None,
        }
    }
}

fn refusal(ended: &Ended) -> Refusal {
    match ended.call {
        Err(CallError::Deadline) => Refusal::Deadline,
        Ok(()) => Refusal::Failed,
        Err(CallError::Trap(ref error)) if error.downcast_ref::<Isolated>().is_some() => Refusal::Cut,
        Err(CallError::Trap(ref error)) => {
            error.downcast_ref::<LinkFailure>().map_or(Refusal::Failed, Refusal::of_link)
        }
    }
}

impl Refusal {
    /// Whether nothing was begun, so that another node may do it.
    const fn is_before(&self) -> bool {
        matches!(self, Self::Busy | Self::Isolated)
    }

    /// As a lost or failed call over a link is told.
    pub(crate) fn of_link(failure: &LinkFailure) -> Self {
        match failure.reason {
            LinkReason::Deadline => Self::Deadline,
            reason if reason.is_undelivered() || reason == LinkReason::Lost => Self::Link(reason),
            _ => Self::Failed,
        }
    }

    /// The same for the caller's node, where the request came over a link.
    fn as_failure(&self) -> LinkFailure {
        let (reason, message) = match self {
            Self::Failed => (LinkReason::Trapped, "the provider failed"),
            Self::Deadline => (LinkReason::Deadline, "the provider did not answer in time"),
            Self::Busy => (LinkReason::Busy, "the provider's node has no room for an instance"),
            Self::Isolated => (LinkReason::Unavailable, ISOLATED),
            Self::Cut => (LinkReason::Lost, ISOLATED),
            Self::NoHandler => (LinkReason::Mismatch, "the provider takes no HTTP requests"),
            Self::Link(reason) => (*reason, "the provider could not call another"),
        };
        LinkFailure::new(reason, message)
    }

    pub(crate) fn response(self, id: &str) -> http::Response<Body> {
        let (status, reason, message) = match self {
            Self::Failed => (StatusCode::INTERNAL_SERVER_ERROR, "component_failed", "the component failed"),
            Self::Deadline => {
                (StatusCode::GATEWAY_TIMEOUT, "deadline_exceeded", "the component did not answer in time")
            }
            Self::Busy => {
                (StatusCode::SERVICE_UNAVAILABLE, "no_capacity", "this node has no room for the request")
            }
            Self::Isolated => (StatusCode::SERVICE_UNAVAILABLE, "isolated", ISOLATED),
            Self::Cut => (
                StatusCode::BAD_GATEWAY,
                "isolated",
                "this node was cut off from the control plane while the component worked, which stops then; whether it was done \
                 is not known",
            ),
            Self::Link(LinkReason::Lost) => (
                StatusCode::BAD_GATEWAY,
                LinkReason::Lost.word(),
                "the node of a component was lost while it worked; whether it was done is not known",
            ),
            Self::Link(reason) => (
                StatusCode::SERVICE_UNAVAILABLE,
                reason.word(),
                "the node of a component cannot be reached now",
            ),
            Self::NoHandler => (
                StatusCode::BAD_GATEWAY,
                "no_handler",
                "the component behind this route takes no HTTP requests",
            ),
        };
        let text = serde_json::json!({"error": reason, "message": message, "request": id});
        let mut response = http::Response::new(Body::text(format!("{text}\n")));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}
