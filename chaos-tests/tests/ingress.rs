//! Every node's ingress serves every route: what a graph answers, how it fails and what it is told are the same
//! wherever the client comes in.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::convert::Infallible;
use std::time::Duration;

use ::http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use bytes::Bytes;
use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use chaos_tests::http::{self, raw};
use chaos_tests::traffic::{Client, Load};
use chaos_tests::wait::{SOON, holds, until};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use trust::Keyring;

const FAULTY: &str = "faulty.localhost";

/// `faulty`, which must run on a node.
fn faulty_on(node: &str) -> Bundle {
    let place = format!("source: ./build/app.wasm\n    placement: {{require: {{node: {node}}}}}");
    Bundle::graph("faulty").with("source: ./build/app.wasm", &place).with("deadline: 1s", "deadline: 10s")
}

async fn faulty_on_n1(nodes: usize) -> Cluster {
    let cluster = Cluster::start_nodes(nodes).await;
    cluster.api().deploy_and_wait(&faulty_on("n1")).await;
    cluster
}

fn client(cluster: &Cluster, node: &str, host: &str) -> Client {
    Client::new(cluster.ingress_address_of(node), host)
}

/// What is answered at a node, once the routes are known there.
async fn known(cluster: &Cluster, node: &str, host: &str) {
    let mut client = client(cluster, node, host);
    until("the route is known", SOON, async || match client.get("/").await {
        answer if answer.status == 404 => Err(answer.body),
        _ => Ok(()),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graph_is_told_and_answers_the_same_at_every_node() {
    let cluster = faulty_on_n1(3).await;
    for node in ["n2", "n3"] {
        known(&cluster, node, FAULTY).await;
    }
    let requests = [
        "GET /shown?a=b HTTP/1.1\r\nHost: faulty.localhost:81\r\nX-Thing: 1\r\nX-Thing: 2\r\nConnection: close, X-Hop\r\n\
         X-Hop: gone\r\nTE: trailers\r\nWeft-Forged: 1\r\n\r\n",
        "GET http://faulty.localhost/shown HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: FAULTY.localhost\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
        "POST /echo HTTP/1.1\r\nHost: faulty.localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
         3\r\nabc\r\n0\r\n\r\n",
        "HEAD / HTTP/1.1\r\nHost: faulty.localhost\r\nConnection: close\r\n\r\n",
        "DELETE /nowhere HTTP/1.1\r\nHost: faulty.localhost\r\nConnection: close\r\n\r\n",
        "GET /trap HTTP/1.1\r\nHost: nobody.localhost\r\nConnection: close\r\n\r\n",
    ];
    for request in requests {
        let here = raw(cluster.ingress_address_of("n1"), request).await;
        for node in ["n2", "n3"] {
            assert_eq!(raw(cluster.ingress_address_of(node), request).await, here, "{request}");
        }
    }
    let shown = client(&cluster, "n2", FAULTY).get("/shown").await.body;
    assert!(shown.contains("faulty.localhost /shown"), "{shown}");

    // A failure of the guest is told with its id, by which its reason is found in the log of its node.
    let failed = client(&cluster, "n3", FAULTY).get("/trap").await;
    assert_eq!((failed.status, failed.json()["error"].as_str()), (500, Some("component_failed")));
    let lines = cluster.api().logs("default/faulty", &failed.request_id()).await.unwrap();
    assert!(lines.iter().any(|line| line.message.contains("trapped")), "{lines:#?}");
    assert_eq!(client(&cluster, "n2", FAULTY).get("/hang").await.status, 504, "the graph's deadline holds");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_client_needs_no_host_and_a_newer_one_sends_it_otherwise() {
    let cluster = Cluster::start_nodes(2).await;
    let anywhere = faulty_on("n1").with("host: faulty.localhost, path: /", "path: /");
    cluster.api().deploy_and_wait(&anywhere).await;
    known(&cluster, "n2", "x.localhost").await;
    let old = "GET /shown HTTP/1.0\r\n\r\n";
    let here = raw(cluster.ingress_address_of("n1"), old).await;
    assert!(here.contains("localhost /shown"), "{here}");
    assert_eq!(raw(cluster.ingress_address_of("n2"), old).await, here);

    let mut shown = Vec::new();
    for node in ["n1", "n2"] {
        let stream = TcpStream::connect(cluster.ingress_address_of(node)).await.unwrap();
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get("http://y.localhost/shown?z").body(Full::<Bytes>::default()).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        shown.push(answer.into_body().collect().await.unwrap().to_bytes());
    }
    assert_eq!(shown[0], shown[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_go_on_as_they_come_with_their_trailers() {
    let cluster = faulty_on_n1(2).await;
    known(&cluster, "n2", FAULTY).await;
    let stream = TcpStream::connect(cluster.ingress_address_of("n2")).await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let (parts, body) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
    let frames = tokio_stream::wrappers::ReceiverStream::new(body);
    let request = Request::post(format!("http://{FAULTY}/echo")).body(StreamBody::new(frames)).unwrap();
    let answering = tokio::spawn(async move { sender.send_request(request).await.unwrap() });
    let chunk = Bytes::from(vec![b'c'; 64 << 10]);
    parts.send(Ok(Frame::data(chunk.clone()))).await.unwrap();
    // The answer begins before the request has ended: nothing waits for whole bodies.
    let mut answer = tokio::time::timeout(SOON, answering).await.expect("its head").unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let mut came = 0;
    let mut trailers = None;
    let mut take = async |least: usize| {
        while came < least || least == usize::MAX {
            match tokio::time::timeout(SOON, answer.body_mut().frame()).await.expect("a frame") {
                Some(frame) => match frame.unwrap().into_data() {
                    Ok(data) => came += data.len(),
                    Err(frame) => trailers = frame.into_trailers().ok(),
                },
                None => break,
            }
        }
    };
    for number in 1..=64 {
        take(number * chunk.len()).await;
        parts.send(Ok(Frame::data(chunk.clone()))).await.unwrap();
    }
    let sum = HeaderMap::from_iter([("x-sum".parse().unwrap(), HeaderValue::from_static("42"))]);
    parts.send(Ok(Frame::trailers(sum.clone()))).await.unwrap();
    drop(parts);
    take(usize::MAX).await;
    assert_eq!(came, 65 * chunk.len());
    assert_eq!(trailers, Some(sum));
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_break_off_their_bodies_cost_others_nothing() {
    let cluster = faulty_on_n1(2).await;
    known(&cluster, "n2", FAULTY).await;
    let address = cluster.ingress_address_of("n2");
    let start =
        "POST /echo HTTP/1.1\r\nHost: faulty.localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
    for round in 0..20 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // Half of them go away in the middle, the others send what is no chunk, and wait.
        let rest = if round % 2 == 0 { "" } else { "nonsense\r\n" };
        stream.write_all(format!("{start}{rest}").as_bytes()).await.unwrap();
        if round % 2 == 1 {
            let mut answer = Vec::new();
            tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.expect("an end").unwrap();
        }
    }
    let answer = client(&cluster, "n2", FAULTY).get("/").await;
    assert_eq!(answer.status, 200, "no circuit is open: {}", answer.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_node_is_said_as_what_is_known_of_it() {
    let mut cluster = faulty_on_n1(2).await;
    known(&cluster, "n2", FAULTY).await;
    // Under way when the node dies: it may have done it.
    let mut sleeper = client(&cluster, "n2", FAULTY);
    let asleep = tokio::spawn(async move { sleeper.get("/sleep?ms=9000").await });
    let api = cluster.api();
    api.said("default/faulty", "sleeping", 1).await;
    let mut streaming = client(&cluster, "n2", FAULTY);
    let half = tokio::spawn(async move { streaming.ask(Method::GET, "/half?ms=9000", "").await });
    until("the half is sent", SOON, async || {
        let load = client(&cluster, "n2", FAULTY).get("/").await;
        holds(load.status == 200, "not yet")
    })
    .await;
    cluster.agent.kill();
    let lost = asleep.await.unwrap();
    assert_eq!((lost.status, lost.json()["error"].as_str()), (502, Some("answer_lost")), "{}", lost.body);
    let half = half.await.unwrap();
    assert!(half.as_ref().is_err() || half.as_ref().is_ok_and(|answer| answer.status == 502), "{half:?}");

    // From now on it is certain that nothing was done; and once that was found out often enough, it is said at once.
    let load = Load::start(cluster.ingress_address_of("n2"), FAULTY, "/", 8);
    until("many are answered", SOON, async || holds(load.answers() > 500, load.answers())).await;
    for exchange in load.stop().await {
        assert_eq!(exchange.answer.unwrap().status, 503);
    }
    let gone = client(&cluster, "n2", FAULTY).get("/").await;
    assert_eq!((gone.status, gone.json()["error"].as_str()), (503, Some("node_unreachable")), "{}", gone.body);
    assert_eq!(gone.headers["retry-after"], "1");
    assert!(gone.body.contains("default/faulty") && !gone.body.contains("n1"), "{}", gone.body);
    cluster.agent.start().await;
    let mut client = client(&cluster, "n2", FAULTY);
    until("it answers again", SOON, async || match client.get("/").await {
        answer if answer.status == 200 => Ok(()),
        answer => Err(answer.body),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_outlive_the_control_plane_and_the_agent_that_was_told_them() {
    let mut cluster = faulty_on_n1(2).await;
    known(&cluster, "n2", FAULTY).await;
    cluster.control_plane.kill();
    let agent = cluster.agent_named("n2");
    agent.kill();
    agent.start().await;
    let mut client = client(&cluster, "n2", FAULTY);
    assert_eq!(client.get("/shown").await.status, 200);
    // A damaged file of routes costs the routes of others until the control plane is back, and nothing else.
    let agent = cluster.agent_named("n2");
    agent.kill();
    std::fs::write(agent.data_dir.join("routes"), "nonsense").unwrap();
    agent.start().await;
    assert_eq!(client.get("/shown").await.status, 404);
    cluster.control_plane.start().await;
    until("the routes are told again", SOON, async || match client.get("/shown").await {
        answer if answer.status == 200 => Ok(()),
        answer => Err(answer.body),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_at_one_ingress_while_graphs_and_other_nodes_come_and_go() {
    let mut cluster = faulty_on_n1(3).await;
    let api = cluster.api();
    known(&cluster, "n2", FAULTY).await;
    let load = Load::start(cluster.ingress_address_of("n2"), FAULTY, "/", 4);
    // New generations of the graph, and other graphs whose routes all nodes are told.
    for deadline in ["deadline: 9s", "deadline: 8s"] {
        api.deploy_and_wait(&faulty_on("n1").with("deadline: 10s", deadline)).await;
        api.deploy_and_wait(&Bundle::graph("hello")).await;
        for node in ["n1", "n2", "n3"] {
            known(&cluster, node, "hello.localhost").await;
            assert_eq!(client(&cluster, node, "hello.localhost").get("/").await.body, "hello from weft\n");
        }
        api.delete("default/hello").await.unwrap();
    }
    // A node that has no part in it ends and comes back.
    let other = cluster.agent_named("n3");
    other.terminate();
    other.end_within(Duration::from_secs(30)).await;
    other.start().await;
    load.stop_all_good(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_another_node_passed_on_are_answered_before_their_node_ends() {
    let mut cluster = faulty_on_n1(2).await;
    known(&cluster, "n2", FAULTY).await;
    let sleepers: Vec<_> = (0..4)
        .map(|_| {
            let mut client = client(&cluster, "n2", FAULTY);
            tokio::spawn(async move { client.get("/sleep?ms=1500").await })
        })
        .collect();
    let api = cluster.api();
    api.said("default/faulty", "sleeping", sleepers.len()).await;
    cluster.agent.terminate();
    for sleeper in sleepers {
        let answer = sleeper.await.unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, "slept\n"));
    }
    let status = cluster.agent.end_within(Duration::from_secs(10)).await;
    assert!(status.success(), "{status}");
}

/// The status that n1's agent gives to a request that somebody carries there.
async fn carried(cluster: &Cluster, keyring: Keyring, host: &str) -> Result<StatusCode, String> {
    let mut agent = http::to_agent(cluster, keyring).await?;
    let request = Request::get(format!("http://{host}/")).body(Full::<Bytes>::default()).unwrap();
    Ok(agent.send_request(request).await.map_err(|error| error.to_string())?.status())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_nodes_pass_on_requests_and_nothing_is_passed_on_twice() {
    let cluster = faulty_on_n1(2).await;
    cluster.api().deploy_and_wait(&Bundle::graph("hello").with("path: /}", "path: /there}")).await;
    assert_eq!(carried(&cluster, cluster.keyring_of("n2"), FAULTY).await, Ok(StatusCode::OK));
    let refused = carried(&cluster, cluster.operator(), FAULTY).await;
    assert!(refused.is_err(), "{refused:?}");

    // A graph on n2, asked for at n1 by a node that thinks it is there.
    let elsewhere = Bundle::graph("hello").with("graph: hello", "graph: elsewhere");
    let elsewhere = elsewhere.with("hello.localhost", "elsewhere.localhost").on("app.wasm", "n2");
    cluster.api().deploy_and_wait(&elsewhere).await;
    known(&cluster, "n1", "elsewhere.localhost").await;
    assert_eq!(client(&cluster, "n1", "elsewhere.localhost").get("/").await.status, 200);
    let looping = carried(&cluster, cluster.keyring_of("n2"), "elsewhere.localhost").await;
    assert_eq!(looping, Ok(StatusCode::SERVICE_UNAVAILABLE));
}
