//! Where graphs of any form go, while nodes come and go: what is planned is planned once, what is asked for holds, and what
//! need not move does not.

use std::collections::{BTreeMap, BTreeSet};

use cluster::command::{Body, LabelNode, TaintNode};
use cluster::schedule::{preview, schedule};
use cluster::state::GraphRecord;
use model::condition::Condition;
use model::linked::{Link, LinkOrigin, LinkedGraph, Target};
use model::name::{ComponentName, NodeName};
use model::node::{Admission, NodeState};
use model::placement::{LinkTerms, Locality, Wishes};
use proptest::collection;
use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::test_runner::TestCaseError;

use crate::support::{Cluster, linked, name, node, random};

const NODES: usize = 6;
const GRAPHS: usize = 4;
const MEMBERS: usize = 4;

/// One component: the disk it requires, the zone that it prefers or avoids, whether it tolerates the taint that there is, on
/// how many nodes it should run, and whether it must be with the one before it.
#[derive(Debug, Clone)]
struct Member {
    disk: Option<bool>,
    zone: Option<(u8, bool)>,
    tolerates: bool,
    replicas: u32,
    is_joined: bool,
}

#[derive(Debug, Clone)]
enum Step {
    Deploy(usize, Vec<Member>),
    Disk(usize, bool),
    Zone(usize, u8),
    Taint(usize, bool),
    Lose(BTreeSet<usize>),
    Return(usize),
    Drain(usize),
    Open(usize),
    Serve,
}

fn member() -> impl Strategy<Value = Member> {
    let disk = proptest::option::weighted(0.3, any::<bool>());
    let zone = proptest::option::weighted(0.3, (0..3_u8, any::<bool>()));
    let tolerates = proptest::bool::weighted(0.3);
    (disk, zone, tolerates, prop_oneof![3 => 1..2_u32, 2 => 2..5_u32], any::<bool>()).prop_map(
        |(disk, zone, tolerates, replicas, is_joined)| Member { disk, zone, tolerates, replicas, is_joined },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..GRAPHS, collection::vec(member(), 1..=MEMBERS)).prop_map(|(graph, members)| Step::Deploy(graph, members)),
        1 => (0..NODES, any::<bool>()).prop_map(|(node, is_fast)| Step::Disk(node, is_fast)),
        1 => (0..NODES, 0..3_u8).prop_map(|(node, zone)| Step::Zone(node, zone)),
        1 => (0..NODES, any::<bool>()).prop_map(|(node, is_tainted)| Step::Taint(node, is_tainted)),
        2 => collection::btree_set(0..NODES, 1..3).prop_map(Step::Lose),
        2 => (0..NODES).prop_map(Step::Return),
        1 => (0..NODES).prop_map(Step::Drain),
        1 => (0..NODES).prop_map(Step::Open),
        3 => proptest::strategy::Just(Step::Serve),
    ]
}

fn component(number: usize) -> ComponentName {
    format!("c{number}").parse().unwrap()
}

fn node_name(number: usize) -> String {
    format!("n{number}")
}

fn disk(is_fast: bool) -> (String, String) {
    ("disk".to_owned(), if is_fast { "ssd" } else { "hdd" }.to_owned())
}

fn required_disk(is_fast: bool) -> (String, Condition) {
    let (label, value) = disk(is_fast);
    (label, value.into())
}

fn taint() -> BTreeMap<String, String> {
    [("gpu".to_owned(), "only".to_owned())].into()
}

fn graph(members: &[Member]) -> LinkedGraph {
    let one = linked(1).components.into_values().next().unwrap();
    let mut made = LinkedGraph::default();
    for (number, member) in members.iter().enumerate() {
        made.components.insert(component(number), one.clone());
        if let Some(is_fast) = member.disk {
            made.require.insert(component(number), [required_disk(is_fast)].into());
        }
        let mut wishes = Wishes::default();
        match member.zone {
            Some((zone, true)) => wishes.prefer = [("zone".to_owned(), zone.to_string().into())].into(),
            Some((zone, false)) => wishes.avoid = [("zone".to_owned(), zone.to_string().into())].into(),
            None => {}
        }
        if member.tolerates {
            wishes.tolerate = taint();
        }
        if !wishes.is_empty() {
            made.wishes.insert(component(number), wishes);
        }
        if member.replicas > 1 {
            made.replicas.insert(component(number), member.replicas);
        }
        if let Some(before) = number.checked_sub(1) {
            let interface: model::interface::InterfaceName = format!("a:b/c{number}@1.0.0").parse().unwrap();
            let locality = if member.is_joined { Locality::SameNode } else { Locality::Any };
            made.links.push(Link {
                from: component(before),
                interface: interface.clone(),
                to: Target::Component { name: component(number), export: interface },
                wiring: LinkOrigin::Explicit,
                functions: Vec::new(),
                terms: LinkTerms { locality, ..LinkTerms::default() },
            });
        }
    }
    made
}

/// What holds of a graph that can be placed: where it is.
fn holds(cluster: &Cluster, record: &GraphRecord) -> Result<(), TestCaseError> {
    let Ok(placement) = preview(&cluster.state, &record.linked, Some(record)) else { return Ok(()) };
    prop_assert_eq!(record.placement.as_ref(), Some(&placement), "it is where it can be");
    for name in placement.nodes() {
        let has_part = record.linked.members().any(|member| placement.runs_on(member, name));
        prop_assert!(has_part, "{} has nothing of it", name);
    }
    for member in record.linked.members() {
        let nodes: BTreeSet<&NodeName> = placement.nodes_of(member).collect();
        prop_assert_eq!(nodes.len(), placement.nodes_of(member).count(), "{} is twice on a node", member);
        let asked = record.linked.replicas.values().max().map_or(1, |replicas| *replicas as usize);
        prop_assert!(nodes.len() <= asked, "{} is on more nodes than any asks for", member);
    }
    for link in record.linked.links.iter().filter(|link| link.is_local()) {
        let Some(to) = link.to.member() else { continue };
        let nodes = |member| placement.nodes_of(member).collect::<BTreeSet<_>>();
        prop_assert_eq!(nodes(&link.from), nodes(to), "what must be on one node is on the same ones");
    }
    for (member, require) in &record.linked.require {
        for name in placement.nodes_of(member) {
            prop_assert!(cluster.state.nodes[name].meets(require), "{} on {} without its label", member, name);
        }
    }
    Ok(())
}

/// What is planned brings nothing new to a node whose taint it does not tolerate.
fn keeps_off(cluster: &Cluster) -> Result<(), TestCaseError> {
    for place in schedule(&cluster.state, cluster.state.now_ms) {
        let record = &cluster.state.graphs[&place.key];
        // Where a graph is already, a new revision may bring along what must be with the rest.
        let was_on = |name: &NodeName| record.placement.as_ref().is_some_and(|placed| placed.is_on(name));
        for member in record.linked.members() {
            let tolerates =
                record.linked.wishes.get(member).is_some_and(|wishes| wishes.tolerates("gpu", "only"));
            for name in place.placement.nodes_of(member).filter(|name| !was_on(name)) {
                let is_tainted = !cluster.state.nodes[name].taints.is_empty();
                prop_assert!(tolerates || !is_tainted, "{} comes to {}", member, name);
            }
        }
    }
    Ok(())
}

fn serve(cluster: &mut Cluster) {
    for number in 0..NODES {
        if cluster.state.is_ready(&name(&node_name(number))) {
            cluster.serves(&node_name(number));
        }
    }
}

proptest! {
    #![proptest_config(random(512))]

    #[test]
    fn what_is_planned_holds_and_is_planned_once(steps in collection::vec(step(), 1..40)) {
        let mut cluster = Cluster::new();
        cluster.done(Body::RaiseFeatureLevel { level: cluster::FEATURE_LEVEL });
        for number in 0..NODES {
            cluster.done(Body::RegisterNode(node(&node_name(number))));
        }
        for step in steps {
            let before = cluster.state.clone();
            let mut only_lost = None;
            match step {
                Step::Deploy(graph_number, members) => {
                    cluster.deployed(&format!("sales/g{graph_number}"), graph(&members));
                }
                Step::Disk(number, is_fast) => {
                    let set = [disk(is_fast)].into();
                    cluster.done(Body::LabelNode(LabelNode { node: name(&node_name(number)), set, unset: [].into() }));
                }
                Step::Zone(number, zone) => {
                    let set = [("zone".to_owned(), zone.to_string())].into();
                    cluster.done(Body::LabelNode(LabelNode { node: name(&node_name(number)), set, unset: [].into() }));
                }
                Step::Taint(number, is_tainted) => {
                    let (set, unset) = if is_tainted { (taint(), [].into()) } else { ([].into(), ["gpu".to_owned()].into()) };
                    let is_planned = schedule(&cluster.state, cluster.state.now_ms).is_empty();
                    cluster.done(Body::TaintNode(TaintNode { node: name(&node_name(number)), set, unset }));
                    // A taint gives nothing that is placed a reason to move.
                    only_lost = (is_planned && is_tainted).then(BTreeSet::new);
                }
                Step::Lose(numbers) => {
                    let is_planned = schedule(&cluster.state, cluster.state.now_ms).is_empty();
                    let lost: BTreeSet<NodeName> = numbers.iter().map(|number| name(&node_name(*number))).collect();
                    let nodes = lost.iter().cloned().collect();
                    cluster.done(Body::LoseNodes { nodes, why: String::new() });
                    only_lost = is_planned.then_some(lost);
                }
                Step::Return(number) => cluster.done(Body::RegisterNode(node(&node_name(number)))),
                Step::Drain(number) => cluster.drain(&node_name(number)),
                Step::Open(number) => cluster.admit(&node_name(number), Admission::Open),
                Step::Serve => serve(&mut cluster),
            }
            keeps_off(&cluster)?;
            cluster.schedule();
            prop_assert_eq!(schedule(&cluster.state, cluster.state.now_ms), [], "a planned state plans to nothing");
            for (key, record) in &cluster.state.graphs {
                holds(&cluster, record)?;
                let Some(lost) = &only_lost else { continue };
                let was = &before.graphs[key];
                let had = was.placement.iter().any(|placed| lost.iter().any(|node| placed.is_on(node)));
                // One that could not be placed waits for any change; all others have no reason.
                let waited = preview(&before, &was.linked, Some(was)).is_err();
                prop_assert!(had || waited || was.placement == record.placement, "{} moved", key);
            }
        }
    }

    #[test]
    fn with_room_for_all_everything_is_on_as_many_nodes_as_it_asks_for(
        all in collection::vec(collection::vec(member(), 1..=MEMBERS), 1..4),
        zones in collection::vec(0..3_u8, NODES),
    ) {
        let mut cluster = Cluster::new();
        cluster.done(Body::RaiseFeatureLevel { level: cluster::FEATURE_LEVEL });
        for (number, zone) in zones.iter().enumerate() {
            let labels = [("zone".to_owned(), zone.to_string())].into();
            let described = node(&node_name(number));
            cluster.done(Body::RegisterNode(model::node::NodeDescription { labels, ..described }));
        }
        // Nothing is required and no node is tainted, so that every node takes everything.
        for (number, members) in all.iter().enumerate() {
            let members: Vec<Member> = members.iter().map(|member| Member { disk: None, ..*member }).collect();
            cluster.deployed(&format!("sales/g{number}"), graph(&members));
        }
        cluster.schedule();
        let zone_of = |name: &NodeName| cluster.state.nodes[name].label("zone").unwrap_or_default().to_owned();
        let zones: BTreeSet<String> = cluster.state.nodes.keys().map(zone_of).collect();
        for record in cluster.state.graphs.values() {
            let placement = record.placement.as_ref().unwrap();
            for member in record.linked.members() {
                let wanted = record.linked.replicas.get(member).copied().unwrap_or(1) as usize;
                let nodes: Vec<&NodeName> = placement.nodes_of(member).collect();
                prop_assert!(nodes.len() >= wanted, "{} on {:?}", member, nodes);
                let mut by_zone: BTreeMap<String, usize> = BTreeMap::new();
                for name in &nodes {
                    *by_zone.entry(zone_of(name)).or_default() += 1;
                }
                // A zone has a second one only once every zone with room has one.
                let in_zone = |zone: &String| cluster.state.nodes.keys().filter(|name| zone_of(name) == **zone).count();
                let fewest = zones
                    .iter()
                    .filter(|zone| by_zone.get(*zone).copied().unwrap_or(0) < in_zone(zone))
                    .map(|zone| by_zone.get(zone).copied().unwrap_or(0))
                    .min();
                let most = by_zone.values().max().copied().unwrap_or(0);
                prop_assert!(fewest.is_none_or(|fewest| most <= fewest + 1), "{:?}", by_zone);
            }
        }
        prop_assert!(cluster.state.nodes.values().all(|node| node.state == NodeState::Ready));
    }
}
