//! The front door of consensus.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use cluster::command::Body;
use cluster::state::{FIRST_MEMBER, MemberId};
use cluster::{Command, Outcome, State};
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{ClientWriteError, LinearizableReadError, RaftError};
use openraft::impls::BasicNode;
use openraft::raft::ReadPolicy;
use openraft::type_config::TypeConfigExt as _;
use openraft::{Config, Raft, SnapshotPolicy};
use proto::status::{deepest, is_not_sent, reason};
use proto::weft::member::v1 as wire;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Machine;
use super::chain::Sections;
use super::codec::{self, CommandError};
use super::compaction;
use super::disk::{self, DiskError, Kind, Write};
use super::divergence::{self, Comparison};
use super::leadership;
use super::log_store::{LogSize, LogStore};
use super::peers::{Peers, Road, Roads};
use super::room::Room;
use super::types::{Payload, TypeConfig};
use crate::planted::{Bug, Planted};

/// The longest encoded command: larger ones would delay heartbeats.
pub const COMMAND_MAX_BYTES: usize = 256 << 10;
/// How long a proposal may take before its outcome is said to be unknown.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a read waits for a leader that a quorum confirms: an election takes about a second.
const READ_PATIENCE: Duration = Duration::from_secs(5);
/// How long members wait for a leader that is silent, unless told otherwise: ten times what a put takes at most under
/// load, so that no load makes an election.
pub const ELECTION_TIMEOUT: Duration = Duration::from_millis(400);
/// A leader that a quorum has not confirmed for so many election timeouts is none: agents look for another, and loops stop.
const QUORUM_PATIENCE_ELECTIONS: u32 = 3;
/// Entries between two snapshots.
const SNAPSHOT_AFTER_ENTRIES: u64 = 10_000;
/// Entries kept behind a snapshot for members that lag a little.
const KEPT_ENTRIES: u64 = 2_000;
/// How long a member that is alone may take at start to lead.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How long a change waits for a leader whose disk has room, where the one that leads has none.
const HAND_OVER_PATIENCE: Duration = Duration::from_secs(2);
/// The wait before a proposal or a read looks for a leader again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Where the log is, in the data directory.
pub const LOG_FOLDER: &str = "raft";
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
    /// What an empty directory may become.
    pub start: Start,
    /// The way to the others.
    pub peers: Peers,
    /// Bytes of commands after which the log is replaced by a snapshot.
    pub log_max_bytes: usize,
    /// How long a leader may be silent.
    pub election_timeout: Duration,
    /// Whether there is room for changes.
    pub room: Room,
    /// What is wrong with it on purpose.
    pub planted: Planted,
}

/// What an empty data directory may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Nothing: the member was there before.
    Again,
    /// A new cluster.
    Init,
    /// A member of a cluster that there is, whose leader will say so.
    Join,
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
    #[error(
        "{path} holds no cluster: start with --init to make a new one, or with --join-token-file to join one"
    )]
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
    /// Not all members know it; nothing was done.
    #[error("not all members know this change: it needs feature level {needed}, and the cluster is at {level}")]
    Level {
        /// What it needs.
        needed: u32,
        /// What all members know.
        level: u32,
    },
    /// Another member leads; nothing was done.
    #[error("this member does not lead")]
    NotLeader {
        /// The leader's address, if known.
        leader: Option<String>,
    },
    /// The disk of the member that leads is nearly full, and no other can lead; nothing was done.
    #[error(
        "the disk of the control plane is nearly full: no new changes are taken, and what exists can be deleted"
    )]
    DiskFull,
    /// The state is as large as it may be; nothing was done.
    #[error(
        "the state of the cluster is as large as it may be: delete graphs or policies, or raise --state-quota"
    )]
    StateFull,
    /// Too much is under way; nothing was done.
    #[error("too many changes are under way: ask again in a moment")]
    Overloaded,
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

/// What came of proposing a command.
#[derive(Debug)]
pub(super) enum Tried {
    /// A quorum has it.
    Done(Committed),
    /// Nothing was done: another member leads, if it is known which.
    NotDone { leader: Option<(u64, String)> },
    /// Nothing was done: the disk of the leader is nearly full.
    DiskFull,
    /// Nothing was done: the state is as large as it may be.
    StateFull,
    /// Nothing was done: too much is under way at the leader.
    Overloaded,
    /// It may have been done or not.
    Lost,
    /// The member has stopped.
    Stopped(String),
}

impl Tried {
    /// What it is to whoever does not try again.
    pub(super) fn ended(self) -> Result<Committed, ProposeError> {
        Err(match self {
            Self::Done(committed) => return Ok(committed),
            Self::DiskFull => ProposeError::DiskFull,
            Self::StateFull => ProposeError::StateFull,
            Self::Overloaded => ProposeError::Overloaded,
            Self::NotDone { leader } => ProposeError::NotLeader { leader: leader.map(|(_, address)| address) },
            Self::Lost => ProposeError::Unknown,
            Self::Stopped(why) => ProposeError::Stopped(why),
        })
    }
}

/// How much there is of the state.
#[derive(Clone)]
struct Size {
    /// Bytes of the last snapshot.
    snapshot: Arc<AtomicUsize>,
    /// What came since.
    log: LogSize,
}

impl Size {
    /// Bytes of both together.
    fn bytes(&self) -> u64 {
        let bytes = self.snapshot.load(Ordering::Relaxed).saturating_add(self.log.bytes());
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

/// The member; a cheap handle.
#[derive(Clone)]
pub struct Handle {
    id: u64,
    raft: Raft<TypeConfig, Machine>,
    states: watch::Receiver<Arc<State>>,
    /// Whether this member leads a quorum.
    is_leading: watch::Receiver<bool>,
    peers: Peers,
    room: Room,
    size: Size,
    sections: Sections,
    /// Why this member's state is not that of the others.
    diverged: Arc<OnceLock<String>>,
    planted: Planted,
    tasks: Arc<[JoinHandle<()>; 3]>,
}

impl Handle {
    /// Starts the member on its data directory. One that is alone has caught up with its own log then; others wait for
    /// nobody, and say that the state cannot be read until there is a leader.
    pub async fn open(config: RaftConfig) -> Result<Self, OpenError> {
        let (log, machine, states, is_new) = {
            let config = config.clone();
            super::spawn_blocking(move || open_storage(&config))
                .await
                .map_err(|error| OpenError::Start(error.to_string()))??
        };
        let failed = |error: &dyn std::fmt::Display| OpenError::Start(error.to_string());
        let settings =
            Arc::new(settings(config.election_timeout, config.planted).map_err(|error| failed(&error))?);
        let id = config.node_id;
        let roads = Roads { peers: config.peers.clone(), me: id };
        let sections = machine.sections();
        let size = Size { snapshot: machine.snapshot_size(), log: log.size() };
        let raft =
            Raft::new(id, settings, roads, log.clone(), machine).await.map_err(|error| failed(&error))?;
        let is_initialised = raft.is_initialized().await.map_err(|error| failed(&error))?;
        // Nobody but the first member ever was alone: whoever joined waits for those that it has joined.
        if !is_initialised && MemberId(id) == FIRST_MEMBER {
            if config.start != Start::Init && is_new {
                return Err(OpenError::Uninitialised { path: config.data_dir });
            }
            let members = BTreeMap::from([(id, BasicNode { addr: String::new() })]);
            raft.initialize(members).await.map_err(|error| failed(&error))?;
        }
        let (room, all) = (config.room.clone(), size.clone());
        let is_full = move || !room.is_within_quota(all.bytes());
        let (max_bytes, log_size) = (config.log_max_bytes, log.size());
        let compaction = TypeConfig::spawn(compaction::run(raft.clone(), log_size, max_bytes, is_full));
        let (leading, is_leading) = watch::channel(false);
        let (peers, patience) = (config.peers.clone(), config.election_timeout * QUORUM_PATIENCE_ELECTIONS);
        let leadership =
            TypeConfig::spawn(leadership::follow(raft.clone(), states.clone(), peers, leading, patience));
        let diverged = Arc::new(OnceLock::new());
        let comparison = Comparison {
            me: id,
            raft: raft.clone(),
            sections: sections.clone(),
            peers: config.peers.clone(),
            data_dir: config.data_dir,
            found: diverged.clone(),
        };
        let tasks = Arc::new([compaction, leadership, TypeConfig::spawn(comparison.run())]);
        let (peers, room, planted) = (config.peers, config.room, config.planted);
        let handle =
            Self { id, raft, states, is_leading, peers, room, size, sections, diverged, planted, tasks };
        if handle.is_alone().await? {
            // Nobody else could lead: there is nothing to wait for.
            handle.raft.trigger().elect(false).await.map_err(|error| failed(&error))?;
            let leads = tokio::time::timeout(START_PATIENCE, handle.leads()).await;
            leads.map_err(|_| failed(&"it does not lead, and nobody else could"))?;
            handle.read().await.map_err(|error| failed(&error))?;
        }
        Ok(handle)
    }

    /// This member.
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// What is wrong with it on purpose.
    pub const fn planted(&self) -> Planted {
        self.planted
    }

    /// What sections of the log have come to here.
    pub(super) const fn sections(&self) -> &Sections {
        &self.sections
    }

    /// What time it is for the cluster, in milliseconds since 1970: for who proposes a command, and for what is good for a
    /// time. One clock among several that jumps does not change it.
    pub fn now_ms(&self) -> u64 {
        self.peers.clocks.now_ms(self.raft.is_leader())
    }

    /// The same, as the system has it.
    pub fn now(&self) -> SystemTime {
        let now = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(self.now_ms()));
        now.unwrap_or_else(SystemTime::now)
    }

    /// The way to other members.
    pub(super) const fn peers(&self) -> &Peers {
        &self.peers
    }

    /// How many bytes there are of the state: those of the last snapshot, and of what the log has gathered since.
    fn state_bytes(&self) -> u64 {
        self.size.bytes()
    }

    /// Whether the disk of a member has little room, as far as this one knows: the leader hears of all.
    pub fn is_low_on_disk(&self, member: u64) -> bool {
        if member == self.id { self.room.is_low_on_disk() } else { self.peers.is_low_on_disk(member) }
    }

    /// Whether a member can do what a leader does, as far as this one knows.
    pub(super) fn is_fit(&self, member: u64) -> bool {
        let other = Some(member).filter(|member| *member != self.id);
        !self.is_low_on_disk(member) && !self.peers.clocks.is_off(other)
    }

    pub(super) const fn raft(&self) -> &Raft<TypeConfig, Machine> {
        &self.raft
    }

    /// Whether nobody else has a vote, and this member has one.
    async fn is_alone(&self) -> Result<bool, OpenError> {
        let id = self.id;
        let alone =
            self.raft.with_raft_state(move |state| state.membership_state.effective().voter_ids().eq([id]));
        alone.await.map_err(|error| OpenError::Start(error.to_string()))
    }

    /// Whether this member leads, and a quorum has said so lately.
    pub fn is_leader(&self) -> bool {
        self.raft.is_leader() && *self.is_leading.borrow()
    }

    /// Resolves when this member does not lead.
    pub async fn follows(&self) {
        // The other end lives as long as consensus does, which leads nobody after that.
        let _ = self.is_leading.clone().wait_for(|leads| !leads).await;
    }

    /// Resolves when this member leads.
    pub async fn leads(&self) {
        while !self.is_leader() {
            if self.is_leading.clone().wait_for(|leads| *leads).await.is_err() {
                std::future::pending::<()>().await;
            }
            // What is followed lags a little behind what consensus says.
            if !self.is_leader() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
    }

    /// Resolves once this member has anything of the log.
    pub async fn has_log(&self) {
        let wait = self.raft.wait(None);
        if wait.metrics(|metrics| metrics.last_log_index.is_some(), "a log").await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The term of the log, as this member knows it.
    pub fn term(&self) -> u64 {
        self.raft.metrics().borrow_watched().current_term
    }

    /// Proposes a command if this member leads, and asks nobody else: what the leader decides by what it alone has seen
    /// is no business of another one's.
    pub async fn propose_as_leader(&self, command: Command) -> Result<Committed, ProposeError> {
        self.check_level(&command)?;
        let takes_room = command.body.takes_room();
        let proposing = self.propose_here(fitting(&command)?, takes_room);
        tokio::time::timeout(PATIENCE, proposing).await.map_err(|_| ProposeError::Unknown)?.ended()
    }

    /// Proposes a command, to the leader wherever it is, and waits until it is applied, there and here: whoever has
    /// proposed it finds it in [`Handle::state`]. While there is no leader it waits for one.
    pub async fn propose(&self, command: Command) -> Result<Committed, ProposeError> {
        self.check_level(&command)?;
        let payload = fitting(&command)?;
        // One that was done is known by its request, and not done again.
        let is_repeatable = command.request.is_some();
        let takes_room = command.body.takes_room();
        let began = Instant::now();
        let deadline = began + PATIENCE;
        // Whether a try before may have been done: then the last one does not say that nothing was.
        let mut is_in_doubt = false;
        loop {
            let is_led_anew = self.is_led_anew();
            let try_once = async {
                tokio::select! {
                    // An answer that is there is not passed over. One that still comes is found by the request's id.
                    biased;
                    tried = self.propose_once(payload.clone(), takes_room) => tried,
                    () = is_led_anew, if is_repeatable => Tried::Lost,
                }
            };
            let tried = tokio::time::timeout_at(deadline, try_once).await;
            let was_in_doubt = is_in_doubt;
            let not_done = |why| Err(if was_in_doubt { ProposeError::Unknown } else { why });
            let leader = match tried.map_err(|_| ProposeError::Unknown)? {
                Tried::NotDone { leader } => leader,
                // One whose disk has room may come to lead.
                Tried::DiskFull if began.elapsed() < HAND_OVER_PATIENCE => None,
                Tried::Lost if is_repeatable && Instant::now() < deadline => {
                    is_in_doubt = true;
                    None
                }
                Tried::DiskFull => return not_done(ProposeError::DiskFull),
                Tried::StateFull => return not_done(ProposeError::StateFull),
                Tried::Overloaded => return not_done(ProposeError::Overloaded),
                ended @ (Tried::Done(_) | Tried::Stopped(_) | Tried::Lost) => return ended.ended(),
            };
            if Instant::now() + LOOK_AGAIN >= deadline {
                return not_done(ProposeError::NotLeader { leader: leader.map(|(_, address)| address) });
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// A member that cannot read an entry stops: none may come that one of them cannot.
    fn check_level(&self, command: &Command) -> Result<(), ProposeError> {
        let (needed, level) = (command.body.level(), self.state().level());
        // Nobody else is there when a cluster begins; raising it later is refused by what it is applied to, unless all
        // members have said that they know it.
        let is_first = matches!(command.body, Body::InitCluster { .. } | Body::RaiseFeatureLevel { .. });
        let is_known = is_first || needed <= level;
        if is_known { Ok(()) } else { Err(ProposeError::Level { needed, level }) }
    }

    async fn propose_once(&self, payload: Payload, takes_room: bool) -> Tried {
        let leader = match self.propose_here(payload.clone(), takes_room).await {
            Tried::NotDone { leader } => leader.filter(|(leader, _)| *leader != self.id),
            tried => return tried,
        };
        if let Some((leader, address)) = leader {
            match self.propose_there(leader, self.peers.address(leader, address), payload.clone()).await {
                Tried::NotDone { .. } => {}
                tried => return tried,
            }
        }
        // Whoever leads now may not have found this member yet, as after it has moved: somebody else may lead, and
        // whoever does not refuses.
        for (member, address) in self.others() {
            match self.propose_there(member, address, payload.clone()).await {
                Tried::NotDone { .. } => {}
                tried => return tried,
            }
        }
        Tried::NotDone { leader: None }
    }

    /// The other members, and where they are.
    fn others(&self) -> Vec<(u64, String)> {
        let state = self.state();
        let others = state.members.iter().filter(|(member, _)| member.0 != self.id);
        others.map(|(member, record)| (member.0, record.address.clone())).collect()
    }

    /// Proposes a command if this member leads, and has room for it.
    pub(super) async fn propose_here(&self, payload: Payload, takes_room: bool) -> Tried {
        if takes_room && self.raft.is_leader() {
            if self.room.is_low_on_disk() {
                return Tried::DiskFull;
            }
            if !self.room.is_within_quota(self.state_bytes()) {
                return Tried::StateFull;
            }
        }
        let Some(_under_way) = self.room.enter(payload.0.len()) else { return Tried::Overloaded };
        if self.planted.has(Bug::AcknowledgedUncommitted)
            && let Some(early) = self.propose_early(&payload)
        {
            return early;
        }
        match self.raft.client_write(payload).await {
            Ok(written) => match written.data {
                Some(outcome) => Tried::Done(Committed { index: written.log_id.index, outcome }),
                None => Tried::Lost,
            },
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => {
                Tried::NotDone { leader: to.leader_id.zip(to.leader_node).map(|(id, node)| (id, node.addr)) }
            }
            Err(RaftError::Fatal(fatal)) => Tried::Stopped(fatal.to_string()),
            // Its entry went with another leader's log, and may have been done by that.
            Err(RaftError::APIError(_)) => Tried::Lost,
        }
    }

    /// Says of a graph's change what will become of it, and lets that come.
    fn propose_early(&self, payload: &Payload) -> Option<Tried> {
        let command = codec::decode_command(payload).ok().filter(|_| self.raft.is_leader())?;
        let is_of_graph = matches!(command.body, Body::Deploy(_) | Body::DeleteGraph(_));
        let outcome = is_of_graph.then(|| State::clone(&self.state()).apply(&command))?;
        let (raft, payload) = (self.raft.clone(), payload.clone());
        tokio::spawn(async move { raft.client_write(payload).await });
        Some(Tried::Done(Committed { index: 0, outcome }))
    }

    /// Asks another member, which is said to lead, to propose it: once, since that does not pass it on.
    async fn propose_there(&self, to: u64, address: String, payload: Payload) -> Tried {
        let leader = Some((to, address.clone()));
        let Some(mut client) = self.peers.client(&address, Road::Calls) else {
            return Tried::NotDone { leader };
        };
        match client.propose(wire::ProposeRequest { to, command: payload.0 }).await {
            Ok(answer) => {
                let wire::ProposeResponse { index, outcome } = answer.into_inner();
                match (serde_json::from_slice(&outcome), self.applied(index).await) {
                    (Ok(outcome), Ok(())) => Tried::Done(Committed { index, outcome }),
                    _ => Tried::Lost,
                }
            }
            Err(status) if is_not_sent(&status) => Tried::NotDone { leader },
            Err(status) => match reason(&status).as_deref() {
                Some("not_leader" | "other_member" | "not_a_member") => Tried::NotDone { leader },
                Some("disk_full") => Tried::DiskFull,
                Some("state_quota") => Tried::StateFull,
                Some("overloaded") => Tried::Overloaded,
                _ => Tried::Lost,
            },
        }
    }

    /// The state with every write in it that was acknowledged before this call, whichever member acknowledged it.
    pub async fn read(&self) -> Result<Arc<State>, ReadError> {
        if self.planted.has(Bug::StaleRead) {
            return Ok(self.state());
        }
        let deadline = Instant::now() + READ_PATIENCE;
        loop {
            let is_led_anew = self.is_led_anew();
            let read_once = async {
                tokio::select! {
                    biased;
                    read = self.read_once() => read,
                    () = is_led_anew => Err("another member leads by now".to_owned()),
                }
            };
            let read = tokio::time::timeout_at(deadline, read_once).await;
            let why = match read {
                Ok(Ok(())) => return Ok(self.state()),
                Ok(Err(why)) => why,
                Err(_) => "no answer from a quorum".to_owned(),
            };
            if Instant::now() + LOOK_AGAIN >= deadline {
                return Err(ReadError::Unavailable(why));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn read_once(&self) -> Result<(), String> {
        if self.planted.has(Bug::UnconfirmedRead) && self.raft.is_leader() {
            return Ok(());
        }
        let forward = match self.raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
            Ok(_) => return Ok(()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => to,
            Err(error) => return Err(error.to_string()),
        };
        let leader = forward.leader_id.zip(forward.leader_node).filter(|(leader, _)| *leader != self.id);
        let leader = leader.map(|(leader, node)| (leader, self.peers.address(leader, node.addr)));
        let mut why = "there is no leader".to_owned();
        // As for proposals.
        for (member, address) in leader.into_iter().chain(self.others()) {
            match self.read_index(member, &address).await {
                Ok(_) if self.planted.has(Bug::UnappliedRead) => return Ok(()),
                Ok(index) => return self.applied(index).await,
                Err(said) => why = format!("{address}: {said}"),
            }
        }
        Err(why)
    }

    /// Resolves once a member is known to lead that was not when this was called. Who was asked meanwhile may be cut off,
    /// and its connection is silent for longer than an election takes.
    fn is_led_anew(&self) -> impl Future<Output = ()> + use<> {
        let wait = self.raft.wait(None);
        let metrics = self.raft.metrics();
        let led_before = {
            let now = metrics.borrow_watched();
            (now.current_term, now.current_leader)
        };
        async move {
            let led_anew = wait.metrics(
                |now| now.current_leader.is_some() && (now.current_term, now.current_leader) != led_before,
                "another leader",
            );
            if led_anew.await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Returns once this member has applied the log up to there.
    async fn applied(&self, index: u64) -> Result<(), String> {
        let applied =
            self.raft.wait(Some(READ_PATIENCE)).applied_index_at_least(Some(index), "to follow").await;
        applied.map(drop).map_err(|error| error.to_string())
    }

    /// What has to be applied before a read, as a member says that leads.
    async fn read_index(&self, to: u64, address: &str) -> Result<u64, String> {
        let client = self.peers.client(address, Road::Calls);
        let mut client = client.ok_or_else(|| "this member does not know who it is yet".to_owned())?;
        let answer = client.read_index(wire::ReadIndexRequest { to }).await;
        let answer = answer.map_err(|status| deepest(&status))?;
        answer.into_inner().read.map(|read| read.index).ok_or_else(|| "it said nothing".to_owned())
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
        let stopped = self.ended().await;
        self.diverged.get().cloned().unwrap_or(stopped)
    }

    async fn ended(&self) -> String {
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
        self.tasks.iter().for_each(JoinHandle::abort);
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

/// A command as the log carries it.
pub fn encode(command: &Command) -> Result<Vec<u8>, ProposeError> {
    fitting(command).map(|payload| payload.0)
}

fn fitting(command: &Command) -> Result<Payload, ProposeError> {
    let payload = codec::encode_command(command).map_err(|error| match error {
        CommandError::TooLong => ProposeError::TooLarge { size: codec::UNPACKED_MAX_BYTES },
        CommandError::Unreadable(why) => ProposeError::Unreadable(why.to_string()),
    })?;
    let size = payload.0.len();
    if size > COMMAND_MAX_BYTES { Err(ProposeError::TooLarge { size }) } else { Ok(payload) }
}

/// A follower waits for the lease of a leader, which is the longest election timeout, and then for an election timeout: with
/// 400 ms another one leads within 0.65 to 0.8 s. Five heartbeats of a leader are lost before that.
fn settings(election_timeout: Duration, planted: Planted) -> Result<Config, openraft::ConfigError> {
    let most = u64::try_from(election_timeout.as_millis()).unwrap_or(u64::MAX);
    Config {
        cluster_name: "weft".to_owned(),
        heartbeat_interval: most * 3 / 16,
        election_timeout_min: most * 5 / 8,
        election_timeout_max: most,
        enable_pre_vote: Some(!planted.has(Bug::NoPreVote)),
        // Entries go to the others before they are on the own disk. A leader that lost some in a crash and went on under
        // its old ballot would give their ids to other entries, and whoever has the first ones keeps them.
        enable_leader_restore: Some(false),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_AFTER_ENTRIES),
        max_in_snapshot_log_to_keep: KEPT_ENTRIES,
        ..Config::default()
    }
    .validate()
}

type Opened = (LogStore, Machine, watch::Receiver<Arc<State>>, bool);

pub(super) fn open_storage(config: &RaftConfig) -> Result<Opened, OpenError> {
    let path = |name: &str| config.data_dir.join(name);
    let marked = divergence::marked(&config.data_dir);
    let marked = marked.map_err(|source| DiskError::Io { path: config.data_dir.clone(), source })?;
    if let Some(what) = marked {
        return Err(DiskError::Damaged { path: config.data_dir.clone(), what }.into());
    }
    let mut raft = disk::open(config.storage, &config.data_dir, LOG_FOLDER)?;
    let state = disk::open(config.storage, &config.data_dir, "state")?;
    let (machine, states) = Machine::open(state, &path("state"), config.planted)?;
    let is_new = identify(&mut *raft, config, machine.applied().is_some())?;
    let log = LogStore::open(raft, &path(LOG_FOLDER), config.planted)?;
    if log.purged() > machine.applied() {
        let what = "it has no snapshot of what was removed from the log".to_owned();
        return Err(DiskError::Damaged { path: path("state"), what }.into());
    }
    Ok((log, machine, states, is_new))
}

/// Writes the member's identity into a new directory, and refuses one with another identity.
fn identify(disk: &mut dyn disk::Disk, config: &RaftConfig, has_snapshot: bool) -> Result<bool, OpenError> {
    let expected = format!("member {}, format 1", config.node_id);
    let path = config.data_dir.join(LOG_FOLDER);
    let loaded = disk.load()?;
    match loaded.values.get(IDENTITY) {
        Some(found) if found == expected.as_bytes() => Ok(false),
        Some(found) => Err(OpenError::Identity {
            path: config.data_dir.clone(),
            found: String::from_utf8_lossy(found).into_owned(),
            expected,
        }),
        None if loaded.entries.is_empty() && !has_snapshot => {
            if config.start == Start::Again {
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
