//! The service of links over a real socket, used by a peer that breaks its rules: each breach is refused as declared,
//! holds nothing, and its neighbours are served on.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use chaos_tests::api::digest;
use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use chaos_tests::traffic::Load;
use chaos_tests::wait::SOON;
use proto::weft::link::v1 as wire;
use proto::weft::link::v1::frame::Body;
use proto::weft::link::v1::links_client::LinksClient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// Longer than an agent waits for sessions that are open when it stops.
const ENDS_WITHIN: Duration = Duration::from_secs(20);
/// More than there are instances, fewer than a stream may have sessions.
const SESSIONS: u64 = 3_000;
const GREETER: &str = "weft:examples/greeter@1.0.0";
const HOST: &str = "chain.localhost";

/// `chain` with the provider on n1, whose agent is broken in on, and its rightful consumer on n2.
struct Chain {
    cluster: Cluster,
    uid: String,
    generation: u64,
}

impl Chain {
    async fn start() -> Self {
        let cluster = Cluster::start_nodes(2).await;
        let place = |bundle: Bundle, member: &str, node: &str| {
            let by = format!("{member}.wasm, placement: {{require: {{node: {node}}}}}}}");
            bundle.with(&format!("{member}.wasm}}"), &by)
        };
        let bundle = place(place(Bundle::graph("chain"), "front", "n2"), "back", "n1");
        cluster.api().deploy_and_wait(&bundle).await;
        let status = cluster.api().status("default/chain").await.unwrap();
        Self { cluster, uid: status.uid, generation: status.generation }
    }

    fn load(&self) -> Load {
        Load::start(self.cluster.ingress_address_of("n2"), HOST, "/add?n=3", 2)
    }

    /// A session as the rightful consumer opens it.
    fn open(&self) -> wire::Open {
        let binding = wire::Binding {
            interface: GREETER.to_owned(),
            function: "add".to_owned(),
            digest: digest(b"func(a: u32, b: u32) -> u32"),
        };
        wire::Open {
            graph: "default/chain".to_owned(),
            uid: self.uid.clone(),
            generation: self.generation,
            from: "front".to_owned(),
            to: "back".to_owned(),
            request: "a-peer".to_owned(),
            functions: vec![binding],
        }
    }

    /// The same with a mistake.
    fn wrong(&self, mistake: impl FnOnce(&mut wire::Open)) -> Vec<Body> {
        let mut open = self.open();
        mistake(&mut open);
        vec![Body::Open(open), call(&[8, 2, 16, 3])]
    }

    async fn peer(&self) -> Peer {
        Peer::connect(self.cluster.agent_api_address()).await
    }
}

/// A call of the first function.
fn call(arguments: &[u8]) -> Body {
    Body::Call(wire::Call { function: 0, arguments: arguments.to_vec(), deadline_us: 5_000_000 })
}

/// Another agent, as far as this one can tell.
struct Peer {
    outgoing: mpsc::Sender<wire::Frames>,
    incoming: Streaming<wire::Frames>,
    ready: VecDeque<wire::Frame>,
}

impl Peer {
    async fn connect(address: SocketAddr) -> Self {
        let mut client = LinksClient::connect(format!("http://{address}")).await.unwrap();
        let (outgoing, frames) = mpsc::channel(16);
        let incoming = client.carry(ReceiverStream::new(frames)).await.unwrap().into_inner();
        Self { outgoing, incoming, ready: VecDeque::new() }
    }

    async fn say(&self, frames: impl IntoIterator<Item = (u64, Body)>) {
        let frame = |(session, body)| wire::Frame { session, body: Some(body) };
        self.outgoing.send(wire::Frames { frames: frames.into_iter().map(frame).collect() }).await.unwrap();
    }

    /// What comes next; none if the stream has ended.
    async fn next(&mut self) -> Option<(u64, Body)> {
        while self.ready.is_empty() {
            let message = tokio::time::timeout(SOON, self.incoming.message()).await.expect("an answer");
            self.ready.extend(message.ok()??.frames);
        }
        let frame = self.ready.pop_front()?;
        Some((frame.session, frame.body.unwrap()))
    }

    async fn refused(&mut self, session: u64, reason: wire::Reason, about: &str) {
        match self.next().await {
            Some((of, Body::Failed(failed))) => {
                assert_eq!((of, failed.reason()), (session, reason), "{about}: {}", failed.message);
            }
            other => panic!("{about}: {other:?}"),
        }
    }

    /// Two and three are five.
    async fn returned(&mut self, session: u64) {
        let returned = Body::Returned(wire::Returned { result: vec![8, 5] });
        assert_eq!(self.next().await, Some((session, returned)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_breach_of_a_session_is_refused_with_its_reason() {
    use wire::Reason::{Denied, Mismatch, Protocol, Unavailable};
    let chain = Chain::start().await;
    let load = chain.load();
    let mut peer = chain.peer().await;
    let right = || Body::Open(chain.open());
    let breaches = [
        ("an unknown graph", chain.wrong(|open| open.graph = "default/other".to_owned()), Unavailable),
        ("an unknown identity", chain.wrong(|open| open.uid = "other".to_owned()), Unavailable),
        ("another generation", chain.wrong(|open| open.generation += 1_000), Unavailable),
        ("no provider", chain.wrong(|open| open.to = "front".to_owned()), Denied),
        ("another consumer", chain.wrong(|open| open.from = "back".to_owned()), Denied),
        ("no consumer", chain.wrong(|open| open.from = "nobody".to_owned()), Denied),
        (
            "no link",
            chain.wrong(|open| open.functions[0].interface = "weft:examples/other@1.0.0".to_owned()),
            Denied,
        ),
        ("no function", chain.wrong(|open| open.functions[0].function = "sub".to_owned()), Mismatch),
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
                Body::Call(wire::Call { function: 1, arguments: Vec::new(), deadline_us: 1_000_000 }),
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
    let mut chain = Chain::start().await;
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
    let chain = Chain::start().await;
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
async fn an_agent_that_stops_says_so_ends_what_is_open_and_is_not_kept() {
    let mut chain = Chain::start().await;
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
