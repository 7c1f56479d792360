//! The engine's settings: hardened, without the concurrency of the component model, and a pool of instances.
//!
//! Compiled code is kept under these settings, so they are the same at every start.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::{CacheStore, Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, ProfilingStrategy, Strategy};

/// How often running guests are asked whether their time is over.
const TICK: Duration = Duration::from_millis(10);

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: u64 = 1 << 30;

/// What one linear memory reserves of the address space: bounds checks then cost nothing.
const MEMORY_RESERVATION_BYTES: u64 = 4 * GIB;
/// What lies between two memories, so that a large constant offset cannot reach the next one.
const MEMORY_GUARD_BYTES: u64 = 2 * GIB;
/// As large as `model::graph::MEMORY_MAX`.
const MEMORY_MAX_BYTES: usize = 128 * MIB;
/// The most components of one slice: `slice` unfolds no further.
pub(crate) const SLICE_INSTANCES_MAX: u32 = 256;
/// A member of a slice has its own core instance, and a shim and a fixup that its encoding needs.
const CORE_INSTANCES_PER_MEMBER: u32 = 4;
/// Its own table and that of the shim.
const TABLES_PER_MEMBER: u32 = 4;
const TABLE_ELEMENTS_MAX: usize = 20_000;
/// The host's own record of one instance of a slice: some KiB for each member.
const COMPONENT_INSTANCE_BYTES: usize = 4 * MIB;
/// The host's own record of one core instance; large guests have tens of thousands of functions.
const CORE_INSTANCE_BYTES: usize = 2 * MIB;
/// Frames of a trap's backtrace.
const BACKTRACE_FRAMES: usize = 20;

/// How much runs at the same time on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolLimits {
    /// Instances of slices: one for each request under way.
    pub instances: u32,
    /// Linear memories: one for each member of each such instance.
    pub memories: u32,
    /// Bytes at the start of a memory that are wiped by hand rather than given back to the system: 0 gives all back,
    /// more trades memory for page faults.
    pub resident_bytes: usize,
}

impl Default for PoolLimits {
    fn default() -> Self {
        // Twelve TiB of the 128 TiB of address space there are.
        Self { instances: 1_000, memories: 2_000, resident_bytes: 0 }
    }
}

/// What an instance of a slice takes from the pool, in memories.
pub(crate) fn weight(memories: u32, tables: u32) -> u32 {
    memories.max(tables.div_ceil(TABLES_PER_MEMBER)).max(1)
}

/// An engine with these settings.
pub(crate) fn engine(pool: PoolLimits, functions: Option<Arc<dyn CacheStore>>) -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .epoch_interruption(true)
        .max_wasm_stack(512 * KIB)
        .async_stack_size(2 * MIB)
        .async_stack_zeroing(true)
        .wasm_component_model(true)
        .wasm_component_model_async(false)
        .concurrency_support(false)
        .wasm_gc(false)
        .wasm_function_references(false)
        .wasm_exceptions(false)
        .wasm_threads(false)
        .shared_memory(false)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_tail_call(false)
        .wasm_relaxed_simd(false)
        .wasm_stack_switching(false)
        .wasm_custom_page_sizes(false)
        .wasm_wide_arithmetic(false)
        .cranelift_nan_canonicalization(true)
        .memory_reservation(MEMORY_RESERVATION_BYTES)
        .memory_guard_size(MEMORY_GUARD_BYTES)
        .guard_before_linear_memory(true)
        .memory_may_move(false)
        .wasm_backtrace_max_frames(NonZeroUsize::new(BACKTRACE_FRAMES))
        .profiler(ProfilingStrategy::None)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pooling(pool)));
    if let Some(functions) = functions {
        config.enable_incremental_compilation(functions)?;
    }
    Engine::new(&config)
}

fn pooling(limits: PoolLimits) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(limits.instances)
        .max_component_instance_size(COMPONENT_INSTANCE_BYTES)
        .total_core_instances(limits.memories.saturating_mul(CORE_INSTANCES_PER_MEMBER))
        .max_core_instance_size(CORE_INSTANCE_BYTES)
        .total_memories(limits.memories)
        .total_tables(limits.memories.saturating_mul(TABLES_PER_MEMBER))
        .total_stacks(limits.instances)
        .total_gc_heaps(0)
        .max_core_instances_per_component(SLICE_INSTANCES_MAX * CORE_INSTANCES_PER_MEMBER)
        .max_memories_per_component(SLICE_INSTANCES_MAX)
        .max_tables_per_component(SLICE_INSTANCES_MAX * TABLES_PER_MEMBER)
        .max_memory_size(MEMORY_MAX_BYTES)
        .table_elements(TABLE_ELEMENTS_MAX)
        .linear_memory_keep_resident(limits.resident_bytes)
        .max_unused_warm_slots(0);
    pool
}

/// Moves the engine's clock; the thread ends with the engine.
pub(crate) fn start_ticker(engine: &Engine) -> io::Result<()> {
    let engine = engine.weak();
    std::thread::Builder::new().name("epoch".to_owned()).spawn(move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(TICK);
        }
    })?;
    Ok(())
}
