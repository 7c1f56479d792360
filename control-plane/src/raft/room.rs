//! Room for changes: on the disk of this member, and among those that are under way.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use model::unit::ByteSize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// Commands that are under way at a leader at one time, in KiB: beyond them, whoever asks is told to ask again. It is
/// what a disk writes in a second, and small beside a member's memory.
const UNDER_WAY_MAX_KIB: u32 = 32 << 10;
/// What a command counts at least, in bytes: a small one costs more than its bytes.
const COMMAND_MIN_BYTES: usize = 4 << 10;
/// When to ask again: most of what is under way then is done by that time.
pub const ASK_AGAIN: Duration = Duration::from_millis(100);
/// How often the room on the disk is looked at: at 100 MB/s less than the usual reserve is written in that time.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A disk has room again once there is an eighth more than the reserve, and so much at most, so that it does not change
/// all the time.
const RELIEF_PART: u64 = 8;
const RELIEF_MAX: ByteSize = ByteSize::mebibytes(64);

/// The largest quota of the state: with what is added until that is noticed, a snapshot of it can still be read.
pub const STATE_QUOTA_MAX: ByteSize = ByteSize::mebibytes(2 << 10);

/// Whether there is room; a cheap handle.
#[derive(Debug, Clone)]
pub struct Room {
    is_low_on_disk: Arc<AtomicBool>,
    under_way: Arc<Semaphore>,
    state_quota: ByteSize,
}

impl Default for Room {
    fn default() -> Self {
        Self::new(STATE_QUOTA_MAX)
    }
}

impl Room {
    /// Room for a state of so many bytes.
    pub fn new(state_quota: ByteSize) -> Self {
        let under_way = Arc::new(Semaphore::new(UNDER_WAY_MAX_KIB as usize));
        Self { is_low_on_disk: Arc::default(), under_way, state_quota }
    }

    /// Whether a state of so many bytes may grow.
    pub(super) const fn is_within_quota(&self, bytes: u64) -> bool {
        bytes < self.state_quota.0
    }

    /// Whether the disk of this member has less room than is kept.
    pub(super) fn is_low_on_disk(&self) -> bool {
        self.is_low_on_disk.load(Ordering::Relaxed)
    }

    /// Counts a command of so many bytes as under way for as long as what is returned lives; none if there are too many.
    pub(super) fn enter(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let kib = u32::try_from(bytes.max(COMMAND_MIN_BYTES).div_ceil(1 << 10)).ok()?;
        self.under_way.clone().try_acquire_many_owned(kib).ok()
    }

    /// Looks at whether the disk of `data_dir` has less room than `reserve`, until `stop`.
    pub async fn keep(self, data_dir: PathBuf, reserve: ByteSize, stop: CancellationToken) {
        loop {
            let path = data_dir.clone();
            let found = super::spawn_blocking(move || rustix::fs::statvfs(&path)).await;
            match found {
                Ok(Ok(disk)) => self.found(disk.f_bavail.saturating_mul(disk.f_frsize), reserve),
                Ok(Err(error)) => tracing::warn!(%error, "the room on the disk is not known"),
                Err(error) => tracing::warn!(%error, "the room on the disk is not known"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    fn found(&self, free: u64, reserve: ByteSize) {
        let was_low = self.is_low_on_disk();
        let relief = if was_low { RELIEF_MAX.0.min(reserve.0 / RELIEF_PART) } else { 0 };
        let enough = reserve.0.saturating_add(relief);
        let is_low = free < enough;
        self.is_low_on_disk.store(is_low, Ordering::Relaxed);
        let free = ByteSize(free);
        match (was_low, is_low) {
            (false, true) => {
                tracing::error!(%free, %reserve, "the disk is nearly full: no new changes are taken here");
            }
            (true, false) => tracing::info!(%free, %reserve, "the disk has room again"),
            _ => {}
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_low_below_the_reserve_and_well_again_an_eighth_above_it() {
        let (room, reserve) = (Room::default(), ByteSize(800));
        for (free, is_low) in [(800, false), (799, true), (800, true), (899, true), (900, false), (800, false)]
        {
            room.found(free, reserve);
            assert_eq!(room.is_low_on_disk(), is_low, "{free}");
        }
    }

    #[test]
    fn what_is_under_way_is_bounded_by_its_bytes() {
        let room = Room::default();
        let large: Vec<_> = (0..200).map_while(|_| room.enter(256 << 10)).collect();
        assert_eq!(large.len(), 128);
        assert!(room.enter(1).is_none());
        drop(large);
        let small: Vec<_> = (0..20_000).map_while(|_| room.enter(1)).collect();
        assert_eq!(small.len(), 8 << 10);
    }
}
