//! One run: a cluster is formed, things go wrong while clients ask, everything is mended, and all must agree.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cluster::Command;
use cluster::command::{Body, RequestTag};
use cluster::state::MemberId;
use model::digest::Digest;
use model::graph::Artifact;
use model::id::RequestId;
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::time::{Instant, sleep, timeout};

use super::faults::{self, Fault, Faults};
use super::oracle::Invariant;
use super::plants::Plant;
use super::workload;
use super::world::{PATIENCE, World};
use crate::raft::codec;
use crate::raft::handle::{Handle, Start};

/// Clients.
const CLIENTS: u64 = 3;
/// How often it is looked whether something has come about.
const LOOK_PACE: Duration = Duration::from_millis(20);
/// How long a cluster may take to form, where nothing is broken.
const FORM_BOUND: Duration = Duration::from_secs(30);
/// How long it may take until all members serve and agree, once nothing is broken any more: a connection that is given
/// up, a change of the members that is under way and its 10 seconds, two elections.
const CONVERGE_BOUND: Duration = Duration::from_secs(60);

/// What came of a run.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Report {
    pub broken: Vec<(Invariant, String)>,
    pub lines: Vec<String>,
    pub digest: u32,
    pub faults: BTreeMap<Fault, u64>,
    pub entries: usize,
    pub refused: usize,
    pub repeated: u64,
    pub leaders: usize,
    pub sent: u64,
    pub lost: u64,
    pub virtual_time: Duration,
    pub converged_in: Duration,
}

/// Runs a seed on a thread of its own time.
pub fn run(seed: u64, plant: Option<Plant>) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => panic!("no runtime: {error}"),
    };
    runtime.block_on(async {
        let world = World::begin(seed, plant);
        let mut faults = Faults::default();
        let converged_in = play(&world, &mut faults).await.unwrap_or_default();
        world.ends();
        let trace = world.trace(std::mem::take);
        let (sent, lost) = world.network(|network| (network.sent, network.lost));
        let report = world.oracle(|oracle| {
            let (entries, refused) = oracle.counts();
            Report {
                broken: std::mem::take(&mut oracle.broken),
                lines: trace.lines,
                digest: trace.digest,
                faults: faults.counts,
                entries,
                refused,
                repeated: oracle.repeated,
                leaders: oracle.leaders(),
                sent,
                lost,
                virtual_time: world.elapsed(),
                converged_in,
            }
        });
        world.clear();
        report
    })
}

/// How long it took until all was well; `None` if something does not hold.
async fn play(world: &Arc<World>, faults: &mut Faults) -> Option<Duration> {
    form(world).await?;
    let clients: Vec<_> =
        (0..CLIENTS).map(|number| tokio::spawn(workload::client(world.clone(), number))).collect();
    let end = Instant::now() + faults::duration(world);
    faults.run(world, end).await;
    faults.end(world);
    if world.chance(|chance| chance.in_thousand(500)) {
        world.note(format_args!("the power of all goes"));
        world.ids().into_iter().for_each(|id| world.crash(id, None));
    }
    Faults::start_all(world);
    let began = Instant::now();
    let deadline = began + CONVERGE_BOUND;
    until(world, deadline, "the members of consensus are those of the state", || is_settled(world)).await?;
    // Now that all serve, each of them does.
    for id in world.ids() {
        serves(world, id, deadline).await?;
    }
    let converged_in = began.elapsed();
    world.ends();
    for client in clients {
        client.abort();
    }
    until(world, deadline, "all members have applied all of the log", || is_even(world)).await?;
    for (process, handle) in world.running() {
        world.oracle(|oracle| oracle.ends(process.member, &handle.state()));
    }
    world.note(format_args!("all is well after {converged_in:?}"));
    world.is_sound().then_some(converged_in)
}

/// Begins a cluster, and lets it grow to three members or five.
async fn form(world: &Arc<World>) -> Option<()> {
    let voters = [3, 3, 3, 4, 5, 5][world.chance(|chance| chance.below(6))];
    let deadline = Instant::now() + FORM_BOUND;
    world.add(1, "first:1".to_owned(), Start::Init);
    world.start(1);
    until(world, deadline, "the first member knows itself", || {
        world.oracle(|oracle| !oracle.state().members.is_empty())
    })
    .await?;
    for number in 2..=voters {
        faults::join(world, &format!("early-{number}")).await;
    }
    for member in (2..=voters).map(MemberId) {
        world.ask(Body::PromoteMember { member }, None).await;
    }
    until(world, deadline, "all have a vote", || is_settled(world)).await
}

async fn until(world: &Arc<World>, deadline: Instant, what: &str, holds: impl Fn() -> bool) -> Option<()> {
    loop {
        world.look();
        if !world.is_sound() {
            return None;
        }
        if holds() {
            return Some(());
        }
        if Instant::now() >= deadline {
            for (process, handle) in world.running() {
                let state = handle.state();
                let members: Vec<_> = state.members.iter().collect();
                world.note(format_args!("member {}: {:?}; {members:?}", process.member, handle.membership()));
            }
            world.broken(Invariant::Converges, format!("not in time: {what}"));
            return None;
        }
        Faults::start_all(world);
        sleep(LOOK_PACE).await;
    }
}

/// Whether all members run, somebody leads, and consensus has the members that the state names.
pub(super) fn is_settled(world: &World) -> bool {
    let Some((_, leader)) = world.leader() else { return false };
    let members = world.oracle(|oracle| oracle.state().members.clone());
    let membership = leader.membership();
    let expected: BTreeSet<(u64, bool)> = members.iter().map(|(id, record)| (id.0, record.is_voter)).collect();
    let found: BTreeSet<(u64, bool)> =
        membership.members.iter().map(|(id, status)| (*id, status.is_voter)).collect();
    let running: BTreeSet<u64> = world.running().iter().map(|(process, _)| process.member).collect();
    let all_run = members.keys().all(|member| running.contains(&member.0));
    !membership.is_joint && expected == found && all_run
}

/// Whether all have applied the same.
fn is_even(world: &World) -> bool {
    let last = world.oracle(|oracle| oracle.last());
    let applied = |handle: &Handle| {
        let metrics = handle.raft().metrics();
        metrics.borrow_watched().last_applied.as_ref().map(|applied| applied.index)
    };
    world.running().iter().all(|(_, handle)| applied(handle) == last)
}

/// A member takes a command and reads what it wrote.
async fn serves(world: &Arc<World>, id: u64, deadline: Instant) -> Option<()> {
    world.look();
    let found = world.running().into_iter().find(|(process, _)| process.member == id);
    let Some((process, handle)) = found else {
        if world.member(id, |member| member.is_removed) != Some(false) {
            return Some(());
        }
        world.broken(Invariant::Converges, format!("member {id} does not run"));
        return None;
    };
    let digest = Digest::from_bytes([200 + (id % 50) as u8; 32]);
    let request = RequestId::new(format!("last-{id}")).ok();
    let request = request.map(|id| RequestTag { id, fingerprint: "last".to_owned() });
    let body = Body::PutArtifact(Artifact { digest, size: id });
    let command = Command { now_ms: world.now_ms(id), request, body };
    let payload = codec::encode_command(&command).ok()?;
    while world.is_sound() && Instant::now() < deadline {
        // A request to take it out may have been under way.
        if world.member(id, |member| member.is_removed) != Some(false) {
            return Some(());
        }
        let before = world.oracle(|oracle| oracle.acknowledged());
        let (asked, command) = (handle.clone(), command.clone());
        let asked = process.spawn(async move {
            let committed = asked.propose(command).await;
            committed.map(|committed| (committed, asked))
        });
        if let Ok(Ok(Ok((committed, handle)))) = timeout(PATIENCE, asked).await {
            world.oracle(|oracle| oracle.acknowledges(&payload.0, &committed, before));
            let before = world.oracle(|oracle| oracle.acknowledged());
            let read = process.spawn(async move { handle.read().await });
            if let Ok(Ok(Ok(state))) = timeout(PATIENCE, read).await {
                world.oracle(|oracle| oracle.is_read(id, &state, before));
                return Some(());
            }
        }
        sleep(LOOK_PACE).await;
        world.look();
    }
    if world.is_sound() {
        world.broken(Invariant::Converges, format!("member {id} does not serve in time"));
    }
    None
}
