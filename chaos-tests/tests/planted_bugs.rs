//! A check of the checks: each bug that can be planted into the control plane is caught, by the rule that is there for it.
//!
//! `CHAOS_BUG=stale-read` tries one of them alone.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chaos_tests::built;
use chaos_tests::cluster::Cluster;
use chaos_tests::faults::{Fault, Schedule, Whom, leader};
use chaos_tests::history::{Answer, Ask, History, Line, Operation, Outcome, check};
use chaos_tests::say;
use chaos_tests::seed::Choices;
use chaos_tests::wait::{SOON, until};
use chaos_tests::workload::{self, LOAD, Load, SMALL_LOG};
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};

/// A workload is short: a bug that bites now and then may not bite in the first one.
const TRIES_MAX: usize = 6;
/// Clusters at one time.
const AT_ONCE: usize = 2;
/// Longer than an election, and than a small log takes to be replaced.
const LONG: Duration = Duration::from_millis(3_000);
/// Many keys that nobody deletes: what was acknowledged stays among the kept revisions.
const KEEPING: Load = Load { clients: 6, keys: 12, watchers: 1, deletes: false };

/// How a bug is exercised; each must find nothing without one.
#[derive(Debug, Clone, Copy)]
enum Exercise {
    /// Clients and watchers while this happens; `tests/histories.rs` has the same faults without the bug.
    Workload { load: Load, flags: &'static [&'static str], faults: &'static [Fault] },
    /// A member is removed, and another one joins.
    Replacement,
    /// A member hears nothing for a while, and then again.
    Deafness,
    /// A member is killed, and started again.
    Restart,
}

struct Row {
    bug: &'static str,
    /// The rule that must see it.
    caught_by: &'static str,
    /// Rules that may see it as well.
    also: &'static [&'static str],
    exercise: Exercise,
}

const fn late(faults: &'static [Fault]) -> Exercise {
    Exercise::Workload { load: LOAD, flags: &[], faults }
}

/// What else is broken where members have come apart: nearly everything.
const SEVERAL: &[&str] = &[
    "log-order",
    "linearizable",
    "watch-true",
    "watch-atomic",
    "watch-reliable",
    "watch-resumable",
    "acked-present",
    "converged",
    "at-most-once",
];

static TABLE: [Row; 13] = [
    Row {
        bug: "stale-read",
        caught_by: "log-order",
        also: &["linearizable"],
        exercise: late(&[Fault::Late, Fault::Unreachable(Whom::Follower)]),
    },
    Row {
        bug: "unconfirmed-read",
        caught_by: "log-order",
        also: &["linearizable"],
        exercise: late(&[Fault::Isolate(Whom::Leader)]),
    },
    Row {
        bug: "unapplied-read",
        caught_by: "log-order",
        // What is decided from such a read is wrong too.
        also: SEVERAL,
        exercise: late(&[Fault::Unreachable(Whom::Follower)]),
    },
    Row {
        bug: "acknowledged-uncommitted",
        caught_by: "acked-present",
        also: SEVERAL,
        exercise: Exercise::Workload { load: KEEPING, flags: &[], faults: &[Fault::Isolate(Whom::Leader)] },
    },
    Row {
        bug: "forgotten-requests",
        caught_by: "at-most-once",
        also: SEVERAL,
        exercise: Exercise::Workload {
            load: LOAD,
            flags: &[SMALL_LOG],
            faults: &[Fault::Late, Fault::KillAll, Fault::Late, Fault::KillAll, Fault::Late],
        },
    },
    Row { bug: "ignored-expectation", caught_by: "linearizable", also: &[], exercise: late(&[Fault::Late]) },
    Row {
        bug: "lost-event",
        caught_by: "watch-reliable",
        also: &["watch-resumable"],
        exercise: late(&[Fault::Late]),
    },
    Row { bug: "repeated-event", caught_by: "watch-resumable", also: &[], exercise: late(&[Fault::Late]) },
    Row { bug: "clock-in-apply", caught_by: "converged", also: &[], exercise: late(&[Fault::Late]) },
    Row {
        bug: "lost-snapshot",
        caught_by: "converged",
        also: SEVERAL,
        exercise: Exercise::Workload {
            load: LOAD,
            flags: &[SMALL_LOG],
            faults: &[Fault::Kill(Whom::Follower), Fault::Late],
        },
    },
    Row { bug: "reused-member-id", caught_by: "ids-once", also: &[], exercise: Exercise::Replacement },
    Row { bug: "no-pre-vote", caught_by: UNDISTURBED, also: &[], exercise: Exercise::Deafness },
    Row { bug: "unsaved-vote", caught_by: OPENS, also: &[], exercise: Exercise::Restart },
];
/// Nobody who comes back unseats a leader.
const UNDISTURBED: &str = "undisturbed-leader";
/// What a member finds on its disk when it starts is whole.
const OPENS: &str = "opens-whole";

/// Caught by `a_barrier_that_is_not_waited_for_is_seen` of `control-plane/tests/power_cut`: a process that is killed
/// loses nothing of what it has written.
const BY_POWER_CUTS: &str = "unwaited-barrier";

#[test]
fn every_bug_that_can_be_planted_is_in_the_table() {
    let refused = std::process::Command::new(built::binary("control-plane"))
        .args(["--data-dir", "none", "--planted-bug", "none"])
        .output()
        .unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    let (_, list) = said.split_once("[possible values: ").unwrap_or_else(|| panic!("{said}"));
    let can_be: BTreeSet<&str> = list.split_once(']').unwrap().0.split(", ").collect();
    let in_table = TABLE.iter().map(|row| row.bug).chain([BY_POWER_CUTS]);
    assert_eq!(can_be, in_table.collect::<BTreeSet<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_planted_bug_is_caught_by_its_name() {
    let only = std::env::var("CHAOS_BUG").ok();
    let rows: Vec<&'static Row> =
        TABLE.iter().filter(|row| only.as_ref().is_none_or(|only| only == row.bug)).collect();
    assert!(!rows.is_empty(), "{only:?} is no bug of the table");
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let tried = async {
        let mut tried = JoinSet::new();
        for row in rows {
            let turns = turns.clone();
            tried.spawn_local(async move {
                let _turn = turns.acquire().await.unwrap();
                row.judge().await
            });
        }
        tried.join_all().await
    };
    let wrong: Vec<String> =
        LocalSet::new().run_until(tried).await.into_iter().filter_map(Result::err).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_bug_there_is_nothing_to_be_caught() {
    for exercise in [Exercise::Replacement, Exercise::Deafness, Exercise::Restart] {
        assert_eq!(exercise.run(None).await, BTreeSet::new(), "{exercise:?}");
    }
}

impl Row {
    /// Whether it is caught by its rule, and by no other one than those that may see it too.
    async fn judge(&self) -> Result<(), String> {
        let is_expected = |name: &String| name == self.caught_by || self.also.contains(&name.as_str());
        let mut last = BTreeSet::new();
        for _ in 0..TRIES_MAX {
            last = self.exercise.run(Some(self.bug)).await;
            say(&format!("{}: {last:?}", self.bug));
            if last.contains(self.caught_by) && last.iter().all(is_expected) {
                return Ok(());
            }
        }
        Err(format!("{}, not by {}: {last:?}", self.bug, self.caught_by))
    }
}

impl Exercise {
    /// The names of the rules that are broken.
    async fn run(self, bug: Option<&str>) -> BTreeSet<String> {
        let planted = bug.map(|bug| format!("--planted-bug={bug}"));
        let own: &[&str] = if let Self::Workload { flags, .. } = self { flags } else { &[] };
        let flags: Vec<&str> = own.iter().copied().chain(planted.as_deref()).collect();
        let mut choices = Choices::new();
        let cluster = Cluster::start_control_plane(3, &flags, Choices::of(choices.number()));
        let cluster = &mut cluster.await;
        match self {
            Self::Workload { load, faults, .. } => {
                let schedule = Schedule::of(faults, LONG);
                let run = workload::run(cluster, load, &schedule, &mut choices).await;
                let report = run.report();
                report.findings.iter().take(3).for_each(|finding| say(&finding.to_string()));
                report.broken().into_iter().map(|rule| rule.to_string()).collect()
            }
            Self::Replacement => replacement(cluster).await,
            Self::Deafness => deafness(cluster).await,
            Self::Restart => restart(cluster).await,
        }
    }
}

/// The id that a member was given, as it has noted it.
async fn id_of(cluster: &mut Cluster, number: usize) -> u64 {
    let file = cluster.member(number).data_dir.join("member.json");
    until("a member has an id", SOON, async || {
        let text = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
        let noted: serde_json::Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        noted["member"].as_u64().ok_or(text)
    })
    .await
}

async fn replacement(cluster: &mut Cluster) -> BTreeSet<String> {
    let mut lines = vec![joined(2, id_of(cluster, 2).await), joined(3, id_of(cluster, 3).await)];
    let api = cluster.api();
    until("a member is removed", SOON, async || api.remove_member(3).await.map_err(|error| error.to_string()))
        .await;
    cluster.member(3).kill();
    let fourth = cluster.add_member();
    let token = cluster.member_token().await;
    cluster.member(fourth).give_token(&token);
    cluster.member(fourth).spawn();
    lines.push(joined(4, id_of(cluster, fourth).await));
    let report = check(&History::new(lines).unwrap());
    report.broken().into_iter().map(|rule| rule.to_string()).collect()
}

fn joined(number: u64, id: u64) -> Line {
    Line::Operation(Operation {
        client: number,
        member: 1,
        key: String::new(),
        ask: Ask::Join,
        request: Some(format!("member-{number}")),
        invoked_us: 10 * number,
        returned_us: 10 * number + 1,
        outcome: Outcome::Ok(Answer { id: Some(id), ..Answer::default() }),
    })
}

async fn leader_and_term(cluster: &Cluster) -> (usize, u64) {
    let leader = leader(cluster).await;
    let members = cluster.api_of(leader).members().await.unwrap();
    (leader, members.term)
}

async fn deafness(cluster: &mut Cluster) -> BTreeSet<String> {
    let before = leader_and_term(cluster).await;
    let schedule = Schedule::of(&[Fault::Deafen(Whom::Follower)], LONG);
    schedule.run(cluster).await;
    // It is heard again, and has heard everything.
    for member in 1..=3 {
        let api = cluster.api_of(member);
        until("every member answers", SOON, async || api.members().await.map_err(|error| error.to_string()))
            .await;
    }
    let after = leader_and_term(cluster).await;
    if after == before { BTreeSet::new() } else { BTreeSet::from([UNDISTURBED.to_owned()]) }
}

async fn restart(cluster: &mut Cluster) -> BTreeSet<String> {
    let follower = Whom::Follower.member(cluster).await;
    // The first member has made its log before it voted.
    let member = if follower == 1 { 2 } else { follower };
    cluster.member(member).kill();
    cluster.member(member).spawn();
    let ended = until("it listens, or has ended", SOON, async || {
        let log = cluster.member(member).last_log();
        let has_ended = !cluster.member(member).runs();
        if has_ended || log.contains("the control plane is ready") { Ok(has_ended) } else { Err(log) }
    })
    .await;
    let log = cluster.member(member).last_log();
    if !ended {
        return BTreeSet::new();
    }
    assert!(log.contains("there is a log but no vote"), "{log}");
    BTreeSet::from([OPENS.to_owned()])
}
