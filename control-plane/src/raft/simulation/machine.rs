//! The product's state machine, with the oracle behind it: what each member applies is compared with what the first one
//! applied.

use std::io;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};

use cluster::State;
use futures::future::ready;
use futures::{Stream, StreamExt as _};
use openraft::OptionalSend;
use openraft::storage::{EntryResponder, RaftStateMachine};
use tokio::sync::watch;

use super::plants::Plant;
use super::runtime::Process;
use crate::planted::Planted;
use crate::raft::chain::Sections;
use crate::raft::codec;
use crate::raft::disk::{Disk, DiskError};
use crate::raft::state_machine::{Builder, StateMachine};
use crate::raft::types::{
    EntryPayload, LogId, Snapshot, SnapshotBytes, SnapshotMeta, StoredMembership, TypeConfig,
};

/// One in so many commands is skipped where that is planted.
const SKIPPED_IN_THOUSAND: u64 = 10;

/// A state machine that is looked at, where it is part of a simulation.
#[derive(Debug)]
pub struct Machine {
    inner: StateMachine,
    states: watch::Receiver<Arc<State>>,
    process: Option<Arc<Process>>,
}

impl Machine {
    pub fn open(
        disk: impl Disk,
        path: &Path,
        planted: Planted,
    ) -> Result<(Self, watch::Receiver<Arc<State>>), DiskError> {
        let (inner, states) = StateMachine::open(disk, path, planted)?;
        let process = Process::current();
        if let (Some(process), Some(applied)) = (&process, inner.applied()) {
            process.world.oracle(|oracle| oracle.restored(process.member, applied, &states.borrow()));
        }
        Ok((Self { inner, states: states.clone(), process }, states))
    }

    pub const fn applied(&self) -> Option<LogId> {
        self.inner.applied()
    }

    pub const fn state(&self) -> &State {
        self.inner.state()
    }

    pub fn snapshot_size(&self) -> Arc<AtomicUsize> {
        self.inner.snapshot_size()
    }

    pub fn sections(&self) -> Sections {
        self.inner.sections()
    }

    pub async fn replace(&mut self, meta: SnapshotMeta, state: State) -> io::Result<()> {
        self.inner.replace(meta, state).await
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = SnapshotBytes;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        self.inner.applied_state().await
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let Some(process) = &self.process else { return self.inner.apply(entries).await };
        let (world, member) = (&process.world, process.member);
        let last = Mutex::new(None);
        let seen = entries.filter_map(|next| {
            let is_applied = next.as_ref().map_or(true, |(entry, responder)| {
                world.oracle(|oracle| oracle.applies(member, entry));
                *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(entry.log_id);
                let is_command = matches!(entry.payload, EntryPayload::Normal(_));
                let may_be_skipped = world.has(Plant::SkipsCommands) && is_command && responder.is_none();
                !(may_be_skipped && world.chance(|chance| chance.in_thousand(SKIPPED_IN_THOUSAND)))
            });
            ready(is_applied.then_some(next))
        });
        self.inner.apply(seen).await?;
        let last = *last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = last {
            world.oracle(|oracle| oracle.applied(member, last, &self.states.borrow()));
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        self.inner.get_snapshot_builder().await
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, bytes: SnapshotBytes) -> io::Result<()> {
        let Some(process) = &self.process else { return self.inner.install_snapshot(meta, bytes).await };
        let bytes =
            if process.world.has(Plant::SnapshotsWithoutRequests) { without_requests(&bytes)? } else { bytes };
        self.inner.install_snapshot(meta, bytes).await?;
        if let Some(last) = meta.last_log_id {
            process.world.oracle(|oracle| oracle.restored(process.member, last, &self.states.borrow()));
        }
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        self.inner.get_current_snapshot().await
    }
}

fn without_requests(bytes: &[u8]) -> io::Result<SnapshotBytes> {
    let (meta, state) = codec::decode_snapshot(bytes)?;
    let empty = State::default();
    let state = State { requests: empty.requests, request_ages: empty.request_ages, ..state };
    Ok(Arc::new(codec::encode_snapshot(&meta, &state)?))
}
