//! The founding example: the same unchanged component shows whole e-mail addresses, and with the policy in front of
//! its database shows them without their domains.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use chaos_tests::api::{Api, digest};
use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use chaos_tests::wait::{SOON, until};

const WHOLE: &str = r#"[{"id":1,"name":"Ada Lovelace","email":"ada@example.com"},{"id":2,"name":"Grace Hopper","email":"grace@navy.example.org"},{"id":3,"name":"Edsger Dijkstra","email":"edsger@example.nl"}]"#;
const MASKED: &str = r#"[{"id":1,"name":"Ada Lovelace","email":"ada@*******.com"},{"id":2,"name":"Grace Hopper","email":"grace@****.*******.org"},{"id":3,"name":"Edsger Dijkstra","email":"edsger@*******.nl"}]"#;
const GRAPH: &str = "default/customers";
const HOST: &str = "customers.localhost";

fn policy() -> Bundle {
    Bundle::example("customers", "pii-firewall.yaml")
}

/// The linked components with their digests, and those that a policy put there.
async fn components(api: &Api) -> Vec<(String, String, bool)> {
    let linked = api.get(GRAPH, 0).await.unwrap().linked.unwrap();
    let show = |component: proto::weft::graph::v1::LinkedComponent| {
        (component.name, component.artifact.unwrap().digest, component.policy.is_some())
    };
    linked.components.into_iter().map(show).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_hides_the_domains_of_an_unchanged_graph_and_gives_them_back() {
    let cluster = Cluster::start().await;
    let (api, mut client) = (cluster.api(), cluster.client(HOST));
    let app = ("app".to_owned(), digest(&Bundle::graph("customers").files()["./build/app.wasm"]), false);

    let deployed = api.deploy_and_wait(&Bundle::graph("customers")).await;
    assert_eq!((deployed.graph.as_str(), deployed.revision, deployed.unchanged), (GRAPH, 1, false));
    let answer = client.get("/customers").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, WHOLE));
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(components(&api).await, std::slice::from_ref(&app));

    let applied = api.apply_and_wait(&policy()).await;
    assert_eq!(applied.relinked.len(), 1, "{applied:?}");
    assert_eq!(client.get("/customers").await.body, MASKED);
    assert_eq!(client.get("/customers/1").await.json()["email"], "ada@*******.com");
    let proxy = digest(&policy().files()["./build/pii-proxy.wasm"]);
    assert_eq!(components(&api).await, [app.clone(), ("app--pii-firewall".to_owned(), proxy, true)]);
    assert_eq!(api.status(GRAPH).await.unwrap().revision, 1, "a policy makes no revision of the graph");
    assert!(api.apply_and_wait(&policy()).await.unchanged);

    let deleted = api.delete_policy_and_wait("pii-firewall").await;
    assert_eq!(deleted.relinked.len(), 1, "{deleted:?}");
    assert_eq!(client.get("/customers").await.body, WHOLE);
    assert_eq!(components(&api).await, [app]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_changes_a_customer_also_through_the_policy() {
    let cluster = Cluster::start().await;
    let (api, mut client) = (cluster.api(), cluster.client(HOST));
    api.deploy_and_wait(&Bundle::graph("customers")).await;

    let changed = client.post("/customers/2", r#"{"email":"grace@example.net"}"#).await;
    assert_eq!(
        (changed.status, changed.body.as_str()),
        (200, r#"{"id":2,"name":"Grace Hopper","email":"grace@example.net"}"#)
    );
    assert_eq!(client.get("/customers/2").await.body, changed.body);

    api.apply_and_wait(&policy()).await;
    let changed = client.post("/customers/3", r#"{"name":"E. W. Dijkstra","email":"ewd@example.org"}"#).await;
    assert_eq!(changed.body, r#"{"id":3,"name":"E. W. Dijkstra","email":"ewd@*******.org"}"#);
    api.delete_policy_and_wait("pii-firewall").await;
    let whole = r#"{"id":3,"name":"E. W. Dijkstra","email":"ewd@example.org"}"#;
    assert_eq!(client.get("/customers/3").await.body, whole, "what was written is whole");

    for (method, path, body, status) in [
        (http::Method::POST, "/customers/9", r#"{"name":"x"}"#, 404),
        (http::Method::POST, "/customers/1", "[]", 400),
        (http::Method::POST, "/customers/x", "{}", 400),
        (http::Method::DELETE, "/customers/1", "", 405),
        (http::Method::GET, "/elsewhere", "", 404),
    ] {
        let answer = client.ask(method.clone(), path, body).await.unwrap();
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_and_graphs_roll_back_alone() {
    let cluster = Cluster::start().await;
    let (api, mut client) = (cluster.api(), cluster.client(HOST));
    api.deploy_and_wait(&Bundle::graph("customers")).await;

    // The second version selects other graphs.
    api.apply_and_wait(&policy()).await;
    let second = api.apply_and_wait(&policy().with("{data: pii}", "{data: payroll}")).await;
    assert_eq!(client.get("/customers").await.body, WHOLE);
    let back = api.rollback_policy_and_wait("pii-firewall").await;
    assert!(back.generation > second.generation, "{back:?}");
    assert_eq!(client.get("/customers").await.body, MASKED);

    // The second revision is one that the policy does not select.
    let second = api.deploy_and_wait(&Bundle::graph("customers").with("labels: {data: pii}\n", "")).await;
    assert_eq!((second.revision, client.get("/customers").await.body.as_str()), (2, WHOLE));
    let third = api.rollback_and_wait(GRAPH, 0).await;
    assert_eq!((third.revision, client.get("/customers").await.body.as_str()), (3, MASKED));
    let history = api.history(GRAPH).await.unwrap();
    let shown: Vec<(u64, u64, bool)> = history.iter().map(|r| (r.number, r.rollback_to, r.current)).collect();
    assert_eq!(shown, [(3, 1, true), (2, 0, false), (1, 0, false)]);
    assert_eq!(api.get(GRAPH, 3).await.unwrap().manifest, Bundle::graph("customers").manifest());
}

#[tokio::test(flavor = "multi_thread")]
async fn data_outlives_its_graph() {
    let cluster = Cluster::start().await;
    let (api, mut client) = (cluster.api(), cluster.client(HOST));
    api.deploy_and_wait(&Bundle::graph("customers")).await;
    let changed = client.post("/customers/1", r#"{"name":"Augusta Ada King"}"#).await.body;
    api.delete(GRAPH).await.unwrap();
    until("the graph is gone", SOON, async || match client.get("/customers/1").await.status {
        404 => Ok(()),
        other => Err(other),
    })
    .await;
    let again = api.deploy_and_wait(&Bundle::graph("customers")).await;
    assert_eq!(again.revision, 1, "it is another graph of the same name");
    assert_eq!(client.get("/customers/1").await.body, changed, "the seed script is not run again");
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_at_the_same_time_wait_for_each_other() {
    const WRITERS: usize = 8;
    const WRITES: usize = 25;
    let cluster = Cluster::start().await;
    cluster.api().deploy_and_wait(&Bundle::graph("customers")).await;
    let write = |writer: usize| {
        let mut client = cluster.client(HOST);
        tokio::spawn(async move {
            for number in 0..WRITES {
                let name = format!(r#"{{"name":"{writer}-{number}"}}"#);
                let answer = client.post("/customers/1", &name).await;
                assert_eq!(answer.status, 200, "{}", answer.body);
            }
        })
    };
    let writers: Vec<_> = (0..WRITERS).map(write).collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let name = cluster.client(HOST).get("/customers/1").await.json()["name"].as_str().unwrap().to_owned();
    assert!(name.ends_with(&format!("-{}", WRITES - 1)), "the last write of some writer is the last: {name}");
}
