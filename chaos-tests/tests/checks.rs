//! Checks: a revision whose components do not answer as their owner asks gets no request, on any node, and what served
//! before serves on.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::Duration;

use chaos_tests::api::{Api, shown};
use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use chaos_tests::ctl::{Ctl, argument};
use chaos_tests::traffic::Load;
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
