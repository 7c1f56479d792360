//! kill -9 of any process at any moment, then a restart: nothing acknowledged is lost, graphs serve again without a
//! redeploy, and what was written to their databases is there.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chaos_tests::api::{Api, request_id, shown};
use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use chaos_tests::traffic::{Client, Load};
use chaos_tests::wait::{SOON, holds, until};
use tonic::Status;

/// A kill comes within this time after the work began again: some tens of commits.
const KILL_WITHIN: Duration = Duration::from_millis(400);
/// How long an agent may take from its start to its first answer, with everything it needs on its disk. Far above
/// what it takes alone, far below what a compilation or a wait for a control plane would.
const SERVES_WITHIN: Duration = Duration::from_secs(8);
/// How long a client waits before it asks a control plane again that did not answer.
const RETRY_AFTER: Duration = Duration::from_millis(20);
const GRAPH: &str = "default/customers";

fn revision(number: usize) -> Bundle {
    Bundle::graph("faulty").with("{greeting: from config}", &format!("{{greeting: \"{number}\"}}"))
}

fn settings(number: usize) -> String {
    format!("config={number} variable=from variables\n")
}

fn policy() -> Bundle {
    Bundle::example("customers", "pii-firewall.yaml")
}

/// Asks under one request id until there is an answer; only the loss of the connection may come before it.
async fn insist<T>(what: &str, mut ask: impl AsyncFnMut(&str) -> Result<T, Status>) -> T {
    let id = request_id();
    until(what, SOON, async || match ask(&id).await {
        Ok(answer) => Ok(answer),
        Err(status) if is_lost(&status) => {
            tokio::time::sleep(RETRY_AFTER).await;
            Err(shown(&status))
        }
        Err(status) => panic!("{what}: {}", shown(&status)),
    })
    .await
}

fn is_lost(status: &Status) -> bool {
    use tonic::Code;
    matches!(
        status.code(),
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DeadlineExceeded | Code::Internal
    )
}

/// Deploys revision after revision until told to stop; returns how many were acknowledged.
async fn deploy_on(api: &Api, acknowledged: &AtomicUsize, stop: &AtomicBool) -> usize {
    let mut number = 0;
    while !stop.load(Ordering::Acquire) {
        number += 1;
        let bundle = revision(number);
        let answer = insist("a deploy", async |id| api.deploy_as(&bundle, id).await).await;
        // Each was applied once, however often it was asked for.
        assert_eq!(answer.revision, number as u64, "{answer:?}");
        acknowledged.store(number, Ordering::Release);
    }
    number
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_control_plane_acknowledged_survives_its_kills_and_graphs_do_not_notice() {
    let mut cluster = Cluster::start().await;
    let api = cluster.api();
    api.deploy_and_wait(&Bundle::graph("hello")).await;
    let load = Load::start(cluster.ingress_address(), "hello.localhost", "/", 2);
    let (acknowledged, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let kills = async {
        for _ in 0..6 {
            let before = acknowledged.load(Ordering::Acquire);
            until("a deploy between kills", SOON, async || {
                let now = acknowledged.load(Ordering::Acquire);
                holds(now > before, now)
            })
            .await;
            tokio::time::sleep(cluster.choices.moment(KILL_WITHIN)).await;
            cluster.control_plane.kill();
            let least = acknowledged.load(Ordering::Acquire) as u64;
            cluster.control_plane.start().await;
            let kept = insist("the history", async |_| api.history("default/faulty").await).await[0].number;
            assert!(kept >= least, "revision {kept} is the last, and {least} was acknowledged");
        }
        stop.store(true, Ordering::Release);
    };
    let (last, ()) = tokio::join!(deploy_on(&api, &acknowledged, &stop), kills);
    cluster.control_plane.restart().await;

    let history = insist("the history", async |_| api.history("default/faulty").await).await;
    assert_eq!((history[0].number, history[0].current), (last as u64, true));
    for summary in &history {
        let kept = api.get("default/faulty", summary.number).await.unwrap();
        let deployed = revision(usize::try_from(summary.number).unwrap());
        assert_eq!(kept.manifest, deployed.manifest(), "revision {}", summary.number);
    }
    cluster.node_ready().await;
    let generation = api.status("default/faulty").await.unwrap().generation;
    api.serving("default/faulty", generation).await;
    assert_eq!(cluster.client("faulty.localhost").get("/config").await.body, settings(last));
    load.stop_all_good(100).await;
}

/// Changes a customer over and over; knows what was acknowledged last.
struct Writer {
    acknowledged: usize,
    attempted: usize,
}

impl Writer {
    /// What was written as `number`; 0 is what the seed script wrote.
    fn email(number: usize) -> String {
        if number == 0 { "ada@example.com".to_owned() } else { format!("w{number}@example.com") }
    }

    /// Writes until it is told to stop, or the agent is gone.
    async fn write_on(&mut self, client: &mut Client, stop: &AtomicBool) {
        while !stop.load(Ordering::Acquire) {
            self.attempted += 1;
            let body = format!(r#"{{"email":"{}"}}"#, Self::email(self.attempted));
            match client.ask(http::Method::POST, "/customers/1", &body).await {
                Ok(answer) => {
                    assert_eq!(answer.status, 200, "{}", answer.body);
                    self.acknowledged = self.attempted;
                }
                Err(_) => return,
            }
        }
    }

    /// What is there must be the last that was acknowledged, or one that came after it.
    fn check(&self, body: &str) {
        let mut may_be = (self.acknowledged..=self.attempted).map(Self::email);
        let user = |email: &str| email.split('@').next().unwrap().to_owned();
        let found: serde_json::Value = serde_json::from_str(body).unwrap();
        let found = user(found["email"].as_str().unwrap());
        assert!(
            may_be.any(|email| user(&email) == found),
            "{found} is there; {} was acknowledged and {} attempted",
            self.acknowledged,
            self.attempted
        );
    }
}

/// Asks until the graph answers well.
async fn serves(client: &mut Client, path: &str) -> String {
    until(&format!("an answer to {path}"), SERVES_WITHIN, async || {
        match client.ask(http::Method::GET, path, "").await {
            Ok(answer) if answer.status == 200 => Ok(answer.body),
            other => Err(other),
        }
    })
    .await
}

/// Applies the policy and takes it away, over and over; returns whether it is in force at the end.
async fn change_policy_on(api: &Api, stop: &AtomicBool) -> bool {
    let mut masks = false;
    while !stop.load(Ordering::Acquire) {
        masks = !masks;
        if masks {
            insist("apply", async |id| api.apply_as(&policy(), id).await).await;
        } else {
            insist("delete", async |id| api.delete_policy_as("pii-firewall", id).await).await;
        }
    }
    masks
}

#[tokio::test(flavor = "multi_thread")]
async fn graphs_serve_again_with_their_data_whoever_was_killed() {
    let mut cluster = Cluster::start().await;
    let api = cluster.api();
    api.deploy_and_wait(&Bundle::graph("customers")).await;
    let mut client = cluster.client("customers.localhost");
    let mut writer = Writer { acknowledged: 0, attempted: 0 };
    let stop = AtomicBool::new(false);
    let kills = async {
        for (kill_control_plane, kill_agent) in [(false, true), (true, true), (true, false)].repeat(2) {
            let moment = cluster.choices.moment(KILL_WITHIN);
            let killed = AtomicBool::new(false);
            let kill = async {
                tokio::time::sleep(moment).await;
                if kill_control_plane {
                    cluster.control_plane.kill();
                }
                if kill_agent {
                    cluster.agent.kill();
                }
                killed.store(true, Ordering::Release);
            };
            tokio::join!(kill, writer.write_on(&mut client, &killed));
            if kill_control_plane {
                cluster.control_plane.start().await;
            }
            let start = Instant::now();
            if kill_agent {
                cluster.agent.start().await;
            }
            writer.check(&serves(&mut client, "/customers/1").await);
            assert!(start.elapsed() < SERVES_WITHIN, "it took {:?}", start.elapsed());
        }
        stop.store(true, Ordering::Release);
    };
    let (masks, ()) = tokio::join!(change_policy_on(&api, &stop), kills);
    assert!(writer.acknowledged > 0, "nothing was written between the kills");
    cluster.node_ready().await;
    let status = api.status(GRAPH).await.unwrap();
    assert_eq!(status.revision, 1, "nobody redeployed");
    // A change that was committed just before a kill is linked by the loops of the leader.
    until("the last change of the policy is in force", SOON, async || {
        let body = client.get("/customers/1").await.body;
        holds(body.contains('*') == masks, body)
    })
    .await;
    let generation = api.status(GRAPH).await.unwrap().generation;
    api.serving(GRAPH, generation).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_restarts_and_serves_while_the_control_plane_is_down() {
    let mut cluster = Cluster::start().await;
    let api = cluster.api();
    api.deploy_and_wait(&Bundle::graph("customers")).await;
    api.deploy_and_wait(&Bundle::graph("hello")).await;
    api.apply_and_wait(&policy()).await;
    let mut client = cluster.client("customers.localhost");
    let written = client.post("/customers/1", r#"{"email":"ada@example.net"}"#).await.body;
    assert_eq!(written, r#"{"id":1,"name":"Ada Lovelace","email":"ada@*******.net"}"#);

    cluster.control_plane.kill();
    assert_eq!(client.get("/customers/1").await.body, written, "it serves on");
    for _ in 0..2 {
        let start = Instant::now();
        cluster.agent.restart().await;
        assert_eq!(serves(&mut client, "/customers/1").await, written);
        assert_eq!(serves(&mut cluster.client("hello.localhost"), "/").await, "hello from weft\n");
        assert!(start.elapsed() < SERVES_WITHIN, "it took {:?}", start.elapsed());
    }
    let changed = client.post("/customers/2", r#"{"email":"grace@example.net"}"#).await;
    assert_eq!(changed.status, 200, "it takes writes");

    let load = Load::start(cluster.ingress_address(), "hello.localhost", "/", 2);
    cluster.control_plane.start().await;
    cluster.node_ready().await;
    let generation = api.status(GRAPH).await.unwrap().generation;
    api.serving(GRAPH, generation).await;
    load.stop_all_good(1).await;
    // And it takes orders again.
    api.delete_policy_and_wait("pii-firewall").await;
    let whole = r#"{"id":2,"name":"Grace Hopper","email":"grace@example.net"}"#;
    assert_eq!(client.get("/customers/2").await.body, whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_that_was_killed_does_not_stand_in_the_way_of_the_next() {
    /// Some starts are killed before their first write, some after they are ready.
    const STARTS_WITHIN: Duration = Duration::from_millis(150);
    let mut cluster = Cluster::start().await;
    for _ in 0..3 {
        cluster.control_plane.kill();
        cluster.agent.kill();
        for member in [&cluster.control_plane, &cluster.agent] {
            std::fs::remove_dir_all(&member.data_dir).unwrap();
            std::fs::create_dir(&member.data_dir).unwrap();
        }
        for _ in 0..4 {
            cluster.control_plane.spawn();
            tokio::time::sleep(cluster.choices.moment(STARTS_WITHIN)).await;
            cluster.control_plane.kill();
        }
        cluster.control_plane.start().await;
        // Good once: what a start that was killed asked for is told to the next.
        let token = cluster.token("n1", SOON).await;
        cluster.agent.give_token(&token);
        for _ in 0..4 {
            cluster.agent.spawn();
            tokio::time::sleep(cluster.choices.moment(STARTS_WITHIN)).await;
            cluster.agent.kill();
        }
        cluster.agent.start().await;
        cluster.node_ready().await;
        cluster.api().deploy_and_wait(&Bundle::graph("hello")).await;
        assert_eq!(cluster.client("hello.localhost").get("/").await.body, "hello from weft\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_script_that_a_kill_cut_off_is_run_whole_and_once() {
    let mut cluster = Cluster::start().await;
    let api = cluster.api();
    for number in 0..6 {
        let host = format!("c{number}.localhost");
        let bundle = Bundle::graph("customers")
            .with("graph: customers", &format!("graph: c{number}"))
            .with("customers.localhost", &host);
        api.deploy(&bundle).await.unwrap();
        tokio::time::sleep(cluster.choices.moment(KILL_WITHIN)).await;
        cluster.agent.restart().await;
        let customers = serves(&mut cluster.client(&host), "/customers").await;
        assert_eq!(customers.matches("\"id\"").count(), 3, "{customers}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_with_many_graphs_serves_all_of_them_again() {
    const GRAPHS: usize = 40;
    let mut cluster = Cluster::start().await;
    let api = cluster.api();
    let mut deployed = Vec::new();
    for number in 0..GRAPHS {
        let bundle = Bundle::graph("hello")
            .with("graph: hello", &format!("graph: h{number}"))
            .with("hello.localhost", &format!("h{number}.localhost"));
        deployed.push(api.deploy(&bundle).await.unwrap());
    }
    for answer in &deployed {
        api.serving(&answer.graph, answer.generation).await;
    }
    cluster.control_plane.kill();
    let start = Instant::now();
    cluster.agent.restart().await;
    for number in 0..GRAPHS {
        let mut client = cluster.client(&format!("h{number}.localhost"));
        assert_eq!(serves(&mut client, "/").await, "hello from weft\n");
    }
    assert!(start.elapsed() < SERVES_WITHIN, "it took {:?}", start.elapsed());
}
