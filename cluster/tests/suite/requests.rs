//! Request ids: each is applied once, and known for a day.

use cluster::FEATURE_LEVEL;
use cluster::command::Body;
use cluster::outcome::{Outcome, Refusal};
use cluster::state::{REQUEST_KEPT_MS, REQUESTS_MAX};

use crate::support::{Cluster, artifact, linked, tag};

#[test]
fn a_request_is_applied_once() {
    let mut cluster = Cluster::new();
    let deploy = Body::Deploy(Box::new(cluster.deploy("sales/crm", linked(1))));
    let first = cluster.apply_tagged(deploy.clone(), Some(tag("r1", "deploy crm")));
    let after = cluster.state.clone();
    // Decided again from a state that has moved on: the answer is the one that was.
    let again = Body::Deploy(Box::new(cluster.deploy("sales/crm", linked(2))));
    assert_eq!(cluster.apply_tagged(again, Some(tag("r1", "deploy crm"))), first);
    assert_eq!(cluster.apply_tagged(deploy, Some(tag("r1", "deploy crm"))), first);
    assert_eq!((&cluster.state.graphs, cluster.state.revision), (&after.graphs, after.revision));
    assert_eq!(cluster.state.known(&tag("r1", "deploy crm")), Some(first));
}

/// Row 32.
#[test]
fn a_request_id_for_something_else_is_refused() {
    let mut cluster = Cluster::new();
    let deploy = Body::Deploy(Box::new(cluster.deploy("sales/crm", linked(1))));
    cluster.apply_tagged(deploy, Some(tag("r1", "deploy crm")));
    let other = Body::Deploy(Box::new(cluster.deploy("sales/other", linked(1))));
    let outcome = cluster.apply_tagged(other, Some(tag("r1", "deploy other")));
    let Outcome::Refused(refusal) = outcome else { panic!("{outcome:?}") };
    assert_eq!(refusal, Refusal::RequestMismatch { id: "r1".to_owned() });
    assert_eq!(refusal.to_string(), "request id r1 was already used for another request");
    assert_eq!(cluster.state.graphs.len(), 1);
}

/// What was refused has not been done, and may be asked for again.
#[test]
fn a_refused_request_is_not_remembered() {
    let mut cluster = Cluster::new();
    let mut deploy = cluster.deploy("sales/crm", linked(1));
    deploy.base = Some(model::id::RevisionNumber(7));
    let refused = cluster.apply_tagged(Body::Deploy(Box::new(deploy)), Some(tag("r1", "deploy crm")));
    assert!(matches!(refused, Outcome::Refused(Refusal::RevisionConflict { .. })));
    assert_eq!(cluster.state.known(&tag("r1", "deploy crm")), None);
    let deploy = cluster.deploy("sales/crm", linked(1));
    let done = cluster.apply_tagged(Body::Deploy(Box::new(deploy)), Some(tag("r1", "deploy crm")));
    assert!(matches!(done, Outcome::Deployed { .. }));
}

#[test]
fn a_request_is_known_for_a_day() {
    let mut cluster = Cluster::new();
    let put = || Body::PutArtifact(artifact(50));
    cluster.apply_tagged(put(), Some(tag("r1", "put")));
    let asked_at = cluster.now_ms;
    cluster.now_ms = asked_at + REQUEST_KEPT_MS - 1;
    cluster.done(Body::PutArtifact(artifact(51)));
    assert!(cluster.state.known(&tag("r1", "put")).is_some(), "a day to the millisecond");
    cluster.done(Body::PutArtifact(artifact(52)));
    assert_eq!(cluster.state.known(&tag("r1", "put")), None);
}

/// Proposers' clocks differ: the cluster's never goes back, so that nothing is forgotten early or twice.
#[test]
fn time_does_not_go_back() {
    let mut cluster = Cluster::new();
    cluster.now_ms = 1_000_000;
    cluster.done(Body::PutArtifact(artifact(50)));
    cluster.now_ms = 5;
    cluster.done(Body::PutArtifact(artifact(51)));
    assert_eq!(cluster.state.now_ms, 1_000_001);
    cluster.deployed("sales/crm", linked(1));
    assert_eq!(cluster.state.events.last().unwrap().time_ms, 1_000_001);
}

#[test]
fn the_oldest_request_makes_room() {
    let mut cluster = Cluster::new();
    let mut state = cluster.state.clone();
    for number in 0..REQUESTS_MAX + 3 {
        let command = cluster::Command {
            now_ms: 2_000,
            request: Some(tag(&format!("r{number}"), "put")),
            body: Body::PutArtifact(artifact(3)),
        };
        state.apply(&command);
    }
    assert_eq!(cluster::check(&state), Vec::<String>::new());
    assert_eq!(state.requests.len(), REQUESTS_MAX);
    cluster.state = state;
    assert_eq!(cluster.state.known(&tag("r0", "put")), None);
    let last = format!("r{}", REQUESTS_MAX + 2);
    assert!(cluster.state.known(&tag(&last, "put")).is_some());
}

/// A UUID of version 7.
fn made_at(time_ms: u64, number: u8) -> String {
    let time = format!("{time_ms:012x}");
    format!("{}-{}-7000-8000-0000000000{number:02x}", &time[..8], &time[8..])
}

/// What may have been applied and forgotten is refused for ever after, and nothing else is.
#[test]
fn a_request_that_says_when_it_was_made_is_never_applied_twice() {
    let mut cluster = Cluster::new();
    cluster.done(Body::RaiseFeatureLevel { level: FEATURE_LEVEL });
    cluster.now_ms = 10 * REQUEST_KEPT_MS;
    let put = |cluster: &mut Cluster, number: u8, id: &str| {
        cluster.apply_tagged(Body::PutArtifact(artifact(number)), Some(tag(id, "put")))
    };
    let is_expired = |outcome: &Outcome| matches!(outcome, Outcome::Refused(Refusal::RequestExpired { .. }));
    let first = made_at(cluster.now_ms, 1);
    // Made before it, by a clock that is behind, and applied after it.
    let behind = made_at(cluster.now_ms - 1_000, 2);
    // Made by a clock that is ahead.
    let ahead = made_at(cluster.now_ms + REQUEST_KEPT_MS / 2, 3);
    for (number, id) in [(50, &first), (51, &behind), (52, &ahead)] {
        assert!(matches!(put(&mut cluster, number, id), Outcome::Done { .. }), "{id}");
    }
    let far = made_at(cluster.now_ms + 2 * REQUEST_KEPT_MS, 4);
    let far = put(&mut cluster, 53, &far);
    assert!(matches!(far, Outcome::Refused(Refusal::RequestEarly { .. })), "{far:?}");

    for _ in 0..3 {
        cluster.now_ms += REQUEST_KEPT_MS;
        cluster.done(Body::PutArtifact(artifact(54)));
        for id in [&first, &behind, &ahead] {
            let again = put(&mut cluster, 55, id);
            assert!(is_expired(&again), "{id}: {again:?}");
        }
        assert!(!cluster.state.artifacts.contains_key(&artifact(55).digest));
    }
    let now = made_at(cluster.now_ms, 5);
    assert!(matches!(put(&mut cluster, 55, &now), Outcome::Done { .. }));
    // An id that says nothing of its age is taken for a new one.
    assert!(matches!(put(&mut cluster, 56, "by-hand"), Outcome::Done { .. }));
}

/// Those that were forgotten to make room are not done again either.
#[test]
fn a_request_that_made_room_is_not_applied_again() {
    let mut cluster = Cluster::new();
    cluster.done(Body::RaiseFeatureLevel { level: FEATURE_LEVEL });
    let mut state = cluster.state;
    let apply = |state: &mut cluster::State, now_ms: u64, id: String, number: u8| {
        let request = Some(tag(&id, "put"));
        state.apply(&cluster::Command { now_ms, request, body: Body::PutArtifact(artifact(number)) })
    };
    let id = |time_ms: u64| made_at(time_ms, 0);
    for number in 0..=REQUESTS_MAX as u64 {
        apply(&mut state, 2_000 + number, id(2_000 + number), 3);
    }
    let again = apply(&mut state, 80_000, id(2_000), 60);
    assert!(matches!(again, Outcome::Refused(Refusal::RequestExpired { .. })), "{again:?}");
    let known = apply(&mut state, 80_000, id(2_000 + REQUESTS_MAX as u64), 3);
    assert!(matches!(known, Outcome::Done { .. }), "{known:?}");
    assert_eq!(cluster::check(&state), Vec::<String>::new());
}

/// Members of an earlier version apply it, and would not come to the same otherwise.
#[test]
fn the_age_of_a_request_counts_once_all_members_know_of_it() {
    let mut cluster = Cluster::new();
    cluster.now_ms = 10 * REQUEST_KEPT_MS;
    let id = made_at(cluster.now_ms, 1);
    let put = |cluster: &mut Cluster, number: u8| {
        cluster.apply_tagged(Body::PutArtifact(artifact(number)), Some(tag(&id, "put")))
    };
    put(&mut cluster, 50);
    cluster.now_ms += 2 * REQUEST_KEPT_MS;
    assert!(matches!(put(&mut cluster, 51), Outcome::Done { .. }));
    assert!(cluster.state.artifacts.contains_key(&artifact(51).digest));
}
