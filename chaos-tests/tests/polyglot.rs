//! Components of two languages are one graph: Rust calls Python and Python calls Rust, and with each on a node of its
//! own they answer byte for byte as on one.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use chaos_tests::ctl::{Ctl, argument};
use chaos_tests::wait::COMPILED;

const HOST: &str = "polyglot.localhost";

/// Every kind of answer that the interfaces between the components have.
async fn answers(cluster: &Cluster) -> Vec<(u16, String)> {
    let mut client = cluster.client(HOST);
    let mut answers = Vec::new();
    for items in ["apple:3,egg:12", "egg:6", "", "apple:1,unicorn:1", "radium:1,egg:2,lead:3", "apple:many"] {
        let answer = client.get(&format!("/quote?items={items}")).await;
        answers.push((answer.status, answer.body));
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn python_between_rust_answers_the_same_on_one_node_and_on_three() {
    let cluster = Cluster::start_nodes(3).await;
    let (api, ctl) = (cluster.api(), Ctl::new(&cluster));
    api.deploy_and_wait_for(&Bundle::graph("polyglot"), COMPILED).await;
    let drawn = ctl.done(&["graph", "polyglot"]).await;
    assert!(!drawn.contains("remote: "), "{drawn}");
    let python = drawn.lines().skip_while(|line| !line.contains("─ pricing"));
    assert!(!python.take(3).any(|line| line.contains("wasi:")), "Python is granted nothing: {drawn}");
    let fused = answers(&cluster).await;
    let statuses: Vec<u16> = fused.iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [200, 200, 400, 404, 410, 400], "{fused:#?}");
    let offer = r#"{"lines":[{"item":"apple","count":3,"cents":120},{"item":"egg","count":12,"cents":360}],"cents":480}"#;
    assert_eq!(fused[0].1.trim_end(), offer);
    assert!(fused[4].1.contains(r#"["radium","lead"]"#), "{fused:#?}");

    let apart = Bundle::example("polyglot", "graph-apart.yaml");
    let plan = ctl.done(&["plan", argument(&apart.folder().join("graph-apart.yaml"))]).await;
    assert!(plan.contains("remote: n1 -> n2") && plan.contains("remote: n2 -> n3"), "{plan}");
    api.deploy_and_wait_for(&apart, COMPILED).await;
    assert_eq!(answers(&cluster).await, fused);
    let drawn = ctl.done(&["graph", "polyglot"]).await;
    assert!(drawn.contains("(remote: n1 -> n2)") && drawn.contains("(remote: n2 -> n3)"), "{drawn}");
}
