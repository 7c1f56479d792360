//! A revision that cannot serve is said to have failed, soon and with its cause; what served before serves on.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::{Path, PathBuf};

use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use chaos_tests::ctl::{Ctl, argument};
use chaos_tests::traffic::Load;
use proto::weft::graph::v1::graph_status::State;

const GRAPH: &str = "default/customers";

/// `customers` in a folder whose files can be changed.
fn copied(folder: &Path) -> PathBuf {
    std::fs::create_dir_all(folder).unwrap();
    Bundle::graph("customers").write(folder, "graph.yaml")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_script_that_fails_fails_the_deploy_and_is_run_again_once_it_is_right() {
    let cluster = Cluster::start().await;
    let (api, ctl) = (cluster.api(), Ctl::new(&cluster));
    let folder = cluster.folder().join("customers");
    let manifest = copied(&folder);
    let seed = folder.join("seed.sql");
    let right = std::fs::read_to_string(&seed).unwrap();

    // The first statements are right, so a half of the script would leave a table behind.
    std::fs::write(&seed, format!("{right}INSERT INTO nowhere VALUES (1);\n")).unwrap();
    let failed = ctl.run(&["deploy", argument(&manifest)]).await;
    assert_eq!(failed.code, 1, "{failed:?}");
    assert!(failed.stderr.contains("seed_failed") && failed.stderr.contains("nowhere"), "{}", failed.stderr);
    let status = api.status(GRAPH).await.unwrap();
    let Some(State::Failed(why)) = status.state else { panic!("{status:?}") };
    assert_eq!((why.reason.as_str(), why.serving_generation), ("seed_failed", 0));
    let unanswered = cluster.client("customers.localhost").get("/customers").await;
    assert_eq!((unanswered.status, &unanswered.json()["error"]), (503, &"graph_not_serving".into()));

    std::fs::write(&seed, right).unwrap();
    ctl.done(&["deploy", argument(&manifest)]).await;
    let customers = cluster.client("customers.localhost").get("/customers").await.json();
    assert_eq!(customers.as_array().map(Vec::len), Some(3), "{customers}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_served_before_serves_on() {
    let cluster = Cluster::start().await;
    let (api, ctl) = (cluster.api(), Ctl::new(&cluster));
    let folder = cluster.folder().join("customers");
    let manifest = copied(&folder);
    ctl.done(&["deploy", argument(&manifest)]).await;
    let first = api.status(GRAPH).await.unwrap().generation;
    let load = Load::start(cluster.ingress_address(), "customers.localhost", "/customers", 4);

    std::fs::write(folder.join("wrong.sql"), "CREATE TABLE nonsense (;\n").unwrap();
    // Another capability is another database, which this revision would have to make.
    let second = std::fs::read_to_string(&manifest).unwrap().replace("crm-db", "other-db");
    std::fs::write(&manifest, second.replace("./seed.sql", "./wrong.sql")).unwrap();
    let failed = ctl.run(&["deploy", argument(&manifest)]).await;
    assert!(failed.code == 1 && failed.stderr.contains("seed_failed"), "{failed:?}");
    let status = api.status(GRAPH).await.unwrap();
    let Some(State::Failed(why)) = status.state else { panic!("{status:?}") };
    assert_eq!((status.revision, why.serving_generation), (2, first));

    ctl.done(&["rollback", "customers"]).await;
    assert_eq!(api.status(GRAPH).await.unwrap().revision, 3);
    load.stop_all_good(50).await;
}
