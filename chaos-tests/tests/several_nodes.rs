//! Several nodes: each joins, a graph is served by the node it is placed on, and the loss of another is seen and made
//! up for while it serves.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use chaos_tests::ctl::Ctl;
use chaos_tests::traffic::{Client, Load};
use chaos_tests::wait::{SOON, holds, until};

const NODES: [&str; 3] = ["n1", "n2", "n3"];
const ANSWER: &str = "hello from weft\n";

/// The example, as a graph and a host of this name.
fn hello(name: &str) -> Bundle {
    let bundle = Bundle::graph("hello").with("graph: hello", &format!("graph: {name}"));
    bundle.with("hello.localhost", &format!("{name}.localhost"))
}

/// Waits until `ctl node list` shows these states: on a busy machine, a node that lives may be given up for a moment.
async fn listed(ctl: &Ctl, states: [&str; 3]) {
    let expected: Vec<_> = NODES.iter().zip(states).map(|(name, state)| [*name, state]).collect();
    until(&format!("the nodes are listed as {states:?}"), SOON, async || {
        let table = ctl.done(&["node", "list"]).await;
        let rows = table.lines().skip(1).map(|row| row.split_whitespace().take(2).collect::<Vec<_>>());
        holds(rows.eq(expected.iter().copied()), table.clone())
    })
    .await;
}

/// Deploys a graph; the node that it is placed on, which serves it.
async fn deploy(cluster: &Cluster, name: &str) -> &'static str {
    let deployed = cluster.api().deploy_and_wait(&hello(name)).await;
    let mut homes = Vec::new();
    for node in NODES {
        if cluster.api().node(node).await.unwrap().graphs.contains(&deployed.graph) {
            homes.push(node);
        }
    }
    assert_eq!(homes.len(), 1, "{name} is on {homes:?}");
    let mut client = Client::new(cluster.ingress_address_of(homes[0]), &format!("{name}.localhost"));
    assert_eq!(client.get("/").await.body, ANSWER);
    homes[0]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loss_of_an_idle_node_is_seen_and_made_up_for_while_the_others_serve() {
    let mut cluster = Cluster::start_nodes(NODES.len()).await;
    let ctl = Ctl::new(&cluster);
    listed(&ctl, ["ready"; 3]).await;

    let first = deploy(&cluster, "hello").await;
    let second = deploy(&cluster, "second").await;
    assert_ne!(first, second, "graphs are spread");
    let idle = *NODES.iter().find(|name| ![first, second].contains(name)).unwrap();
    let loads = [(first, "hello.localhost"), (second, "second.localhost")]
        .map(|(node, host)| Load::start(cluster.ingress_address_of(node), host, "/", 2));

    for _ in 0..2 {
        cluster.agent_named(idle).kill();
        listed(&ctl, NODES.map(|name| if name == idle { "down" } else { "ready" })).await;
        cluster.agent_named(idle).start().await;
        listed(&ctl, ["ready"; 3]).await;
    }
    assert_eq!(deploy(&cluster, "third").await, idle, "the node that came back takes the next graph");

    for load in loads {
        assert!(load.stop_all_good(100).await.iter().all(|exchange| exchange.good() == Some(ANSWER)));
    }
}
