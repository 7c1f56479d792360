//! What a large state costs: memory, the time to catch up with it, and the time to start with it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::super::{Bench, say};
use super::{MEMBERS, Store};

/// Small objects, for their memory.
const OBJECTS: u64 = 10_000;
const OBJECT_BYTES: u64 = 256;
/// Large ones, 1 GiB in all; a tenth of them in a trial.
const LARGE_OBJECTS: u64 = 8_192;
const LARGE_BYTES: u64 = 128 << 10;
/// What was put is on all disks by then, and what it took is given back.
const SETTLE: Duration = Duration::from_secs(3);
/// How long a member may take to have what the others have.
const CATCH_UP_PATIENCE: Duration = Duration::from_mins(10);
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub(super) fn run(bench: &Bench, stores: &mut [Store]) -> anyhow::Result<()> {
    say(&format!(
        "\nraft: resident memory of the largest member, before and with {OBJECTS} objects of {OBJECT_BYTES} bytes"
    ));
    for store in &mut *stores {
        let before = store.memory()?;
        store.load(bench, &["fill", &OBJECTS.to_string(), &OBJECT_BYTES.to_string()])?;
        std::thread::sleep(SETTLE);
        let after = store.memory()?;
        say(&format!(
            "  {:<34} {before:>9} KiB {after:>9} KiB {:>9.2} KiB per object",
            store.name,
            after.saturating_sub(before) as f64 / OBJECTS as f64
        ));
    }
    let objects = if bench.quick { LARGE_OBJECTS / 8 } else { LARGE_OBJECTS };
    say(&format!(
        "\nraft: {objects} objects of {} KiB, {} MiB in all, put while one member is down; then that starts and catches up, \
         and starts again",
        LARGE_BYTES >> 10,
        (objects * LARGE_BYTES) >> 20
    ));
    for store in stores {
        let leader = store.load(bench, &["leader"])?["leader"].as_u64().context("a leader")?;
        let away = (usize::try_from(leader)? + 1) % MEMBERS;
        store.processes[away] = None;
        let filled = store.load(bench, &["fill", &objects.to_string(), &LARGE_BYTES.to_string()])?;
        let filled = filled["seconds"].as_f64().context("no time")?;
        let caught_up = store.comes_back(bench, away)?;
        std::thread::sleep(SETTLE);
        store.processes[away] = None;
        let restarted = store.comes_back(bench, away)?;
        say(&format!(
            "  {:<34} put in {filled:>6.1} s, caught up in {caught_up:>6.2} s, started again in {restarted:>6.2} s, {:>9} KiB \
             resident at most",
            store.name,
            store.memory()?
        ));
    }
    say("  target: caught up at most 10 s for each GiB");
    Ok(())
}

impl Store {
    /// Of the member that has most, in KiB.
    fn memory(&self) -> anyhow::Result<u64> {
        let mut most = 0;
        for process in self.processes.iter().flatten() {
            most = most.max(process.memory()?.resident_kib);
        }
        Ok(most)
    }

    /// Starts a member and says after how many seconds it has what the others have.
    fn comes_back(&mut self, bench: &Bench, member: usize) -> anyhow::Result<f64> {
        let began = Instant::now();
        self.start(member)?;
        loop {
            // It may not answer yet.
            let behind = self.load(bench, &["behind", &member.to_string()]);
            if behind.is_ok_and(|told| told["behind"] == 0) {
                return Ok(began.elapsed().as_secs_f64());
            }
            if began.elapsed() > CATCH_UP_PATIENCE {
                bail!("{}: member {member} did not catch up", self.name);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}
