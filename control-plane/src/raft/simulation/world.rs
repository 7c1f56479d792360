//! What there is in one run: the members with their disks, the network between them, chance, and who looks at all of it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cluster::command::{Body, RequestTag};
use cluster::state::MemberId;
use cluster::{Command, FEATURE_LEVEL, Outcome};
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::time::{Instant, sleep, timeout};

use super::chance::Chance;
use super::disk::{self, Image};
use super::network::Network;
use super::oracle::{Invariant, Oracle};
use super::plants::Plant;
use super::runtime::Process;
use crate::planted::Planted;
use crate::raft::codec;
use crate::raft::disk::{DiskError, Kind};
use crate::raft::handle::{ELECTION_TIMEOUT, Handle, OpenError, RaftConfig, Start};
use crate::raft::peers::Peers;
use crate::raft::room::Room;
use crate::raft::types::Vote;

/// The wall clock of all members at the beginning, in milliseconds since 1970.
const BEGAN_MS: u64 = 1_700_000_000_000;
/// The two disks of a member.
const DISKS: [&str; 2] = ["raft", "state"];
/// How often a leader looks whether there is something to do.
const LEAD_PACE: Duration = Duration::from_millis(100);
/// How often a member looks whether the others know where it is.
const ANNOUNCE_PACE: Duration = Duration::from_millis(300);
/// How long whoever asks for something waits for the answer.
pub const PATIENCE: Duration = Duration::from_secs(12);

/// What is on the disks, by member and name.
type Images = BTreeMap<(u64, String), Arc<Mutex<Image>>>;

/// One run.
pub struct World {
    plant: Option<Plant>,
    began: Instant,
    chance: Mutex<Chance>,
    oracle: Mutex<Oracle>,
    network: Mutex<Network>,
    trace: Mutex<Trace>,
    images: Mutex<Images>,
    members: Mutex<BTreeMap<u64, Member>>,
    log_max_bytes: usize,
    runs: AtomicU64,
    is_over: AtomicBool,
}

/// A member, whether it runs or not.
pub struct Member {
    pub address: String,
    pub clock_ms: i64,
    pub process: Option<Arc<Process>>,
    pub handle: Option<Handle>,
    /// When it is started again, if it does not run.
    pub start_at: Option<Instant>,
    pub is_removed: bool,
    start: Start,
}

/// What happened, for people and for comparison.
#[derive(Default)]
pub struct Trace {
    pub lines: Vec<String>,
    pub digest: u32,
}

impl World {
    /// Begins a run; in its runtime.
    pub fn begin(seed: u64, plant: Option<Plant>) -> Arc<Self> {
        let mut chance = Chance::new(seed);
        let log_max_bytes = [2_000, 8_000, 40_000, 1_000_000][chance.below(4)];
        Arc::new(Self {
            plant,
            began: Instant::now(),
            chance: Mutex::new(chance),
            oracle: Mutex::default(),
            network: Mutex::default(),
            trace: Mutex::default(),
            images: Mutex::default(),
            members: Mutex::default(),
            log_max_bytes,
            runs: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        })
    }

    pub fn has(&self, plant: Plant) -> bool {
        self.plant == Some(plant)
    }

    pub fn chance<T>(&self, of: impl FnOnce(&mut Chance) -> T) -> T {
        of(&mut self.chance.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn oracle<T>(&self, of: impl FnOnce(&mut Oracle) -> T) -> T {
        of(&mut self.oracle.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn network<T>(&self, of: impl FnOnce(&mut Network) -> T) -> T {
        of(&mut self.network.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn members<T>(&self, of: impl FnOnce(&mut BTreeMap<u64, Member>) -> T) -> T {
        of(&mut self.members.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn member<T>(&self, id: u64, of: impl FnOnce(&mut Member) -> T) -> Option<T> {
        self.members(|members| members.get_mut(&id).map(of))
    }

    pub fn trace<T>(&self, of: impl FnOnce(&mut Trace) -> T) -> T {
        of(&mut self.trace.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    pub fn note(&self, what: fmt::Arguments<'_>) {
        let line = format!("{:8.3} {what}", self.elapsed().as_secs_f64());
        self.trace(|trace| {
            trace.digest = crc32c::crc32c_append(trace.digest, line.as_bytes());
            trace.lines.push(line);
        });
    }

    /// A message has come through: too many for people, and compared all the same.
    pub fn saw(&self, from: u64, to: u64, body: &[u8]) {
        let at = u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.trace(|trace| {
            for number in [from, to, at] {
                trace.digest = crc32c::crc32c_append(trace.digest, &number.to_be_bytes());
            }
            trace.digest = crc32c::crc32c_append(trace.digest, body);
        });
    }

    pub fn broken(&self, invariant: Invariant, what: String) {
        self.oracle(|oracle| oracle.breaks(invariant, what));
    }

    pub fn is_sound(&self) -> bool {
        self.oracle(|oracle| oracle.broken.is_empty())
    }

    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed) || !self.is_sound()
    }

    pub fn ends(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    pub fn image(&self, member: u64, name: &str) -> Arc<Mutex<Image>> {
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        images.entry((member, name.to_owned())).or_default().clone()
    }

    /// Changes the disks of a member.
    pub fn disks(&self, member: u64, of: impl Fn(&mut Image)) {
        DISKS.iter().for_each(|name| disk::change(&self.image(member, name), &of));
    }

    /// The clock on the wall of a member.
    pub fn now_ms(&self, member: u64) -> u64 {
        let offset = self.member(member, |member| member.clock_ms).unwrap_or_default();
        let elapsed = u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX);
        BEGAN_MS.saturating_add(elapsed).saturating_add_signed(offset)
    }

    /// A member that there was not before, and is not started yet.
    pub fn add(&self, id: u64, address: String, start: Start) {
        let member = Member {
            address,
            clock_ms: 0,
            process: None,
            handle: None,
            start_at: None,
            is_removed: false,
            start,
        };
        self.members(|members| members.insert(id, member));
    }

    /// Starts a member that does not run.
    pub fn start(self: &Arc<Self>, id: u64) {
        let run = self.runs.fetch_add(1, Ordering::Relaxed) + 1;
        let process = Process::new(self.clone(), id, run);
        let found = self.member(id, |member| {
            member.process = Some(process.clone());
            member.start_at = None;
            (member.address.clone(), member.start)
        });
        let Some((address, start)) = found else { return };
        let vote: Option<Vote> = disk::change(&self.image(id, "raft"), |image| {
            image.value("vote").and_then(|bytes| codec::decode_vote(bytes).ok())
        });
        self.oracle(|oracle| oracle.begins(id, vote));
        self.note(format_args!("member {id} starts at {address}, run {run}"));
        let peers = Peers::default();
        peers.listens_at(address.clone());
        let config = RaftConfig {
            data_dir: PathBuf::from(format!("member-{id}")),
            node_id: id,
            storage: Kind::Wal,
            start,
            peers,
            log_max_bytes: self.log_max_bytes,
            election_timeout: ELECTION_TIMEOUT,
            room: Room::default(),
            planted: Planted::default(),
        };
        drop(process.spawn(live(process.clone(), config, address)));
    }

    /// Ends a run as a power cut does: of what is not synced, the disks keep the first few writes.
    pub fn crash(&self, id: u64, start_again_after: Option<Duration>) {
        let process = self.member(id, |member| {
            member.handle = None;
            member.start_at = start_again_after.map(|after| Instant::now() + after);
            member.process.take()
        });
        let Some(process) = process.flatten() else { return };
        process.kill();
        self.network(|network| network.hang_up(process.run));
        let mut kept = Vec::new();
        for name in DISKS {
            kept.push(disk::change(&self.image(id, name), |image| {
                let unsynced = image.unsynced();
                image.crash(self.chance(|chance| chance.below(unsynced + 1)))
            }));
        }
        self.note(format_args!("member {id} crashes; its disks keep {kept:?} of what was not synced"));
    }

    /// The members that run and are open.
    pub fn running(&self) -> Vec<(Arc<Process>, Handle)> {
        self.members(|members| {
            let running =
                members.values().filter_map(|member| member.process.clone().zip(member.handle.clone()));
            running.filter(|(process, _)| process.is_alive()).collect()
        })
    }

    pub fn ids(&self) -> Vec<u64> {
        self.members(|members| members.iter().filter(|(_, m)| !m.is_removed).map(|(id, _)| *id).collect())
    }

    /// Whether everybody knows where each member is. Whoever moves them waits for that: a majority that has moved at
    /// one time finds nobody, and is found by nobody.
    pub fn is_announced(&self) -> bool {
        let known = self.oracle(|oracle| oracle.state().members.clone());
        self.members(|members| {
            let present = members.iter().filter(|(_, member)| !member.is_removed);
            let is_known = |id: u64, address: &str| {
                known.get(&MemberId(id)).is_some_and(|record| record.address == address)
            };
            present.into_iter().all(|(id, member)| is_known(*id, &member.address))
        })
    }

    /// Who leads, as it thinks itself.
    pub fn leader(&self) -> Option<(Arc<Process>, Handle)> {
        self.running()
            .into_iter()
            .filter(|(_, handle)| handle.is_leader())
            .max_by_key(|(_, handle)| handle.term())
    }

    /// Any member that runs.
    pub fn anybody(&self) -> Option<(Arc<Process>, Handle)> {
        let running = self.running();
        let at = self.chance(|chance| chance.below(running.len()));
        running.into_iter().nth(at)
    }

    /// Asks anybody for something, and hears what became of it, if it hears.
    pub async fn ask(&self, body: Body, request: Option<RequestTag>) -> Option<Outcome> {
        let (process, handle) = self.anybody()?;
        let command = Command { now_ms: self.now_ms(process.member), request, body };
        let before = self.oracle(|oracle| oracle.acknowledged());
        let payload = codec::encode_command(&command).ok()?.0;
        let asked = process.spawn(async move { handle.propose(command).await });
        let committed = timeout(PATIENCE, asked).await.ok()?.ok()?.ok()?;
        self.oracle(|oracle| oracle.acknowledges(&payload, &committed, before));
        Some(committed.outcome)
    }

    /// Looks at what members say of themselves.
    pub fn look(self: &Arc<Self>) {
        for (process, handle) in self.running() {
            let metrics = handle.raft().metrics();
            let metrics = metrics.borrow_watched().clone();
            if metrics.state.is_leader() && process.is_running() {
                let last = metrics.last_log_index.unwrap_or_default();
                let is_new = self.oracle(|oracle| oracle.leads(process.member, metrics.vote, last));
                if is_new {
                    self.note(format_args!("member {} leads by {}", process.member, metrics.vote));
                }
            }
        }
        self.follow_members();
    }

    /// Whoever looks after the machines starts those that have joined, and marks those that were taken out.
    fn follow_members(self: &Arc<Self>) {
        let (members, last) =
            self.oracle(|oracle| (oracle.state().members.clone(), oracle.state().last_member));
        if members.is_empty() {
            return;
        }
        for (MemberId(id), record) in &members {
            if !self.members(|members| members.contains_key(id)) {
                self.add(*id, record.address.clone(), Start::Join);
                self.start(*id);
            }
        }
        // Whoever has one taken out is told so once consensus goes on without it, as somebody knows.
        let known: Vec<_> =
            self.running().iter().map(|(_, handle)| (handle.state(), handle.membership())).collect();
        let is_out = |id: u64| {
            known.iter().any(|(state, membership)| {
                let is_behind = state.last_member < id || state.members.contains_key(&MemberId(id));
                let is_decided = membership.is_decided && !membership.is_joint;
                !is_behind && is_decided && !membership.members.contains_key(&id)
            })
        };
        for id in self.ids().into_iter().filter(|id| is_out(*id)) {
            if id <= last && !members.contains_key(&MemberId(id)) {
                self.member(id, |member| member.is_removed = true);
                self.note(format_args!("member {id} is no member any more"));
            }
        }
    }

    /// Ends everything that runs, so that nothing refers to anything any more.
    pub fn clear(&self) {
        self.ends();
        for id in self.members(|members| members.keys().copied().collect::<Vec<u64>>()) {
            if let Some(process) = self.member(id, |member| member.process.take()).flatten() {
                process.kill();
            }
        }
        self.network(Network::hang_up_all);
        self.members(BTreeMap::clear);
    }
}

/// What the program of a member does, as far as it is part of the simulation.
async fn live(process: Arc<Process>, config: RaftConfig, address: String) {
    let (world, id) = (process.world.clone(), process.member);
    let handle = match Handle::open(config).await {
        Ok(handle) => handle,
        Err(error) => {
            world.note(format_args!("member {id} does not start: {error:?}"));
            let is_damage = !matches!(
                error,
                OpenError::Disk(DiskError::Io { .. } | DiskError::Locked { .. }) | OpenError::Start(_)
            );
            if is_damage {
                world.broken(Invariant::OpensAgain, format!("member {id}: {error:?}"));
            }
            return end(&world, id);
        }
    };
    world.network(|network| network.listen(address.clone(), process.clone(), handle.clone()));
    world.member(id, |member| {
        member.handle = Some(handle.clone());
        member.start = Start::Again;
    });
    drop(process.spawn(lead(world.clone(), handle.clone())));
    drop(process.spawn(announce(world.clone(), handle.clone(), address)));
    let why = handle.stopped().await;
    world.note(format_args!("member {id} stops: {why}"));
    end(&world, id);
}

/// Whoever looks after the programs starts one again that has ended.
fn end(world: &World, id: u64) {
    let after = world.chance(|chance| chance.millis(50, 1_500));
    world.crash(id, Some(after));
}

/// What a leader does: the members of consensus are made those of the state, and graphs are placed.
async fn lead(world: Arc<World>, handle: Handle) {
    let mut placed = None;
    loop {
        sleep(LEAD_PACE).await;
        if !handle.is_leader() {
            continue;
        }
        let state = handle.state();
        if let Err(error) = handle.follow_members(&state).await {
            world.note(format_args!("member {}: {error}", handle.id()));
        }
        if placed == Some(state.revision) {
            continue;
        }
        placed = Some(state.revision);
        let places = cluster::schedule(&state, world.now_ms(handle.id()));
        if !places.is_empty() {
            let now_ms = world.now_ms(handle.id());
            let command = Command { now_ms, request: None, body: Body::Place(places) };
            let before = world.oracle(|oracle| oracle.acknowledged());
            let payload = codec::encode_command(&command).map(|payload| payload.0).unwrap_or_default();
            if let Ok(committed) = handle.propose_as_leader(command).await {
                world.oracle(|oracle| oracle.acknowledges(&payload, &committed, before));
            }
        }
    }
}

/// Says where a member is, until the others know.
async fn announce(world: Arc<World>, handle: Handle, address: String) {
    let member = MemberId(handle.id());
    loop {
        sleep(ANNOUNCE_PACE).await;
        let state = handle.state();
        let known = state.members.get(&member);
        if known.is_some_and(|record| record.address == address) {
            return;
        }
        let is_first = state.members.is_empty() && handle.id() == 1;
        if known.is_none() && !is_first {
            continue;
        }
        let body = Body::AnnounceMember { member, address: address.clone(), level: FEATURE_LEVEL };
        let command = Command { now_ms: world.now_ms(handle.id()), request: None, body };
        // It is asked again until it is known.
        drop(handle.propose(command).await);
    }
}
