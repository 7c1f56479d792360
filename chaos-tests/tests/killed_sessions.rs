//! However sessions end at the node of a provider, nothing of them stays there: no instance, no handle, no memory.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use chaos_tests::api::digest;
use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use chaos_tests::peer::{Peer, call};
use chaos_tests::say;
use chaos_tests::traffic::Client;
use chaos_tests::wait::{SOON, holds, until};
use proto::weft::link::v1 as wire;
use proto::weft::link::v1::frame::Body;

/// How many sessions are killed, unless this says another number.
const COUNT_VARIABLE: &str = "WEFT_KILLED_SESSIONS";
const COUNT: usize = 100_000;
/// Sessions that are open at one time. Each has a database open, which is a file.
const AT_ONCE: usize = 100;
/// What memory may differ by without anything being kept: allocators and pools settle.
const MEMORY_SLACK_BYTES: u64 = 48 << 20;
/// Opens a database, and gives a handle of it.
const OPEN: &str = "[static]connection.open";
const OPEN_TYPE: &str = "func(database: string) -> result<own<connection>, variant { no-such-database, access-denied, \
                         invalid-connection, database-full, io(string) }>";
/// `default`, as the only argument.
const DEFAULT: &[u8] = b"\x0a\x07default";

/// How a session is killed.
#[derive(Debug, Clone, Copy)]
enum Kill {
    /// Its consumer is gone with the handle it was given.
    AfterTheAnswer,
    /// Its consumer is gone while its first call is under way.
    UnderTheCall,
    /// Its consumer is gone before it called.
    BeforeTheCall,
    /// It breaks the protocol.
    ByAMistake,
    /// Its stream is lost, with all the sessions of it.
    WithItsStream,
}

const KILLS: [Kill; 5] =
    [Kill::AfterTheAnswer, Kill::UnderTheCall, Kill::BeforeTheCall, Kill::ByAMistake, Kill::WithItsStream];

/// `customers` with the database on n1, which is broken in on, and the application on n2.
async fn parted() -> (Cluster, wire::Open) {
    let cluster = Cluster::start_nodes(2).await;
    let bundle = Bundle::example("customers", "graph-apart.yaml");
    let bundle = bundle.with("{require: {node: n1}}", "{require: {node: n2}}");
    cluster.api().deploy_and_wait(&bundle.with("{require: {node: n3}}", "{require: {node: n1}}")).await;
    let status = cluster.api().status("default/customers").await.unwrap();
    let binding = wire::Binding {
        interface: "fermyon:spin/sqlite@2.0.0".to_owned(),
        function: OPEN.to_owned(),
        digest: digest(OPEN_TYPE.as_bytes()),
    };
    let open = wire::Open {
        graph: "default/customers".to_owned(),
        uid: status.uid,
        generation: status.generation,
        from: "app".to_owned(),
        to: "crm-db".to_owned(),
        request: "a-peer".to_owned(),
        functions: vec![binding],
        trace_state: String::new(),
    };
    (cluster, open)
}

/// Waits for an answer in each session from `first` on. Those of sessions that were killed before may come between.
async fn answered(peer: &mut Peer, first: u64, is_it: impl Fn(&Body) -> bool) {
    let mut missing = AT_ONCE;
    while missing > 0 {
        match peer.next().await {
            Some((session, _)) if session < first => {}
            Some((_, body)) if is_it(&body) => missing -= 1,
            other => panic!("{other:?}"),
        }
    }
}

/// Opens sessions and kills them; returns the stream, or another one if it is lost with them.
async fn kill(cluster: &Cluster, mut peer: Peer, open: &wire::Open, how: Kill, first: u64) -> Peer {
    let sessions = first..first + AT_ONCE as u64;
    let opens = |session| (session, Body::Open(open.clone()));
    let calls = |session| (session, call(DEFAULT));
    let closes = |session| (session, Body::Closed(wire::Closed {}));
    match how {
        Kill::BeforeTheCall => peer.say(sessions.clone().map(opens)).await,
        _ => peer.say(sessions.clone().flat_map(|session| [opens(session), calls(session)])).await,
    }
    if matches!(how, Kill::AfterTheAnswer | Kill::ByAMistake | Kill::WithItsStream) {
        answered(&mut peer, first, |body| matches!(body, Body::Returned(_))).await;
    }
    match how {
        Kill::AfterTheAnswer | Kill::UnderTheCall | Kill::BeforeTheCall => {
            peer.say(sessions.map(closes)).await;
            peer
        }
        Kill::ByAMistake => {
            let call = wire::Call { function: 99, deadline_us: 1_000_000, ..wire::Call::default() };
            peer.say(sessions.map(|session| (session, Body::Call(call.clone())))).await;
            answered(&mut peer, first, |body| matches!(body, Body::Failed(_))).await;
            peer
        }
        Kill::WithItsStream => {
            drop(peer);
            Peer::connect(cluster, cluster.keyring_of("n2")).await.unwrap()
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_stays_of_sessions_that_were_killed() {
    let count = std::env::var(COUNT_VARIABLE).map_or(COUNT, |count| count.parse().expect("a number"));
    let (mut cluster, open) = parted().await;
    let mut client = Client::new(cluster.ingress_address_of("n2"), "customers.localhost");
    let rows = client.get("/customers").await;
    assert_eq!(rows.status, 200, "{}", rows.body);
    let mut peer = Peer::connect(&cluster, cluster.keyring_of("n2")).await.unwrap();
    let files = cluster.agent.open_files();
    // Connections of streams that were lost just now are among them for a moment.
    let settled = async |cluster: &Cluster| {
        until("what sessions had open is closed", SOON, async || {
            let open = cluster.agent.open_files();
            holds(open <= files + 2, open)
        })
        .await;
    };
    let mut first = 1;
    // Every way once, so that what is made once is made.
    for how in KILLS {
        peer = kill(&cluster, peer, &open, how, first).await;
        first += AT_ONCE as u64;
    }
    settled(&cluster).await;
    let memory = cluster.agent.memory_bytes();
    for _ in 0..count / AT_ONCE {
        let how = *cluster.choices.one_of(&KILLS);
        peer = kill(&cluster, peer, &open, how, first).await;
        first += AT_ONCE as u64;
    }
    settled(&cluster).await;
    let after = cluster.agent.memory_bytes();
    say(&format!(
        "{count} sessions killed; memory {} MiB before, {} MiB after; {files} files open before, {} after",
        memory >> 20,
        after >> 20,
        cluster.agent.open_files()
    ));
    assert!(after < memory + MEMORY_SLACK_BYTES, "{} MiB, then {} MiB", memory >> 20, after >> 20);
    // There is room for as many as ever, and the rightful consumer finds what it had.
    assert_eq!(client.get("/customers").await.body, rows.body);
    let peer = kill(&cluster, peer, &open, Kill::AfterTheAnswer, first).await;
    drop(peer);
}
