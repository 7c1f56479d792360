//! Applies committed entries to the cluster's state and publishes each new state.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cluster::{Command, Outcome, State};
use futures::{Stream, StreamExt as _};
use openraft::OptionalSend;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use tokio::sync::watch;

use super::chain::{Chain, Sections};
use super::codec;
use super::disk::{Disk, DiskError, Write, Writer};
use super::types::{EntryPayload, LogId, Snapshot, SnapshotBytes, SnapshotMeta, StoredMembership, TypeConfig};
use crate::clock::now_ms;
use crate::planted::{Bug, Planted};

/// The state machine.
#[derive(Debug)]
pub struct StateMachine {
    state: State,
    applied: Option<LogId>,
    membership: StoredMembership,
    published: watch::Sender<Arc<State>>,
    store: Arc<SnapshotStore>,
    chain: Chain,
    planted: Planted,
}

/// The last snapshot, in memory and on its disk.
#[derive(Debug)]
struct SnapshotStore {
    disk: Writer,
    current: tokio::sync::Mutex<Option<(SnapshotMeta, SnapshotBytes)>>,
    /// Of the last snapshot.
    size: Arc<AtomicUsize>,
}

impl StateMachine {
    /// Reads the last snapshot from `disk` and gives the disk to its thread.
    pub fn open(
        mut disk: impl Disk,
        path: &Path,
        planted: Planted,
    ) -> Result<(Self, watch::Receiver<Arc<State>>), DiskError> {
        let bytes = disk.load()?.snapshot;
        let damaged = |error: io::Error| DiskError::Damaged {
            path: path.to_owned(),
            what: format!("the snapshot: {error}"),
        };
        let (meta, state) = match &bytes {
            Some(bytes) => {
                let (meta, state) = codec::decode_snapshot(bytes).map_err(damaged)?;
                (Some(meta), state)
            }
            None => (None, State::default()),
        };
        let disk =
            Writer::start("state", disk).map_err(|source| DiskError::Io { path: path.to_owned(), source })?;
        let size = Arc::new(AtomicUsize::new(bytes.as_ref().map_or(0, Vec::len)));
        let current = meta.clone().zip(bytes.map(Arc::new));
        let is_empty = meta.is_none();
        let (published, receiver) = watch::channel(Arc::new(state.clone()));
        let machine = Self {
            state,
            applied: meta.as_ref().and_then(|meta| meta.last_log_id),
            membership: meta.map(|meta| meta.last_membership).unwrap_or_default(),
            published,
            store: Arc::new(SnapshotStore { disk, current: tokio::sync::Mutex::new(current), size }),
            chain: Chain::new(is_empty),
            planted,
        };
        Ok((machine, receiver))
    }

    /// The last entry that the snapshot holds, before anything else is applied.
    pub const fn applied(&self) -> Option<LogId> {
        self.applied
    }

    /// How many bytes the last snapshot has, from now on.
    pub fn snapshot_size(&self) -> Arc<AtomicUsize> {
        self.store.size.clone()
    }

    /// What sections of the log have come to.
    pub fn sections(&self) -> Sections {
        self.chain.sections()
    }

    /// The state that the snapshot holds, before anything else is applied.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Puts another state in place of this one, as a snapshot.
    pub async fn replace(&mut self, meta: SnapshotMeta, state: State) -> io::Result<()> {
        let bytes = codec::encode_snapshot(&meta, &state)?;
        self.install(meta, state, Arc::new(bytes)).await
    }

    async fn install(&mut self, meta: SnapshotMeta, state: State, bytes: SnapshotBytes) -> io::Result<()> {
        self.store.keep(meta.clone(), bytes).await?;
        self.state = state;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership;
        self.chain.forget();
        self.publish();
        Ok(())
    }

    fn change(&mut self, mut command: Command) -> Outcome {
        if self.planted.has(Bug::ClockInApply) {
            command.now_ms = now_ms();
        }
        let outcome = self.state.apply(&command);
        if self.planted.has(Bug::ReusedMemberId) {
            self.state.last_member = self.state.members.keys().map(|member| member.0).max().unwrap_or_default();
        }
        outcome
    }

    fn publish(&self) {
        self.published.send_replace(Arc::new(self.state.clone()));
    }
}

impl SnapshotStore {
    async fn keep(&self, meta: SnapshotMeta, bytes: SnapshotBytes) -> io::Result<()> {
        let mut current = self.current.lock().await;
        self.write(&mut current, meta, bytes).await
    }

    /// Keeps one that was built here, unless a newer one has come from the leader meanwhile: the log behind that may be
    /// gone already. The one that is kept then.
    async fn keep_built(&self, meta: SnapshotMeta, bytes: SnapshotBytes) -> io::Result<Snapshot> {
        let mut current = self.current.lock().await;
        if let Some((newer, bytes)) = current.as_ref().filter(|(kept, _)| kept.last_log_id > meta.last_log_id) {
            return Ok(Snapshot { meta: newer.clone(), snapshot: bytes.clone() });
        }
        self.write(&mut current, meta.clone(), bytes.clone()).await?;
        Ok(Snapshot { meta, snapshot: bytes })
    }

    async fn write(
        &self,
        current: &mut Option<(SnapshotMeta, SnapshotBytes)>,
        meta: SnapshotMeta,
        bytes: SnapshotBytes,
    ) -> io::Result<()> {
        self.disk.write_and_wait(vec![Write::Snapshot(bytes.clone())]).await?;
        self.size.store(bytes.len(), Ordering::Relaxed);
        *current = Some((meta, bytes));
        Ok(())
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotBytes;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let mut answers = Vec::new();
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let (command, outcome) = match &entry.payload {
                EntryPayload::Blank => (&[][..], None),
                EntryPayload::Normal(payload) => {
                    (&payload.0[..], Some(self.change(codec::decode_command(payload)?)))
                }
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership.clone());
                    (&[][..], None)
                }
            };
            self.chain.take(entry.log_id.index, command, outcome.as_ref());
            self.applied = Some(entry.log_id);
            answers.extend(responder.map(|responder| (responder, outcome)));
        }
        // Who asked must find its own write in the published state.
        self.publish();
        answers.into_iter().for_each(|(responder, outcome)| responder.send(outcome));
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let mut state = self.state.clone();
        if self.planted.has(Bug::ForgottenRequests) {
            (state.requests, state.request_ages) = Default::default();
        }
        Builder {
            meta: SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() },
            state,
            store: self.store.clone(),
        }
    }

    async fn install_snapshot(&mut self, _: &SnapshotMeta, bytes: SnapshotBytes) -> io::Result<()> {
        let (meta, state) = codec::decode_snapshot(&bytes)?;
        let state = if self.planted.has(Bug::LostSnapshot) { self.state.clone() } else { state };
        self.install(meta, state, bytes).await
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let current = self.store.current.lock().await;
        Ok(current.as_ref().map(|(meta, bytes)| Snapshot { meta: meta.clone(), snapshot: bytes.clone() }))
    }
}

/// Builds a snapshot beside the state machine: cloning the state costs nothing.
#[derive(Debug)]
pub struct Builder {
    meta: SnapshotMeta,
    state: State,
    store: Arc<SnapshotStore>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotBytes;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let (meta, state) = (self.meta.clone(), self.state.clone());
        let bytes = super::spawn_blocking(move || codec::encode_snapshot(&meta, &state))
            .await
            .map_err(io::Error::other)??;
        self.store.keep_built(self.meta.clone(), Arc::new(bytes)).await
    }
}
