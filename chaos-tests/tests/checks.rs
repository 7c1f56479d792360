//! Checks: a revision whose components do not answer as their owner asks gets no request, on any node, and what served
//! before serves on.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

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
        ("/half", "its answer broke off"),
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

#[tokio::test(flavor = "multi_thread")]
async fn a_check_may_be_a_call_and_goes_as_far_as_links_go() {
    let cluster = Cluster::start_nodes(2).await;
    let (api, ctl) = (cluster.api(), Ctl::new(&cluster));
    let call = |function: &str| {
        let health = format!("probe.wasm, health: {{call: \"weft:examples/probe#{function}\"}}}}");
        Bundle::graph("types").with("probe.wasm}", &health).on("echo.wasm", "n2")
    };
    api.deploy_and_wait(&call("run")).await;
    api.deploy(&call("trap")).await.unwrap();
    fails_its_check(&api, "default/types", "weft:examples/probe#trap: the component failed").await;
    // What is not there is said before it is deployed.
    let folder = cluster.folder().join("unchecked");
    std::fs::create_dir_all(&folder).unwrap();
    let manifest = call("walk").write(&folder, "graph.yaml");
    let refused = ctl.run(&["plan", argument(&manifest)]).await;
    assert!(refused.code == 1 && refused.stderr.contains("with a function walk"), "{refused:?}");
}
