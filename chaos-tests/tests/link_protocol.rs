//! The service of links over a real socket, used by a peer that breaks its rules: each breach is refused as declared,
//! holds nothing, and its neighbours are served on.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::Duration;

use chaos_tests::api::digest;
use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use chaos_tests::peer::{Chain, call};
use chaos_tests::traffic::Client;
use chaos_tests::wait::{SOON, holds, until};
use http::Method;
use proto::weft::link::v1 as wire;
use proto::weft::link::v1::frame::Body;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longer than an agent waits for sessions that are open when it stops.
const ENDS_WITHIN: Duration = Duration::from_secs(20);
/// More than there are instances, fewer than a stream may have sessions.
const SESSIONS: u64 = 3_000;
/// Instances that fit into an agent's pool.
const POOL: u64 = 1_000;
/// Most of what can be reserved.
const RESERVED: u64 = 700;

#[tokio::test(flavor = "multi_thread")]
async fn each_breach_of_a_session_is_refused_with_its_reason() {
    use wire::Reason::{Denied, Mismatch, Protocol, Unavailable};
    let chain = Chain::start(Cluster::start_nodes(2).await).await;
    let load = chain.load();
    let mut peer = chain.peer().await;
    let right = || Body::Open(chain.open());
    let breaches = [
        ("an unknown graph", chain.wrong(|open| open.graph = "default/other".to_owned()), Denied),
        ("an unknown identity", chain.wrong(|open| open.uid = "other".to_owned()), Denied),
        ("a later generation", chain.wrong(|open| open.generation += 1_000), Unavailable),
        ("no provider", chain.wrong(|open| open.to = "front".to_owned()), Denied),
        ("another consumer", chain.wrong(|open| open.from = "back".to_owned()), Denied),
        ("no consumer", chain.wrong(|open| open.from = "nobody".to_owned()), Denied),
        (
            "no link",
            chain.wrong(|open| open.functions[0].interface = "weft:examples/other@1.0.0".to_owned()),
            Denied,
        ),
        ("no function", chain.wrong(|open| open.functions[0].function = "sub".to_owned()), Denied),
        ("another type", chain.wrong(|open| open.functions[0].digest = digest(b"func()")), Mismatch),
        (
            "too many functions",
            chain.wrong(|open| open.functions = vec![open.functions[0].clone(); 2_000]),
            Protocol,
        ),
        (
            "a function that was not opened",
            vec![
                right(),
                Body::Call(wire::Call {
                    function: 1,
                    arguments: Vec::new(),
                    deadline_us: 1_000_000,
                    trace: Vec::new(),
                }),
            ],
            Protocol,
        ),
        ("arguments that are none", vec![right(), call(b"\xff\xff\xff\xff")], Protocol),
        ("arguments of 5 MiB", vec![right(), call(&vec![8; 5 << 20])], Protocol),
        ("an answer", vec![right(), Body::Returned(wire::Returned::default())], Protocol),
        ("handles before a call", vec![right(), Body::Dropped(wire::Dropped { handles: vec![1] })], Protocol),
        ("an open session", vec![right(), right()], Protocol),
    ];
    let mut session = 0;
    for (about, frames, reason) in breaches {
        session += 1;
        peer.say(frames.into_iter().map(|body| (session, body))).await;
        peer.refused(session, reason, about).await;
        peer.say([(session, Body::Closed(wire::Closed {}))]).await;
    }
    peer.say([(0, right())]).await;
    peer.refused(0, Protocol, "no session's number").await;
    // On the same stream, a session that keeps to the rules, though what it says was said of others before.
    let unknown = Body::Dropped(wire::Dropped { handles: vec![1, 1, u64::MAX] });
    peer.say([(session + 7, call(&[])), (99, right()), (99, call(&[8, 2, 16, 3]))]).await;
    peer.returned(99).await;
    peer.say([(99, unknown), (99, call(&[8, 2, 16, 3]))]).await;
    peer.returned(99).await;
    load.stop_all_good(100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_ends_its_own_stream_and_no_other() {
    let mut chain = Chain::start(Cluster::start_nodes(2).await).await;
    let load = chain.load();
    let mut neighbour = chain.peer().await;
    neighbour.say([(1, Body::Open(chain.open())), (1, call(&[8, 2, 16, 3]))]).await;
    neighbour.returned(1).await;
    let failed = wire::Failed { reason: 99, message: String::new() };
    let name = Body::Open(wire::Open { from: "No Name".to_owned(), ..chain.open() });
    for body in [None, Some(Body::Failed(failed)), Some(name)] {
        let mut peer = chain.peer().await;
        let frame = wire::Frame { session: 1, body };
        peer.outgoing.send(wire::Frames { frames: vec![frame] }).await.unwrap();
        assert_eq!(peer.next().await, None, "the stream goes on");
    }
    for _ in 0..20 {
        let mut socket = TcpStream::connect(chain.cluster.agent_api_address()).await.unwrap();
        let length = chain.cluster.choices.below(4_096);
        let mut bytes: Vec<u8> = (0..length).map(|_| chain.cluster.choices.number().to_le_bytes()[0]).collect();
        if chain.cluster.choices.below(2) == 0 {
            bytes.splice(0..0, *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        }
        // It may be closed before all is written.
        let _ = socket.write_all(&bytes).await;
        let _ = socket.shutdown().await;
        let ended = tokio::time::timeout(SOON, socket.read_to_end(&mut Vec::new())).await;
        assert!(ended.is_ok(), "a connection of nonsense is kept");
    }
    neighbour.say([(1, call(&[8, 2, 16, 3]))]).await;
    neighbour.returned(1).await;
    load.stop_all_good(100).await;
    assert!(!chain.cluster.agent.last_log().contains("panicked"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_without_a_call_hold_no_instance_and_end() {
    let chain = Chain::start(Cluster::start_nodes(2).await).await;
    let load = chain.load();
    let mut peer = chain.peer().await;
    for session in 1..=SESSIONS {
        peer.say([(session, Body::Open(chain.open()))]).await;
    }
    // The last one is answered, beside all that wait.
    peer.say([(SESSIONS, call(&[8, 2, 16, 3]))]).await;
    peer.returned(SESSIONS).await;
    for _ in 1..SESSIONS {
        match peer.next().await {
            Some((_, Body::Failed(failed))) => assert_eq!(failed.reason(), wire::Reason::Protocol),
            other => panic!("{other:?}"),
        }
    }
    peer.say([(SESSIONS, call(&[8, 2, 16, 3]))]).await;
    peer.returned(SESSIONS).await;
    load.stop_all_good(100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_opens_all_that_its_grant_allows_leaves_room_for_others() {
    let chain = Chain::start(Cluster::start_nodes(2).await).await;
    let hello = Bundle::graph("hello").on("app.wasm", "n1");
    chain.cluster.api().deploy_and_wait(&hello).await;
    let mut peer = chain.peer().await;
    for session in 1..=POOL {
        peer.say([(session, Body::Open(chain.open())), (session, call(&[8, 2, 16, 3]))]).await;
    }
    let (mut returned, mut busy) = (0, Vec::new());
    for _ in 0..POOL {
        match peer.next().await {
            Some((_, Body::Returned(_))) => returned += 1,
            Some((session, Body::Failed(failed))) => {
                assert_eq!(failed.reason(), wire::Reason::Busy, "{}", failed.message);
                busy.push(session);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(returned, POOL - POOL / 4);
    // All of its instances are still held.
    let mut client = Client::new(chain.cluster.ingress_address(), "hello.localhost");
    for _ in 0..10 {
        let answer = client.ask(Method::GET, "/", "").await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    // What it gives back it may have again.
    let open = (1..=POOL).filter(|session| !busy.contains(session));
    let ended: Vec<u64> = open.take(10).collect();
    peer.say(ended.into_iter().map(|session| (session, Body::Closed(wire::Closed {})))).await;
    let (mut session, mut again) = (POOL, 0);
    until("ten are free again", SOON, async || {
        session += 1;
        peer.say([(session, Body::Open(chain.open())), (session, call(&[8, 2, 16, 3]))]).await;
        match peer.next().await {
            Some((_, Body::Returned(_))) => again += 1,
            // Its instances are dropped in a moment.
            Some((_, Body::Failed(failed))) => assert_eq!(failed.reason(), wire::Reason::Busy),
            other => panic!("{other:?}"),
        }
        holds(again == 10, again)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_reserved_for_a_graph_is_had_by_nobody_else_however_much_is_asked() {
    let chain = Chain::start(Cluster::start_nodes(2).await).await;
    let hello = Bundle::graph("hello").on("app.wasm", "n1");
    let reserving = hello
        .clone()
        .with("app.wasm,", &format!("app.wasm, limits: {{memory: 4Mi}}, scale: {{reserved: {RESERVED}}},"));
    let api = chain.cluster.api();
    api.deploy_and_wait(&reserving).await;
    let placed = "placement: {require: {node: n1}}\n    limits: {memory: 16Mi, deadline: 9s}";
    api.deploy_and_wait(&Bundle::graph("faulty").with("limits: {memory: 16Mi, deadline: 1s}", placed)).await;
    let mut peer = chain.peer().await;
    let mut last = 0;
    // Some of each try are refused at once, and those that are granted are held.
    let mut held = 0;
    until("all others are held", SOON, async || {
        let before = held;
        for session in last + 1..=last + 100 {
            peer.say([(session, Body::Open(chain.open())), (session, call(&[8, 2, 16, 3]))]).await;
        }
        for _ in 0..100 {
            held += u64::from(peer.is_served().await);
        }
        last += 100;
        holds(held == before, held)
    })
    .await;
    // Three quarters of what is not reserved.
    assert_eq!(held, (POOL - RESERVED) * 3 / 4);
    // The rest is had by another graph, which gets no more.
    let address = chain.cluster.ingress_address();
    let sleeping = (0..POOL - RESERVED - held + 1).map(|_| {
        tokio::spawn(async move {
            let mut client = Client::new(address, "faulty.localhost");
            client.ask(Method::GET, "/sleep?ms=4000", "").await.unwrap().status
        })
    });
    let sleeping: Vec<_> = sleeping.collect();
    let mut client = Client::new(address, "hello.localhost");
    let mut other = Client::new(address, "faulty.localhost");
    until("the pool is full", SOON, async || {
        let status = other.ask(Method::GET, "/sleep?ms=1", "").await.unwrap().status;
        holds(status == 503, status)
    })
    .await;
    for _ in 0..10 {
        let answer = client.ask(Method::GET, "/", "").await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let mut refused = 0;
    for asked in sleeping {
        refused += u32::from(asked.await.unwrap() == 503);
    }
    assert!(refused > 0, "all were served, and the pool was not full");
    // What is reserved no more is had by who asks for it, up to the share of one other node.
    api.deploy_and_wait(&hello).await;
    until("more is held", SOON, async || {
        last += 1;
        peer.say([(last, Body::Open(chain.open())), (last, call(&[8, 2, 16, 3]))]).await;
        held += u64::from(peer.is_served().await);
        holds(held == POOL - POOL / 4, held)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_stops_says_so_ends_what_is_open_and_is_not_kept() {
    let mut chain = Chain::start(Cluster::start_nodes(2).await).await;
    let mut peer = chain.peer().await;
    peer.say([(1, Body::Open(chain.open())), (1, call(&[8, 2, 16, 3]))]).await;
    peer.returned(1).await;
    let _silent = TcpStream::connect(chain.cluster.agent_api_address()).await.unwrap();
    chain.cluster.agent.terminate();
    peer.refused(0, wire::Reason::Unavailable, "the stream").await;
    peer.say([(2, Body::Open(chain.open())), (2, call(&[8, 2, 16, 3]))]).await;
    peer.refused(2, wire::Reason::Unavailable, "a new session").await;
    peer.say([(1, call(&[8, 2, 16, 3]))]).await;
    peer.returned(1).await;
    // One peer stays, another never said anything.
    assert!(chain.cluster.agent.end_within(ENDS_WITHIN).await.success());
    assert_eq!(peer.next().await, None);
}
