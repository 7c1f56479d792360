//! Revisions that take over by steps, on an agent that the test plays: it says what serves, and how requests went.

use proto::weft::graph::v1 as graph;
use proto::weft::node::v1 as wire;
use proto::weft::node::v1::from_agent::Message as Up;
use tonic::Code;

use crate::member::{Client, Member, PATIENCE, fresh_id, refused};
use crate::nodes::{Agent, description};
use crate::parts;

/// The agent here speaks when it has something to say.
const PATIENT: &str = "--node-timeout-ms=60000";
/// Between two heartbeats.
const RETRY: std::time::Duration = std::time::Duration::from_millis(50);
const GRAPH: &str = "default/site";

/// A graph with a route, of a revision that is another by its setting.
fn manifest(setting: &str) -> String {
    let rollout = "rollout: {steps: [{share: 25%, hold: 10m}]}\n";
    let config = format!("{{source: ./web.wasm, config: {{setting: {setting}}}}}");
    format!("{}{rollout}", parts::site("site", "/").replace("{source: ./web.wasm}", &config))
}

fn request(setting: &str) -> graph::DeployRequest {
    graph::DeployRequest {
        request_id: fresh_id(),
        manifest: manifest(setting),
        artifacts: parts::shop_artifacts(),
        ..graph::DeployRequest::default()
    }
}

/// Says that all that is assigned serves, until as many graphs are assigned as wanted.
async fn serves(agent: &mut Agent, count: usize) -> wire::Assignment {
    loop {
        let assignment = agent.assignment().await;
        let reports = assignment.graphs.iter().map(|graph| wire::GraphReport {
            graph: graph.graph.clone(),
            uid: graph.uid.clone(),
            serving: graph.generation,
            desired: graph.generation,
            phase: wire::Phase::Serving.into(),
            ..wire::GraphReport::default()
        });
        agent.report(assignment.generation, reports.collect()).await;
        if assignment.graphs.len() == count {
            return assignment;
        }
    }
}

async fn until(client: &mut Client, is: impl Fn(&graph::GraphStatus) -> bool) -> graph::GraphStatus {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let status = client.status(GRAPH).await.unwrap();
        if is(&status) {
            return status;
        }
        assert!(std::time::Instant::now() < deadline, "{status:?}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

fn serving(status: &graph::GraphStatus) -> bool {
    matches!(status.state, Some(graph::graph_status::State::Serving(_)))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_agents_tell_of_requests_decides_on_a_revision() {
    let member = Member::start_with(&[PATIENT]).await;
    let mut client = member.client();
    client.upload_parts().await;
    let node = member.enrol("n1").await;
    let hello = wire::NodeDescription { level: model::node::AGENT_LEVEL, ..description("n1", &node.uid) };
    let (mut agent, _) = Agent::connect(&node, Up::Hello(hello), "n1").await.unwrap();
    let first = client.graphs.deploy(request("one")).await.unwrap().into_inner();
    assert!(!first.by_steps, "there is nothing to take over from");
    serves(&mut agent, 1).await;
    until(&mut client, serving).await;

    let second = client.graphs.deploy(request("two")).await.unwrap().into_inner();
    assert!(second.by_steps && second.revision == 2, "{second:?}");
    let both = serves(&mut agent, 2).await;
    let names: Vec<&str> = both.graphs.iter().map(|graph| graph.graph.as_str()).collect();
    assert_eq!(names, ["default/site", "default/site@candidate"]);
    let routes = agent.routes(|routes| !routes.candidates.is_empty()).await;
    let candidate = &routes.candidates[0];
    assert_eq!((candidate.graph.as_str(), candidate.share), (GRAPH, 250));
    assert_eq!((candidate.routes[0].nodes.join(","), routes.routes.len()), ("n1".to_owned(), 1));
    let status = client.status(GRAPH).await.unwrap();
    assert_eq!((status.revision, status.rollout.as_ref().unwrap().revision), (1, 2));
    let listed = client.graphs.list(graph::ListRequest::default()).await.unwrap().into_inner().graphs;
    assert_eq!(listed.len(), 1, "a candidate is none of the graphs");

    // What is told of another candidate, or of none, decides nothing; neither does a failure by chance.
    let counts = |requests, failures| Some(wire::Counts { requests, failures, latencies: vec![requests] });
    let told = |generation, stable, candidate| wire::Traffic {
        graphs: vec![wire::GraphTraffic { graph: GRAPH.to_owned(), generation, stable, candidate }],
        calls: Vec::new(),
    };
    agent.tell(told(candidate.generation + 1, counts(100, 0), counts(100, 100))).await;
    agent.tell(told(candidate.generation, counts(100, 0), counts(12, 1))).await;
    let asked = client.graphs.rollout(graph::RolloutRequest {
        request_id: fresh_id(),
        graph: GRAPH.to_owned(),
        ask: graph::RolloutAsk::Pause.into(),
        expected_revision: Some(2),
    });
    let paused = asked.await.unwrap().into_inner().status.unwrap().rollout.unwrap();
    assert_eq!(paused.paused, "somebody asked for it", "so it was not given up");
    // Each heartbeat says all of it again, and more.
    let mut failures = 1;
    let reverted = loop {
        failures += 20;
        agent.tell(told(candidate.generation, counts(100 * failures, 0), counts(2 * failures, failures))).await;
        if let Some(reverted) = client.status(GRAPH).await.unwrap().reverted {
            break reverted;
        }
        assert!(failures < 20_000, "it is not given up");
        tokio::time::sleep(RETRY).await;
    };
    assert_eq!(reverted.revision, 2);
    assert!(reverted.why.contains("requests failed, and 0 of"), "{reverted:?}");
    serves(&mut agent, 1).await;
    let status = until(&mut client, |status| status.rollout.is_none()).await;
    assert_eq!(status.revision, 3);
    let again = client.graphs.rollout(graph::RolloutRequest {
        request_id: fresh_id(),
        graph: GRAPH.to_owned(),
        ask: graph::RolloutAsk::Promote.into(),
        expected_revision: None,
    });
    refused(again.await, Code::FailedPrecondition, "no_rollout");
    let of_candidate = client.graphs.delete(graph::DeleteRequest {
        request_id: fresh_id(),
        graph: format!("{GRAPH}@candidate"),
        expected_revision: None,
    });
    refused(of_candidate.await, Code::InvalidArgument, "candidate");

    // Wrong figures are refused, and end that session alone.
    let long = Some(wire::Counts { requests: 1, failures: 0, latencies: vec![1; 1_000] });
    agent.tell(told(candidate.generation, counts(1, 0), long)).await;
    refused(agent.end().await, Code::InvalidArgument, "malformed");
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_of_earlier_versions_are_named_where_a_revision_would_need_newer_ones() {
    let member = Member::start_with(&[PATIENT]).await;
    let mut client = member.client();
    client.upload_parts().await;
    let node = member.enrol("n1").await;
    let mut agent = Agent::join(&node, "n1").await.unwrap();
    client.graphs.deploy(request("one")).await.unwrap();
    serves(&mut agent, 1).await;
    until(&mut client, serving).await;
    let status =
        refused(client.graphs.deploy(request("two")).await, Code::FailedPrecondition, "agents_too_old");
    assert!(status.message().contains("n1 (test)"), "{status:?}");
    let at_once = graph::DeployRequest { at_once: true, ..request("two") };
    let done = client.graphs.deploy(at_once).await.unwrap().into_inner();
    assert!(!done.by_steps && done.revision == 2, "{done:?}");
}
