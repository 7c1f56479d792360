//! The scheduler: which graph goes where, and why not.

use cluster::command::Body;
use cluster::schedule::{explain, schedule};
use model::node::NodeState;
use model::unit::ByteSize;

use crate::support::{Cluster, key, linked, linked_with_database, name, node};

fn down(cluster: &mut Cluster, text: &str) {
    cluster.done(Body::SetNodeState { node: name(text), state: NodeState::Down, why: "lost".to_owned() });
}

fn why(cluster: &Cluster, graph: &str) -> Vec<String> {
    explain(&cluster.state, &cluster.state.graphs[&key(graph)])
}

#[test]
fn the_node_with_the_fewest_graphs_is_next() {
    let mut cluster = Cluster::new();
    for number in 0..6 {
        cluster.deployed(&format!("sales/g{number}"), linked(1));
    }
    assert_eq!(cluster.schedule(), 6);
    let on = |node: &str| cluster.state.graphs.values().filter(|g| g.node == Some(name(node))).count();
    assert_eq!((on("n1"), on("n2")), (3, 3));
}

#[test]
fn a_planned_state_plans_to_nothing() {
    let mut cluster = Cluster::new();
    cluster.deployed("sales/crm", linked(1));
    assert_eq!(cluster.schedule(), 1);
    assert_eq!(schedule(&cluster.state), []);
    // A new revision stays where the graph is.
    cluster.deployed("sales/crm", linked(2));
    assert_eq!(schedule(&cluster.state), []);
    assert_eq!(cluster.node_of("sales/crm").as_deref(), Some("n1"));
}

#[test]
fn a_graph_waits_for_a_node_that_fits() {
    let mut cluster = Cluster::new();
    let mut plain = node("n3");
    plain.capabilities.clear();
    cluster.done(Body::RegisterNode(plain));
    let mut small = node("n4");
    small.capacity.memory_bytes = 1 << 20;
    cluster.done(Body::RegisterNode(small));
    down(&mut cluster, "n1");
    down(&mut cluster, "n2");
    cluster.deployed("sales/crm", linked_with_database(1, None));
    assert_eq!(schedule(&cluster.state), []);
    assert_eq!(
        why(&cluster, "sales/crm"),
        ["n1 no: down", "n2 no: down", "n3 no: offers no sqlite", "n4 no: has 1 MiB, needs 64 MiB"]
    );
    // Without the database it fits where none is offered.
    cluster.deployed("sales/crm", linked(1));
    assert_eq!(why(&cluster, "sales/crm")[2], "n3 fits: it is placed at the next pass");
    assert_eq!(cluster.schedule(), 1);
    assert_eq!(cluster.node_of("sales/crm").as_deref(), Some("n3"));
}

#[test]
fn without_a_node_the_reason_is_that() {
    let mut cluster = Cluster::new();
    cluster.deployed("sales/crm", linked(1));
    cluster.state.nodes.clear();
    assert_eq!(why(&cluster, "sales/crm"), ["no node has joined: start a node agent"]);
    assert_eq!(schedule(&cluster.state), []);
}

#[test]
fn memory_counts_every_component_of_an_instance() {
    let mut cluster = Cluster::new();
    let mut large = linked(1);
    let component = large.components.values().next().unwrap().clone();
    for number in 0..9 {
        let mut more = component.clone();
        more.settings.limits.memory = ByteSize::mebibytes(128);
        large.components.insert(format!("more{number}").parse().unwrap(), more);
    }
    cluster.deployed("sales/large", large);
    assert_eq!(schedule(&cluster.state), []);
    assert_eq!(why(&cluster, "sales/large")[0], "n1 no: has 1024 MiB, needs 1216 MiB");
}
