//! The scheduler by itself, for `cargo xtask bench schedule`: prints how long it takes from nothing, for one more graph and
//! for a node that is lost, as JSON. `schedule_load GRAPHS NODES [REPLICAS [RESERVED]]`; each graph has five components,
//! each on one node or on so many, of which one in five graphs requires a label for one; with so many instances reserved for
//! the first of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a measurement")]
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "it measures time")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use cluster::command::{Body, Deploy, DeployOrigin};
use cluster::schedule::Planner;
use cluster::{Command, FEATURE_LEVEL, Outcome, State};
use model::digest::Digest;
use model::graph::{Artifact, GraphSpec, Settings, Wiring};
use model::linked::{LinkedComponent, LinkedGraph, Origin};
use model::name::NodeName;
use model::node::{AGENT_LEVEL, Capacity, NodeDescription, NodeState};
use model::reserve::Reserves;

const COMPONENTS: usize = 5;
/// Rounds of each single event.
const EVENTS: usize = 50;

/// What is asked for each graph.
#[derive(Clone, Copy)]
struct Shape {
    replicas: u32,
    reserved: u32,
}

fn main() {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<usize>().expect("a number"));
    let (graphs, nodes) = (numbers.next().expect("graphs"), numbers.next().expect("nodes"));
    let shape = Shape {
        replicas: u32::try_from(numbers.next().unwrap_or(1)).expect("few replicas"),
        reserved: u32::try_from(numbers.next().unwrap_or(0)).expect("few instances"),
    };
    let mut state = State::default();
    let apply = |state: &mut State, body: Body| {
        let outcome = state.apply(&Command { now_ms: 1, request: None, body });
        assert!(!matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    };
    let init = Body::InitCluster { cluster: "bench".to_owned().try_into().unwrap(), level: FEATURE_LEVEL };
    apply(&mut state, init);
    apply(&mut state, Body::PutArtifact(artifact()));
    for number in 0..nodes {
        apply(&mut state, Body::RegisterNode(node(number)));
    }
    for number in 0..graphs {
        let deploy = deploy(&state, number, shape);
        apply(&mut state, deploy);
    }
    let started = Instant::now();
    let mut planner = Planner::default();
    let mut plan = |state: &State| planner.plan(state, state.now_ms, &BTreeSet::new());
    let places = plan(&state);
    let from_nothing = started.elapsed();
    assert_eq!(places.len(), graphs, "everything is placed");
    apply(&mut state, Body::Place(places));
    // Who leads plans after each change.
    assert_eq!(plan(&state), []);
    let started = Instant::now();
    assert_eq!(plan(&state), []);
    let nothing = started.elapsed();

    let (mut deploys, mut losses) = (Vec::new(), Vec::new());
    for number in 0..EVENTS {
        let deploy = deploy(&state, graphs + number, shape);
        apply(&mut state, deploy);
        let started = Instant::now();
        let places = plan(&state);
        deploys.push(started.elapsed());
        apply(&mut state, Body::Place(places));
        assert_eq!(plan(&state), []);
        let lost: NodeName = node_name(number * nodes / EVENTS);
        let set = |state| Body::SetNodeState { node: lost.clone(), state, why: String::new() };
        apply(&mut state, set(NodeState::Down));
        let started = Instant::now();
        let places = plan(&state);
        losses.push(started.elapsed());
        assert!(!places.is_empty() || graphs < nodes, "what was there is moved");
        if !places.is_empty() {
            apply(&mut state, Body::Place(places));
        }
        assert_eq!(plan(&state), []);
        apply(&mut state, set(NodeState::Ready));
        assert_eq!(plan(&state), []);
    }
    let worst = |times: &[std::time::Duration]| times.iter().max().map_or(0.0, |time| time.as_secs_f64() * 1e3);
    println!(
        "{}",
        serde_json::json!({
            "from_nothing_ms": from_nothing.as_secs_f64() * 1e3,
            "nothing_ms": nothing.as_secs_f64() * 1e3,
            "deploy_most_ms": worst(&deploys),
            "loss_most_ms": worst(&losses),
        })
    );
}

fn artifact() -> Artifact {
    Artifact { digest: Digest::from_bytes([7; 32]), size: 1 }
}

fn node_name(number: usize) -> NodeName {
    format!("node-{number}").parse().unwrap()
}

fn node(number: usize) -> NodeDescription {
    let zone = format!("zone-{}", number % 3);
    let disk = if number.is_multiple_of(4) { "ssd" } else { "hdd" };
    NodeDescription {
        name: node_name(number),
        uid: format!("uid-{number}").try_into().unwrap(),
        api_address: "10.0.0.1:7200".to_owned(),
        ingress_address: "10.0.0.1:8000".to_owned(),
        version: "1".to_owned(),
        labels: [("zone".to_owned(), zone), ("disk".to_owned(), disk.to_owned())].into(),
        capabilities: vec!["sqlite".to_owned()],
        capacity: Capacity { memory_bytes: 8 << 30, cpus: 4, instances: 1_000 },
        level: AGENT_LEVEL,
    }
}

fn deploy(state: &State, number: usize, shape: Shape) -> Body {
    let component = LinkedComponent {
        origin: Origin::Graph,
        artifact: artifact(),
        exports: Vec::new(),
        settings: Settings::default(),
    };
    let components = (0..COMPONENTS).map(|at| (format!("c{at}").parse().unwrap(), component.clone()));
    let mut linked = LinkedGraph { components: components.collect(), ..LinkedGraph::default() };
    if shape.replicas > 1 {
        linked.replicas = linked.components.keys().map(|name| (name.clone(), shape.replicas)).collect();
    }
    if shape.reserved > 0 {
        linked.reserves.instances.insert("c0".parse().unwrap(), shape.reserved);
    }
    if number.is_multiple_of(5) {
        linked.require.insert("c4".parse().unwrap(), [("disk".to_owned(), "ssd".to_owned().into())].into());
    }
    let spec = GraphSpec {
        labels: BTreeMap::new(),
        wiring: Wiring::Inferred,
        ingress: Vec::new(),
        components: BTreeMap::new(),
        capabilities: BTreeMap::new(),
        links: Vec::new(),
        require: BTreeMap::new(),
        replicas: BTreeMap::new(),
        each_node: BTreeSet::new(),
        scaling: BTreeMap::new(),
        wishes: BTreeMap::new(),
        reserves: Reserves::default(),
        rollout: None,
    };
    Body::Deploy(Box::new(Deploy {
        key: format!("default/g{number}").parse().unwrap(),
        uid: format!("graph-{number}").try_into().unwrap(),
        manifest: String::new(),
        spec,
        linked,
        policies_at: state.policies_at,
        base: None,
        origin: DeployOrigin::Deploy,
        by_steps: false,
    }))
}
