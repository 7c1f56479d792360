//! The host's streams of a store, as calls over links give and take them.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use model::link::HostResource;
use wasmtime::component::{Resource, ResourceAny, ResourceTable};
use wasmtime::{AsContextMut as _, StoreContextMut};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::bindings::io::poll::{Host as Poll, HostPollable as _};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, DynPollable, InputStream, OutputStream, Pollable, StreamError,
    StreamResult, subscribe,
};

use crate::host::state::State;
use crate::link::encoding::HandleError;
use crate::link::pipe::{Lent, LentBy, Pipes, Take, Unread};

/// The streams of a store that another node has for the time of one call.
#[derive(Default)]
pub(crate) struct Loans {
    inputs: LoansOf<DynInputStream>,
    outputs: LoansOf<DynOutputStream>,
}

/// Those of one kind, each with its place in the store's table.
struct LoansOf<S> {
    lent: Vec<(u32, Lent<S>)>,
    /// What is back; nothing, where its task was lost.
    back: Vec<(u32, Option<S>)>,
}

impl<S> Default for LoansOf<S> {
    fn default() -> Self {
        Self { lent: Vec::new(), back: Vec::new() }
    }
}

/// What is known of the streams and pollables of a store that links have to do with.
#[derive(Default)]
pub(crate) struct Carried {
    /// What another node has lent it, for the time of one call.
    borrowed: Vec<Loan>,
    /// What is left of streams that it has lent, by their places. Those whose streams are gone mean nothing.
    unread: HashMap<u32, Weak<Unread>>,
    /// What stands for pollables of other nodes, by its place, and whose they are.
    awaited: HashMap<u32, (Weak<()>, Arc<Pipes>)>,
    /// Places of streams that were given away while a pollable of theirs was left.
    left: Vec<(HostResource, u32)>,
}

/// What another node has lent.
struct Loan {
    resource: HostResource,
    handle: ResourceAny,
    /// Where a stream is in the table of the store.
    place: u32,
    from: LentBy,
}

impl Carried {
    /// Leaves places that nothing depends on any more.
    fn sweep(&mut self, table: &mut ResourceTable) {
        self.left.retain(|(resource, place)| match resource {
            HostResource::InputStream => table.delete(Resource::<DynInputStream>::new_own(*place)).is_err(),
            HostResource::OutputStream => table.delete(Resource::<DynOutputStream>::new_own(*place)).is_err(),
            HostResource::Pollable => false,
        });
        self.unread.retain(|_, unread| unread.strong_count() > 0);
        self.awaited.retain(|_, (alive, _)| alive.strong_count() > 0);
    }

    /// The pipe that a stream at this place was lent by.
    fn from(&self, place: u32) -> Option<LentBy> {
        self.borrowed.iter().find(|loan| loan.place == place).map(|loan| loan.from.clone())
    }
}

/// Both kinds of streams.
trait Stream: Send + Sized + 'static {
    const RESOURCE: HostResource;

    fn give(pipes: &Arc<Pipes>, take: impl Take<Self>) -> Result<u64, HandleError>;
    /// Lends the one at this place.
    fn lend(
        pipes: &Arc<Pipes>,
        take: impl Take<Self>,
        place: u32,
        carried: &mut Carried,
    ) -> Result<(u64, Lent<Self>), HandleError>;
    /// Stands for one of the other node.
    fn of(pipes: &Arc<Pipes>, pipe: u64) -> Result<Self, HandleError>;
    /// What is in the place of one that is with somebody else.
    fn away() -> Self;
    fn loans(loans: &mut Loans) -> &mut LoansOf<Self>;
}

impl Stream for DynInputStream {
    const RESOURCE: HostResource = HostResource::InputStream;

    fn give(pipes: &Arc<Pipes>, take: impl Take<Self>) -> Result<u64, HandleError> {
        pipes.give_input(take)
    }

    fn lend(
        pipes: &Arc<Pipes>,
        take: impl Take<Self>,
        place: u32,
        carried: &mut Carried,
    ) -> Result<(u64, Lent<Self>), HandleError> {
        // One that was lent itself is lent on.
        let from = carried.from(place);
        let unread = carried.unread.get(&place).and_then(Weak::upgrade);
        let (pipe, lent, unread) = pipes.lend_input(take, from, unread)?;
        carried.unread.insert(place, Arc::downgrade(&unread));
        Ok((pipe, lent))
    }

    fn of(pipes: &Arc<Pipes>, pipe: u64) -> Result<Self, HandleError> {
        pipes.input(pipe)
    }

    fn away() -> Self {
        Box::new(Away)
    }

    fn loans(loans: &mut Loans) -> &mut LoansOf<Self> {
        &mut loans.inputs
    }
}

impl Stream for DynOutputStream {
    const RESOURCE: HostResource = HostResource::OutputStream;

    fn give(pipes: &Arc<Pipes>, take: impl Take<Self>) -> Result<u64, HandleError> {
        pipes.give_output(take)
    }

    fn lend(
        pipes: &Arc<Pipes>,
        take: impl Take<Self>,
        _place: u32,
        _carried: &mut Carried,
    ) -> Result<(u64, Lent<Self>), HandleError> {
        pipes.lend_output(take)
    }

    fn of(pipes: &Arc<Pipes>, pipe: u64) -> Result<Self, HandleError> {
        pipes.output(pipe)
    }

    fn away() -> Self {
        Box::new(Away)
    }

    fn loans(loans: &mut Loans) -> &mut LoansOf<Self> {
        &mut loans.outputs
    }
}

/// Gives a stream over a link: an `owned` one for good, else until [`Loans::put_back`].
pub(crate) fn lower(
    store: StoreContextMut<'_, State>,
    pipes: &Arc<Pipes>,
    resource: HostResource,
    handle: &ResourceAny,
    owned: bool,
    loans: &mut Loans,
) -> Result<u64, HandleError> {
    match resource {
        HostResource::InputStream => lower_stream::<DynInputStream>(store, pipes, handle, owned, loans),
        HostResource::OutputStream => lower_stream::<DynOutputStream>(store, pipes, handle, owned, loans),
        HostResource::Pollable => {
            let mut store = store;
            let handle = handle.try_into_resource::<DynPollable>(&mut store).map_err(refused)?;
            let awaited = store.data().carried.awaited.get(&handle.rep());
            let is_theirs =
                |(alive, of): &(Weak<()>, Arc<Pipes>)| alive.strong_count() > 0 && Arc::ptr_eq(of, pipes);
            if awaited.is_some_and(is_theirs) {
                // Each end would ask the other, and nobody would answer.
                let message = "a pollable cannot be given to where it is from".to_owned();
                return Err(HandleError::Store { message });
            }
            pipes.give_pollable(handle.rep(), owned)
        }
    }
}

fn lower_stream<S: Stream>(
    mut store: StoreContextMut<'_, State>,
    pipes: &Arc<Pipes>,
    handle: &ResourceAny,
    owned: bool,
    loans: &mut Loans,
) -> Result<u64, HandleError> {
    let handle = handle.try_into_resource::<S>(&mut store).map_err(refused)?;
    let State { table, carried, .. } = store.data_mut();
    carried.sweep(table);
    let place = handle.rep();
    let take = || Ok(std::mem::replace(table.get_mut(&handle).map_err(refused)?, S::away()));
    if !owned {
        let (pipe, lent) = S::lend(pipes, take, place, carried)?;
        S::loans(loans).lent.push((place, lent));
        return Ok(pipe);
    }
    let pipe = S::give(pipes, take)?;
    carried.unread.remove(&place);
    // A pollable of it may be left.
    if table.delete(handle).is_err() {
        carried.left.push((S::RESOURCE, place));
    }
    Ok(pipe)
}

/// Takes a stream from a link: an `owned` one for good, else until [`give_back`].
pub(crate) fn lift(
    mut store: StoreContextMut<'_, State>,
    pipes: &Arc<Pipes>,
    resource: HostResource,
    pipe: u64,
    owned: bool,
) -> Result<ResourceAny, HandleError> {
    let (handle, place) = match resource {
        HostResource::InputStream => lift_stream::<DynInputStream>(store.as_context_mut(), pipes, pipe),
        HostResource::OutputStream => lift_stream::<DynOutputStream>(store.as_context_mut(), pipes, pipe),
        HostResource::Pollable => lift_pollable(store.as_context_mut(), pipes, pipe),
    }?;
    if !owned {
        let loan = Loan { resource, handle, place, from: LentBy { pipes: pipes.clone(), pipe } };
        store.data_mut().carried.borrowed.push(loan);
    }
    Ok(handle)
}

fn lift_stream<S: Stream>(
    mut store: StoreContextMut<'_, State>,
    pipes: &Arc<Pipes>,
    pipe: u64,
) -> Result<(ResourceAny, u32), HandleError> {
    let stream = S::of(pipes, pipe)?;
    let stream = store.data_mut().table.push(stream).map_err(refused)?;
    let place = stream.rep();
    Ok((stream.try_into_resource_any(store).map_err(refused)?, place))
}

fn lift_pollable(
    mut store: StoreContextMut<'_, State>,
    pipes: &Arc<Pipes>,
    pipe: u64,
) -> Result<(ResourceAny, u32), HandleError> {
    let (awaited, alive) = pipes.pollable(pipe)?;
    let State { table, carried, .. } = store.data_mut();
    let awaited = table.push(awaited).map_err(refused)?;
    // It owns what it waits for.
    let pollable = subscribe(table, awaited).map_err(refused)?;
    let place = pollable.rep();
    carried.awaited.insert(place, (alive, pipes.clone()));
    Ok((pollable.try_into_resource_any(store).map_err(refused)?, place))
}

/// Drops the pollables that were given away and that the other node is done with.
pub(crate) fn release(pipes: &Pipes, table: &mut ResourceTable) {
    for place in pipes.released() {
        let _ = table.drop(Resource::<DynPollable>::new_own(place));
    }
}

/// Asks the pollables of a store that other nodes wait for. Never ends; may be given up at any time.
pub(crate) async fn poll(pipes: &Pipes, table: &mut ResourceTable) -> Infallible {
    loop {
        release(pipes, table);
        let asked = pipes.asked();
        if asked.is_empty() {
            pipes.polled().await;
            continue;
        }
        let pollables = asked.iter().map(|(_, polled)| Resource::new_borrow(polled.place)).collect();
        let ready = tokio::select! {
            biased;
            ready = Poll::poll(table, pollables) => ready,
            () = pipes.polled() => continue,
        };
        match ready {
            Ok(ready) => {
                let ready = ready.into_iter().filter_map(|index| asked.get(usize::try_from(index).ok()?));
                ready.for_each(|(pipe, _)| pipes.is_ready(*pipe));
            }
            // What one of them belonged to is gone, and they with it: whoever waits is told to look.
            Err(_) => asked.iter().for_each(|(pipe, _)| pipes.is_ready(*pipe)),
        }
    }
}

fn refused(error: impl Into<wasmtime::Error>) -> HandleError {
    HandleError::Store { message: format!("{:#}", error.into()) }
}

impl Loans {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.inputs.lent.is_empty() && self.outputs.lent.is_empty()
    }

    /// Resolves when the other node is done with all of them. May be given up and begun again.
    pub(crate) async fn returned(&mut self) {
        self.inputs.returned().await;
        self.outputs.returned().await;
    }

    /// Puts those that were returned in their places again.
    pub(crate) fn put_back(&mut self, state: &mut State) {
        self.inputs.put_back(&mut state.table);
        self.outputs.put_back(&mut state.table);
    }
}

impl<S: Send + 'static> LoansOf<S> {
    async fn returned(&mut self) {
        while let Some((place, lent)) = self.lent.last_mut() {
            let back = (*place, lent.back().await);
            self.lent.pop();
            self.back.push(back);
        }
    }

    fn put_back(&mut self, table: &mut ResourceTable) {
        for (place, back) in self.back.drain(..) {
            if let (Ok(there), Some(back)) = (table.get_mut(&Resource::<S>::new_borrow(place)), back) {
                *there = back;
            }
        }
    }
}

/// The call is over: what was borrowed for it is its owner's again.
pub(crate) fn give_back(mut store: StoreContextMut<'_, State>) -> wasmtime::Result<()> {
    let State { table, carried, .. } = store.data_mut();
    carried.sweep(table);
    for Loan { resource, handle, .. } in std::mem::take(&mut carried.borrowed) {
        let mut store = store.as_context_mut();
        match resource {
            HostResource::InputStream => give_back_stream::<DynInputStream>(store, handle)?,
            HostResource::OutputStream => give_back_stream::<DynOutputStream>(store, handle)?,
            HostResource::Pollable => {
                let handle = handle.try_into_resource::<DynPollable>(&mut store)?;
                store.data_mut().table.drop(handle)?;
            }
        }
    }
    Ok(())
}

fn give_back_stream<S: Stream>(
    mut store: StoreContextMut<'_, State>,
    handle: ResourceAny,
) -> wasmtime::Result<()> {
    let handle = handle.try_into_resource::<S>(&mut store)?;
    let State { table, carried, .. } = store.data_mut();
    let place = handle.rep();
    // A guest that still waits for it finds it closed.
    *table.get_mut(&handle)? = S::away();
    carried.unread.remove(&place);
    if table.delete(handle).is_err() {
        carried.left.push((S::RESOURCE, place));
    }
    Ok(())
}

/// In the place of a stream that is with somebody else: closed.
struct Away;

#[async_trait]
impl Pollable for Away {
    async fn ready(&mut self) {}
}

#[async_trait]
impl InputStream for Away {
    fn read(&mut self, _size: usize) -> StreamResult<Bytes> {
        Err(StreamError::Closed)
    }
}

#[async_trait]
impl OutputStream for Away {
    fn write(&mut self, _bytes: Bytes) -> StreamResult<()> {
        Err(StreamError::Closed)
    }

    fn flush(&mut self) -> StreamResult<()> {
        Err(StreamError::Closed)
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Err(StreamError::Closed)
    }
}
