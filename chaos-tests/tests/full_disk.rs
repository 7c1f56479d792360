//! A disk that is nearly full, and a state that is as large as it may be: nothing new is taken, what exists is read and
//! deleted, and all goes on by itself once there is room.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs::File;
use std::path::Path;

use chaos_tests::api::{Api, shown};
use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use chaos_tests::wait::{SOON, holds, until};
use chaos_tests::{say, seed};
use proto::status::reason;
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use tonic::Code;

/// What else may be written to the disk meanwhile.
const MARGIN_BYTES: u64 = 1 << 30;
const GRAPH: &str = "default/faulty";

fn revision(number: usize) -> Bundle {
    Bundle::graph("faulty").with("{greeting: from config}", &format!("{{greeting: \"{number}\"}}"))
}

fn free_bytes(folder: &Path) -> u64 {
    let disk = statvfs(folder).unwrap();
    disk.f_bavail * disk.f_frsize
}

/// Takes the room of a disk.
fn fill(path: &Path, bytes: u64) {
    let file = File::create(path).unwrap();
    fallocate(&file, FallocateFlags::empty(), 0, bytes).unwrap();
}

async fn is_refused(api: &Api, why: &str, bundle: &Bundle) {
    until(&format!("a deploy is refused: {why}"), SOON, async || match api.deploy(bundle).await {
        Err(status) if reason(&status).as_deref() == Some(why) => {
            assert_eq!(status.code(), Code::ResourceExhausted);
            Ok(())
        }
        other => Err(format!("{:?}", other.map_err(|status| shown(&status)))),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_disk_is_full_hands_over_and_where_all_are_full_nothing_is_lost() {
    let mut cluster = Cluster::start_members(3, 1, &[]).await;
    let free = free_bytes(cluster.folder());
    if free < 4 * MARGIN_BYTES {
        say(&format!("SKIPPED: the disk of temporary files has {free} bytes, and 4 GiB are needed"));
        return;
    }
    cluster.api().deploy_and_wait(&revision(0)).await;
    let ballast = cluster.folder().join("ballast");
    let reserve = format!("--disk-reserve={}Mi", (free - MARGIN_BYTES) >> 20);

    // One is full, and leads.
    let full = cluster.leader().await;
    let others: Vec<usize> = (1..=3).filter(|member| *member != full).collect();
    cluster.member(full).kill();
    cluster.start_member_with(full, &reserve, true).await;
    until("it leads", SOON, async || {
        let leader = cluster.leader().await;
        let to = cluster.api_of(leader).transfer_to(full as u64).await;
        to.map(drop).map_err(|status| shown(&status))
    })
    .await;
    fill(&ballast, 2 * MARGIN_BYTES);
    until("another one leads", SOON, async || {
        let leader = cluster.leader().await;
        holds(leader != full, format!("{leader} leads"))
    })
    .await;
    let members: Vec<usize> = (1..=3).collect();
    for number in 1..=5 {
        cluster.deploy_by_any(&members, &revision(number)).await;
    }
    until("all are told whose disk is full", SOON, async || {
        let leader = cluster.leader().await;
        let listed = cluster.api_of(leader).members().await.map_err(|status| shown(&status))?;
        let low: Vec<u64> =
            listed.members.iter().filter(|member| member.is_low_on_disk).map(|member| member.id).collect();
        holds(low == [full as u64], format!("{low:?}"))
    })
    .await;
    assert!(cluster.member(full).runs());
    std::fs::remove_file(&ballast).unwrap();

    // All are.
    for other in others {
        cluster.member(other).kill();
        cluster.start_member_with(other, &reserve, true).await;
    }
    cluster.deploy_by_any(&members, &revision(6)).await;
    let processes: Vec<u32> = members.iter().map(|member| cluster.member(*member).process_id()).collect();
    fill(&ballast, 2 * MARGIN_BYTES);
    is_refused(&cluster.api(), "disk_full", &revision(7)).await;
    // It was looked at after a moment: one more may have been taken.
    let found = cluster.api().status(GRAPH).await.unwrap().revision;
    assert!((7..=8).contains(&found), "{found}");
    for member in &members {
        assert_eq!(cluster.api_of(*member).status(GRAPH).await.unwrap().revision, found, "reads are answered");
    }
    cluster.api().delete(GRAPH).await.unwrap();
    let gone = cluster.api().status(GRAPH).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    std::fs::remove_file(&ballast).unwrap();
    until("there is room again", SOON, async || {
        cluster.api().deploy(&revision(8)).await.map(drop).map_err(|status| shown(&status))
    })
    .await;
    let still: Vec<u32> = members.iter().map(|member| cluster.member(*member).process_id()).collect();
    assert!(members.iter().all(|member| cluster.member(*member).runs()));
    assert_eq!(still, processes, "nobody had to start again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_as_large_as_it_may_be_takes_nothing_new_until_something_is_deleted() {
    let cluster = Cluster::start_as(1, &["--state-quota=256Ki"], &[]).await;
    let api = cluster.api();
    let mut choices = seed::Choices::new();
    // Random text does not become shorter when it is packed.
    let mut graph = |number: usize| {
        let text: String = (0..2_000).map(|_| format!("{:016x}", choices.number())).collect();
        let manifest = format!("graph: g{number} # {text}");
        let named = Bundle::graph("faulty").with("graph: faulty", &manifest);
        named.with("faulty.localhost", &format!("g{number}.localhost"))
    };
    let mut taken = 0;
    let refused = loop {
        assert!(taken < 100, "there is a bound");
        match api.deploy(&graph(taken)).await {
            Ok(_) => taken += 1,
            Err(status) => break status,
        }
    };
    assert_eq!(reason(&refused).as_deref(), Some("state_quota"), "{}", shown(&refused));
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(taken > 3, "{taken} graphs were taken");
    assert_eq!(api.status("default/g0").await.unwrap().revision, 1, "reads are answered");
    is_refused(&api, "state_quota", &graph(taken)).await;
    for number in 0..taken {
        api.delete(&format!("default/g{number}")).await.unwrap();
    }
    let next = graph(taken);
    until("there is room again", SOON, async || {
        api.deploy(&next).await.map(drop).map_err(|status| shown(&status))
    })
    .await;
}
