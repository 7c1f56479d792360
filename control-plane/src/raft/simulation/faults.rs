//! What goes wrong, and when: drawn from the seed, one fault after the other, each healed after a while or by the end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cluster::FEATURE_LEVEL;
use cluster::command::{Body, EnrolMember};
use cluster::state::MemberId;
use tokio::time::{Instant, sleep};

use super::disk::Health;
use super::network::Weather;
use super::plants::Plant;
use super::scenario::is_settled;
use super::world::World;

/// Between two faults, in milliseconds.
const BETWEEN_MS: (u64, u64) = (50, 900);
/// How long roads are bad.
const BAD_ROADS_MS: (u64, u64) = (300, 4_000);
/// How long a member is down.
const DOWN_MS: (u64, u64) = (20, 3_000);
/// How long a member stands still.
const STOPPED_MS: (u64, u64) = (100, 4_000);
/// Members are not more than so many.
const MEMBERS_MAX: usize = 7;
/// Members move only where there are so many voters: whoever has the longest log must find a majority, of which those
/// that have moved are found by what they ask of those that have not.
const MOVED_VOTERS_MIN: usize = 3;
/// How far clocks jump, mostly.
const CLOCK_JUMP_MS: i64 = 300_000;
/// And sometimes, so that what is kept for a day is forgotten.
const CLOCK_LEAP_MS: i64 = 2 * 24 * 60 * 60 * 1_000;

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    CrashLeader,
    CrashOne,
    CrashMost,
    CrashAll,
    StopLeader,
    StopOne,
    IsolateLeader,
    IsolateOne,
    LeaderCannotHear,
    LeaderCannotSpeak,
    CutOneWay,
    CutPair,
    Ring,
    Halves,
    BadWeather,
    SlowDisk,
    FullDisk,
    FailingDisk,
    ClockJump,
    Move,
    Transfer,
    Snapshot,
    Join,
    Promote,
    Remove,
}

impl Fault {
    pub const ALL: [Self; 25] = [
        Self::CrashLeader,
        Self::CrashOne,
        Self::CrashMost,
        Self::CrashAll,
        Self::StopLeader,
        Self::StopOne,
        Self::IsolateLeader,
        Self::IsolateOne,
        Self::LeaderCannotHear,
        Self::LeaderCannotSpeak,
        Self::CutOneWay,
        Self::CutPair,
        Self::Ring,
        Self::Halves,
        Self::BadWeather,
        Self::SlowDisk,
        Self::FullDisk,
        Self::FailingDisk,
        Self::ClockJump,
        Self::Move,
        Self::Transfer,
        Self::Snapshot,
        Self::Join,
        Self::Promote,
        Self::Remove,
    ];
}

/// What went wrong so far.
#[derive(Default)]
pub struct Faults {
    pub counts: BTreeMap<Fault, u64>,
    joined: u64,
    moved: u64,
    heal_at: Option<Instant>,
}

impl Faults {
    /// Faults until `end`.
    pub async fn run(&mut self, world: &Arc<World>, end: Instant) {
        while Instant::now() < end && world.is_sound() {
            let moment = world.chance(|chance| chance.millis(BETWEEN_MS.0, BETWEEN_MS.1));
            sleep(moment.min(end.saturating_duration_since(Instant::now()))).await;
            world.look();
            self.mend(world);
            let fault = world.chance(|chance| Fault::ALL[chance.below(Fault::ALL.len())]);
            if self.strike(world, fault) {
                *self.counts.entry(fault).or_default() += 1;
            }
        }
    }

    /// What is over by now.
    fn mend(&mut self, world: &Arc<World>) {
        if self.heal_at.is_some_and(|at| at <= Instant::now()) {
            self.heal_at = None;
            world.note(format_args!("the roads are well again"));
            world.network(|network| {
                network.heal();
                network.weather = Weather::FINE;
            });
        }
        for id in world.ids() {
            let is_due = world.member(id, |member| member.start_at.is_some_and(|at| at <= Instant::now()));
            if is_due == Some(true) {
                world.start(id);
            }
        }
        // A member that was taken out runs on for a while.
        let removed = world.members(|members| {
            let removed = members.iter().filter(|(_, member)| member.is_removed && member.process.is_some());
            removed.map(|(id, _)| *id).collect::<Vec<u64>>()
        });
        for id in removed {
            if world.chance(|chance| chance.in_thousand(200)) {
                world.crash(id, None);
            }
        }
    }

    /// Nothing is broken any more.
    pub fn end(&mut self, world: &Arc<World>) {
        world.note(format_args!("everything is well again"));
        let left = world.has(Plant::NeverHeals).then(|| world.ids().last().copied()).flatten();
        world.network(|network| {
            network.heal();
            network.weather = Weather::FINE;
        });
        for id in world.ids() {
            world.disks(id, |image| image.health = Health::Well);
            world.member(id, |member| member.process.iter().for_each(|process| process.go_on()));
        }
        if let Some(left) = left {
            isolate(world, &[left]);
        }
        end_removed(world);
    }

    /// Starts whoever is down, and ends whoever is no member any more.
    pub fn start_all(world: &Arc<World>) {
        end_removed(world);
        for id in world.ids() {
            if world.member(id, |member| member.process.is_none()) == Some(true) {
                world.start(id);
            }
        }
    }

    /// Whether there was something to strike.
    fn strike(&mut self, world: &Arc<World>, fault: Fault) -> bool {
        self.strike_if_possible(world, fault).is_some()
    }

    fn strike_if_possible(&mut self, world: &Arc<World>, fault: Fault) -> Option<()> {
        let ids = world.ids();
        let one = world.chance(|chance| chance.pick(&ids))?;
        let other = world.chance(|chance| chance.pick(&ids)).filter(|other| *other != one);
        let leader = world.leader().map(|(process, _)| process.member);
        world.note(format_args!("fault: {fault:?}, of {one} or {other:?}, led by {leader:?}"));
        match fault {
            Fault::CrashLeader => crash(world, &[leader?]),
            Fault::CrashOne => crash(world, &[one]),
            Fault::CrashMost => crash(world, &ids[..ids.len() / 2 + 1]),
            Fault::CrashAll => crash(world, &ids),
            Fault::StopLeader => stop(world, leader?)?,
            Fault::StopOne => stop(world, one)?,
            Fault::IsolateLeader => isolate(world, &[leader?]),
            Fault::IsolateOne => isolate(world, &[one]),
            Fault::LeaderCannotHear => cut(world, |from, to| Some(to) == leader && from != to),
            Fault::LeaderCannotSpeak => cut(world, |from, to| Some(from) == leader && from != to),
            Fault::CutOneWay => cut(world, |from, to| from == one && Some(to) == other),
            Fault::CutPair => {
                cut(world, |from, to| (from == one && Some(to) == other) || (to == one && Some(from) == other))
            }
            Fault::Ring => ring(world, &ids),
            Fault::Halves => isolate(world, &ids[..ids.len() / 2]),
            Fault::BadWeather => bad_weather(world),
            Fault::SlowDisk => sicken(world, one, Health::Slow),
            Fault::FullDisk => sicken(world, one, Health::Full),
            Fault::FailingDisk => sicken(world, one, Health::Failing),
            Fault::ClockJump => {
                let far = world.chance(|chance| chance.in_thousand(100));
                let most = if far { CLOCK_LEAP_MS } else { CLOCK_JUMP_MS };
                let jump = world.chance(|chance| chance.between(0, 2 * most.unsigned_abs()));
                world.member(one, |member| member.clock_ms = jump.cast_signed() - most)?;
            }
            Fault::Move => {
                // One that has nothing of the log yet knows nobody to tell where it is now.
                let voters: Vec<u64> = world.oracle(|oracle| {
                    let voters = oracle.state().members.iter().filter(|(_, record)| record.is_voter);
                    voters.map(|(member, _)| member.0).collect()
                });
                let first = voters.iter().position(|voter| *voter == one)?;
                // Those that are being taken out still count, and may be gone.
                let is_known = world.is_announced() && is_settled(world);
                (voters.len() >= MOVED_VOTERS_MIN && is_known).then_some(())?;
                let most = voters.len() - voters.len() / 2;
                let count = world.chance(|chance| chance.below(most)) + 1;
                let movers: Vec<u64> = voters.iter().copied().cycle().skip(first).take(count).collect();
                world.note(format_args!("moved: {movers:?}"));
                crash(world, &movers);
                for mover in movers {
                    self.moved += 1;
                    let address = format!("moved-{}:1", self.moved);
                    world.member(mover, |member| member.address = address)?;
                }
            }
            Fault::Transfer => {
                let (process, handle) = world.leader()?;
                let to = world.chance(|chance| chance.in_thousand(500)).then_some(one);
                drop(process.spawn(async move { handle.transfer(to).await }));
            }
            Fault::Snapshot => {
                let (process, handle) = world.anybody()?;
                drop(process.spawn(async move { handle.raft().trigger().snapshot().await }));
            }
            Fault::Join => {
                if ids.len() >= MEMBERS_MAX {
                    return None;
                }
                self.joined += 1;
                let number = self.joined;
                let world = world.clone();
                drop(tokio::spawn(async move { join(&world, &format!("late-{number}")).await }));
            }
            Fault::Promote => ask(world, Body::PromoteMember { member: MemberId(one) }),
            Fault::Remove => {
                if ids.len() <= 2 || !world.is_announced() {
                    return None;
                }
                ask(world, Body::RemoveMember { member: MemberId(one) });
            }
        }
        if matches!(
            fault,
            Fault::IsolateLeader
                | Fault::IsolateOne
                | Fault::LeaderCannotHear
                | Fault::LeaderCannotSpeak
                | Fault::CutOneWay
                | Fault::CutPair
                | Fault::Ring
                | Fault::Halves
                | Fault::BadWeather
        ) {
            let after = world.chance(|chance| chance.millis(BAD_ROADS_MS.0, BAD_ROADS_MS.1));
            self.heal_at = Some(self.heal_at.unwrap_or_else(|| Instant::now() + after));
        }
        Some(())
    }
}

fn end_removed(world: &World) {
    let removed = world.members(|members| {
        members.iter().filter(|(_, member)| member.is_removed).map(|(id, _)| *id).collect::<Vec<u64>>()
    });
    removed.into_iter().for_each(|id| world.crash(id, None));
}

/// Makes a member of a machine at an address of that name; who it is, the state says.
pub async fn join(world: &Arc<World>, name: &str) {
    let token = format!("token-of-{name}");
    world.ask(Body::CreateMemberToken { digest: token.clone(), expires_ms: u64::MAX }, None).await;
    let enrol = EnrolMember { token, key: name.to_owned(), address: format!("{name}:1"), level: FEATURE_LEVEL };
    world.ask(Body::EnrolMember(enrol), None).await;
}

fn ask(world: &Arc<World>, body: Body) {
    let world = world.clone();
    drop(tokio::spawn(async move { world.ask(body, None).await }));
}

fn crash(world: &World, ids: &[u64]) {
    for id in ids {
        let after = world.chance(|chance| chance.millis(DOWN_MS.0, DOWN_MS.1));
        world.crash(*id, Some(after));
    }
}

fn stop(world: &World, id: u64) -> Option<()> {
    let process = world.member(id, |member| member.process.clone())??;
    let moment = world.chance(|chance| chance.millis(STOPPED_MS.0, STOPPED_MS.1));
    process.stop();
    drop(tokio::spawn(async move {
        sleep(moment).await;
        process.go_on();
    }));
    Some(())
}

fn cut(world: &World, is_cut: impl Fn(u64, u64) -> bool) {
    let ids = world.ids();
    world.network(|network| {
        for from in &ids {
            for to in ids.iter().filter(|to| is_cut(*from, **to)) {
                network.cut(*from, *to);
            }
        }
    });
}

/// Cuts the roads between some and all others.
fn isolate(world: &World, some: &[u64]) {
    cut(world, |from, to| some.contains(&from) != some.contains(&to));
}

/// Each reaches the two beside it only.
fn ring(world: &World, ids: &[u64]) {
    let place = |id: u64| ids.iter().position(|found| *found == id).unwrap_or_default();
    cut(world, |from, to| {
        let apart = place(from).abs_diff(place(to));
        apart > 1 && apart + 1 < ids.len()
    });
}

fn bad_weather(world: &World) {
    let weather = world.chance(|chance| {
        let least = chance.between(0, 100);
        Weather {
            delay_ms: (least, least + chance.between(1, 250)),
            lost_in_thousand: chance.between(0, 300),
            doubled_in_thousand: chance.between(0, 200),
        }
    });
    world.note(format_args!("{weather:?}"));
    world.network(|network| network.weather = weather);
}

/// A slow disk is well again after a while; one that refuses does so once.
fn sicken(world: &Arc<World>, id: u64, health: Health) {
    world.disks(id, |image| image.health = health);
    if health == Health::Slow {
        let moment = world.chance(|chance| chance.millis(STOPPED_MS.0, STOPPED_MS.1));
        let world = world.clone();
        drop(tokio::spawn(async move {
            sleep(moment).await;
            world.disks(id, |image| image.health = Health::Well);
        }));
    }
}

/// How long faults last.
pub fn duration(world: &World) -> Duration {
    world.chance(|chance| chance.millis(6_000, 14_000))
}
