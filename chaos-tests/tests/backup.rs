//! Backups, and what is left after a quorum was lost: a restored cluster is another one, which nodes join again with their
//! data; a recovered one goes on where it was, and is refused while others are there.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use chaos_tests::api::{Api, digest, request_id, shown};
use chaos_tests::built;
use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use chaos_tests::ctl::{Ctl, argument};
use chaos_tests::traffic::Load;
use chaos_tests::wait::{SOON, holds, until};
use serde_json::Value;
use tonic::Code;

const GRAPH: &str = "default/customers";
const HOST: &str = "customers.localhost";
const TOKEN_LIFETIME: Duration = Duration::from_secs(600);

fn customers() -> Bundle {
    Bundle::graph("customers")
}

/// Another revision of it.
fn again() -> Bundle {
    customers().with("{data: pii}", "{data: pii, again: and-again}")
}

fn policy() -> Bundle {
    Bundle::example("customers", "pii-firewall.yaml")
}

/// A task of the control plane's program on a data directory.
fn maintain(arguments: &[&str], data_dir: &Path) -> Output {
    let mut command = Command::new(built::binary("control-plane"));
    command.env_clear().args(arguments).arg("--data-dir").arg(data_dir).output().unwrap()
}

fn refused(output: &Output, by: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(by), "{by:?} was expected: {output:?}");
}

fn done(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The graph answers, from the data that it had.
async fn knows(cluster: &Cluster, name: &str) {
    let mut client = cluster.client(HOST);
    until("the graph answers", SOON, async || {
        let answer =
            client.ask(http::Method::GET, "/customers/1", "").await.map_err(|error| format!("{error:?}"))?;
        holds(answer.status == 200 && answer.json()["name"] == name, answer.body)
    })
    .await;
}

async fn revision_of_state(api: &Api) -> u64 {
    api.status(GRAPH).await.unwrap().state_revision
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_becomes_another_cluster_which_nodes_join_again_with_their_data() {
    let mut cluster = Cluster::start().await;
    let api = cluster.api();
    api.deploy_and_wait(&customers()).await;
    api.apply_and_wait(&policy()).await;
    let mut client = cluster.client(HOST);
    let written = client.post("/customers/1", r#"{"name":"Augusta Ada King"}"#).await;
    assert_eq!(written.status, 200, "{}", written.body);
    let request = request_id();
    let before = api.deploy_as(&again(), &request).await.unwrap();

    let file = cluster.folder().join("weft.backup");
    let ctl = Ctl::new(&cluster);
    let saved: Value =
        serde_json::from_str(&ctl.done(&["cluster", "snapshot", "save", argument(&file), "-o", "json"]).await)
            .unwrap();
    let over = ctl.run(&["cluster", "snapshot", "save", argument(&file)]).await;
    assert!(over.code == 1 && over.stderr.contains("is there already"), "{over:?}");
    let looked = ctl.done(&["cluster", "snapshot", "inspect", argument(&file), "-o", "json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&looked).unwrap(), saved);
    assert_eq!(
        (&saved["graphs"], &saved["policies"], &saved["nodes"]),
        (&"1".into(), &"1".into(), &"1".into())
    );
    // What came behind it is not in it.
    api.deploy_and_wait(&Bundle::graph("hello")).await;

    cluster.control_plane.kill();
    let (data_dir, lost) = (cluster.control_plane.data_dir.clone(), cluster.folder().join("lost"));
    let restore = ["cluster", "snapshot", "restore", argument(&file), "--data-dir", argument(&data_dir)];
    let full = ctl.run(&restore).await;
    assert!(full.code == 1 && full.stderr.contains("is not empty"), "{full:?}");
    std::fs::rename(&data_dir, &lost).unwrap();
    let restored = ctl.run(&restore).await;
    assert!(restored.code == 0 && restored.stderr.contains("1 graphs, 1 policies"), "{restored:?}");
    cluster.control_plane.start().await;

    // It is another cluster: who was let into the first one is not known, and what the node runs goes on meanwhile.
    let api = cluster.api();
    let status = api.status(GRAPH).await.unwrap();
    assert_eq!(status.revision, before.revision);
    assert!(status.state_revision > 1_000_000, "{status:?}");
    assert_eq!(api.status("default/hello").await.unwrap_err().code(), Code::NotFound);
    assert_eq!(cluster.client(HOST).get("/customers/1").await.json()["name"], "Augusta Ada King");
    let node = api.node("n1").await.unwrap();
    assert_eq!(node.state, "down", "{node:?}");
    cluster.agent.restart().await;
    knows(&cluster, "Augusta Ada King").await;
    assert_eq!(api.node("n1").await.unwrap().state, "down");
    // A request that the backup has is not done again.
    let repeated = api.deploy_as(&again(), &request).await.unwrap();
    assert_eq!((repeated.revision, repeated.generation), (before.revision, before.generation));

    // By a token of this cluster the node joins it, and has its data.
    let token = cluster.token("n1", TOKEN_LIFETIME).await;
    cluster.agent.give_token(&token);
    cluster.agent.restart().await;
    cluster.node_is("n1", "ready").await;
    api.serving(GRAPH, before.generation).await;
    knows(&cluster, "Augusta Ada King").await;
    assert_eq!(cluster.client(HOST).get("/customers/1").await.json()["email"], "ada@*******.com");
    api.deploy_and_wait(&Bundle::graph("hello")).await;
    // What was lost is still the first cluster, and is not made another one by mistake.
    refused(&maintain(&["init"], &lost), "holds cluster");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_has_all_bytes_also_where_the_member_that_takes_it_lost_some() {
    let cluster = Cluster::start_members(3, 1, &[]).await;
    let api = cluster.api();
    api.deploy_and_wait(&customers()).await;
    let app = digest(&customers().files()["./build/app.wasm"]);
    let hex = app.strip_prefix("sha256:").unwrap();
    let stored = cluster.control_plane.data_dir.join("artifacts").join(hex);
    until("the bytes are there", SOON, async || holds(stored.exists(), ())).await;
    // A bit flips, and everything after it is as it was.
    let mut bytes = std::fs::read(&stored).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&stored, &bytes).unwrap();

    let file = cluster.folder().join("weft.backup");
    let address = cluster.control_plane_address().to_string();
    let ctl = Ctl::new(&cluster);
    ctl.done(&["--addr", &address, "cluster", "snapshot", "save", argument(&file)]).await;
    let bytes = std::fs::read(&stored).unwrap();
    assert_eq!(digest(&bytes), app, "it was fetched anew");
    ctl.done(&["cluster", "snapshot", "inspect", argument(&file)]).await;

    // Damage of any kind is found before anything is written.
    let whole = std::fs::read(&file).unwrap();
    let damaged = cluster.folder().join("damaged.backup");
    let empty = cluster.folder().join("empty");
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    let cases = [
        (flipped, "damaged"),
        (whole[..whole.len() - 1].to_vec(), "cut off"),
        ([&whole[..], b"more"].concat(), "stands behind its end"),
        (b"weftbak2".to_vec(), "does not begin as a backup"),
        (Vec::new(), "does not begin as a backup"),
    ];
    for (bytes, by) in cases {
        std::fs::write(&damaged, bytes).unwrap();
        let looked = ctl.run(&["cluster", "snapshot", "inspect", argument(&damaged)]).await;
        assert!(looked.code == 1 && looked.stderr.contains(by), "{by}: {looked:?}");
        refused(&maintain(&["restore", "--from", argument(&damaged)], &empty), by);
        assert!(!empty.exists(), "{by}");
    }
    // One that was cut off starts nothing, and is done again.
    done(&maintain(&["restore", "--from", argument(&file)], &empty));
    std::fs::write(empty.join("restoring"), b"").unwrap();
    refused(&maintain(&["--init", "--listen", "127.0.0.1:0"], &empty), "restore was cut off");
    done(&maintain(&["restore", "--from", argument(&file)], &empty));
    refused(&maintain(&["restore", "--from", argument(&file)], &empty), "is not empty");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_member_goes_on_alone_and_others_join_it_again() {
    let mut cluster = Cluster::start_members(3, 1, &[]).await;
    cluster.api().deploy_and_wait(&customers()).await;
    let load = Load::start(cluster.ingress_address(), HOST, "/customers/1", 1);
    let at = revision_of_state(&cluster.api()).await;
    let data_dir = cluster.control_plane.data_dir.clone();
    let recover = || maintain(&["recover", "--force-new-cluster"], &data_dir);

    // Not while it runs, not without saying so, not while another one is there: also one that stands still.
    refused(&recover(), "is in use");
    cluster.members[1].kill();
    cluster.control_plane.kill();
    refused(&maintain(&["recover"], &data_dir), "--force-new-cluster");
    refused(&recover(), "member 2 at");
    cluster.members[0].pause();
    refused(&recover(), "member 2 at");
    cluster.members[0].resume();
    cluster.members[0].kill();

    let said = done(&recover());
    assert!(said.contains("member 1 goes on alone") && said.contains("Members 2, 3 are out"), "{said}");
    cluster.control_plane.start().await;
    let api = cluster.api();
    let listed = api.members().await.unwrap();
    let ids: Vec<u64> = listed.members.iter().map(|member| member.id).collect();
    assert_eq!((ids, listed.leader), (vec![1], 1));
    assert!(revision_of_state(&api).await > at + 999_999);
    // Its nodes are still its own, and nothing that they run was disturbed.
    cluster.node_is("n1", "ready").await;
    let deployed = api.deploy(&again()).await.unwrap();
    api.serving(GRAPH, deployed.generation).await;

    // One that was out does not come back as who it was.
    cluster.members[0].start().await;
    until("it is told that it is out", SOON, async || {
        let state = cluster.api_of(2).status(GRAPH).await;
        holds(state.is_err(), format!("{state:?}"))
    })
    .await;
    assert_eq!(api.members().await.unwrap().members.len(), 1);
    cluster.members[0].kill();
    let number = cluster.add_member();
    cluster.let_member_join(number).await;
    let ids: Vec<u64> = api.members().await.unwrap().members.iter().map(|member| member.id).collect();
    assert_eq!(ids, [1, 4], "no id is given again");
    load.stop_all_good(10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_log_of_the_last_member_has_is_kept() {
    let mut cluster = Cluster::start_members(3, 1, &[]).await;
    let api = cluster.api();
    let leader = cluster.leader().await;
    api.deploy_and_wait(&Bundle::graph("hello")).await;
    // Acknowledged, and kept by whichever member is left.
    let kept = api
        .deploy(&Bundle::graph("hello").with("graph: hello", "graph: hello\nlabels: {last: one}"))
        .await
        .unwrap();
    let left = leader % 3 + 1;
    for number in 1..=3 {
        cluster.member(number).kill();
    }
    let data_dir = cluster.member(left).data_dir.clone();
    done(&maintain(&["recover", "--force-new-cluster"], &data_dir));
    cluster.member(left).start().await;
    let status = cluster
        .api_of(left)
        .status("default/hello")
        .await
        .unwrap_or_else(|status| panic!("{}", shown(&status)));
    assert!(status.revision == kept.revision || status.revision + 1 == kept.revision, "{status:?}");
    refused(&maintain(&["init"], &data_dir), "is in use");
}

#[test]
fn a_cluster_is_made_once() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    refused(&maintain(&["recover", "--force-new-cluster"], &data_dir), "holds no cluster");
    let said = done(&maintain(&["init"], &data_dir));
    assert!(said.contains("is made"), "{said}");
    refused(&maintain(&["init"], &data_dir), "holds cluster");
    let said = done(&maintain(&["recover", "--force-new-cluster"], &data_dir));
    assert!(said.contains("member 1 goes on alone"), "{said}");
    let log = maintain(&["init", "--storage", "wal"], &data_dir);
    refused(&log, "was made with sled");
}
