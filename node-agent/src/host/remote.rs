//! Imports of a slice whose providers run on another node: every function becomes a call over a link.

mod direct;

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::id::GraphKey;
use model::link::{Binding, LinkFailure, LinkReason};
use model::linked::LinkedGraph;
use model::log::Level;
use model::name::{ComponentName, NodeName};
use model::placement::LinkTerms;
use wasmtime::component::types::ComponentInstance;
use wasmtime::component::{Linker, ResourceAny, ResourceDynamic, ResourceType, Val};
use wasmtime::{AsContextMut as _, Engine, StoreContextMut};

use crate::host::fuse::Slot;
use crate::host::state::State;
use crate::host::streams::{self, Loans};
use crate::link::encoding::{DecodeError, ErrorCase, HandleError, Handles, Kind, LinkResources, Signature};
use crate::link::interface::LinkInterface;
use crate::link::pipe::Pipes;
use crate::link::session::{Remote, Work};
use crate::traces::{CallSpan, Over, Trace};

/// The providers on other nodes that one slice calls, gathered while its imports are filled.
#[derive(Default)]
pub(crate) struct Remotes {
    /// Which instance of the slice calls it, and what is called.
    found: Vec<(usize, Remote)>,
}

impl Remotes {
    /// In the order in which calls know them.
    pub(crate) fn into_list(self) -> Vec<Remote> {
        self.found.into_iter().map(|(_, remote)| remote).collect()
    }

    /// All links of one instance to one provider share a session.
    fn place(&mut self, consumer: usize, from: &ComponentName, there: &There) -> usize {
        let There { to, nodes, .. } = there;
        let known = self.found.iter().position(|(by, remote)| *by == consumer && remote.to == *to);
        known.unwrap_or_else(|| {
            let remote =
                Remote { from: from.clone(), to: to.clone(), nodes: nodes.clone(), functions: Vec::new() };
            self.found.push((consumer, remote));
            self.found.len() - 1
        })
    }
}

/// A provider on other nodes, and what is asked of the link to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct There {
    /// The component or capability.
    pub(crate) to: ComponentName,
    /// Where it runs: any of these, never none.
    pub(crate) nodes: Arc<[NodeName]>,
    /// What is asked of the link.
    pub(crate) terms: LinkTerms,
}

impl There {
    /// For people: `on node n3`, `on node n2 or n3`.
    pub(crate) fn place(&self) -> String {
        let nodes: Vec<&str> = self.nodes.iter().map(NodeName::as_str).collect();
        format!("on node {}", nodes.join(" or "))
    }
}

/// One function of a provider on another node.
struct Function {
    signature: Arc<Signature>,
    /// Where the provider stands among those of the slice.
    remote: usize,
    /// Where the function stands among those of the provider.
    place: u32,
    /// The longest a call may take.
    timeout: Option<Duration>,
    /// What a lost call answers with; without it, the instance ends.
    on_loss: Option<ErrorCase>,
    /// Whether a call that was lost may be made again.
    idempotent: bool,
    /// For people: `app -> crm-db, execute of fermyon:spin/sqlite@2.0.0, on node n3`.
    label: String,
}

/// Fills the slot `name`, an import of the type `instance` of a component whose links have these resources; its provider
/// is `there`.
pub(crate) fn offer(
    engine: &Engine,
    linker: &mut Linker<State>,
    name: &str,
    (instance, resources): (&ComponentInstance, &LinkResources),
    slot: &Slot,
    there: &There,
    remotes: &mut Remotes,
) -> wasmtime::Result<()> {
    let There { to, terms, .. } = there;
    let interface = LinkInterface::of(engine, (&slot.interface, instance), resources, 0);
    let remote = remotes.place(slot.consumer, &slot.component, there);
    let mut linker = linker.instance(name)?;
    for (resource, index) in &interface.resources {
        linker.resource(resource, ResourceType::host_dynamic(kind(*index)?), move |mut store, rep| {
            if let Some(sessions) = store.data_mut().sessions.as_mut() {
                sessions.dropped(remote, rep);
            }
            Ok(())
        })?;
    }
    for (function, signature) in interface.functions {
        let signature = signature.map_err(|why| {
            wasmtime::format_err!("{function} of {} cannot be called on another node: {why}", slot.interface)
        })?;
        let Some((_, known)) = remotes.found.get_mut(remote) else { continue };
        let label = format!("{} -> {to}, {function} of {}, {}", slot.component, slot.interface, there.place());
        let place = u32::try_from(known.functions.len())?;
        known.functions.push(Binding {
            interface: slot.interface.clone(),
            function: function.clone(),
            digest: signature.digest(),
        });
        let on_loss = terms.on_loss.as_ref().and_then(|case| signature.error_case(case));
        let (timeout, idempotent) = (terms.timeout, terms.idempotent);
        let called = Arc::new(Function { signature, remote, place, timeout, on_loss, idempotent, label });
        if let Some(cells) = called.signature.cells() {
            direct::offer(&mut linker, &function, cells, &called)?;
            continue;
        }
        linker.func_new_async(&function, move |store, _, arguments, results| {
            let called = called.clone();
            Box::new(async move { call(store, &called, arguments, results).await })
        })?;
    }
    Ok(())
}

/// What wasmtime knows a provider's resource by, in the slice of its consumer: a number of its own for each.
fn kind(index: usize) -> Result<u32, std::num::TryFromIntError> {
    u32::try_from(index)
}

async fn call(
    mut store: StoreContextMut<'_, State>,
    called: &Function,
    arguments: &[Val],
    results: &mut [Val],
) -> wasmtime::Result<()> {
    let mut span = begin(&store, called);
    let outcome = attempt(&mut store, called, arguments, &mut span).await;
    let value = match span.ended(outcome) {
        Ok(value) => value,
        Err(failure) => {
            let (error, why) = on_loss(&store, called, &span, failure)?;
            Some(error.value(why))
        }
    };
    if let (Some(result), Some(value)) = (results.first_mut(), value) {
        *result = value;
    }
    Ok(())
}

/// The span of a call that begins.
fn begin(store: &StoreContextMut<'_, State>, called: &Function) -> CallSpan {
    let State { call, sessions, .. } = store.data();
    call.trace.calling(|| over(call.log.graph(), sessions.as_ref()?.remote(called.remote)?, called.place))
}

/// What the guest is told of a failure: an error of the function's own and why it is there, or a trap.
fn on_loss<'a>(
    store: &StoreContextMut<'_, State>,
    called: &'a Function,
    span: &CallSpan,
    failure: LinkFailure,
) -> wasmtime::Result<(&'a ErrorCase, &'static str)> {
    let state = store.data();
    let Function { label, on_loss, .. } = called;
    let is_late = Instant::now() >= state.call.deadline;
    match on_loss {
        Some(error) if failure.reason.is_loss() && !is_late => {
            let message =
                format!("the link {label} failed{}, which the guest is told: {failure}", span.trace());
            state.call.log.agent(None, Some(&state.call.request), Level::Warn, &message);
            // The word alone: names and addresses of nodes are none of a guest's business.
            Ok((error, failure.reason.word()))
        }
        _ => Err(failed(failure, called, span.trace())),
    }
}

/// What a guest traps with.
fn failed(failure: LinkFailure, called: &Function, trace: &Trace) -> wasmtime::Error {
    wasmtime::Error::from(failure).context(format!("the link {} failed{trace}", called.label))
}

/// What is called, for its span.
fn over<'a>(graph: &'a GraphKey, remote: &'a Remote, place: u32) -> Option<Over<'a>> {
    let Remote { from, to, nodes, functions } = remote;
    let node = nodes.first()?;
    let Binding { interface, function, .. } = functions.get(usize::try_from(place).ok()?)?;
    Some(Over { graph, from, to, node, interface, function })
}

/// Makes the call, and says what came of it.
async fn attempt(
    store: &mut StoreContextMut<'_, State>,
    called: &Function,
    arguments: &[Val],
    span: &mut CallSpan,
) -> Result<Option<Val>, LinkFailure> {
    let deadline = deadline(store, called);
    let mut bytes = Vec::new();
    let mut handles = Proxies::new(store, called);
    let encoded = called.signature.encode_arguments(arguments, &mut handles, &mut bytes);
    let Proxies { is_stale, has_lowered, gives_streams, mut loans, .. } = handles;
    if let Err(error) = encoded {
        end_loans(store, called, gives_streams, loans).await;
        return Err(if is_stale {
            LinkFailure::new(LinkReason::Lost, "the provider of a handle is gone, and with it the handle")
        } else {
            protocol(format!("the arguments cannot be sent: {error}"))
        });
    }
    // A handle means something to the instance that gave it, and to no other.
    let is_repeatable = called.idempotent && !has_lowered;
    let mut answer = exchange(store, called, bytes, (deadline, is_repeatable), span).await;
    if answer.is_ok() && !loans.is_empty() {
        let back = loans.returned();
        if tokio::time::timeout_at(deadline.into(), back).await.is_err() {
            let message = "the call was done in time, but not what it wrote to the streams that it was lent";
            answer = Err(LinkFailure::new(LinkReason::Deadline, message));
        }
    }
    loans.put_back(store.data_mut());
    let answer = match answer {
        Ok(answer) => answer,
        Err(failure) => {
            end_loans(store, called, gives_streams, loans).await;
            return Err(failure);
        }
    };
    span.returned(answer.len());
    let mut handles = Proxies::new(store, called);
    let decoded = called.signature.decode_result(&answer, &mut handles);
    let is_stale = handles.is_stale;
    decoded.map_err(|error| {
        if is_stale {
            LinkFailure::new(LinkReason::Lost, "the call was done, but the streams that it gave are lost")
        } else {
            wrong_answer(&error)
        }
    })
}

/// When a call that begins now is over.
fn deadline(store: &StoreContextMut<'_, State>, called: &Function) -> Instant {
    let deadline = store.data().call.deadline;
    called.timeout.map_or(deadline, |timeout| deadline.min(Instant::now() + timeout))
}

/// Sends a call and waits for its answer. The store's pollables that others wait for are asked meanwhile.
async fn exchange(
    store: &mut StoreContextMut<'_, State>,
    called: &Function,
    arguments: Vec<u8>,
    (deadline, is_repeatable): (Instant, bool),
    span: &mut CallSpan,
) -> Result<Vec<u8>, LinkFailure> {
    span.sent(arguments.len());
    let State { call, sessions, table, .. } = store.data_mut();
    let request = call.request.clone();
    let sessions = sessions.as_mut().ok_or_else(|| protocol("the instance has no sessions".to_owned()))?;
    let trace = span.trace();
    let work =
        Work { request: &request, deadline, trace: trace.carried(), trace_state: trace.state(), is_repeatable };
    let pipes = sessions.given(called.remote);
    let calling = sessions.call(called.remote, called.place, arguments, work);
    let answer = match &pipes {
        None => calling.await,
        Some(pipes) => tokio::select! {
            biased;
            answer = calling => answer,
            never = streams::poll(pipes, table) => match never {},
        },
    };
    if let Some(node) = sessions.asked(called.remote) {
        span.node(node);
    }
    if let Some(pipes) = pipes {
        streams::release(&pipes, table);
    }
    answer
}

fn protocol(message: String) -> LinkFailure {
    LinkFailure::new(LinkReason::Protocol, message)
}

fn wrong_answer(error: &DecodeError) -> LinkFailure {
    protocol(format!("the answer is wrong: {error}"))
}

/// A call that gave streams away has failed: the session that they were given to is over.
async fn end_loans(
    store: &mut StoreContextMut<'_, State>,
    called: &Function,
    gives_streams: bool,
    mut loans: Loans,
) {
    let state = store.data_mut();
    if let Some(sessions) = state.sessions.as_mut().filter(|_| gives_streams) {
        let pipes = sessions.given(called.remote);
        sessions.end(called.remote);
        loans.returned().await;
        loans.put_back(state);
        if let Some(pipes) = pipes {
            streams::release(&pipes, &mut state.table);
        }
    }
}

/// What stands in this store for a provider's resources.
struct Proxies<'a, 'b> {
    store: &'a mut StoreContextMut<'b, State>,
    remote: usize,
    /// Whether a handle was met whose provider is gone.
    is_stale: bool,
    /// Whether a handle goes to the provider.
    has_lowered: bool,
    /// Whether a stream of the host's does.
    gives_streams: bool,
    /// Those that are lent to it.
    loans: Loans,
}

impl<'a, 'b> Proxies<'a, 'b> {
    fn new(store: &'a mut StoreContextMut<'b, State>, called: &Function) -> Self {
        Self {
            store,
            remote: called.remote,
            is_stale: false,
            has_lowered: false,
            gives_streams: false,
            loans: Loans::default(),
        }
    }
}

impl Proxies<'_, '_> {
    fn pipes(&mut self) -> Result<Arc<Pipes>, HandleError> {
        let sessions = self.store.data_mut().sessions.as_mut();
        let pipes = sessions.and_then(|sessions| sessions.pipes(self.remote)).cloned();
        pipes.ok_or_else(|| HandleError::Store { message: "the instance has no sessions".to_owned() })
    }
}

impl Handles for Proxies<'_, '_> {
    fn lower(&mut self, resource: Kind, handle: &ResourceAny, owned: bool) -> Result<u64, HandleError> {
        self.has_lowered = true;
        if let Kind::Host(resource) = resource {
            self.gives_streams = true;
            let pipes = self.pipes()?;
            return streams::lower(
                self.store.as_context_mut(),
                &pipes,
                resource,
                handle,
                owned,
                &mut self.loans,
            );
        }
        // An owned one leaves this store with that.
        let proxy = handle.try_into_resource_dynamic(&mut *self.store).map_err(|error| store_error(&error))?;
        let rep = proxy.rep();
        let sessions = self.store.data_mut().sessions.as_mut();
        let id = sessions.and_then(|sessions| sessions.handle(self.remote, rep, owned));
        id.ok_or_else(|| {
            self.is_stale = true;
            HandleError::Unknown { id: u64::from(rep) }
        })
    }

    fn lift(&mut self, resource: Kind, id: u64, owned: bool) -> Result<ResourceAny, HandleError> {
        let resource = match resource {
            Kind::Provider(resource) => resource,
            Kind::Host(resource) => {
                let pipes = self.pipes()?;
                let lifted = streams::lift(self.store.as_context_mut(), &pipes, resource, id, owned);
                self.is_stale |= matches!(lifted, Err(HandleError::Lost));
                return lifted;
            }
        };
        let (Ok(kind), true) = (kind(resource), owned) else {
            return Err(HandleError::Unknown { id });
        };
        let sessions = self.store.data_mut().sessions.as_mut();
        let rep = sessions.and_then(|sessions| sessions.proxy(self.remote, id));
        let rep = rep.ok_or(HandleError::Unknown { id })?;
        ResourceDynamic::new_own(rep, kind)
            .try_into_resource_any(&mut *self.store)
            .map_err(|error| store_error(&error))
    }
}

fn store_error(error: &wasmtime::Error) -> HandleError {
    HandleError::Store { message: format!("{error:#}") }
}

/// Which members of a graph are on this node, and where the others are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site<'a> {
    pub(crate) placement: &'a model::placement::Placement,
    pub(crate) node: &'a NodeName,
}

impl<'a> Site<'a> {
    /// Whether a member runs on this node.
    pub(crate) fn is_here(&self, member: &ComponentName) -> bool {
        self.placement.runs_on(member, self.node)
    }

    /// The nodes that a member runs on.
    pub(crate) fn nodes_of(&self, member: &ComponentName) -> impl Iterator<Item = &'a NodeName> {
        self.placement.nodes_of(member)
    }

    /// The members on this node that are called from another, in the order of their names.
    pub(crate) fn called_from_elsewhere(&self, linked: &LinkedGraph) -> Vec<ComponentName> {
        let remote = linked.links.iter().filter(|link| self.placement.is_remote(link));
        let mut called: Vec<ComponentName> =
            remote.filter_map(|link| link.to.member()).filter(|member| self.is_here(member)).cloned().collect();
        called.sort();
        called.dedup();
        called
    }
}
