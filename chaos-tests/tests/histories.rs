//! Three members of the control plane under clients, watchers and a random schedule of faults: whatever happens, the
//! history of what was seen is legal.
//!
//! A failure leaves `history.jsonl` and `schedule.json`; its seed makes the same schedule again. `CHAOS_STEPS` is how
//! many faults the long run has.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use chaos_tests::cluster::Cluster;
use chaos_tests::faults::{Fault, Schedule, Whom};
use chaos_tests::seed::Choices;
use chaos_tests::workload::{self, LOAD, Run, SMALL_LOG};

const CRASHES: [Fault; 5] = [
    Fault::Kill(Whom::Leader),
    Fault::Kill(Whom::Follower),
    Fault::KillAll,
    Fault::Stop(Whom::Leader),
    Fault::Transfer,
];
const ROADS: [Fault; 8] = [
    Fault::Isolate(Whom::Leader),
    Fault::Isolate(Whom::Follower),
    Fault::Unreachable(Whom::Follower),
    Fault::Deafen(Whom::Leader),
    Fault::Silence(Whom::Leader),
    Fault::Pause(Whom::Leader),
    Fault::Late,
    Fault::Lossy,
];
/// Faults of the long run, if nobody says how many.
const STEPS: usize = 200;

async fn run(faults: &[Fault], steps: usize, flags: &[&str]) -> Run {
    let mut choices = Choices::new();
    let schedule = Schedule::random(faults, steps, &mut choices);
    let cluster = Cluster::start_control_plane(3, flags, Choices::of(choices.number()));
    let mut cluster = cluster.await;
    let run = workload::run(&mut cluster, LOAD, &schedule, &mut choices).await;
    run.is_legal();
    for fault in faults.iter().take(steps) {
        assert!(run.coverage.faults.contains_key(fault), "{fault:?} did not happen: {:?}", run.coverage);
    }
    run
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_are_killed_and_replaced_by_snapshots_leave_a_legal_history() {
    let run = run(&CRASHES, CRASHES.len(), &[SMALL_LOG]).await;
    run.coverage.is_enough(3);
    assert!(run.coverage.snapshots > 0, "no log was replaced: {:?}", run.coverage);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_stand_still_or_do_not_hear_each_other_leave_a_legal_history() {
    let run = run(&ROADS, ROADS.len(), &[]).await;
    run.coverage.is_enough(1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: CHAOS_STEPS=1000 cargo test -p chaos-tests --test histories -- --ignored"]
async fn everything_that_happens_for_long_leaves_a_legal_history() {
    let steps = std::env::var("CHAOS_STEPS").map_or(STEPS, |steps| steps.parse().expect("a number of faults"));
    let run = run(&[&CRASHES[..], &ROADS[..]].concat(), steps, &[SMALL_LOG]).await;
    run.coverage.is_enough(u64::try_from(steps / 12).unwrap());
}
