//! An agent serves from its own disk, and never runs what was changed there.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::PathBuf;

use chaos_tests::api::digest;
use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use chaos_tests::traffic::Client;
use chaos_tests::wait::{SOON, holds, until};

const HELLO: &str = "hello from weft\n";

async fn serves(client: &mut Client, body: &str) {
    until("the graph serves", SOON, async || match client.ask(http::Method::GET, "/", "").await {
        Ok(answer) if answer.status == 200 && answer.body == body => Ok(()),
        other => Err(other),
    })
    .await;
}

fn artifact(cluster: &Cluster, name: &str) -> PathBuf {
    let digest = digest(&Bundle::graph(name).files()["./build/app.wasm"]);
    cluster.agent.data_dir.join("artifacts").join(digest.strip_prefix("sha256:").unwrap())
}

fn compiled(cluster: &Cluster) -> Vec<PathBuf> {
    let folder = std::fs::read_dir(cluster.agent.data_dir.join("compiled")).unwrap();
    let files = folder.map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "cwasm")).collect()
}

/// Changes one bit in the middle.
fn flip(path: &PathBuf) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_from_its_disk_when_the_control_planes_artifacts_are_gone() {
    let mut cluster = Cluster::start().await;
    cluster.api().deploy_and_wait(&Bundle::graph("hello")).await;
    let mut client = cluster.client("hello.localhost");
    // The control plane is there, and its store is not.
    cluster.control_plane.kill();
    std::fs::remove_dir_all(cluster.control_plane.data_dir.join("artifacts")).unwrap();
    cluster.control_plane.start().await;
    cluster.agent.restart().await;
    serves(&mut client, HELLO).await;
    // Nor is the control plane.
    cluster.control_plane.kill();
    cluster.agent.restart().await;
    serves(&mut client, HELLO).await;
    // Nor is compiled code.
    cluster.agent.kill();
    for path in compiled(&cluster) {
        std::fs::remove_file(path).unwrap();
    }
    cluster.agent.start().await;
    serves(&mut client, HELLO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_artifact_is_pulled_again_and_not_run_meanwhile() {
    let mut cluster = Cluster::start().await;
    let api = cluster.api();
    api.deploy_and_wait(&Bundle::graph("hello")).await;
    let mut client = cluster.client("hello.localhost");
    let path = artifact(&cluster, "hello");
    let good = std::fs::read(&path).unwrap();

    // With the control plane there, it heals.
    cluster.agent.kill();
    flip(&path);
    cluster.agent.start().await;
    serves(&mut client, HELLO).await;
    assert!(std::fs::read(&path).unwrap() == good, "the right bytes are back");

    // Without it, the graph is down rather than wrong. Another component's bytes are no better than a flipped bit.
    cluster.agent.kill();
    cluster.control_plane.kill();
    let other = &Bundle::graph("faulty").files()["./build/app.wasm"];
    std::fs::write(&path, other).unwrap();
    cluster.agent.start().await;
    until("the agent says so", SOON, async || {
        let log = cluster.agent.last_log();
        holds(log.contains("artifact_unavailable") || log.contains("could not be pulled"), log)
    })
    .await;
    let answer = client.get("/").await;
    assert_eq!(answer.status, 503, "{}", answer.body);
    cluster.control_plane.start().await;
    serves(&mut client, HELLO).await;
    assert!(std::fs::read(&path).unwrap() == good, "the right bytes are back");
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_compiled_code_is_compiled_again() {
    let mut cluster = Cluster::start().await;
    let api = cluster.api();
    api.deploy_and_wait(&Bundle::graph("hello")).await;
    let mut client = cluster.client("hello.localhost");
    let hello = compiled(&cluster);
    assert_eq!(hello.len(), 1, "{hello:?}");
    let hello = hello[0].clone();
    api.deploy_and_wait(&Bundle::graph("faulty")).await;
    let faulty = compiled(&cluster).into_iter().find(|path| *path != hello).unwrap();
    let good = std::fs::read(&hello).unwrap();

    cluster.agent.kill();
    flip(&hello);
    cluster.agent.start().await;
    serves(&mut client, HELLO).await;
    assert!(cluster.agent.last_log().contains("wrong seal"), "it is noticed");
    assert_ne!(std::fs::read(&hello).unwrap().len(), 0, "it is made again");

    // Right code in a wrong place: sealed by this node, under another name.
    cluster.agent.kill();
    std::fs::copy(&faulty, &hello).unwrap();
    cluster.agent.start().await;
    serves(&mut client, HELLO).await;
    assert!(cluster.agent.last_log().contains("wrong seal"), "it is noticed");

    // Right code of another node.
    cluster.agent.kill();
    std::fs::remove_file(cluster.agent.data_dir.join("compiled.key")).unwrap();
    std::fs::write(&hello, &good).unwrap();
    cluster.agent.start().await;
    serves(&mut client, HELLO).await;
    assert!(cluster.agent.last_log().contains("wrong seal"), "it is noticed");
}
