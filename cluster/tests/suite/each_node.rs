//! What runs on each node: on those that come, not on those that go, and on no more than can be told of.

use cluster::command::{Body, RemoveNode, TaintNode};
use cluster::feature::EACH_NODE;
use cluster::outcome::{Outcome, Refusal};
use cluster::schedule::{forecast, missing, schedule, stays};
use cluster::state::GraphRecord;
use cluster::view;
use model::linked::LinkedGraph;
use model::node::NodeState;
use model::placement::EACH_NODE_MAX;
use model::status::GraphState;

use crate::moves::{GRAPH, cluster};
use crate::support::{Cluster, key, linked_at, name, node};

fn on_each() -> LinkedGraph {
    LinkedGraph { each_node: ["app".parse().unwrap()].into(), ..linked_at(1, "crm.example.com") }
}

/// It serves on each of five nodes.
fn serving() -> Cluster {
    let mut cluster = cluster();
    cluster.done(Body::RaiseFeatureLevel { level: cluster::FEATURE_LEVEL });
    cluster.deployed(GRAPH, on_each());
    assert_eq!(cluster.schedule(), 1);
    for node in ["n1", "n2", "n3", "n4", "n5"] {
        cluster.serves(node);
    }
    assert_eq!(on(&cluster), "n1, n2, n3, n4, n5");
    cluster
}

fn on(cluster: &Cluster) -> String {
    cluster.node_of(GRAPH).unwrap()
}

fn record(cluster: &Cluster) -> &GraphRecord {
    &cluster.state.graphs[&key(GRAPH)]
}

fn is_settled(cluster: &Cluster) -> bool {
    schedule(&cluster.state, cluster.state.now_ms).is_empty()
}

fn state_of(cluster: &Cluster) -> GraphState {
    view::status(&cluster.state, &key(GRAPH)).unwrap().state
}

fn lose(cluster: &mut Cluster, lost: &str) {
    cluster.done(Body::LoseNodes { nodes: vec![name(lost)], why: "a test".to_owned() });
}

#[test]
fn a_node_that_joins_gets_it_and_one_that_is_drained_loses_it() {
    let mut cluster = serving();
    assert!(is_settled(&cluster));
    let status = view::status(&cluster.state, &key(GRAPH)).unwrap();
    assert_eq!((status.components[0].serving, status.components[0].nodes), (5, 5));
    cluster.done(Body::RegisterNode(node("n6")));
    assert_eq!(cluster.schedule(), 1);
    assert_eq!(on(&cluster), "n1, n2, n3, n4, n5, n6");
    assert_eq!(cluster.state.events.last().unwrap().message, "on 6 nodes, now also on n6");
    assert_eq!(cluster.answers_at(), "n1, n2, n3, n4, n5", "those that have it answer meanwhile");
    assert!(is_settled(&cluster));
    // The first of its nodes as well.
    cluster.drain("n1");
    assert_eq!(cluster.schedule(), 1);
    assert_eq!(on(&cluster), "n2, n3, n4, n5, n6");
    assert!(is_settled(&cluster));
}

#[test]
fn a_lost_node_is_not_replaced_and_has_it_once_it_is_back() {
    let mut cluster = serving();
    for lost in ["n1", "n4"] {
        lose(&mut cluster, lost);
        while cluster.schedule() > 0 {}
        assert_eq!(on(&cluster), "n1, n2, n3, n4, n5", "{lost} is waited for");
        cluster.serves("n2");
        cluster.serves("n3");
        cluster.serves("n5");
    }
    cluster.serves("n2");
    assert_eq!(state_of(&cluster), GraphState::Serving, "nothing is missing elsewhere");
    let why = stays(&cluster.state, record(&cluster), &name("n4")).unwrap();
    assert!(why.contains("is not replaced"), "{why}");
    let status = view::status(&cluster.state, &key(GRAPH)).unwrap();
    assert_eq!((status.components[0].serving, status.components[0].nodes), (3, 5));
    let back = Body::SetNodeState { node: name("n4"), state: NodeState::Ready, why: String::new() };
    cluster.done(back);
    assert!(is_settled(&cluster));
    assert!(record(&cluster).is_on(&name("n4")));
}

#[test]
fn a_lost_node_that_is_removed_is_forgotten() {
    let mut cluster = serving();
    lose(&mut cluster, "n3");
    while cluster.schedule() > 0 {}
    let remove = RemoveNode { node: name("n3"), until_ms: 9_999_999, loses_data: false };
    cluster.done(Body::RemoveNode(remove));
    assert_eq!(on(&cluster), "n1, n2, n4, n5");
    assert!(is_settled(&cluster));
    // The first of its nodes as well.
    lose(&mut cluster, "n1");
    let remove = RemoveNode { node: name("n1"), until_ms: 9_999_999, loses_data: false };
    cluster.done(Body::RemoveNode(remove));
    assert_eq!(on(&cluster), "n2, n4, n5");
    assert!(is_settled(&cluster));
    // One that is up is drained before.
    let remove = RemoveNode { node: name("n4"), until_ms: 9_999_999, loses_data: false };
    cluster.refused(Body::RemoveNode(remove));
}

#[test]
fn a_lost_node_with_data_is_removed_only_by_who_gives_them_up() {
    let mut cluster = serving();
    lose(&mut cluster, "n3");
    let data = &mut cluster.state.graphs.get_mut(&key(GRAPH)).unwrap().data;
    data.insert("db".parse().unwrap(), name("n3"));
    let remove =
        |loses_data| Body::RemoveNode(RemoveNode { node: name("n3"), until_ms: 9_999_999, loses_data });
    let mut tried = cluster.state.clone();
    let remove = |loses_data| cluster::Command { now_ms: 2_000, request: None, body: remove(loses_data) };
    let outcome = tried.apply(&remove(false));
    assert!(matches!(outcome, Outcome::Refused(Refusal::NodeInUse { has_data: true, .. })), "{outcome:?}");
    assert!(matches!(tried.apply(&remove(true)), Outcome::Done { .. }));
    assert!(tried.graphs[&key(GRAPH)].data.is_empty());
}

#[test]
fn labels_and_taints_say_which_nodes_get_it() {
    let mut cluster = cluster();
    cluster.done(Body::RaiseFeatureLevel { level: cluster::FEATURE_LEVEL });
    let set = [("gpu".to_owned(), "only".to_owned())].into();
    cluster.done(Body::TaintNode(TaintNode { node: name("n2"), set, unset: [].into() }));
    let mut linked = on_each();
    let not_third = model::condition::Expression::NotIn(["n3".to_owned()].into());
    let require = [("node".to_owned(), model::condition::Condition::Of(not_third))].into();
    linked.require.insert("app".parse().unwrap(), require);
    cluster.deployed(GRAPH, linked);
    cluster.schedule();
    assert_eq!(on(&cluster), "n1, n4, n5");
    // What is there stays, whatever is said of its node later.
    let set = [("gpu".to_owned(), "only".to_owned())].into();
    cluster.done(Body::TaintNode(TaintNode { node: name("n4"), set, unset: [].into() }));
    assert!(is_settled(&cluster));
    let untaint = TaintNode { node: name("n2"), set: [].into(), unset: ["gpu".to_owned()].into() };
    cluster.done(Body::TaintNode(untaint));
    cluster.schedule();
    assert_eq!(on(&cluster), "n1, n2, n4, n5");
}

#[test]
fn beyond_a_bound_nodes_are_left_out_and_nothing_is_missing() {
    let mut cluster = Cluster::new();
    // Each command is checked as a whole, which takes longer with each node.
    for number in 0..EACH_NODE_MAX {
        let command = cluster::Command {
            now_ms: 1_000,
            request: None,
            body: Body::RegisterNode(node(&format!("m{number}"))),
        };
        cluster.state.apply(&command);
    }
    cluster.deployed(GRAPH, on_each());
    assert_eq!(cluster.schedule(), 1);
    let placement = record(&cluster).placement.clone().unwrap();
    assert_eq!(placement.nodes().len(), EACH_NODE_MAX);
    let linked = &record(&cluster).linked;
    assert_eq!(missing(&cluster.state, linked, None, &placement), None);
    assert_eq!(cluster::quota::of_linked(linked, cluster.state.nodes.len()).replicas, EACH_NODE_MAX as u64);
    let mut less = placement;
    less.more.values_mut().for_each(|nodes| drop(nodes.pop_last()));
    assert_eq!(
        missing(&cluster.state, linked, None, &less).unwrap(),
        "app on 999 of 1002 nodes that take it, of which at most 1000 get it"
    );
    assert!(is_settled(&cluster));
}

#[test]
fn members_of_earlier_versions_are_told_of_none() {
    let cluster = Cluster::new();
    assert_eq!(Body::Deploy(Box::new(cluster.deploy(GRAPH, on_each()))).level(), EACH_NODE);
    let mut of_spec = cluster.deploy(GRAPH, linked_at(1, "crm.example.com"));
    of_spec.spec.each_node = on_each().each_node;
    assert_eq!(Body::Deploy(Box::new(of_spec)).level(), EACH_NODE);
}

#[test]
fn a_forecast_tells_what_a_deploy_would_place_and_changes_nothing() {
    let mut cluster = serving();
    cluster.deployed("sales/waiting", linked_at(2, "waiting.example.com"));
    let before = cluster.state.clone();
    let deploy = Body::Deploy(Box::new(cluster.deploy("sales/new", linked_at(3, "new.example.com"))));
    let places = forecast(&cluster.state, deploy, cluster.now_ms);
    let shown: Vec<String> =
        places.iter().map(|place| format!("{} on {}", place.key, place.placement)).collect();
    assert_eq!(shown, ["sales/new on n1", "sales/waiting on n2"]);
    assert_eq!(cluster.state, before);
    // One that is refused places nothing, not even what waits.
    let mut refused = cluster.deploy("sales/new", linked_at(3, "new.example.com"));
    refused.linked.ingress = linked_at(3, "crm.example.com").ingress;
    let places = forecast(&cluster.state, Body::Deploy(Box::new(refused)), cluster.now_ms);
    assert_eq!(places, []);
}
