//! The bytes of artifacts at the members of the control plane: those that rot are fetched anew, those that nothing names
//! go, and there are never more than may be.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::PathBuf;

use chaos_tests::api::{digest, shown};
use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use chaos_tests::wait::{SOON, holds, until};
use tonic::Code;

/// Longer than it takes from an upload to its deploy.
const GRACE: &str = "5s";

/// Where the component of an example is on the disk of a member.
fn stored(cluster: &mut Cluster, member: usize, example: &str) -> PathBuf {
    let digest = digest(&Bundle::graph(example).files()["./build/app.wasm"]);
    let folder = cluster.member(member).data_dir.join("artifacts");
    folder.join(digest.strip_prefix("sha256:").unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_rotted_are_fetched_from_another_member() {
    let mut cluster = Cluster::start_members(3, 1, &[]).await;
    cluster.api().deploy_and_wait(&Bundle::graph("hello")).await;
    let whole = Bundle::graph("hello").files().remove("./build/app.wasm").unwrap();
    for member in 1..=3 {
        let path = stored(&mut cluster, member, "hello");
        until("the bytes are there", SOON, async || holds(path.exists(), ())).await;
        cluster.member(member).kill();
        let mut bytes = whole.clone();
        let at = usize::try_from(cluster.choices.below(bytes.len() as u64)).unwrap();
        bytes[at] ^= 1 << cluster.choices.below(8);
        std::fs::write(&path, bytes).unwrap();
        cluster.member(member).start().await;
        until("they are whole again", SOON, async || {
            holds(std::fs::read(&path).is_ok_and(|bytes| bytes == whole), cluster.member(member).last_log())
        })
        .await;
        assert!(path.with_extension("damaged").exists(), "what was there is kept for those who ask why");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nothing_names_goes_and_everything_else_stays() {
    let mut cluster = Cluster::start_members(3, 1, &["--artifact-grace", GRACE]).await;
    let api = cluster.api();
    api.deploy_and_wait(&Bundle::graph("hello")).await;
    api.deploy_and_wait(&Bundle::graph("faulty")).await;
    // A revision that can be gone back to needs its bytes, whatever came after it.
    api.deploy_and_wait(&Bundle::graph("customers")).await;
    api.delete("default/hello").await.unwrap();
    let hello = digest(&Bundle::graph("hello").files()["./build/app.wasm"]);
    until("it is let go of", SOON, async || {
        let said = api.events("artifacts").await.map_err(|status| shown(&status))?;
        let names = said.iter().any(|event| event.message.contains(&hello["sha256:".len()..][..12]));
        holds(names, format!("{said:?}"))
    })
    .await;
    for member in 1..=3 {
        let path = stored(&mut cluster, member, "hello");
        until("the bytes are gone", SOON, async || holds(!path.exists(), path.display().to_string())).await;
        for example in ["faulty", "customers"] {
            assert!(stored(&mut cluster, member, example).exists(), "{example} at member {member}");
        }
    }
    // It is uploaded again like anything new.
    api.deploy_and_wait(&Bundle::graph("hello")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_bytes_than_there_may_be_are_refused_before_they_come() {
    let whole = Bundle::graph("hello").files().remove("./build/app.wasm").unwrap();
    // In units of a kibibyte, with room for this one and not for another.
    let quota = format!("{}Ki", whole.len().div_ceil(1 << 10));
    let cluster = Cluster::start_as(1, &["--artifact-quota", &quota], &[]).await;
    let api = cluster.api();
    api.deploy_and_wait(&Bundle::graph("hello")).await;
    let refused = api.deploy(&Bundle::graph("faulty")).await.unwrap_err();
    assert_eq!(
        (refused.code(), shown(&refused).contains("artifact_quota")),
        (Code::ResourceExhausted, true),
        "{refused:?}"
    );
    // What is stored already takes no more room.
    api.deploy_and_wait(&Bundle::graph("hello").with("graph: hello", "graph: hello\nlabels: {again: yes}"))
        .await;
}
