//! A host and path lead to one graph: a second one that claims them is refused, and the first one does not notice.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use tonic::Code;

/// A graph that comes before `hello` by its name, and answers otherwise.
fn usurper(route: &str) -> Bundle {
    let bundle = Bundle::graph("faulty").with("graph: faulty", "graph: aaa");
    bundle.with("host: faulty.localhost, path: /", route)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_is_taken_is_refused() {
    let cluster = Cluster::start().await;
    let (api, mut client) = (cluster.api(), cluster.client("hello.localhost"));
    api.deploy_and_wait(&Bundle::graph("hello")).await;

    let refused = api.deploy(&usurper("host: hello.localhost, path: /")).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    assert_eq!(proto::status::reason(&refused).as_deref(), Some("route_taken"));
    assert!(refused.message().contains("hello.localhost/"), "{}", refused.message());
    assert!(refused.message().contains("default/hello"), "{}", refused.message());
    assert_eq!(api.status("default/aaa").await.unwrap_err().code(), Code::NotFound, "nothing is half-applied");
    assert_eq!(client.get("/").await.body, "hello from weft\n");

    // Another path of the same host is another route, and the longer one goes first.
    api.deploy_and_wait(&usurper("host: hello.localhost, path: /config")).await;
    assert_eq!(client.get("/config").await.body, "config=from config variable=from variables\n");
    assert_eq!(client.get("/").await.body, "hello from weft\n");

    // Who leaves makes room.
    api.delete("default/hello").await.unwrap();
    api.deploy_and_wait(&usurper("host: hello.localhost, path: /")).await;
    assert_eq!(client.get("/").await.body, "ok\n");
    let refused = api.deploy(&Bundle::graph("hello")).await.unwrap_err();
    assert_eq!(proto::status::reason(&refused).as_deref(), Some("route_taken"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_graph_claims_is_not_found() {
    let cluster = Cluster::start().await;
    cluster.api().deploy_and_wait(&Bundle::graph("hello")).await;
    let answer = cluster.client("nowhere.localhost").get("/x").await;
    assert_eq!(answer.status, 404);
    assert!(answer.body.contains("no graph serves host `nowhere.localhost`"), "{}", answer.body);
    let mut client = cluster.client("HELLO.localhost:80");
    assert_eq!(client.get("/deeper/down").await.status, 200, "hosts have no case and ports do not matter");
}
