//! Nodes: registration, state, placement, reports.

use cluster::command::{Body, Place};
use cluster::outcome::Refusal;
use model::id::Generation;
use model::node::NodeState;
use model::placement::Placement;
use model::report::{Failure, GraphReport, Progress, Report};

use crate::support::{Cluster, key, linked, name, node};

fn set(text: &str, state: NodeState) -> Body {
    Body::SetNodeState { node: name(text), state, why: "it was said".to_owned() }
}

/// A report of the assignment as it is, that says one thing of one graph.
fn report(cluster: &Cluster, graph: &str, progress: Progress) -> Report {
    let record = &cluster.state.graphs[&key(graph)];
    let serving = matches!(progress, Progress::Serving).then_some(record.generation);
    let seen = GraphReport {
        key: key(graph),
        uid: record.uid.clone(),
        serving,
        desired: record.generation,
        progress,
        failing: None,
    };
    let node = record.placement.clone().unwrap().home;
    Report { accepted: cluster.state.nodes[&node].assigned_at, node, graphs: vec![seen] }
}

fn placed() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.deployed("sales/crm", linked(1));
    assert_eq!(cluster.schedule(), 1);
    cluster
}

#[test]
fn a_node_registers_again_with_its_own_identity_only() {
    let mut cluster = Cluster::new();
    let at = cluster.state.revision;
    cluster.done(Body::RegisterNode(node("n1")));
    assert_eq!(cluster.state.revision, at, "nothing new");
    let mut newer = node("n1");
    newer.version = "0.2.0".to_owned();
    cluster.done(Body::RegisterNode(newer.clone()));
    assert_eq!(cluster.state.nodes[&name("n1")].description, newer);
    let mut copied = node("n1");
    copied.uid = "another".to_owned().try_into().unwrap();
    let refusal = cluster.refused(Body::RegisterNode(copied));
    assert!(matches!(&refusal, Refusal::NodeIdentity { known, .. } if known == "uid-of-n1"), "{refusal}");
}

#[test]
fn a_lost_node_keeps_its_graphs_and_comes_back() {
    let mut cluster = placed();
    let joined = cluster.state.nodes[&name("n1")].joined_at_ms;
    cluster.done(set("n1", NodeState::Down));
    assert_eq!(cluster.last_event(), "node/n1 down");
    let at = cluster.state.revision;
    cluster.done(set("n1", NodeState::Down));
    assert_eq!(cluster.state.revision, at, "down already");
    assert_eq!(cluster.node_of("sales/crm").as_deref(), Some("n1"));
    cluster.done(Body::RegisterNode(node("n1")));
    let record = &cluster.state.nodes[&name("n1")];
    assert_eq!((record.state, record.joined_at_ms), (NodeState::Ready, joined));
    assert_eq!(cluster.refused(set("n9", NodeState::Down)).to_string(), "there is no node n9");
}

#[test]
fn a_placement_touches_the_assignments_of_both_nodes() {
    let mut cluster = placed();
    let first = cluster.state.nodes[&name("n1")].assigned_at;
    assert!(first.0 > 0);
    let record = &cluster.state.graphs[&key("sales/crm")];
    let place = |to: &str| Place {
        key: key("sales/crm"),
        uid: record.uid.clone(),
        generation: record.generation,
        placement: Placement::whole(name(to)),
    };
    let (here, there) = (place("n1"), place("n2"));
    assert!(matches!(cluster.refused(Body::Place(vec![here])), Refusal::Stale { .. }), "it is there");
    cluster.done(Body::Place(vec![there]));
    let (n1, n2) = (&cluster.state.nodes[&name("n1")], &cluster.state.nodes[&name("n2")]);
    assert_eq!(
        (n1.assigned_at, n2.assigned_at),
        (cluster.state.revision.into(), cluster.state.revision.into())
    );
    assert!(n1.assigned_at > first);
}

#[test]
fn the_stale_parts_of_a_placement_are_left_out() {
    let mut cluster = Cluster::new();
    cluster.deployed("sales/crm", linked(1));
    cluster.deployed("sales/other", linked(1));
    let places = cluster::schedule(&cluster.state, cluster.state.now_ms);
    assert_eq!(places.len(), 2);
    cluster.deployed("sales/crm", linked(2));
    cluster.done(Body::Place(places.clone()));
    assert_eq!(cluster.node_of("sales/crm"), None);
    assert!(cluster.node_of("sales/other").is_some());
    // Another graph of that name, a node that is down, a graph that is gone: nothing is left.
    cluster.delete("sales/crm");
    cluster.deployed("sales/crm", linked(1));
    let fresh = cluster::schedule(&cluster.state, cluster.state.now_ms);
    cluster.done(set(fresh[0].placement.home.as_str(), NodeState::Down));
    assert!(matches!(cluster.refused(Body::Place(fresh)), Refusal::Stale { .. }));
    assert!(matches!(cluster.refused(Body::Place(places)), Refusal::Stale { .. }));
    assert!(matches!(cluster.refused(Body::Place(Vec::new())), Refusal::Stale { .. }));
}

#[test]
fn a_report_is_kept_when_it_says_something_new() {
    let mut cluster = placed();
    let starting = report(&cluster, "sales/crm", Progress::Compiling);
    cluster.done(Body::RecordReport(starting.clone()));
    let at = cluster.state.revision;
    cluster.done(Body::RecordReport(starting));
    assert_eq!(cluster.state.revision, at, "nothing new");
    let serving = report(&cluster, "sales/crm", Progress::Serving);
    cluster.done(Body::RecordReport(serving.clone()));
    assert_eq!(cluster.last_event(), "graph/sales/crm serving");
    let record = &cluster.state.graphs[&key("sales/crm")];
    assert_eq!(record.observed.get(&name("n1")), Some(&serving.graphs[0]));
    assert_eq!(cluster.state.nodes[&name("n1")].accepted, serving.accepted);
    let failure = Failure { reason: "start_failed".to_owned(), message: "it trapped".to_owned() };
    cluster.done(Body::RecordReport(report(&cluster, "sales/crm", Progress::Failed(failure.clone()))));
    assert_eq!(cluster.last_event(), "graph/sales/crm failed");
    cluster.done(Body::RecordReport(report(&cluster, "sales/crm", Progress::Retrying(failure))));
    assert_eq!(cluster.last_event(), "graph/sales/crm retrying");
}

/// Reports overtake each other when a session is made anew.
#[test]
fn an_older_report_is_refused() {
    let mut cluster = placed();
    let old = report(&cluster, "sales/crm", Progress::Serving);
    cluster.deployed("sales/crm", linked(2));
    let new = report(&cluster, "sales/crm", Progress::Serving);
    cluster.done(Body::RecordReport(new.clone()));
    assert!(matches!(cluster.refused(Body::RecordReport(old)), Refusal::Stale { .. }));
    assert_eq!(cluster.state.graphs[&key("sales/crm")].observed.get(&name("n1")), Some(&new.graphs[0]));
}

#[test]
fn a_report_of_what_never_was_is_refused() {
    let mut cluster = placed();
    let mut unknown = report(&cluster, "sales/crm", Progress::Serving);
    unknown.node = name("n9");
    assert_eq!(cluster.refused(Body::RecordReport(unknown)).to_string(), "there is no node n9");
    let mut ahead = report(&cluster, "sales/crm", Progress::Serving);
    ahead.accepted = Generation(u64::MAX);
    assert!(matches!(cluster.refused(Body::RecordReport(ahead)), Refusal::NotFound { .. }));
    let mut later = report(&cluster, "sales/crm", Progress::Serving);
    later.graphs[0].desired = Generation(u64::MAX);
    cluster.done(Body::RecordReport(later));
    assert!(cluster.state.graphs[&key("sales/crm")].observed.is_empty());
}

#[test]
fn a_report_of_another_graph_or_from_another_node_says_nothing() {
    let mut cluster = placed();
    let here = report(&cluster, "sales/crm", Progress::Serving);
    let mut elsewhere = here.clone();
    elsewhere.node = name("n2");
    elsewhere.accepted = cluster.state.nodes[&name("n2")].accepted;
    cluster.done(Body::RecordReport(elsewhere));
    assert!(cluster.state.graphs[&key("sales/crm")].observed.is_empty());
    cluster.delete("sales/crm");
    cluster.deployed("sales/crm", linked(1));
    cluster.schedule();
    cluster.done(Body::RecordReport(here));
    assert!(cluster.state.graphs[&key("sales/crm")].observed.is_empty());
}

/// What was seen on one node says nothing of the next.
#[test]
fn a_move_forgets_what_was_seen() {
    let mut cluster = placed();
    cluster.done(Body::RecordReport(report(&cluster, "sales/crm", Progress::Serving)));
    let record = &cluster.state.graphs[&key("sales/crm")];
    let place = Place {
        key: key("sales/crm"),
        uid: record.uid.clone(),
        generation: record.generation,
        placement: Placement::whole(name("n2")),
    };
    cluster.done(Body::Place(vec![place]));
    assert!(cluster.state.graphs[&key("sales/crm")].observed.is_empty());
}

#[test]
fn a_cluster_is_initialised_once() {
    let mut cluster = Cluster::new();
    let again = Body::InitCluster { cluster: "cluster-2".to_owned().try_into().unwrap(), level: 1 };
    assert_eq!(cluster.refused(again), Refusal::AlreadyInitialised);
    assert_eq!(cluster.state.cluster.as_ref().unwrap().as_str(), "cluster-1");
}
