//! Components that are scaled by their calls: on how many nodes they are placed, and what keeps that number.

use std::time::Duration;

use cluster::command::{Body, Rescale, RolloutChange, Scale};
use cluster::outcome::Refusal;
use cluster::scaling::is_settled;
use cluster::schedule::schedule;
use cluster::view;
use model::graph::GraphSpec;
use model::linked::LinkedGraph;
use model::scale::{Calls, Scaling};
use model::status::GraphState;

use crate::moves::{GRAPH, cluster};
use crate::support::{Cluster, key, linked_at, rollout, spec};

const CANDIDATE: &str = "sales/crm@candidate";

/// A graph of one component that is scaled between these.
fn between(number: u8, min: u32, max: u32) -> LinkedGraph {
    let scaling = Scaling::new(min, max, 50, Duration::from_secs(60)).unwrap();
    LinkedGraph { scaling: [("app".parse().unwrap(), scaling)].into(), ..linked_at(number, "crm.example.com") }
}

/// It serves on the one node that it begins with.
fn serving() -> Cluster {
    let mut cluster = cluster();
    cluster.deployed(GRAPH, between(1, 1, 4));
    cluster.schedule();
    cluster.serves("n1");
    cluster
}

impl Cluster {
    /// Decided from the state as it is.
    fn scaling(&self, from: u32, to: u32) -> Scale {
        let record = &self.state.graphs[&key(GRAPH)];
        let change = Rescale { from, to, calls: Calls::from_thousandths(180_000) };
        Scale {
            key: key(GRAPH),
            uid: record.uid.clone(),
            generation: record.generation,
            changes: [("app".parse().unwrap(), change)].into(),
        }
    }

    fn scaled(&mut self, from: u32, to: u32) {
        let scale = self.scaling(from, to);
        self.done(Body::Scale(Box::new(scale)));
        self.schedule();
        assert!(schedule(&self.state, self.state.now_ms).is_empty(), "a planned state plans to nothing");
    }

    fn shown(&self) -> String {
        view::status(&self.state, &key(GRAPH)).unwrap().scales[0].to_string()
    }
}

#[test]
fn it_is_placed_on_as_many_nodes_as_were_decided() {
    let mut cluster = serving();
    assert_eq!((cluster.node_of(GRAPH).as_deref(), cluster.shown().as_str()), (Some("n1"), "1 of 1-4"));
    cluster.scaled(1, 2);
    assert_eq!((cluster.node_of(GRAPH).as_deref(), cluster.shown().as_str()), (Some("n1, n2"), "2 of 1-4"));
    let said = |reason: &str| {
        let mut events = cluster.state.events.iter().rev();
        events.find(|event| event.reason == reason).map(|event| event.message.clone())
    };
    let up = said("scaled_up");
    assert_eq!(up.as_deref(), Some("app from 1 to 2 nodes: 180 calls under way, 50 aimed at per node"));
    assert!(
        !is_settled(&cluster.state, &cluster.state.graphs[&key(GRAPH)]),
        "it serves as it was placed before"
    );
    assert_eq!(cluster.answers_at(), "n1");
    cluster.serves("n1");
    assert!(is_settled(&cluster.state, &cluster.state.graphs[&key(GRAPH)]), "n2 may never serve");
    cluster.serves("n2");
    assert!(is_settled(&cluster.state, &cluster.state.graphs[&key(GRAPH)]));
    assert_eq!(cluster.answers_at(), "n1, n2");
    cluster.scaled(2, 1);
    assert_eq!(cluster.node_of(GRAPH).as_deref(), Some("n1"));
    assert!(!is_settled(&cluster.state, &cluster.state.graphs[&key(GRAPH)]), "n2 is left");
    assert!(cluster.state.graphs[&key(GRAPH)].scaled.is_empty(), "the least goes without saying");
}

#[test]
fn what_was_decided_of_something_else_is_refused() {
    let mut cluster = serving();
    let fresh = cluster.scaling(1, 2);
    for stale in [
        Scale { uid: "another".to_owned().try_into().unwrap(), ..fresh.clone() },
        Scale { generation: model::id::Generation(1), ..fresh.clone() },
        Scale { changes: [].into(), ..fresh.clone() },
        cluster.scaling(2, 3),
        cluster.scaling(1, 1),
        cluster.scaling(1, 5),
        cluster.scaling(1, 0),
    ] {
        assert!(matches!(cluster.refused(Body::Scale(Box::new(stale))), Refusal::Stale { .. }));
    }
    cluster.scaled(1, 2);
    assert!(matches!(cluster.refused(Body::Scale(Box::new(fresh))), Refusal::Stale { .. }));
}

#[test]
fn a_new_revision_goes_on_with_as_many_nodes_within_its_bounds() {
    let mut cluster = serving();
    cluster.scaled(1, 3);
    for (min, max, shown) in [(1, 4, "3 of 1-4"), (1, 2, "2 of 1-2"), (4, 5, "4 of 4-5"), (1, 5, "4 of 1-5")] {
        cluster.deployed(GRAPH, between(2, min, max));
        cluster.schedule();
        assert_eq!(cluster.shown(), shown);
        let nodes = cluster.state.graphs[&key(GRAPH)].placement.as_ref().unwrap().nodes().len();
        assert_eq!(nodes.to_string(), shown[..1], "{shown}");
    }
    let mut fixed = linked_at(2, "crm.example.com");
    fixed.replicas.insert("app".parse().unwrap(), 3);
    cluster.deployed(GRAPH, fixed);
    cluster.deployed(GRAPH, between(2, 1, 5));
    assert_eq!(cluster.shown(), "3 of 1-5", "nobody has to be asked less for that");
}

#[test]
fn a_candidate_has_as_many_nodes_as_its_graph() {
    let mut cluster = serving();
    cluster.scaled(1, 2);
    for node in ["n1", "n2"] {
        cluster.serves(node);
    }
    let mut deploy = cluster.deploy(GRAPH, between(2, 1, 3));
    deploy.by_steps = true;
    deploy.spec = GraphSpec { rollout: Some(rollout(2)), ..spec() };
    cluster.done(Body::Deploy(Box::new(deploy)));
    cluster.schedule();
    assert_eq!(cluster.node_of(CANDIDATE).as_deref(), Some("n1, n2"));
    cluster.scaled(2, 4);
    assert_eq!(cluster.node_of(GRAPH).as_deref(), Some("n1, n2, n3, n4"));
    let candidate = cluster.state.graphs[&key(CANDIDATE)].placement.clone().unwrap();
    assert_eq!(candidate.nodes().len(), 3, "within its own bounds: {candidate}");
    for node in ["n1", "n2", "n3", "n4", "n5"] {
        cluster.serves(node);
    }
    cluster.change(RolloutChange::Begin);
    assert!(is_settled(&cluster.state, &cluster.state.graphs[&key(GRAPH)]));
    cluster.change(RolloutChange::Promote { why: "a test".to_owned() });
    assert!(!is_settled(&cluster.state, &cluster.state.graphs[&key(GRAPH)]));
    assert_eq!(cluster.shown(), "3 of 1-3");
}

#[test]
fn where_more_is_wanted_than_nodes_take_it_is_said() {
    let mut cluster = cluster();
    cluster.deployed(GRAPH, between(1, 6, 8));
    cluster.schedule();
    for node in ["n1", "n2", "n3", "n4", "n5"] {
        cluster.serves(node);
    }
    let GraphState::Starting { phase, .. } = view::status(&cluster.state, &key(GRAPH)).unwrap().state else {
        panic!("{}", cluster.shown())
    };
    assert_eq!(phase, "app on 5 of 6 nodes: there are no other nodes");
    assert!(is_settled(&cluster.state, &cluster.state.graphs[&key(GRAPH)]), "it may need fewer");
}
