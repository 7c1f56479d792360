//! A process that stands still for a while and goes on is neither lost nor believed: what changed meanwhile is made up
//! for, and what ran runs.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use chaos_tests::traffic::Load;
use chaos_tests::wait::{SOON, until};
use proto::weft::graph::v1::graph_status::State;

fn revision(greeting: &str) -> Bundle {
    Bundle::graph("faulty").with("from config", greeting)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_paused_is_unknown_and_then_takes_what_it_missed() {
    let cluster = Cluster::start().await;
    let api = cluster.api();
    api.deploy_and_wait(&revision("one")).await;
    cluster.agent.pause();
    until("the graph's state is unknown", SOON, async || {
        match api.status("default/faulty").await.unwrap().state {
            Some(State::Unknown(_)) => Ok(()),
            other => Err(other),
        }
    })
    .await;
    // What is deployed meanwhile is committed, and waits.
    let deployed = api.deploy(&revision("two")).await.unwrap();
    assert_eq!(deployed.revision, 2);
    api.deploy(&Bundle::graph("hello")).await.unwrap();
    cluster.agent.resume();
    api.serving(&deployed.graph, deployed.generation).await;
    let body = cluster.client("faulty.localhost").get("/config").await.body;
    assert_eq!(body, "config=two variable=from variables\n");
    api.serving("default/hello", 0).await;
    assert_eq!(cluster.client("hello.localhost").get("/").await.body, "hello from weft\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_paused_goes_on_where_it_was() {
    let cluster = Cluster::start().await;
    let api = cluster.api();
    api.deploy_and_wait(&revision("one")).await;
    let load = Load::start(cluster.ingress_address(), "faulty.localhost", "/config", 4);
    cluster.control_plane.pause();
    // Asked while it stands still; answered when it goes on.
    let bundle = revision("two");
    let asked = api.deploy_as(&bundle, "asked-in-the-pause");
    let resume = async {
        let before = load.answers();
        until("load in the pause", SOON, async || match load.answers() - before {
            count if count > 200 => Ok(()),
            count => Err(count),
        })
        .await;
        cluster.control_plane.resume();
    };
    let (deployed, ()) = tokio::join!(asked, resume);
    let deployed = deployed.unwrap();
    assert_eq!(deployed.revision, 2);
    api.serving(&deployed.graph, deployed.generation).await;
    let again = api.deploy_as(&bundle, "asked-in-the-pause").await.unwrap();
    assert_eq!(again.revision, 2, "it is applied once");
    load.stop_all_good(200).await;
}
