//! Components that run on several nodes: where, who answers, and what becomes of them when nodes go and come.

use cluster::command::{Body, LostNode};
use cluster::feature::MOVES;
use cluster::schedule::{self, MOVES_RESUME_MS, schedule};
use cluster::{State, view};
use model::linked::{Link, LinkOrigin, LinkedGraph, Target};
use model::node::{Admission, NodeState};
use model::placement::{LinkTerms, Locality};
use model::status::GraphState;

use crate::moves::{GRAPH, cluster};
use crate::support::{Cluster, key, linked, linked_at, name, node};

/// A graph of one component that should run on so many nodes.
fn on(replicas: u32) -> LinkedGraph {
    let mut linked = linked_at(1, "crm.example.com");
    linked.replicas =
        [("app".parse().unwrap(), replicas)].into_iter().filter(|(_, count)| *count > 1).collect();
    linked
}

/// It serves on three of five nodes.
fn serving() -> Cluster {
    let mut cluster = cluster();
    cluster.deployed(GRAPH, on(3));
    cluster.schedule();
    assert_eq!(cluster.node_of(GRAPH).as_deref(), Some("n1, n2, n3"));
    for node in ["n1", "n2", "n3"] {
        cluster.serves(node);
    }
    assert_eq!(state_of(&cluster.state), GraphState::Serving);
    cluster
}

fn state_of(state: &State) -> GraphState {
    view::status(state, &key(GRAPH)).unwrap().state
}

fn plan(cluster: &Cluster) -> usize {
    schedule(&cluster.state, cluster.state.now_ms).len()
}

impl Cluster {
    fn lose(&mut self, nodes: &[&str]) {
        let lost = |node: &&str| LostNode { node: name(node), why: "a test".to_owned() };
        self.done(Body::LoseNodes(nodes.iter().map(lost).collect()));
    }

    fn phase(&self) -> String {
        match state_of(&self.state) {
            GraphState::Starting { phase, serving } => format!("{phase} ({})", serving.is_some()),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn replicas_are_on_different_nodes_and_only_those_that_serve_are_asked() {
    let mut cluster = cluster();
    cluster.deployed(GRAPH, on(3));
    cluster.schedule();
    assert_eq!(plan(&cluster), 0, "a planned state plans to nothing");
    cluster.serves("n2");
    assert_eq!(cluster.answers_at(), "n2");
    assert_eq!(cluster.phase(), "waiting for node n3 (true)");
    cluster.serves("n1");
    cluster.serves("n3");
    assert_eq!(cluster.answers_at(), "n1, n2, n3");
}

#[test]
fn they_are_in_as_many_zones_as_there_are() {
    let mut cluster = cluster();
    for (number, zone) in [(1, "a"), (2, "a"), (3, "a"), (4, "b"), (5, "c")] {
        let labels = [("zone".to_owned(), zone.to_owned())].into();
        cluster
            .done(Body::RegisterNode(model::node::NodeDescription { labels, ..node(&format!("n{number}")) }));
    }
    cluster.deployed(GRAPH, on(4));
    cluster.schedule();
    assert_eq!(cluster.node_of(GRAPH).as_deref(), Some("n1, n2, n4, n5"));
    let peers = view::assignment(&cluster.state, &name("n1")).unwrap().peers;
    assert_eq!(peers[&name("n5")].zone, "c");
}

#[test]
fn a_lost_one_is_replaced_and_the_others_answer_all_along() {
    let mut cluster = serving();
    cluster.lose(&["n1"]);
    assert_eq!(cluster.answers_at(), "n2, n3");
    assert!(cluster.phase().starts_with("node n1 is not heard of; what it has runs on others too"));
    assert_eq!(cluster.schedule(), 1);
    assert_eq!(cluster.node_of(GRAPH).as_deref(), Some("n2, n3, n4"));
    assert_eq!(cluster.answers_at(), "n2, n3", "they answer as they did, and n4 does not yet");
    for node in ["n2", "n3"] {
        cluster.serves(node);
    }
    assert_eq!(cluster.answers_at(), "n2, n3");
    cluster.serves("n4");
    assert_eq!(cluster.answers_at(), "n2, n3, n4");
    cluster.done(Body::RegisterNode(node("n1")));
    assert_eq!(plan(&cluster), 0, "nothing is moved back");
}

#[test]
fn without_another_node_a_lost_one_is_waited_for() {
    let mut cluster = serving();
    for node in ["n4", "n5"] {
        cluster.admit(node, Admission::Cordoned);
    }
    let before = cluster.state.graphs[&key(GRAPH)].generation;
    cluster.lose(&["n1"]);
    assert_eq!(plan(&cluster), 0, "two of them serve, and it may come back");
    let record = &cluster.state.graphs[&key(GRAPH)];
    let why = schedule::stays(&cluster.state, record, &name("n1")).unwrap();
    assert_eq!(why, "app on 2 of 3 nodes: n1 no: down; n4 no: cordoned; n5 no: cordoned");
    cluster.done(Body::RegisterNode(node("n1")));
    assert_eq!(plan(&cluster), 0);
    assert_eq!(cluster.state.graphs[&key(GRAPH)].generation, before, "it is not even linked again");
}

#[test]
fn a_drained_one_goes_though_no_other_node_takes_it_as_long_as_one_is_left() {
    let mut cluster = serving();
    for node in ["n4", "n5"] {
        cluster.admit(node, Admission::Cordoned);
    }
    cluster.drain("n2");
    assert_eq!(cluster.schedule(), 1);
    assert_eq!(cluster.node_of(GRAPH).as_deref(), Some("n1, n3"));
    assert_eq!(cluster.answers_at(), "n1, n2, n3", "it answers until the others have linked it again");
    for node in ["n1", "n3"] {
        cluster.serves(node);
    }
    assert_eq!((cluster.answers_at().as_str(), cluster.is_assigned("n2")), ("n1, n3", true));
    let leave = cluster.leave();
    cluster.done(leave);
    assert!(!cluster.is_assigned("n2"));
    assert_eq!(
        cluster.phase(),
        "app on 2 of 3 nodes: n2 no: draining; n4 no: cordoned; n5 no: cordoned (true)"
    );
    cluster.admit("n4", Admission::Open);
    assert_eq!(cluster.schedule(), 1);
    assert_eq!(cluster.node_of(GRAPH).as_deref(), Some("n1, n3, n4"));
}

#[test]
fn more_and_fewer_are_made_while_it_answers() {
    let mut cluster = serving();
    cluster.deployed(GRAPH, on(5));
    cluster.schedule();
    assert_eq!(cluster.node_of(GRAPH).as_deref(), Some("n1, n2, n3, n4, n5"));
    assert_eq!(cluster.answers_at(), "n1, n2, n3");
    for node in ["n1", "n2", "n3", "n4", "n5"] {
        cluster.serves(node);
    }
    assert_eq!(cluster.answers_at(), "n1, n2, n3, n4, n5");
    cluster.deployed(GRAPH, on(1));
    cluster.schedule();
    assert_eq!(cluster.node_of(GRAPH).as_deref(), Some("n1"));
    assert_eq!(cluster.answers_at(), "n1, n2, n3, n4, n5");
    cluster.serves("n1");
    assert_eq!((cluster.answers_at().as_str(), cluster.is_assigned("n5")), ("n1", true));
}

#[test]
fn of_two_components_each_is_on_as_many_nodes_as_it_asks_for() {
    let mut cluster = cluster();
    let mut linked = on(3);
    let search = linked.components[&"app".parse().unwrap()].clone();
    linked.components.insert("search".parse().unwrap(), search);
    let interface: model::interface::InterfaceName = "a:b/c@1.0.0".parse().unwrap();
    linked.links.push(Link {
        from: "app".parse().unwrap(),
        interface: interface.clone(),
        to: Target::Component { name: "search".parse().unwrap(), export: interface },
        wiring: LinkOrigin::Explicit,
        functions: Vec::new(),
        terms: LinkTerms::default(),
    });
    cluster.deployed(GRAPH, linked.clone());
    cluster.schedule();
    let shown = |cluster: &Cluster| {
        let placement = cluster.state.graphs[&key(GRAPH)].placement.clone().unwrap();
        ["app", "search"].map(|member| placement.shown(&member.parse().unwrap()))
    };
    assert_eq!(shown(&cluster), ["n1, n2, n3", "n1"]);
    // The home is lost: what was there alone goes to a node where the other runs.
    cluster.lose(&["n1"]);
    cluster.schedule();
    assert_eq!(shown(&cluster), ["n2, n3, n4", "n2"]);
    // On one node with what runs on three, it runs on three.
    linked.links[0].terms.locality = Locality::SameNode;
    cluster.deployed(GRAPH, linked);
    cluster.schedule();
    assert_eq!(shown(&cluster), ["n2, n3, n4", "n2, n3, n4"]);
}

#[test]
fn nodes_that_are_lost_together_cut_a_zone_off_before_anything_is_moved() {
    let mut cluster = serving();
    cluster.lose(&["n1", "n2", "n4", "n9"]);
    assert_eq!(plan(&cluster), 0);
    assert_eq!(cluster.answers_at(), "n3");
    let record = &cluster.state.graphs[&key(GRAPH)];
    let why = schedule::stays(&cluster.state, record, &name("n1")).unwrap();
    assert!(why.starts_with("3 of 5 nodes of its zone are down"), "{why}");
    // Half are back: the others are waited for.
    cluster.done(Body::RegisterNode(node("n4")));
    assert_eq!(plan(&cluster), 0);
    let record = &cluster.state.graphs[&key(GRAPH)];
    let why = schedule::stays(&cluster.state, record, &name("n1")).unwrap();
    assert!(why.contains("it is waited for 30 s"), "{why}");
    let resumed = cluster.state.events.last().unwrap().message.clone();
    assert_eq!(resumed, "nodes without a zone: half or more are ready; 2 are not, and are waited for 30 s");
    let until = cluster.state.now_ms + MOVES_RESUME_MS;
    assert_eq!(schedule(&cluster.state, until - 1), []);
    assert_eq!(schedule(&cluster.state, until).len(), 1);
    cluster.done(Body::RegisterNode(node("n1")));
    cluster.done(Body::RegisterNode(node("n2")));
    assert_eq!(schedule(&cluster.state, until + 60_000), [], "all are back, and nothing was moved");
}

#[test]
fn earlier_versions_are_not_given_what_they_do_not_know() {
    let mut cluster = Cluster::new();
    cluster.done(Body::RaiseFeatureLevel { level: MOVES });
    let several = Body::Deploy(Box::new(cluster.deploy(GRAPH, on(2))));
    let one = Body::Deploy(Box::new(cluster.deploy(GRAPH, linked(1))));
    assert!(several.level() > cluster.state.level() && one.level() <= cluster.state.level());
    assert!(Body::LoseNodes(Vec::new()).level() > MOVES);
    // Nor is what they do not do done.
    cluster.deployed(GRAPH, linked_at(1, "crm.example.com"));
    cluster.schedule();
    cluster.serves("n1");
    cluster.state_of("n1", NodeState::Down);
    cluster.schedule();
    assert!(cluster.state.graphs[&key(GRAPH)].observed.is_empty());
}
