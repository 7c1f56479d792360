//! Request ids: each is applied once, and known for a day.

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
