//! A guest that traps, loops, grows past its limit or never answers costs its own client an answer of 500 or 504 with
//! an id that is found in the logs; its neighbours do not notice.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use chaos_tests::api::Api;
use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use chaos_tests::traffic::{Broken, Load};
use chaos_tests::wait::{SOON, until};
use proto::weft::log::v1::Level;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const GRAPH: &str = "default/faulty";
const HOST: &str = "faulty.localhost";
/// How often each way to fail is tried: more often than a pool of instances that leaks could stand would be too slow,
/// so this only shows that a failure is followed by good answers.
const TIMES: usize = 3;

/// Several for each of the threads that guests run on, on the machines of CI.
const SPINNING: usize = 16;

/// The path, the status, the word for programs, and what the log says of it.
const FAILURES: [(&str, u16, &str, &str); 6] = [
    ("/trap", 500, "component_failed", "unreachable"),
    ("/grow", 500, "component_failed", "memory limit"),
    ("/deep", 500, "component_failed", "stack"),
    ("/silent", 500, "component_failed", "without a response"),
    ("/loop", 504, "deadline_exceeded", "deadline"),
    ("/hang", 504, "deadline_exceeded", "deadline"),
];

/// The log says why, at an error's level, about the component, under the request's id.
async fn is_logged(api: &Api, request: &str, why: &str) {
    until(&format!("a line about request {request} with {why:?}"), SOON, async || {
        let lines = api.logs(GRAPH, request).await.map_err(|status| status.to_string())?;
        assert!(lines.iter().all(|line| line.request == request && line.component == "app"), "{lines:#?}");
        let found = lines.iter().any(|line| line.level() == Level::Error && line.message.contains(why));
        if found { Ok(()) } else { Err(format!("{lines:#?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_answered_and_logged_and_neighbours_serve_on() {
    let cluster = Cluster::start().await;
    let api = cluster.api();
    api.deploy_and_wait(&Bundle::graph("faulty")).await;
    api.deploy_and_wait(&Bundle::graph("hello")).await;
    let neighbour = Load::start(cluster.ingress_address(), "hello.localhost", "/", 4);

    let one = async |path: &str, status: u16, reason: &str, why: &str| {
        let mut client = cluster.client(HOST);
        for _ in 0..TIMES {
            let answer = client.get(path).await;
            assert_eq!(answer.status, status, "{path}: {}", answer.body);
            assert_eq!(answer.json()["error"], reason, "{path}");
            is_logged(&api, &answer.request_id(), why).await;
            assert_eq!(client.get("/").await.body, "ok\n", "after {path}");
        }
    };
    // All at once.
    let [a, b, c, d, e, f] = FAILURES.map(|(path, status, reason, why)| one(path, status, reason, why));
    tokio::join!(a, b, c, d, e, f);

    // More that compute without end than there are processors.
    let answers = neighbour.answers();
    let spins: Vec<_> = (0..SPINNING)
        .map(|_| {
            let mut client = cluster.client(HOST);
            tokio::spawn(async move { client.get("/loop").await.status })
        })
        .collect();
    for spin in spins {
        assert_eq!(spin.await.unwrap(), 504);
    }
    assert!(neighbour.answers() > answers, "nobody was answered meanwhile");

    let all = neighbour.stop_all_good(200).await;
    assert!(all.iter().all(|exchange| exchange.good() == Some("hello from weft\n")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_breaks_off_is_seen_to_be_broken() {
    let cluster = Cluster::start().await;
    let api = cluster.api();
    api.deploy_and_wait(&Bundle::graph("faulty")).await;
    for _ in 0..TIMES {
        // A part of it is sent when the guest traps.
        let broken = cluster.client(HOST).ask(http::Method::GET, "/half?ms=200", "").await;
        assert!(matches!(broken, Err(Broken::Cut(14))), "{broken:?}");
    }
    until("the traps are in the log", SOON, async || {
        let lines = api.logs(GRAPH, "").await.map_err(|status| status.to_string())?;
        let traps =
            lines.iter().filter(|line| line.message.contains("unreachable") && !line.request.is_empty());
        if traps.count() == TIMES { Ok(()) } else { Err(format!("{lines:#?}")) }
    })
    .await;
    assert_eq!(cluster.client(HOST).get("/").await.body, "ok\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_response_comes_whole_and_a_client_that_does_not_read_it_holds_nothing_for_long() {
    const KIB: usize = 16 << 10;
    let cluster = Cluster::start().await;
    let api = cluster.api();
    api.deploy_and_wait(&Bundle::graph("faulty").with("deadline: 1s", "deadline: 10s")).await;
    let answer = cluster.client(HOST).get(&format!("/big?kib={KIB}")).await;
    assert_eq!((answer.status, answer.body.len()), (200, KIB << 10));
    assert!(answer.body.bytes().all(|byte| byte == b'x'));

    // One that reads the head only; the rest does not fit into what sockets buffer.
    api.deploy_and_wait(&Bundle::graph("faulty")).await;
    let mut stream = tokio::net::TcpStream::connect(cluster.ingress_address()).await.unwrap();
    let request = format!("GET /big?kib={} HTTP/1.1\r\nhost: {HOST}\r\n\r\n", 64 << 10);
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let id = head.lines().find_map(|line| line.strip_prefix("weft-request-id: ")).unwrap();
    is_logged(&api, id, "deadline").await;
    assert_eq!(cluster.client(HOST).get("/").await.body, "ok\n");
}
