//! Members of the control plane that stand still, hear nothing or have a bad road: nothing old is served, nobody is
//! disturbed, and what was acknowledged stays.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::Duration;

use chaos_tests::api::{Api, is_open, request_id, shown};
use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use chaos_tests::road::Way;
use chaos_tests::wait::{SOON, holds, until};

const GRAPH: &str = "default/faulty";
/// Longer than any election takes.
const A_WHILE: Duration = Duration::from_secs(3);
/// An answer of a member that stood still comes at once, or not before it has found the others.
const ANSWERS_WITHIN: Duration = Duration::from_secs(15);

fn revision(number: usize) -> Bundle {
    Bundle::graph("faulty").with("{greeting: from config}", &format!("{{greeting: \"{number}\"}}"))
}

async fn term(api: &Api) -> u64 {
    api.members().await.unwrap().term
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_stood_still_serves_nothing_old_and_acknowledges_nothing_that_is_lost() {
    let mut cluster = Cluster::start_members(3, 1, &[]).await;
    cluster.api().deploy_and_wait(&revision(0)).await;
    let mut number = 0;
    for round in 0..6 {
        let stood = cluster.leader().await;
        let others: Vec<usize> = (1..=3).filter(|member| *member != stood).collect();
        cluster.member(stood).pause();
        // Asked while it stands: they wait in its sockets, and are the first that it reads.
        let api = cluster.api_of(stood);
        let asked: Vec<_> = (0..4)
            .map(|_| {
                let api = api.clone();
                tokio::spawn(async move { tokio::time::timeout(ANSWERS_WITHIN, api.status(GRAPH)).await })
            })
            .collect();
        let lost_id = request_id();
        let lost = {
            let (api, id) = (api.clone(), lost_id.clone());
            tokio::spawn(async move { api.deploy_as(&revision(1_000 + round), &id).await })
        };
        for _ in 0..2 {
            number += 1;
            cluster.deploy_by_any(&others, &revision(number)).await;
        }
        let least = cluster.api_of(others[0]).status(GRAPH).await.unwrap().revision;
        cluster.member(stood).resume();
        for asked in asked {
            if let Ok(Ok(answer)) = asked.await.unwrap() {
                assert!(answer.revision >= least, "round {round}: {} after {least}", answer.revision);
            }
        }
        // It has heard of no node while it stood, and that is nobody's fault but its own.
        let events = cluster.api_of(others[0]).events("node/n1").await.unwrap();
        assert!(events.iter().all(|event| event.reason != "down"), "round {round}: {events:?}");
        let answer = cluster.api_of(stood).status(GRAPH).await.unwrap();
        assert!(answer.revision >= least, "round {round}: {} after {least}", answer.revision);
        // What it said of the change is what all say: done, and once.
        match lost.await.unwrap() {
            Ok(done) => {
                let history = cluster.api_of(others[0]).history(GRAPH).await.unwrap();
                let found = history.iter().filter(|entry| entry.number == done.revision).count();
                assert_eq!(found, 1, "round {round}: acknowledged as {}, {history:?}", done.revision);
            }
            Err(status) => assert!(is_open(&status), "round {round}: {}", shown(&status)),
        }
        let by_others = cluster.api_of(others[1]).deploy_as(&revision(1_000 + round), &lost_id).await.unwrap();
        let again = cluster.api_of(others[0]).deploy_as(&revision(1_000 + round), &lost_id).await.unwrap();
        assert_eq!(by_others.revision, again.revision, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_hears_nothing_disturbs_nobody_and_catches_up() {
    let cluster = Cluster::start_members_on_roads(3, 1).await;
    cluster.api().deploy_and_wait(&revision(0)).await;
    let mut number = 0;
    for (there, back) in [(Way::Cut, Way::Cut), (Way::Cut, Way::Open), (Way::Open, Way::Cut)] {
        let leader = cluster.leader().await;
        let deaf = (1..=3).find(|member| *member != leader).unwrap();
        let (lead, before) = (cluster.api_of(leader), term(&cluster.api_of(leader)).await);
        cluster.roads[deaf - 1].becomes(there, back);
        let began = std::time::Instant::now();
        while began.elapsed() < A_WHILE {
            number += 1;
            lead.deploy(&revision(number)).await.unwrap();
        }
        // It asks for votes all the while, and gets none that would unseat anybody.
        assert_eq!((cluster.leader().await, term(&lead).await), (leader, before), "{there:?} {back:?}");
        let last = lead.status(GRAPH).await.unwrap().revision;
        cluster.roads[deaf - 1].becomes(Way::Open, Way::Open);
        let deaf = cluster.api_of(deaf);
        until("it has what it missed", SOON, async || match deaf.status(GRAPH).await {
            Ok(status) => holds(status.revision == last, status.revision.to_string()),
            Err(status) => Err(shown(&status)),
        })
        .await;
        assert_eq!((cluster.leader().await, term(&lead).await), (leader, before), "{there:?} {back:?}, after");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_roads_between_members_cost_time_and_no_change() {
    let cluster = Cluster::start_members_on_roads(3, 1).await;
    cluster.api().deploy_and_wait(&revision(0)).await;
    let late = Way::Late(Duration::from_millis(30));
    let lossy = Way::Lossy { one_of: 20, stall: Duration::from_millis(100) };
    let mut number = 0;
    for way in [late, lossy] {
        cluster.roads.iter().for_each(|road| road.becomes(way, way));
        for member in [1, 2, 3, 1, 2, 3] {
            number += 1;
            cluster.deploy_by_any(&[member], &revision(number)).await;
            let shown = cluster.api_of(member % 3 + 1).status(GRAPH).await.unwrap();
            assert_eq!(shown.revision, number as u64 + 1, "{way:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_way_between_them_nobody_leads_and_with_one_somebody_does() {
    let cluster = Cluster::start_members_on_roads(3, 1).await;
    cluster.api().deploy_and_wait(&revision(0)).await;
    for round in 1..=3 {
        cluster.roads.iter().for_each(|road| road.becomes(Way::Cut, Way::Cut));
        // Whatever is asked meanwhile is answered by nobody, or in doubt.
        let id = request_id();
        for member in 1..=3 {
            let refused = cluster.api_of(member).deploy_as(&revision(round), &id).await;
            assert!(refused.as_ref().is_err_and(is_open), "round {round}, member {member}: {refused:?}");
        }
        cluster.roads.iter().for_each(|road| road.becomes(Way::Open, Way::Open));
        cluster.deploy_by_any(&[1, 2, 3], &revision(round)).await;
    }
    let history = cluster.api().history(GRAPH).await.unwrap();
    // At most twice each: once in doubt, and once acknowledged under an id of its own.
    assert!((4..=7).contains(&history.len()), "{history:?}");
}
