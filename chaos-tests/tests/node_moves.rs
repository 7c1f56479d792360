//! Nodes that are drained, lost and come back: what is on them answers elsewhere, and nobody who asks notices a drain.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use chaos_tests::api::{Api, shown};
use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use chaos_tests::ctl::Ctl;
use chaos_tests::traffic::{Client, Load};
use chaos_tests::wait::{SOON, holds, until};
use proto::weft::node::v1::Admission;

const NODES: [&str; 3] = ["n1", "n2", "n3"];
const HELLO: &str = "hello from weft\n";
/// So late that it is seen how a node comes to be down.
const SLOW_TO_GIVE_UP: &str = "--node-timeout-ms=8000";
/// Longer than it takes to move a graph and to let go of where it was.
const SLEEP_MS: u64 = 6_000;

/// Where a graph that is whole on one node is.
async fn home(api: &Api, graph: &str) -> Result<String, String> {
    let status = api.status(graph).await.map_err(|status| shown(&status))?;
    Ok(status.placement.map(|placement| placement.home).unwrap_or_default())
}

async fn is_empty(api: &Api, node: &str) {
    until("the node is empty", SOON, async || {
        let node = api.node(node).await.map_err(|status| shown(&status))?;
        holds(
            node.graphs.is_empty() && node.leaving.is_empty(),
            format!("{:?} {:?}", node.graphs, node.leaving),
        )
    })
    .await;
}

async fn happened(api: &Api, subject: &str, reason: &str) {
    until(&format!("{subject} {reason}"), SOON, async || {
        let events = api.events(subject).await.map_err(|status| shown(&status))?;
        holds(events.iter().any(|event| event.reason == reason), format!("{events:?}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_loses_no_request() {
    let mut cluster = Cluster::start_nodes(3).await;
    let (api, ctl) = (cluster.api(), Ctl::new(&cluster));
    api.deploy_and_wait(&Bundle::graph("hello")).await;
    let drained = home(&api, "default/hello").await.unwrap();
    for node in NODES {
        answers_at(&cluster, node).await;
    }
    let load: Vec<Load> =
        NODES.map(|node| Load::start(cluster.ingress_address_of(node), "hello.localhost", "/", 2)).into();
    ctl.done(&["node", "drain", &drained]).await;
    is_empty(&api, &drained).await;
    assert_ne!(home(&api, "default/hello").await.unwrap(), drained);
    happened(&api, "graph/default/hello", "moved").await;

    // It is of no more use to anybody but as an ingress.
    let listed = ctl.done(&["node", "list"]).await;
    assert!(listed.contains("ready,draining"), "{listed}");
    for load in load {
        load.stop_all_good(100).await;
    }
    cluster.agent_named(&drained).terminate();
    ctl.done(&["node", "remove", &drained, "--yes"]).await;
    let other = if drained == "n1" { "n2" } else { "n1" };
    let mut client = Client::new(cluster.ingress_address_of(other), "hello.localhost");
    assert_eq!(client.get("/").await.body, HELLO);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_under_way_is_answered_where_it_began() {
    let cluster = Cluster::start_nodes(2).await;
    let api = cluster.api();
    api.deploy_and_wait(&Bundle::graph("faulty").with("deadline: 1s", "deadline: 20s")).await;
    let from = home(&api, "default/faulty").await.unwrap();
    let mut client = Client::new(cluster.ingress_address_of("n2"), "faulty.localhost");
    until("the ingress of n2 knows the route", SOON, async || {
        let answer = client.get("/").await;
        holds(answer.status == 200, answer)
    })
    .await;
    let path = format!("/sleep?ms={SLEEP_MS}");
    let sleeping = tokio::spawn(async move { client.ask(http::Method::GET, &path, "").await });
    api.said("default/faulty", "sleeping", 1).await;
    api.admit(&from, Admission::Draining).await.unwrap();
    is_empty(&api, &from).await;
    assert!(!sleeping.is_finished(), "it sleeps longer than the move takes");
    let answer = sleeping.await.unwrap().expect("it is answered");
    assert_eq!((answer.status, answer.body.as_str()), (200, "slept\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_on_a_lost_node_answers_elsewhere_and_stays_there() {
    let mut cluster = Cluster::start_nodes(3).await;
    let api = cluster.api();
    api.deploy_and_wait(&Bundle::graph("hello")).await;
    let lost = home(&api, "default/hello").await.unwrap();
    let other = if lost == "n1" { "n2" } else { "n1" };
    cluster.agent_named(&lost).kill();
    answers_at(&cluster, other).await;
    api.serving("default/hello", 0).await;
    let now = home(&api, "default/hello").await.unwrap();
    assert_ne!(now, lost);

    // One that comes back has nothing of it, and passes on what it is asked.
    cluster.agent_named(&lost).start().await;
    cluster.node_is(&lost, "ready").await;
    is_empty(&api, &lost).await;
    answers_at(&cluster, &lost).await;
    assert_eq!(home(&api, "default/hello").await.unwrap(), now, "nothing is moved back");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_were_empty_get_their_share_on_request() {
    let cluster = Cluster::start_nodes(2).await;
    let (api, ctl) = (cluster.api(), Ctl::new(&cluster));
    ctl.done(&["node", "cordon", "n2"]).await;
    for name in ["hello", "more"] {
        let bundle = Bundle::graph("hello").with("graph: hello", &format!("graph: {name}"));
        api.deploy_and_wait(&bundle.with("hello.localhost", &format!("{name}.localhost"))).await;
    }
    assert!(
        !ctl.done(&["rebalance", "--plan"]).await.contains("default/"),
        "nothing goes where nothing may go"
    );
    ctl.done(&["node", "uncordon", "n2"]).await;
    answers_at(&cluster, "n2").await;
    let load = Load::start(cluster.ingress_address_of("n2"), "hello.localhost", "/", 2);
    let planned = ctl.done(&["rebalance", "--plan"]).await;
    assert_eq!(ctl.done(&["rebalance"]).await, planned, "what was planned is done");
    assert!(planned.contains("default/hello  n1    n2"), "{planned}");
    happened(&api, "graph/default/hello", "moved").await;
    until("each has one", SOON, async || {
        let (one, other) = (home(&api, "default/hello").await?, home(&api, "default/more").await?);
        let node = api.node("n1").await.map_err(|status| shown(&status))?;
        holds(
            one == "n2" && other == "n1" && node.leaving.is_empty(),
            format!("{one} {other} {:?}", node.leaving),
        )
    })
    .await;
    load.stop_all_good(100).await;
    assert!(!ctl.done(&["rebalance"]).await.contains("default/"), "that is all");
}

/// Waits until hello answers at the ingress of a node.
async fn answers_at(cluster: &Cluster, node: &str) {
    let mut client = Client::new(cluster.ingress_address_of(node), "hello.localhost");
    until("it answers", SOON, async || match client.ask(http::Method::GET, "/", "").await {
        Ok(answer) if answer.status == 200 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stood_still_stops_what_was_moved_meanwhile() {
    let mut cluster = Cluster::start_nodes(2).await;
    let api = cluster.api();
    api.deploy_and_wait(&Bundle::graph("hello")).await;
    let still = home(&api, "default/hello").await.unwrap();
    cluster.agent_named(&still).pause();
    until("it is moved", SOON, async || {
        let now = home(&api, "default/hello").await?;
        holds(now != still, now)
    })
    .await;
    api.serving("default/hello", 0).await;
    cluster.agent_named(&still).resume();
    cluster.node_is(&still, "ready").await;
    until("it has let go of it", SOON, async || {
        let node = api.node(&still).await.map_err(|status| shown(&status))?;
        holds(
            node.assigned_generation == node.accepted_generation && node.graphs.is_empty(),
            format!("{node:?}"),
        )
    })
    .await;
    answers_at(&cluster, &still).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_data_on_a_node_is_named_when_it_is_drained() {
    let cluster = Cluster::start_nodes(2).await;
    let (api, ctl) = (cluster.api(), Ctl::new(&cluster));
    api.deploy_and_wait(&Bundle::graph("customers")).await;
    let home = home(&api, "default/customers").await.unwrap();
    let ended = ctl.run(&["node", "drain", &home]).await;
    assert_eq!(ended.code, 1);
    assert!(
        ended.stderr.contains("default/customers: ") && ended.stderr.contains("has its data on"),
        "{ended:?}"
    );
    // It serves as before.
    api.serving("default/customers", 0).await;
    let ended = ctl.run(&["node", "remove", &home, "--yes"]).await;
    assert!(ended.code == 1 && ended.stderr.contains("node_in_use"), "{ended:?}");
    ctl.done(&["node", "uncordon", &home]).await;
    assert!(!ctl.done(&["node", "list"]).await.contains("draining"));
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_that_an_operator_gives_decide_like_those_of_the_agent() {
    let cluster = Cluster::start_nodes(2).await;
    let (api, ctl) = (cluster.api(), Ctl::new(&cluster));
    ctl.done(&["node", "label", "n2", "disk=ssd", "zone=a"]).await;
    let pinned = Bundle::graph("hello").with("app.wasm}", "app.wasm, placement: {require: {disk: ssd}}}");
    api.deploy_and_wait(&pinned).await;
    assert_eq!(home(&api, "default/hello").await.unwrap(), "n2");
    assert!(ctl.done(&["node", "list"]).await.contains("disk=ssd,zone=a"));
    // Without it, it has to go.
    ctl.done(&["node", "label", "n1", "disk=ssd"]).await;
    ctl.done(&["node", "label", "n2", "disk-"]).await;
    until("it is moved", SOON, async || {
        let status = api.status("default/hello").await.map_err(|status| shown(&status))?;
        holds(format!("{:?}", status.placement).contains("n1"), format!("{:?}", status.placement))
    })
    .await;
    api.serving("default/hello", 0).await;
    let ended = ctl.run(&["node", "label", "n1", "node=n2"]).await;
    assert!(ended.code == 1 && ended.stderr.contains("is the name of the node"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taint_keeps_off_what_does_not_tolerate_it_and_moves_nothing() {
    let cluster = Cluster::start_nodes(2).await;
    let (api, ctl) = (cluster.api(), Ctl::new(&cluster));
    let hello = |name: &str, placement: &str| {
        let bundle = Bundle::graph("hello").with("graph: hello", &format!("graph: {name}"));
        bundle
            .with("hello.localhost", &format!("{name}.localhost"))
            .with("app.wasm}", &format!("app.wasm, placement: {placement}}}"))
    };
    ctl.done(&["node", "label", "n1", "class=fast"]).await;
    ctl.done(&["node", "taint", "n1", "gpu=only"]).await;
    assert!(ctl.done(&["node", "list", "-o", "wide"]).await.contains("gpu=only"));
    // What it would like does not help: n1 would be the one with fewer graphs, too.
    for name in ["first", "second"] {
        api.deploy_and_wait(&hello(name, "{prefer: {class: fast}}")).await;
        assert_eq!(home(&api, &format!("default/{name}")).await.unwrap(), "n2");
    }
    api.deploy_and_wait(&hello("tolerant", "{prefer: {class: fast}, tolerate: {gpu: only}}")).await;
    assert_eq!(home(&api, "default/tolerant").await.unwrap(), "n1");
    // What is there stays, however its node is tainted now.
    ctl.done(&["node", "taint", "n2", "gpu=only"]).await;
    ctl.done(&["node", "taint", "n1", "gpu-", "disk=slow"]).await;
    api.deploy_and_wait(&hello("first", "{avoid: {class: fast}}")).await;
    for (name, node) in [("first", "n2"), ("second", "n2"), ("tolerant", "n1")] {
        api.serving(&format!("default/{name}"), 0).await;
        assert_eq!(home(&api, &format!("default/{name}")).await.unwrap(), node);
    }
    let shown = ctl.done(&["node", "show", "n1"]).await;
    let taints = shown.lines().find(|line| line.trim_start().starts_with("taints ")).unwrap();
    assert!(taints.ends_with(" disk=slow"), "{shown}");
    let ended = ctl.run(&["node", "taint", "n1", "node=n2"]).await;
    assert!(ended.code == 1 && ended.stderr.contains("is the name of the node"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_most_nodes_are_lost_at_one_time_nothing_is_moved_and_those_that_come_back_have_what_they_had() {
    let mut cluster = Cluster::start_nodes(5).await;
    let api = cluster.api();
    // One on each node, of which three are lost.
    let graphs: Vec<String> = (1..=5).map(|number| format!("hello-{number}")).collect();
    for name in &graphs {
        let bundle = Bundle::graph("hello").with("graph: hello", &format!("graph: {name}"));
        api.deploy_and_wait(&bundle.with("hello.localhost", &format!("{name}.localhost"))).await;
    }
    let placed = async || {
        let mut placed = Vec::new();
        for name in &graphs {
            let status = api.status(&format!("default/{name}")).await.unwrap();
            placed.push((status.placement, status.generation));
        }
        placed
    };
    let before = placed().await;
    let lost = ["n1", "n3", "n5"];
    for node in lost {
        cluster.agent_named(node).pause();
    }
    happened(&api, "cluster", "moves_stopped").await;
    assert_eq!(placed().await, before, "they are lost together, however each was heard of last");
    let on_one = home(&api, "default/hello-1").await.unwrap();
    assert_eq!(on_one, "n1");
    let why = format!("{:?}", api.status("default/hello-1").await.unwrap().state);
    assert!(why.contains("3 of 5 nodes of its zone are down"), "{why}");
    // They come back one after the other.
    for node in lost {
        cluster.agent_named(node).resume();
        cluster.node_is(node, "ready").await;
        assert_eq!(placed().await, before, "what is on the others is waited for");
    }
    happened(&api, "cluster", "moves_resumed").await;
    for name in &graphs {
        api.serving(&format!("default/{name}"), 0).await;
    }
    assert_eq!(placed().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_all_nodes_are_lost_and_come_back_all_is_as_it_was() {
    let mut cluster = Cluster::start_nodes(3).await;
    let api = cluster.api();
    api.deploy_and_wait(&Bundle::graph("hello")).await;
    let before = api.status("default/hello").await.unwrap();
    for node in NODES {
        cluster.agent_named(node).pause();
    }
    happened(&api, "cluster", "moves_stopped").await;
    let home = home(&api, "default/hello").await.unwrap();
    let others = NODES.into_iter().filter(|node| *node != home);
    // The one that has it is the last to be back.
    for node in others.chain([home.as_str()]) {
        cluster.agent_named(node).resume();
        cluster.node_is(node, "ready").await;
    }
    api.serving("default/hello", 0).await;
    let after = api.status("default/hello").await.unwrap();
    assert_eq!((after.placement, after.generation), (before.placement, before.generation));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stands_still_is_suspect_then_down_and_then_back_whichever_member_is_asked() {
    let mut cluster = Cluster::start_members(3, 2, &[SLOW_TO_GIVE_UP]).await;
    let (api, ctl) = (cluster.api(), Ctl::new(&cluster));
    api.deploy_and_wait(&Bundle::graph("hello")).await;
    let still = home(&api, "default/hello").await.unwrap();
    let events = async |api: &Api| api.events(&format!("node/{still}")).await.unwrap().len();
    let before = events(&api).await;
    cluster.agent_named(&still).pause();
    for member in 1..=3 {
        let asked = cluster.api_of(member);
        until(&format!("member {member} says that it is suspect"), SOON, async || {
            let node = asked.node(&still).await.map_err(|status| shown(&status))?;
            let is_told = node.is_suspect && node.state == "ready" && node.silent_ms.is_some();
            holds(is_told, format!("{} {:?}", node.state, node.silent_ms))
        })
        .await;
    }
    assert_eq!(events(&api).await, before, "nothing is written down");
    let listed = ctl.done(&["node", "list"]).await;
    assert!(listed.lines().any(|line| line.starts_with(&still) && line.contains("suspect")), "{listed}");
    let sentence = format!("node {still} is suspect, last heard of ");
    for command in ["status", "why"] {
        let said = ctl.done(&[command, "hello"]).await;
        assert!(said.contains(&sentence), "{command}: {said}");
    }
    assert_eq!(home(&api, "default/hello").await.unwrap(), still, "what is there stays");

    cluster.node_is(&still, "down").await;
    cluster.agent_named(&still).resume();
    cluster.node_is(&still, "ready").await;
    is_empty(&api, &still).await;
    let inspected = ctl.done(&["node", "inspect", &still]).await;
    let is_back =
        inspected.starts_with(&format!("{still}  ready for ")) && inspected.contains(", last heard of ");
    assert!(is_back && inspected.contains("certificate ends in "), "{inspected}");
    assert!(!ctl.done(&["why", "hello"]).await.contains("suspect"));
}

#[tokio::test(flavor = "multi_thread")]
async fn leaders_that_change_again_and_again_move_nothing() {
    let mut cluster = Cluster::start_members(3, 3, &[]).await;
    let api = cluster.api();
    api.deploy_and_wait(&Bundle::graph("hello")).await;
    let before = api.status("default/hello").await.unwrap();
    let found = |cluster: &mut Cluster, node: &str| {
        cluster.agent_named(node).last_log().matches("connected to the control plane").count()
    };
    for _ in 0..6 {
        let counts = NODES.map(|node| found(&mut cluster, node));
        let next = cluster.leader().await % 3 + 1;
        until("another one leads", SOON, async || {
            let leader = cluster.leader().await;
            let moved = cluster.api_of(leader).transfer_to(next as u64).await;
            moved.map(drop).map_err(|status| shown(&status))
        })
        .await;
        for (node, count) in NODES.into_iter().zip(counts) {
            until("the agent finds who leads", SOON, async || {
                let now = found(&mut cluster, node);
                holds(now > count, now)
            })
            .await;
        }
    }
    for node in NODES {
        let events = cluster.api_of(cluster.leader().await).events(&format!("node/{node}")).await.unwrap();
        assert!(events.iter().all(|event| event.reason != "down"), "{events:?}");
    }
    let after = api.status("default/hello").await.unwrap();
    assert_eq!((after.placement, after.generation), (before.placement, before.generation));
}
