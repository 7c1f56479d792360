//! Components that are scaled by their calls: there are more nodes where more is asked, fewer again once these are enough,
//! nobody who asks notices, and where nobody asks there is no instance.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Instant;

use chaos_tests::api::{Api, shown};
use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use chaos_tests::ctl::{Ctl, argument};
use chaos_tests::traffic::{Client, Load, all_good};
use chaos_tests::wait::{SOON, holds, until};
use proto::weft::graph::v1 as wire;

const GRAPH: &str = "default/faulty";
const HOST: &str = "faulty.localhost";
/// Takes so long that as many are under way as there are connections.
const SLOW: &str = "/sleep?ms=200";
const CONNECTIONS: usize = 12;
/// Answers that prove something.
const ENOUGH: usize = 100;

/// The graph, scaled so.
fn scaled(how: &str) -> Bundle {
    Bundle::graph("faulty").with("deadline: 1s}", &format!("deadline: 10s}}\n    scale: {{{how}}}"))
}

/// Load on an ingress that knows the route: each is told of it a moment after a graph serves.
async fn load(ingress: SocketAddr, path: &str, connections: usize) -> Load {
    let mut client = Client::new(ingress, HOST);
    until("the ingress knows the route", SOON, async || {
        let answer = client.get("/").await;
        holds(answer.status != 404, answer)
    })
    .await;
    Load::start(ingress, HOST, path, connections)
}

async fn scale_of(api: &Api) -> Result<(wire::ScaleStatus, BTreeSet<String>), String> {
    let status = api.status(GRAPH).await.map_err(|status| shown(&status))?;
    let placed = status.placement.ok_or("it is not placed")?;
    let more = placed.more.into_iter().flat_map(|more| more.nodes);
    let nodes = more.chain(placed.away.into_values()).chain([placed.home]).collect();
    Ok((status.scales.into_iter().next().ok_or("it is not scaled")?, nodes))
}

/// Waits until it should run on so many nodes, and serves on these.
async fn runs_on(api: &Api, count: usize) {
    until("it is on as many nodes", SOON, async || {
        let (scale, nodes) = scale_of(api).await?;
        let is_there = usize::try_from(scale.replicas) == Ok(count) && nodes.len() == count;
        let state = format!("{:?}", api.status(GRAPH).await.map_err(|status| shown(&status))?.state);
        holds(is_there && state.contains("Serving"), format!("{scale:?} {nodes:?} {state}"))
    })
    .await;
}

/// The nodes that have answered something slow.
async fn answered(api: &Api) -> BTreeSet<String> {
    let lines = api.logs(GRAPH, "").await.unwrap();
    lines.into_iter().filter(|line| line.message.contains("sleeping")).map(|line| line.node).collect()
}

async fn said(api: &Api, reason: &str) -> Vec<String> {
    let events = api.events(&format!("graph/{GRAPH}")).await.unwrap();
    events.into_iter().filter(|event| event.reason == reason).map(|event| event.message).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_as_many_nodes_as_the_calls_need_and_nobody_notices() {
    let cluster = Cluster::start_nodes(4).await;
    let (api, ctl) = (cluster.api(), Ctl::new(&cluster));
    api.deploy_and_wait(&scaled("max: 3, concurrency: 4, down-after: 3s")).await;
    runs_on(&api, 1).await;
    // An ingress that never has it itself; one connection asks all along.
    let ingress = cluster.ingress_address_of("n4");
    let steady = load(ingress, "/", 1).await;
    let slow = load(ingress, SLOW, CONNECTIONS).await;
    runs_on(&api, 3).await;
    until("all of them are asked", SOON, async || {
        let nodes = answered(&api).await;
        holds(nodes.len() == 3, nodes)
    })
    .await;
    let up = said(&api, "scaled_up").await;
    assert!(
        up.len() == 2 && up[0].starts_with("app from 1 to 2 nodes: "),
        "not more than twice as many: {up:?}"
    );
    until("what is under way is known", SOON, async || {
        let calls = scale_of(&api).await?.0.calls_thousandths;
        holds(calls.is_some_and(|calls| (8_000..16_000).contains(&calls)), format!("{calls:?}"))
    })
    .await;
    let status = ctl.done(&["status", "faulty"]).await;
    assert!(status.contains("app is scaled to 3 of 1-3"), "{status}");

    let slow = slow.stop().await;
    let ended = Instant::now();
    runs_on(&api, 1).await;
    assert!(ended.elapsed().as_secs() >= 2, "not before three seconds of what was told: {:?}", ended.elapsed());
    let down = said(&api, "scaled_down").await;
    assert!(down.last().is_some_and(|last| last.contains("to 1 node: ")), "{down:?}");
    all_good(&slow, ENOUGH);
    steady.stop_all_good(ENOUGH).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_asks_there_is_no_instance_and_the_next_request_is_answered() {
    let cluster = Cluster::start().await;
    let api = cluster.api();
    api.deploy_and_wait(&scaled("max: 2, concurrency: 50")).await;
    let load = load(cluster.ingress_address(), SLOW, 3).await;
    until("instances are counted", SOON, async || {
        let calls = scale_of(&api).await?.0.calls_thousandths;
        holds(calls.is_some_and(|calls| calls >= 2_000), format!("{calls:?}"))
    })
    .await;
    load.stop_all_good(1).await;
    until("there was none all the time between two heartbeats", SOON, async || {
        let calls = scale_of(&api).await?.0.calls_thousandths;
        holds(calls == Some(0), format!("{calls:?}"))
    })
    .await;
    let mut client = Client::new(cluster.ingress_address(), HOST);
    client.connect().await.unwrap();
    let asked = Instant::now();
    let answer = client.get("/").await;
    chaos_tests::say(&format!("the first request after a pause was answered in {:?}", asked.elapsed()));
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bounds_are_said_before_they_are_deployed() {
    let cluster = Cluster::start().await;
    let ctl = Ctl::new(&cluster);
    let folder = cluster.folder().join("plans");
    std::fs::create_dir_all(&folder).unwrap();
    let wide = scaled("min: 2, max: 8, concurrency: 50").write(&folder, "wide.yaml");
    let plan = ctl.run(&["plan", argument(&wide)]).await;
    assert_eq!(plan.code, 0, "{plan:?}");
    assert!(plan.stdout.contains("on 2-8 nodes by 50 calls under way on each"), "{plan:?}");
    assert!(plan.stderr.contains("app on 1 of 2 nodes: there are no other nodes"), "{plan:?}");
    let none = folder.join("none.yaml");
    std::fs::write(&none, scaled("min: 0, max: 8, concurrency: 50").manifest()).unwrap();
    let refused = ctl.run(&["plan", argument(&none)]).await;
    assert!(refused.code != 0 && refused.stderr.contains("holds none of what nobody asks for"), "{refused:?}");
}
