//! What is reserved on nodes: where there is room for it, and what becomes of those of a lower priority.
//!
//! A node of these tests has a GiB for guests, of which three quarters can be reserved: twelve instances of 64 MiB.

use cluster::command::Body;
use cluster::feature::RESERVES;
use cluster::schedule::{Reservations, explain, forecast, missing, preview, schedule};
use cluster::state::GraphRecord;
use cluster::view;
use model::id::GraphKey;
use model::linked::LinkedGraph;
use model::name::NodeName;
use model::node::{KNOWS_RESERVES, NodeDescription};
use model::reserve::{Priority, Reserve, Reserves};
use model::status::GraphState;
use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};

use crate::support::{Cluster, key, linked, linked_with_database, name, node, random, rollout, spec};

/// Instances that can be reserved on a node.
const ROOM: u32 = 12;

fn cluster(nodes: u32) -> Cluster {
    let mut cluster = Cluster { now_ms: 1_000, ..Cluster::default() };
    let level = cluster::FEATURE_LEVEL;
    cluster.done(Body::InitCluster { cluster: "cluster-1".to_owned().try_into().unwrap(), level });
    for number in 0..10 {
        cluster.done(Body::PutArtifact(crate::support::artifact(number)));
    }
    for number in 1..=nodes {
        cluster.done(Body::RegisterNode(node(&format!("n{number}"))));
    }
    cluster
}

fn reserves(priority: u32, instances: u32) -> Reserves {
    let instances = [("app".parse().unwrap(), instances)].into();
    Reserves { priority: Priority::new(priority).unwrap(), instances }
}

fn reserving(priority: u32, instances: u32) -> LinkedGraph {
    LinkedGraph { reserves: reserves(priority, instances), ..linked(1) }
}

impl Cluster {
    fn settle(&mut self) {
        for _ in 0..20 {
            if self.schedule() == 0 {
                return;
            }
        }
        panic!("the scheduler does not come to rest");
    }

    /// Where a graph is, or that it is nowhere.
    fn on(&self, graph: &str) -> String {
        self.node_of(graph).unwrap_or_else(|| "nowhere".to_owned())
    }

    /// Where not all is kept, and why.
    fn unkept(&self, graph: &str) -> String {
        let status = view::status(&self.state, &key(graph)).unwrap();
        let line = |(node, why): (&NodeName, &String)| format!("{node}: {why}");
        status.unkept.iter().map(line).collect::<Vec<_>>().join("; ")
    }

    fn how(&self, graph: &str) -> GraphState {
        view::status(&self.state, &key(graph)).unwrap().state
    }
}

#[test]
fn a_node_that_is_full_is_not_said_to_fit_what_waits_for_the_next_pass() {
    let mut cluster = cluster(2);
    cluster.deployed("d/a", reserving(50, 12));
    cluster.settle();
    assert_eq!(cluster.on("d/a"), "n1");
    cluster.deployed("d/b", reserving(50, 6));
    let (key, record) = (key("d/b"), &cluster.state.graphs[&key("d/b")]);
    let lines = explain(&cluster.state, &key, record);
    assert!(lines[0].starts_with("n1 no: has room for 63 instances with 0B of the 6 "), "{lines:?}");
    assert_eq!(lines[1], "n2 fits: it is placed at the next pass");
}

/// Two nodes, of which the first has no room beside what is reserved for `d/a` and `d/b`, six instances each.
fn full() -> Cluster {
    let mut cluster = cluster(2);
    cluster.deployed("d/a", reserving(50, 6));
    cluster.settle();
    cluster.deployed("d/c", linked(1));
    cluster.settle();
    cluster.deployed("d/b", reserving(50, 6));
    cluster.settle();
    assert_eq!(["d/a", "d/b"].map(|graph| cluster.on(graph)), ["n1", "n1"]);
    cluster
}

/// With its component on this node and no other.
fn bound(linked: LinkedGraph, node: &str) -> LinkedGraph {
    let require = [("node".to_owned(), node.to_owned().into())].into();
    LinkedGraph { require: [("app".parse().unwrap(), require)].into(), ..linked }
}

#[test]
fn what_is_reserved_has_room_or_waits_for_it() {
    let mut cluster = cluster(2);
    for graph in ["d/a", "d/b", "d/c"] {
        cluster.deployed(graph, reserving(50, 7));
    }
    // One that reserves nothing goes where it likes.
    cluster.deployed("d/d", linked(1));
    cluster.settle();
    assert_eq!(["d/a", "d/b", "d/c", "d/d"].map(|graph| cluster.on(graph)), ["n1", "n2", "nowhere", "n1"]);
    let GraphState::Pending { why } = cluster.how("d/c") else { panic!("{:?}", cluster.how("d/c")) };
    assert_eq!(
        why[0],
        "n1 no: has room for 68 instances with 320Mi of the 7 instances with 448Mi reserved for app: at most 75 instances \
         with 768Mi are reserved there"
    );
    // Those of a lower priority, or of the same, do not make room for it.
    cluster.deployed("d/c", reserving(50, 5));
    cluster.settle();
    assert_eq!(cluster.on("d/c"), "n2");
    cluster.delete("d/a");
    cluster.deployed("d/e", reserving(0, 7));
    cluster.settle();
    assert_eq!(cluster.on("d/e"), "n1");
}

#[test]
fn a_higher_priority_makes_room_and_what_it_was_kept_for_goes_elsewhere() {
    let mut cluster = cluster(2);
    cluster.deployed("d/a", reserving(50, 10));
    cluster.settle();
    cluster.state_of("n2", model::node::NodeState::Down);
    cluster.deployed("d/z", reserving(80, 8));
    assert_eq!(cluster.schedule(), 1, "in one pass, the other goes in the next");
    assert_eq!(["d/a", "d/z"].map(|graph| cluster.on(graph)), ["n1", "n1"]);
    // There is nowhere else.
    cluster.settle();
    assert_eq!(cluster.on("d/a"), "n1");
    cluster.serves("n1");
    assert_eq!(cluster.how("d/z"), GraphState::Serving);
    assert_eq!(cluster.how("d/a"), GraphState::Serving, "it goes on serving");
    assert_eq!(cluster.unkept("d/z"), "");
    assert_eq!(
        cluster.unkept("d/a"),
        "n1: 10 instances with 256Mi of the 10 instances with 640Mi reserved there with priority 50: others come first in the \
         75 instances with 768Mi that can be, most of all those of d/z with priority 80"
    );
    // Another node has room.
    cluster.state_of("n2", model::node::NodeState::Ready);
    cluster.settle();
    assert_eq!(["d/a", "d/z"].map(|graph| cluster.on(graph)), ["n2", "n1"]);
}

#[test]
fn the_lowest_priority_makes_room_first() {
    let mut cluster = cluster(3);
    for (graph, priority) in [("d/a", 40), ("d/b", 30), ("d/c", 20)] {
        cluster.deployed(graph, reserving(priority, ROOM));
    }
    cluster.settle();
    cluster.deployed("d/z", reserving(35, ROOM));
    cluster.settle();
    assert_eq!(["d/a", "d/b", "d/c", "d/z"].map(|graph| cluster.on(graph)), ["n1", "n2", "n3", "n3"]);
    cluster.deployed("d/y", reserving(35, ROOM));
    cluster.settle();
    assert_eq!(["d/a", "d/b", "d/c", "d/y"].map(|graph| cluster.on(graph)), ["n1", "n2", "n3", "n2"]);
    cluster.deployed("d/x", reserving(35, ROOM));
    cluster.settle();
    assert_eq!(cluster.on("d/x"), "nowhere", "only one of a higher priority is left");
}

#[test]
fn a_revision_that_reserves_more_goes_where_there_is_room_and_stays_where_there_is_none() {
    let mut cluster = full();
    cluster.deployed("d/b", reserving(50, 7));
    cluster.settle();
    assert_eq!(["d/a", "d/b"].map(|graph| cluster.on(graph)), ["n1", "n2"]);
    cluster.deployed("d/a", reserving(50, ROOM + 1));
    cluster.settle();
    assert_eq!(cluster.on("d/a"), "n1", "what serves is not stopped");
    // With data it does not move in any case.
    let with_data = LinkedGraph { reserves: reserves(10, 6), ..linked_with_database(1, None) };
    cluster.deployed("d/d", with_data.clone());
    cluster.settle();
    assert_eq!(cluster.on("d/d"), "nowhere");
}

#[test]
fn replicas_are_on_nodes_with_room_and_none_is_given_up_for_it() {
    let mut cluster = cluster(3);
    let replicated = |priority, instances| LinkedGraph {
        replicas: [("app".parse().unwrap(), 2)].into(),
        ..reserving(priority, instances)
    };
    cluster.deployed("d/a", reserving(50, 8));
    cluster.settle();
    cluster.deployed("d/b", replicated(50, 8));
    cluster.settle();
    assert_eq!(["d/a", "d/b"].map(|graph| cluster.on(graph)), ["n1", "n2, n3"]);
    cluster.deployed("d/z", bound(reserving(90, 8), "n2"));
    cluster.settle();
    assert_eq!(["d/a", "d/b", "d/z"].map(|graph| cluster.on(graph)), ["n1", "n2, n3", "n2"]);
    assert_ne!(cluster.unkept("d/b"), "");
    // Nor is one given up where its node is drained and no other has room.
    cluster.drain("n3");
    cluster.settle();
    assert_eq!(cluster.on("d/b"), "n1, n2");
    cluster.admit("n3", model::node::Admission::Open);
    cluster.settle();
    assert!(cluster.on("d/b").contains("n3"), "{}", cluster.on("d/b"));
}

#[test]
fn agents_of_earlier_versions_get_nothing_reserved_and_earlier_members_could_not_keep_it() {
    let mut cluster = cluster(0);
    let old = NodeDescription { level: KNOWS_RESERVES - 1, ..node("n1") };
    cluster.done(Body::RegisterNode(old));
    cluster.deployed("d/a", reserving(50, 1));
    cluster.deployed("d/b", linked(1));
    cluster.settle();
    assert_eq!(["d/a", "d/b"].map(|graph| cluster.on(graph)), ["nowhere", "n1"]);
    // Nor does what is there already get it.
    cluster.deployed("d/b", reserving(50, 1));
    cluster.settle();
    assert_eq!(
        cluster.unkept("d/b"),
        "n1: nothing: its agent is of an earlier version, which reserves nothing"
    );
    cluster.done(Body::RegisterNode(node("n2")));
    cluster.settle();
    assert_eq!(["d/a", "d/b"].map(|graph| cluster.on(graph)), ["n2", "n2"]);
    let mut deploy = cluster.deploy("d/a", reserving(50, 1));
    deploy.spec.reserves = reserves(50, 1);
    assert_eq!(Body::Deploy(Box::new(deploy)).level(), RESERVES);
    assert_eq!(Body::Relink(Box::new(cluster.relink("d/a", reserving(50, 1)))).level(), RESERVES);
}

#[test]
fn a_candidate_has_what_is_kept_for_its_graph() {
    let mut cluster = cluster(1);
    cluster.deployed("d/a", reserving(50, ROOM));
    cluster.settle();
    cluster.serves("n1");
    let mut deploy = cluster.deploy("d/a", LinkedGraph { reserves: reserves(50, ROOM), ..linked(2) });
    deploy.spec = model::graph::GraphSpec { rollout: Some(rollout(2)), ..spec() };
    deploy.by_steps = true;
    cluster.done(Body::Deploy(Box::new(deploy)));
    cluster.settle();
    assert_eq!(cluster.on("d/a@candidate"), "n1");
    cluster.serves("n1");
    assert_eq!(cluster.how("d/a"), GraphState::Serving);
    let parts = view::parts(&cluster.state, &name("n1"));
    let reserved: Vec<_> = parts.iter().map(|part| (part.key.to_string(), part.reserve.0.instances)).collect();
    assert_eq!(reserved, [("d/a".to_owned(), 12), ("d/a@candidate".to_owned(), 0)]);
}

/// A graph of two components that go where they must, each with so many instances reserved.
fn parted(first: (&str, u32), second: (&str, u32)) -> LinkedGraph {
    let component = linked(1).components.into_values().next().unwrap();
    let mut made = LinkedGraph::default();
    for (member, (zone, instances)) in [("a", first), ("b", second)] {
        let member: model::name::ComponentName = member.parse().unwrap();
        made.components.insert(member.clone(), component.clone());
        if !zone.is_empty() {
            made.require.insert(member.clone(), [("zone".to_owned(), zone.to_owned().into())].into());
        }
        if instances > 0 {
            made.reserves.instances.insert(member, instances);
        }
    }
    made
}

fn in_zone(cluster: &mut Cluster, node: &str, zone: &str) {
    let set = [("zone".to_owned(), zone.to_owned())].into();
    cluster.done(Body::LabelNode(cluster::command::LabelNode { node: name(node), set, unset: [].into() }));
}

#[test]
fn parts_of_one_graph_have_room_beside_each_other_and_the_scheduler_comes_to_rest() {
    let mut cluster = cluster(2);
    for node in ["n1", "n2"] {
        in_zone(&mut cluster, node, "z");
    }
    cluster.deployed("d/a", parted(("z", 8), ("z", 8)));
    cluster.settle();
    let placement = cluster.state.graphs[&key("d/a")].placement.clone().unwrap();
    assert_eq!(placement.nodes().len(), 2, "{placement}");
    // A loose one and one that is bound, on one node that has not room for both.
    cluster.deployed("d/a", parted(("", 8), ("z", 8)));
    cluster.settle();
    // What cannot be elsewhere stays.
    in_zone(&mut cluster, "n2", "y");
    cluster.deployed("d/a", parted(("z", 8), ("z", 8)));
    cluster.settle();
    assert_ne!(cluster.unkept("d/a"), "");
}

#[test]
fn a_component_and_what_it_calls_have_room_once_where_they_are_together_and_apart_where_they_may_be() {
    let linked_parts = |replicas: [u32; 2]| {
        let mut made = parted(("", 4), ("", 8));
        for (member, count) in ["a", "b"].into_iter().zip(replicas).filter(|(_, count)| *count > 1) {
            made.replicas.insert(member.parse().unwrap(), count);
        }
        let interface: model::interface::InterfaceName = "a:b/c@1.0.0".parse().unwrap();
        made.links.push(model::linked::Link {
            from: "a".parse().unwrap(),
            interface: interface.clone(),
            to: model::linked::Target::Component { name: "b".parse().unwrap(), export: interface },
            wiring: model::linked::LinkOrigin::Explicit,
            functions: Vec::new(),
            terms: model::placement::LinkTerms::default(),
        });
        made
    };
    let mut cluster = cluster(2);
    cluster.deployed("d/a", linked_parts([2, 2]));
    cluster.settle();
    let placement = cluster.state.graphs[&key("d/a")].placement.clone().unwrap();
    for member in ["a", "b"] {
        assert_eq!(placement.nodes_of(&member.parse().unwrap()).count(), 2, "{member}: {placement}");
    }
    assert_eq!(cluster.unkept("d/a"), "");
    // Called from the other node as well, it has instances of its own, for which there is no room beside the others.
    let mut other = self::cluster(2);
    other.deployed("d/a", linked_parts([2, 1]));
    other.settle();
    assert_eq!(other.on("d/a"), "nowhere");
}

#[test]
fn a_part_for_which_nothing_is_reserved_does_not_go_from_node_to_node() {
    let mut cluster = cluster(3);
    for node in ["n2", "n3"] {
        in_zone(&mut cluster, node, "gpu");
    }
    in_zone(&mut cluster, "n1", "cpu");
    // Both are full, with more than there is room for.
    for (graph, node) in [("d/x", "n2"), ("d/y", "n3")] {
        cluster.deployed(graph, bound(reserving(50, 6), node));
        cluster.settle();
        cluster.deployed(graph, bound(reserving(50, ROOM + 1), node));
    }
    cluster.deployed("d/a", parted(("cpu", 4), ("gpu", 0)));
    cluster.settle();
    assert_eq!(cluster.unkept("d/a"), "");
}

#[test]
fn what_was_on_a_lost_node_is_served_without_what_is_reserved_where_no_node_has_room() {
    let mut cluster = cluster(3);
    for graph in ["d/a", "d/b", "d/c"] {
        cluster.deployed(graph, reserving(50, 8));
        cluster.settle();
    }
    assert_eq!(["d/a", "d/b", "d/c"].map(|graph| cluster.on(graph)), ["n1", "n2", "n3"]);
    cluster.drain("n3");
    cluster.settle();
    assert_eq!(cluster.on("d/c"), "n1");
    assert_eq!((cluster.unkept("d/a"), cluster.unkept("d/b")), (String::new(), String::new()));
    assert!(
        cluster.unkept("d/c").starts_with("n1: 8 instances with 256Mi of the 8"),
        "{}",
        cluster.unkept("d/c")
    );
    // As soon as there is room it is kept.
    cluster.done(Body::RegisterNode(node("n4")));
    cluster.settle();
    assert_eq!((cluster.on("d/c"), cluster.unkept("d/c")), ("n4".to_owned(), String::new()));
}

#[test]
fn a_crowded_node_with_data_holds_only_what_has_its_data_there() {
    let mut cluster = cluster(3);
    let with_data = LinkedGraph { reserves: reserves(10, 6), ..linked_with_database(1, None) };
    cluster.deployed("d/a", with_data.clone());
    cluster.settle();
    cluster.serves("n1");
    assert_eq!(cluster.on("d/a"), "n1");
    cluster.admit("n2", model::node::Admission::Cordoned);
    cluster.admit("n3", model::node::Admission::Cordoned);
    cluster.deployed("d/z", reserving(90, ROOM));
    cluster.settle();
    assert_eq!(cluster.on("d/z"), "n1");
    assert_ne!(cluster.unkept("d/a"), "");
    for node in ["n2", "n3"] {
        cluster.admit(node, model::node::Admission::Open);
    }
    cluster.settle();
    assert_eq!(cluster.on("d/a"), "n1", "its data are there");
    // It is not held back in anything else.
    let more = |linked: LinkedGraph| {
        let component = linked.components.values().next().unwrap().clone();
        let mut linked = linked;
        linked.components.insert("far".parse().unwrap(), component);
        linked.replicas.insert("far".parse().unwrap(), 2);
        linked
    };
    cluster.deployed("d/a", more(with_data));
    cluster.settle();
    let placement = cluster.state.graphs[&key("d/a")].placement.clone().unwrap();
    assert_eq!(placement.nodes_of(&"far".parse().unwrap()).count(), 2, "{placement}");
}

#[test]
fn a_higher_priority_has_room_made_for_all_of_its_replicas() {
    let mut cluster = cluster(2);
    cluster.deployed("d/a", reserving(0, ROOM));
    cluster.settle();
    let replicated = LinkedGraph { replicas: [("app".parse().unwrap(), 2)].into(), ..reserving(90, 8) };
    cluster.deployed("d/z", replicated);
    cluster.settle();
    assert_eq!(cluster.on("d/z"), "n1, n2");
    let each = LinkedGraph { each_node: ["app".parse().unwrap()].into(), ..reserving(95, ROOM) };
    cluster.deployed("d/e", each);
    cluster.settle();
    assert_eq!(cluster.on("d/e"), "n1, n2");
    assert_eq!(cluster.on("d/z"), "n1, n2", "what serves is not stopped");
    // Those that have no room say so.
    let record = |graph: &str| cluster.state.graphs[&key(graph)].clone();
    let linked = LinkedGraph { replicas: [("app".parse().unwrap(), 2)].into(), ..reserving(20, 8) };
    let placement = model::placement::Placement::whole(name("n1"));
    let why = missing(&cluster.state, &linked, Some(&record("d/a")), &placement).unwrap();
    assert!(why.contains("n2 no: has room for"), "{why}");
}

#[test]
fn a_plan_says_where_a_revision_with_more_reserved_goes_and_what_makes_room_for_it() {
    let mut cluster = full();
    let record = &cluster.state.graphs[&key("d/b")];
    let foreseen = preview(&cluster.state, &reserving(50, 7), Some(record)).unwrap();
    assert_eq!(foreseen.to_string(), "n2");
    let same = preview(&cluster.state, &reserving(50, 6), Some(record)).unwrap();
    assert_eq!(same.to_string(), "n1");
    // A lower priority alone moves nothing.
    let lower = preview(&cluster.state, &reserving(10, 6), Some(record)).unwrap();
    assert_eq!(lower.to_string(), "n1");
    // The one that makes room is before it by name, so that it goes in a pass of its own.
    let deploy = cluster.deploy("d/z", reserving(80, ROOM));
    cluster.admit("n2", model::node::Admission::Cordoned);
    let moves = |cluster: &Cluster, deploy| {
        let places = forecast(&cluster.state, deploy, cluster.state.now_ms);
        let line = |place: &cluster::command::Place| format!("{} to {}", place.key, place.placement);
        places.iter().map(line).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(moves(&cluster, Body::Deploy(Box::new(deploy.clone()))), "d/z to n1");
    cluster.done(Body::RegisterNode(node("n3")));
    cluster.deployed("d/y", reserving(70, ROOM));
    cluster.settle();
    cluster.admit("n2", model::node::Admission::Open);
    assert_eq!(cluster.on("d/y"), "n3");
    assert_eq!(moves(&cluster, Body::Deploy(Box::new(deploy))), "d/z to n2");
}

#[test]
fn nothing_is_moved_for_it_off_nodes_that_are_not_heard_of() {
    let mut cluster = cluster(4);
    for node in ["n1", "n2", "n3"] {
        in_zone(&mut cluster, node, "z");
    }
    cluster.admit("n4", model::node::Admission::Cordoned);
    cluster.deployed("d/a", reserving(50, 4));
    cluster.settle();
    for node in ["n2", "n3"] {
        cluster.admit(node, model::node::Admission::Cordoned);
    }
    cluster.deployed("d/b", reserving(50, 8));
    cluster.settle();
    assert_eq!(["d/a", "d/b"].map(|graph| cluster.on(graph)), ["n1", "n1"]);
    let lost = ["n1", "n2", "n3"].map(name).to_vec();
    cluster.done(Body::LoseNodes { nodes: lost, why: "a test".to_owned() });
    cluster.admit("n4", model::node::Admission::Open);
    cluster.deployed("d/a", reserving(50, 5));
    cluster.settle();
    assert_eq!(["d/a", "d/b"].map(|graph| cluster.on(graph)), ["n1", "n1"], "their zone is cut off");
    assert_ne!(cluster.unkept("d/b"), "");
    cluster.state_of("n1", model::node::NodeState::Ready);
    cluster.settle();
    assert_eq!(["d/a", "d/b"].map(|graph| cluster.on(graph)), ["n1", "n4"]);
}

/// Graphs by their priority, the instances that they reserve, on how many nodes they are, and what is done with them.
fn graphs() -> impl Strategy<Value = Vec<(u8, u32, u32, u8)>> {
    proptest::collection::vec((0_u8..4, 1_u32..=ROOM, 1_u32..=2, any::<u8>()), 1..12)
}

proptest! {
    #![proptest_config(random(300))]

    #[test]
    fn whoever_waits_or_falls_short_has_no_room_anywhere(nodes in 1_u32..5, graphs in graphs()) {
        let mut cluster = cluster(nodes);
        for (at, (priority, instances, replicas, what)) in graphs.iter().enumerate() {
            let mut linked = reserving(u32::from(*priority), *instances);
            if *replicas > 1 {
                linked.replicas = [("app".parse().unwrap(), *replicas)].into();
            }
            // Some are deployed again, with another priority or more reserved.
            cluster.deployed(&format!("d/g{}", at % 7), linked);
            if what.is_multiple_of(3) {
                cluster.settle();
            }
            if what.is_multiple_of(11) {
                let node = format!("n{}", 1 + u32::from(*what) % nodes);
                let state = if what.is_multiple_of(2) { model::node::NodeState::Down } else { model::node::NodeState::Ready };
                cluster.state_of(&node, state);
            }
        }
        for number in 1..=nodes {
            cluster.state_of(&format!("n{number}"), model::node::NodeState::Ready);
        }
        cluster.settle();
        let state = &cluster.state;
        prop_assert_eq!(schedule(state, state.now_ms), []);
        let reservations = Reservations::of(&state.graphs);
        let kept = |graph: &GraphKey, record: &GraphRecord| {
            let placement = record.placement.as_ref();
            placement.is_none_or(|now| reservations.unkept(state, graph, &record.linked, now).is_empty())
        };
        let of = |node: &NodeName, priority: Priority| {
            let on = state.graphs.values().filter(|record| record.is_on(node) && record.linked.reserves.priority >= priority);
            on.map(|record| record.linked.reserves.instances.values().sum::<u32>()).sum::<u32>()
        };
        for (graph, record) in &state.graphs {
            let reserves = &record.linked.reserves;
            let need: u32 = reserves.instances.values().sum();
            let has_room = |node: &&NodeName| !record.is_on(node) && of(node, reserves.priority) + need <= ROOM;
            let free = state.nodes.keys().find(has_room);
            match &record.placement {
                None => prop_assert!(free.is_none(), "{graph} waits, and {free:?} has room"),
                Some(placement) => {
                    let is_short = !kept(graph, record);
                    let count = record.linked.replicas.values().copied().max().unwrap_or(1);
                    let is_whole = placement.nodes().len() == usize::try_from(count).unwrap();
                    prop_assert!(!is_short || free.is_none(), "{graph} falls short, and {free:?} has room");
                    prop_assert!(is_whole || free.is_none(), "{graph} is on too few nodes, and {free:?} has room");
                }
            }
        }
        // What is kept on a node is never more than can be.
        for node in state.nodes.values() {
            let most = Reserve::of_node(node.description.capacity);
            let whole = state.graphs.iter().filter(|(graph, record)| {
                record.is_on(&node.description.name) && kept(graph, record)
            });
            let kept = whole.fold(Reserve::default(), |all, (_, record)| all.and(record.linked.reserve_together(|_| true)));
            prop_assert!(most.holds(kept), "{} keeps {kept}", node.description.name);
        }
    }
}
