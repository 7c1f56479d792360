//! Rows 9, 17 and 23 of the fault matrix: disks that hardly write, clocks that jump, and leaders that change all the time. No
//! acknowledged change is lost, no member disturbs the others, and what serves goes on.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::{Duration, Instant};

use chaos_tests::api::{Api, is_open, request_id, shown};
use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use chaos_tests::hardware::Hardware;
use chaos_tests::say;
use chaos_tests::traffic::Load;
use chaos_tests::wait::{SOON, holds, until};
use proto::status::reason;

const GRAPH: &str = "default/faulty";
const MEMBERS: [usize; 3] = [1, 2, 3];
/// Longer than any election takes.
const A_WHILE: Duration = Duration::from_secs(3);
/// Longer than the tests take: a disk that does not write at all.
const FROZEN_MS: i64 = 600_000;
/// A hundred times what a sync takes.
const SLOW_MS: i64 = 200;
const TEN_YEARS: i64 = 10 * 365 * 24 * 60 * 60;
/// How long the lead changes for.
const FLAPPING: Duration = Duration::from_secs(15);

fn revision(number: usize) -> Bundle {
    Bundle::graph("faulty").with("{greeting: from config}", &format!("{{greeting: \"{number}\"}}"))
}

async fn term(api: &Api) -> u64 {
    api.members().await.unwrap().term
}

/// Three members on hardware of their own, and a node; none where there is no C compiler.
async fn on_hardware() -> Option<(Cluster, Vec<Hardware>)> {
    let mut cluster = Cluster::start_members(3, 1, &[]).await;
    let hardware = match Hardware::make(cluster.folder(), MEMBERS.len()) {
        Ok(hardware) => hardware,
        Err(why) => {
            say(&format!("SKIPPED: clocks and disks: {why}"));
            return None;
        }
    };
    for (number, one) in MEMBERS.into_iter().zip(&hardware) {
        let member = cluster.member(number);
        member.is_on(one);
        member.restart().await;
    }
    cluster.leader().await;
    cluster.node_ready().await;
    cluster.api().deploy_and_wait(&revision(0)).await;
    Some((cluster, hardware))
}

/// Deploys revisions one after the other, by whichever member answers.
struct Deploys {
    last: usize,
}

impl Deploys {
    async fn make(&mut self, cluster: &Cluster, members: &[usize], count: usize) {
        for _ in 0..count {
            self.last += 1;
            cluster.deploy_by_any(members, &revision(self.last)).await;
        }
    }

    /// For a while.
    async fn go_on(&mut self, cluster: &Cluster, members: &[usize]) {
        let began = Instant::now();
        while began.elapsed() < A_WHILE {
            self.make(cluster, members, 1).await;
        }
    }

    /// Whether all members have the last one.
    async fn all_have_it(&self, cluster: &Cluster) {
        for member in MEMBERS {
            let api = cluster.api_of(member);
            until(&format!("member {member} has the last revision"), SOON, async || {
                let found = api.status(GRAPH).await.map_err(|status| shown(&status))?.revision;
                holds(found == self.last as u64 + 1, found.to_string())
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hardly_writes_costs_time_and_no_change() {
    let Some((cluster, hardware)) = on_hardware().await else { return };
    let mut deploys = Deploys { last: 0 };

    // The leader's disk stands still: the others are enough.
    let leader = cluster.leader().await;
    let before = term(&cluster.api_of(leader)).await;
    hardware[leader - 1].syncs_take(FROZEN_MS);
    let began = Instant::now();
    deploys.make(&cluster, &MEMBERS, 1).await;
    assert!(began.elapsed() < Duration::from_secs(5), "the others took {:?}", began.elapsed());
    deploys.make(&cluster, &MEMBERS, 20).await;
    let leads = cluster.leader().await;
    let after = term(&cluster.api_of(leads)).await;
    assert!(after <= before + 1, "one election for one fault: {before}, {after}");
    hardware[leader - 1].syncs_take(0);
    deploys.all_have_it(&cluster).await;

    // Those of the others do: nothing is acknowledged that is on one disk alone.
    let leader = cluster.leader().await;
    MEMBERS
        .iter()
        .filter(|member| **member != leader)
        .for_each(|member| hardware[member - 1].syncs_take(FROZEN_MS));
    let (id, asked) = (request_id(), revision(deploys.last + 1));
    let status = cluster.api_of(leader).deploy_as(&asked, &id).await.unwrap_err();
    assert!(is_open(&status), "{}", shown(&status));
    hardware.iter().for_each(|one| one.syncs_take(0));
    until("it is decided", SOON, async || {
        let mut last = String::new();
        for member in MEMBERS {
            match cluster.api_of(member).deploy_as(&asked, &id).await {
                Ok(_) => return Ok(()),
                Err(status) => last = shown(&status),
            }
        }
        Err(last)
    })
    .await;
    deploys.last += 1;
    deploys.all_have_it(&cluster).await;

    // All disks are slow: that is no reason to elect anybody.
    let leader = cluster.leader().await;
    let before = term(&cluster.api_of(leader)).await;
    hardware.iter().for_each(|one| one.syncs_take(SLOW_MS));
    deploys.make(&cluster, &MEMBERS, 10).await;
    assert_eq!((cluster.leader().await, term(&cluster.api_of(leader)).await), (leader, before));
    hardware.iter().for_each(|one| one.syncs_take(0));
    deploys.all_have_it(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_jump_elect_nobody_and_make_nothing_expire() {
    let Some((cluster, hardware)) = on_hardware().await else { return };
    let mut deploys = Deploys { last: 0 };
    let load = Load::start(cluster.ingress_address(), "faulty.localhost", "/config", 1);
    let leader = cluster.leader().await;
    let before = term(&cluster.api_of(leader)).await;
    let follower = MEMBERS.into_iter().find(|member| *member != leader).unwrap();
    for one in [leader, follower] {
        for seconds in [300, -300] {
            hardware[one - 1].clock_is_off_by(seconds);
            deploys.go_on(&cluster, &MEMBERS).await;
            let what = format!("the clock of member {one} is off by {seconds} s");
            assert_eq!(
                (cluster.leader().await, term(&cluster.api_of(leader)).await),
                (leader, before),
                "{what}"
            );
            let node = cluster.api_of(leader).node("n1").await.unwrap();
            assert_eq!(node.state, "ready", "{what}");
            hardware[one - 1].clock_is_off_by(0);
        }
    }
    // All of them jump, and not by so much that a certificate would end.
    for seconds in [240, -240] {
        hardware.iter().for_each(|one| one.clock_is_off_by(seconds));
        deploys.make(&cluster, &MEMBERS, 10).await;
        assert_eq!(
            (cluster.leader().await, term(&cluster.api_of(leader)).await),
            (leader, before),
            "{seconds}"
        );
        hardware.iter().for_each(|one| one.clock_is_off_by(0));
    }
    // By so much that no certificate is good for that member: whoever leads and has such a clock hands over.
    for one in [leader, follower] {
        let others: Vec<usize> = MEMBERS.into_iter().filter(|member| *member != one).collect();
        for seconds in [TEN_YEARS, -TEN_YEARS] {
            let what = format!("the clock of member {one} is off by {seconds} s");
            hardware[one - 1].clock_is_off_by(seconds);
            let leads = another_leads(&cluster, one, &others).await;
            let before = term(&cluster.api_of(leads)).await;
            deploys.go_on(&cluster, &others).await;
            assert_eq!(term(&cluster.api_of(leads)).await, before, "{what}");
            let node = cluster.api_of(leads).node("n1").await.unwrap();
            assert_eq!(node.state, "ready", "{what}");
            hardware[one - 1].clock_is_off_by(0);
            deploys.all_have_it(&cluster).await;
        }
    }
    load.stop_all_good(100).await;
}

/// Who leads, as others than `one` say, once that is not `one`.
async fn another_leads(cluster: &Cluster, one: usize, others: &[usize]) -> usize {
    until(&format!("another one leads than {one}"), SOON, async || {
        let mut last = String::new();
        for other in others {
            match cluster.api_of(*other).members().await {
                Ok(listed) if listed.leader != 0 && listed.leader != one as u64 => {
                    return Ok(usize::try_from(listed.leader).unwrap());
                }
                Ok(listed) => last = format!("{} leads", listed.leader),
                Err(status) => last = shown(&status),
            }
        }
        Err(last)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_lives_as_long_as_it_was_said_to_whatever_one_clock_shows() {
    let Some((mut cluster, hardware)) = on_hardware().await else { return };
    let number = cluster.add_member();
    let token = cluster.member_token().await;
    let off = cluster.leader().await;
    let others: Vec<usize> = MEMBERS.into_iter().filter(|member| *member != off).collect();
    // What a leader does while its clock is off would be in the log for good: it lets others lead, which agents see.
    hardware[off - 1].clock_is_off_by(TEN_YEARS);
    let leader = another_leads(&cluster, off, &others).await;
    cluster.deploy_by_any(&others, &revision(2)).await;
    hardware[off - 1].clock_is_off_by(0);
    let joining = cluster.member(number);
    joining.give_token(&token);
    joining.start().await;
    // A request under an id that says when it was made, which is now, is none of ten years ago.
    let answer = cluster.api_of(leader).deploy_as(&revision(3), &uuid::Uuid::now_v7().to_string()).await;
    match answer {
        Ok(_) => {}
        Err(status) => panic!("{:?}: {}", reason(&status), shown(&status)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lead_that_changes_all_the_time_moves_nothing_and_loses_nothing() {
    let cluster = Cluster::start_members(3, 2, &[]).await;
    let hello = cluster.api().deploy_and_wait(&Bundle::graph("hello")).await;
    let load = Load::start(cluster.ingress_address(), "hello.localhost", "/", 2);
    let placed = cluster.api().status("default/hello").await.unwrap();
    cluster.deploy_by_any(&MEMBERS, &revision(0)).await;
    let mut deploys = Deploys { last: 0 };
    let began = Instant::now();
    let before = term(&cluster.api()).await;
    let changes = async {
        while began.elapsed() < FLAPPING {
            let leader = cluster.leader().await;
            // Whether it came about, the term says.
            let _ = cluster.api_of(leader).transfer().await;
        }
    };
    let deploying = async {
        while began.elapsed() < FLAPPING {
            deploys.make(&cluster, &MEMBERS, 1).await;
        }
    };
    tokio::join!(changes, deploying);
    let leader = cluster.leader().await;
    let after = term(&cluster.api_of(leader)).await;
    say(&format!("{} leaders, {} deploys", after - before, deploys.last));
    assert!(after - before >= 5, "the lead changed: {before}, {after}");
    assert!(deploys.last > 5, "{} deploys", deploys.last);
    deploys.all_have_it(&cluster).await;
    let status = cluster.api_of(leader).status("default/hello").await.unwrap();
    assert_eq!(status.generation, hello.generation, "it is where it was");
    assert_eq!(status.components, placed.components);
    for node in ["n1", "n2"] {
        let events = cluster.api_of(leader).events(&format!("node/{node}")).await.unwrap();
        assert!(events.iter().all(|event| event.reason != "down"), "{events:?}");
    }
    load.stop_all_good(100).await;
}
