//! What nobody who means well sends to a member: each gets its declared refusal, and costs the others nothing.
//!
//! The rows are those of the list of bad inputs; where each is tested:
//!
//! | row | what | test |
//! |---|---|---|
//! | 54 | a message above 4 MiB | `limits::messages_that_are_too_large_are_refused` |
//! | 55, 56 | nested 101 deep, no protobuf | `limits::messages_that_are_none_are_refused` |
//! | 57 | a field that is absent, an unknown value | `nodes::a_node_is_who_it_says_or_is_refused`, `limits::ids_and_headers_have_bounds` |
//! | 58 | headers above 16 KiB | [`row_58_too_many_headers`] |
//! | 59 | streams that are opened and reset | [`row_59_streams_that_are_opened_and_reset`] |
//! | 60 | compressed messages | [`row_60_compressed_messages`] |
//! | 61 | whoever never reads | [`row_61_a_connection_that_is_never_read`], [`row_61_a_backup_that_is_never_read`]; of an agent, `nodes` |
//! | 62 | deadlines | [`row_62_deadlines`]; those that pass, `api::deadline` |
//! | 63 | plaintext, TLS 1.2, no certificate, HTTP/1.1 | [`row_63_connections_of_another_kind`], `handshake` of `trust` |
//! | 64 | a call of consensus from a node, or a member that was removed | [`row_64_calls_of_consensus_from_no_member`] |
//! | 65 | entries of another cluster | [`row_65_entries_of_another_cluster`] |
//! | 66 | a term that is out of reach | [`row_66_a_term_that_is_out_of_reach`], and of answers `raft::peers::tests` |
//! | 67 | sessions that are not granted | `link_protocol` and `identity` of `chaos-tests` |
//! | 68 | wrong answers over links | `link::encoding` and `link::pipe` of `node-agent`, `link_faults` of `chaos-tests` |
//! | 69 | a report for another node, or of before | `nodes::a_node_is_who_it_says_or_is_refused`, `nodes::a_stale_report_changes_nothing` |
//! | 70 | watches of the future and of what is gone | `events::events_are_followed_from_a_revision_on`, `events::events_that_are_gone_are_said_to_be_gone` |
//! | 75 | a member's certificate at the API of nodes | [`row_75_a_member_at_the_api_of_nodes`] |
//! | 76 to 79 | snapshots of the log, over the wire | [`rows_76_to_79_snapshots`] |
//! | 76, 77 | those on a member's own disk | `raft::log_store::tests` |
//! | 76, 77, 79, 83 | backups | `backup` of `proto`, `backup` of `chaos-tests` |
//! | 80, 81 | logs with holes, without a vote | `raft::log_store::tests`; holes that a leader sends, [`row_80_entries_that_make_a_hole`] |
//! | 82 | data of another member or cluster | [`row_82_the_data_of_another_cluster`], `raft::handle::tests`, `process` |

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use futures::stream;
use prost::Message as _;
use proto::weft::backup::v1 as backup;
use proto::weft::backup::v1::backups_client::BackupsClient;
use proto::weft::event::v1::WatchRequest;
use proto::weft::graph::v1 as graph;
use proto::weft::graph::v1::graphs_client::GraphsClient;
use proto::weft::member::v1 as wire;
use proto::weft::member::v1::consensus_client::ConsensusClient;
use proto::weft::member::v1::members_client::MembersClient;
use proto::weft::member::v1::snapshot_part::Part;
use proto::weft::node::v1::nodes_client::NodesClient;
use rustls::AlertDescription;
use rustls::version::{TLS12, TLS13};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};
use trust::{Authority, Expect, Fingerprint, JoinToken, Keyring, Role};

use crate::member::{Client, Member, PATIENCE, address_in, fresh_id, operator, refused};
use crate::parts;
use crate::process::{Running, failure, program, wait};
use crate::stranger::{
    DATA, END_HEADERS, END_STREAM, HEADERS, RESET, Sender, alert, authority, call_headers, channel, connect,
    credulous, exchange, frame, framed, goodbye, issued, preface,
};

const LIST: &str = "/weft.graph.v1.Graphs/List";
/// `ENHANCE_YOUR_CALM` of HTTP/2.
const CALM: u32 = 0xb;
/// How far a term may be above that of a member.
const TERM_JUMP_MAX: u64 = 1 << 32;

/// The member does its work as before.
async fn serves(client: &mut Client) {
    client.upload_parts().await;
    client.deploy(&parts::shop("shop", &fresh_id())).await.unwrap();
}

fn sender(member: &Member) -> Sender {
    Sender::new(member.address, operator(member.folder()).identity())
}

/// The service of consensus, as the member with this id sees it.
fn consensus(address: std::net::SocketAddr, folder: &Path, member: &str) -> ConsensusClient<Channel> {
    let keyring = Keyring::new(issued(&authority(folder), Role::Member, member));
    ConsensusClient::new(crate::member::channel(address, keyring, |endpoint| endpoint))
}

async fn term(client: &Client) -> u64 {
    let answer = MembersClient::new(client.channel.clone()).list(wire::ListRequest {}).await;
    answer.unwrap().into_inner().term
}

/// A question that changes nothing.
fn asks(term: u64) -> wire::VoteRequest {
    let vote = Some(wire::Ballot { term, member: 1, committed: false });
    wire::VoteRequest { to: 1, vote, is_trial: true, ..wire::VoteRequest::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_58_too_many_headers() {
    let member = Member::start().await;
    let sender = sender(&member);
    let large = vec![("x-large".to_owned(), "x".repeat(20 << 10))];
    let many = (0..10_000).map(|number| (format!("x-{number}"), "y".to_owned())).collect();
    for headers in [large, many] {
        match sender.call(LIST, &headers, framed(0, &[])).await {
            // They come in a frame or two, and are read to be passed over.
            Ok((code, _)) => assert_eq!(code, http::StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
            // They come in so many that the connection ends.
            Err(error) => assert!(!error.is_connect(), "{error:?}"),
        }
    }
    let (_, status) = sender.call(LIST, &[], framed(0, &[])).await.unwrap();
    assert_eq!(status.code(), Code::Ok, "{status:?}");
    serves(&mut member.client()).await;
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_59_streams_that_are_opened_and_reset() {
    let member = Member::start().await;
    let identity = operator(member.folder()).identity();
    let mut stream = connect(credulous(Some(&identity), &TLS13, &[b"h2"]), member.address).await.unwrap();
    let mut bytes = preface();
    for number in 0..1_000 {
        let id = 2 * number + 1;
        bytes.extend(frame(HEADERS, END_HEADERS, id, &call_headers(LIST)));
        bytes.extend(frame(RESET, 0, id, &8_u32.to_be_bytes()));
    }
    // It may be closed before all is written.
    let _ = stream.write_all(&bytes).await;
    let _ = stream.flush().await;
    assert_eq!(goodbye(&mut stream).await, Some(CALM));
    serves(&mut member.client()).await;
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_60_compressed_messages() {
    let member = Member::start().await;
    let sender = sender(&member);
    let bomb = zstd::encode_all(&vec![0; 64 << 20][..], 3).unwrap();
    for encoding in ["gzip", "deflate", "zstd", "other"] {
        let headers = [("grpc-encoding".to_owned(), encoding.to_owned())];
        let (_, status) = sender.call(LIST, &headers, framed(1, &bomb)).await.unwrap();
        refused(Err::<(), _>(status), Code::Unimplemented, "message_compressed");
    }
    // It says that it is compressed, and not how; or something that there is not.
    for flag in [1, 2, 255] {
        let (_, status) = sender.call(LIST, &[], framed(flag, &bomb)).await.unwrap();
        refused(Err::<(), _>(status), Code::InvalidArgument, "malformed");
    }
    serves(&mut member.client()).await;
    member.stop().await;
}

/// Whether the kernel still has a server's end of a connection.
fn is_established(server: u16, client: u16) -> bool {
    let port = |address: &str| u16::from_str_radix(address.split(':').nth(1).unwrap(), 16).unwrap();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let mut lines = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.any(|line| port(line[1]) == server && port(line[2]) == client && line[3] == "01")
}

#[tokio::test(flavor = "multi_thread")]
async fn row_61_a_connection_that_is_never_read() {
    let member = Member::start().await;
    let mut client = member.client();
    let identity = operator(member.folder()).identity();
    let mut stream = connect(credulous(Some(&identity), &TLS13, &[b"h2"]), member.address).await.unwrap();
    let ports = (member.address.port(), stream.get_ref().0.local_addr().unwrap().port());
    let watch = WatchRequest { follow: true, ..WatchRequest::default() }.encode_to_vec();
    let mut bytes = preface();
    bytes.extend(frame(HEADERS, END_HEADERS, 1, &call_headers("/weft.event.v1.Events/Watch")));
    bytes.extend(frame(DATA, END_STREAM, 1, &framed(0, &watch)));
    stream.write_all(&bytes).await.unwrap();
    stream.flush().await.unwrap();
    let begun = Instant::now();
    serves(&mut client).await;
    assert!(is_established(ports.0, ports.1), "it is given some time");
    while is_established(ports.0, ports.1) {
        assert!(begun.elapsed() < PATIENCE, "it is kept");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(stream);
    serves(&mut client).await;
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_61_a_backup_that_is_never_read() {
    let member = Member::start().await;
    let mut client = member.client();
    // More than waits on the way.
    let large = vec![7; 8 << 20];
    assert!(client.put(&parts::artifact(&large), 0, &large).await.unwrap().complete);
    let save = async |client: Client| {
        Ok::<_, Status>(BackupsClient::new(client.channel).save(backup::SaveRequest {}).await?.into_inner())
    };
    let mut silent = save(member.slow_client()).await.unwrap();
    assert!(silent.message().await.unwrap().is_some());
    refused(save(client.clone()).await, Code::ResourceExhausted, "backups");
    let deadline = Instant::now() + PATIENCE;
    let mut next = loop {
        match save(client.clone()).await {
            Ok(parts) => break parts,
            Err(status) => assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}"),
        }
        assert!(Instant::now() < deadline, "it keeps its turn");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    while next.message().await.unwrap().is_some() {}
    // Who reads after all is told.
    let ended = loop {
        match silent.message().await {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    refused(ended, Code::DeadlineExceeded, "client_silent");
    serves(&mut client).await;
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_62_deadlines() {
    let member = Member::start().await;
    let sender = sender(&member);
    let call = async |deadline: &str| {
        let headers = [("grpc-timeout".to_owned(), deadline.to_owned())];
        sender.call(LIST, &headers, framed(0, &[])).await.unwrap().1
    };
    for none in ["0n", "0S", "00000000H"] {
        refused(Err::<(), _>(call(none).await), Code::DeadlineExceeded, "deadline_passed");
    }
    for wrong in ["-1S", "+1S", "1", "S", "", "1x", "1.5S", "999999999S", "1 S", "18446744073709551616S"] {
        refused(Err::<(), _>(call(wrong).await), Code::InvalidArgument, "malformed");
    }
    // A hundred years, and the longest that can be said.
    for far in ["876000H", "99999999H", "99999999n", "30S"] {
        let status = call(far).await;
        assert_eq!(status.code(), Code::Ok, "{far}: {status:?}");
    }
    serves(&mut member.client()).await;
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_63_connections_of_another_kind() {
    let member = Member::start().await;
    let address = member.address;
    let identity = operator(member.folder()).identity();
    let request = b"GET / HTTP/1.1\r\nhost: member\r\n\r\n".to_vec();
    for plain in [preface(), request.clone(), vec![0; 64 << 10]] {
        let answer = exchange(TcpStream::connect(address).await.unwrap(), &plain).await;
        // An alert of TLS at most.
        assert!(answer.is_empty() || (answer[0] == 0x15 && answer.len() < 16), "{answer:?}");
    }
    let old = connect(credulous(Some(&identity), &TLS12, &[b"h2"]), address).await.unwrap_err();
    assert_eq!(alert(&old), Some(AlertDescription::ProtocolVersion), "{old:?}");
    let other = connect(credulous(Some(&identity), &TLS13, &[b"http/1.1"]), address).await.unwrap_err();
    assert_eq!(alert(&other), Some(AlertDescription::NoApplicationProtocol), "{other:?}");
    // It names no protocol, and speaks HTTP/1.1 after all.
    let silent = connect(credulous(Some(&identity), &TLS13, &[]), address).await.unwrap();
    let answer = exchange(silent, &request).await;
    assert!(!answer.windows(5).any(|text| text == b"HTTP/"), "{answer:?}");

    // Whoever joins has no certificate yet, and may do nothing else.
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let authority = Fingerprint::of(identity.authorities().next().unwrap());
    let nobody = endpoint.connect_with_connector_lazy(trust::pinned_connector(authority));
    let listed = GraphsClient::new(nobody.clone()).list(graph::ListRequest::default()).await;
    refused(listed, Code::Unauthenticated, "not_permitted");
    refused(ConsensusClient::new(nobody).vote(asks(1)).await, Code::Unauthenticated, "not_permitted");
    serves(&mut member.client()).await;
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_64_calls_of_consensus_from_no_member() {
    let member = Member::start().await;
    let mut client = member.client();
    let n1 = member.enrol("n1").await;
    for channel in [n1.channel.clone(), client.channel.clone()] {
        let mut other = ConsensusClient::new(channel);
        refused(other.vote(asks(u64::MAX)).await, Code::PermissionDenied, "not_permitted");
        let append = wire::AppendRequest { to: 1, ..wire::AppendRequest::default() };
        refused(other.append(append).await, Code::PermissionDenied, "not_permitted");
        let propose = wire::ProposeRequest { to: 1, command: Vec::new() };
        refused(other.propose(propose).await, Code::PermissionDenied, "not_permitted");
    }

    // One that joins and is taken out again.
    let mut members = MembersClient::new(client.channel.clone());
    let pin = Fingerprint::of(n1.keyring.identity().authorities().next().unwrap());
    let token = JoinToken::generate(pin).unwrap();
    let create =
        wire::CreateTokenRequest { request_id: fresh_id(), digest: token.digest(), lifetime_ms: 60_000 };
    members.create_token(create).await.unwrap();
    let join = wire::JoinRequest {
        token: token.reveal().to_string(),
        key: "ab".repeat(32),
        address: "127.0.0.1:1".to_owned(),
        feature_level: cluster::FEATURE_LEVEL,
    };
    let joined = members.join(join).await.unwrap().into_inner().member;
    let mut gone = consensus(member.address, member.folder(), &joined.to_string());
    let before = term(&client).await;
    gone.vote(asks(before)).await.unwrap();
    members.remove(wire::RemoveRequest { request_id: fresh_id(), member: joined }).await.unwrap();
    for asked in [before, u64::MAX] {
        refused(gone.vote(asks(asked)).await, Code::PermissionDenied, "not_a_member");
        let vote = asks(asked).vote;
        let append = wire::AppendRequest { to: 1, vote, ..wire::AppendRequest::default() };
        refused(gone.append(append).await, Code::PermissionDenied, "not_a_member");
    }
    refused(gone.read_index(wire::ReadIndexRequest { to: 1 }).await, Code::PermissionDenied, "not_a_member");
    assert_eq!(term(&client).await, before);
    serves(&mut client).await;
    member.stop().await;
}

/// What is said between members names no cluster: their certificates do, and one of another cluster ends at the door.
#[tokio::test(flavor = "multi_thread")]
async fn row_65_entries_of_another_cluster() {
    let member = Member::start().await;
    let mut client = member.client();
    let before = term(&client).await;
    let now = std::time::SystemTime::now();
    let own = authority(member.folder()).cluster().clone();
    for cluster in ["another".to_owned().try_into().unwrap(), own] {
        let foreign = issued(&Authority::generate(&cluster, now).unwrap(), Role::Member, "2");
        let config = credulous(Some(&foreign), &TLS13, &[b"h2"]);
        // A client of TLS 1.3 has finished before it is judged.
        let told = match connect(config.clone(), member.address).await {
            Ok(mut stream) => stream.read_u8().await.unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(alert(&told), Some(AlertDescription::UnknownCA), "{told:?}");
        let vote = Some(wire::Ballot { term: before + 1, member: 2, committed: true });
        let append = wire::AppendRequest { to: 1, vote, ..wire::AppendRequest::default() };
        let status = ConsensusClient::new(channel(config, member.address)).append(append).await.unwrap_err();
        assert_eq!(proto::status::reason(&status), None, "nobody answers it: {status:?}");
    }
    assert_eq!(term(&client).await, before);
    serves(&mut client).await;
    member.stop().await;
}

async fn install(
    member: &mut ConsensusClient<Channel>,
    parts: Vec<Part>,
) -> Result<Response<wire::SnapshotResponse>, Status> {
    let parts = parts.into_iter().map(|part| wire::SnapshotPart { part: Some(part) });
    member.install(stream::iter(parts.collect::<Vec<_>>())).await
}

fn head(term: u64, size: usize, bytes: &[u8]) -> Part {
    let vote = Some(wire::Ballot { term, member: 1, committed: true });
    let (size, sha256) = (size as u64, Sha256::digest(bytes).to_vec());
    Part::Head(wire::SnapshotHead { to: 1, vote, size, sha256 })
}

#[tokio::test(flavor = "multi_thread")]
async fn row_66_a_term_that_is_out_of_reach() {
    let folder = tempfile::tempdir().unwrap();
    let [data, errors] = ["data", "errors"].map(|name| folder.path().join(name));
    let mut command = program(&data, &["--init"]);
    let mut child = command.stderr(Stdio::from(File::create(&errors).unwrap())).spawn().unwrap();
    let address = address_in(&data.join("ready.json")).await;
    let mut client = Client::new(address, &data);
    let mut other = consensus(address, &data, "2");
    let before = term(&client).await;
    let far = [before + TERM_JUMP_MAX + 1, u64::MAX];
    for term in far {
        let (code, reason) = (Code::FailedPrecondition, "term_jump");
        for is_trial in [true, false] {
            refused(other.vote(wire::VoteRequest { is_trial, ..asks(term) }).await, code, reason);
        }
        for committed in [true, false] {
            let vote = Some(wire::Ballot { term, member: 2, committed });
            let append = wire::AppendRequest { to: 1, vote, ..wire::AppendRequest::default() };
            refused(other.append(append).await, code, reason);
            refused(other.lead(wire::LeadRequest { to: 1, from: vote, last: None }).await, code, reason);
        }
        refused(install(&mut other, vec![head(term, 1, b"x"), Part::Bytes(b"x".to_vec())]).await, code, reason);
    }
    // As far as may be.
    other.vote(asks(before + TERM_JUMP_MAX)).await.unwrap();
    assert_eq!(term(&client).await, before);
    serves(&mut client).await;
    assert_eq!(term(&client).await, before);
    child.kill().unwrap();
    wait(&mut child);
    let said = std::fs::read_to_string(&errors).unwrap();
    let alarms: Vec<&str> = said.lines().filter(|line| line.contains("out of reach")).collect();
    assert_eq!(alarms.len(), far.len() * 7, "{said}");
    let tells = |line: &&str| {
        line.contains("ERROR") && line.contains("caller=2") && line.contains(&format!("ours={before}"))
    };
    assert!(alarms.iter().all(tells) && !said.contains("panicked"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_75_a_member_at_the_api_of_nodes() {
    let member = Member::start().await;
    let keyring = Keyring::new(issued(&authority(member.folder()), Role::Member, "1"));
    let channel = trust::connector(keyring, Expect::Member);
    let endpoint = Endpoint::from_shared(format!("http://{}", member.address)).unwrap();
    let mut nodes = NodesClient::new(endpoint.connect_with_connector_lazy(channel));
    let session = nodes.session(tokio_stream::pending()).await.map(drop);
    refused(session, Code::PermissionDenied, "not_permitted");
    let listed = nodes.list(proto::weft::node::v1::ListRequest::default()).await;
    refused(listed, Code::PermissionDenied, "not_permitted");
    serves(&mut member.client()).await;
    member.stop().await;
}

/// Parts have no numbers: they come in the order of one stream, and their digest says whether they are what was sent.
#[tokio::test(flavor = "multi_thread")]
async fn rows_76_to_79_snapshots() {
    let member = Member::start().await;
    let mut client = member.client();
    serves(&mut client).await;
    let before = client.state_revision().await;
    let term = term(&client).await;
    let mut other = consensus(member.address, member.folder(), "2");
    let text = |text: &str| Part::Bytes(text.as_bytes().to_vec());
    let whole = |bytes: &[u8]| vec![head(term, bytes.len(), bytes), Part::Bytes(bytes.to_vec())];
    // Field 1 is the format; then the state is missing, or is none.
    let later = [0x08, 0xff, 0xff, 0xff, 0xff, 0x0f];
    let (empty, no_state) = ([0x08, 0x01], [0x08, 0x01, 0x2a, 0x04, b'n', b'o', b'n', b'e']);
    let unreadable = (Code::FailedPrecondition, "snapshot_version");
    let damaged = (Code::DataLoss, "snapshot_damaged");
    let out_of_place = (Code::FailedPrecondition, "snapshot_chunk");
    let missing = (Code::InvalidArgument, "missing_field");
    let rows = [
        (76, "a later format", whole(&later), unreadable),
        (76, "no snapshot", whole(b"WEFT\xff\xff\xff\xff"), unreadable),
        (76, "no state", whole(&empty), unreadable),
        (76, "a state that is none", whole(&no_state), unreadable),
        (77, "another checksum", vec![head(term, 4, b"othr"), text("this")], damaged),
        (77, "cut off", vec![head(term, 8, b"thisthat"), text("this")], damaged),
        (77, "nothing at all", vec![head(term, 8, b"thisthat")], damaged),
        (77, "more than was said", vec![head(term, 4, b"this"), text("this"), text("!")], damaged),
        (78, "in another order", vec![head(term, 8, b"thisthat"), text("that"), text("this")], damaged),
        (78, "one twice", vec![head(term, 8, b"thisthat"), text("this"), text("this")], damaged),
        (78, "bytes before the head", vec![text("this"), head(term, 4, b"this")], out_of_place),
        (
            78,
            "another snapshot's head",
            vec![head(term, 8, b"thisthat"), text("this"), head(term, 4, b"that")],
            out_of_place,
        ),
        (78, "a part of nothing", vec![head(term, 4, b"this"), text("")], missing),
        (78, "no parts", Vec::new(), missing),
        (
            79,
            "1 TiB",
            vec![head(term, 1 << 40, b"this"), text("this")],
            (Code::ResourceExhausted, "snapshot_too_large"),
        ),
        (
            79,
            "all there is",
            vec![head(term, usize::MAX, b"this"), text("this")],
            (Code::ResourceExhausted, "snapshot_too_large"),
        ),
    ];
    for (row, what, parts, (code, reason)) in rows {
        let status = refused(install(&mut other, parts).await, code, reason);
        assert!(status.message().len() < 300, "row {row}, {what}: {status:?}");
    }
    assert_eq!(client.state_revision().await, before, "the state is what it was");
    serves(&mut client).await;
    member.stop().await;
}

/// An entry without a command: its id alone.
fn entry(term: u64, index: u64) -> Vec<u8> {
    let id = wire::LogId { term, member: 2, index }.encode_to_vec();
    [&[0x0a, u8::try_from(id.len()).unwrap()], &id[..]].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn row_80_entries_that_make_a_hole() {
    let member = Member::start().await;
    let mut client = member.client();
    let before = term(&client).await;
    let mut other = consensus(member.address, member.folder(), "2");
    // It would be taken for a leader.
    let vote = Some(wire::Ballot { term: before + 1, member: 2, committed: true });
    let previous = wire::LogId { term: before, member: 1, index: 5 };
    let now = before;
    for (what, previous, entries) in [
        ("a hole", Some(previous), vec![entry(now, 6), entry(now, 8)]),
        ("one twice", Some(previous), vec![entry(now, 6), entry(now, 6)]),
        ("backwards", Some(previous), vec![entry(now, 6), entry(now, 5)]),
        ("a hole at the beginning", Some(previous), vec![entry(now, 7)]),
        ("no beginning", None, vec![entry(now, 1)]),
        ("a term that goes down", Some(previous), vec![entry(now + 1, 6), entry(now, 7)]),
        ("the last of all", Some(wire::LogId { index: u64::MAX, ..previous }), vec![entry(now, 0)]),
        ("no entry", Some(previous), vec![b"\xff\xff".to_vec()]),
    ] {
        let append = wire::AppendRequest { to: 1, vote, previous, entries, committed: None, clock_ms: 0 };
        let status = refused(other.append(append).await, Code::InvalidArgument, "malformed");
        assert!(status.message().starts_with("entries: "), "{what}: {status:?}");
    }
    assert_eq!(term(&client).await, before, "it still leads");
    serves(&mut client).await;
    member.stop().await;
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        match path.is_dir() {
            true => copy(&path, &to),
            false => drop(std::fs::copy(&path, &to).unwrap()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_82_the_data_of_another_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let [one, two, mixed] = ["one", "two", "mixed"].map(|name| folder.path().join(name));
    for path in [&one, &two] {
        Running::start(path, &["--init"]).await.kill();
    }
    copy(&one, &mixed);
    for part in ["raft", "state"] {
        std::fs::remove_dir_all(mixed.join(part)).unwrap();
        copy(&two.join(part), &mixed.join(part));
    }
    let said = failure(program(&mixed, &["--init"]));
    assert!(said.contains("is the authority of cluster"), "{said}");
    // Twice at one time, also by another name.
    let running = Running::start(&one, &[]).await;
    std::os::unix::fs::symlink(&one, folder.path().join("alias")).unwrap();
    let said = failure(program(&folder.path().join("alias"), &[]));
    assert!(said.contains("another control plane runs on this data directory"), "{said}");
    serves(&mut running.client()).await;
}
