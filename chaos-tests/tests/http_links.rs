//! Links to HTTP handlers: a component that takes requests and gives them on to another answers the same, whether that
//! one is on its node or not.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::convert::Infallible;

use ::http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use bytes::Bytes;
use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use chaos_tests::ctl::{Ctl, argument};
use chaos_tests::http::{self, raw};
use chaos_tests::traffic::{Answer, Broken, Client};
use chaos_tests::wait::{SOON, until};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use model::digest::Digest;
use model::id::{Generation, Uid};
use model::link::{Binding, Body, Call, Frame as LinkFrame, GraphVersion, LinkReason, Open};
use prost::Message as _;
use proto::weft::link::v1 as wire;
use tokio::net::TcpStream;
use tokio_stream::wrappers::ReceiverStream;

const GRAPH: &str = "default/guarded";
const HOST: &str = "guarded.localhost";

/// `guarded`, with the component that can do most behind the guard; or with its parts on these nodes.
fn guarded(nodes: Option<(&str, &str)>) -> Bundle {
    let bundle = Bundle::graph("guarded")
        .with("../hello/build/app.wasm}", "../faulty/build/app.wasm, limits: {deadline: 3s}}");
    let Some((guard, app)) = nodes else { return bundle };
    bundle.on("guard.wasm", guard).on("faulty/build/app.wasm", app)
}

/// With the guard on n2 and what it guards on n1.
async fn apart(nodes: usize) -> Cluster {
    let cluster = Cluster::start_nodes(nodes).await;
    cluster.api().deploy_and_wait(&guarded(Some(("n2", "n1")))).await;
    cluster
}

/// At the guard's node.
fn client(cluster: &Cluster) -> Client {
    Client::new(cluster.ingress_address_of("n2"), HOST)
}

fn user() -> HeaderMap {
    HeaderMap::from_iter([("user".parse().unwrap(), HeaderValue::from_static("ada"))])
}

async fn get(cluster: &Cluster, path: &str) -> Result<Answer, Broken> {
    client(cluster).ask_with(path, user()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_on_another_node_answers_as_one_beside_its_caller() {
    let whole = Cluster::start().await;
    whole.api().deploy_and_wait(&guarded(None)).await;
    let cluster = apart(2).await;
    let ctl = Ctl::new(&cluster);
    let drawn = ctl.done(&["graph", "guarded"]).await;
    assert!(drawn.contains("(remote: n2 -> n1)"), "{drawn}");
    let close = "Host: guarded.localhost\r\nConnection: close\r\nUser: ada\r\n";
    let requests = [
        "GET / HTTP/1.1\r\nHost: guarded.localhost\r\nConnection: close\r\n\r\n".to_owned(),
        format!("GET /shown?a=b HTTP/1.1\r\n{close}X-Thing: 1\r\nX-Thing: 2\r\n\r\n"),
        format!("GET http://guarded.localhost:81/shown HTTP/1.1\r\n{close}\r\n"),
        format!("POST /echo HTTP/1.1\r\n{close}Content-Length: 5\r\n\r\nhello"),
        format!("POST /echo HTTP/1.1\r\n{close}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
        format!("HEAD / HTTP/1.1\r\n{close}\r\n"),
        format!("BREW / HTTP/1.1\r\n{close}\r\n"),
        format!("OPTIONS * HTTP/1.1\r\n{close}\r\n"),
        format!("GET /log HTTP/1.1\r\n{close}\r\n"),
    ];
    for request in requests {
        let here = raw(whole.ingress_address(), &request).await;
        let there = raw(cluster.ingress_address_of("n2"), &request).await;
        assert_eq!(there, here, "{request}");
    }
    for (path, status, error) in [
        ("/trap", 500, "component_failed"),
        ("/silent", 500, "component_failed"),
        ("/hang", 504, "deadline_exceeded"),
    ] {
        let here = whole.client(HOST).ask_with(path, user()).await.unwrap();
        let there = get(&cluster, path).await.unwrap();
        for answer in [&here, &there] {
            assert_eq!((answer.status, answer.json()["error"].as_str()), (status, Some(error)), "{path}");
        }
        assert_eq!(here.json()["message"], there.json()["message"]);
        // What happened is in the log of the graph under the request, at both its nodes.
        let lines = cluster.api().logs(GRAPH, &there.request_id()).await.unwrap();
        assert!(!lines.is_empty(), "{path}");
    }
    for path in ["/half", "/half?ms=300"] {
        let (here, there) = (whole.client(HOST).ask_with(path, user()).await, get(&cluster, path).await);
        let is_cut = |answer: &Result<Answer, Broken>| match answer {
            Ok(answer) => answer.status == 500,
            Err(broken) => matches!(broken, Broken::Cut(_) | Broken::NoAnswer(_)),
        };
        assert!(is_cut(&here) && is_cut(&there), "{here:?}\n{there:?}");
    }
    let big = get(&cluster, "/big?kib=16384").await.unwrap();
    assert_eq!((big.status, big.body.len()), (200, 16_384 << 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_and_trailers_go_through_a_handler_as_they_come() {
    let cluster = apart(2).await;
    let stream = TcpStream::connect(cluster.ingress_address_of("n2")).await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let (parts, body) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
    let request = Request::post(format!("http://{HOST}/echo")).header("user", "ada");
    let request = request.body(StreamBody::new(ReceiverStream::new(body))).unwrap();
    let answering = tokio::spawn(async move { sender.send_request(request).await.unwrap() });
    let chunk = Bytes::from(vec![b'c'; 4_096]);
    parts.send(Ok(Frame::data(chunk.clone()))).await.unwrap();
    let mut answer = tokio::time::timeout(SOON, answering).await.expect("its head").unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let mut came = 0;
    for number in 1..=100 {
        while came < number * chunk.len() {
            let frame = tokio::time::timeout(SOON, answer.body_mut().frame()).await.expect("a frame");
            came += frame.unwrap().unwrap().into_data().unwrap().len();
        }
        parts.send(Ok(Frame::data(chunk.clone()))).await.unwrap();
    }
    let sum = HeaderMap::from_iter([("x-sum".parse().unwrap(), HeaderValue::from_static("42"))]);
    parts.send(Ok(Frame::trailers(sum.clone()))).await.unwrap();
    drop(parts);
    let rest = tokio::time::timeout(SOON, answer.into_body().collect()).await.expect("the rest").unwrap();
    assert_eq!(rest.trailers(), Some(&sum));
    assert_eq!(came + rest.to_bytes().len(), 101 * chunk.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_handler_is_said_as_what_is_known_of_it() {
    let mut cluster = apart(2).await;
    assert_eq!(get(&cluster, "/").await.unwrap().status, 200);
    let mut sleeper = client(&cluster);
    let asleep = tokio::spawn(async move { sleeper.ask_with("/sleep?ms=2900", user()).await.unwrap() });
    let api = cluster.api();
    api.said(GRAPH, "sleeping", 1).await;
    cluster.agent.kill();
    let lost = asleep.await.unwrap();
    assert_eq!((lost.status, lost.json()["error"].as_str()), (502, Some("link_lost")), "{}", lost.body);
    // Another connection may not have ended yet: what is sent on it is lost as well.
    let gone = until("nobody is reached", SOON, async || {
        let answer = get(&cluster, "/").await.unwrap();
        assert!([502, 503].contains(&answer.status), "{}", answer.body);
        let is_it = (answer.status, answer.json()["error"].as_str()) == (503, Some("link_unavailable"));
        if is_it { Ok(answer) } else { Err(answer) }
    })
    .await;
    let lines = api.logs(GRAPH, &gone.request_id()).await.unwrap();
    let is_it = |message: &str| message.contains("guard -> app") && message.contains("node n1");
    assert!(lines.iter().any(|line| is_it(&line.message)), "{lines:#?}");
    // The guard itself answers without it.
    assert_eq!(client(&cluster).ask(Method::GET, "/", "").await.unwrap().status, 401);
    cluster.agent.start().await;
    until("it answers again", SOON, async || match get(&cluster, "/").await {
        Ok(answer) if answer.status == 200 => Ok(()),
        other => Err(other),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_ends_the_handler_on_the_other_node() {
    let cluster = apart(2).await;
    let api = cluster.api();
    let mut client = client(&cluster);
    let asking = tokio::spawn(async move { client.ask_with("/sleep?ms=9000", user()).await });
    api.said(GRAPH, "sleeping", 1).await;
    asking.abort();
    // One that is not ended runs into its deadline, and says so; a later one does.
    let late = get(&cluster, "/hang").await.unwrap();
    assert_eq!(late.status, 504);
    let lines = api.logs(GRAPH, "").await.unwrap();
    let ended: Vec<_> =
        lines.iter().filter(|line| line.message.contains("the call's deadline passed")).collect();
    assert!(ended.iter().all(|line| line.request == late.request_id()), "{ended:#?}");
}

/// The frames by which `guard` asks `app`, as its agent writes them into a header.
fn link(version: &GraphVersion, mistake: impl FnOnce(&mut Open)) -> String {
    let binding = Binding {
        interface: "wasi:http/incoming-handler@0.2.12".parse().unwrap(),
        function: "handle".to_owned(),
        digest: Digest::from_bytes([0; 32]),
    };
    let mut open = Open {
        version: version.clone(),
        from: "guard".parse().unwrap(),
        to: "app".parse().unwrap(),
        request: "r-1".to_owned(),
        trace_state: None,
        functions: vec![binding],
    };
    mistake(&mut open);
    let call = Call { function: 0, arguments: Vec::new(), deadline_us: 1_000_000, trace: None };
    let frame = |body| LinkFrame { session: 1, body }.into();
    let frames = vec![frame(Body::Open(Box::new(open))), frame(Body::Call(call))];
    hex::encode(wire::Frames { frames }.encode_to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_the_graph_links_is_answered_over_a_link() {
    let cluster = apart(3).await;
    let status = cluster.api().status(GRAPH).await.unwrap();
    let version = GraphVersion {
        graph: GRAPH.parse().unwrap(),
        uid: Uid::new(status.uid).unwrap(),
        generation: Generation(status.generation),
    };
    let ask = async |node: &str, frames: &str| {
        let mut agent = http::to_agent(&cluster, cluster.keyring_of(node)).await.unwrap();
        let request = Request::get(format!("http://{HOST}/")).header("weft-link", frames);
        let answer = agent.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
        let failed = answer.headers().get("weft-link-failed").map(|value| {
            let frames = wire::Frames::decode(&hex::decode(value).unwrap()[..]).unwrap().frames;
            match frames.into_iter().map(|frame| LinkFrame::try_from(frame).unwrap().body).next() {
                Some(Body::Failed(failure)) => failure.reason,
                other => panic!("{other:?}"),
            }
        });
        (answer.status().as_u16(), failed)
    };
    assert_eq!(ask("n2", &link(&version, |_| {})).await, (200, None), "the guard's own node may");
    let denied = (502, Some(LinkReason::Denied));
    assert_eq!(ask("n3", &link(&version, |_| {})).await, denied, "a node without a part");
    assert_eq!(ask("n1", &link(&version, |_| {})).await, denied, "the provider's node");
    let mistakes: [fn(&mut Open); 4] = [
        |open| open.from = "app".parse().unwrap(),
        |open| open.to = "guard".parse().unwrap(),
        |open| open.version.uid = Uid::new("another").unwrap(),
        |open| open.version.generation.0 -= 1,
    ];
    for mistake in mistakes {
        assert_eq!(ask("n2", &link(&version, mistake)).await, denied);
    }
    let wrong = (502, Some(LinkReason::Protocol));
    let strange: [fn(&mut Open); 2] =
        [|open| open.functions.clear(), |open| open.functions[0].function = "other".to_owned()];
    for mistake in strange {
        assert_eq!(ask("n2", &link(&version, mistake)).await, wrong);
    }
    for frames in ["", "zz", "00", "0a00"] {
        assert_eq!(ask("n2", frames).await, wrong, "{frames}");
    }
    let audit = std::fs::read_to_string(cluster.agent.data_dir.join("audit.log")).unwrap();
    assert!(audit.matches("link_denied").count() >= 6, "{audit}");
    // The header of a client gives it nothing.
    let mut outside = client(&cluster);
    let forged =
        HeaderMap::from_iter([("weft-link".parse().unwrap(), link(&version, |_| {}).parse().unwrap())]);
    assert_eq!(outside.ask_with("/", forged).await.unwrap().status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_apart_needs_no_terms() {
    let cluster = Cluster::start_nodes(2).await;
    let ctl = Ctl::new(&cluster);
    let file = guarded(Some(("n2", "n1"))).write(&cluster.folder().join("guarded"), "guarded.yaml");
    let plan = ctl.run(&["plan", argument(&file), "--strict"]).await;
    assert!(plan.code == 0 && plan.stdout.contains("remote: n2 -> n1"), "{plan:?}");
}
