//! Nodes that are cut off from the control plane: what asks for it stops there before it is placed elsewhere, so that two nodes
//! never answer for it at one time, and all else goes on.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use chaos_tests::api::{Api, shown};
use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use chaos_tests::network::{Conditions, Host, Network};
use chaos_tests::seed::Choices;
use chaos_tests::traffic::{Client, Exchange, Load};
use chaos_tests::wait::{SOON, holds, until};

const GRAPH: &str = "default/faulty";
const HOST: &str = "faulty.localhost";
/// The characters of a request's id by which the agent is known that gave it out.
const LIFE: usize = 18;
/// Requests that prove something.
const ENOUGH: usize = 20;
/// Long enough that a lease does not end because the machine is busy.
const TIMEOUT: &str = "--node-timeout-ms=3000";

fn single() -> Bundle {
    Bundle::graph("faulty").with("    limits:", "    on-isolation: stop\n    limits:")
}

async fn home(api: &Api) -> Result<String, String> {
    let status = api.status(GRAPH).await.map_err(|status| shown(&status))?;
    Ok(status.placement.map(|placement| placement.home).unwrap_or_default())
}

/// Waits until an ingress answers so, in words that have this.
async fn answers(address: SocketAddr, host: &str, status: u16, words: &str) {
    let mut client = Client::new(address, host);
    until(&format!("{host} answers {status}"), SOON, async || {
        let answer = client.ask(http::Method::GET, "/", "").await.map_err(|broken| format!("{broken:?}"))?;
        holds(answer.status == status && answer.body.contains(words), format!("{answer:?}"))
    })
    .await;
}

/// When the first and the last good answer came of each agent's life, which is the first half of its requests' ids; in the
/// order of the first ones.
fn lives(exchanges: &[Exchange]) -> Vec<(String, Instant, Instant)> {
    let mut all: BTreeMap<String, (Instant, Instant)> = BTreeMap::new();
    for exchange in exchanges.iter().filter(|exchange| exchange.good().is_some()) {
        let Ok(answer) = &exchange.answer else { continue };
        let id = answer.headers["weft-request-id"].to_str().unwrap();
        let at = exchange.ended;
        let (first, last) = all.entry(id[..LIFE].to_owned()).or_insert((at, at));
        (*first, *last) = ((*first).min(at), (*last).max(at));
    }
    let mut all: Vec<_> = all.into_iter().map(|(life, (first, last))| (life, first, last)).collect();
    all.sort_by_key(|(_, first, _)| *first);
    all
}

/// Of two agents that have answered, the one has stopped before the other began.
async fn one_after_the_other(load: [Load; 2]) {
    let mut exchanges = Vec::new();
    for load in load {
        exchanges.extend(load.stop().await);
    }
    let lives = lives(&exchanges);
    let [(_, _, stopped), (_, began, _)] = &lives[..] else { panic!("{lives:?}") };
    assert!(stopped < began, "for {:?} both have answered", *stopped - *began);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_control_plane_what_asks_for_it_stops_and_all_else_goes_on() {
    let mut cluster = Cluster::start_as(1, &[TIMEOUT], &[]).await;
    let api = cluster.api();
    api.deploy_and_wait(&Bundle::graph("hello")).await;
    api.deploy_and_wait(&single()).await;
    let ingress = cluster.ingress_address();
    let other = Load::start(ingress, "hello.localhost", "/", 1);
    answers(ingress, HOST, 200, "ok").await;

    cluster.control_plane.pause();
    answers(ingress, HOST, 503, "isolated").await;
    cluster.control_plane.resume();
    answers(ingress, HOST, 200, "ok").await;
    other.stop_all_good(ENOUGH).await;

    // One that starts anew is to be told that it still has it.
    cluster.control_plane.pause();
    cluster.agent.restart().await;
    answers(ingress, "hello.localhost", 200, "hello").await;
    answers(ingress, HOST, 503, "isolated").await;
    cluster.control_plane.resume();
    answers(ingress, HOST, 200, "ok").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_stood_still_does_not_answer_for_what_is_elsewhere_by_then() {
    let mut cluster = Cluster::start_as(2, &[TIMEOUT], &[]).await;
    let api = cluster.api();
    api.deploy_and_wait(&single()).await;
    let from = home(&api).await.unwrap();
    let other = if from == "n1" { "n2" } else { "n1" };
    answers(cluster.ingress_address_of(&from), HOST, 200, "ok").await;
    answers(cluster.ingress_address_of(other), HOST, 200, "ok").await;
    let load = ["n1", "n2"].map(|node| Load::start(cluster.ingress_address_of(node), HOST, "/", 2));
    until("load", SOON, async || holds(load[0].answers() >= ENOUGH, load[0].answers())).await;
    cluster.agent_named(&from).pause();
    until("it answers elsewhere", SOON, async || {
        let now = home(&api).await?;
        holds(now == other, now)
    })
    .await;
    answers(cluster.ingress_address_of(other), HOST, 200, "ok").await;
    cluster.agent_named(&from).resume();
    cluster.node_is(&from, "ready").await;
    answers(cluster.ingress_address_of(&from), HOST, 200, "ok").await;
    one_after_the_other(load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_cut_off_has_stopped_before_another_one_begins() {
    let test = "a_node_that_is_cut_off_has_stopped_before_another_one_begins";
    let Some((network, mut choices)) = Network::enter(test) else { return };
    let cluster = Cluster::start_in(&network, 1, 2, &[TIMEOUT], Choices::of(choices.number())).await;
    let api = cluster.api();
    api.deploy_and_wait(&single()).await;
    let from = home(&api).await.unwrap();
    let (number, other) = if from == "n1" { (1, "n2") } else { (2, "n1") };
    for node in ["n1", "n2"] {
        answers(cluster.ingress_address_of(node), HOST, 200, "ok").await;
    }
    let load = ["n1", "n2"].map(|node| Load::start(cluster.ingress_address_of(node), HOST, "/", 2));
    until("load", SOON, async || holds(load[0].answers() >= ENOUGH, load[0].answers())).await;
    // Clients and the other node reach it as before.
    network.becomes_between(Host::node(number), &[Host::member(1)], Conditions::CUT);
    answers(cluster.ingress_address_of(&from), HOST, 503, "isolated").await;
    until("it answers elsewhere", SOON, async || {
        let now = home(&api).await?;
        holds(now == other, now)
    })
    .await;
    answers(cluster.ingress_address_of(other), HOST, 200, "ok").await;
    network.heals();
    cluster.node_is(&from, "ready").await;
    answers(cluster.ingress_address_of(&from), HOST, 200, "ok").await;
    one_after_the_other(load).await;
}
