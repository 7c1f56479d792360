//! Links between nodes under faults: whatever becomes of the node of a provider, each request gets its answer or the
//! declared failure in time, no write is done twice, and afterwards all is as it was.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::{Duration, Instant};

use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use chaos_tests::journal::{HOST, Writers, are_declared, are_done_once, is_good, journalled};
use chaos_tests::road::{ADVERTISE_FLAG, Way};
use chaos_tests::traffic::{Answer, Exchange, Load};
use chaos_tests::wait::{SOON, holds, until};

const GRAPH: &str = "default/customers";
/// Longer than the agent waits for what is under way, once its ingress has nothing to do.
const ENDS_WITHIN: Duration = Duration::from_secs(15);
/// Requests and writes that prove something.
const ENOUGH: usize = 50;

/// Load and writers go on while something happens to n3; what they are answered is as declared, and good again
/// afterwards.
async fn survives(cluster: &mut Cluster, fault: impl AsyncFnOnce(&mut Cluster, &Load)) {
    let bundle = journalled(cluster);
    cluster.api().deploy_and_wait(&bundle).await;
    let load = Load::start(cluster.ingress_address(), HOST, "/customers/2", 4);
    let writers = Writers::start(cluster.ingress_address(), 2);
    let busy = async |least_answers: usize, least_writes: usize| {
        until("load", SOON, async || {
            let seen = (load.answers(), writers.good());
            holds(seen.0 >= least_answers && seen.1 >= least_writes, seen)
        })
        .await;
    };
    busy(ENOUGH, ENOUGH).await;
    fault(cluster, &load).await;

    let mut client = cluster.client(HOST);
    until("it answers again", SOON, async || {
        let answer = client.get("/customers/2").await;
        holds(answer.status == 200, answer)
    })
    .await;
    let healed = Instant::now();
    busy(load.answers() + ENOUGH, writers.good() + ENOUGH).await;
    let (exchanges, writes) = (load.stop().await, writers.stop().await);
    are_declared(&exchanges);
    let failed = exchanges.iter().filter(|exchange| exchange.good().is_none());
    assert!(failed.clone().count() > 0, "nothing happened");
    let after: Vec<_> = failed.filter(|exchange| exchange.started > healed).collect();
    assert!(after.is_empty(), "{after:#?}");
    are_done_once(&mut client, &writes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kill_of_a_providers_node_costs_declared_failures_and_no_write_is_done_twice() {
    let mut cluster = Cluster::start_nodes(3).await;
    survives(&mut cluster, async |cluster, load| {
        for _ in 0..2 {
            let moment = cluster.choices.below(20);
            until_answers(load, load.answers() + usize::try_from(moment).unwrap()).await;
            cluster.agent_named("n3").kill();
            // Each connection has had its failure.
            until_answers(load, load.answers() + 8).await;
            cluster.agent_named("n3").start().await;
            until_answers(load, load.answers() + ENOUGH).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_providers_node_that_stands_still_is_given_up_and_found_again() {
    let mut cluster = Cluster::start_nodes(3).await;
    survives(&mut cluster, async |cluster, load| {
        cluster.agent_named("n3").pause();
        given_up(cluster).await;
        until_answers(load, load.answers() + 4).await;
        cluster.agent_named("n3").resume();
    })
    .await;
}

/// Shorter than a peer may be silent: what was sent arrives once there is a way again.
const CUT_FOR_A_MOMENT: Duration = Duration::from_millis(1_500);

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_cut_off_one_way_or_both_costs_declared_failures_and_no_write_is_done_twice() {
    for (there, back) in [(Way::Cut, Way::Cut), (Way::Cut, Way::Open), (Way::Open, Way::Cut)] {
        let mut cluster = Cluster::start_as(3, &[], &[ADVERTISE_FLAG]).await;
        let road = cluster.road_to("n3").await;
        survives(&mut cluster, async |cluster, load| {
            let begin = usize::try_from(cluster.choices.below(20)).unwrap();
            until_answers(load, load.answers() + begin).await;
            road.becomes(there, back);
            let moment = CUT_FOR_A_MOMENT;
            tokio::time::sleep(moment).await;
            road.becomes(Way::Open, Way::Open);
            until_answers(load, load.answers() + ENOUGH).await;
            road.becomes(there, back);
            given_up(cluster).await;
            until_answers(load, load.answers() + 4).await;
            road.becomes(Way::Open, Way::Open);
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_or_lossy_road_costs_time_and_no_request() {
    let mut cluster = Cluster::start_as(3, &[], &[ADVERTISE_FLAG]).await;
    let road = cluster.road_to("n3").await;
    let api = cluster.api();
    api.deploy_and_wait(&journalled(&cluster)).await;
    api.deploy_and_wait(&Bundle::graph("hello").on("app.wasm", "n3")).await;
    let mut hello = cluster.client("hello.localhost");
    until("the way to hello is known", SOON, async || {
        let answer = hello.get("/").await;
        holds(answer.status == 200, answer)
    })
    .await;
    let late = Way::Late(Duration::from_millis(50));
    // One packet of twenty, which is sent again after what Linux waits at least.
    let lossy = Way::Lossy { one_of: 20, stall: Duration::from_millis(200) };
    let writers = Writers::start(cluster.ingress_address(), 2);
    for way in [late, lossy] {
        road.becomes(way, way);
        // A call over a link, and a request that is carried to the node.
        let load = Load::start(cluster.ingress_address(), HOST, "/customers/2", 4);
        let carried = Load::start(cluster.ingress_address(), "hello.localhost", "/", 4);
        let started = Instant::now();
        until_answers(&load, 2 * ENOUGH).await;
        let took = started.elapsed();
        until_answers(&carried, 2 * ENOUGH).await;
        // There and back, so many one after the other on each of four connections.
        assert!(way != late || took > Duration::from_millis(100) * ENOUGH as u32 / 2, "{took:?}");
        load.stop_all_good(2 * ENOUGH).await;
        carried.stop_all_good(2 * ENOUGH).await;
    }
    let writes = writers.stop().await;
    let failed: Vec<_> = writes.iter().filter(|(_, answer)| !is_good(answer)).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    are_done_once(&mut cluster.client(HOST), &writes).await;
}

async fn given_up(cluster: &Cluster) {
    until("n1 gives up its streams", SOON, async || {
        let log = cluster.agent.last_log();
        let ended = log.lines().filter(|line| line.contains("a stream of links ended")).count();
        holds(ended == 2, ended)
    })
    .await;
}

async fn until_answers(load: &Load, least: usize) {
    until("answers", SOON, async || holds(load.answers() >= least, load.answers())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_requests_of_a_graph_that_is_deleted_end_as_declared() {
    let cluster = Cluster::start_nodes(3).await;
    let api = cluster.api();
    for _ in 0..2 {
        api.deploy_and_wait(&journalled(&cluster)).await;
        let load = Load::start(cluster.ingress_address(), HOST, "/customers", 8);
        until_answers(&load, ENOUGH).await;
        api.delete(GRAPH).await.unwrap();
        let mut client = cluster.client(HOST);
        until("it is gone", SOON, async || {
            let answer = client.get("/customers").await;
            holds(answer.status == 404, answer)
        })
        .await;
        let gone = Instant::now();
        until_answers(&load, load.answers() + ENOUGH).await;
        let (after, before): (Vec<_>, Vec<_>) =
            load.stop().await.into_iter().partition(|exchange| exchange.started > gone);
        let is_404 = |exchange: &Exchange| matches!(&exchange.answer, Ok(answer) if answer.status == 404);
        assert!(after.iter().all(is_404), "{after:#?}");
        are_declared(&before.into_iter().filter(|exchange| !is_404(exchange)).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_values_at_once_cost_no_stream() {
    /// With what is around it just below what a value may have; together more than a message may.
    const NAME_BYTES: usize = 900 << 10;
    const AT_ONCE: usize = 48;
    let cluster = Cluster::start_nodes(3).await;
    let small = Bundle::example("customers", "graph-apart.yaml");
    cluster.api().deploy_and_wait(&small.with("deadline: 5s", "deadline: 30s")).await;
    let body = format!(r#"{{"name":"{}"}}"#, "x".repeat(NAME_BYTES));
    assert_eq!(cluster.client(HOST).post("/customers/1", &body).await.status, 200);
    let asked: Vec<_> = (0..AT_ONCE)
        .map(|turn| {
            let (mut client, body) = (cluster.client(HOST), body.clone());
            tokio::spawn(async move {
                match turn % 2 {
                    0 => client.get("/customers/1").await,
                    _ => client.post("/customers/1", &body).await,
                }
            })
        })
        .collect();
    for asked in asked {
        let answer = asked.await.unwrap();
        assert!(
            answer.status == 200 && answer.body.len() > NAME_BYTES,
            "{} {:.200}",
            answer.status,
            answer.body
        );
    }
    assert!(!cluster.agent.last_log().contains("a stream of links ended"));
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_of_other_nodes_cost_no_request() {
    let mut cluster = Cluster::start_nodes(3).await;
    let api = cluster.api();
    api.deploy_and_wait(&journalled(&cluster)).await;
    api.apply_and_wait(&Bundle::example("customers", "pii-firewall-apart.yaml")).await;
    until("the policy is on n2", SOON, async || {
        let placement = api.status(GRAPH).await.unwrap().placement.unwrap();
        holds(placement.away.values().any(|node| node == "n2"), placement.clone())
    })
    .await;
    api.serving(GRAPH, 0).await;
    let load = Load::start(cluster.ingress_address(), HOST, "/customers/2", 4);
    let writers = Writers::start(cluster.ingress_address(), 2);
    for node in ["n2", "n3"] {
        until_answers(&load, load.answers() + ENOUGH).await;
        let agent = cluster.agent_named(node);
        agent.terminate();
        assert!(agent.end_within(ENDS_WITHIN).await.success());
        agent.start().await;
        until_answers(&load, load.answers() + ENOUGH).await;
        cluster.node_ready().await;
        cluster.api().serving(GRAPH, 0).await;
    }
    let writes = writers.stop().await;
    let failed: Vec<_> = writes.iter().filter(|(_, answer)| !is_good(answer)).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    load.stop_all_good(4 * ENOUGH).await;
    cluster.api().delete_policy_and_wait("pii-firewall").await;
    are_done_once(&mut cluster.client(HOST), &writes).await;
}

/// `chain` with the caller on n1 and the provider on n2, and more said of the link between them.
fn chain(terms: &str) -> Bundle {
    let bundle = Bundle::graph("chain").on("front.wasm", "n1").on("back.wasm", "n2");
    let bundle = bundle.with(".wasm,", ".wasm, limits: {deadline: 30s},");
    let links = format!("links:\n  - {{from: front, interface: \"weft:examples/greeter\", to: back{terms}}}\n");
    let manifest = format!("{}\n{links}", bundle.manifest().trim_end());
    Bundle::of(bundle.folder().to_owned(), manifest)
}

/// What a request comes to whose provider's node is killed and started again while it makes its many calls.
async fn killed_under(cluster: &mut Cluster) -> Answer {
    let mut client = cluster.client("chain.localhost");
    let calls = tokio::spawn(async move { client.get("/add?n=40000").await });
    // Somewhere within them.
    let moment = Duration::from_millis(150 + cluster.choices.below(300));
    tokio::time::sleep(moment).await;
    cluster.agent_named("n2").kill();
    cluster.agent_named("n2").start().await;
    calls.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_calls_are_made_again_where_the_link_says_that_they_may_be() {
    let mut cluster = Cluster::start_nodes(2).await;
    let api = cluster.api();
    let ready = async |cluster: &Cluster| {
        let mut client = cluster.client("chain.localhost");
        until("it answers", SOON, async || {
            let answer = client.get("/add?n=1").await;
            holds(answer.status == 200, answer)
        })
        .await;
    };
    api.deploy_and_wait(&chain("")).await;
    ready(&cluster).await;
    let lost = killed_under(&mut cluster).await;
    assert_eq!((lost.status, lost.json()["error"].as_str()), (502, Some("link_lost")), "{}", lost.body);

    api.deploy_and_wait(&chain(", idempotent: true")).await;
    ready(&cluster).await;
    let kept = killed_under(&mut cluster).await;
    assert_eq!((kept.status, kept.body.as_str()), (200, "40000"), "each call was done, and counted once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_fails_time_and_again_is_refused_at_once_and_found_again() {
    let mut cluster = Cluster::start_nodes(2).await;
    cluster.api().deploy_and_wait(&chain("")).await;
    let mut client = cluster.client("chain.localhost");
    assert_eq!(client.get("/add?n=1").await.body, "1");
    cluster.agent_named("n2").kill();
    let load = Load::start(cluster.ingress_address(), "chain.localhost", "/add?n=1", 8);
    until("the circuit is open", SOON, async || {
        holds(cluster.agent.last_log().contains("the circuit of a link is open"), load.answers())
    })
    .await;
    // While one waits for the node, hundreds are told that it is not there.
    until_answers(&load, load.answers() + 500).await;
    let exchanges = load.stop().await;
    are_declared(&exchanges);
    let is_refused = |exchange: &&Exchange| exchange.answer.as_ref().is_ok_and(|answer| answer.status == 503);
    // The first may have been on their way when the node died.
    let refused = exchanges.iter().filter(is_refused).count();
    assert!(refused >= exchanges.len() - 8, "{refused} of {}", exchanges.len());
    cluster.agent_named("n2").start().await;
    until("it answers again", SOON, async || {
        let answer = client.get("/add?n=1").await;
        holds(answer.status == 200, answer)
    })
    .await;
    let load = Load::start(cluster.ingress_address(), "chain.localhost", "/add?n=1", 8);
    until_answers(&load, 200).await;
    load.stop_all_good(200).await;
}
