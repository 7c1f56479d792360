//! An agent's session, played by the test.

use std::time::Duration;

use prost::Message as _;
use proto::weft::graph::v1::graph_status::State;
use proto::weft::graph::v1::{GraphStatus, InvokeRequest};
use proto::weft::log::v1::TailRequest;
use proto::weft::log::v1::logs_client::LogsClient;
use proto::weft::node::v1 as wire;
use proto::weft::node::v1::from_agent::Message as Up;
use proto::weft::node::v1::nodes_client::NodesClient;
use proto::weft::node::v1::to_agent::Message as Down;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::member::{Client, Enrolled, Member, PATIENCE, fresh_id, refused};
use crate::parts;

/// How soon these members give up a silent node.
const NODE_TIMEOUT: &str = "--node-timeout-ms=500";
/// So late that it is seen how a node comes to be down.
const SLOW_NODE_TIMEOUT: &str = "--node-timeout-ms=4000";
const SUSPECT_AFTER_MS: u64 = 2_000;
/// The agent speaks when it has something to say.
const PATIENT: &str = "--node-timeout-ms=60000";

pub(crate) fn description(name: &str, uid: &str) -> wire::NodeDescription {
    wire::NodeDescription {
        name: name.to_owned(),
        uid: uid.to_owned(),
        api_address: "127.0.0.1:1".to_owned(),
        ingress_address: "127.0.0.1:2".to_owned(),
        version: "test".to_owned(),
        capabilities: vec!["sqlite".to_owned()],
        memory_bytes: 1 << 30,
        cpus: 2,
        instances: 100,
        ..wire::NodeDescription::default()
    }
}

pub(crate) struct Agent {
    up: mpsc::Sender<wire::FromAgent>,
    down: Streaming<wire::ToAgent>,
    name: String,
}

impl Agent {
    /// Sends a first message and takes the welcome.
    pub(crate) async fn connect(
        node: &Enrolled,
        first: Up,
        name: &str,
    ) -> Result<(Self, wire::Welcome), Status> {
        let (up, messages) = mpsc::channel(16);
        up.send(wire::FromAgent { message: Some(first) }).await.unwrap();
        let mut nodes = NodesClient::new(node.channel.clone());
        let down = nodes.session(ReceiverStream::new(messages)).await?.into_inner();
        let mut agent = Self { up, down, name: name.to_owned() };
        match agent.next().await? {
            Some(Down::Welcome(welcome)) => Ok((agent, welcome)),
            other => panic!("no welcome: {other:?}"),
        }
    }

    pub(crate) async fn join(node: &Enrolled, name: &str) -> Result<Self, Status> {
        let joined = Self::connect(node, Up::Hello(description(name, &node.uid)), name).await?;
        Ok(joined.0)
    }

    /// The next message but those of routes, which come in their own time.
    async fn next(&mut self) -> Result<Option<Down>, Status> {
        loop {
            match self.any().await? {
                Some(Down::Routes(_) | Down::EncodedRoutes(_)) => {}
                other => return Ok(other),
            }
        }
    }

    async fn any(&mut self) -> Result<Option<Down>, Status> {
        let message = tokio::time::timeout(PATIENCE, self.down.message()).await.expect("a message");
        Ok(message?.map(|message| message.message.unwrap()))
    }

    /// The first routes that are as wanted.
    pub(crate) async fn routes(&mut self, is: impl Fn(&wire::RouteMap) -> bool) -> wire::RouteMap {
        loop {
            match self.any().await.unwrap().expect("the session lasts") {
                Down::Routes(routes) if is(&routes) => return routes,
                Down::EncodedRoutes(bytes) => {
                    let routes = wire::RouteMap::decode(bytes).unwrap();
                    if is(&routes) {
                        return routes;
                    }
                }
                _ => {}
            }
        }
    }

    pub(crate) async fn assignment(&mut self) -> wire::Assignment {
        match self.next().await.unwrap() {
            Some(Down::Assignment(assignment)) => assignment,
            other => panic!("no assignment: {other:?}"),
        }
    }

    /// The first assignment that has so many graphs.
    async fn assigned(&mut self, count: usize) -> wire::Assignment {
        loop {
            let assignment = self.assignment().await;
            if assignment.graphs.len() == count {
                return assignment;
            }
        }
    }

    pub(crate) async fn report(&self, accepted: u64, graphs: Vec<wire::GraphReport>) {
        self.report_for(&self.name, accepted, graphs).await;
    }

    async fn report_for(&self, node: &str, accepted: u64, graphs: Vec<wire::GraphReport>) {
        let report = wire::Report { node: node.to_owned(), accepted, graphs, heartbeat: 0 };
        self.up.send(wire::FromAgent { message: Some(Up::Report(report)) }).await.unwrap();
    }

    /// Sends a report that is to be confirmed.
    async fn beat(&self, accepted: u64, heartbeat: u64) {
        let report = wire::Report { node: self.name.clone(), accepted, graphs: Vec::new(), heartbeat };
        self.up.send(wire::FromAgent { message: Some(Up::Report(report)) }).await.unwrap();
    }

    pub(crate) async fn tell(&self, traffic: wire::Traffic) {
        self.up.send(wire::FromAgent { message: Some(Up::Traffic(traffic)) }).await.unwrap();
    }

    /// How the session ends.
    pub(crate) async fn end(&mut self) -> Result<(), Status> {
        while self.next().await?.is_some() {}
        Ok(())
    }
}

fn graph_report(assigned: &wire::AssignedGraph, phase: wire::Phase) -> wire::GraphReport {
    let serving = if phase == wire::Phase::Serving { assigned.generation } else { 0 };
    wire::GraphReport {
        graph: assigned.graph.clone(),
        uid: assigned.uid.clone(),
        serving,
        desired: assigned.generation,
        phase: phase.into(),
        reason: String::new(),
        message: String::new(),
        failing: String::new(),
    }
}

/// Waits until the status of a graph is as wanted.
async fn until(client: &mut Client, name: &str, is: impl Fn(&State) -> bool) -> GraphStatus {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let status = client.status(name).await.unwrap();
        if is(status.state.as_ref().unwrap()) {
            return status;
        }
        assert!(std::time::Instant::now() < deadline, "{status:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) async fn node(client: &mut Client, name: &str) -> wire::Node {
    client.nodes.get(wire::GetRequest { name: name.to_owned() }).await.unwrap().into_inner()
}

/// Waits until a node is as wanted.
async fn node_until(client: &mut Client, name: &str, is: impl Fn(&wire::Node) -> bool) -> wire::Node {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let seen = node(client, name).await;
        if is(&seen) {
            return seen;
        }
        assert!(std::time::Instant::now() < deadline, "{seen:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graph_goes_to_a_node_and_serves() {
    let member = Member::start().await;
    let mut client = member.client();
    client.upload_parts().await;
    let n1 = member.enrol("n1").await;
    let hello = Up::Hello(description("n1", &n1.uid));
    let (mut agent, welcome) = Agent::connect(&n1, hello, "n1").await.unwrap();
    assert!(!welcome.cluster.is_empty());
    assert_eq!(welcome.heartbeat_interval_ms, 333);
    let empty = agent.assignment().await;
    assert_eq!((empty.cluster, empty.node.as_str(), empty.graphs.len()), (welcome.cluster, "n1", 0));

    client.deploy(&parts::shop("shop", "one")).await.unwrap();
    let assignment = agent.assigned(1).await;
    let assigned = &assignment.graphs[0];
    assert_eq!((assigned.graph.as_str(), assigned.revision), ("default/shop", 1));
    assert_eq!(assigned.linked.as_ref().unwrap().components.len(), 2);
    until(&mut client, "default/shop", |state| matches!(state, State::Starting(_))).await;
    agent.report(assignment.generation, vec![graph_report(assigned, wire::Phase::Compiling)]).await;
    let compiling = until(
        &mut client,
        "default/shop",
        |state| matches!(state, State::Starting(starting) if starting.phase == "compiling"),
    );
    assert_eq!(compiling.await.placement.unwrap().home, "n1");
    agent.report(assignment.generation, vec![graph_report(assigned, wire::Phase::Serving)]).await;
    let serving = until(&mut client, "default/shop", |state| matches!(state, State::Serving(_))).await;
    assert_eq!(serving.ingress_address, "127.0.0.1:2");
    let shown = node(&mut client, "n1").await;
    assert_eq!(shown.graphs, ["default/shop"]);
    assert_eq!(shown.accepted_generation, assignment.generation);

    // A heartbeat that says nothing new is not written down.
    let before = client.state_revision().await;
    for _ in 0..5 {
        agent.report(assignment.generation, vec![graph_report(assigned, wire::Phase::Serving)]).await;
    }
    // A failure with a long reason is, with its beginning.
    let mut failed = graph_report(assigned, wire::Phase::Failed);
    (failed.reason, failed.message) = ("start_failed".to_owned(), "ü".repeat(100_000));
    agent.report(assignment.generation, vec![failed]).await;
    let status = until(&mut client, "default/shop", |state| matches!(state, State::Failed(_))).await;
    let Some(State::Failed(failed)) = status.state else { unreachable!() };
    assert_eq!(failed.reason, "start_failed");
    assert!(failed.message.len() < 3_000, "{}", failed.message.len());
    assert_eq!(client.state_revision().await, before + 1);

    client.delete("default/shop").await.unwrap();
    agent.assigned(0).await;
    let stopping = tokio::spawn(member.stop());
    refused(agent.end().await, Code::Unavailable, "member_stopped");
    stopping.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_is_told_which_node_answers_which_route() {
    let member = Member::start().await;
    let mut client = member.client();
    client.upload_parts().await;
    let (n1, n2) = (member.enrol("n1").await, member.enrol("n2").await);
    let mut first = Agent::join(&n1, "n1").await.unwrap();
    let empty = first.routes(|_| true).await;
    assert!(empty.routes.is_empty() && empty.nodes.is_empty(), "{empty:?}");
    client.deploy(&parts::site("site", "/a")).await.unwrap();
    let told = first.routes(|routes| !routes.routes.is_empty()).await;
    let [route] = &told.routes[..] else { panic!("{told:?}") };
    assert_eq!((route.graph.as_str(), route.node.as_str()), ("default/site", "n1"));
    assert_eq!(route.route.as_ref().unwrap().path, "/a");
    assert_eq!((told.nodes["n1"].address.as_str(), told.nodes["n1"].uid.as_str()), ("127.0.0.1:1", &*n1.uid));
    assert!(told.at > empty.at && told.cluster == empty.cluster);

    // One that has no part in the graph is told the same, from its start.
    let mut second = Agent::join(&n2, "n2").await.unwrap();
    assert_eq!(second.routes(|_| true).await.routes, told.routes);
    client.delete("default/site").await.unwrap();
    for agent in [&mut first, &mut second] {
        assert!(agent.routes(|routes| routes.routes.is_empty()).await.at > told.at);
    }
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_node_is_given_up_and_heard_again() {
    let member = Member::start_with(&[NODE_TIMEOUT]).await;
    let mut client = member.client();
    client.upload_parts().await;
    let n1 = member.enrol("n1").await;
    let mut agent = Agent::join(&n1, "n1").await.unwrap();
    client.deploy(&parts::shop("shop", "one")).await.unwrap();
    let assignment = agent.assigned(1).await;
    let serving = vec![graph_report(&assignment.graphs[0], wire::Phase::Serving)];
    agent.report(assignment.generation, serving.clone()).await;
    until(&mut client, "default/shop", |state| matches!(state, State::Serving(_))).await;
    // Silence.
    until(&mut client, "default/shop", |state| matches!(state, State::Unknown(_))).await;
    assert_eq!(node(&mut client, "n1").await.state, "down");
    // Heard again on the same stream.
    agent.report(assignment.generation, serving).await;
    until(&mut client, "default/shop", |state| matches!(state, State::Serving(_))).await;
    assert_eq!(node(&mut client, "n1").await.state, "ready");
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_late_is_suspect_and_gets_nothing_new() {
    let member = Member::start_with(&[SLOW_NODE_TIMEOUT]).await;
    let mut client = member.client();
    client.upload_parts().await;
    let (first, second) = (member.enrol("n1").await, member.enrol("n2").await);
    let agent = Agent::join(&first, "n1").await.unwrap();
    let steady = Agent::join(&second, "n2").await.unwrap();
    let beats = tokio::spawn(async move {
        loop {
            steady.report(0, Vec::new()).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    // One each, so that the next one would go to n1.
    for name in ["one", "two"] {
        client.deploy(&parts::lonely(name)).await.unwrap();
        until(&mut client, &format!("default/{name}"), |state| !matches!(state, State::Pending(_))).await;
    }
    assert_eq!(node(&mut client, "n1").await.graphs, ["default/one"]);
    agent.report(0, Vec::new()).await;
    let fresh = node(&mut client, "n1").await;
    assert!(fresh.silent_ms.is_some_and(|silent_ms| silent_ms < SUSPECT_AFTER_MS), "{fresh:?}");
    assert!(client.get("default/one").await.unwrap().suspects.is_empty());

    let suspect = node_until(&mut client, "n1", |node| node.is_suspect).await;
    assert!(suspect.silent_ms.is_some_and(|silent_ms| silent_ms >= SUSPECT_AFTER_MS), "{suspect:?}");
    assert_eq!(suspect.state, "ready");
    assert!(!node(&mut client, "n2").await.is_suspect);
    let suspects = client.get("default/one").await.unwrap().suspects;
    assert_eq!(suspects.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["n1"]);
    assert!(client.get("default/two").await.unwrap().suspects.is_empty());
    client.deploy(&parts::lonely("three")).await.unwrap();
    until(&mut client, "default/three", |state| !matches!(state, State::Pending(_))).await;
    assert_eq!(node(&mut client, "n2").await.graphs, ["default/three", "default/two"]);

    // Heard of again it is as it was, and silent for long enough it is down.
    agent.report(0, Vec::new()).await;
    let back = node_until(&mut client, "n1", |node| !node.is_suspect).await;
    assert_eq!(
        (back.state.as_str(), back.changed_at_ms),
        ("ready", fresh.changed_at_ms),
        "nothing was written down"
    );
    node_until(&mut client, "n1", |node| node.is_suspect).await;
    let down = node_until(&mut client, "n1", |node| node.state == "down").await;
    assert!(!down.is_suspect && down.silent_ms.is_some(), "{down:?}");
    beats.abort();
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebalance_that_is_repeated_moves_nothing_more() {
    let member = Member::start_with(&[PATIENT]).await;
    let mut client = member.client();
    client.upload_parts().await;
    let n1 = member.enrol("n1").await;
    let mut first = Agent::join(&n1, "n1").await.unwrap();
    let names = ["one", "two", "three", "four"];
    for name in names {
        client.deploy(&parts::lonely(name)).await.unwrap();
    }
    let assignment = first.assigned(names.len()).await;
    let serving = assignment.graphs.iter().map(|graph| graph_report(graph, wire::Phase::Serving)).collect();
    first.report(assignment.generation, serving).await;
    for name in names {
        until(&mut client, &format!("default/{name}"), |state| matches!(state, State::Serving(_))).await;
    }
    let n2 = member.enrol("n2").await;
    let _second = Agent::join(&n2, "n2").await.unwrap();
    let request = wire::RebalanceRequest { request_id: fresh_id(), is_trial: false };
    let done = client.nodes.rebalance(request.clone()).await.unwrap().into_inner();
    assert_eq!((done.moves.len(), done.was_made), (2, false));
    // What has come meanwhile is no business of a request that was made before.
    let n3 = member.enrol("n3").await;
    let _third = Agent::join(&n3, "n3").await.unwrap();
    let at = client.state_revision().await;
    let again = client.nodes.rebalance(request.clone()).await.unwrap().into_inner();
    assert_eq!(again, wire::RebalanceResponse { moves: Vec::new(), was_made: true });
    assert_eq!(client.state_revision().await, at);
    let trial = wire::RebalanceRequest { is_trial: true, ..request };
    refused(client.nodes.rebalance(trial.clone()).await, Code::AlreadyExists, "idempotency_mismatch");
    let trial = wire::RebalanceRequest { request_id: fresh_id(), ..trial };
    let more = client.nodes.rebalance(trial).await.unwrap().into_inner();
    assert_eq!((more.moves.len(), more.was_made), (1, false), "n3 has nothing yet");
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_told_with_all_that_is_there() {
    let member = Member::start_with(&[PATIENT]).await;
    let mut client = member.client();
    client.upload_parts().await;
    let n1 = member.enrol("n1").await;
    let mut agent = Agent::join(&n1, "n1").await.unwrap();
    client.deploy(&parts::shop("shop", "one")).await.unwrap();
    let assignment = agent.assigned(1).await;
    let shown = node(&mut client, "n1").await;
    assert!(shown.enrolled_at_ms > 0 && shown.certificate_expires_ms > shown.enrolled_at_ms, "{shown:?}");
    let part = wire::Part {
        graph: "default/shop".to_owned(),
        revision: 1,
        generation: assignment.graphs[0].generation,
        state: "waiting".to_owned(),
        members: vec!["front".to_owned(), "store".to_owned()],
        ..wire::Part::default()
    };
    assert_eq!(shown.parts, std::slice::from_ref(&part));
    let failed = wire::GraphReport {
        reason: "start_failed".to_owned(),
        message: "a trap".to_owned(),
        ..graph_report(&assignment.graphs[0], wire::Phase::Failed)
    };
    agent.report(assignment.generation, vec![failed]).await;
    let shown = node_until(&mut client, "n1", |node| node.parts[0].state != "waiting").await;
    let failed = wire::Part { state: "failed".to_owned(), why: "start_failed: a trap".to_owned(), ..part };
    assert_eq!(shown.parts, [failed]);
    let listed = client.nodes.list(wire::ListRequest {}).await.unwrap().into_inner();
    assert!(listed.nodes[0].parts.is_empty(), "a list has them not");
    let request = wire::LabelRequest {
        request_id: fresh_id(),
        node: "n1".to_owned(),
        set: [("zone".to_owned(), "a".to_owned())].into(),
        unset: Vec::new(),
    };
    client.nodes.label(request).await.unwrap();
    assert_eq!(node(&mut client, "n1").await.given_labels, [("zone".to_owned(), "a".to_owned())].into());
    // What was heard of nodes is for members, and operators are none.
    client.nodes.heard(wire::HeardRequest::default()).await.unwrap_err();
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_says_of_a_node_is_checked_and_done_once() {
    let member = Member::start().await;
    let mut client = member.client();
    let n1 = member.enrol("n1").await;
    let mut agent = Agent::join(&n1, "n1").await.unwrap();
    agent.assignment().await;
    let admit = |node: &str, admission: wire::Admission, drain_ms: u64| wire::AdmitRequest {
        request_id: fresh_id(),
        node: node.to_owned(),
        admission: admission.into(),
        drain_ms,
    };
    let day_ms = 24 * 60 * 60 * 1_000;
    for (request, code, reason) in [
        (admit("", wire::Admission::Open, 0), Code::InvalidArgument, "malformed"),
        (admit("n9", wire::Admission::Open, 0), Code::NotFound, "not_found"),
        (admit("n1", wire::Admission::Unspecified, 0), Code::InvalidArgument, "missing_field"),
        (admit("n1", wire::Admission::Draining, 0), Code::InvalidArgument, "malformed"),
        (admit("n1", wire::Admission::Draining, day_ms + 1), Code::InvalidArgument, "malformed"),
    ] {
        refused(client.nodes.admit(request).await.map(drop), code, reason);
    }
    let cordon = admit("n1", wire::Admission::Cordoned, 0);
    client.nodes.admit(cordon.clone()).await.unwrap();
    client.nodes.admit(admit("n1", wire::Admission::Open, 0)).await.unwrap();
    // Repeated, it is not done again.
    client.nodes.admit(cordon).await.unwrap();
    assert_eq!(node(&mut client, "n1").await.admission(), wire::Admission::Open);

    let label = |name: &str, value: &str| wire::LabelRequest {
        request_id: fresh_id(),
        node: "n1".to_owned(),
        set: [(name.to_owned(), value.to_owned())].into(),
        unset: Vec::new(),
    };
    for (name, value) in [("", "a"), ("node", "n2"), ("a b", "c"), ("a", "\n"), (&*"x".repeat(129), "a")] {
        refused(client.nodes.label(label(name, value)).await.map(drop), Code::InvalidArgument, "malformed");
    }
    client.nodes.label(label("zone", "a")).await.unwrap();
    let told = agent.assignment().await;
    assert_eq!(told.labels, [("zone".to_owned(), "a".to_owned())].into(), "its agent is told");

    let taint = |name: &str, value: &str| wire::TaintRequest {
        request_id: fresh_id(),
        node: "n1".to_owned(),
        set: [(name.to_owned(), value.to_owned())].into(),
        unset: Vec::new(),
    };
    for (name, value) in [("", "a"), ("node", "n2"), ("a b", "c")] {
        refused(client.nodes.taint(taint(name, value)).await.map(drop), Code::InvalidArgument, "malformed");
    }
    let unknown = wire::TaintRequest { node: "n9".to_owned(), ..taint("gpu", "only") };
    refused(client.nodes.taint(unknown).await.map(drop), Code::NotFound, "not_found");
    let tainted = taint("gpu", "only");
    client.nodes.taint(tainted.clone()).await.unwrap();
    assert_eq!(node(&mut client, "n1").await.taints, [("gpu".to_owned(), "only".to_owned())].into());
    let untaint = wire::TaintRequest { set: [].into(), unset: vec!["gpu".to_owned()], ..taint("", "") };
    client.nodes.taint(untaint).await.unwrap();
    client.nodes.taint(tainted).await.unwrap();
    assert_eq!(node(&mut client, "n1").await.taints, [].into(), "repeated, it is not done again");

    let remove =
        |node: &str| wire::RemoveRequest { request_id: fresh_id(), node: node.to_owned(), loses_data: false };
    refused(client.nodes.remove(remove("n9")).await.map(drop), Code::NotFound, "not_found");
    let removed = remove("n1");
    for _ in 0..2 {
        client.nodes.remove(removed.clone()).await.unwrap();
    }
    let gone = Agent::join(&n1, "n1").await.map(drop);
    assert!(gone.is_err(), "its identity is worth nothing any more");
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_report_changes_nothing() {
    let member = Member::start().await;
    let mut client = member.client();
    client.upload_parts().await;
    let n1 = member.enrol("n1").await;
    let mut agent = Agent::join(&n1, "n1").await.unwrap();
    client.deploy(&parts::shop("shop", "one")).await.unwrap();
    let first = agent.assigned(1).await;
    client.deploy(&parts::shop("shop", "two")).await.unwrap();
    let second = loop {
        let next = agent.assigned(1).await;
        if next.graphs[0].revision == 2 {
            break next;
        }
    };
    let serving = |of: &wire::Assignment| vec![graph_report(&of.graphs[0], wire::Phase::Serving)];
    agent.report(second.generation, serving(&second)).await;
    until(&mut client, "default/shop", |state| matches!(state, State::Serving(_))).await;
    // Sent before, and late: what it says was overtaken.
    agent.report(first.generation, serving(&first)).await;
    // Of a graph that is another by now.
    let mut other = serving(&second);
    other[0].uid = "another".to_owned();
    other[0].phase = wire::Phase::Starting.into();
    agent.report(second.generation, other).await;
    let before = client.state_revision().await;
    agent.report(second.generation, serving(&second)).await;
    client.deploy(&parts::lonely("marker")).await.unwrap();
    agent.assigned(2).await;
    let status = client.status("default/shop").await.unwrap();
    assert!(matches!(status.state, Some(State::Serving(_))), "{status:?}");
    assert_eq!(node(&mut client, "n1").await.accepted_generation, second.generation);
    assert!(client.state_revision().await >= before);
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_who_it_says_or_is_refused() {
    let member = Member::start_with(&[NODE_TIMEOUT]).await;
    let mut client = member.client();
    let (n1, n2) = (member.enrol("n1").await, member.enrol("n2").await);
    let mut agent = Agent::join(&n1, "n1").await.unwrap();
    agent.assignment().await;

    let other = Agent::join(&n2, "n1").await.map(drop);
    refused(other, Code::PermissionDenied, "node_identity");
    let hello = Up::Hello(description("n1", &n1.uid));
    let other = Agent::connect(&n2, hello, "n1").await.map(drop);
    refused(other, Code::PermissionDenied, "node_identity");
    let nameless = Agent::join(&n1, "").await.map(drop);
    refused(nameless, Code::InvalidArgument, "malformed");
    let first = Up::Report(wire::Report { node: "n1".to_owned(), ..wire::Report::default() });
    let hasty = Agent::connect(&n1, first, "n1").await.map(drop);
    refused(hasty, Code::InvalidArgument, "missing_field");

    // Refused hellos of another do not keep a silent node alive.
    let deadline = std::time::Instant::now() + PATIENCE;
    while node(&mut client, "n1").await.state != "down" {
        assert!(std::time::Instant::now() < deadline);
        Agent::join(&n2, "n1").await.map(drop).unwrap_err();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    agent.report_for("n2", 1, Vec::new()).await;
    refused(agent.end().await, Code::PermissionDenied, "node_identity");
    let mut agent = Agent::join(&n1, "n1").await.unwrap();
    agent.up.send(wire::FromAgent { message: Some(Up::Hello(description("n1", &n1.uid))) }).await.unwrap();
    refused(agent.end().await, Code::InvalidArgument, "unexpected");
    let mut agent = Agent::join(&n1, "n1").await.unwrap();
    agent.up.send(wire::FromAgent { message: None }).await.unwrap();
    refused(agent.end().await, Code::InvalidArgument, "missing_field");
    let mut agent = Agent::join(&n1, "n1").await.unwrap();
    let strange = wire::GraphReport {
        graph: "default/shop".to_owned(),
        uid: "u".to_owned(),
        phase: 99,
        ..wire::GraphReport::default()
    };
    agent.report(1, vec![strange]).await;
    refused(agent.end().await, Code::InvalidArgument, "unknown_enum");

    // Two agents on one data directory: the later one is the node.
    let mut before = Agent::join(&n1, "n1").await.unwrap();
    let mut after = Agent::join(&n1, "n1").await.unwrap();
    refused(before.end().await, Code::Aborted, "session_superseded");
    after.assignment().await;
    assert_eq!(node(&mut client, "n1").await.state, "ready");
    let unknown = client.nodes.get(wire::GetRequest { name: "n2".to_owned() }).await;
    refused(unknown, Code::NotFound, "not_found");
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_an_agent_knows_is_asked_of_it_or_said_to_be_out_of_reach() {
    let member = Member::start().await;
    let mut client = member.client();
    client.upload_parts().await;
    let mut logs = LogsClient::new(client.channel.clone());
    let tail = || TailRequest { graph: "default/shop".to_owned(), ..TailRequest::default() };
    let invoke = || InvokeRequest {
        graph: "default/shop".to_owned(),
        component: "front".to_owned(),
        ..InvokeRequest::default()
    };
    refused(logs.tail(tail()).await, Code::NotFound, "not_found");
    refused(client.graphs.invoke(invoke()).await, Code::NotFound, "not_found");
    client.deploy(&parts::shop("shop", "one")).await.unwrap();
    refused(logs.tail(tail()).await, Code::FailedPrecondition, "not_placed");
    refused(client.graphs.invoke(invoke()).await, Code::FailedPrecondition, "not_placed");

    // An agent whose own API answers nothing.
    let n1 = member.enrol("n1").await;
    let mut agent = Agent::join(&n1, "n1").await.unwrap();
    agent.assigned(1).await;
    refused(logs.tail(tail()).await, Code::Unavailable, "agent_unreachable");
    refused(client.graphs.invoke(invoke()).await, Code::Unavailable, "agent_unreachable");
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_is_confirmed_as_long_as_what_stops_in_isolation_is_still_the_nodes() {
    let member = Member::start_with(&["--node-timeout-ms=60000"]).await;
    let mut client = member.client();
    client.upload_parts().await;
    let n1 = member.enrol("n1").await;
    let mut agent = Agent::join(&n1, "n1").await.unwrap();
    let empty = agent.assignment().await.generation;
    agent.beat(empty, 1).await;
    let confirmed = |heartbeat, generation| wire::Confirmed { heartbeat, generation, lease_ms: 40_000 };
    assert_eq!(agent.next().await.unwrap(), Some(Down::Confirmed(confirmed(1, empty))));
    client.deploy(&parts::shop("shop", "one")).await.unwrap();
    let assigned = agent.assigned(1).await.generation;
    // What runs is of before, and nothing of it stops; one does not ask, and is not answered.
    agent.beat(empty, 2).await;
    assert_eq!(agent.next().await.unwrap(), Some(Down::Confirmed(confirmed(2, empty))));
    agent.beat(assigned, 0).await;
    agent.beat(assigned, 3).await;
    assert_eq!(agent.next().await.unwrap(), Some(Down::Confirmed(confirmed(3, assigned))));
}
