//! Keeps the log short by its size: openraft counts entries only, and these are held in memory.

use std::time::Duration;

use openraft::Raft;
use tokio::time::Instant;

use super::Machine;
use super::log_store::LogSize;
use super::types::TypeConfig;

/// A log with more bytes of commands is replaced by a snapshot. Ten thousand entries, after which openraft makes one by
/// itself, are 2.5 GiB at worst.
pub const LOG_MAX_BYTES: usize = 64 << 20;
/// How often the size is looked at: at the speed of a disk, little more than the bound gathers meanwhile.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// How often a state that is as large as it may be is looked at: what was deleted counts until a snapshot is without it.
const FULL_EVERY: Duration = Duration::from_secs(5);

/// Runs until consensus stops.
pub async fn run(
    raft: Raft<TypeConfig, Machine>,
    log: LogSize,
    max_bytes: usize,
    is_full: impl Fn() -> bool + Send + 'static,
) {
    let mut looked = Instant::now();
    loop {
        tokio::time::sleep(CHECK_EVERY).await;
        let may_shrink = is_full() && log.bytes() > 0 && looked.elapsed() >= FULL_EVERY;
        if log.bytes() > max_bytes || may_shrink {
            looked = Instant::now();
            if compact(&raft).await.is_none() {
                return;
            }
        }
    }
}

/// Makes a snapshot and removes what it holds from the log; `None` if consensus has stopped.
async fn compact(raft: &Raft<TypeConfig, Machine>) -> Option<()> {
    let applied = raft.wait(None).metrics(|m| m.last_applied.is_some(), "applied").await.ok()?.last_applied;
    raft.trigger().snapshot().await.ok()?;
    let made = raft.wait(None).metrics(|m| m.snapshot >= applied, "snapshot").await.ok()?;
    let index = made.snapshot?.index;
    raft.trigger().purge_log(index).await.ok()?;
    let purged = |index: u64| {
        move |m: &openraft::RaftMetrics<TypeConfig>| {
            m.purged.as_ref().is_some_and(|purged| purged.index >= index)
        }
    };
    raft.wait(None).metrics(purged(index), "purge").await.ok()?;
    tracing::info!(index, "the log was replaced by a snapshot");
    Some(())
}
