//! Links between nodes: a graph whose parts are on three nodes answers byte for byte as on one, and a lost node costs
//! its callers an honest answer.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use chaos_tests::ctl::{Ctl, argument};
use chaos_tests::traffic::{Client, Load};
use chaos_tests::wait::{SOON, until};

const GRAPH: &str = "default/customers";
const HOST: &str = "customers.localhost";

/// `customers` with the application on n1 and the database on n3.
fn parted() -> Bundle {
    Bundle::example("customers", "graph-apart.yaml")
}

/// The policy, with its component on n2.
fn firewall() -> Bundle {
    Bundle::example("customers", "pii-firewall-apart.yaml")
}

/// What the application answers to reads, a write, and reads again.
async fn conversation(cluster: &Cluster) -> Vec<(u16, String)> {
    let mut client = cluster.client(HOST);
    let mut answers = Vec::new();
    for path in ["/customers", "/customers/1", "/customers/99", "/nowhere"] {
        let answer = client.get(path).await;
        answers.push((answer.status, answer.body));
    }
    let changed = r#"{"name":"Ada King","email":"ada.king@example.com"}"#;
    let answer = client.ask(http::Method::POST, "/customers/1", changed).await.unwrap();
    answers.push((answer.status, answer.body));
    let answer = client.get("/customers").await;
    answers.push((answer.status, answer.body));
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_answer_as_one_does() {
    let whole = Cluster::start().await;
    whole.api().deploy_and_wait(&Bundle::graph("customers")).await;
    let plain = conversation(&whole).await;
    assert_eq!(plain[0].0, 200, "{plain:?}");
    whole.api().apply_and_wait(&Bundle::example("customers", "pii-firewall.yaml")).await;
    let masked = conversation(&whole).await;
    assert_ne!(plain, masked);
    drop(whole);

    let cluster = Cluster::start_nodes(3).await;
    let (api, ctl) = (cluster.api(), Ctl::new(&cluster));
    api.deploy_and_wait(&parted()).await;
    let drawn = ctl.done(&["graph", "customers"]).await;
    assert!(drawn.contains("(remote: n1 -> n3)"), "{drawn}");
    assert_eq!(conversation(&cluster).await, plain);
    api.apply_and_wait(&firewall()).await;
    let placed = async || {
        let drawn = ctl.done(&["graph", "customers"]).await;
        if drawn.contains("(remote: n1 -> n2 -> n3)") { Ok(()) } else { Err(drawn) }
    };
    until("the policy is on n2", SOON, placed).await;
    api.serving(GRAPH, 0).await;
    assert_eq!(conversation(&cluster).await, masked);
    assert!(ctl.done(&["status", "customers"]).await.contains("n1, n2, n3"));
    let elsewhere = Client::new(cluster.ingress_address_of("n2"), HOST).get("/customers").await;
    assert_eq!(
        (elsewhere.status, &elsewhere.body),
        (200, &masked.last().unwrap().1),
        "every ingress serves every route"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_provider_is_said_and_found_again() {
    let mut cluster = Cluster::start_nodes(3).await;
    let api = cluster.api();
    api.deploy_and_wait(&parted()).await;
    let mut client = cluster.client(HOST);
    let before = client.get("/customers").await;
    assert_eq!(before.status, 200);

    cluster.agent_named("n3").kill();
    let lost = client.get("/customers").await;
    assert_eq!(lost.status, 503, "{}", lost.body);
    assert_eq!(lost.json()["error"], "link_unavailable");
    until("the reason is in the log", SOON, async || {
        let lines = api.logs(GRAPH, &lost.request_id()).await.map_err(|status| status.to_string())?;
        let is_it = |message: &str| message.contains("app -> crm-db") && message.contains("node n3");
        if lines.iter().any(|line| is_it(&line.message)) { Ok(()) } else { Err(format!("{lines:#?}")) }
    })
    .await;

    cluster.agent_named("n3").start().await;
    until("it answers again", SOON, async || match client.get("/customers").await {
        answer if answer.status == 200 => {
            assert_eq!(answer.body, before.body);
            Ok(())
        }
        answer => Err(answer.body),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_a_policy_on_another_node_comes_and_goes() {
    let cluster = Cluster::start_nodes(3).await;
    let api = cluster.api();
    api.deploy_and_wait(&parted()).await;
    let load = Load::start(cluster.ingress_address(), HOST, "/customers", 4);
    for _ in 0..2 {
        api.apply_and_wait(&firewall()).await;
        until("the policy is on n2", SOON, async || {
            let placement = api.status(GRAPH).await.unwrap().placement.unwrap();
            if placement.away.values().any(|node| node == "n2") { Ok(()) } else { Err(placement) }
        })
        .await;
        api.serving(GRAPH, 0).await;
        api.delete_policy_and_wait("pii-firewall").await;
    }
    load.stop_all_good(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn distance_is_said_before_anything_is_deployed() {
    let cluster = Cluster::start_nodes(3).await;
    let ctl = Ctl::new(&cluster);
    let folder = cluster.folder().join("customers");
    let written = |bundle: Bundle, name: &str| {
        std::fs::create_dir_all(&folder).unwrap();
        bundle.write(&folder, name)
    };
    let apart = written(parted(), "apart.yaml");
    let plan = ctl.run(&["plan", argument(&apart)]).await;
    assert!(plan.code == 0 && plan.stdout.contains("remote: n1 -> n3"), "{plan:?}");
    assert!(plan.stderr.contains("app on n1 calls crm-db on n3"), "{plan:?}");
    assert_eq!(ctl.run(&["plan", argument(&apart), "--strict"]).await.code, 1);
    let strict = ctl.run(&["deploy", argument(&apart), "--strict"]).await;
    assert!(strict.code == 1 && strict.stderr.contains("strict_warnings"), "{strict:?}");

    let together = parted().with("to: crm-db}", "to: crm-db, locality: same-node}");
    let refused = ctl.run(&["deploy", argument(&written(together, "together.yaml"))]).await;
    assert!(refused.code == 1 && refused.stderr.contains("local_only"), "{refused:?}");
    let nowhere = parted().with("node: n3", "disk: ssd");
    let refused = ctl.run(&["deploy", argument(&written(nowhere, "nowhere.yaml"))]).await;
    assert!(refused.code == 1 && refused.stderr.contains("unschedulable"), "{refused:?}");
    assert!(refused.stderr.contains("has not the label disk=ssd"), "{}", refused.stderr);
    assert_eq!(ctl.run(&["status", "customers"]).await.code, 1, "nothing was deployed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapped_error_reaches_the_guest_and_its_instance_goes_on() {
    let mut cluster = Cluster::start_nodes(3).await;
    let api = cluster.api();
    let mapped = parted().with("to: crm-db}", "to: crm-db, timeout: 1s, on-loss: {error: io}}");
    api.deploy_and_wait(&mapped).await;
    let mut client = cluster.client(HOST);
    let before = client.get("/customers").await;
    assert_eq!(before.status, 200);

    cluster.agent_named("n3").kill();
    let told = client.get("/customers").await;
    // The guest's own words for a database that fails.
    assert!(told.status == 500 && told.body.contains("link_unavailable"), "{}: {}", told.status, told.body);
    assert!(!told.body.contains("component_failed"), "{}", told.body);
    cluster.agent_named("n3").start().await;
    until("it answers again", SOON, async || match client.get("/customers").await {
        answer if answer.status == 200 => Ok(()),
        answer => Err(answer.body),
    })
    .await;
}
