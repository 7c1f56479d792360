//! A request is one trace over all nodes that it touches: the client's goes on, each call over a link has a span at both
//! of its ends, and a collector that is not there costs nothing but the spans.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use chaos_tests::traffic::{Client, Load};
use chaos_tests::wait::{SOON, until};
use http::HeaderMap;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

const HOST: &str = "customers.localhost";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

/// A span as a collector sees it.
#[derive(Debug, Clone)]
struct Span {
    node: String,
    name: String,
    /// 2 is a server's, 3 is a client's.
    kind: i32,
    trace: String,
    id: String,
    parent: String,
    state: String,
    about: BTreeMap<String, String>,
}

/// Takes spans.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

impl Collector {
    async fn listen() -> (Self, SocketAddr) {
        let collector = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server =
            tonic::transport::Server::builder().add_service(TraceServiceServer::new(collector.clone()));
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        (collector, address)
    }

    /// The spans of a trace, once there are so many.
    async fn spans(&self, trace: &str, count: usize) -> Vec<Span> {
        until(&format!("{count} spans of {trace}"), SOON, async || {
            let spans: Vec<_> =
                self.0.lock().unwrap().iter().filter(|span| span.trace == trace).cloned().collect();
            if spans.len() >= count { Ok(spans) } else { Err(spans) }
        })
        .await
    }
}

fn text(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let about = |of: Vec<KeyValue>| -> BTreeMap<_, _> {
            of.into_iter().map(|pair| (pair.key, text(pair.value))).collect()
        };
        for resource in request.into_inner().resource_spans {
            let of = about(resource.resource.unwrap().attributes);
            assert_eq!(of["service.name"], "weft-node-agent");
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.0.lock().unwrap().extend(spans.map(|span| Span {
                node: of["weft.node"].clone(),
                name: span.name,
                kind: span.kind,
                trace: hex::encode(&span.trace_id),
                id: hex::encode(&span.span_id),
                parent: hex::encode(&span.parent_span_id),
                state: span.trace_state,
                about: about(span.attributes),
            }));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn traced(parent: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("traceparent", parent.parse().unwrap());
    headers.insert("tracestate", "vendor=x".parse().unwrap());
    headers
}

/// `customers` on three nodes that tell this collector.
async fn apart(collector: SocketAddr, more: &[&str]) -> Cluster {
    let flag = format!("--otlp-endpoint=http://{collector}");
    let flags: Vec<&str> = [flag.as_str()].iter().chain(more).copied().collect();
    let cluster = Cluster::start_as(3, &[], &flags).await;
    cluster.api().deploy_and_wait(&Bundle::example("customers", "graph-apart.yaml")).await;
    cluster.api().apply_and_wait(&Bundle::example("customers", "pii-firewall-apart.yaml")).await;
    cluster.api().serving("default/customers", 0).await;
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_over_three_nodes_is_one_trace_below_the_clients() {
    let (collector, address) = Collector::listen().await;
    let cluster = apart(address, &[]).await;
    let mut client = Client::new(cluster.ingress_address(), HOST);
    let answer = client.ask_with("/customers", traced(&format!("00-{TRACE}-{SPAN}-01"))).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);

    // `open` and `execute`, each from n1 to n2 and from n2 to n3, seen from both ends; and the request itself.
    let spans = collector.spans(TRACE, 9).await;
    let of = |id: &str| spans.iter().find(|span| span.id == id).unwrap();
    let [request] = spans.iter().filter(|span| span.parent == SPAN).collect::<Vec<_>>()[..] else {
        panic!("one span is below the client's: {spans:#?}");
    };
    assert_eq!((request.node.as_str(), request.kind, request.name.as_str()), ("n1", 2, "GET /"));
    assert_eq!(request.about["http.response.status_code"], "200");
    assert_eq!(request.about["weft.graph"], "default/customers");
    assert_eq!(request.about["weft.request"], answer.headers["weft-request-id"].to_str().unwrap());
    let mut ways: Vec<String> = Vec::new();
    for span in spans.iter().filter(|span| span.id != request.id) {
        assert_eq!(span.state, "vendor=x", "{span:?}");
        assert_eq!(span.about["weft.link.outcome"], "returned", "{span:?}");
        let parent = of(&span.parent);
        ways.push(format!("{} {}>{} {}", span.about["rpc.method"], parent.node, span.node, span.kind));
    }
    ways.sort();
    let expected = ["[method]connection.execute", "[static]connection.open"]
        .map(|method| ["n1>n1 3", "n1>n2 2", "n2>n2 3", "n2>n3 2"].map(|way| format!("{method} {way}")));
    assert_eq!(ways, expected.concat());

    // One that its client does not want recorded is not, and the guest still finds it.
    let unwanted = "0af7651916cd43dd8448eb211c80319c";
    client.ask_with("/customers", traced(&format!("00-{unwanted}-{SPAN}-00"))).await.unwrap();
    let own = client.get("/customers").await;
    assert_eq!(own.status, 200);
    until("a request without a trace begins one", SOON, async || {
        let spans = collector.0.lock().unwrap().clone();
        let found = spans.iter().filter(|span| span.parent.trim_matches('0').is_empty() && span.kind == 2);
        let found = found.map(|span| span.trace.clone()).next();
        found.ok_or(spans.len())
    })
    .await;
    assert!(collector.0.lock().unwrap().iter().all(|span| span.trace != unwanted));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_passed_on_is_one_trace_too() {
    let (collector, address) = Collector::listen().await;
    let cluster = apart(address, &[]).await;
    let mut client = Client::new(cluster.ingress_address_of("n3"), HOST);
    let answer = client.ask_with("/nowhere", traced(&format!("00-{TRACE}-{SPAN}-01"))).await.unwrap();
    assert_eq!(answer.status, 404, "{}", answer.body);
    let spans = collector.spans(TRACE, 3).await;
    let below = |parent: &str| {
        let found: Vec<_> = spans.iter().filter(|span| span.parent == parent).collect();
        let [span] = found[..] else { panic!("one span is below {parent}: {spans:#?}") };
        assert_eq!(span.about["http.response.status_code"], "404");
        (span.node.as_str(), span.kind, span.name.as_str(), span.id.as_str())
    };
    let (node, kind, name, taken) = below(SPAN);
    assert_eq!((node, kind, name), ("n3", 2, "GET /"));
    let (node, kind, name, passed) = below(taken);
    assert_eq!((node, kind, name), ("n3", 3, "pass on to n1"));
    let (node, kind, name, _) = below(passed);
    assert_eq!((node, kind, name), ("n1", 2, "GET /"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_said_with_its_trace() {
    let (collector, address) = Collector::listen().await;
    let mut cluster = apart(address, &["--trace-ratio=0"]).await;
    let mut client = Client::new(cluster.ingress_address(), HOST);
    // Nothing is recorded that nobody asked for.
    assert_eq!(client.get("/customers").await.status, 200);
    cluster.agent_named("n3").kill();
    let trace = "11111111111111111111111111111111";
    let answer = client.ask_with("/customers", traced(&format!("00-{trace}-{SPAN}-01"))).await.unwrap();
    assert!(answer.status >= 500, "{}", answer.body);
    let api = cluster.api();
    until("the trace is in the log", SOON, async || {
        let lines =
            api.logs("default/customers", &answer.request_id()).await.map_err(|status| status.to_string())?;
        let lines: Vec<_> = lines.into_iter().map(|line| line.message).collect();
        if lines.iter().any(|line| line.contains(&format!("(trace {trace})"))) {
            Ok(())
        } else {
            Err(lines.join("\n"))
        }
    })
    .await;
    let spans = collector.spans(trace, 4).await;
    let failed: Vec<_> = spans.iter().filter(|span| span.about.contains_key("error.type")).collect();
    assert!(failed.iter().any(|span| span.about["error.type"] == "link_unavailable"), "{spans:#?}");
    assert!(collector.0.lock().unwrap().iter().all(|span| span.trace == trace), "only that one was asked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_not_there_hinders_nobody() {
    let nowhere = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut cluster = apart(nowhere, &[]).await;
    let load = Load::start(cluster.ingress_address(), HOST, "/customers", 4);
    until("the agent says that nobody takes its spans", SOON, async || {
        let log = cluster.agent.last_log();
        if log.contains("the collector of traces takes no spans") { Ok(()) } else { Err(log.len()) }
    })
    .await;
    load.stop_all_good(100).await;
    // Nor its end.
    cluster.agent.terminate();
    assert!(cluster.agent.end_within(SOON).await.success());
}
