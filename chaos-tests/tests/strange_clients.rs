//! Whatever a client sends or leaves out costs it its own connection at most, and what it held is free again.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::net::SocketAddr;
use std::time::Duration;

use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use chaos_tests::traffic::{Client, Load};
use chaos_tests::wait::{SOON, holds, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// What a node runs at one time.
const INSTANCES: usize = 1_000;
/// More than that, so that a leak of each would be seen.
const MORE_THAN_THE_POOL: usize = 1_200;
const AT_ONCE: usize = 100;
/// A server that neither answers nor closes within this time waits for more.
const SILENCE: Duration = Duration::from_secs(2);

/// Sends bytes and returns what comes back until the server closes or falls silent.
async fn send(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // It may be refused before it is all sent.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let mut buffer = [0; 4_096];
    while let Ok(Ok(count)) = tokio::time::timeout(SILENCE, stream.read(&mut buffer)).await {
        if count == 0 {
            break;
        }
        answer.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_refused_and_others_are_served() {
    let cluster = Cluster::start().await;
    let address = cluster.ingress_address();
    cluster.api().deploy_and_wait(&Bundle::graph("hello")).await;
    let load = Load::start(address, "hello.localhost", "/", 4);
    let host = "host: hello.localhost\r\n";
    let refused = [
        ("no HTTP", "\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03\r\n\r\n".to_owned()),
        ("no version", "GET /\r\n\r\n".to_owned()),
        ("a long target", format!("GET /{} HTTP/1.1\r\n{host}\r\n", "a".repeat(100 << 10))),
        ("a long header", format!("GET / HTTP/1.1\r\n{host}x: {}\r\n\r\n", "a".repeat(100 << 10))),
        ("many headers", format!("GET / HTTP/1.1\r\n{host}{}\r\n", "x: y\r\n".repeat(1_000))),
        ("a header's name with a space", format!("GET / HTTP/1.1\r\n{host}bad name: x\r\n\r\n")),
        ("two lengths", format!("POST / HTTP/1.1\r\n{host}content-length: 1\r\ncontent-length: 2\r\n\r\nab")),
        ("a length that is no number", format!("POST / HTTP/1.1\r\n{host}content-length: +1\r\n\r\na")),
    ];
    for (what, bytes) in refused {
        let answer = send(address, bytes.as_bytes()).await;
        let is_refused = answer.is_empty() || answer.starts_with("HTTP/1.1 4");
        assert!(is_refused, "{what}: {answer:?}");
    }
    for (what, bytes) in [
        (
            "an absolute target",
            "GET http://hello.localhost/ HTTP/1.1\r\nhost: other\r\nconnection: close\r\n\r\n".to_owned(),
        ),
        ("HTTP/1.0", format!("GET / HTTP/1.0\r\n{host}\r\n")),
        (
            "a forged id",
            format!("GET / HTTP/1.1\r\n{host}weft-request-id: forged\r\nconnection: close\r\n\r\n"),
        ),
    ] {
        let answer = send(address, bytes.as_bytes()).await;
        assert!(answer.contains(" 200 OK\r\n") && answer.contains("hello from weft\n"), "{what}: {answer:?}");
        assert!(!answer.contains("forged"), "{answer:?}");
    }
    // Whatever a second request is smuggled in, it is not answered as one of another client.
    let both = format!(
        "POST / HTTP/1.1\r\n{host}content-length: 44\r\ntransfer-encoding: chunked\r\n\r\n\
         0\r\n\r\nGET /smuggled HTTP/1.1\r\n{host}\r\n"
    );
    let answer = send(address, both.as_bytes()).await;
    assert!(answer.matches("HTTP/1.1").count() <= 1, "{answer:?}");
    load.stop_all_good(100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_go_away_hold_nothing() {
    let cluster = Cluster::start().await;
    let api = cluster.api();
    api.deploy_and_wait(&Bundle::graph("faulty").with("deadline: 1s", "deadline: 60s")).await;
    let address = cluster.ingress_address();
    let mut asked = 0;
    while asked < MORE_THAN_THE_POOL {
        let leave = |_| async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = b"GET /sleep?ms=60000 HTTP/1.1\r\nhost: faulty.localhost\r\n\r\n";
            stream.write_all(request).await.unwrap();
            stream
        };
        let mut streams = Vec::new();
        for number in 0..AT_ONCE {
            streams.push(leave(number).await);
        }
        asked += AT_ONCE;
        until("all of them are under way", SOON, async || {
            let lines = api.logs("default/faulty", "").await.map_err(|status| status.to_string())?;
            let now = lines.iter().filter(|line| line.message.contains("sleeping")).count();
            holds(now == asked, format!("{now} of {asked}"))
        })
        .await;
        drop(streams);
    }
    let mut client = cluster.client("faulty.localhost");
    for _ in 0..AT_ONCE {
        let answer = client.get("/").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_that_trap_hold_nothing() {
    let cluster = Cluster::start().await;
    cluster.api().deploy_and_wait(&Bundle::graph("faulty")).await;
    let trap = |mut client: Client| async move {
        for _ in 0..MORE_THAN_THE_POOL / 8 {
            let answer = client.get("/trap").await;
            assert_eq!(answer.status, 500, "{}", answer.body);
        }
    };
    let tasks: Vec<_> = (0..8).map(|_| tokio::spawn(trap(cluster.client("faulty.localhost")))).collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(cluster.client("faulty.localhost").get("/").await.body, "ok\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_node_says_so() {
    let cluster = Cluster::start().await;
    let api = cluster.api();
    api.deploy_and_wait(&Bundle::graph("faulty").with("deadline: 1s", "deadline: 60s")).await;
    let ask = |mut client: Client| async move { client.get("/sleep?ms=60000").await };
    let (mut asked, mut refused) = (JoinSet::new(), 0);
    for _ in 0..MORE_THAN_THE_POOL {
        asked.spawn(ask(cluster.client("faulty.localhost")));
    }
    while refused < MORE_THAN_THE_POOL - INSTANCES {
        let answer =
            tokio::time::timeout(SOON, asked.join_next()).await.expect("some are refused").unwrap().unwrap();
        assert_eq!(answer.status, 503, "{}", answer.body);
        assert_eq!(answer.json()["error"], "no_capacity", "{}", answer.body);
        refused += 1;
    }
    // Those that found room go away.
    assert_eq!(asked.len(), INSTANCES);
    asked.shutdown().await;
    let mut client = cluster.client("faulty.localhost");
    until("there is room again", SOON, async || match client.get("/").await.status {
        200 => Ok(()),
        other => Err(other),
    })
    .await;
}
