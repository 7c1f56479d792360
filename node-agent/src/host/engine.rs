//! The engine's settings: hardened, without the concurrency of the component model, and a pool of instances.
//!
//! Compiled code is kept under these settings, so they are the same at every start.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::{
    CacheStore, Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig,
    ProfilingStrategy, Strategy,
};

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
/// Bytes at the top of a stack that are wiped by hand: what a call that is not deeply nested uses.
const STACK_RESIDENT_BYTES: usize = 32 * KIB;
/// Memories that keep the mappings of the component that used them last. With none, two components that take turns
/// take each other's only memory and map their data anew for every call.
const WARM_MEMORIES_MAX: u32 = 256;
/// Frames of a trap's backtrace.
const BACKTRACE_FRAMES: usize = 20;

/// How much runs at the same time on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolLimits {
    /// Instances of slices: one for each request under way.
    pub instances: u32,
    /// Linear memories: one for each member of each such instance.
    pub memories: u32,
    /// Bytes of a memory that an ended instance wrote and that are wiped by hand, rather than given back to the
    /// system: 0 gives all back, more trades memory for page faults. Without effect on kernels older than Linux 6.7,
    /// which do not say what was written.
    pub resident_bytes: usize,
}

impl Default for PoolLimits {
    fn default() -> Self {
        // Twelve TiB of the 128 TiB of address space there are. Small guests write some dozen pages in one call; those
        // who write more than this pay for it anyhow.
        Self { instances: 1_000, memories: 2_000, resident_bytes: 256 * KIB }
    }
}

impl PoolLimits {
    /// The memories that the sessions of one other node may have at a time: it leaves a quarter to everybody else.
    pub(crate) fn share(self) -> u32 {
        (self.memories - self.memories / 4).max(1)
    }

    /// What an instance of a slice takes from the pool, in memories. At least its share of them, so that who finds
    /// room for the memories finds an instance too.
    pub(crate) fn weight(self, memories: u32, tables: u32) -> u32 {
        let share = self.memories.div_ceil(self.instances.max(1));
        memories.max(tables.div_ceil(TABLES_PER_MEMBER)).max(share).max(1)
    }
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
        // The adapters between the members of a slice see the memories of both sides.
        .wasm_multi_memory(true)
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
        .async_stack_keep_resident(STACK_RESIDENT_BYTES)
        .max_unused_warm_slots(WARM_MEMORIES_MAX);
    // ADR 0003: what was written is wiped by hand where the kernel tells which pages that are. Where it cannot tell,
    // wiping would have to begin at the start of a memory, which is not where guests write.
    if PoolingAllocationConfig::is_pagemap_scan_available() {
        pool.pagemap_scan(Enabled::Yes)
            .linear_memory_keep_resident(limits.resident_bytes)
            .table_keep_resident(limits.resident_bytes);
    }
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use wasmtime::component::{Component, Linker};
    use wasmtime::{Result, Store};

    use super::*;

    /// Adds up all of its memory, a global and the size of its table, then writes over them and grows.
    const UNTIDY: &str = r#"(component
        (core module $m
            (memory 20)
            (data (i32.const 70000) "MARK")
            (global $g (mut i32) (i32.const 7))
            (table $t 4 funcref)
            (elem declare func $f)
            (func $f)
            (func (export "run") (param $bytes i32) (result i32)
                (local $at i32) (local $sum i32)
                (loop $each
                    (local.set $sum (i32.add (i32.rotl (local.get $sum) (i32.const 1)) (i32.load (local.get $at))))
                    (local.set $at (i32.add (local.get $at) (i32.const 4)))
                    (br_if $each (i32.lt_u (local.get $at) (i32.mul (memory.size) (i32.const 65536)))))
                (local.set $sum (i32.add (local.get $sum) (global.get $g)))
                (local.set $sum (i32.add (local.get $sum) (ref.is_null (table.get $t (i32.const 3)))))
                (memory.fill (i32.const 0) (i32.const 171) (i32.mul (local.get $bytes) (i32.const 8)))
                (drop (memory.grow (i32.const 2)))
                (memory.fill (i32.const 1310720) (i32.const 205) (local.get $bytes))
                (global.set $g (i32.const 99))
                (table.set $t (i32.const 3) (ref.func $f))
                (local.get $sum)))
        (core instance $i (instantiate $m))
        (func (export "run") (param "bytes" u32) (result u32) (canon lift (core func $i "run"))))"#;

    fn run(engine: &Engine, component: &Component, bytes: u32) -> Result<u32> {
        let mut store = Store::new(engine, ());
        store.set_epoch_deadline(u64::MAX / 2);
        let instance = Linker::new(engine).instantiate(&mut store, component)?;
        let (sum,) =
            instance.get_typed_func::<(u32,), (u32,)>(&mut store, "run")?.call(&mut store, (bytes,))?;
        Ok(sum)
    }

    #[test]
    fn the_only_memory_of_a_pool_is_as_new_for_every_instance_whatever_the_last_one_wrote() -> Result<()> {
        for resident_bytes in [0, 64 * KIB, PoolLimits::default().resident_bytes] {
            let engine = engine(PoolLimits { instances: 1, memories: 1, resident_bytes }, None)?;
            // Two components, so that the memory goes from one to the other, too.
            let [marked, other] = [UNTIDY.to_owned(), UNTIDY.replace("MARK", "mark")]
                .map(|text| Component::new(&engine, wat::parse_str(text).unwrap()));
            let (marked, other) = (marked?, other?);
            let [new, other_new] = [run(&engine, &marked, 0)?, run(&engine, &other, 0)?];
            assert_ne!(new, other_new);
            // Nothing, a byte, less than is kept, about as much, far more.
            for bytes in [0, 1, 4 << 10, 28 << 10, 32 << 10, 120 << 10] {
                assert_eq!(run(&engine, &marked, bytes)?, new, "{resident_bytes} {bytes}");
                assert_eq!(run(&engine, &marked, bytes)?, new, "{resident_bytes} {bytes}");
                assert_eq!(run(&engine, &other, bytes)?, other_new, "{resident_bytes} {bytes}");
            }
        }
        Ok(())
    }
}
