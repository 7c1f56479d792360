//! Nodes that go and come: what is moved, what stays, and what answers meanwhile.

use cluster::command::{Body, LabelNode, Leave, RemoveNode};
use cluster::outcome::{Outcome, Refusal};
use cluster::schedule::schedule;
use cluster::view;
use model::id::GraphKey;
use model::name::NodeName;
use model::node::{Admission, NodeState};
use model::report::{GraphReport, Progress, Report};
use model::status::GraphState;

use crate::support::{Cluster, key, linked, linked_at, linked_with_database, name, node};

pub(crate) const GRAPH: &str = "sales/crm";

/// Nodes n1 to n5, and whatever the scheduler does is done.
pub(crate) fn cluster() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.done(Body::RaiseFeatureLevel { level: cluster::FEATURE_LEVEL });
    for number in 3..=5 {
        cluster.done(Body::RegisterNode(node(&format!("n{number}"))));
    }
    cluster
}

impl Cluster {
    pub(crate) fn state_of(&mut self, node: &str, state: NodeState) {
        self.done(Body::SetNodeState { node: name(node), state, why: "a test".to_owned() });
    }

    pub(crate) fn admit(&mut self, node: &str, admission: Admission) {
        self.done(Body::AdmitNode { node: name(node), admission });
    }

    pub(crate) fn drain(&mut self, node: &str) {
        self.admit(node, Admission::Draining { deadline_ms: 60_000 });
    }

    /// A node says that it serves all that it is assigned.
    pub(crate) fn serves(&mut self, node: &str) {
        let assignment = view::assignment(&self.state, &name(node)).unwrap();
        let graphs = assignment.graphs.iter().map(|graph| GraphReport {
            key: graph.key.clone(),
            uid: graph.uid.clone(),
            serving: Some(graph.generation),
            desired: graph.generation,
            progress: Progress::Serving,
            failing: None,
        });
        let report = Report { node: name(node), accepted: assignment.generation, graphs: graphs.collect() };
        self.done(Body::RecordReport(report));
    }

    pub(crate) fn is_assigned(&self, node: &str) -> bool {
        !view::assignment(&self.state, &name(node)).unwrap().graphs.is_empty()
    }

    pub(crate) fn answers_at(&self) -> String {
        let map = view::route_map(&self.state).unwrap();
        map.routes[0].nodes.iter().map(NodeName::as_str).collect::<Vec<_>>().join(", ")
    }

    pub(crate) fn leave(&self) -> Body {
        let key: GraphKey = key(GRAPH);
        let record = &self.state.graphs[&key];
        let generation = record.leaving.as_ref().unwrap().generation;
        Body::Leave(vec![Leave { key, uid: record.uid.clone(), generation }])
    }
}

/// A graph with a route that serves on n1.
fn serving() -> Cluster {
    let mut cluster = cluster();
    cluster.deployed(GRAPH, linked_at(1, "crm.example.com"));
    cluster.schedule();
    assert_eq!(cluster.node_of(GRAPH).as_deref(), Some("n1"));
    cluster.serves("n1");
    cluster
}

#[test]
fn what_is_on_a_lost_node_is_moved_and_does_not_come_back() {
    let mut cluster = serving();
    cluster.state_of("n1", NodeState::Down);
    assert_eq!(cluster.schedule(), 1);
    assert_eq!(cluster.node_of(GRAPH).as_deref(), Some("n2"));
    assert_eq!(cluster.answers_at(), "n2", "nobody is sent to a node that is down");
    assert!(!cluster.is_assigned("n1"), "it stops what was moved when it is back");
    cluster.done(Body::RegisterNode(node("n1")));
    assert_eq!(schedule(&cluster.state, cluster.state.now_ms), []);
}

#[test]
fn what_is_drained_answers_where_it_was_until_it_answers_where_it_goes() {
    let mut cluster = serving();
    let before = cluster.state.graphs[&key(GRAPH)].generation;
    cluster.drain("n1");
    assert_eq!(cluster.schedule(), 1);
    assert_eq!(cluster.node_of(GRAPH).as_deref(), Some("n2"));
    assert_eq!((cluster.answers_at().as_str(), cluster.is_assigned("n1")), ("n1", true));
    let old = view::assignment(&cluster.state, &name("n1")).unwrap();
    assert_eq!(old.graphs[0].generation, before, "it goes on as it was");
    let status = view::status(&cluster.state, &key(GRAPH)).unwrap();
    let GraphState::Starting { serving, .. } = status.state else { panic!("{:?}", status.state) };
    assert_eq!(serving, Some(before));

    cluster.serves("n2");
    assert_eq!(
        (cluster.answers_at().as_str(), cluster.is_assigned("n1")),
        ("n2", true),
        "who was sent there is answered"
    );
    assert_eq!(view::status(&cluster.state, &key(GRAPH)).unwrap().state, GraphState::Serving);
    let leave = cluster.leave();
    cluster.done(leave.clone());
    assert!(!cluster.is_assigned("n1"));
    assert!(matches!(cluster.apply(leave), Outcome::Refused(Refusal::Stale { .. })), "once");
    let reasons: Vec<&str> = cluster.state.events.iter().map(|event| event.reason.as_str()).collect();
    assert!(reasons.contains(&"draining") && reasons.contains(&"moved"), "{reasons:?}");
}

#[test]
fn where_a_graph_was_going_may_be_lost_as_well() {
    let mut cluster = serving();
    cluster.drain("n1");
    cluster.schedule();
    cluster.state_of("n2", NodeState::Down);
    assert_eq!(cluster.schedule(), 1);
    assert_eq!(cluster.node_of(GRAPH).as_deref(), Some("n3"));
    assert_eq!(cluster.answers_at(), "n1", "it has answered all along");
    // And where it was.
    cluster.state_of("n1", NodeState::Down);
    assert_eq!(cluster.answers_at(), "n3");
    cluster.serves("n3");
    assert_eq!(view::status(&cluster.state, &key(GRAPH)).unwrap().state, GraphState::Serving);
}

#[test]
fn what_comes_back_to_where_it_was_needs_nothing_left() {
    let mut cluster = serving();
    cluster.drain("n1");
    cluster.schedule();
    cluster.admit("n1", Admission::Open);
    for number in 2..=5 {
        cluster.admit(&format!("n{number}"), Admission::Cordoned);
    }
    cluster.drain("n2");
    assert_eq!(cluster.schedule(), 1);
    assert_eq!(cluster.node_of(GRAPH).as_deref(), Some("n1"));
    assert!(cluster.state.graphs[&key(GRAPH)].leaving.is_none());
    assert!(!cluster.is_assigned("n2"));
}

#[test]
fn a_cordoned_node_keeps_what_it_has_and_gets_nothing_new() {
    let mut cluster = serving();
    for number in 1..=4 {
        cluster.admit(&format!("n{number}"), Admission::Cordoned);
    }
    assert_eq!(schedule(&cluster.state, cluster.state.now_ms), []);
    cluster.deployed("sales/new", linked(2));
    assert_eq!(cluster.schedule(), 1);
    assert_eq!(cluster.node_of("sales/new").as_deref(), Some("n5"));
    cluster.admit("n5", Admission::Cordoned);
    cluster.deployed("sales/newer", linked(2));
    assert_eq!(schedule(&cluster.state, cluster.state.now_ms), []);
    let why = cluster::schedule::explain(
        &cluster.state,
        &key("sales/newer"),
        &cluster.state.graphs[&key("sales/newer")],
    );
    assert_eq!(why[0], "n1 no: cordoned");
}

#[test]
fn what_has_data_stays_with_them() {
    let mut cluster = cluster();
    cluster.deployed(GRAPH, linked_with_database(1, None));
    cluster.schedule();
    cluster.serves("n1");
    cluster.drain("n1");
    assert_eq!(schedule(&cluster.state, cluster.state.now_ms), []);
    let stays = |cluster: &Cluster| {
        let record = &cluster.state.graphs[&key(GRAPH)];
        cluster::schedule::stays(&cluster.state, record, &name("n1"))
    };
    assert_eq!(stays(&cluster).as_deref(), Some("db has its data on n1 and does not move"));
    cluster.state_of("n1", NodeState::Down);
    assert_eq!(schedule(&cluster.state, cluster.state.now_ms), []);
    let GraphState::Unknown { why } = view::status(&cluster.state, &key(GRAPH)).unwrap().state else {
        panic!("a node that is not heard of is not known to serve");
    };
    assert!(why.contains("db has its data on n1"), "{why}");

    let remove = |loses_data| RemoveNode { node: name("n1"), until_ms: 1, loses_data };
    let refused = cluster.refused(Body::RemoveNode(remove(false)));
    assert!(matches!(refused, Refusal::NodeInUse { has_data: true, .. }), "{refused}");
    cluster.done(Body::RemoveNode(remove(true)));
    assert!(!cluster.state.nodes.contains_key(&name("n1")));
    assert_eq!(cluster.schedule(), 1);
    assert_eq!(cluster.node_of(GRAPH).as_deref(), Some("n2"), "it begins anew elsewhere");
}

#[test]
fn a_node_in_use_is_not_removed() {
    let mut cluster = serving();
    let remove = RemoveNode { node: name("n1"), until_ms: 1, loses_data: true };
    let refused = cluster.refused(Body::RemoveNode(remove.clone()));
    assert!(matches!(refused, Refusal::NodeInUse { has_data: false, .. }), "{refused}");
    cluster.drain("n1");
    cluster.schedule();
    cluster.refused(Body::RemoveNode(remove.clone()));
    cluster.serves("n2");
    let leave = cluster.leave();
    cluster.done(leave);
    cluster.done(Body::RemoveNode(remove));
    assert!(matches!(
        cluster.refused(Body::AdmitNode { node: name("n1"), admission: Admission::Cordoned }),
        Refusal::NotFound { .. }
    ));
}

#[test]
fn where_most_of_a_zone_is_lost_at_one_time_nothing_is_moved_off_it() {
    let mut cluster = serving();
    let zone = |zone: &str, node: &str| {
        let set = [("zone".to_owned(), zone.to_owned())].into();
        Body::LabelNode(LabelNode { node: name(node), set, unset: [].into() })
    };
    for node in ["n1", "n2", "n3", "n4"] {
        cluster.done(zone("a", node));
    }
    cluster.done(zone("b", "n5"));
    for node in ["n3", "n4"] {
        cluster.state_of(node, NodeState::Down);
    }
    assert_eq!(cluster::schedule::cut_off(&cluster.state), [].into(), "two of four are not most");
    cluster.state_of("n1", NodeState::Down);
    assert_eq!(cluster::schedule::cut_off(&cluster.state), [("a", (3, 4))].into());
    assert_eq!(schedule(&cluster.state, cluster.state.now_ms), []);
    let GraphState::Unknown { why } = view::status(&cluster.state, &key(GRAPH)).unwrap().state else {
        panic!("a node that is not heard of is not known to serve");
    };
    assert!(why.contains("3 of 4 nodes of its zone are down"), "{why}");
    let alarms = |cluster: &Cluster, reason: &str| {
        cluster.state.events.iter().filter(|event| event.reason == reason).count()
    };
    assert_eq!((alarms(&cluster, "moves_stopped"), alarms(&cluster, "moves_resumed")), (1, 0));
    // Those that are gone for good are taken out, and the rest goes on.
    cluster.done(Body::RemoveNode(RemoveNode { node: name("n4"), until_ms: 1, loses_data: false }));
    assert_eq!(alarms(&cluster, "moves_resumed"), 1);
    assert_eq!(cluster.schedule(), 1);
    assert_eq!(cluster.node_of(GRAPH).as_deref(), Some("n2"));
}

#[test]
fn a_graph_keeps_its_parts_where_they_can_stay() {
    let mut cluster = cluster();
    let mut linked = linked_at(1, "crm.example.com");
    let app = linked.components.keys().next().unwrap().clone();
    let more = linked.components[&app].clone();
    linked.components.insert("tail".parse().unwrap(), more);
    linked.require.insert("tail".parse().unwrap(), [("disk".to_owned(), "ssd".to_owned().into())].into());
    for node in ["n4", "n5"] {
        let set = [("disk".to_owned(), "ssd".to_owned())].into();
        cluster.done(Body::LabelNode(LabelNode { node: name(node), set, unset: [].into() }));
    }
    cluster.deployed(GRAPH, linked);
    cluster.schedule();
    let nodes = |cluster: &Cluster| -> Vec<String> {
        let placement = cluster.state.graphs[&key(GRAPH)].placement.clone().unwrap();
        placement.nodes().into_iter().map(ToString::to_string).collect()
    };
    let on = nodes(&cluster);
    for node in &on {
        cluster.serves(node);
    }
    let tail: NodeName = cluster.state.graphs[&key(GRAPH)]
        .placement
        .as_ref()
        .unwrap()
        .first_node_of(&"tail".parse().unwrap())
        .clone();
    cluster.drain(tail.as_str());
    assert_eq!(cluster.schedule(), 1);
    let now = cluster.state.graphs[&key(GRAPH)].placement.clone().unwrap();
    let other = if tail.as_str() == "n4" { "n5" } else { "n4" };
    assert_eq!(now.first_node_of(&"tail".parse().unwrap()).as_str(), other);
}

#[test]
fn nodes_that_came_back_get_their_share_on_request() {
    let mut cluster = cluster();
    for number in 2..=5 {
        cluster.admit(&format!("n{number}"), Admission::Cordoned);
    }
    for number in 0..9 {
        cluster.deployed(&format!("sales/g{number}"), linked(1));
    }
    cluster.deployed("sales/data", linked_with_database(1, None));
    cluster.schedule();
    let on =
        |cluster: &Cluster, node: &str| cluster.state.graphs.values().filter(|g| g.is_on(&name(node))).count();
    assert_eq!(on(&cluster, "n1"), 10);
    assert_eq!(
        cluster::schedule::rebalance(&cluster.state, &[].into()),
        [],
        "nothing is moved that does not serve"
    );
    cluster.serves("n1");
    for number in 2..=4 {
        cluster.admit(&format!("n{number}"), Admission::Open);
    }
    let is_on = |place: &cluster::command::Place, node: &str| place.placement.is_on(&name(node));
    let apart = cluster::schedule::rebalance(&cluster.state, &[name("n2")].into());
    assert!(
        !apart.is_empty() && !apart.iter().any(|place| is_on(place, "n2")),
        "none to a node that is silent"
    );
    let places = cluster::schedule::rebalance(&cluster.state, &[].into());
    assert!(places.iter().any(|place| is_on(place, "n2")));
    assert_eq!(places, cluster::schedule::rebalance(&cluster.state, &[].into()), "twice the same");
    cluster.done(Body::Place(places));
    let counts: Vec<usize> = (1..=5).map(|number| on(&cluster, &format!("n{number}"))).collect();
    assert_eq!(counts.iter().sum::<usize>(), 10);
    assert!(counts[..4].iter().all(|count| (2..=3).contains(count)) && counts[4] == 0, "{counts:?}");
    assert_eq!(cluster.node_of("sales/data").as_deref(), Some("n1"), "what has data stays with them");
    for number in 2..=4 {
        cluster.serves(&format!("n{number}"));
    }
    cluster.serves("n1");
    assert_eq!(
        cluster::schedule::rebalance(&cluster.state, &[].into()),
        [],
        "a balanced cluster needs nothing"
    );
    assert_eq!(schedule(&cluster.state, cluster.state.now_ms), []);
}
