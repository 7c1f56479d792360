//! `ctl` against the real cluster: its main paths, and the exit codes that scripts rely on.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use chaos_tests::ctl::{Ctl, argument};
use chaos_tests::wait::{SOON, until};
use serde_json::Value;

const DONE: i32 = 0;
const FAILED: i32 = 1;
const CHANGES: i32 = 2;
const STILL_RUNNING: i32 = 3;
const UNREACHABLE: i32 = 4;
const USAGE: i32 = 64;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

/// A line that has all of these words, in any order.
fn has_line(text: &str, words: &[&str]) -> bool {
    text.lines().any(|line| words.iter().all(|word| line.contains(word)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graph_and_its_policy_from_deploy_to_delete() {
    let cluster = Cluster::start().await;
    let ctl = Ctl::new(&cluster);
    let folder = Bundle::graph("customers").folder().to_owned();
    let (graph, policy) = (folder.join("graph.yaml"), folder.join("pii-firewall.yaml"));
    let (graph, policy) = (argument(&graph), argument(&policy));
    let mut client = cluster.client("customers.localhost");

    assert_eq!(ctl.run(&["plan", graph, "--exit-code"]).await.code, CHANGES);
    let planned = json(&ctl.done(&["plan", graph, "-o", "json"]).await);
    let id = planned["id"].as_str().or(planned["plan"]["id"].as_str()).expect("a plan has an id").to_owned();
    let stale = ctl.run(&["deploy", graph, "--plan", "000000000000"]).await;
    assert!(stale.code == FAILED && stale.stderr.contains("plan_stale"), "{stale:?}");
    let url = ctl.done(&["deploy", graph, "--plan", &id]).await;
    assert_eq!(url.trim(), format!("http://customers.localhost:{}/", cluster.ingress_address().port()));
    assert_eq!(client.get("/customers/1").await.json()["email"], "ada@example.com");
    assert_eq!(ctl.run(&["plan", graph, "--exit-code"]).await.code, DONE);

    ctl.done(&["policy", "apply", policy]).await;
    assert_eq!(client.get("/customers/1").await.json()["email"], "ada@*******.com");
    assert!(ctl.done(&["graph", "customers"]).await.contains("pii-firewall"));
    assert!(has_line(&ctl.done(&["policy", "list"]).await, &["pii-firewall", "enforce"]));
    let checked = ctl.done(&["policy", "check", "customers/app", "fermyon:spin/sqlite@2.0.0"]).await;
    assert!(checked.contains("pii-firewall"), "{checked}");

    let access = ctl.done(&["access", "customers/app"]).await;
    assert!(has_line(&access, &["fermyon:spin/sqlite@2.0.0", "pii-firewall", "crm-db"]), "{access}");
    let denied = ctl.run(&["access", "customers/app", "--can", "example.com"]).await;
    assert!(denied.code == FAILED && denied.stdout.starts_with("no: "), "{denied:?}");
    assert!(ctl.done(&["node", "show", "n1"]).await.contains("customers"));

    let status = json(&ctl.done(&["status", "customers", "-o", "json"]).await);
    assert_eq!(status["graph"], "default/customers");
    assert!(status.get("serving").is_some(), "{status}");
    assert_eq!(ctl.done(&["list", "-q"]).await.trim(), "default/customers");
    assert!(has_line(&ctl.done(&["node", "list"]).await, &["n1", "ready"]));
    assert!(ctl.done(&["why", "customers"]).await.contains("n1"));
    let events = ctl.done(&["events", "customers"]).await;
    for reason in ["deployed", "placed", "relinked"] {
        assert!(events.contains(reason), "{events}");
    }

    ctl.done(&["policy", "delete", "pii-firewall", "--yes"]).await;
    assert_eq!(client.get("/customers/1").await.json()["email"], "ada@example.com");
    ctl.done(&["policy", "apply", policy]).await;
    assert_eq!(client.get("/customers/1").await.json()["email"], "ada@*******.com");
    ctl.done(&["policy", "delete", "pii-firewall", "--yes"]).await;

    let asked = ctl.run(&["delete", "customers"]).await;
    assert!(asked.code == FAILED && asked.stderr.contains("--yes"), "{asked:?}");
    ctl.done(&["delete", "customers", "--yes"]).await;
    until("the route is gone", SOON, async || match client.get("/customers").await.status {
        404 => Ok(()),
        other => Err(other),
    })
    .await;
    assert_eq!(ctl.run(&["status", "customers"]).await.code, FAILED);
}

#[tokio::test(flavor = "multi_thread")]
async fn revisions_are_listed_compared_and_rolled_back() {
    let cluster = Cluster::start().await;
    let ctl = Ctl::new(&cluster);
    let folder = cluster.folder().join("faulty");
    std::fs::create_dir_all(&folder).unwrap();
    let mut client = cluster.client("faulty.localhost");
    let first = Bundle::graph("faulty").write(&folder, "one.yaml");
    let second = Bundle::graph("faulty").with("from config", "two").write(&folder, "two.yaml");

    ctl.done(&["deploy", argument(&first)]).await;
    let id = "the-same-request";
    for _ in 0..2 {
        ctl.done(&["deploy", argument(&second), "--request-id", id, "--expected-revision", "1"]).await;
    }
    assert_eq!(client.get("/config").await.body, "config=two variable=from variables\n");
    let reused = ctl.run(&["deploy", argument(&first), "--request-id", id]).await;
    assert!(reused.code == FAILED && reused.stderr.contains("idempotency_mismatch"), "{reused:?}");
    let conflict = ctl.run(&["deploy", argument(&first), "--expected-revision", "1"]).await;
    assert!(conflict.code == FAILED && conflict.stderr.contains("generation_conflict"), "{conflict:?}");

    let diff = ctl.run(&["diff", "faulty@1", "faulty@2"]).await.stdout;
    assert!(diff.contains("-    config: {greeting: from config}"), "{diff}");
    assert!(diff.contains("+    config: {greeting: two}"), "{diff}");
    ctl.done(&["rollback", "faulty@1"]).await;
    assert_eq!(client.get("/config").await.body, "config=from config variable=from variables\n");
    let history = json(&ctl.done(&["history", "faulty", "-o", "json"]).await);
    assert_eq!(history["revisions"].as_array().map(Vec::len), Some(3), "{history}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_request_is_found_in_the_logs_by_its_id() {
    let cluster = Cluster::start().await;
    let ctl = Ctl::new(&cluster);
    ctl.done(&["deploy", argument(&Bundle::graph("faulty").folder().join("graph.yaml"))]).await;
    let answer = cluster.client("faulty.localhost").get("/trap").await;
    assert_eq!(answer.status, 500);
    let lines = ctl.done(&["logs", "faulty", "--request", &answer.request_id()]).await;
    assert!(lines.contains("unreachable"), "{lines}");
    assert!(ctl.done(&["logs", "faulty/app", "--level", "error"]).await.contains("unreachable"));
    assert!(ctl.done(&["logs", "faulty", "--since", "1h"]).await.contains("unreachable"));
    assert_eq!(ctl.done(&["logs", "faulty", "--since", "1ms"]).await, "");
    let other = ctl.done(&["logs", "faulty", "--request", "00000000-0000-0000-0000-000000000000"]).await;
    assert_eq!(other, "", "nothing of other requests");
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_are_called_with_values() {
    let cluster = Cluster::start().await;
    let ctl = Ctl::new(&cluster);
    ctl.done(&["deploy", argument(&Bundle::graph("chain").folder().join("graph.yaml"))]).await;
    let greet = ["invoke", "chain/back", r#"weft:examples/greeter@1.0.0#greet("ada")"#];
    assert_eq!(ctl.done(&greet).await.trim(), r#""hello, ada""#);
    assert_eq!(ctl.done(&["invoke", "chain/back", "weft:examples/greeter@1.0.0#add(2, 3)"]).await.trim(), "5");
    for (call, word) in [
        ("weft:examples/greeter@1.0.0#greet(1)", "invalid_arguments"),
        ("weft:examples/greeter@1.0.0#great(\"ada\")", "unknown_function"),
        ("weft:examples/other@1.0.0#greet(\"ada\")", "unknown_interface"),
    ] {
        let refused = ctl.run(&["invoke", "chain/back", call]).await;
        assert!(refused.code == FAILED && refused.stderr.contains(word), "{call}: {refused:?}");
    }
    let unknown = ctl.run(&["invoke", "chain/bakc", r#"weft:examples/greeter@1.0.0#greet("ada")"#]).await;
    assert_eq!(unknown.code, FAILED, "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_tell_what_became_of_it() {
    let mut cluster = Cluster::start().await;
    let ctl = Ctl::new(&cluster);
    let hello = Bundle::graph("hello").folder().join("graph.yaml");
    let folder = cluster.folder().join("broken");
    std::fs::create_dir_all(&folder).unwrap();
    let broken = folder.join("graph.yaml");
    std::fs::write(&broken, Bundle::graph("hello").manifest().replace("to: app", "to: ap")).unwrap();

    assert_eq!(ctl.run(&["deploy"]).await.code, USAGE);
    assert_eq!(ctl.run(&["depoly", argument(&hello)]).await.code, USAGE);
    let refused = ctl.run(&["deploy", argument(&broken)]).await;
    assert_eq!(refused.code, FAILED);
    assert!(
        refused.stderr.contains("unknown_component") && refused.stderr.contains("`app`"),
        "{}",
        refused.stderr
    );
    assert_eq!(ctl.run(&["status", "nowhere"]).await.code, FAILED);

    // No node: it is committed, and the wait ends without a result.
    cluster.agent.kill();
    until("the node is given up", SOON, async || match cluster.api().node("n1").await {
        Ok(node) if node.state == "down" => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let waited = ctl.run(&["deploy", argument(&hello), "--deadline", "500ms"]).await;
    assert_eq!(waited.code, STILL_RUNNING, "{waited:?}");
    let why = ctl.done(&["why", "hello"]).await;
    assert!(has_line(&why, &["n1"]), "{why}");
    cluster.agent.start().await;
    ctl.done(&["deploy", argument(&hello)]).await;
    assert_eq!(cluster.client("hello.localhost").get("/").await.body, "hello from weft\n");

    cluster.control_plane.kill();
    for command in [&["list"][..], &["deploy", argument(&hello), "--deadline", "2s"]] {
        let unreachable = ctl.run(command).await;
        assert_eq!(unreachable.code, UNREACHABLE, "{unreachable:?}");
    }
}
