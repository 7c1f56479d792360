//! Several members of the control plane: any of them is asked, one leads, and what was acknowledged outlives those that
//! are killed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::Duration;

use chaos_tests::api::{is_open, request_id, shown};
use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use chaos_tests::ctl::Ctl;
use chaos_tests::traffic::Load;
use chaos_tests::wait::{SOON, holds, until};
use cluster::FEATURE_LEVEL;
use proto::weft::trust::v1::enrolment_client::EnrolmentClient;
use proto::weft::trust::v1::{CreateTokenRequest, JoinRequest};
use tonic::Code;
use trust::Key;

const HOST: &str = "faulty.localhost";
const GRAPH: &str = "default/faulty";

fn revision(number: usize) -> Bundle {
    Bundle::graph("faulty").with("{greeting: from config}", &format!("{{greeting: \"{number}\"}}"))
}

fn settings(number: usize) -> String {
    format!("config={number} variable=from variables\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn any_member_is_asked_and_all_say_the_same() {
    let mut cluster = Cluster::start_members(3, 1, &[]).await;
    let leader = cluster.leader().await;
    let roles = |answer: &proto::weft::member::v1::ListResponse| -> Vec<(u64, String)> {
        answer.members.iter().map(|member| (member.id, member.role.clone())).collect()
    };
    let voters: Vec<(u64, String)> = (1..=3).map(|id| (id, "voter".to_owned())).collect();
    for member in 1..=3 {
        let bundle = revision(member);
        let api = cluster.api_of(member);
        api.upload(&bundle).await.unwrap();
        api.deploy_and_wait(&bundle).await;
        // What one member has acknowledged, every other one shows.
        for other in 1..=3 {
            let shown = cluster.api_of(other).status(GRAPH).await.unwrap();
            assert_eq!(shown.revision, member as u64, "asked member {other}");
        }
        assert_eq!(cluster.client(HOST).get("/config").await.body, settings(member));
        let answer = api.members().await.unwrap();
        assert_eq!((roles(&answer), answer.leader), (voters.clone(), leader as u64), "asked member {member}");
        assert_eq!(answer.asked, member as u64);
    }
    // By each of them a node joins: its answers are of what it has just asked for.
    for member in 1..=3 {
        let (token, node) = (cluster.new_token(), format!("by-{member}"));
        let mut enrolment = EnrolmentClient::new(cluster.api_of(member).channel());
        let request = CreateTokenRequest {
            request_id: request_id(),
            node: node.clone(),
            digest: token.digest(),
            lifetime_ms: 60_000,
        };
        let created = enrolment.create_token(request).await.unwrap().into_inner();
        assert!(created.expires_ms > 0, "asked member {member}");
        let certificate_request = Key::generate().unwrap().request().unwrap();
        let request = JoinRequest { token: token.reveal().to_string(), node, certificate_request };
        let joined = enrolment.join(request).await.unwrap_or_else(|status| panic!("{}", shown(&status)));
        assert!(!joined.into_inner().certificate.is_empty(), "asked member {member}");
    }
    // Every member has the bytes, and gives them to whoever asks.
    for (_, bytes) in revision(1).files() {
        let digest = chaos_tests::api::digest(&bytes);
        for member in 1..=3 {
            assert_eq!(cluster.api_of(member).download(&digest).await.unwrap(), bytes);
        }
    }
    let ctl = Ctl::new(&cluster);
    let listed = ctl.done(&["member", "list"]).await;
    assert_eq!(listed.matches("voter").count(), 3, "{listed}");
    let other = if leader == 3 { 2 } else { 3 };
    ctl.done(&["member", "transfer", &other.to_string()]).await;
    until("all know who leads", SOON, async || {
        let mut known = Vec::new();
        for member in 1..=3 {
            known.push(cluster.api_of(member).members().await.map(|answer| answer.leader));
        }
        let all = known.iter().all(|leader| leader.as_ref().is_ok_and(|leader| *leader == other as u64));
        holds(all, format!("{known:?}"))
    })
    .await;
    // A planned stop of who leads hands over at once.
    cluster.member(other).terminate();
    assert!(cluster.member(other).end_within(SOON).await.success());
    cluster.deploy_by_any(&[1, 2, 3], &revision(4)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kill_of_any_member_loses_nothing_that_was_acknowledged_and_no_request() {
    let mut cluster = Cluster::start_members(3, 1, &[]).await;
    cluster.api().deploy_and_wait(&revision(0)).await;
    let load = Load::start(cluster.ingress_address(), HOST, "/config", 2);
    let mut number = 0;
    for round in 0..6 {
        let killed =
            if round % 2 == 0 { cluster.leader().await } else { 1 + cluster.choices.below(3) as usize };
        cluster.member(killed).kill();
        let left: Vec<usize> = (1..=3).filter(|member| *member != killed).collect();
        for _ in 0..3 {
            number += 1;
            cluster.deploy_by_any(&left, &revision(number)).await;
        }
        for member in &left {
            let shown = cluster.api_of(*member).status(GRAPH).await.unwrap();
            assert_eq!(shown.revision, number as u64 + 1, "round {round}, asked member {member}");
        }
        cluster.member(killed).start().await;
        let api = cluster.api_of(killed);
        until("it has what it missed", SOON, async || match api.status(GRAPH).await {
            Ok(shown) => holds(shown.revision == number as u64 + 1, shown.revision.to_string()),
            Err(status) => Err(shown(&status)),
        })
        .await;
    }
    let client = &mut cluster.client(HOST);
    until("the last revision serves", SOON, async || {
        let body = client.get("/config").await.body;
        holds(body == settings(number), body)
    })
    .await;
    load.stop_all_good(100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_nothing_is_acknowledged_and_what_serves_goes_on() {
    let mut cluster = Cluster::start_members(3, 1, &[]).await;
    cluster.api().deploy_and_wait(&revision(1)).await;
    let load = Load::start(cluster.ingress_address(), HOST, "/config", 2);
    cluster.member(2).kill();
    cluster.member(3).kill();
    let refused = cluster.api_of(1).deploy(&revision(2)).await.unwrap_err();
    assert!(is_open(&refused), "{}", shown(&refused));
    let unread = cluster.api_of(1).status(GRAPH).await.unwrap_err();
    assert_eq!(unread.code(), Code::Unavailable, "{}", shown(&unread));
    cluster.member(1).kill();
    assert_eq!(cluster.client(HOST).get("/config").await.body, settings(1));
    // The agent serves again with nobody to ask.
    cluster.agent.restart().await;
    let client = &mut cluster.client(HOST);
    until("it serves again", SOON, async || match client.ask(http::Method::GET, "/config", "").await {
        Ok(answer) => holds(answer.body == settings(1), answer.body),
        Err(broken) => Err(format!("{broken:?}")),
    })
    .await;
    drop(load);
    for member in [3, 1] {
        cluster.member(member).start().await;
    }
    cluster.deploy_by_any(&[1, 3], &revision(3)).await;
    until("it serves", SOON, async || {
        let body = client.get("/config").await.body;
        holds(body == settings(3), body)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_come_by_a_token_once_and_go_for_good() {
    let mut cluster = Cluster::start_members(1, 1, &[]).await;
    cluster.api().deploy_and_wait(&revision(1)).await;
    let second = cluster.add_member();
    let token = cluster.member_token().await;
    cluster.member(second).give_token(&token);
    cluster.member(second).start().await;
    let api = cluster.api();
    let role = async |member: u64| -> Option<String> {
        let answer = api.members().await.unwrap();
        answer.members.into_iter().find(|shown| shown.id == member).map(|shown| shown.role)
    };
    until("it learns", SOON, async || {
        let role = role(2).await;
        holds(role.as_deref() == Some("learner"), role)
    })
    .await;
    // It answers what it has learnt, and its vote is not asked for.
    assert_eq!(cluster.api_of(2).status(GRAPH).await.unwrap().revision, 1);
    cluster.member(2).kill();
    cluster.api().deploy_and_wait(&revision(2)).await;
    cluster.member(2).start().await;
    until("it is promoted", SOON, async || cluster.api().promote(2).await.map_err(|status| shown(&status)))
        .await;
    assert_eq!(role(2).await.as_deref(), Some("voter"));

    // The token is used up.
    let third = cluster.add_member();
    cluster.member(third).give_token(&token);
    cluster.member(third).spawn();
    let status = cluster.member(third).end_within(SOON).await;
    assert!(!status.success());
    let log = cluster.member(third).last_log();
    assert!(log.contains("does not let this member join: no join token for a member"), "{log}");

    // One that has lost its data is not let in under its id: it could vote twice.
    cluster.member(2).kill();
    std::fs::remove_dir_all(cluster.member(2).data_dir.join("raft")).unwrap();
    cluster.member(2).spawn();
    assert!(!cluster.member(2).end_within(SOON).await.success());
    let log = cluster.member(2).last_log();
    assert!(log.contains("holds no cluster"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_was_removed_is_asked_for_nothing_and_its_id_is_not_used_again() {
    let mut cluster = Cluster::start_members(3, 1, &[]).await;
    cluster.api().deploy_and_wait(&revision(1)).await;
    let ctl = Ctl::new(&cluster);
    ctl.done(&["member", "remove", "3", "--yes"]).await;
    let listed = ctl.done(&["member", "list", "--output", "name"]).await;
    assert_eq!(listed, "1\n2\n");
    // It knows nothing any more that could be believed.
    let status = tokio::time::timeout(Duration::from_secs(30), cluster.api_of(3).status(GRAPH)).await.unwrap();
    assert_eq!(status.unwrap_err().code(), Code::Unavailable);
    cluster.member(3).kill();
    let fourth = cluster.add_member();
    let token = cluster.member_token().await;
    cluster.member(fourth).give_token(&token);
    cluster.member(fourth).start().await;
    until("it is of the cluster", SOON, async || {
        let listed = ctl.done(&["member", "list", "--output", "name"]).await;
        holds(listed == "1\n2\n4\n", listed)
    })
    .await;
    cluster.deploy_by_any(&[1, 2], &revision(2)).await;
    // The last two: one may go, the other not.
    ctl.done(&["member", "remove", "2", "--yes"]).await;
    let last = cluster.api().remove_member(1).await.unwrap_err();
    assert_eq!(last.code(), Code::FailedPrecondition, "{}", shown(&last));
    cluster.api().deploy_and_wait(&revision(3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_moves_is_found_again_whoever_leads() {
    let mut cluster = Cluster::start_members(3, 1, &[]).await;
    cluster.api().deploy_and_wait(&revision(0)).await;
    for number in 1..=3 {
        // The one that leads, and another one: neither is found where it was.
        let leader = cluster.leader().await;
        let moved = if number == 2 { leader % 3 + 1 } else { leader };
        cluster.member(moved).kill();
        let others: Vec<usize> = (1..=3).filter(|member| *member != moved).collect();
        cluster.deploy_by_any(&others, &revision(number)).await;
        cluster.move_member(moved).await;
        let api = cluster.api_of(moved);
        until("it has what it missed", SOON, async || match api.status(GRAPH).await {
            Ok(status) => holds(status.revision == number as u64 + 1, status.revision.to_string()),
            Err(status) => Err(shown(&status)),
        })
        .await;
        // Without one of the others, it is needed.
        let spare = others[0];
        cluster.member(spare).kill();
        let left: Vec<usize> = (1..=3).filter(|member| *member != spare).collect();
        cluster.deploy_by_any(&left, &revision(number)).await;
        cluster.member(spare).start().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_never_had_a_log_waits_for_the_others_and_makes_no_cluster_of_its_own() {
    let mut cluster = Cluster::start_members(1, 1, &[]).await;
    cluster.api().deploy_and_wait(&revision(1)).await;
    let second = cluster.add_member();
    let token = cluster.member_token().await;
    cluster.member(second).give_token(&token);
    // It joins, and the one that would bring it the log is gone before it can.
    cluster.member(second).spawn();
    let file = cluster.member(second).data_dir.join("member.json");
    until("it has joined", SOON, async || holds(file.exists(), "no file")).await;
    cluster.member(1).kill();
    for _ in 0..2 {
        cluster.member(second).kill();
        cluster.member(second).start().await;
        let refused = cluster.api_of(second).deploy(&revision(7)).await.unwrap_err();
        assert!(is_open(&refused), "{}", shown(&refused));
    }
    cluster.member(1).start().await;
    let api = cluster.api_of(second);
    until("it has the log", SOON, async || match api.status(GRAPH).await {
        Ok(status) => holds(status.revision == 1, status.revision.to_string()),
        Err(status) => Err(shown(&status)),
    })
    .await;
}

/// What an earlier version does not know is not used before its last member is gone.
#[tokio::test(flavor = "multi_thread")]
async fn members_of_two_versions_use_what_both_know() {
    const OLDER: &str = "--pretend-feature-level=1";
    let newest = u64::from(FEATURE_LEVEL);
    let level =
        async |cluster: &Cluster| cluster.api().members().await.map_or(0, |list| u64::from(list.feature_level));
    let mut cluster = Cluster::start_members(3, 1, &["--artifact-grace=1s", OLDER]).await;
    cluster.api().deploy_and_wait(&Bundle::graph("hello")).await;
    assert_eq!(level(&cluster).await, 1);
    // Rolled one after the other, whichever leads: it does not rise before the last of them.
    for member in [2, 1, 3] {
        assert_eq!(level(&cluster).await, 1, "before member {member}");
        cluster.member(member).kill();
        cluster.start_member_with(member, OLDER, false).await;
        let by = cluster.api_of(member % 3 + 1);
        until("it says what it knows", SOON, async || {
            let list = by.members().await.map_err(|status| shown(&status))?;
            let said = list.members.iter().find(|found| found.id == member as u64);
            holds(said.is_some_and(|found| u64::from(found.feature_level) == newest), format!("{list:?}"))
        })
        .await;
    }
    until("the level is raised", SOON, async || {
        let now = level(&cluster).await;
        holds(now == newest, now)
    })
    .await;
    // And does not fall: an earlier version is told to go.
    cluster.member(3).kill();
    cluster.start_member_with(3, OLDER, true).await;
    until("it is refused", SOON, async || {
        let log = cluster.member(3).last_log();
        holds(log.contains(&format!("knows feature level 1, and {newest} is needed")), log)
    })
    .await;
    assert_eq!(level(&cluster).await, newest);
}
