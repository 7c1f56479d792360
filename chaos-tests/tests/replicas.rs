//! Components that run on several nodes: all of them are asked, and the loss of one costs what was under way there and
//! nothing else. Nobody who asks notices a drain, or that there are more or fewer of them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use chaos_tests::api::{Api, shown};
use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use chaos_tests::ctl::{Ctl, argument};
use chaos_tests::road::{ADVERTISE_FLAG, Way};
use chaos_tests::traffic::{Exchange, Load};
use chaos_tests::wait::{SOON, holds, until};

const GRAPH: &str = "default/chain";
const HOST: &str = "chain.localhost";
const PATH: &str = "/greet?name=ada";
const CONNECTIONS: usize = 4;
/// Answers that prove something.
const ENOUGH: usize = 100;
/// A node that does not answer is asked no more after this: what a peer may be silent for.
const OUT_OF_ROTATION: Duration = Duration::from_secs(5);

/// Both components on so many nodes.
fn on(replicas: usize) -> Bundle {
    Bundle::graph("chain")
        .with("front.wasm", &format!("front.wasm, scale: {{replicas: {replicas}}}"))
        .with("back.wasm", &format!("back.wasm, scale: {{replicas: {replicas}}}"))
}

/// The first on n1, and what it calls on two others.
async fn apart(ctl: &Ctl) -> Bundle {
    for node in ["n2", "n3"] {
        ctl.done(&["node", "label", node, "pool=back"]).await;
    }
    Bundle::graph("chain")
        .on("front.wasm", "n1")
        .with("back.wasm", "back.wasm, scale: {replicas: 2}, placement: {require: {pool: back}}")
}

/// Where a graph is.
async fn nodes_of(api: &Api) -> Result<BTreeSet<String>, String> {
    let status = api.status(GRAPH).await.map_err(|status| shown(&status))?;
    let placed = status.placement.ok_or("it is not placed")?;
    let more = placed.more.into_iter().flat_map(|more| more.nodes);
    Ok(more.chain(placed.away.into_values()).chain([placed.home]).collect())
}

/// The nodes on which a component has said something.
async fn answered(api: &Api, component: &str) -> BTreeSet<String> {
    let lines = api.logs(GRAPH, "").await.unwrap();
    lines.into_iter().filter(|line| line.component == component).map(|line| line.node).collect()
}

async fn busy(load: &Load, answers: usize) {
    let least = load.answers() + answers;
    until("load", SOON, async || holds(load.answers() >= least, load.answers())).await;
}

fn bad(exchanges: &[Exchange]) -> Vec<&Exchange> {
    exchanges.iter().filter(|exchange| exchange.good().is_none()).collect()
}

/// How long it may take until those who ask a process see that it is gone.
const SEEN: Duration = Duration::from_millis(100);

/// Of what was asked, only that was lost which was asked before a moment.
fn only_before(exchanges: &[Exchange], moment: Instant) {
    let late: Vec<_> = bad(exchanges).into_iter().filter(|exchange| exchange.started > moment).collect();
    let after = |exchange: &&Exchange| (exchange.started - moment, exchange.answer.clone());
    assert!(late.is_empty(), "{} of {}: {:#?}", late.len(), exchanges.len(), late.first().map(after));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kill_of_one_node_costs_the_requests_that_it_had() {
    let mut cluster = Cluster::start_nodes(4).await;
    let api = cluster.api();
    api.deploy_and_wait(&on(2)).await;
    let nodes = nodes_of(&api).await.unwrap();
    assert_eq!(nodes.len(), 2);
    // An ingress that never has it itself.
    let load = Load::start(cluster.ingress_address_of("n4"), HOST, PATH, CONNECTIONS);
    busy(&load, ENOUGH).await;
    assert_eq!(answered(&api, "back").await, nodes, "all of them are asked");

    let lost = nodes.first().unwrap();
    cluster.agent_named(lost).kill();
    let killed = Instant::now() + SEEN;
    until("another one takes its place", SOON, async || {
        let now = nodes_of(&api).await?;
        holds(now.len() == 2 && !now.contains(lost), format!("{now:?}"))
    })
    .await;
    api.serving(GRAPH, 0).await;
    busy(&load, ENOUGH).await;
    let exchanges = load.stop().await;
    only_before(&exchanges, killed);
    assert!(bad(&exchanges).len() <= CONNECTIONS, "{:#?}", bad(&exchanges));
    let now = nodes_of(&api).await.unwrap();
    assert!(answered(&api, "back").await.is_superset(&now), "the new one is asked as well");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_goes_to_all_replicas_and_the_loss_of_one_costs_the_calls_that_it_had() {
    let mut cluster = Cluster::start_nodes(3).await;
    let (api, ctl) = (cluster.api(), Ctl::new(&cluster));
    api.deploy_and_wait(&apart(&ctl).await).await;
    let drawn = ctl.done(&["graph", "chain"]).await;
    assert!(drawn.contains("(remote: n1 -> n2+n3)"), "{drawn}");
    let load = Load::start(cluster.ingress_address(), HOST, PATH, CONNECTIONS);
    busy(&load, ENOUGH).await;
    assert_eq!(answered(&api, "back").await, ["n2".to_owned(), "n3".to_owned()].into());

    for lost in ["n3", "n2"] {
        cluster.agent_named(lost).kill();
        cluster.node_is(lost, "down").await;
        busy(&load, ENOUGH).await;
        let status = api.status(GRAPH).await.unwrap();
        let state = format!("{:?}", status.state);
        assert!(state.contains("on 1 of 2 nodes") || state.contains("runs on others too"), "{state}");
        cluster.agent_named(lost).start().await;
        cluster.node_is(lost, "ready").await;
        api.serving(GRAPH, 0).await;
        busy(&load, ENOUGH).await;
    }
    let exchanges = load.stop().await;
    // A call that was under way may have been done, so it is not made again.
    let lost = bad(&exchanges);
    assert!(lost.len() <= 2 * CONNECTIONS, "{} of {}: {lost:#?}", lost.len(), exchanges.len());
    let is_declared =
        |exchange: &&Exchange| exchange.answer.as_ref().is_ok_and(|answer| answer.body.contains("link_lost"));
    assert!(lost.iter().all(is_declared), "{lost:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_notices_a_drain_or_that_there_are_more_or_fewer() {
    let cluster = Cluster::start_nodes(4).await;
    let (api, ctl) = (cluster.api(), Ctl::new(&cluster));
    api.deploy_and_wait(&on(2)).await;
    let load: Vec<Load> = ["n1", "n4"]
        .map(|node| Load::start(cluster.ingress_address_of(node), HOST, PATH, CONNECTIONS / 2))
        .into();
    busy(&load[0], ENOUGH).await;
    let drained = nodes_of(&api).await.unwrap().first().unwrap().clone();
    ctl.done(&["node", "drain", &drained]).await;
    until("it is empty", SOON, async || {
        let node = api.node(&drained).await.map_err(|status| shown(&status))?;
        holds(node.graphs.is_empty() && node.leaving.is_empty(), format!("{node:?}"))
    })
    .await;
    api.serving(GRAPH, 0).await;
    let now = nodes_of(&api).await.unwrap();
    assert!(now.len() == 2 && !now.contains(&drained), "{now:?}");
    ctl.done(&["node", "uncordon", &drained]).await;

    for count in [4, 1, 3] {
        api.deploy_and_wait(&on(count)).await;
        until("it is on as many nodes", SOON, async || {
            let now = nodes_of(&api).await?;
            let state = format!("{:?}", api.status(GRAPH).await.map_err(|status| shown(&status))?.state);
            holds(now.len() == count && state.contains("Serving"), format!("{now:?} {state}"))
        })
        .await;
        for load in &load {
            busy(load, ENOUGH).await;
        }
    }
    for load in load {
        load.stop_all_good(ENOUGH).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_heartbeats_and_answers_nobody_is_taken_out_of_rotation_by_those_who_ask_it() {
    let mut cluster = Cluster::start_as(3, &[], &[ADVERTISE_FLAG]).await;
    let (api, ctl) = (cluster.api(), Ctl::new(&cluster));
    let roads = [cluster.road_to("n2").await, cluster.road_to("n3").await];
    api.deploy_and_wait(&apart(&ctl).await).await;
    let load = Load::start(cluster.ingress_address(), HOST, PATH, CONNECTIONS);
    busy(&load, ENOUGH).await;
    roads[1].becomes(Way::Cut, Way::Cut);
    let out = Instant::now() + OUT_OF_ROTATION + SEEN;
    until("some time has passed", SOON, async || holds(Instant::now() > out, out - Instant::now())).await;
    busy(&load, 3 * ENOUGH).await;
    assert_eq!(api.node("n3").await.unwrap().state, "ready", "the control plane sees nothing of it");
    let exchanges = load.stop().await;
    only_before(&exchanges, out);
    assert!(bad(&exchanges).len() <= 2 * CONNECTIONS, "{:#?}", bad(&exchanges));
    roads[1].becomes(Way::Open, Way::Open);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_said_before_it_is_deployed() {
    let cluster = Cluster::start_nodes(2).await;
    let ctl = Ctl::new(&cluster);
    let folder = cluster.folder().join("plans");
    std::fs::create_dir_all(&folder).unwrap();
    let five = on(5).write(&folder, "five.yaml");
    let plan = ctl.run(&["plan", argument(&five)]).await;
    assert_eq!(plan.code, 0, "{plan:?}");
    assert!(plan.stderr.contains("back on 2 of 5 nodes: there are no other nodes"), "{plan:?}");
    assert_eq!(ctl.run(&["plan", argument(&five), "--strict"]).await.code, 1);

    // Data are on one node, and so is what must be beside them.
    let held = Bundle::graph("customers")
        .with("app.wasm", "app.wasm\n    scale: {replicas: 2}")
        .with("to: crm-db}", "to: crm-db, locality: same-node}");
    let held = held.write(&folder, "held.yaml");
    let refused = ctl.run(&["plan", argument(&held)]).await;
    assert!(refused.code == 1 && refused.stderr.contains("must be on one node with crm-db"), "{refused:?}");
}
