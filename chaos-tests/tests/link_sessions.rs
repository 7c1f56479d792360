//! Sessions between nodes that are given up, killed or trap: what they held at the provider's node comes back, and the
//! logs of both nodes tell of them under one request.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::Path;
use std::time::Duration;

use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use chaos_tests::traffic::Client;
use chaos_tests::wait::{SOON, holds, until};
use proto::weft::log::v1::Level;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// Shares of an agent's pool.
const POOL: usize = 2_000;
/// The deadline of the calls that are given up.
const DEADLINE: &str = "60s";
/// Far below that.
const FREE_WITHIN: Duration = Duration::from_secs(10);
/// What memory may differ by without anything being kept: allocators and pools settle.
const MEMORY_SLACK_BYTES: u64 = 48 << 20;
/// What is written in place of the line ROOM for each share.
const SHARE: &str = "(core instance (instantiate $room))";

/// The nodes that call: one alone does not have all of another.
const CALLERS: [&str; 2] = ["n1", "n3"];

/// A graph with `app` on this node that calls a provider on n2, whose instances take so many shares of the pool each.
fn apart(cluster: &Cluster, provider: &str, on: &str, shares: usize) -> Bundle {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/link_faults");
    let name = format!("{provider}-{on}");
    let folder = cluster.folder().join(&name);
    std::fs::create_dir_all(&folder).unwrap();
    for (source, file) in [("app", "app.wasm"), (provider, "work.wasm")] {
        let text = std::fs::read_to_string(sources.join(format!("{source}.wat"))).unwrap();
        let text = text.replace(";; ROOM", &SHARE.repeat(shares));
        std::fs::write(folder.join(file), wat::parse_str(text).unwrap()).unwrap();
    }
    let limits = format!("limits: {{deadline: {DEADLINE}}}");
    let manifest = format!(
        "version: 1
graph: {name}
ingress:
  - {{http: {{host: {name}.localhost, path: /}}, to: app}}
components:
  app: {{source: ./app.wasm, {limits}, placement: {{require: {{node: {on}}}}}}}
  work: {{source: ./work.wasm, {limits}, placement: {{require: {{node: n2}}}}}}
"
    );
    Bundle::of(folder, manifest)
}

/// The graph `hello` on n2, whose answers say whether that node has room.
async fn neighbour(cluster: &Cluster) -> Client {
    cluster.api().deploy_and_wait(&Bundle::graph("hello").on("app.wasm", "n2")).await;
    Client::new(cluster.ingress_address_of("n2"), "hello.localhost")
}

/// So many clients that have asked and wait, in equal parts at each node that calls.
async fn ask(cluster: &Cluster, provider: &str, count: usize) -> Vec<TcpStream> {
    let mut clients = Vec::new();
    for node in CALLERS.iter().cycle().take(count) {
        let mut client = TcpStream::connect(cluster.ingress_address_of(node)).await.unwrap();
        let request = format!("GET / HTTP/1.1\r\nhost: {provider}-{node}.localhost\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        clients.push(client);
    }
    clients
}

async fn is_full(neighbour: &mut Client) {
    until("the provider's node is full", SOON, async || {
        let answer = neighbour.get("/").await;
        holds(answer.status == 503 && answer.json()["error"] == "no_capacity", answer)
    })
    .await;
}

async fn has_room(neighbour: &mut Client) {
    until("the provider's node has room", FREE_WITHIN, async || {
        let answer = neighbour.get("/").await;
        holds(answer.status == 200, answer)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_ends_the_instance_of_its_provider() {
    const SHARES: usize = 200;
    let cluster = Cluster::start_nodes(3).await;
    let mut neighbour = neighbour(&cluster).await;
    for name in ["sleeps", "spins"] {
        for on in CALLERS {
            cluster.api().deploy_and_wait(&apart(&cluster, name, on, SHARES)).await;
        }
        has_room(&mut neighbour).await;
        let clients = ask(&cluster, name, POOL / SHARES).await;
        is_full(&mut neighbour).await;
        drop(clients);
        has_room(&mut neighbour).await;
        // Not only some of them ended: others find room for as many.
        let clients = ask(&cluster, name, POOL / SHARES).await;
        is_full(&mut neighbour).await;
        drop(clients);
        has_room(&mut neighbour).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_sessions_than_there_are_instances_are_given_up_and_killed_and_nothing_of_them_stays() {
    const SHARES: usize = 8;
    let mut cluster = Cluster::start_nodes(3).await;
    let mut neighbour = neighbour(&cluster).await;
    for on in CALLERS {
        cluster.api().deploy_and_wait(&apart(&cluster, "sleeps", on, SHARES)).await;
    }
    let mut settled = None;
    for wave in 0..5 {
        let clients = ask(&cluster, "sleeps", POOL / SHARES).await;
        is_full(&mut neighbour).await;
        if wave % 2 == 1 {
            cluster.agent.restart().await;
            drop(clients);
        } else {
            drop(clients);
        }
        has_room(&mut neighbour).await;
        let used = cluster.agent_named("n2").memory_bytes();
        let settled = *settled.get_or_insert(used);
        assert!(
            used < settled + MEMORY_SLACK_BYTES,
            "wave {wave}: {} MiB, then {} MiB",
            settled >> 20,
            used >> 20
        );
        until("the graph is called again", SOON, async || {
            let mut client = cluster.client("sleeps-n1.localhost");
            let asked = client.ask(http::Method::GET, "/", "");
            let asked = tokio::time::timeout(Duration::from_millis(50), asked).await;
            holds(asked.is_err(), asked)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trap_of_a_provider_is_told_by_both_nodes_under_one_request() {
    let cluster = Cluster::start_nodes(2).await;
    let api = cluster.api();
    api.deploy_and_wait(&apart(&cluster, "traps", "n1", 0)).await;
    for _ in 0..3 {
        let answer = cluster.client("traps-n1.localhost").get("/").await;
        assert_eq!(
            (answer.status, &answer.json()["error"]),
            (500, &"component_failed".into()),
            "{}",
            answer.body
        );
        let request = answer.request_id();
        until("both nodes tell of it", SOON, async || {
            let lines = api.logs("default/traps-n1", &request).await.map_err(|status| status.to_string())?;
            let told = |node: &str, component: &str| {
                lines.iter().any(|line| {
                    let is_of = line.node == node && line.component == component && line.request == request;
                    is_of && line.level() == Level::Error && line.message.contains("unreachable")
                })
            };
            holds(told("n1", "app") && told("n2", "work"), format!("{lines:#?}"))
        })
        .await;
    }
}
