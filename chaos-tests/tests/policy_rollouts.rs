//! Versions of policies that take over by steps: of each graph they concern they are asked for a share, all at one moment,
//! and one that does worse is given up for all.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::net::SocketAddr;

use chaos_tests::api::{Api, request_id, shown};
use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use chaos_tests::ctl::{Ctl, argument};
use chaos_tests::traffic::{Client, Exchange, Load};
use chaos_tests::wait::{SOON, holds, until};
use proto::weft::graph::v1 as graph;
use proto::weft::policy::v1 as wire;

const HOST: &str = "customers.localhost";
const PATH: &str = "/customers";
const MASKED: &str = "ada@*******.com";
const POLICY: &str = "pii-firewall";
const CONNECTIONS: usize = 4;
/// Answers that prove something.
const ENOUGH: usize = 100;
/// Requests of which a share is counted.
const DRAWN: usize = 400;

/// The example's policy, by these steps.
fn by_steps(steps: &str) -> Bundle {
    let rollout = format!("mandatory: true\nrollout: {{steps: [{steps}]}}");
    Bundle::example("customers", "pii-firewall.yaml").with("mandatory: true", &rollout)
}

/// Load on an ingress that knows the route: each is told of it a moment after a graph serves.
async fn load(ingress: SocketAddr) -> Load {
    let mut client = Client::new(ingress, HOST);
    until("the ingress knows the route", SOON, async || {
        let answer = client.get(PATH).await;
        holds(answer.status == 200, answer)
    })
    .await;
    Load::start(ingress, HOST, PATH, CONNECTIONS / 2)
}

async fn policy(api: &Api) -> Result<wire::GetResponse, String> {
    api.policy(POLICY).await.map_err(|status| shown(&status))
}

/// Waits until the version answers the share of a step, from 0.
async fn at_step(api: &Api, step: u32) {
    until("it is at its step", SOON, async || {
        let rollout = policy(api).await?.policy.and_then(|policy| policy.rollout);
        let is_there = rollout
            .as_ref()
            .is_some_and(|rollout| rollout.phase() == graph::RolloutPhase::Answering && rollout.step == step);
        holds(is_there, format!("{rollout:?}"))
    })
    .await;
}

/// How many of so many requests are answered with the policy; none fails.
async fn masked(ingress: SocketAddr) -> usize {
    let mut client = Client::new(ingress, HOST);
    let mut count = 0;
    for _ in 0..DRAWN {
        let answer = client.get(PATH).await;
        assert!(answer.status == 200 && answer.body.contains("ada@"), "{answer:?}");
        count += usize::from(answer.body.contains(MASKED));
    }
    count
}

/// A share in percent, as far as chance lets it be: six standard deviations.
fn is_share(count: usize, percent: usize) {
    let expected = DRAWN * percent / 100;
    let allowed = 6 * ((DRAWN * percent * (100 - percent)) as f64 / 10_000.0).sqrt().ceil() as usize;
    assert!(count.abs_diff(expected) <= allowed, "{count} of {DRAWN}, expected {expected}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_asked_for_its_share_at_every_ingress_and_then_for_everything() {
    let cluster = Cluster::start_nodes(2).await;
    let (api, ctl) = (cluster.api(), Ctl::new(&cluster));
    api.deploy_and_wait(&Bundle::graph("customers")).await;
    let ingresses = ["n1", "n2"].map(|node| cluster.ingress_address_of(node));
    let loads = [load(ingresses[0]).await, load(ingresses[1]).await];
    let before = api.status("default/customers").await.unwrap();

    let steps = "{share: 0%, hold: until-promoted}, {share: 30%, hold: until-promoted}";
    let applied = api.apply_as(&by_steps(steps), &request_id()).await.unwrap();
    assert!(applied.by_steps, "{applied:?}");
    at_step(&api, 0).await;
    let seen = policy(&api).await.unwrap().policy.unwrap();
    assert!(seen.not_in_force && seen.rollout.as_ref().is_some_and(|rollout| rollout.count == 1), "{seen:?}");
    for ingress in ingresses {
        assert_eq!(masked(ingress).await, 0);
    }
    ctl.done(&["policy", "rollout", "next", POLICY]).await;
    at_step(&api, 1).await;
    for ingress in ingresses {
        // Every ingress is told within a second, and less.
        until("the share is known", SOON, async || {
            let count = masked(ingress).await;
            holds(count.abs_diff(DRAWN * 30 / 100) < DRAWN / 5, count)
        })
        .await;
        is_share(masked(ingress).await, 30);
    }
    let now = api.status("default/customers").await.unwrap();
    assert_eq!((now.generation, now.revision), (before.generation, before.revision), "nobody touched it");
    let status = ctl.done(&["status", "customers"]).await;
    assert!(status.contains(&format!("policy {POLICY}@{} answers 30%", applied.generation)), "{status}");

    ctl.done(&["policy", "rollout", "promote", POLICY]).await;
    let seen = policy(&api).await.unwrap().policy.unwrap();
    assert_eq!((seen.generation, seen.not_in_force, seen.rollout), (applied.generation, false, None));
    for ingress in ingresses {
        until("everybody is answered with it", SOON, async || {
            let count = masked(ingress).await;
            holds(count == DRAWN, count)
        })
        .await;
    }
    until("nothing is left of the candidate", SOON, async || {
        let status = api.status("default/customers").await.map_err(|status| shown(&status))?;
        holds(status.policy_rollout.is_none(), format!("{status:?}"))
    })
    .await;
    assert_eq!(masked(ingresses[0]).await, DRAWN);
    for load in loads {
        load.stop_all_good(ENOUGH).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_with_which_requests_fail_is_given_up_and_what_was_in_force_stays() {
    let mut cluster = Cluster::start_nodes(2).await;
    let api = cluster.api();
    api.deploy_and_wait(&Bundle::graph("customers")).await;
    let home = api.status("default/customers").await.unwrap().placement.unwrap().home;
    let other = if home == "n1" { "n2" } else { "n1" };
    let load = load(cluster.ingress_address_of(&home)).await;
    // Its component is on a node that is lost while it is asked.
    let apart = format!("component: ./build/pii-proxy.wasm\n    placement: {{require: {{node: {other}}}}}");
    let version = by_steps("{share: 50%, hold: 10m}").with("component: ./build/pii-proxy.wasm", &apart);
    let applied = api.apply_as(&version, &request_id()).await.unwrap();
    at_step(&api, 0).await;
    let ingress = cluster.ingress_address_of(&home);
    until("it is asked", SOON, async || {
        let count = masked(ingress).await;
        holds(count > 0, count)
    })
    .await;
    cluster.agent_named(other).kill();
    let why = until("it is given up", SOON, async || {
        let seen = policy(&api).await?;
        let given_up = seen.given_up.iter().find(|version| version.generation == applied.generation);
        given_up.map(|version| version.why.clone()).ok_or(format!("{seen:?}"))
    })
    .await;
    assert!(why.contains("default/customers") && why.contains("requests failed"), "{why}");
    assert!(policy(&api).await.unwrap().policy.unwrap().not_in_force);
    let events = api.events(&format!("policy/{POLICY}")).await.unwrap();
    assert!(events.iter().any(|event| event.reason == "reverted"), "{events:?}");

    // From then on none fails, and none has the policy.
    until("nobody is sent to the candidate", SOON, async || {
        let status = api.status("default/customers").await.map_err(|status| shown(&status))?;
        holds(status.policy_rollout.is_none(), format!("{status:?}"))
    })
    .await;
    assert_eq!(masked(ingress).await, 0);
    let exchanges = load.stop().await;
    let is_good = |exchange: &Exchange| exchange.good().is_some();
    let last = &exchanges[exchanges.len() - ENOUGH..];
    assert!(last.iter().all(is_good), "{last:#?}");
    assert!(exchanges.iter().filter(|exchange| !is_good(exchange)).count() >= 10, "it was judged by that");
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_go_on_by_themselves_also_under_another_leader_and_a_graph_that_comes_meanwhile_has_them() {
    let mut cluster = Cluster::start_members(3, 1, &[]).await;
    let leader = cluster.leader().await;
    cluster.api_of(leader).deploy_and_wait(&Bundle::graph("customers")).await;
    let ctl = Ctl::new(&cluster);
    let folder = cluster.folder().join("policy");
    std::fs::create_dir_all(&folder).unwrap();
    let manifest = by_steps("{share: 10%, hold: 4s}, {share: 50%, hold: 4s}").write(&folder, "policy.yaml");
    ctl.done(&["policy", "apply", argument(&manifest), "--detach"]).await;
    cluster.member(leader).kill();
    let api = cluster.api_of(leader % 3 + 1);
    let second = Bundle::graph("customers")
        .with("graph: customers", "graph: clients")
        .with("customers.localhost", "clients.localhost");
    api.deploy_and_wait(&second).await;
    until("it is in force", SOON, async || {
        let seen = policy(&api).await?.policy;
        let is_over = seen.as_ref().is_some_and(|seen| !seen.not_in_force && seen.rollout.is_none());
        holds(is_over, format!("{seen:?}"))
    })
    .await;
    for host in [HOST, "clients.localhost"] {
        let mut client = cluster.client(host);
        until("it is answered with the policy", SOON, async || {
            for _ in 0..ENOUGH {
                let answer = client.get(PATH).await;
                if answer.status != 200 || !answer.body.contains(MASKED) {
                    return Err(answer.body);
                }
            }
            Ok(())
        })
        .await;
    }
}
