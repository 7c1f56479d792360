//! Components that run on several nodes: where, who answers, and what becomes of them when nodes go and come.

use cluster::command::Body;
use cluster::feature::{FIRST_LEVEL, ISOLATION, MOVES, RECHECKS, REPLICAS};
use cluster::schedule::{self, MOVES_RESUME_MS, schedule};
use cluster::{State, view};
use model::graph::{Check, CheckTerms, OnIsolation};
use model::linked::{Link, LinkOrigin, LinkedGraph, Target};
use model::node::{Admission, KNOWS_ISOLATION, NodeDescription, NodeState};
use model::placement::{LinkTerms, Locality};
use model::status::GraphState;

use crate::moves::{GRAPH, cluster};
use crate::support::{Cluster, key, linked, linked_at, linked_with_database, name, node};

/// A graph of one component that should run on so many nodes.
fn on(replicas: u32) -> LinkedGraph {
    let mut linked = linked_at(1, "crm.example.com");
    linked.replicas =
        [("app".parse().unwrap(), replicas)].into_iter().filter(|(_, count)| *count > 1).collect();
    linked
}

/// Nodes n1 to n5 in these zones.
fn in_zones(zones: [&str; 5]) -> Cluster {
    let mut cluster = cluster();
    for (number, zone) in (1..).zip(zones) {
        let labels = [("zone".to_owned(), zone.to_owned())].into();
        let described = node(&format!("n{number}"));
        cluster.done(Body::RegisterNode(model::node::NodeDescription { labels, ..described }));
    }
    cluster
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
        let nodes = nodes.iter().map(|node| name(node)).collect();
        self.done(Body::LoseNodes { nodes, why: "a test".to_owned() });
    }

    /// A node says that it serves a generation that is not the latest.
    fn serves_still(&mut self, node: &str, generation: model::id::Generation) {
        let assignment = view::assignment(&self.state, &name(node)).unwrap();
        let graphs = assignment.graphs.iter().map(|graph| model::report::GraphReport {
            key: graph.key.clone(),
            uid: graph.uid.clone(),
            serving: Some(generation),
            desired: graph.generation,
            progress: model::report::Progress::Starting,
            failing: None,
        });
        let (node, accepted) = (name(node), assignment.generation);
        self.done(Body::RecordReport(model::report::Report { node, accepted, graphs: graphs.collect() }));
    }

    /// A node says how its checks of what serves there go.
    fn judges(&mut self, node: &str, failing: Option<&str>) {
        let assignment = view::assignment(&self.state, &name(node)).unwrap();
        let graphs = assignment.graphs.iter().map(|graph| model::report::GraphReport {
            key: graph.key.clone(),
            uid: graph.uid.clone(),
            serving: Some(graph.generation),
            desired: graph.generation,
            progress: model::report::Progress::Serving,
            failing: failing.map(str::to_owned),
        });
        let (node, accepted) = (name(node), assignment.generation);
        self.done(Body::RecordReport(model::report::Report { node, accepted, graphs: graphs.collect() }));
    }

    /// The nodes that a node asks after others.
    fn avoided_by(&self, node: &str) -> Vec<String> {
        let assignment = view::assignment(&self.state, &name(node)).unwrap();
        assignment.graphs.iter().flat_map(|graph| &graph.failing).map(ToString::to_string).collect()
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
    let mut cluster = in_zones(["a", "a", "a", "b", "c"]);
    cluster.deployed(GRAPH, on(4));
    cluster.schedule();
    assert_eq!(cluster.node_of(GRAPH).as_deref(), Some("n1, n2, n4, n5"));
    let peers = view::assignment(&cluster.state, &name("n1")).unwrap().peers;
    assert_eq!(peers[&name("n5")].zone, "c");
}

#[test]
fn they_are_moved_on_request_one_by_one_and_keep_their_zones() {
    let mut cluster = in_zones(["a", "a", "b", "b", "b"]);
    for node in ["n2", "n4", "n5"] {
        cluster.admit(node, Admission::Cordoned);
    }
    for number in 0..6 {
        let mut replicated = LinkedGraph { ingress: Vec::new(), ..on(2) };
        let zone = model::condition::Expression::In(["a".to_owned(), "b".to_owned()].into());
        let require = [("zone".to_owned(), model::condition::Condition::Of(zone))].into();
        replicated.require.insert("app".parse().unwrap(), require);
        cluster.deployed(&format!("sales/g{number}"), replicated);
    }
    assert_eq!(cluster.schedule(), 6);
    cluster.serves("n1");
    assert_eq!(
        schedule::rebalance(&cluster.state, &[].into()),
        [],
        "nothing is moved that does not serve everywhere"
    );
    cluster.serves("n3");
    for node in ["n2", "n4", "n5"] {
        cluster.admit(node, Admission::Open);
    }
    let places = schedule::rebalance(&cluster.state, &[].into());
    assert_eq!(places.len(), 6);
    cluster.done(Body::Place(places));
    let on = |node: &str| cluster.state.graphs.values().filter(|record| record.is_on(&name(node))).count();
    assert_eq!(["n1", "n2", "n3", "n4", "n5"].map(on), [3, 3, 3, 2, 1]);
    for record in cluster.state.graphs.values() {
        let nodes = record.placement.as_ref().unwrap().nodes();
        let zones: std::collections::BTreeSet<_> =
            nodes.iter().map(|node| cluster.state.nodes[*node].label("zone").unwrap()).collect();
        assert_eq!(zones.len(), 2, "{nodes:?}");
    }
    assert_eq!(plan(&cluster), 0, "and there it stays");
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
fn a_node_that_has_another_part_is_asked_once_it_has_this_one() {
    let mut cluster = cluster();
    let mut linked = on(1);
    let tail = linked.components[&"app".parse().unwrap()].clone();
    linked.components.insert("tail".parse().unwrap(), tail);
    for (member, node) in [("app", "n1"), ("tail", "n2")] {
        linked.require.insert(member.parse().unwrap(), [("node".to_owned(), node.to_owned().into())].into());
    }
    cluster.deployed(GRAPH, linked.clone());
    cluster.schedule();
    ["n1", "n2"].into_iter().for_each(|node| cluster.serves(node));
    assert_eq!(cluster.answers_at(), "n1");
    let app_on = |cluster: &Cluster| {
        cluster.state.graphs[&key(GRAPH)].placement.as_ref().unwrap().shown(&"app".parse().unwrap())
    };

    linked.require.remove(&"app".parse().unwrap());
    cluster.deployed(GRAPH, linked);
    ["n1", "n2"].into_iter().for_each(|node| cluster.serves(node));
    cluster.drain("n1");
    cluster.schedule();
    assert_eq!(app_on(&cluster), "n2");
    // n2 says at once that it serves the generation before, of which it has the tail alone.
    let old = cluster.state.graphs[&key(GRAPH)].leaving.as_ref().unwrap().generation;
    cluster.serves_still("n2", old);
    assert_eq!(cluster.answers_at(), "n1");
    cluster.serves("n2");
    assert_eq!(cluster.answers_at(), "n2");
}

#[test]
fn what_a_drain_moves_does_not_wait_for_replicas_that_are_down() {
    let mut cluster = serving();
    ["n4", "n5"].into_iter().for_each(|node| cluster.admit(node, Admission::Cordoned));
    cluster.drain("n1");
    cluster.schedule();
    assert_eq!(cluster.node_of(GRAPH).as_deref(), Some("n2, n3"));
    cluster.serves("n2");
    assert_eq!(cluster.answers_at(), "n1, n2, n3");
    cluster.lose(&["n3"]);
    assert_eq!(cluster.answers_at(), "n2", "n3 has all that n2 has, and is not waited for");
    let leave = cluster.leave();
    cluster.done(leave);
    assert!(!cluster.is_assigned("n1"));
}

#[test]
fn a_database_that_a_later_revision_adds_has_its_data_where_it_was_made() {
    let mut cluster = cluster();
    cluster.deployed(GRAPH, linked_at(1, "crm.example.com"));
    cluster.schedule();
    cluster.serves("n1");
    cluster.deployed(GRAPH, linked_with_database(1, None));
    assert_eq!(plan(&cluster), 0);
    cluster.serves("n1");
    cluster.drain("n1");
    assert_eq!(plan(&cluster), 0, "it is not moved away from its data");
    let record = &cluster.state.graphs[&key(GRAPH)];
    assert_eq!(
        schedule::stays(&cluster.state, record, &name("n1")).unwrap(),
        "db has its data on n1 and does not move"
    );
}

#[test]
fn of_fewer_replicas_those_in_different_zones_are_kept() {
    let mut cluster = in_zones(["a", "a", "b", "b", "b"]);
    cluster.deployed(GRAPH, on(5));
    cluster.schedule();
    for load in ["sales/a", "sales/b"] {
        let mut other = linked(1);
        other.require.insert("app".parse().unwrap(), [("zone".to_owned(), "b".to_owned().into())].into());
        cluster.deployed(load, LinkedGraph { replicas: [("app".parse().unwrap(), 3)].into(), ..other });
        cluster.schedule();
    }
    cluster.deployed(GRAPH, on(2));
    cluster.schedule();
    assert_eq!(cluster.node_of(GRAPH).as_deref(), Some("n1, n3"));
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
fn agents_of_earlier_versions_get_no_replica_and_nothing_that_is_checked() {
    let mut cluster = cluster();
    for number in 1..=4 {
        cluster
            .done(Body::RegisterNode(model::node::NodeDescription { level: 0, ..node(&format!("n{number}")) }));
    }
    cluster.deployed(GRAPH, on(2));
    let mut checked = linked(1);
    let app = checked.components.values_mut().next().unwrap();
    app.settings.check = Some(model::graph::Check::Http("/ready".parse().unwrap()));
    cluster.deployed("sales/checked", checked);
    cluster.schedule();
    let shown = |key: &str| cluster.node_of(key);
    assert_eq!(shown("sales/checked").as_deref(), Some("n5"));
    assert_eq!(shown(GRAPH).as_deref(), Some("n1, n5"), "alone, a first one is as it was before");
    let status = cluster.phase();
    assert!(status.contains("waiting for node"), "{status}");
}

#[test]
fn earlier_versions_are_not_given_what_they_do_not_know() {
    let mut cluster = Cluster::new();
    cluster.done(Body::RaiseFeatureLevel { level: MOVES });
    let several = Body::Deploy(Box::new(cluster.deploy(GRAPH, on(2))));
    let one = Body::Deploy(Box::new(cluster.deploy(GRAPH, linked(1))));
    assert!(several.level() > cluster.state.level() && one.level() <= cluster.state.level());
    assert!(Body::LoseNodes { nodes: Vec::new(), why: String::new() }.level() > MOVES);
    // Nor is what they do not do done.
    cluster.deployed(GRAPH, linked_at(1, "crm.example.com"));
    cluster.schedule();
    cluster.serves("n1");
    cluster.state_of("n1", NodeState::Down);
    cluster.schedule();
    assert!(cluster.state.graphs[&key(GRAPH)].observed.is_empty());
}

#[test]
fn a_node_where_it_fails_is_asked_only_where_it_fails_on_all() {
    let mut cluster = serving();
    cluster.judges("n2", Some("app: it answered 500"));
    assert_eq!(cluster.last_event(), "graph/sales/crm check_failing");
    assert_eq!(cluster.answers_at(), "n1, n3");
    for node in ["n1", "n2", "n3"] {
        assert_eq!(cluster.avoided_by(node), ["n2"]);
    }
    let status = view::status(&cluster.state, &key(GRAPH)).unwrap();
    assert_eq!(status.state, GraphState::Serving, "it answers where it was placed");
    assert_eq!(status.failing, [(name("n2"), "app: it answered 500".to_owned())].into());
    // Other words for it are kept, and are no event.
    let events = cluster.state.events.len();
    cluster.judges("n2", Some("app: it answered 503"));
    assert_eq!(cluster.state.events.len(), events);
    assert_eq!(cluster.state.graphs[&key(GRAPH)].failing_on(&name("n2")), Some("app: it answered 503"));

    cluster.judges("n1", Some("app: it answered 500"));
    assert_eq!(cluster.answers_at(), "n3");
    // One that passes and is not heard of is of no use.
    cluster.lose(&["n3"]);
    assert_eq!(cluster.answers_at(), "n1, n2");
    cluster.judges("n1", None);
    assert_eq!(cluster.last_event(), "graph/sales/crm check_passing");
    assert_eq!(cluster.answers_at(), "n1");
    assert_eq!(cluster.avoided_by("n1"), ["n2"]);
}

#[test]
fn what_a_check_says_more_than_before_needs_a_level() {
    let mut linked = on(1);
    let terms = CheckTerms { every: Some(std::time::Duration::from_secs(10)), ..CheckTerms::default() };
    let app = linked.components.values_mut().next().unwrap();
    app.settings.check = Some(Check::Http("/ready".parse().unwrap()));
    let cluster = cluster();
    assert_eq!(Body::Deploy(Box::new(cluster.deploy(GRAPH, linked.clone()))).level(), REPLICAS);
    linked.components.values_mut().next().unwrap().settings.check_terms = terms;
    assert_eq!(Body::Deploy(Box::new(cluster.deploy(GRAPH, linked.clone()))).level(), RECHECKS);
    let mut cluster = serving();
    assert_eq!(Body::Relink(Box::new(cluster.relink(GRAPH, linked.clone()))).level(), RECHECKS);
    let mut of_spec = cluster.deploy(GRAPH, on(1));
    of_spec.spec.components.values_mut().next().unwrap().settings.check_terms = terms;
    assert_eq!(Body::Deploy(Box::new(of_spec)).level(), RECHECKS);
    cluster.judges("n1", Some("why"));
    let node = name("n1");
    let graphs = cluster.state.graphs[&key(GRAPH)].observed.values().cloned().collect();
    let report = |graphs| {
        Body::RecordReport(model::report::Report { node: node.clone(), accepted: Default::default(), graphs })
    };
    assert_eq!(report(graphs).level(), RECHECKS);
    assert_eq!(report(Vec::new()).level(), FIRST_LEVEL);
}

#[test]
fn what_stops_in_isolation_goes_where_the_agent_knows_that() {
    let mut linked = on(1);
    linked.components.values_mut().next().unwrap().settings.on_isolation = OnIsolation::Stop;
    let mut cluster = cluster();
    assert_eq!(Body::Deploy(Box::new(cluster.deploy(GRAPH, linked.clone()))).level(), ISOLATION);
    let old = |node: NodeDescription| NodeDescription { level: KNOWS_ISOLATION - 1, ..node };
    for number in 1..5 {
        cluster.done(Body::RegisterNode(old(node(&format!("n{number}")))));
    }
    cluster.deployed(GRAPH, linked);
    cluster.schedule();
    assert_eq!(cluster.node_of(GRAPH).as_deref(), Some("n5"));
    cluster.lose(&["n5"]);
    assert_eq!(plan(&cluster), 0);
    let record = &cluster.state.graphs[&key(GRAPH)];
    let why = schedule::stays(&cluster.state, record, &name("n5")).unwrap();
    assert!(
        why.contains("n1 no: its agent is of an earlier version, which goes on serving when it is cut off"),
        "{why}"
    );
}

#[test]
fn what_stops_in_isolation_leaves_agents_that_do_not_know_that() {
    let stopping = |mut linked: LinkedGraph| {
        linked.components.values_mut().next().unwrap().settings.on_isolation = OnIsolation::Stop;
        linked
    };
    let old = |node: NodeDescription| NodeDescription { level: KNOWS_ISOLATION - 1, ..node };
    for count in [1, 2] {
        let mut cluster = cluster();
        cluster.deployed(GRAPH, on(count));
        cluster.schedule();
        let before: Vec<_> =
            cluster.state.graphs[&key(GRAPH)].nodes().into_iter().map(|name| name.to_string()).collect();
        for name in &before {
            cluster.done(Body::RegisterNode(old(node(name))));
        }
        assert_eq!(plan(&cluster), 0, "it may serve on whatever comes");
        cluster.deployed(GRAPH, stopping(on(count)));
        assert_eq!(cluster.schedule(), 1);
        let placement = cluster.state.graphs[&key(GRAPH)].placement.clone().unwrap();
        assert!(before.iter().all(|old| !placement.is_on(&name(old))), "{before:?} {placement:?}");
        assert_eq!(plan(&cluster), 0);
    }
    // Where no other one takes it, it stays.
    let mut cluster = cluster();
    cluster.deployed(GRAPH, on(1));
    cluster.schedule();
    let before = cluster.node_of(GRAPH);
    for number in 1..=5 {
        cluster.done(Body::RegisterNode(old(node(&format!("n{number}")))));
    }
    cluster.deployed(GRAPH, stopping(on(1)));
    assert_eq!((plan(&cluster), cluster.node_of(GRAPH)), (0, before));
}
