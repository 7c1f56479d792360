//! A linked slice, ready to be instantiated: one store for each call, dropped with it.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use model::graph::Settings;
use model::name::ComponentName;
use tokio::time::sleep_until;
use wasmtime::component::{Component, ComponentExportIndex, Instance, InstancePre};
use wasmtime::{Store, StoreContextMut, UpdateDeadline};

use crate::calls::{Meters, UnderWay};
use crate::host::egress::{Client, EgressHooks};
use crate::host::reserve::Claim;
use crate::host::state::{Call, MemoryBudget, State};
use crate::link::session::{Links, Sessions};

/// What one call may copy from a guest into the host, in lists and strings.
const HOSTCALL_FUEL_BYTES: usize = 8 << 20;
/// The same where calls cross to another node. Values of any type are counted with 40 bytes for each element, so that
/// this is what a `list<u8>` of 1.6 MiB takes.
pub(crate) const LINK_FUEL_BYTES: usize = 64 << 20;
/// The most handles one instance holds across all its components.
const HANDLES_MAX: usize = 10_000;
/// A guest is asked at every tick whether its time is up.
const TICKS_BETWEEN_LOOKS: u64 = 1;

/// A slice that can be called.
pub(crate) struct Prepared {
    /// The component at the slice's root.
    pub(crate) root: ComponentName,
    /// What an instance takes from the pool.
    pub(crate) weight: u32,
    /// The longest one call may take.
    pub(crate) deadline: Duration,
    pub(crate) pre: InstancePre<State>,
    /// Held so that other graphs of the same slice find it.
    _code: Arc<Component>,
    /// `wasi:http/incoming-handler`'s `handle`, if the root exports it.
    pub(crate) handle: Option<ComponentExportIndex>,
    memory: MemoryBudget,
    client: Arc<Client>,
    /// The providers on other nodes, if it calls some.
    links: Option<Arc<Links>>,
    /// Of its members that are scaled by their calls.
    meters: Meters,
    /// The room that is kept for its instances, if some is.
    pub(crate) kept: Option<Claim>,
}

/// The call's time was up while the guest was computing.
#[derive(Debug, thiserror::Error)]
#[error("the call's deadline has passed")]
pub(crate) struct DeadlinePassed;

/// How a call ended without a result.
#[derive(Debug)]
pub(crate) enum CallError {
    /// Its deadline passed.
    Deadline,
    /// The guest trapped, or a host function ended it.
    Trap(wasmtime::Error),
}

impl Prepared {
    pub(crate) fn new(
        root: ComponentName,
        (code, pre): (Arc<Component>, InstancePre<State>),
        weight: u32,
        members: &[Arc<Settings>],
        deadline: Duration,
        client: Arc<Client>,
        links: Option<Arc<Links>>,
    ) -> Self {
        let component = pre.component();
        let handle = component
            .component_type()
            .exports(component.engine())
            .map(|(name, _)| name.to_owned())
            .find(|name| name.starts_with("wasi:http/incoming-handler@0.2."))
            .and_then(|name| component.get_export_index(None, &name))
            .and_then(|interface| component.get_export_index(Some(&interface), "handle"));
        let bytes = |settings: &Arc<Settings>| usize::try_from(settings.limits.memory.0).unwrap_or(usize::MAX);
        let memory = MemoryBudget::new(
            members.iter().map(bytes).fold(0, usize::saturating_add),
            members.iter().map(bytes).max().unwrap_or_default(),
        );
        let meters = Meters::default();
        Self { root, weight, deadline, pre, _code: code, handle, memory, client, links, meters, kept: None }
    }

    /// With its calls counted.
    pub(crate) fn counted(self, meters: Meters) -> Self {
        Self { meters, ..self }
    }

    /// With room kept for it.
    pub(crate) fn kept(self, kept: Option<Claim>) -> Self {
        Self { kept, ..self }
    }

    /// A call begins, and is under way until what this returns is dropped.
    pub(crate) fn begin(&self) -> UnderWay {
        self.meters.begin()
    }

    /// A store for one call, with nothing in it yet.
    pub(crate) fn store(&self, call: Call) -> Store<State> {
        let state = State::new(call, self.memory, EgressHooks::new(self.client.clone()));
        let mut store = Store::new(self.pre.engine(), state);
        store.data_mut().sessions = self.links.clone().map(Sessions::new);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(if self.links.is_some() { LINK_FUEL_BYTES } else { HOSTCALL_FUEL_BYTES });
        store.set_max_component_handles(HANDLES_MAX);
        // Before anything runs: a store without a deadline traps at once.
        store.set_epoch_deadline(TICKS_BETWEEN_LOOKS);
        store.epoch_deadline_callback(look_at_the_clock);
        store
    }

    /// Makes an instance; start functions run.
    pub(crate) async fn instantiate(&self, store: &mut Store<State>) -> wasmtime::Result<Instance> {
        self.pre.instantiate_async(store).await
    }
}

fn look_at_the_clock(store: StoreContextMut<'_, State>) -> wasmtime::Result<UpdateDeadline> {
    if Instant::now() >= store.data().call.deadline {
        return Err(DeadlinePassed.into());
    }
    // Its neighbours on this thread come first.
    Ok(UpdateDeadline::YieldCustom(TICKS_BETWEEN_LOOKS, Box::pin(tokio::task::yield_now())))
}

/// A deadline has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Late;

/// Does `work`, unless `deadline` comes first. What is done at once makes no timer, which is a part of what such a call costs.
pub(crate) async fn in_time<T>(deadline: Instant, work: impl Future<Output = T>) -> Result<T, Late> {
    let (mut work, mut alarm) = (pin!(work), pin!(None));
    poll_fn(|context| {
        if let Poll::Ready(done) = work.as_mut().poll(context) {
            return Poll::Ready(Ok(done));
        }
        if alarm.is_none() {
            alarm.set(Some(sleep_until(deadline.into())));
        }
        match alarm.as_mut().as_pin_mut() {
            Some(alarm) => alarm.poll(context).map(|()| Err(Late)),
            None => Poll::Pending,
        }
    })
    .await
}

/// Runs `call` until `deadline`. Epochs end a guest that computes; the timeout ends one that waits in the host.
pub(crate) async fn until<T>(
    deadline: Instant,
    call: impl Future<Output = wasmtime::Result<T>>,
) -> Result<T, CallError> {
    match in_time(deadline, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) if error.downcast_ref::<DeadlinePassed>().is_some() => Err(CallError::Deadline),
        Ok(Err(error)) => Err(CallError::Trap(error)),
        Err(Late) => Err(CallError::Deadline),
    }
}
