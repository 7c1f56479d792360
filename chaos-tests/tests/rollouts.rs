//! Revisions that take over by steps: they answer their share and no more, nobody notices that they come, and one that does
//! worse goes by itself.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use chaos_tests::api::{Api, request_id, shown};
use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use chaos_tests::ctl::{Ctl, argument};
use chaos_tests::traffic::{Client, Exchange, Load};
use chaos_tests::wait::{SOON, holds, until};
use proto::weft::graph::v1 as wire;

const FAULTY: &str = "default/faulty";
const HOST: &str = "faulty.localhost";
const CONNECTIONS: usize = 4;
/// Answers that prove something.
const ENOUGH: usize = 100;
/// Requests of which a share is counted.
const DRAWN: usize = 400;
/// Longer than an agent takes to tell what it has counted, and whoever leads to look at it.
const TOLD_WITHIN: Duration = Duration::from_secs(2);

/// The graph, with what it says of its config, and its steps.
fn revision(greeting: &str, steps: &str) -> Bundle {
    let rollout = format!("rollout: {{steps: [{steps}], on-failure: revert}}\ningress:");
    Bundle::graph("faulty")
        .with("greeting: from config", &format!("greeting: {greeting}"))
        .with("ingress:", &rollout)
}

/// Load on an ingress that knows the route: each is told of it a moment after a graph serves.
async fn load(ingress: SocketAddr, host: &str, path: &str, connections: usize) -> Load {
    let mut client = Client::new(ingress, host);
    until("the ingress knows the route", SOON, async || {
        let answer = client.get(path).await;
        holds(answer.status != 404, answer)
    })
    .await;
    Load::start(ingress, host, path, connections)
}

async fn rollout_of(api: &Api, graph: &str) -> Result<Option<wire::Rollout>, String> {
    Ok(api.status(graph).await.map_err(|status| shown(&status))?.rollout)
}

/// Waits until a revision answers the share of a step, from 0.
async fn at_step(api: &Api, graph: &str, step: u32) {
    until("it is at its step", SOON, async || {
        let rollout = rollout_of(api, graph).await?;
        let is_there = rollout
            .as_ref()
            .is_some_and(|rollout| rollout.phase() == wire::RolloutPhase::Answering && rollout.step == step);
        holds(is_there, format!("{rollout:?}"))
    })
    .await;
}

/// Waits until nothing takes over any more, and says which revision answers.
async fn settled(api: &Api, graph: &str) -> u64 {
    until("nothing takes over any more", SOON, async || {
        let status = api.status(graph).await.map_err(|status| shown(&status))?;
        let serves = matches!(status.state, Some(wire::graph_status::State::Serving(_)));
        if status.rollout.is_none() && serves { Ok(status.revision) } else { Err(format!("{status:?}")) }
    })
    .await
}

/// How many of so many requests are answered with these words; the others must have the others.
async fn answered_with(ingress: SocketAddr, words: &str, others: &str) -> usize {
    let mut client = Client::new(ingress, HOST);
    let mut count = 0;
    for _ in 0..DRAWN {
        let answer = client.get("/config").await;
        let is_of_it = answer.body.contains(&format!("config={words} "));
        assert!(
            answer.status == 200 && (is_of_it || answer.body.contains(&format!("config={others} "))),
            "{answer:?}"
        );
        count += usize::from(is_of_it);
    }
    count
}

/// A share in percent, as far as chance lets it be: six standard deviations.
fn is_share(count: usize, percent: usize) {
    let expected = DRAWN * percent / 100;
    let allowed = 6 * ((DRAWN * percent * (100 - percent)) as f64 / 10_000.0).sqrt().ceil() as usize;
    assert!(count.abs_diff(expected) <= allowed, "{count} of {DRAWN}, expected {expected}");
}

fn bad(exchanges: &[Exchange]) -> Vec<&Exchange> {
    exchanges.iter().filter(|exchange| exchange.good().is_none()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_answers_its_share_at_every_ingress_and_then_everything() {
    let cluster = Cluster::start_nodes(2).await;
    let (api, ctl) = (cluster.api(), Ctl::new(&cluster));
    let steps = "{share: 0%, hold: until-promoted}, {share: 25%, hold: until-promoted}, {share: 75%, hold: until-promoted}";
    api.deploy_and_wait(&revision("first", steps)).await;
    let home = api.status(FAULTY).await.unwrap().placement.unwrap().home;
    let mut loads = Vec::new();
    for node in ["n1", "n2"] {
        loads.push(load(cluster.ingress_address_of(node), HOST, "/config", CONNECTIONS / 2).await);
    }

    let deployed = api.deploy(&revision("second", steps)).await.unwrap();
    assert!(deployed.by_steps, "{deployed:?}");
    at_step(&api, FAULTY, 0).await;
    let ingresses = ["n1", "n2"].map(|node| cluster.ingress_address_of(node));
    for ingress in ingresses {
        assert_eq!(answered_with(ingress, "second", "first").await, 0);
    }
    for (step, percent) in [(1, 25), (2, 75)] {
        ctl.done(&["rollout", "next", "faulty"]).await;
        at_step(&api, FAULTY, step).await;
        for ingress in ingresses {
            // Every ingress is told within a second, and less.
            until("the share is known", SOON, async || {
                let count = answered_with(ingress, "second", "first").await;
                holds(count.abs_diff(DRAWN * percent / 100) < DRAWN / 5, count)
            })
            .await;
            is_share(answered_with(ingress, "second", "first").await, percent);
        }
    }
    let status = ctl.done(&["status", "faulty"]).await;
    assert!(status.contains("75%"), "{status}");
    ctl.done(&["rollout", "promote", "faulty"]).await;
    assert_eq!(settled(&api, FAULTY).await, deployed.revision);
    for ingress in ingresses {
        assert_eq!(answered_with(ingress, "second", "first").await, DRAWN);
    }
    assert_eq!(api.status(FAULTY).await.unwrap().placement.unwrap().home, home);
    for load in loads {
        load.stop_all_good(ENOUGH).await;
    }
    // Nothing is left of the candidate.
    let node = api.node(&home).await.unwrap();
    assert_eq!(node.graphs, [FAULTY]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_member_tells_how_the_requests_of_a_step_went() {
    let cluster = Cluster::start_members(3, 2, &[]).await;
    let (api, ctl) = (cluster.api(), Ctl::new(&cluster));
    let steps = "{share: 50%, hold: until-promoted}, {share: 60%, hold: until-promoted}";
    api.deploy_and_wait(&revision("first", steps)).await;
    api.deploy(&revision("second", steps)).await.unwrap();
    at_step(&api, FAULTY, 0).await;
    let ingresses = ["n1", "n2"].map(|node| cluster.ingress_address_of(node));
    for ingress in ingresses {
        until("the share is known", SOON, async || {
            let count = answered_with(ingress, "second", "first").await;
            holds(count > 0, count)
        })
        .await;
    }
    let members = [1, 2, 3].map(|member| cluster.api_of(member));
    let before = all_told(&members, 0).await;
    for ingress in ingresses {
        answered_with(ingress, "second", "first").await;
    }
    let after = all_told(&members, requests(&before) + 2 * DRAWN as u64).await;
    let (stable, candidate) = (after.stable.unwrap(), after.candidate.unwrap());
    assert_eq!((stable.failures, candidate.failures), (0, 0));
    assert!(candidate.within_us.is_some(), "{candidate:?}");
    until("ctl tells it", SOON, async || {
        let status = ctl.done(&["rollout", "status", "faulty"]).await;
        let line = format!("revision 2 answered {} in the last ", candidate.requests);
        holds(status.contains(&line) && status.contains(", none with an error, 95 of 100 within "), status)
    })
    .await;
    // The next step is counted anew.
    ctl.done(&["rollout", "next", "faulty"]).await;
    at_step(&api, FAULTY, 1).await;
    let next = all_told(&members, 0).await;
    assert!(next.since_ms > after.since_ms && requests(&next) < 2 * DRAWN as u64, "{next:?} after {after:?}");
}

/// What all members tell of the step, once they tell the same of so many requests and nothing more comes.
async fn all_told(members: &[Api], least: u64) -> wire::StepTraffic {
    let (mut last, mut since) = (Vec::new(), Instant::now());
    until("all members tell the same", SOON, async || {
        let mut told = Vec::new();
        for member in members {
            told.extend(rollout_of(member, FAULTY).await?.and_then(|rollout| rollout.traffic));
        }
        if last != told {
            (last, since) = (told.clone(), Instant::now());
        }
        let is_same = told.len() == members.len() && told.iter().all(|other| *other == told[0]);
        let is_whole = is_same && requests(&told[0]) >= least && since.elapsed() >= TOLD_WITHIN;
        holds(is_whole, format!("{told:?}")).map(|_| told[0])
    })
    .await
}

fn requests(traffic: &wire::StepTraffic) -> u64 {
    traffic.stable.unwrap().requests + traffic.candidate.unwrap().requests
}

/// A deploy by `ctl`, which waits for what becomes of it.
async fn deploy(ctl: &Ctl, cluster: &Cluster, name: &str, bundle: &Bundle) -> chaos_tests::ctl::Ended {
    let folder = cluster.folder().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let manifest = bundle.write(&folder, "graph.yaml");
    ctl.run(&["deploy", argument(&manifest)]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_that_fails_more_is_given_up_by_itself() {
    let cluster = Cluster::start_nodes(2).await;
    let (api, ctl) = (cluster.api(), Ctl::new(&cluster));
    let steps = "{share: 20%, hold: 10m}";
    api.deploy_and_wait(&revision("first", steps)).await;
    let mut loads = Vec::new();
    for node in ["n1", "n2"] {
        loads.push(load(cluster.ingress_address_of(node), HOST, "/sleep?ms=40", CONNECTIONS).await);
    }
    // Whatever takes longer than its deadline is a failure.
    let worse = revision("second", steps).with("deadline: 1s", "deadline: 20ms");
    let ended = deploy(&ctl, &cluster, "worse", &worse).await;
    assert!(ended.code != 0 && ended.stderr.contains("requests failed"), "{ended:?}");
    assert_eq!(settled(&api, FAULTY).await, 3, "a revision that is equal to the first");
    let reverted = api.status(FAULTY).await.unwrap().reverted.unwrap();
    assert_eq!(reverted.revision, 2, "{reverted:?}");
    let history = api.history(FAULTY).await.unwrap();
    assert_eq!((history[0].number, history[0].rollback_to), (3, 1), "{history:?}");
    let events = api.events("graph/default/faulty").await.unwrap();
    assert!(events.iter().any(|event| event.reason == "reverted"), "{events:?}");

    // From then on none fails.
    let mut lost = 0;
    for load in loads {
        let least = load.answers() + ENOUGH;
        until("load", SOON, async || holds(load.answers() >= least, load.answers())).await;
        let exchanges = load.stop().await;
        let failed = bad(&exchanges);
        let is_late = |exchange: &&Exchange| exchange.answer.as_ref().is_ok_and(|answer| answer.status == 504);
        assert!(failed.iter().all(is_late), "{failed:#?}");
        let last = &exchanges[exchanges.len() - ENOUGH / 2..];
        assert!(bad(last).is_empty(), "{:#?}", bad(last));
        lost += failed.len();
    }
    assert!(lost >= 10, "it was judged by what failed: {lost}");
    let mut client = cluster.client(HOST);
    assert!(client.get("/config").await.body.contains("config=first "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_that_does_not_come_up_gets_no_request_and_is_given_up() {
    let cluster = Cluster::start_nodes(2).await;
    let api = cluster.api();
    let steps = "{share: 50%, hold: 1s}";
    api.deploy_and_wait(&revision("first", steps)).await;
    let load = load(cluster.ingress_address(), HOST, "/config", CONNECTIONS).await;
    let silent = revision("second", steps)
        .with("source: ./build/app.wasm", "source: ./build/app.wasm\n    health: {http: /trap}")
        .with("on-failure: revert", "deadline: 3s, on-failure: revert");
    api.deploy(&silent).await.unwrap();
    let why = until("it is given up", SOON, async || {
        let status = api.status(FAULTY).await.map_err(|status| shown(&status))?;
        status.reverted.as_ref().map(|reverted| reverted.why.clone()).ok_or(format!("{status:?}"))
    })
    .await;
    assert!(
        why.contains("does not answer as it should after 3s") && why.contains("does not pass its check"),
        "{why}"
    );
    assert_eq!(settled(&api, FAULTY).await, 3);
    for exchange in load.stop_all_good(ENOUGH).await {
        assert!(exchange.good().unwrap().contains("config=first "), "{exchange:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_go_on_by_themselves_though_the_leader_and_the_node_are_lost() {
    let mut cluster = Cluster::start_members(3, 2, &[]).await;
    let steps = "{share: 10%, hold: 2s}, {share: 50%, hold: 2s}";
    let leader = cluster.leader().await;
    let api = cluster.api_of(leader);
    api.deploy_and_wait(&revision("first", steps)).await;
    api.deploy(&revision("second", steps)).await.unwrap();
    at_step(&api, FAULTY, 0).await;
    let home = api.status(FAULTY).await.unwrap().placement.unwrap().home;
    cluster.member(leader).kill();
    cluster.agent_named(&home).kill();
    cluster.agent_named(&home).start().await;
    let other = leader % 3 + 1;
    let api = cluster.api_of(other);
    assert_eq!(
        until("it has taken over", SOON, async || {
            let status = api.status(FAULTY).await.map_err(|status| shown(&status))?;
            let serves = matches!(status.state, Some(wire::graph_status::State::Serving(_)));
            let is_done = status.rollout.is_none() && serves && status.revision == 2;
            if is_done { Ok(status.revision) } else { Err(format!("{status:?}")) }
        })
        .await,
        2
    );
    let at = api.status(FAULTY).await.unwrap().placement.unwrap().home;
    let ingress = cluster.ingress_address_of(&at);
    until("everything is answered by it", SOON, async || {
        let count = answered_with(ingress, "second", "first").await;
        holds(count == DRAWN, count)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_revisions_share_their_data_and_a_policy_stands_on_both() {
    const GRAPH: &str = "default/customers";
    let cluster = Cluster::start_nodes(2).await;
    let (api, ctl) = (cluster.api(), Ctl::new(&cluster));
    let by_steps = |label: &str| {
        Bundle::graph("customers")
            .with("{data: pii}", &format!("{{data: pii, revision: {label}}}"))
            .with("ingress:", "rollout: {steps: [{share: 50%, hold: until-promoted}]}\ningress:")
    };
    api.deploy_and_wait(&by_steps("first")).await;
    let load = load(cluster.ingress_address_of("n2"), "customers.localhost", "/customers", CONNECTIONS).await;
    // Labels alone link to the same graph.
    assert!(!api.deploy(&by_steps("second")).await.unwrap().by_steps);
    let third = by_steps("third").with("memory: 32Mi", "memory: 48Mi");
    assert!(api.deploy(&third).await.unwrap().by_steps);
    at_step(&api, GRAPH, 0).await;
    let masked = "ada@*******.com";
    api.apply_and_wait(&Bundle::example("customers", "pii-firewall.yaml")).await;
    until("the candidate has the policy", SOON, async || {
        let rollout = rollout_of(&api, GRAPH).await?.ok_or("it is gone")?;
        holds(rollout.candidate == "it answers where it was placed", rollout.candidate)
    })
    .await;
    let mut client = cluster.client("customers.localhost");
    until("everybody is answered with the policy", SOON, async || {
        for _ in 0..ENOUGH {
            let answer = client.get("/customers").await;
            if answer.status != 200 || !answer.body.contains(masked) {
                return Err(answer.body);
            }
        }
        Ok(())
    })
    .await;
    ctl.done(&["rollout", "promote", "customers"]).await;
    assert_eq!(settled(&api, GRAPH).await, 3);
    for _ in 0..ENOUGH {
        assert!(client.get("/customers").await.body.contains(masked));
    }
    load.stop_all_good(ENOUGH).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_whose_parts_are_on_several_nodes_takes_over_without_a_lost_request() {
    let cluster = Cluster::start_nodes(3).await;
    let api = cluster.api();
    let apart = |memory: &str| {
        Bundle::graph("chain")
            .with(
                "back.wasm",
                &format!("back.wasm, limits: {{memory: {memory}}}, placement: {{require: {{node: n2}}}}"),
            )
            .with("front.wasm", "front.wasm, scale: {replicas: 2}")
            .with("ingress:", "rollout: {steps: [{share: 20%, hold: 1s}, {share: 60%, hold: 1s}]}\ningress:")
    };
    api.deploy_and_wait(&apart("32Mi")).await;
    let mut loads = Vec::new();
    for node in ["n1", "n2", "n3"] {
        loads.push(load(cluster.ingress_address_of(node), "chain.localhost", "/greet?name=ada", 2).await);
    }
    for (revision, memory) in [(2, "48Mi"), (3, "32Mi")] {
        assert!(api.deploy(&apart(memory)).await.unwrap().by_steps);
        until("it has taken over", SOON, async || {
            let status = api.status("default/chain").await.map_err(|status| shown(&status))?;
            holds(status.rollout.is_none() && status.revision == revision, format!("{status:?}"))
        })
        .await;
    }
    for load in loads {
        load.stop_all_good(ENOUGH).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_of_a_rollout_is_done_once_and_only_if_there_is_one() {
    let cluster = Cluster::start().await;
    let (api, ctl) = (cluster.api(), Ctl::new(&cluster));
    let steps = "{share: 50%, hold: until-promoted}";
    api.deploy_and_wait(&revision("first", steps)).await;
    let none = ctl.run(&["rollout", "promote", "faulty"]).await;
    assert!(none.code != 0 && none.stderr.contains("no revision of default/faulty takes over"), "{none:?}");
    api.deploy(&revision("second", steps)).await.unwrap();
    at_step(&api, FAULTY, 0).await;
    let ask = |ask: wire::RolloutAsk, request_id: &str, expected_revision| wire::RolloutRequest {
        request_id: request_id.to_owned(),
        graph: FAULTY.to_owned(),
        ask: ask.into(),
        expected_revision,
    };
    let other = api.graphs().rollout(ask(wire::RolloutAsk::Revert, &request_id(), Some(1))).await.unwrap_err();
    assert!(shown(&other).contains("not at the expected 1"), "{other:?}");
    let id = request_id();
    for _ in 0..2 {
        let done =
            api.graphs().rollout(ask(wire::RolloutAsk::Revert, &id, Some(2))).await.unwrap().into_inner();
        assert_eq!(done.status.unwrap().revision, 3, "once");
    }
    assert_eq!(settled(&api, FAULTY).await, 3);
    // Whoever goes back goes back at once, and a deploy may, too.
    api.deploy(&revision("second", steps)).await.unwrap();
    at_step(&api, FAULTY, 0).await;
    api.rollback_and_wait(FAULTY, 3).await;
    assert_eq!(settled(&api, FAULTY).await, 5);
    let folder = cluster.folder().join("at-once");
    std::fs::create_dir_all(&folder).unwrap();
    let manifest = revision("third", steps).write(&folder, "graph.yaml");
    ctl.done(&["deploy", "--at-once", argument(&manifest)]).await;
    assert_eq!(settled(&api, FAULTY).await, 6);
    assert!(cluster.client(HOST).get("/config").await.body.contains("config=third "));
    api.deploy(&revision("fourth", steps)).await.unwrap();
    at_step(&api, FAULTY, 0).await;
    api.delete(FAULTY).await.unwrap();
    until("nothing is left", SOON, async || {
        let node = api.node("n1").await.map_err(|status| shown(&status))?;
        holds(node.graphs.is_empty(), format!("{node:?}"))
    })
    .await;
}

/// What happens while a revision takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// A node that answers is killed, and comes back.
    Kill,
    /// A node that answers stops for a while.
    Pause,
    /// A node that answers is drained.
    Drain,
    /// The leader is killed, and comes back.
    Leader,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_takes_over_under_load_whatever_is_lost_meanwhile() {
    let mut cluster = Cluster::start_members(3, 4, &[]).await;
    let by_steps = |greeting: &str| {
        let steps = "{share: 20%, hold: 2s}, {share: 60%, hold: 2s}";
        revision(greeting, steps)
            .with("source: ./build/app.wasm", "source: ./build/app.wasm\n    scale: {replicas: 2}")
    };
    let leader = cluster.leader().await;
    cluster.api_of(leader).deploy_and_wait(&by_steps("r1")).await;
    let mut revision = 1;
    for fault in [Fault::Kill, Fault::Pause, Fault::Drain, Fault::Leader] {
        let leader = cluster.leader().await;
        let api = cluster.api_of(leader);
        let placed = api.status(FAULTY).await.unwrap().placement.unwrap();
        let lost = placed.home.clone();
        let others: Vec<&String> = placed.more.iter().flat_map(|more| &more.nodes).collect();
        let asked =
            (1..=4).map(|node| format!("n{node}")).find(|node| *node != lost && !others.contains(&node));
        let load = load(cluster.ingress_address_of(&asked.unwrap()), HOST, "/config", CONNECTIONS).await;
        revision += 1;
        api.deploy(&by_steps(&format!("r{revision}"))).await.unwrap();
        at_step(&api, FAULTY, 0).await;
        match fault {
            Fault::Kill => cluster.agent_named(&lost).kill(),
            Fault::Pause => cluster.agent_named(&lost).pause(),
            Fault::Drain => {
                Ctl::new(&cluster).done(&["node", "drain", &lost]).await;
            }
            Fault::Leader => cluster.member(leader).kill(),
        }
        let api = match fault {
            Fault::Leader => cluster.api_of(leader % 3 + 1),
            _ => api,
        };
        until(&format!("it takes over though {fault:?}"), SOON * 2, async || {
            let status = api.status(FAULTY).await.map_err(|status| shown(&status))?;
            holds(status.rollout.is_none() && status.revision == revision, format!("{status:?}"))
        })
        .await;
        let exchanges = load.stop().await;
        let failed = bad(&exchanges);
        // What was under way on a node that is lost is lost, once for each connection, of each revision.
        let allowed = match fault {
            Fault::Kill | Fault::Pause => 2 * CONNECTIONS,
            Fault::Drain | Fault::Leader => 0,
        };
        assert!(failed.len() <= allowed, "{fault:?}: {} of {}: {failed:#?}", failed.len(), exchanges.len());
        match fault {
            Fault::Kill => cluster.agent_named(&lost).start().await,
            Fault::Pause => cluster.agent_named(&lost).resume(),
            Fault::Drain => {
                Ctl::new(&cluster).done(&["node", "uncordon", &lost]).await;
            }
            Fault::Leader => cluster.member(leader).start().await,
        }
        cluster.node_is(&lost, "ready").await;
    }
}
