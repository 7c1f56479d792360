//! The front door of consensus.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cluster::{Command, Outcome, State};
use openraft::errors::{ClientWriteError, RaftError};
use openraft::impls::BasicNode;
use openraft::raft::ReadPolicy;
use openraft::{Config, Raft, SnapshotPolicy};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::codec::{self, CommandError};
use super::compaction;
use super::disk::{self, DiskError, Kind, Write};
use super::log_store::LogStore;
use super::state_machine::StateMachine;
use super::transport::NoPeers;
use super::types::{Payload, TypeConfig};

/// The longest encoded command: larger ones would delay heartbeats.
pub const COMMAND_MAX_BYTES: usize = 256 << 10;
/// How long a proposal or a read may take before its outcome is said to be unknown.
const PATIENCE: Duration = Duration::from_secs(10);
/// Entries between two snapshots.
const SNAPSHOT_AFTER_ENTRIES: u64 = 10_000;
/// Entries kept behind a snapshot for members that lag a little.
const KEPT_ENTRIES: u64 = 2_000;
/// How long a member may take at start to lead or find a leader.
const START_PATIENCE: Duration = Duration::from_secs(30);

const IDENTITY: &str = "identity";

/// How a member is started.
#[derive(Debug, Clone)]
pub struct RaftConfig {
    /// Where its disks are.
    pub data_dir: PathBuf,
    /// Its id, never reused.
    pub node_id: u64,
    /// The implementation of its disks.
    pub storage: Kind,
    /// Whether a new cluster may be made in an empty directory.
    pub init: bool,
    /// Bytes of commands after which the log is replaced by a snapshot.
    pub log_max_bytes: usize,
}

/// Why a member cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its disk.
    #[error("the member's storage cannot be used")]
    Disk(#[from] DiskError),
    /// The directory is another member's.
    #[error("{path} belongs to {found}, not to {expected}: every member has a data directory of its own")]
    Identity {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
    /// The directory is empty and a new cluster was not asked for.
    #[error("{path} holds no cluster: start with --init to make a new one")]
    Uninitialised {
        /// The directory.
        path: PathBuf,
    },
    /// Consensus did not start.
    #[error("consensus did not start: {0}")]
    Start(String),
}

/// Why a proposal was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum ProposeError {
    /// It is too large; nothing was done.
    #[error(
        "the change has {size} bytes or more, and at most {COMMAND_MAX_BYTES} fit into one: make the manifest smaller"
    )]
    TooLarge {
        /// Its encoded size in bytes, or where counting ended.
        size: usize,
    },
    /// The log cannot carry it; nothing was done.
    #[error("the change cannot be written down: {0}")]
    Unreadable(String),
    /// Another member leads; nothing was done.
    #[error("this member does not lead")]
    NotLeader {
        /// The leader's address, if known.
        leader: Option<String>,
    },
    /// It may have been done or not.
    #[error("no answer within {} s: it is unknown whether the change was made", PATIENCE.as_secs())]
    Unknown,
    /// The member has stopped.
    #[error("this member has stopped: {0}")]
    Stopped(String),
}

/// Why a read has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No quorum confirmed the leader in time.
    #[error("the state cannot be read now: {0}")]
    Unavailable(String),
}

/// A command that a quorum has on disk, and that is applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Committed {
    /// Its place in the log.
    pub index: u64,
    /// What became of it.
    pub outcome: Outcome,
}

/// The member; a cheap handle.
#[derive(Clone)]
pub struct Handle {
    raft: Raft<TypeConfig, StateMachine>,
    states: watch::Receiver<Arc<State>>,
    compaction: Arc<JoinHandle<()>>,
}

impl Handle {
    /// Starts the member on its data directory and waits until it has caught up with its own log.
    pub async fn open(config: RaftConfig) -> Result<Self, OpenError> {
        let (log, machine, states, is_new) = {
            let config = config.clone();
            tokio::task::spawn_blocking(move || open_storage(&config))
                .await
                .map_err(|error| OpenError::Start(error.to_string()))??
        };
        let failed = |error: &dyn std::fmt::Display| OpenError::Start(error.to_string());
        let settings = Arc::new(settings().map_err(|error| failed(&error))?);
        let raft = Raft::new(config.node_id, settings, NoPeers, log.clone(), machine)
            .await
            .map_err(|error| failed(&error))?;
        let initialised = raft.is_initialized().await.map_err(|error| failed(&error))?;
        if !initialised {
            if !config.init && is_new {
                return Err(OpenError::Uninitialised { path: config.data_dir });
            }
            let members = BTreeMap::from([(config.node_id, BasicNode { addr: String::new() })]);
            raft.initialize(members).await.map_err(|error| failed(&error))?;
        }
        raft.wait(Some(START_PATIENCE))
            .current_leader(config.node_id, "start")
            .await
            .map_err(|error| failed(&error))?;
        let compaction = tokio::spawn(compaction::run(raft.clone(), log, config.log_max_bytes));
        let handle = Self { raft, states, compaction: Arc::new(compaction) };
        handle.read().await.map_err(|error| failed(&error))?;
        Ok(handle)
    }

    /// Proposes a command and waits until it is applied.
    pub async fn propose(&self, command: Command) -> Result<Committed, ProposeError> {
        let stopped = |error: &dyn std::fmt::Display| ProposeError::Stopped(error.to_string());
        let payload = fitting(&command)?;
        let written = tokio::time::timeout(PATIENCE, self.raft.client_write(payload)).await;
        match written.map_err(|_| ProposeError::Unknown)? {
            Ok(written) => match written.data {
                Some(outcome) => Ok(Committed { index: written.log_id.index, outcome }),
                None => Err(ProposeError::Unknown),
            },
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => {
                Err(ProposeError::NotLeader { leader: to.leader_node.map(|node| node.addr) })
            }
            Err(RaftError::Fatal(fatal)) => Err(stopped(&fatal)),
            Err(RaftError::APIError(_)) => Err(ProposeError::Unknown),
        }
    }

    /// The state with every write in it that was acknowledged before this call.
    pub async fn read(&self) -> Result<Arc<State>, ReadError> {
        let read = self.raft.ensure_linearizable(ReadPolicy::ReadIndex);
        match tokio::time::timeout(PATIENCE, read).await {
            Ok(Ok(_)) => Ok(self.state()),
            Ok(Err(error)) => Err(ReadError::Unavailable(error.to_string())),
            Err(_) => Err(ReadError::Unavailable("no answer from a quorum".to_owned())),
        }
    }

    /// The latest applied state; it may lag behind what others have seen.
    pub fn state(&self) -> Arc<State> {
        self.states.borrow().clone()
    }

    /// Wakes after each change of the state.
    pub fn changes(&self) -> watch::Receiver<Arc<State>> {
        self.states.clone()
    }

    /// Why the member has stopped by itself, once it has: a disk that refused a write, an entry it cannot read.
    pub async fn stopped(&self) -> String {
        match self.raft.wait(None).metrics(|metrics| metrics.running_state.is_err(), "stop").await {
            Ok(metrics) => match metrics.running_state {
                Err(fatal) => fatal.to_string(),
                Ok(()) => "consensus has ended".to_owned(),
            },
            Err(error) => error.to_string(),
        }
    }

    /// Stops the member after what is under way.
    pub async fn shutdown(&self) {
        self.compaction.abort();
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "consensus did not stop in order");
        }
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Handle").finish_non_exhaustive()
    }
}

/// Refuses a command that would not fit into one entry of the log.
pub fn check_size(command: &Command) -> Result<(), ProposeError> {
    fitting(command).map(drop)
}

fn fitting(command: &Command) -> Result<Payload, ProposeError> {
    let payload = codec::encode_command(command).map_err(|error| match error {
        CommandError::TooLong => ProposeError::TooLarge { size: codec::UNPACKED_MAX_BYTES },
        CommandError::Unreadable(why) => ProposeError::Unreadable(why.to_string()),
    })?;
    let size = payload.0.len();
    if size > COMMAND_MAX_BYTES { Err(ProposeError::TooLarge { size }) } else { Ok(payload) }
}

/// Chosen so that the lease of a lost leader and an election fit into about a second.
fn settings() -> Result<Config, openraft::ConfigError> {
    Config {
        cluster_name: "weft".to_owned(),
        heartbeat_interval: 100,
        election_timeout_min: 400,
        election_timeout_max: 700,
        enable_pre_vote: Some(true),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_AFTER_ENTRIES),
        max_in_snapshot_log_to_keep: KEPT_ENTRIES,
        ..Config::default()
    }
    .validate()
}

type Opened = (LogStore, StateMachine, watch::Receiver<Arc<State>>, bool);

fn open_storage(config: &RaftConfig) -> Result<Opened, OpenError> {
    let path = |name: &str| config.data_dir.join(name);
    let mut raft = disk::open(config.storage, &config.data_dir, "raft")?;
    let state = disk::open(config.storage, &config.data_dir, "state")?;
    let (machine, states) = StateMachine::open(state, &path("state"))?;
    let is_new = identify(&mut *raft, config, machine.applied().is_some())?;
    let log = LogStore::open(raft, &path("raft"))?;
    if log.purged() > machine.applied() {
        let what = "it has no snapshot of what was removed from the log".to_owned();
        return Err(DiskError::Damaged { path: path("state"), what }.into());
    }
    Ok((log, machine, states, is_new))
}

/// Writes the member's identity into a new directory, and refuses one with another identity.
fn identify(disk: &mut dyn disk::Disk, config: &RaftConfig, has_snapshot: bool) -> Result<bool, OpenError> {
    let expected = format!("member {}, format 1", config.node_id);
    let path = config.data_dir.join("raft");
    let loaded = disk.load()?;
    match loaded.values.get(IDENTITY) {
        Some(found) if found == expected.as_bytes() => Ok(false),
        Some(found) => Err(OpenError::Identity {
            path: config.data_dir.clone(),
            found: String::from_utf8_lossy(found).into_owned(),
            expected,
        }),
        None if loaded.entries.is_empty() && !has_snapshot => {
            if !config.init {
                return Err(OpenError::Uninitialised { path: config.data_dir.clone() });
            }
            disk.commit(&[Write::Put { key: IDENTITY, bytes: expected.into_bytes() }])
                .map_err(|source| DiskError::Io { path, source })?;
            Ok(true)
        }
        None => {
            let what = "there is a log or a snapshot, and no identity".to_owned();
            Err(DiskError::Damaged { path, what }.into())
        }
    }
}

#[cfg(test)]
mod tests;
