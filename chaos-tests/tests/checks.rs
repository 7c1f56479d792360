//! Checks: a revision whose components do not answer as their owner asks gets no request, on any node, and what served
//! before serves on.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::Duration;

use chaos_tests::api::{Api, shown};
use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use chaos_tests::ctl::{Ctl, argument};
use chaos_tests::origin::Origin;
use chaos_tests::traffic::{Client, Load};
use chaos_tests::wait::{SOON, holds, until};

const FAULTY: &str = "default/faulty";
const HOST: &str = "faulty.localhost";

fn checked(path: &str) -> Bundle {
    Bundle::graph("faulty")
        .with("source: ./build/app.wasm", &format!("source: ./build/app.wasm\n    health: {{http: {path}}}"))
}

/// Waits until a graph is said not to pass a check, in words that have this.
async fn fails_its_check(api: &Api, graph: &str, why: &str) {
    until("it does not pass its check", SOON, async || {
        let status = api.status(graph).await.map_err(|status| shown(&status))?;
        let state = format!("{:?}", status.state);
        holds(state.contains("does not pass its check") && state.contains(why), state)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_that_does_not_answer_its_check_gets_no_request() {
    let cluster = Cluster::start_nodes(2).await;
    let (api, ctl) = (cluster.api(), Ctl::new(&cluster));
    // The first has none before it, and serves nothing until it passes.
    api.deploy(&checked("/trap")).await.unwrap();
    fails_its_check(&api, FAULTY, "GET /trap: it answered 500").await;
    assert_eq!(cluster.client(HOST).get("/").await.status, 503);
    api.deploy_and_wait(&checked("/config")).await;

    let load = Load::start(cluster.ingress_address(), HOST, "/", 4);
    let serving = api.status(FAULTY).await.unwrap().generation;
    let revisions = [
        ("/trap", "it answered 500"),
        ("/loop", "it answered 504"),
        ("/silent", "it answered 500"),
        // Of what ends within its answer, none is sent; or its beginning is, and breaks off.
        ("/half", "GET /half: it"),
    ];
    for (path, why) in revisions {
        api.deploy(&checked(path)).await.unwrap();
        fails_its_check(&api, FAULTY, why).await;
        let state = format!("{:?}", api.status(FAULTY).await.unwrap().state);
        assert!(state.contains(&format!("serving_generation: {serving}")), "{state}");
    }
    let why = ctl.run(&["why", "faulty"]).await;
    assert!(why.stdout.contains("does not pass its check GET /half"), "{why:?}");
    ctl.done(&["rollback", "faulty@2"]).await;
    api.serving(FAULTY, serving).await;
    load.stop_all_good(100).await;
}

const TYPES: &str = "default/types";
const RUN: [&str; 3] = ["invoke", "types/probe", "weft:examples/probe@1.0.0#run()"];
/// Longer than a node keeps a generation that nobody asks for.
const LINGERED: Duration = Duration::from_secs(38);

/// The probe on n1 and what it calls in the end on n2, each with a check if it is given one.
fn types(probe: &str, echo: &str) -> Bundle {
    let health = |check: &str| match check {
        "" => String::new(),
        check => format!(", health: {{call: \"weft:examples/{check}\"}}"),
    };
    let at = |file: &str, node: &str, check: &str| {
        format!("{file}.wasm{}, placement: {{require: {{node: {node}}}}}}}", health(check))
    };
    Bundle::graph("types")
        .with("probe.wasm}", &at("probe", "n1", probe))
        .with("echo.wasm}", &at("echo", "n2", echo))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_may_be_a_call_and_goes_as_far_as_links_go() {
    let cluster = Cluster::start_nodes(2).await;
    let (api, ctl) = (cluster.api(), Ctl::new(&cluster));
    api.deploy_and_wait(&types("probe#run", "values#count")).await;
    let good = ctl.done(&RUN).await;
    api.deploy(&types("probe#trap", "values#count")).await.unwrap();
    fails_its_check(&api, TYPES, "weft:examples/probe#trap: the component failed").await;
    // n2 has taken over, and n1 calls there what it called before, for as long as it must.
    let moment = LINGERED;
    tokio::time::sleep(moment).await;
    assert_eq!(ctl.done(&RUN).await, good);
    fails_its_check(&api, TYPES, "weft:examples/probe#trap").await;
    // What is not there is said before it is deployed.
    let folder = cluster.folder().join("unchecked");
    std::fs::create_dir_all(&folder).unwrap();
    let manifest = types("probe#walk", "").write(&folder, "graph.yaml");
    let refused = ctl.run(&["plan", argument(&manifest)]).await;
    assert!(
        refused.code == 1 && refused.stderr.contains("cannot be checked by weft:examples/probe#walk"),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_over_what_calls_a_component_that_does_not_pass() {
    let cluster = Cluster::start_nodes(2).await;
    let (api, ctl) = (cluster.api(), Ctl::new(&cluster));
    api.deploy_and_wait(&types("", "values#count")).await;
    let (good, before) = (ctl.done(&RUN).await, api.status(TYPES).await.unwrap().generation);
    api.deploy(&types("", "values#trap")).await.unwrap();
    fails_its_check(&api, TYPES, "values#trap").await;
    for node in ["n1", "n2"] {
        until("it says what it waits for", SOON, async || {
            let events = api.events("graph/default/types").await.map_err(|status| shown(&status))?;
            let is_so =
                |message: &str| message.starts_with(&format!("on node {node}: ")) && message.contains("check");
            holds(
                events.iter().any(|event| event.reason == "retrying" && is_so(&event.message)),
                format!("{events:?}"),
            )
        })
        .await;
    }
    let state = format!("{:?}", api.status(TYPES).await.unwrap().state);
    assert!(state.contains(&format!("serving_generation: {before}")), "{state}");
    assert_eq!(ctl.done(&RUN).await, good);
    api.deploy_and_wait(&types("", "values#count")).await;
    assert_eq!(ctl.done(&RUN).await, good);
}

/// The graph on two nodes, where it asks this origin once a second and fails if it is refused twice.
fn probed(origin: &Origin) -> Bundle {
    let url = format!("http://{}", origin.address);
    let check = "health: {http: /probe, every: 1s, failures: 2, timeout: 900ms}";
    Bundle::graph("faulty")
        .with("config: {greeting: from config}", &format!("config: {{origin: \"{url}\"}}"))
        .with(
            "    limits:",
            &format!("    egress: [\"{url}\"]\n    {check}\n    scale: {{replicas: 2}}\n    limits:"),
        )
}

/// Waits until it is said to fail on exactly these nodes.
async fn fails_on(api: &Api, nodes: &[&str]) {
    until(&format!("it fails on {nodes:?}"), SOON, async || {
        let failing = api.status(FAULTY).await.map_err(|status| shown(&status))?.failing;
        let mut names: Vec<&str> = failing.keys().map(String::as_str).collect();
        names.sort_unstable();
        holds(names == nodes, format!("{failing:?}"))
    })
    .await;
}

/// The nodes that have answered so many requests of this ingress.
async fn answering(api: &Api, client: &mut Client, count: usize) -> Vec<String> {
    let spoken = async || -> Vec<String> {
        let lines = api.logs(FAULTY, "").await.unwrap();
        lines
            .into_iter()
            .filter(|line| line.message.ends_with("a line by wasi:logging"))
            .map(|line| line.node)
            .collect()
    };
    let before = spoken().await;
    for _ in 0..count {
        assert_eq!(client.get("/log").await.status, 200);
    }
    let mut after = spoken().await;
    for node in &before {
        let at = after.iter().position(|other| other == node).expect("a line that was there stays");
        after.swap_remove(at);
    }
    after.sort();
    after.dedup();
    after
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_where_it_stops_passing_is_asked_no_more_until_it_passes_again() {
    let mut cluster = Cluster::start_as(2, &[], &["--allow-private-egress"]).await;
    let (api, ctl) = (cluster.api(), Ctl::new(&cluster));
    let origin = Origin::start(None).await;
    let [first, second] = ["n1", "n2"].map(|node| cluster.agent_named(node).process_id());
    api.deploy_and_wait(&probed(&origin)).await;
    let mut clients = ["n1", "n2"].map(|node| Client::new(cluster.ingress_address_of(node), HOST));
    for client in &mut clients {
        until("its ingress knows the route", SOON, async || {
            let answer = client.get("/").await;
            holds(answer.status == 200, answer)
        })
        .await;
    }
    let load = ["n1", "n2"].map(|node| Load::start(cluster.ingress_address_of(node), HOST, "/", 1));
    let [_, other] = &mut clients;
    assert_eq!(answering(&api, other, 5).await, ["n2"], "its own node is asked first");

    origin.refuse(&[second]);
    fails_on(&api, &["n2"]).await;
    let shown = ctl.done(&["status", "faulty"]).await;
    let why = "failing on n2: app does not pass its check GET /probe: it answered 500";
    assert!(
        shown.contains(why) && shown.contains(", 2 times in a row") && shown.contains("serving"),
        "{shown}"
    );
    let why = ctl.done(&["why", "faulty"]).await;
    assert!(why.contains("failing on n2") && why.contains("to the nodes where it passes"), "{why}");
    until("the other node answers for it", SOON, async || {
        let nodes = answering(&api, other, 5).await;
        holds(nodes == ["n1"], format!("{nodes:?}"))
    })
    .await;

    // Where it fails on all, all are asked: its own node first.
    origin.refuse(&[first, second]);
    fails_on(&api, &["n1", "n2"]).await;
    until("its own node answers again", SOON, async || {
        let nodes = answering(&api, other, 5).await;
        holds(nodes == ["n2"], format!("{nodes:?}"))
    })
    .await;
    origin.refuse(&[]);
    fails_on(&api, &[]).await;
    let events = api.events("graph/default/faulty").await.unwrap();
    let count = |reason: &str| events.iter().filter(|event| event.reason == reason).count();
    assert_eq!((count("check_failing"), count("check_passing")), (2, 2), "{events:?}");
    // Nobody who asks has noticed.
    for load in load {
        load.stop_all_good(100).await;
    }
}
