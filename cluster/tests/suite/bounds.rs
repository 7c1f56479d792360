//! Row 30: what there can be too much of is refused at its bound, and what is only kept is forgotten.

use cluster::command::Body;
use cluster::outcome::Refusal;
use cluster::state::{ARTIFACTS_MAX, EVENTS_MAX, GRAPHS_MAX, NODES_MAX, POLICIES_MAX};
use model::digest::Digest;
use model::graph::Artifact;
use model::node::NodeState;

use crate::support::{Cluster, artifact, linked, linked_with_database, name, node};

fn exhausted(refusal: &Refusal, what: &str, bound: usize) {
    assert_eq!(*refusal, Refusal::Exhausted { what: what.to_owned(), bound: bound as u64 });
}

#[test]
fn graphs() {
    let mut cluster = Cluster::new();
    cluster.deployed("sales/crm", linked(1));
    let record = cluster.state.graphs.values().next().unwrap().clone();
    for number in 1..GRAPHS_MAX {
        cluster.state.graphs.insert(format!("sales/g{number}").parse().unwrap(), record.clone());
    }
    // The bound is for new graphs.
    let one_more = cluster.deploy("sales/new", linked(1));
    exhausted(&cluster.refused(Body::Deploy(Box::new(one_more))), "graphs", GRAPHS_MAX);
    cluster.deployed("sales/crm", linked(2));
}

#[test]
fn policies() {
    let mut cluster = Cluster::new();
    for number in 0..POLICIES_MAX {
        let put = cluster.put(&format!("p{number}"), 1);
        let command = cluster::Command { now_ms: 2_000, request: None, body: Body::PutPolicy(Box::new(put)) };
        cluster.state.apply(&command);
    }
    let one_more = cluster.put("new", 1);
    exhausted(&cluster.refused(Body::PutPolicy(Box::new(one_more))), "policies", POLICIES_MAX);
    cluster.done(Body::PutPolicy(Box::new(cluster.put("p0", 2))));
}

#[test]
fn nodes() {
    let mut cluster = Cluster::new();
    let record = cluster.state.nodes[&name("n1")].clone();
    for number in 3..=NODES_MAX {
        let mut record = record.clone();
        record.description.name = name(&format!("n{number}"));
        cluster.state.nodes.insert(record.description.name.clone(), record);
    }
    exhausted(&cluster.refused(Body::RegisterNode(node("new"))), "nodes", NODES_MAX);
    let mut newer = node("n1");
    newer.version = "0.2.0".to_owned();
    cluster.done(Body::RegisterNode(newer));
}

#[test]
fn artifacts() {
    let mut cluster = Cluster::new();
    let numbered = |number: usize| {
        let mut bytes = [0xaa; 32];
        bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
        Artifact { digest: Digest::from_bytes(bytes), size: 1 }
    };
    let stored = (cluster.state.artifacts.len()..ARTIFACTS_MAX).map(numbered);
    cluster.state.artifacts.extend(stored.map(|artifact| (artifact.digest, artifact)));
    let one_more = numbered(ARTIFACTS_MAX);
    exhausted(&cluster.refused(Body::PutArtifact(one_more)), "artifacts", ARTIFACTS_MAX);
    cluster.done(Body::PutArtifact(numbered(ARTIFACTS_MAX - 1)));
}

#[test]
fn events_are_kept_up_to_their_bound() {
    let mut cluster = Cluster::new();
    let first = cluster.state.events.front().unwrap().clone();
    for number in 0..EVENTS_MAX {
        let state = if number % 2 == 0 { NodeState::Down } else { NodeState::Ready };
        let body = Body::SetNodeState { node: name("n1"), state, why: String::new() };
        cluster.state.apply(&cluster::Command { now_ms: 2_000, request: None, body });
    }
    assert_eq!(cluster.state.events.len(), EVENTS_MAX);
    assert!(!cluster.state.events.contains(&first));
    assert_eq!(cluster::check(&cluster.state), Vec::<String>::new());
}

#[test]
fn artifacts_that_nothing_names_are_let_go_of_and_no_others() {
    let mut cluster = Cluster::new();
    cluster.deployed("default/a", linked(1));
    cluster.deployed("default/a", linked(2));
    cluster.deployed("default/data", linked_with_database(3, Some(4)));
    let put = Body::PutPolicy(Box::new(cluster.put("hide", 5)));
    cluster.done(put);
    let all: Vec<_> = (0..12).map(|number| artifact(number).digest).collect();
    cluster.done(Body::ForgetArtifacts(all.clone()));
    assert_eq!(cluster.last_event(), "artifacts forgotten");
    let mut kept: Vec<u64> = cluster.state.artifacts.values().map(|artifact| artifact.size).collect();
    kept.sort_unstable();
    // The specs of all revisions name 0; 2 is linked, and 1 was linked by a revision that its spec can link again.
    assert_eq!(kept, [0, 2, 3, 4, 5]);
    let at = cluster.state.revision;
    cluster.done(Body::ForgetArtifacts(all));
    assert_eq!(cluster.state.revision, at, "nothing new");
    // What is named again is stored again first.
    let refusal = cluster.refused(Body::Deploy(Box::new(cluster.deploy("default/b", linked(7)))));
    assert!(matches!(refusal, cluster::outcome::Refusal::NotFound { .. }), "{refusal}");
    cluster.done(Body::PutArtifact(artifact(7)));
    cluster.deployed("default/b", linked(7));
}
