//! The provider's half of sessions: an instance for each consumer instance on another node, and its handles.

use std::collections::HashMap;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::graph::DEADLINE_MAX;
use model::interface::InterfaceName;
use model::link::{
    BINDINGS_MAX, Binding, Body, Call as LinkCall, Frame, LinkFailure, LinkReason, MESSAGE_MAX_BYTES, Open,
};
use model::linked::Target;
use model::log::Level;
use model::name::NodeName;
use tokio::sync::mpsc;
use tokio::time::Sleep;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{ComponentExportIndex, Func, Instance, ResourceAny};
use wasmtime::{AsContextMut as _, Store};

use crate::host::instance::{CallError, LINK_FUEL_BYTES, Prepared, in_time, until};
use crate::host::running::Running;
use crate::host::state::{Call, State};
use crate::host::streams::{self, Loans};
use crate::lease::ISOLATED;
use crate::link::encoding::{
    ARGUMENT_CELLS_MAX, Cells, DecodeError, FromGuest, HandleError, Handles, HostResources, IN_MEMORY, Kind,
    LinkResources, Signature, ToGuest, TooLong,
};
use crate::link::interface::LinkInterface;
use crate::link::pipe::{Pipes, SessionPipes};
use crate::traces::{CallSpan, Over, Trace};

/// How long a session waits for room in the pool.
const ROOM_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a session may be without its first call: it is sent together with the open.
const FIRST_CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a session waits for its next call: no consumer's instance lives longer.
const NEXT_CALL_TIMEOUT: Duration = DEADLINE_MAX;
// The first alarm of a session may go off before the next is due, never after it.
const _: () = assert!(FIRST_CALL_TIMEOUT.as_nanos() <= NEXT_CALL_TIMEOUT.as_nanos());
/// How long the destructors of dropped handles may take together.
const DROP_TIMEOUT: Duration = Duration::from_secs(1);
/// The most handles that one session holds.
const HANDLES_MAX: usize = 10_000;

/// A member of a graph that can be called from other nodes.
pub(crate) struct Provider {
    prepared: Arc<Prepared>,
    interfaces: Vec<(InterfaceName, Vec<Export>)>,
}

/// One function of it.
struct Export {
    name: String,
    index: ComponentExportIndex,
    /// By each way to name the resources of the provider, of which one is its consumers'; or why it cannot be carried.
    signatures: Vec<Result<Arc<Signature>, String>>,
}

/// A function that a session may call.
struct Bound {
    index: ComponentExportIndex,
    signature: Arc<Signature>,
}

impl Bound {
    fn of(&self, instance: &Instance, store: &mut Store<State>) -> wasmtime::Result<Func> {
        let found = instance.get_func(store, self.index);
        found.ok_or_else(|| wasmtime::format_err!("the function is gone from the instance"))
    }
}

/// What comes in of one session, and where its answers go.
pub(crate) struct Inbound {
    /// Its number on its stream.
    pub(crate) session: u64,
    /// What its consumer says; ends with its stream.
    pub(crate) frames: mpsc::Receiver<Body>,
    /// To its consumer.
    pub(crate) answers: mpsc::Sender<Frame>,
    /// Its streams.
    pub(crate) pipes: Arc<Pipes>,
}

impl Inbound {
    /// Ends it before it has begun.
    pub(crate) async fn refuse(self, failure: LinkFailure) {
        let _ = self.answers.send(Frame { session: self.session, body: Body::Failed(failure) }).await;
    }

    /// What the consumer says next; none once it is gone. The alarm is not set for each time anew, which would cost more
    /// than some calls do: when it goes off, it is known how much longer it is.
    async fn next(
        &mut self,
        within: Duration,
        mut alarm: Pin<&mut Sleep>,
    ) -> Result<Option<Body>, LinkFailure> {
        let end = Instant::now() + within;
        loop {
            tokio::select! {
                biased;
                said = self.frames.recv() => return Ok(said),
                () = alarm.as_mut() => {
                    if Instant::now() >= end {
                        let silent = within.as_secs();
                        return Err(protocol(format!("the consumer's agent said nothing for {silent} s")));
                    }
                    alarm.as_mut().reset(end.into());
                }
            }
        }
    }

    /// Resolves when there is nobody to answer, or somebody who does not wait for it.
    async fn given_up(&mut self) -> Result<(), LinkFailure> {
        match self.frames.recv().await {
            None | Some(Body::Closed) => Ok(()),
            Some(_) => Err(protocol("the consumer's agent did not wait for the answer to its call")),
        }
    }
}

impl Provider {
    pub(crate) fn of(prepared: Arc<Prepared>) -> Self {
        let component = prepared.pre.component();
        let engine = component.engine();
        let ty = component.component_type();
        let exported: Vec<_> = ty
            .exports(engine)
            .filter_map(|(name, item)| match item.ty {
                ComponentItem::ComponentInstance(instance) => {
                    Some((name.parse().ok()?, instance, component.get_export_index(None, name)?))
                }
                _ => None,
            })
            .collect();
        let instances = exported.iter().map(|(interface, instance, _)| (interface, instance));
        let resources = LinkResources::of(engine, instances, HostResources::of(engine, &ty));
        let mut interfaces = Vec::new();
        for (interface, instance, at) in &exported {
            let mut exports: Vec<Export> = Vec::new();
            for owner in 0..resources.owners() {
                for (name, signature) in
                    LinkInterface::of(engine, (interface, instance), &resources, owner).functions
                {
                    let Some(index) = component.get_export_index(Some(at), &name) else { continue };
                    match exports.iter_mut().find(|export| export.name == name) {
                        Some(known) => known.signatures.push(signature),
                        None => exports.push(Export { name, index, signatures: vec![signature] }),
                    }
                }
            }
            interfaces.push((interface.clone(), exports));
        }
        Self { prepared, interfaces }
    }

    /// What a session makes its instance of.
    pub(crate) fn prepared(&self) -> &Arc<Prepared> {
        &self.prepared
    }

    /// The functions of a session, or why it cannot have them.
    fn bind(&self, running: &Running, open: &Open) -> Result<Vec<Bound>, LinkFailure> {
        let denied = |message: String| LinkFailure::new(LinkReason::Denied, message);
        if open.functions.len() > BINDINGS_MAX {
            return Err(protocol(format!("a session has at most {BINDINGS_MAX} functions")));
        }
        let mut bound = Vec::with_capacity(open.functions.len());
        for binding in &open.functions {
            let mut links = running.plan.linked().links_of(&open.from);
            let link = links.find(|link| link.interface == binding.interface);
            let link = link.filter(|link| link.to.member() == Some(&open.to)).ok_or_else(|| {
                denied(format!("{} has no link to {} for {}", open.from, open.to, binding.interface))
            })?;
            let wanted = match &link.to {
                Target::Component { export, .. } => export,
                Target::Capability { .. } | Target::Host => &binding.interface,
            };
            let mismatch = |why: String| {
                let message = format!("{} of {wanted} at {}: {why}", binding.function, open.to);
                LinkFailure::new(LinkReason::Mismatch, message)
            };
            let (_, exports) = self
                .interfaces
                .iter()
                .find(|(name, _)| name.same_track(wanted))
                .ok_or_else(|| mismatch("the interface is not exported".to_owned()))?;
            let export = exports
                .iter()
                .find(|export| export.name == binding.function)
                .ok_or_else(|| mismatch("there is no such function".to_owned()))?;
            let is_same = |signature: &&Arc<Signature>| signature.digest() == binding.digest;
            let Some(signature) = export.signatures.iter().flatten().find(is_same) else {
                return Err(mismatch(match export.signatures.first() {
                    Some(Ok(signature)) => format!("its type there is {}", signature.text()),
                    Some(Err(why)) => why.clone(),
                    None => "it has no type".to_owned(),
                }));
            };
            bound.push(Bound { index: export.index, signature: signature.clone() });
        }
        Ok(bound)
    }
}

impl Running {
    /// Lives one session of this node to its end, which is granted.
    pub(crate) async fn session(self: Arc<Self>, caller: NodeName, open: Open, mut inbound: Inbound) {
        let _pass = self.traffic.enter();
        let mut trace = Trace::default();
        let ended = if self.may_serve() {
            tokio::select! {
                // The lease first: one that is over counts more than an answer that came meanwhile.
                biased;
                () = self.isolated() => Err(LinkFailure::new(LinkReason::Lost, ISOLATED)),
                ended = self.converse(caller, &open, &mut inbound, &mut trace) => ended,
            }
        } else {
            Err(LinkFailure::new(LinkReason::Unavailable, ISOLATED))
        };
        if let Err(failure) = ended {
            let level = if failure.reason == LinkReason::Trapped { Level::Error } else { Level::Warn };
            let message = format!("the session of {} ended{trace}: {failure}", open.from);
            self.log.agent(Some(&open.to), Some(&open.request), level, &message);
            // A consumer that is gone needs no answer.
            let body = Body::Failed(failure);
            let _ = inbound.answers.send(Frame { session: inbound.session, body }).await;
        }
    }

    /// `trace` is that of the call that came last.
    async fn converse(
        &self,
        caller: NodeName,
        open: &Open,
        inbound: &mut Inbound,
        trace: &mut Trace,
    ) -> Result<(), LinkFailure> {
        let provider = self.providers.get(&open.to).ok_or_else(|| {
            LinkFailure::new(LinkReason::Denied, format!("{} cannot be called from other nodes", open.to))
        })?;
        let bound = provider.bind(self, open)?;
        let prepared = &provider.prepared;
        let _under_way = prepared.begin();
        let mut alarm = pin!(tokio::time::sleep(FIRST_CALL_TIMEOUT));
        let first = match inbound.next(FIRST_CALL_TIMEOUT, alarm.as_mut()).await? {
            Some(Body::Call(first)) => first,
            None | Some(Body::Closed) => return Ok(()),
            Some(_) => return Err(protocol("the consumer's agent opened a session without a call")),
        };
        let mut span = self.answering(open, &first, inbound.session);
        trace.clone_from(span.trace());
        let share = self.host.share(caller);
        let room = tokio::select! {
            room = self.host.room(prepared, ROOM_TIMEOUT, Some(&share)) => room,
            given_up = inbound.given_up() => return given_up,
        };
        let Some(_room) = room else {
            let message = "the provider's node has no room for one more instance for this one";
            return span.ended(Err(LinkFailure::new(LinkReason::Busy, message)));
        };
        if !self.may_serve() {
            return span.ended(Err(LinkFailure::new(LinkReason::Unavailable, ISOLATED)));
        }
        let deadline = self.deadline(prepared, &first);
        let request = open.request.as_str().into();
        let call = Call { request, log: self.log.clone(), deadline, trace: trace.clone() };
        let mut store = prepared.store(call);
        store.set_hostcall_fuel(LINK_FUEL_BYTES);
        let instance = match until(deadline, prepared.instantiate(&mut store)).await {
            Ok(instance) => instance,
            Err(error) => return span.ended(Err(failed(error))),
        };
        let pipes = inbound.pipes.clone();
        // Dropped before the store: however the session ends, what its guest had is lost, and not merely done with.
        let _lost = SessionPipes::of(pipes.clone());
        let mut begun = Some(span);
        let mut held = Held::default();
        let mut next = Some(Body::Call(first));
        while let Some(frame) = next {
            match frame {
                Body::Call(call) => {
                    let mut span = begun.take().unwrap_or_else(|| self.answering(open, &call, inbound.session));
                    trace.clone_from(span.trace());
                    store.data_mut().call.deadline = self.deadline(prepared, &call);
                    store.data_mut().call.trace.clone_from(trace);
                    let deadline = store.data().call.deadline;
                    let calling = async {
                        ready(deadline, pipes.settled()).await?;
                        streams::release(&pipes, &mut store.data_mut().table);
                        let answer = answer(&mut store, &instance, &bound, &mut held, &pipes, call).await?;
                        ready(deadline, pipes.drained()).await?;
                        Ok(answer)
                    };
                    let answer = tokio::select! {
                        biased;
                        answer = calling => {
                            // The lease may have ended while the guest had the thread.
                            let is_held = self.may_serve();
                            let lost = || LinkFailure::new(LinkReason::Lost, ISOLATED);
                            span.ended(answer.and_then(|answer| if is_held { Ok(answer) } else { Err(lost()) }))?
                        }
                        given_up = inbound.given_up() => return given_up,
                    };
                    span.returned(answer.len());
                    drop(span);
                    let frame = Frame { session: inbound.session, body: Body::Returned(answer) };
                    // A peer that does not read its answers does not keep an instance longer than a call may.
                    if !matches!(in_time(deadline, inbound.answers.send(frame)).await, Ok(Ok(()))) {
                        return Ok(());
                    }
                }
                Body::Dropped(handles) => {
                    let deadline = Instant::now() + DROP_TIMEOUT;
                    store.data_mut().call.deadline = deadline;
                    for handle in handles {
                        // One that was given away is not dropped by its consumer; one that never was is ignored.
                        let Some((_, resource)) = held.table.remove(&handle) else { continue };
                        until(deadline, resource.resource_drop_async(&mut store)).await.map_err(failed)?;
                    }
                }
                Body::Closed => return Ok(()),
                Body::Open(_) | Body::Returned(_) | Body::Failed(_) | Body::Pipe { .. } => {
                    return Err(protocol("the consumer's agent sent a frame of providers"));
                }
            }
            next = tokio::select! {
                biased;
                coming = inbound.next(NEXT_CALL_TIMEOUT, alarm.as_mut()) => coming?,
                never = streams::poll(&pipes, &mut store.data_mut().table) => match never {},
            };
        }
        Ok(())
    }

    /// The span of a call, below that of its consumer.
    fn answering(&self, open: &Open, call: &LinkCall, session: u64) -> CallSpan {
        let trace = self.host.traces().at(call.trace, open.trace_state.clone());
        let mut span = trace.answering(|| {
            let Binding { interface, function, .. } =
                open.functions.get(usize::try_from(call.function).ok()?)?;
            let (graph, node) = (self.key(), self.plan.site().node);
            Some(Over { graph, from: &open.from, to: &open.to, node, interface, function })
        });
        span.session(session);
        span.sent(call.arguments.len());
        span
    }

    /// A call ends when its consumer's time is up, or the provider's own.
    fn deadline(&self, prepared: &Prepared, call: &LinkCall) -> Instant {
        Instant::now() + Duration::from_micros(call.deadline_us).min(prepared.deadline)
    }
}

/// What a call waits for besides its guest: streams of its consumer, and the way to that.
async fn ready(deadline: Instant, work: impl Future<Output = ()>) -> Result<(), LinkFailure> {
    in_time(deadline, work).await.map_err(|_| failed(CallError::Deadline))
}

/// Makes one call.
async fn answer(
    store: &mut Store<State>,
    instance: &Instance,
    bound: &[Bound],
    held: &mut Held,
    pipes: &Arc<Pipes>,
    call: LinkCall,
) -> Result<Vec<u8>, LinkFailure> {
    if call.arguments.len() > MESSAGE_MAX_BYTES {
        let sent = call.arguments.len();
        return Err(protocol(format!(
            "the arguments have {sent} bytes, at most {MESSAGE_MAX_BYTES} are carried"
        )));
    }
    let function = usize::try_from(call.function).ok().and_then(|place| bound.get(place));
    let function = function.ok_or_else(|| protocol(format!("there is no function {}", call.function)))?;
    if let Some(cells) = function.signature.cells() {
        return answer_directly(store, instance, function, cells, call.arguments).await;
    }
    let mut handles = StoreHandles { store, held, pipes };
    let arguments = function
        .signature
        .decode_arguments(&call.arguments, &mut handles)
        .map_err(|error| wrong_arguments(&error))?;
    let store = &mut *handles.store;
    let deadline = store.data().call.deadline;
    let mut results = vec![wasmtime::component::Val::Bool(false); function.signature.results()];
    until(deadline, async {
        let callee = function.of(instance, store)?;
        callee.call_async(&mut *store, &arguments, &mut results).await
    })
    .await
    .map_err(failed)?;
    let mut bytes = Vec::new();
    function
        .signature
        .encode_result(results.first(), &mut handles, &mut bytes)
        .map_err(|error| protocol(format!("the result cannot be sent: {error}")))?;
    let StoreHandles { store, .. } = handles;
    streams::give_back(store.as_context_mut())
        .map_err(|error| protocol(format!("a stream cannot be given back: {error:#}")))?;
    if bytes.len() > MESSAGE_MAX_BYTES {
        let message = format!("the result has {} bytes, at most {MESSAGE_MAX_BYTES} are carried", bytes.len());
        return Err(LinkFailure::new(LinkReason::Trapped, message));
    }
    Ok(bytes)
}

/// Makes one call whose values go straight between the link and the guest's memory.
async fn answer_directly(
    store: &mut Store<State>,
    instance: &Instance,
    function: &Bound,
    cells: Cells,
    arguments: Vec<u8>,
) -> Result<Vec<u8>, LinkFailure> {
    let deadline = store.data().call.deadline;
    let answered = until(deadline, async {
        let callee = function.of(instance, store)?;
        match cells.result {
            0 => called::<0>(store, callee, arguments).await,
            1 => called::<1>(store, callee, arguments).await,
            _ => called::<IN_MEMORY>(store, callee, arguments).await,
        }
    })
    .await
    .map_err(failed)?;
    answered.map_err(|too_long| LinkFailure::new(LinkReason::Trapped, format!("the result has {too_long}")))
}

/// Calls a function with a message, and takes its result as one.
async fn called<const RESULT: usize>(
    store: &mut Store<State>,
    callee: Func,
    arguments: Vec<u8>,
) -> wasmtime::Result<Result<Vec<u8>, TooLong>> {
    let callee = callee.typed::<ToGuest<ARGUMENT_CELLS_MAX>, FromGuest<RESULT>>(&*store)?;
    let FromGuest(answer) = callee.call_async(store, ToGuest::arguments(arguments)).await?;
    Ok(answer)
}

fn protocol(message: impl Into<String>) -> LinkFailure {
    LinkFailure::new(LinkReason::Protocol, message)
}

fn wrong_arguments(error: &DecodeError) -> LinkFailure {
    protocol(format!("the arguments are wrong: {error}"))
}

/// Why a provider's call has no result.
fn failed(error: CallError) -> LinkFailure {
    match error {
        CallError::Deadline => LinkFailure::new(LinkReason::Deadline, "the provider did not answer in time"),
        CallError::Trap(error) => match (error.downcast_ref(), error.downcast_ref::<LinkFailure>()) {
            (Some(wrong), _) => wrong_arguments(wrong),
            // A provider may be a consumer itself: what hindered it is what is said.
            (None, Some(failure)) if !failure.reason.is_undelivered() => failure.clone(),
            _ => LinkFailure::new(LinkReason::Trapped, format!("the provider trapped: {error:#}")),
        },
    }
}

/// The handles that a session's consumer has, by the ids it knows them by.
#[derive(Default)]
struct Held {
    /// Each with the place of its resource among those of the provider.
    table: HashMap<u64, (usize, ResourceAny)>,
    last: u64,
}

/// The handles of a call under way.
struct StoreHandles<'a> {
    store: &'a mut Store<State>,
    held: &'a mut Held,
    pipes: &'a Arc<Pipes>,
}

impl Handles for StoreHandles<'_> {
    fn lower(&mut self, resource: Kind, handle: &ResourceAny, owned: bool) -> Result<u64, HandleError> {
        match resource {
            Kind::Provider(resource) => self.held.lower(resource, handle),
            // No result has a borrowed one.
            Kind::Host(resource) => streams::lower(
                self.store.as_context_mut(),
                self.pipes,
                resource,
                handle,
                owned,
                &mut Loans::default(),
            ),
        }
    }

    fn lift(&mut self, resource: Kind, id: u64, owned: bool) -> Result<ResourceAny, HandleError> {
        match resource {
            Kind::Provider(resource) => self.held.lift(resource, id, owned),
            Kind::Host(resource) => streams::lift(self.store.as_context_mut(), self.pipes, resource, id, owned),
        }
    }
}

impl Held {
    fn lower(&mut self, resource: usize, handle: &ResourceAny) -> Result<u64, HandleError> {
        if self.table.len() >= HANDLES_MAX {
            return Err(HandleError::Full { max: HANDLES_MAX });
        }
        self.last += 1;
        self.table.insert(self.last, (resource, *handle));
        Ok(self.last)
    }

    fn lift(&mut self, resource: usize, id: u64, owned: bool) -> Result<ResourceAny, HandleError> {
        let known = self.table.get(&id).filter(|(kind, _)| *kind == resource);
        let handle = known.map(|(_, handle)| *handle).ok_or(HandleError::Unknown { id })?;
        if owned {
            self.table.remove(&id);
        }
        Ok(handle)
    }
}
