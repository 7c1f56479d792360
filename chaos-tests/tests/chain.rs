//! A link between two components of one node is fused: the caller sees its answers, and what each of them says is
//! still known to be its own. What the manifest says of settings arrives.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use proto::weft::graph::v1::link::{Target, Wiring};
use proto::weft::log::v1::{Level, LogLine, Source};

#[tokio::test(flavor = "multi_thread")]
async fn a_fused_link_answers_and_its_logs_are_told_apart() {
    let cluster = Cluster::start().await;
    let (api, mut client) = (cluster.api(), cluster.client("chain.localhost"));
    api.deploy_and_wait(&Bundle::graph("chain")).await;

    let linked = api.get("default/chain", 0).await.unwrap().linked.unwrap();
    let link = linked.links.iter().find(|link| link.interface.starts_with("weft:examples/greeter")).unwrap();
    let Some(Target::Component(target)) = &link.target else { panic!("{link:?}") };
    assert_eq!((link.from.as_str(), target.name.as_str()), ("front", "back"));
    assert!(matches!(link.wiring, Some(Wiring::Inferred(_))), "{link:?}");

    let answer = client.get("/greet?name=ada").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "hello, ada"));
    assert_eq!(client.get("/add?n=5000").await.body, "5000");
    assert_eq!(client.get("/greet?name=grace").await.body, "hello, grace");

    let request = answer.headers["weft-request-id"].to_str().unwrap();
    let lines = api.logs("default/chain", request).await.unwrap();
    let said: Vec<(&str, &str)> =
        lines.iter().map(|line| (line.component.as_str(), line.message.as_str())).collect();
    assert_eq!(said, [("front", "front asks for ada"), ("back", "back greets ada")]);
    assert!(lines.iter().all(|line| line.node == "n1" && line.graph == "default/chain"), "{lines:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_arrive_and_each_way_to_speak_is_heard() {
    let cluster = Cluster::start().await;
    let (api, mut client) = (cluster.api(), cluster.client("faulty.localhost"));
    api.deploy_and_wait(&Bundle::graph("faulty")).await;
    assert_eq!(client.get("/config").await.body, "config=from config variable=from variables\n");

    let answer = client.get("/log").await;
    assert_eq!(answer.body, "spoken\n");
    let request = answer.headers["weft-request-id"].to_str().unwrap();
    let lines = api.logs("default/faulty", request).await.unwrap();
    let show = |line: &LogLine| (line.source(), line.level(), line.message.clone());
    assert_eq!(
        lines.iter().map(show).collect::<Vec<_>>(),
        [
            (Source::Stdout, Level::Info, "a line on stdout".to_owned()),
            (Source::Stderr, Level::Warn, "a line on stderr".to_owned()),
            (Source::Logging, Level::Warn, "faulty: a line by wasi:logging".to_owned()),
        ]
    );

    // Neither is there for a component whose manifest does not say so.
    let bare = Bundle::graph("faulty")
        .with("    config: {greeting: from config}\n", "")
        .with("    variables: {greeting: from variables}\n", "");
    api.deploy_and_wait(&bare).await;
    assert_eq!(client.get("/config").await.body, "config=none variable=undefined\n");
}
