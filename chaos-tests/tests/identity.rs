//! Who is who, over real sockets: a node speaks for itself alone, whatever it says; its certificate is renewed while it
//! serves; and once it is revoked nobody speaks with it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use chaos_tests::cluster::{Cluster, IDENTITY_FILE};
use chaos_tests::peer::{Chain, Peer, call};
use chaos_tests::seed::Choices;
use chaos_tests::traffic::Client;
use chaos_tests::wait::{SOON, holds, until};
use http::Method;
use proto::weft::link::v1 as wire;
use proto::weft::link::v1::frame::Body;
use proto::weft::trust::v1::JoinRequest;
use proto::weft::trust::v1::enrolment_client::EnrolmentClient;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tonic::Code;
use tonic::transport::Endpoint;
use trust::{Identity, Key, Keyring};

/// Sessions that each of the three tries to open.
const FORGED: u64 = 4_000;
/// Fewer than a stream may have, so that the answer is that of the session and not of the stream.
const AT_ONCE: u64 = 1_000;

/// A node that has joined and never runs anything.
async fn bystander(cluster: &Cluster, name: &str) -> Keyring {
    let token = cluster.token(name, Duration::from_secs(60)).await;
    let endpoint = Endpoint::from_shared(format!("http://{}", cluster.control_plane_address())).unwrap();
    let channel = endpoint.connect_with_connector_lazy(trust::pinned_connector(token.authority()));
    let key = Key::generate().unwrap();
    let request = JoinRequest {
        token: token.reveal().to_string(),
        node: name.to_owned(),
        certificate_request: key.request().unwrap(),
    };
    let answer = EnrolmentClient::new(channel).join(request).await.unwrap().into_inner();
    Keyring::new(Identity::new(key, answer.certificate, answer.authorities).unwrap())
}

/// A session that the owner of `n2` may not have, though `front` there may have another.
fn forged(chain: &Chain, choices: &mut Choices) -> wire::Open {
    let mut open = chain.open();
    let foreign = |choices: &mut Choices| format!("x{}", choices.number());
    match choices.below(8) {
        0 => open.graph = format!("default/{}", foreign(choices)),
        1 => open.uid = foreign(choices),
        2 => open.generation = choices.below(open.generation),
        3 => open.from = (*choices.one_of(&["back", "other", "front-2"])).to_owned(),
        4 => open.to = (*choices.one_of(&["front", "other", "back-2"])).to_owned(),
        5 => open.functions[0].function = foreign(choices),
        6 => open.functions[0].interface = format!("weft:examples/{}@1.0.0", foreign(choices)),
        _ => open.functions.clear(),
    }
    open
}

/// Opens so many sessions as one node, each with a call, and returns all that was said of them.
async fn try_all(
    chain: &Chain,
    keyring: Keyring,
    mut open: impl FnMut() -> wire::Open,
) -> BTreeSet<(wire::Reason, String)> {
    let mut said = BTreeSet::new();
    for _ in 0..FORGED / AT_ONCE {
        let mut peer = chain.peer_as(keyring.clone()).await;
        for session in 1..=AT_ONCE {
            peer.say([(session, Body::Open(open())), (session, call(&[8, 2, 16, 3]))]).await;
        }
        for _ in 0..AT_ONCE {
            match peer.next().await {
                Some((_, Body::Failed(failed))) => said.insert((failed.reason(), failed.message)),
                other => panic!("a session that is not granted was answered: {other:?}"),
            };
        }
    }
    said
}

/// The lines of an agent's audit, if each follows from the one before.
fn audit(data_dir: &Path) -> Vec<Value> {
    let mut previous = String::new();
    let mut lines = Vec::new();
    for name in ["audit.log.1", "audit.log"] {
        let text = std::fs::read_to_string(data_dir.join(name)).unwrap_or_default();
        for line in text.lines() {
            let value: Value = serde_json::from_str(line).unwrap();
            let is_first = lines.is_empty() && value["number"] != 1;
            assert!(is_first || value["previous"] == previous, "the chain is broken at {line}");
            previous = Sha256::digest(line).iter().map(|byte| format!("{byte:02x}")).collect();
            lines.push(value);
        }
    }
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_valid_certificate_opens_nothing_that_is_not_its_own() {
    let mut choices = Choices::new();
    let chain = Chain::start(Cluster::start_nodes(3).await).await;
    let load = chain.load();
    let right = || chain.open();

    // A node of the cluster with no part in the graph, another that has just joined, and the rightful one.
    let bystander = bystander(&chain.cluster, "n9").await;
    let as_n3 = try_all(&chain, chain.cluster.keyring_of("n3"), right).await;
    let as_n9 = try_all(&chain, bystander.clone(), right).await;
    let as_n2 = try_all(&chain, chain.cluster.keyring_of("n2"), || forged(&chain, &mut choices)).await;
    let all: BTreeSet<_> = as_n3.iter().chain(&as_n9).chain(&as_n2).collect();
    assert_eq!(all.len(), 1, "one cannot be told from another: {all:?}");
    assert_eq!(all.first().unwrap().0, wire::Reason::Denied);

    // Whether a generation is here is said to those who share it alone.
    let version = wire::ArrivedRequest {
        graph: chain.open().graph,
        uid: chain.open().uid,
        generation: chain.open().generation,
    };
    for (keyring, expected) in [(chain.cluster.keyring_of("n2"), true), (bystander, false)] {
        let mut peer = chain.peer_as(keyring).await;
        let answer = peer.client.arrived(version.clone()).await.unwrap().into_inner();
        assert_eq!(answer.arrived, expected);
    }
    let operator = Peer::connect(&chain.cluster, chain.cluster.operator()).await;
    let refused = operator.err().expect("links are for nodes");
    assert!(refused.contains("PermissionDenied") || refused.contains("permission"), "{refused}");

    load.stop_all_good(100).await;
    let mut peer = chain.peer().await;
    peer.say([(1, Body::Open(right())), (1, call(&[8, 2, 16, 3]))]).await;
    peer.returned(1).await;
    let data_dir = &chain.cluster.agent.data_dir;
    until("every refusal is in the audit", SOON, async || {
        let lines = audit(data_dir);
        let counted = |line: &Value| match line["event"].as_str().unwrap() {
            "lost" => line["why"].as_str().unwrap().split(' ').next().unwrap().parse().unwrap(),
            "link_denied" => 1,
            _ => 0_u64,
        };
        let found: u64 = lines.iter().map(counted).sum();
        holds(found == 3 * FORGED, found)
    })
    .await;
}

/// Waits until a request at n2 is answered over the link to n1.
async fn link_is_there(chain: &Chain) {
    let mut client = Client::new(chain.cluster.ingress_address_of("n2"), "chain.localhost");
    until("the link is there", SOON, async || match client.ask(Method::GET, "/add?n=3", "").await {
        Ok(answer) if answer.status == 200 => Ok(()),
        other => Err(other),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_renewed_while_requests_are_served() {
    let cluster = Cluster::start_as(2, &["--certificate-lifetime=10s"], &[]).await;
    let mut chain = Chain::start(cluster).await;
    let load = chain.load();
    // Somebody who holds on to a connection, and to a session.
    let mut old = chain.peer().await;
    old.say([(1, Body::Open(chain.open())), (1, call(&[8, 2, 16, 3]))]).await;
    old.returned(1).await;
    let serial = |cluster: &Cluster, node: &str| cluster.keyring_of(node).identity().serial().to_owned();
    let first: Vec<_> = ["n1", "n2"].map(|node| serial(&chain.cluster, node)).into();
    let ends = ["n1", "n2"].map(|node| chain.cluster.keyring_of(node).identity().expires());
    // Twice: the second one is asked for with the first.
    let mut seen: Vec<BTreeSet<String>> = first.iter().map(|serial| BTreeSet::from([serial.clone()])).collect();
    until("each has been renewed twice, and the first has ended", SOON, async || {
        for (seen, node) in seen.iter_mut().zip(["n1", "n2"]) {
            seen.insert(serial(&chain.cluster, node));
        }
        let is_renewed = seen.iter().all(|serials| serials.len() >= 3);
        let has_ended = ends.iter().all(|end| *end < std::time::SystemTime::now());
        holds(is_renewed && has_ended, seen.iter().map(BTreeSet::len).collect::<Vec<_>>())
    })
    .await;
    load.stop_all_good(500).await;
    // It was told in time, and is granted nothing more; what was granted before goes on.
    old.refused(0, wire::Reason::Unavailable, "the stream").await;
    old.say([(2, Body::Open(chain.open())), (2, call(&[8, 2, 16, 3]))]).await;
    old.refused(2, wire::Reason::Denied, "with a certificate that has ended").await;
    old.say([(1, call(&[8, 2, 16, 3]))]).await;
    old.returned(1).await;
    let data_dir = &chain.cluster.agent.data_dir;
    until("it is in the audit", SOON, async || {
        let lines = audit(data_dir);
        let is_it =
            |line: &Value| line["why"].as_str().is_some_and(|why| why.contains("certificate has ended"));
        holds(lines.iter().any(is_it), lines.len())
    })
    .await;
    // New connections too are made with what is renewed, in both directions.
    chain.cluster.agent.restart().await;
    chain.cluster.node_is("n1", "ready").await;
    let load = chain.load();
    chain.cluster.agent_named("n2").restart().await;
    drop(load);
    link_is_there(&chain).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_revoked_is_cut_off_and_joins_again_by_a_new_token() {
    let mut chain = Chain::start(Cluster::start_nodes(2).await).await;
    let stolen = chain.cluster.keyring_of("n2");
    let mut thief = chain.peer_as(stolen.clone()).await;
    thief.say([(1, Body::Open(chain.open())), (1, call(&[8, 2, 16, 3]))]).await;
    thief.returned(1).await;

    chain.cluster.api().revoke("n2").await.unwrap();
    assert_eq!(thief.next().await, None, "a stream that was open is cut");
    until("no new stream is taken", SOON, async || match Peer::connect(&chain.cluster, stolen.clone()).await {
        Ok(_) => Err("it was"),
        Err(_) => Ok(()),
    })
    .await;
    chain.cluster.node_is("n2", "down").await;
    let other = Cluster::start().await;
    assert!(Peer::connect(&chain.cluster, other.keyring_of("n1")).await.is_err(), "of another cluster");

    let agent = chain.cluster.agent_named("n2");
    agent.kill();
    let uid = |keyring: &Keyring| keyring.identity().id().uid().clone();
    std::fs::remove_file(agent.data_dir.join(IDENTITY_FILE)).unwrap();
    let token = chain.cluster.token("n2", Duration::from_secs(60)).await;
    let agent = chain.cluster.agent_named("n2");
    agent.give_token(&token);
    agent.start().await;
    chain.cluster.node_is("n2", "ready").await;
    assert_ne!(uid(&chain.cluster.keyring_of("n2")), uid(&stolen));
    link_is_there(&chain).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_may_not_join_says_why_and_what_to_do() {
    let mut cluster = Cluster::start().await;
    let folder = cluster.folder().join("n5");
    std::fs::create_dir(&folder).unwrap();
    let control_plane = format!("https://{}", cluster.control_plane_address());
    let start = async |more: &[&str]| {
        let mut arguments: Vec<String> =
            ["--name", "n5", "--api-listen", "127.0.0.1:0"].map(str::to_owned).into();
        arguments
            .extend(["--ingress-listen", "127.0.0.1:0", "--control-plane", &control_plane].map(str::to_owned));
        arguments.extend(["--data-dir".to_owned(), folder.display().to_string()]);
        arguments.extend(more.iter().map(|&flag| flag.to_owned()));
        let program = chaos_tests::built::binary("node-agent");
        let mut process =
            chaos_tests::process::Process::start("n5", &program, &arguments, folder.with_extension("log"));
        let status = process.end_within(SOON).await;
        assert!(!status.success());
        process.log()
    };
    let without = start(&[]).await;
    assert!(without.contains("make a token for it with `ctl node token n5`"), "{without}");
    let file = folder.join("token");
    let flag = format!("--join-token-file={}", file.display());
    let missing = start(&[&flag]).await;
    assert!(missing.contains("the join token cannot be read from"), "{missing}");
    std::fs::write(&file, "weft-join-v1.abc").unwrap();
    let damaged = start(&[&flag]).await;
    assert!(damaged.contains("holds no join token"), "{damaged}");
    let for_another = cluster.token("n6", Duration::from_secs(60)).await;
    std::fs::write(&file, for_another.reveal().as_bytes()).unwrap();
    let refused = start(&[&flag]).await;
    assert!(refused.contains("does not let node n5 join: no join token for node n5"), "{refused}");
    let secret = for_another.reveal().split('.').nth(1).unwrap().to_owned();
    assert!(!refused.contains(&secret), "the secret is nowhere in a log");
    let elsewhere = Cluster::start().await.token("n5", Duration::from_secs(60)).await;
    std::fs::write(&file, elsewhere.reveal().as_bytes()).unwrap();
    let other = start(&[&flag]).await;
    assert!(other.contains("is not of the cluster that the join token is for"), "{other}");
    assert!(cluster.agent.runs());

    let api = cluster.api();
    let status = api.allow("n5", &for_another, Duration::from_secs(25 * 3_600)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}
