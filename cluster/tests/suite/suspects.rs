//! Nodes that are not heard of at this moment: nothing new comes there where another one takes it, and nothing leaves.

use std::collections::BTreeSet;

use cluster::command::{Body, Place};
use cluster::schedule::Planner;
use model::linked::LinkedGraph;
use model::name::NodeName;

use crate::moves::cluster;
use crate::support::{Cluster, key, linked, linked_with_database, name};

const GRAPH: &str = "sales/crm";

fn suspects(names: &[&str]) -> BTreeSet<NodeName> {
    names.iter().map(|text| name(text)).collect()
}

fn planned(cluster: &Cluster, silent: &[&str]) -> Vec<Place> {
    Planner::default().plan(&cluster.state, cluster.now_ms, &suspects(silent))
}

/// Does what is planned, and tells where the graph is then; a planned state plans to nothing.
fn placed(cluster: &mut Cluster, silent: &[&str]) -> Option<String> {
    let places = planned(cluster, silent);
    if !places.is_empty() {
        cluster.done(Body::Place(places));
    }
    assert_eq!(planned(cluster, silent), []);
    cluster.node_of(GRAPH)
}

fn on(replicas: u32) -> LinkedGraph {
    LinkedGraph { replicas: [("app".parse().unwrap(), replicas)].into(), ..linked(1) }
}

#[test]
fn something_new_goes_where_an_agent_is_heard_of() {
    let mut cluster = cluster();
    cluster.deployed(GRAPH, linked(1));
    assert_eq!(placed(&mut cluster, &["n1", "n2"]).as_deref(), Some("n3"));
    // What is there stays, whoever is silent.
    assert_eq!(placed(&mut cluster, &["n3"]).as_deref(), Some("n3"));
    assert_eq!(cluster.schedule(), 0, "and once all are heard of, it is as it is");
}

#[test]
fn where_nothing_else_takes_it_a_suspect_node_does() {
    let mut cluster = cluster();
    cluster.deployed(GRAPH, linked(1));
    assert_eq!(placed(&mut cluster, &["n1", "n2", "n3", "n4", "n5"]).as_deref(), Some("n1"));
    cluster.deployed("sales/many", on(4));
    let all =
        planned(&cluster, &["n4", "n5"]).into_iter().find(|place| place.key == key("sales/many")).unwrap();
    assert_eq!(all.placement.nodes().len(), 4, "three are heard of: {}", all.placement);
}

#[test]
fn replicas_are_where_agents_are_heard_of() {
    let mut cluster = cluster();
    cluster.deployed(GRAPH, on(3));
    assert_eq!(placed(&mut cluster, &["n1", "n3"]).as_deref(), Some("n2, n4, n5"));
}

#[test]
fn what_is_drained_goes_where_an_agent_is_heard_of() {
    let mut cluster = cluster();
    cluster.deployed(GRAPH, linked(1));
    assert_eq!(placed(&mut cluster, &[]).as_deref(), Some("n1"));
    cluster.serves("n1");
    cluster.drain("n1");
    assert_eq!(placed(&mut cluster, &["n2", "n3"]).as_deref(), Some("n4"));
}

#[test]
fn data_stay_on_a_suspect_node() {
    let mut cluster = cluster();
    cluster.deployed(GRAPH, linked_with_database(1, None));
    assert_eq!(placed(&mut cluster, &[]).as_deref(), Some("n1"));
    cluster.deployed(GRAPH, linked_with_database(2, None));
    assert_eq!(placed(&mut cluster, &["n1"]).as_deref(), Some("n1"));
}

#[test]
fn what_runs_on_each_node_lets_the_rest_be_where_agents_are_heard_of() {
    let mut cluster = cluster();
    let mut both = linked(1);
    let app = both.components.values().next().unwrap().clone();
    both.components.insert("side".parse().unwrap(), app);
    both.each_node = ["side".parse().unwrap()].into();
    cluster.deployed(GRAPH, both);
    assert_eq!(placed(&mut cluster, &["n1"]).as_deref(), Some("n2, n3, n4, n5"));
    let placement = cluster.state.graphs[&key(GRAPH)].placement.clone().unwrap();
    assert_eq!(placement.shown(&"app".parse().unwrap()), "n2");
    assert_eq!(placed(&mut cluster, &[]).as_deref(), Some("n1, n2, n3, n4, n5"), "once it is heard of");
    let placement = cluster.state.graphs[&key(GRAPH)].placement.clone().unwrap();
    assert_eq!(placement.shown(&"app".parse().unwrap()), "n2");
}
