//! The bytes of artifacts at other members: a majority has them before the log says that they are stored, and every
//! member gets what it misses.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cluster::State;
use cluster::state::MemberId;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use model::digest::Digest;
use model::graph::Artifact;
use proto::status::deepest;
use proto::weft::artifact::v1 as wire;
use proto::weft::artifact::v1::artifacts_client::ArtifactsClient;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::artifacts::{ArtifactError, ArtifactStore};
use crate::raft::{Handle, Peers, ReadError, Road};

/// How long other members may take to store an artifact: 64 MiB over a slow road.
const SPREAD_PATIENCE: Duration = Duration::from_mins(2);
/// How long a member may be silent while it sends.
const CHUNK_PATIENCE: Duration = Duration::from_secs(10);
/// The wait before what is missing is looked for again, where a fetch failed, and the longest.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
const LOOK_AGAIN_MOST: Duration = Duration::from_mins(1);

/// How often a member removes what nothing names, where the grace of artifacts is longer.
const TEND_EVERY: Duration = Duration::from_hours(1);
/// How often it reads all that it has: first when it starts.
const SCRUB_EVERY: Duration = Duration::from_hours(24);
/// How fast bytes are read to see whether they have rotted: 32 MiB a second, so that nothing else waits for the disk.
const SCRUB_BYTES_PER_MICROSECOND: u64 = 32;

/// The artifacts of all members; a cheap handle.
#[derive(Debug, Clone)]
pub struct Replicas {
    raft: Handle,
    artifacts: ArtifactStore,
    peers: Peers,
}

/// Why bytes are not where they should be.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// Too few members have them.
    #[error("{have} of {voters} members that vote have the bytes, and more than half must: {why}")]
    TooFew {
        /// How many have them.
        have: usize,
        /// Of how many.
        voters: usize,
        /// What the last one said that has not.
        why: String,
    },
    /// No member that was asked has them.
    #[error("no other member gives artifact {digest}: {why}")]
    NoSource {
        /// Which.
        digest: Digest,
        /// What the last one said.
        why: String,
    },
    /// This member was taken out: what it has is lost soon.
    #[error("this member is none of the cluster's any more")]
    NoMember,
    /// It is not known who the members are.
    #[error("{0}")]
    Read(#[from] ReadError),
    /// This member's disk.
    #[error("{0}")]
    Store(#[from] ArtifactError),
    /// A task was lost.
    #[error("storing was broken off")]
    Lost,
}

impl Replicas {
    /// The artifacts of the members of `raft`, of which this one has a store.
    pub fn new(raft: Handle, artifacts: ArtifactStore, peers: Peers) -> Self {
        Self { raft, artifacts, peers }
    }

    fn client(&self, address: &str) -> Option<ArtifactsClient<Channel>> {
        self.peers.channel(address, Road::Artifacts).map(ArtifactsClient::new)
    }

    fn me(&self) -> MemberId {
        MemberId(self.raft.id())
    }

    /// Returns once more than half of the members that vote have these bytes, which this member has.
    pub async fn spread(&self, artifact: Artifact) -> Result<(), ReplicaError> {
        // Of an older one, members may be counted that are gone.
        let state = self.raft.read().await?;
        let voters = state.members.iter().filter(|(_, record)| record.is_voter);
        let (mine, others): (Vec<_>, Vec<_>) = voters.partition(|(member, _)| **member == self.me());
        let (mut have, voters) = (mine.len(), mine.len() + others.len());
        let source = state.members.get(&self.me()).map(|record| record.address.clone());
        let is_enough = |have: usize| have * 2 > voters;
        let source = match source {
            Some(source) => source,
            // Before there are records of members, this one is alone.
            None if state.members.is_empty() => return Ok(()),
            None => return Err(ReplicaError::NoMember),
        };
        let mut asked: FuturesUnordered<_> = others
            .into_iter()
            .map(|(_, record)| self.ask_to_hold(record.address.clone(), artifact, source.clone()))
            .collect();
        let mut why = "nobody was asked".to_owned();
        while !is_enough(have) {
            match asked.next().await {
                Some(Ok(())) => have += 1,
                Some(Err(said)) => why = said,
                None => return Err(ReplicaError::TooFew { have, voters, why }),
            }
        }
        Ok(())
    }

    async fn ask_to_hold(&self, address: String, artifact: Artifact, source: String) -> Result<(), String> {
        let Some(mut client) = self.client(&address) else { return Err(format!("{address} is no address")) };
        let (digest, size) = (artifact.digest.to_string(), artifact.size);
        match timeout(SPREAD_PATIENCE, client.hold(wire::HoldRequest { digest, size, source })).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(status)) => Err(format!("{address}: {}", deepest(&status))),
            Err(_) => Err(format!("{address}: no answer within {} s", SPREAD_PATIENCE.as_secs())),
        }
    }

    /// Returns once this member has these bytes, from `source` or wherever they are.
    pub async fn hold(&self, artifact: Artifact, source: Option<&str>) -> Result<(), ReplicaError> {
        if self.has(artifact.digest).await? {
            return Ok(());
        }
        let state = self.raft.state();
        let others = state.members.iter().filter(|(member, _)| **member != self.me());
        let others = others.map(|(_, record)| record.address.as_str());
        let mut why = "there is no other member".to_owned();
        for address in source.into_iter().chain(others) {
            match self.fetch(artifact, address).await {
                Ok(()) => return Ok(()),
                // Somebody else stores it at this moment.
                Err(Fetched::Store(ArtifactError::Busy(_))) => tokio::time::sleep(LOOK_AGAIN / 10).await,
                Err(Fetched::Store(error)) => return Err(error.into()),
                Err(Fetched::Source(said)) => why = format!("{address}: {said}"),
            }
            if self.has(artifact.digest).await? {
                return Ok(());
            }
        }
        Err(ReplicaError::NoSource { digest: artifact.digest, why })
    }

    async fn has(&self, digest: Digest) -> Result<bool, ReplicaError> {
        let store = self.artifacts.clone();
        let found = tokio::task::spawn_blocking(move || store.stat(&digest).is_ok());
        found.await.map_err(|_| ReplicaError::Lost)
    }

    /// Gets the bytes from one member; what was stored of them before is kept.
    async fn fetch(&self, artifact: Artifact, address: &str) -> Result<(), Fetched> {
        let (store, digest) = (self.artifacts.clone(), artifact.digest);
        let offset = on_disk(move || Ok(store.stat(&digest).map_or_else(|offset| offset, |_| 0))).await?;
        let mut client = self.client(address).ok_or_else(|| Fetched::Source("it is no address".to_owned()))?;
        let said = |status: tonic::Status| Fetched::Source(deepest(&status));
        let request = wire::GetRequest { digest: digest.to_string(), offset };
        let chunks = timeout(CHUNK_PATIENCE, client.get(request)).await;
        let mut chunks = chunks.map_err(|_| Fetched::silent())?.map_err(said)?.into_inner();
        let store = self.artifacts.clone();
        let Some(mut upload) = on_disk(move || store.upload(artifact, offset)).await? else { return Ok(()) };
        loop {
            let message = timeout(CHUNK_PATIENCE, chunks.message()).await.map_err(|_| Fetched::silent())?;
            let Some(message) = message.map_err(said)? else { break };
            upload = on_disk(move || upload.append(&message.chunk).map(|()| upload)).await?;
        }
        match on_disk(move || upload.finish()).await? {
            true => Ok(()),
            false => Err(Fetched::Source("it ended before all bytes had come".to_owned())),
        }
    }

    /// Gets what this member misses of what the log says is stored, until `stop`.
    pub async fn keep(self, stop: CancellationToken) {
        let mut states = self.raft.changes();
        let mut seen = Arc::new(State::default());
        let mut missing: Vec<Artifact> = Vec::new();
        let mut pause = LOOK_AGAIN;
        loop {
            let state = states.borrow_and_update().clone();
            missing.extend(state.artifacts_beyond(&seen));
            // Those that were let go of meanwhile are nowhere any more.
            missing.retain(|artifact| state.artifacts.contains_key(&artifact.digest));
            seen = state;
            for artifact in std::mem::take(&mut missing) {
                let held = tokio::select! {
                    () = stop.cancelled() => return,
                    held = self.hold(artifact, None) => held,
                };
                if let Err(error) = held {
                    tracing::warn!(%error, "an artifact is not here yet");
                    missing.push(artifact);
                }
            }
            pause = if missing.is_empty() { LOOK_AGAIN } else { (pause * 2).min(LOOK_AGAIN_MOST) };
            tokio::select! {
                () = stop.cancelled() => return,
                changed = states.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(pause), if !missing.is_empty() => {}
            }
        }
    }

    /// Looks at what this member has, again and again until `stop`: bytes that have rotted are fetched anew, and those that
    /// nothing names are removed after a grace.
    pub async fn tend(self, grace: Duration, stop: CancellationToken) {
        let mut scrubbed: Option<Instant> = None;
        loop {
            if scrubbed.is_none_or(|last| last.elapsed() >= SCRUB_EVERY) {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.scrub() => {}
                }
                scrubbed = Some(Instant::now());
            }
            let (store, state) = (self.artifacts.clone(), self.raft.state());
            let swept =
                on_disk(move || store.sweep(|digest| state.artifacts.contains_key(digest), grace)).await;
            match swept {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, "artifacts that nothing names were removed"),
                Err(Fetched::Store(error)) => tracing::error!(%error, "artifacts were not swept"),
                Err(Fetched::Source(why)) => tracing::error!(why, "artifacts were not swept"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(grace.min(TEND_EVERY)) => {}
            }
        }
    }

    /// Reads all that is on this member's disk, slowly, and replaces what is not what it was.
    async fn scrub(&self) {
        let store = self.artifacts.clone();
        // The disk is asked and not the state, which may be behind when this member starts.
        let found = match on_disk(move || store.complete()).await {
            Ok(found) => found,
            Err(Fetched::Store(error)) => return tracing::error!(%error, "artifacts were not looked at"),
            Err(Fetched::Source(why)) => return tracing::error!(why, "artifacts were not looked at"),
        };
        for Artifact { digest, size } in found {
            let store = self.artifacts.clone();
            let read = tokio::task::spawn_blocking(move || store.read(&digest).map(|bytes| bytes.len())).await;
            match read {
                Ok(Err(ArtifactError::Mismatch { .. })) => self.replace(digest).await,
                // It was swept meanwhile.
                Ok(Err(ArtifactError::Missing(_))) => {}
                Ok(Err(error)) => tracing::error!(%digest, %error, "an artifact cannot be read"),
                Ok(Ok(_)) | Err(_) => {}
            }
            tokio::time::sleep(Duration::from_micros(size / SCRUB_BYTES_PER_MICROSECOND)).await;
        }
    }

    /// Fetches what was set aside. What the state does not have yet is fetched once it does.
    async fn replace(&self, digest: Digest) {
        let Some(artifact) = self.raft.state().artifacts.get(&digest).copied() else { return };
        match self.hold(artifact, None).await {
            Ok(()) => tracing::warn!(%digest, "an artifact that had rotted was fetched anew"),
            Err(error) => tracing::error!(%digest, %error, "an artifact has rotted, and nobody has it"),
        }
    }

    /// Returns once this member has those of these that the log says are stored.
    pub async fn hold_all(&self, digests: impl Iterator<Item = Digest>) -> Result<(), ReplicaError> {
        let state = self.raft.state();
        for artifact in digests.filter_map(|digest| state.artifacts.get(&digest)) {
            self.hold(*artifact, None).await?;
        }
        Ok(())
    }
}

/// Why bytes did not come.
enum Fetched {
    Store(ArtifactError),
    Source(String),
}

impl Fetched {
    fn silent() -> Self {
        Self::Source(format!("nothing came for {} s", CHUNK_PATIENCE.as_secs()))
    }
}

async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ArtifactError> + Send + 'static,
) -> Result<T, Fetched> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(Fetched::Store),
        Err(_) => Err(Fetched::Source("storing was broken off".to_owned())),
    }
}
