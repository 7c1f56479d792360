//! What one instance knows and may use: the data of its store.

use std::sync::Arc;
use std::time::Instant;

use wasmtime::component::ResourceTable;
use wasmtime::{ResourceLimiter, bail};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::host::egress::EgressHooks;
use crate::host::logs::GraphLog;
use crate::host::streams::Carried;
use crate::link::session::Sessions;
use crate::traces::Trace;

/// The most random bytes of one call.
const RANDOM_MAX_BYTES: u64 = 64 << 10;
/// The most host resources (streams, bodies, fields, connections) that one instance holds.
const RESOURCES_MAX: usize = 1024;
/// The most memory of the headers that one guest builds.
const FIELDS_MAX_BYTES: usize = 16 << 10;
/// The most entries of one table; the pool holds no more.
const TABLE_ELEMENTS_MAX: usize = 20_000;
/// More than any slice has; the pool's own bounds are tighter.
const OBJECTS_MAX: usize = 1_000;

/// The data of one store.
pub(crate) struct State {
    /// Made when the guest first asks for something of it: most calls never do, and its random numbers take longer to
    /// seed than a small guest runs.
    wasi: Option<WasiCtx>,
    http: WasiHttpCtx,
    pub(crate) table: ResourceTable,
    pub(crate) egress: EgressHooks,
    pub(crate) memory: MemoryBudget,
    /// Where the slice calls providers on other nodes.
    pub(crate) sessions: Option<Sessions>,
    /// Its streams and pollables that links have to do with.
    pub(crate) carried: Carried,
    pub(crate) call: Call,
}

/// What a call is known by, and when it must end.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// The request, as answered to the client.
    pub(crate) request: Arc<str>,
    /// The voice of the graph.
    pub(crate) log: Arc<GraphLog>,
    /// When it must have ended.
    pub(crate) deadline: Instant,
    /// Where it stands in its trace.
    pub(crate) trace: Trace,
}

impl State {
    /// Nothing is granted here: no arguments, environment, directories or sockets.
    pub(crate) fn new(call: Call, memory: MemoryBudget, egress: EgressHooks) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(FIELDS_MAX_BYTES);
        Self { wasi: None, http, table, egress, memory, sessions: None, carried: Carried::default(), call }
    }
}

fn wasi() -> WasiCtx {
    WasiCtxBuilder::new()
        .max_random_size(RANDOM_MAX_BYTES)
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .build()
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: self.wasi.get_or_insert_with(wasi), table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.egress, table: &mut self.table, ctx: &mut self.http }
    }
}

/// How much linear memory all components of a slice may use together, and each of them alone.
///
/// One that asks for more is ended at once: a guest that handles a refused growth badly would fail later and
/// elsewhere.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MemoryBudget {
    group_bytes: usize,
    single_bytes: usize,
    used_bytes: usize,
}

impl MemoryBudget {
    pub(crate) fn new(group_bytes: usize, single_bytes: usize) -> Self {
        Self { group_bytes, single_bytes, used_bytes: 0 }
    }
}

impl ResourceLimiter for MemoryBudget {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let used = self.used_bytes.saturating_add(desired.saturating_sub(current));
        if desired > self.single_bytes || used > self.group_bytes {
            bail!(
                "memory limit: a memory of {} KiB, {} KiB in all, where {} KiB and {} KiB are granted",
                desired >> 10,
                used >> 10,
                self.single_bytes >> 10,
                self.group_bytes >> 10
            );
        }
        self.used_bytes = used;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired > TABLE_ELEMENTS_MAX {
            bail!("table limit: {desired} entries, where {TABLE_ELEMENTS_MAX} are granted");
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        OBJECTS_MAX
    }

    fn tables(&self) -> usize {
        OBJECTS_MAX
    }

    fn memories(&self) -> usize {
        OBJECTS_MAX
    }
}
