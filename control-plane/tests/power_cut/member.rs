//! A whole member: consensus over both of its disks, with snapshots and purges, and its artifacts.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use cluster::command::Body;
use cluster::{Command, State};
use control_plane::artifacts::ArtifactStore;
use control_plane::planted::{Bug, Planted};
use control_plane::raft::disk::Kind;
use control_plane::raft::{ELECTION_TIMEOUT, Handle, Peers, RaftConfig, Room, Start};
use model::digest::Digest;
use model::graph::Artifact;
use model::id::Uid;
use model::node::{Capacity, NodeDescription};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Runtime;

use super::chance::Chance;
use super::cuts::{Progress, Subject, chain};

/// Steps of a recording: a few seconds of them, so that the log outgrows its bound more than once.
const STEPS: usize = 400;
/// A log of this size is replaced by a snapshot.
const LOG_MAX_BYTES: usize = 256 << 10;
/// A step of this many has an artifact.
const ARTIFACT_EVERY: usize = 8;
/// After this many steps the member stops and starts again.
const STEPS_TO_RESTART: usize = 150;
const NODE: &str = "n1";

/// The member and what is asked of it.
pub struct Member {
    kind: Kind,
    seed: u64,
    planted: Planted,
}

impl Member {
    /// That of a seed.
    pub const fn new(kind: Kind, seed: u64) -> Self {
        Self::with(kind, seed, None)
    }

    /// The same, with a bug.
    pub const fn with(kind: Kind, seed: u64, bug: Option<Bug>) -> Self {
        Self { kind, seed, planted: Planted::of(bug) }
    }

    fn open(&self, folder: &Path, runtime: &Runtime) -> Result<Handle, String> {
        let config = RaftConfig {
            data_dir: folder.to_owned(),
            node_id: 1,
            storage: self.kind,
            start: Start::Init,
            peers: Peers::default(),
            log_max_bytes: LOG_MAX_BYTES,
            election_timeout: ELECTION_TIMEOUT,
            room: Room::default(),
            planted: self.planted,
        };
        runtime.block_on(Handle::open(config)).map_err(|error| chain(&error))
    }

    /// What a step brings: a new version of a node, of some size, and now and then the bytes of an artifact.
    fn step(&self, number: usize) -> (Command, Option<Vec<u8>>) {
        let mut chance = Chance::new(self.seed.wrapping_add(number as u64));
        let size = chance.below(8 << 10);
        let padding = hex::encode(chance.bytes(size));
        let description = NodeDescription {
            name: NODE.parse().expect("a name"),
            uid: Uid::new("uid").expect("an id"),
            api_address: String::new(),
            ingress_address: String::new(),
            version: number.to_string(),
            labels: BTreeMap::from([("padding".to_owned(), padding)]),
            capabilities: Vec::new(),
            capacity: Capacity { memory_bytes: 0, cpus: 0, instances: 0 },
            level: 0,
        };
        let body = Body::RegisterNode(description);
        let size = chance.below(300 << 10);
        let artifact = number.is_multiple_of(ARTIFACT_EVERY).then(|| chance.bytes(size));
        (Command { now_ms: number as u64, request: None, body }, artifact)
    }
}

fn artifact_of(bytes: &[u8]) -> Artifact {
    Artifact { digest: Digest::from_bytes(Sha256::digest(bytes).into()), size: bytes.len() as u64 }
}

fn propose(handle: &Handle, runtime: &Runtime, command: Command) -> io::Result<()> {
    runtime.block_on(handle.propose(command)).map(drop).map_err(io::Error::other)
}

impl Subject for Member {
    fn steps(&self) -> usize {
        STEPS
    }

    fn run(&self, folder: &Path, progress: &mut Progress) -> io::Result<()> {
        let runtime = Runtime::new()?;
        let mut opened: Option<Handle> = None;
        let mut store = None;
        for number in 1..=STEPS {
            if number % STEPS_TO_RESTART == 1 {
                if let Some(handle) = opened.take() {
                    runtime.block_on(handle.shutdown());
                }
                opened = Some(self.open(folder, &runtime).map_err(io::Error::other)?);
                store = Some(ArtifactStore::open(folder).map_err(io::Error::other)?);
            }
            let (Some(handle), Some(store)) = (&opened, &store) else { unreachable!("opened above") };
            progress.begins(number)?;
            let (command, bytes) = self.step(number);
            if let Some(bytes) = bytes {
                let artifact = artifact_of(&bytes);
                let upload = store.upload(artifact, 0).map_err(io::Error::other)?;
                let mut upload = upload.ok_or_else(|| io::Error::other("it is there already"))?;
                for chunk in bytes.chunks(64 << 10) {
                    upload.append(chunk).map_err(io::Error::other)?;
                }
                assert!(upload.finish().map_err(io::Error::other)?);
                let body = Body::PutArtifact(artifact);
                propose(handle, &runtime, Command { now_ms: number as u64, request: None, body })?;
            }
            propose(handle, &runtime, command)?;
            progress.acknowledges(number)?;
        }
        // Killed, as it were: what is left undone is left undone.
        Ok(())
    }

    fn check(&self, folder: &Path, acknowledged: usize, begun: usize, goes_on: bool) -> Result<(), String> {
        let runtime = Runtime::new().map_err(|error| error.to_string())?;
        let handle = self.open(folder, &runtime)?;
        let state = handle.state();
        let store = ArtifactStore::open(folder).map_err(|error| chain(&error))?;
        let judged = self.judge(&state, &store, acknowledged, begun).and_then(|()| {
            if !goes_on {
                return Ok(());
            }
            let (command, _) = self.step(STEPS + 1);
            propose(&handle, &runtime, command).map_err(|error| error.to_string())
        });
        runtime.block_on(handle.shutdown());
        judged
    }
}

impl Member {
    fn judge(
        &self,
        state: &State,
        store: &ArtifactStore,
        acknowledged: usize,
        begun: usize,
    ) -> Result<(), String> {
        let found = match state.nodes.iter().next() {
            Some((_, node)) => {
                node.description.version.parse().map_err(|_| "a version that was not written")?
            }
            None => 0_usize,
        };
        if !(acknowledged..=begun).contains(&found) {
            return Err(format!("{acknowledged} steps were acknowledged and {begun} begun: {found} are there"));
        }
        if found > 0 {
            let (Command { body, .. }, _) = self.step(found);
            let same = state.nodes.iter().all(|(_, node)| body == Body::RegisterNode(node.description.clone()));
            same.then_some(()).ok_or("a node is not what was written")?;
        }
        let wanted: Vec<Artifact> =
            (1..=found).filter_map(|number| self.step(number).1).map(|bytes| artifact_of(&bytes)).collect();
        for artifact in &wanted {
            if state.artifacts.get(&artifact.digest) != Some(artifact) {
                return Err(format!("artifact {} was acknowledged and is not known", artifact.digest));
            }
        }
        // One more than its node: it is written down before.
        if state.artifacts.len() > wanted.len() + 1 {
            return Err("artifacts are known that were never uploaded".to_owned());
        }
        for digest in state.artifacts.keys() {
            store.read(digest).map_err(|error| format!("an artifact that is known: {}", chain(&error)))?;
        }
        let broken = cluster::check(state);
        if broken.is_empty() { Ok(()) } else { Err(broken.join("; ")) }
    }
}
