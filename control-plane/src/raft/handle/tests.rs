#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeSet;

use std::path::Path;

use std::time::SystemTime;

use cluster::FEATURE_LEVEL;
use cluster::command::{Body, EnrolMember};
use cluster::state::MemberId;
use model::digest::Digest;
use model::graph::Artifact;
use openraft::StorageError;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::storage::{RaftLogReader as _, RaftLogStorageExt as _};
use openraft::testing::log::{StoreBuilder, Suite};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::net::TcpListener;
use trust::{Authority, Clients, Gate, access};

use super::*;
use crate::credentials::Credentials;
use crate::raft::chain::SECTION_ENTRIES;
use crate::raft::types::{Entry, EntryPayload, LeaderId, LogId, Membership};
use crate::raft::{Consensus, LOG_MAX_BYTES, Room};

const KINDS: [Kind; 2] = [Kind::Sled, Kind::Wal];

fn config(folder: &Path, storage: Kind) -> RaftConfig {
    let (start, peers) = (Start::Init, Peers::default());
    RaftConfig {
        data_dir: folder.to_owned(),
        node_id: 1,
        storage,
        start,
        peers,
        log_max_bytes: LOG_MAX_BYTES,
        election_timeout: ELECTION_TIMEOUT,
        room: Room::default(),
        planted: Planted::default(),
    }
}

fn put(number: u8) -> Command {
    let artifact = Artifact { digest: Digest::from_bytes([number; 32]), size: 1 };
    Command { now_ms: u64::from(number), request: None, body: Body::PutArtifact(artifact) }
}

struct Stores(Kind);

impl StoreBuilder<TypeConfig, LogStore, Machine, TempDir> for Stores {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), StorageError<TypeConfig>> {
        let folder = tempfile::tempdir().unwrap();
        let (log, machine, _, _) = open_storage(&config(folder.path(), self.0)).unwrap();
        Ok((folder, log, machine))
    }
}

#[test]
fn both_disks_pass_the_storage_suite_of_openraft() {
    for kind in KINDS {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async { Suite::test_all(Stores(kind)).await.unwrap() });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_a_restart() {
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let handle = Handle::open(config(folder.path(), kind)).await.unwrap();
        for number in 0..20 {
            handle.propose(put(number)).await.unwrap();
        }
        let before = handle.read().await.unwrap();
        handle.shutdown().await;
        drop(handle);
        let handle = Handle::open(config(folder.path(), kind)).await.unwrap();
        let after = handle.read().await.unwrap();
        assert_eq!(after, before, "{kind:?}");
        assert_eq!(after.artifacts.len(), 20);
        handle.shutdown().await;
    }
}

/// The simulation found members with two entries under one id: a leader had sent one, lost it in a crash, and given its
/// id to another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_starts_again_leads_by_another_ballot() {
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let handle = Handle::open(config(folder.path(), kind)).await.unwrap();
        handle.propose(put(1)).await.unwrap();
        let before = handle.term();
        handle.shutdown().await;
        drop(handle);
        let handle = Handle::open(config(folder.path(), kind)).await.unwrap();
        assert!(handle.is_leader() && handle.term() > before, "{kind:?}: {} after {before}", handle.term());
        handle.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_from_a_snapshot_has_the_same_state() {
    let folder = tempfile::tempdir().unwrap();
    let handle = Handle::open(config(folder.path(), Kind::Sled)).await.unwrap();
    for number in 0..50 {
        handle.propose(put(number)).await.unwrap();
    }
    handle.raft.trigger().snapshot().await.unwrap();
    let at = handle
        .raft
        .wait(Some(PATIENCE))
        .metrics(|m| m.snapshot.is_some(), "snapshot")
        .await
        .unwrap()
        .snapshot
        .unwrap()
        .index;
    handle.raft.trigger().purge_log(at).await.unwrap();
    handle.raft.wait(Some(PATIENCE)).metrics(|m| m.purged.is_some(), "purge").await.unwrap();
    handle.propose(put(60)).await.unwrap();
    let before = handle.read().await.unwrap();
    handle.shutdown().await;
    drop(handle);
    let handle = Handle::open(config(folder.path(), Kind::Sled)).await.unwrap();
    assert_eq!(handle.read().await.unwrap(), before);
    handle.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_another_member_or_of_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let uninitialised = RaftConfig { start: Start::Again, ..config(folder.path(), Kind::Wal) };
    assert!(matches!(Handle::open(uninitialised).await, Err(OpenError::Uninitialised { .. })));
    Handle::open(config(folder.path(), Kind::Wal)).await.unwrap().shutdown().await;
    let other = RaftConfig { node_id: 2, ..config(folder.path(), Kind::Wal) };
    let refused = Handle::open(other).await.unwrap_err();
    assert!(matches!(refused, OpenError::Identity { .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_too_large_is_refused_whole() {
    let folder = tempfile::tempdir().unwrap();
    let handle = Handle::open(config(folder.path(), Kind::Wal)).await.unwrap();
    // Random text does not shrink.
    let mut seed = 7_u64;
    let name: String = (0..400_000)
        .map(|_| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            char::from(b'!' + (seed >> 58) as u8)
        })
        .collect();
    let body =
        Body::SetNodeState { node: "n1".parse().unwrap(), state: model::node::NodeState::Down, why: name };
    let refused = handle.propose(Command { now_ms: 1, request: None, body }).await;
    assert!(matches!(refused, Err(ProposeError::TooLarge { .. })), "{refused:?}");
    handle.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_unpacks_to_too_much_is_refused_whole() {
    let folder = tempfile::tempdir().unwrap();
    let handle = Handle::open(config(folder.path(), Kind::Wal)).await.unwrap();
    // It would be a few kilobytes in the log, and no member could ever read it.
    let why = "a".repeat(codec::UNPACKED_MAX_BYTES);
    let body = Body::SetNodeState { node: "n1".parse().unwrap(), state: model::node::NodeState::Down, why };
    let refused = handle.propose(Command { now_ms: 1, request: None, body }).await;
    assert!(matches!(refused, Err(ProposeError::TooLarge { .. })), "{refused:?}");
    handle.propose(put(1)).await.unwrap();
    handle.shutdown().await;
}

/// Proposes numbered artifacts, many at one time.
async fn propose_many(handle: &Handle, count: u64) {
    let tasks: Vec<_> = (0..64)
        .map(|first| {
            let handle = handle.clone();
            tokio::spawn(async move {
                for number in (first..count).step_by(64) {
                    let mut digest = [0; 32];
                    digest[..8].copy_from_slice(&number.to_be_bytes());
                    let artifact = Artifact { digest: Digest::from_bytes(digest), size: number };
                    let body = Body::PutArtifact(artifact);
                    handle.propose(Command { now_ms: number, request: None, body }).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_replaced_by_a_snapshot_after_so_many_entries() {
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let handle = Handle::open(config(folder.path(), kind)).await.unwrap();
        propose_many(&handle, SNAPSHOT_AFTER_ENTRIES + KEPT_ENTRIES).await;
        let purged = |metrics: &openraft::RaftMetrics<TypeConfig>| metrics.purged.is_some();
        let metrics = handle.raft.wait(Some(START_PATIENCE)).metrics(purged, "purge").await.unwrap();
        assert!(metrics.snapshot > metrics.purged, "{metrics:?}");
        let before = handle.read().await.unwrap();
        handle.shutdown().await;
        drop(handle);
        let handle = Handle::open(config(folder.path(), kind)).await.unwrap();
        assert_eq!(handle.read().await.unwrap(), before, "{kind:?}");
        handle.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_replaced_by_a_snapshot_after_so_many_bytes() {
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let small = || RaftConfig { log_max_bytes: 10_000, ..config(folder.path(), kind) };
        let handle = Handle::open(small()).await.unwrap();
        propose_many(&handle, 200).await;
        let purged = |metrics: &openraft::RaftMetrics<TypeConfig>| metrics.purged.is_some();
        handle.raft.wait(Some(START_PATIENCE)).metrics(purged, "purge").await.unwrap();
        propose_many(&handle, 210).await;
        let before = handle.read().await.unwrap();
        handle.shutdown().await;
        drop(handle);
        let handle = Handle::open(small()).await.unwrap();
        assert_eq!(handle.read().await.unwrap(), before, "{kind:?}");
        handle.shutdown().await;
        drop(handle);

        // What was removed from the log is in the snapshot only, and what came since in the log only: without one of
        // them, nothing is pretended.
        for lost in ["state", "raft"] {
            let (part, aside) = (folder.path().join(lost), folder.path().join("aside"));
            std::fs::rename(&part, &aside).unwrap();
            for _ in 0..2 {
                let refused = Handle::open(small()).await.unwrap_err();
                assert!(
                    matches!(refused, OpenError::Disk(DiskError::Damaged { .. })),
                    "{kind:?} without {lost}: {refused}"
                );
            }
            std::fs::remove_dir_all(&part).unwrap();
            std::fs::rename(&aside, &part).unwrap();
        }
        let handle = Handle::open(small()).await.unwrap();
        assert_eq!(handle.read().await.unwrap(), before, "{kind:?}");
        handle.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_makes_room_however_short_the_log_is() {
    let folder = tempfile::tempdir().unwrap();
    let room = Room::new(model::unit::ByteSize(16 << 10));
    // The log alone would never be a reason for a snapshot.
    let config = RaftConfig { room, log_max_bytes: LOG_MAX_BYTES, ..config(folder.path(), Kind::Wal) };
    let handle = Handle::open(config).await.unwrap();
    done(&handle, Body::RaiseFeatureLevel { level: FEATURE_LEVEL }).await;
    let mut taken = Vec::new();
    let refused = loop {
        let digest = Digest::from_bytes(Sha256::digest([taken.len() as u8]).into());
        let body = Body::PutArtifact(Artifact { digest, size: 1 });
        match handle.propose(Command { now_ms: 1, request: None, body }).await {
            Ok(_) => taken.push(digest),
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, ProposeError::StateFull), "{refused}");
    done(&handle, Body::ForgetArtifacts(taken)).await;
    let until_room = async {
        while handle.propose(put(1)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), until_room).await.unwrap();
    handle.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_that_ended_between_its_first_entry_and_its_first_vote_is_no_damage() {
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), kind);
        let (mut log, machine, _, _) = open_storage(&config).unwrap();
        let log_id = LogId { leader_id: LeaderId { term: 0, node_id: 0 }, index: 0 };
        let alone = Membership::new_with_defaults(vec![BTreeSet::from([1])], []);
        let payload = EntryPayload::Membership(alone);
        log.blocking_append([Entry { log_id, payload }]).await.unwrap();
        assert_eq!(log.read_vote().await.unwrap(), None, "{kind:?}");
        drop((log, machine));

        let handle = Handle::open(config).await.unwrap_or_else(|error| panic!("{kind:?}: {error:?}"));
        handle.propose(put(1)).await.unwrap();
        handle.shutdown().await;
    }
}

/// A member in this process, behind a socket of its own.
struct Served {
    handle: Handle,
    address: String,
    serving: JoinHandle<()>,
    folder: Option<TempDir>,
}

impl Served {
    /// Ends it, and returns what it has on disk.
    async fn stop(mut self) -> TempDir {
        self.serving.abort();
        self.handle.shutdown().await;
        self.folder.take().unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn served(id: u64, start: Start, authority: &Authority) -> Served {
    served_in(tempfile::tempdir().unwrap(), id, start, authority).await
}

async fn served_in(folder: TempDir, id: u64, start: Start, authority: &Authority) -> Served {
    let authority = Authority::from_pem(&authority.to_pem()).unwrap();
    let credentials = Credentials::open(folder.path(), authority, id, Duration::from_hours(1)).unwrap();
    let config = config(folder.path(), Kind::Wal);
    config.peers.identify(credentials.keyring());
    let handle =
        Handle::open(RaftConfig { node_id: id, start, log_max_bytes: 16 << 10, ..config }).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = tonic::transport::Server::builder()
        .layer(Gate::new(access::of_member))
        .add_service(Consensus::server(handle.clone()));
    let incoming = trust::incoming(listener, credentials.keyring(), Clients::Optional);
    let serving = tokio::spawn(async move { server.serve_with_incoming(incoming).await.unwrap() });
    Served { handle, address, serving, folder: Some(folder) }
}

fn announce(member: u64, address: &str) -> Body {
    Body::AnnounceMember { member: MemberId(member), address: address.to_owned(), level: FEATURE_LEVEL }
}

async fn done(handle: &Handle, body: Body) {
    let committed = handle.propose(Command { now_ms: 1, request: None, body }).await.unwrap();
    assert!(!matches!(committed.outcome, Outcome::Refused(_)), "{committed:?}");
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(30), async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

async fn follow_all(handle: &Handle) {
    while handle.follow_members(&handle.state()).await.unwrap() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_entries_are_gone_gets_a_snapshot_and_may_lead() {
    let authority = Authority::generate(&"c".to_owned().try_into().unwrap(), SystemTime::now()).unwrap();
    let first = served(1, Start::Init, &authority).await;
    done(&first.handle, announce(1, &first.address)).await;
    for number in 0..=255 {
        first.handle.propose(put(number)).await.unwrap();
    }
    let purged = |handle: &Handle| handle.raft().metrics().borrow_watched().purged.is_some();
    until("the log is replaced by a snapshot", || purged(&first.handle)).await;

    let second = served(2, Start::Join, &authority).await;
    let token = "t".to_owned();
    let enrol = EnrolMember {
        token: token.clone(),
        key: "k".to_owned(),
        address: second.address.clone(),
        level: FEATURE_LEVEL,
    };
    done(&first.handle, Body::CreateMemberToken { digest: token, expires_ms: u64::MAX }).await;
    done(&first.handle, Body::EnrolMember(enrol)).await;
    follow_all(&first.handle).await;
    until("it has the state", || second.handle.state() == first.handle.state()).await;
    assert!(second.handle.raft().metrics().borrow_watched().snapshot.is_some(), "by a snapshot");

    // What it is asked, it asks the leader, and has it itself when that is done.
    second.handle.propose(put(0)).await.unwrap();
    for number in 0..100 {
        let digest = format!("token-{number}");
        done(&second.handle, Body::CreateMemberToken { digest: digest.clone(), expires_ms: u64::MAX }).await;
        assert!(second.handle.state().member_tokens.contains_key(&digest));
    }
    assert_eq!(second.handle.read().await.unwrap(), first.handle.read().await.unwrap());
    until("the leader knows how far it is", || first.handle.is_caught_up(MemberId(2))).await;
    done(&second.handle, Body::PromoteMember { member: MemberId(2) }).await;
    follow_all(&first.handle).await;
    assert_eq!(first.handle.transfer(None).await.unwrap(), 2);
    assert!(!first.handle.is_leader());
    until("it leads", || second.handle.is_leader()).await;
    done(&first.handle, announce(1, "elsewhere:1")).await;
    assert_eq!(first.handle.read().await.unwrap().members[&MemberId(1)].address, "elsewhere:1");
    // Alone, it cannot decide: half is not more than half.
    first.handle.shutdown().await;
    drop(first);
    let refused = second.handle.propose(put(1)).await.unwrap_err();
    assert!(matches!(refused, ProposeError::Unknown | ProposeError::NotLeader { .. }), "{refused}");
    assert!(second.handle.read().await.is_err());
    second.handle.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_answers_to_its_own_id_and_to_members_alone() {
    let authority = Authority::generate(&"c".to_owned().try_into().unwrap(), SystemTime::now()).unwrap();
    let first = served(1, Start::Init, &authority).await;
    done(&first.handle, announce(1, &first.address)).await;
    // One that the state does not name, with a certificate of the cluster.
    let stranger = served(7, Start::Join, &authority).await;
    let mut client = stranger.handle.peers.client(&first.address, Road::Calls).unwrap();
    let reason = |status: tonic::Status| proto::status::reason(&status).unwrap_or_default();
    let command = codec::encode_command(&put(1)).unwrap().0;
    let refused = client.propose(wire::ProposeRequest { to: 1, command }).await.unwrap_err();
    assert_eq!(reason(refused), "not_a_member");
    let refused = client.read_index(wire::ReadIndexRequest { to: 1 }).await.unwrap_err();
    assert_eq!(reason(refused), "not_a_member");
    let vote = wire::VoteRequest { to: 2, ..wire::VoteRequest::default() };
    assert_eq!(reason(client.vote(vote).await.unwrap_err()), "other_member");
    // Nonsense stops nobody.
    for request in [
        wire::AppendRequest { to: 1, ..wire::AppendRequest::default() },
        wire::AppendRequest {
            to: 1,
            vote: Some(wire::Ballot::default()),
            entries: vec![b"nonsense".to_vec()],
            ..wire::AppendRequest::default()
        },
    ] {
        assert_eq!(client.append(request).await.unwrap_err().code(), tonic::Code::InvalidArgument);
    }
    let head = wire::SnapshotHead { to: 1, vote: Some(wire::Ballot::default()), size: 3, sha256: Vec::new() };
    let parts = [wire::snapshot_part::Part::Head(head), wire::snapshot_part::Part::Bytes(b"abc".to_vec())];
    let parts = parts.map(|part| wire::SnapshotPart { part: Some(part) });
    assert_eq!(reason(client.install(tokio_stream::iter(parts)).await.unwrap_err()), "snapshot_damaged");
    first.handle.propose(put(2)).await.unwrap();
}

/// Three members that vote.
async fn three(authority: &Authority) -> [Served; 3] {
    let first = served(1, Start::Init, authority).await;
    done(&first.handle, announce(1, &first.address)).await;
    let mut others = Vec::new();
    for id in 2..=3 {
        let other = served(id, Start::Join, authority).await;
        let token = format!("token-{id}");
        let enrol = EnrolMember {
            token: token.clone(),
            key: "k".to_owned(),
            address: other.address.clone(),
            level: FEATURE_LEVEL,
        };
        done(&first.handle, Body::CreateMemberToken { digest: token, expires_ms: u64::MAX }).await;
        done(&first.handle, Body::EnrolMember(enrol)).await;
        follow_all(&first.handle).await;
        until("the leader knows how far it is", || first.handle.is_caught_up(MemberId(id))).await;
        done(&first.handle, Body::PromoteMember { member: MemberId(id) }).await;
        follow_all(&first.handle).await;
        others.push(other);
    }
    let [second, third] = <[Served; 2]>::try_from(others).unwrap_or_else(|_| unreachable!("there are two"));
    [first, second, third]
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_to_lead_does_and_nobody_else_stands_for_election() {
    let authority = Authority::generate(&"c".to_owned().try_into().unwrap(), SystemTime::now()).unwrap();
    let members = three(&authority).await;
    let term = members[0].handle.term();
    let mut leader = 1;
    // Each to each other, and back.
    for (moves, next) in [2, 3, 1, 3, 2, 1].into_iter().enumerate() {
        let [from, to] = [leader, next].map(|id: u64| &members[usize::try_from(id).unwrap() - 1].handle);
        assert_eq!(from.transfer(Some(next)).await.unwrap(), next);
        until("it leads", || to.is_leader()).await;
        assert_eq!(to.term(), term + 1 + moves as u64, "one election for {leader} to {next}");
        leader = next;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_most_others_contradict_stops_and_does_not_start_again() {
    let authority = Authority::generate(&"c".to_owned().try_into().unwrap(), SystemTime::now()).unwrap();
    let [first, second, third] = three(&authority).await;
    propose_many(&first.handle, 2 * SECTION_ENTRIES).await;
    // All have come to the same, wherever each began.
    let agreed = |index: u64| {
        let said: Vec<_> = [&first, &second, &third].map(|member| member.handle.sections.get(index)).to_vec();
        said.iter().flatten().count() > 1 && said.iter().flatten().all(|sum| Some(*sum) == said[0])
    };
    until("the sections are compared", || agreed(2 * SECTION_ENTRIES)).await;

    // One of them has lost something, in a way that no checksum of a disk shows.
    let folder = third.stop().await;
    let config = RaftConfig { node_id: 3, start: Start::Again, ..config(folder.path(), Kind::Wal) };
    let offline = crate::raft::Offline::open(config.clone()).await.unwrap();
    let mut wrong = offline.state().unwrap();
    let (lost, _) = wrong.artifacts.iter().next().map(|(digest, artifact)| (*digest, *artifact)).unwrap();
    wrong.artifacts.remove(&lost);
    offline.pretend(&wrong).await.unwrap();
    let third = served_in(folder, 3, Start::Again, &authority).await;
    // It is at another port now.
    done(&third.handle, announce(3, &third.address)).await;
    // It takes for new what the others have.
    let again = Body::PutArtifact(Artifact { digest: lost, size: 1 });
    done(&first.handle, again).await;
    propose_many(&first.handle, 4 * SECTION_ENTRIES).await;
    let stopped = tokio::time::timeout(Duration::from_secs(60), third.handle.stopped()).await.unwrap();
    assert!(stopped.contains("not what they have come to in most members"), "{stopped}");
    let folder = third.stop().await;
    let config = RaftConfig { data_dir: folder.path().to_owned(), ..config };
    let refused = Handle::open(config).await.unwrap_err();
    assert!(matches!(refused, OpenError::Disk(DiskError::Damaged { .. })), "{refused}");
    // The others go on.
    propose_many(&first.handle, 10).await;
    assert_eq!(first.handle.diverged.get(), None);
    assert_eq!(second.handle.diverged.get(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_that_leads_hands_over_before_it_is_taken_out() {
    let authority = Authority::generate(&"c".to_owned().try_into().unwrap(), SystemTime::now()).unwrap();
    let [first, second, third] = three(&authority).await;
    done(&first.handle, Body::RemoveMember { member: MemberId(3) }).await;
    follow_all(&first.handle).await;
    third.handle.shutdown().await;
    // The other one knows that it is to go, and needs it once more.
    done(&first.handle, Body::RemoveMember { member: MemberId(1) }).await;
    until("the other one knows", || second.handle.state() == first.handle.state()).await;
    assert!(first.handle.follow_members(&first.handle.state()).await.unwrap());
    until("the other one leads", || second.handle.is_leader()).await;
    follow_all(&second.handle).await;
    let membership = second.handle.membership();
    assert_eq!(membership.members.keys().copied().collect::<Vec<_>>(), [2]);
    second.handle.propose(put(1)).await.unwrap();
    // It is not listened to any more.
    let mut client = first.handle.peers.client(&second.address, Road::Calls).unwrap();
    let vote = wire::VoteRequest { to: 2, ..wire::VoteRequest::default() };
    let refused = client.vote(vote).await.unwrap_err();
    assert_eq!(proto::status::reason(&refused).as_deref(), Some("not_a_member"));
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_changes_at_one_time_are_refused_and_none_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let handle = Handle::open(config(folder.path(), Kind::Wal)).await.unwrap();
    // Random bytes do not become fewer when they are packed.
    let random = |number: u32| {
        let parts = (0..5_000_u32).flat_map(|at| Sha256::digest([number, at].map(u32::to_be_bytes).concat()));
        hex::encode(parts.collect::<Vec<u8>>())
    };
    let digests: Vec<String> = (0..400).map(random).collect();
    let asked = digests.into_iter().map(|digest| {
        let handle = handle.clone();
        tokio::spawn(async move {
            let body = Body::CreateMemberToken { digest: digest.clone(), expires_ms: u64::MAX };
            (digest, handle.propose(Command { now_ms: 1, request: None, body }).await)
        })
    });
    let asked: Vec<_> = asked.collect();
    let (mut done, mut refused) = (Vec::new(), 0);
    for asked in asked {
        match asked.await.unwrap() {
            (digest, Ok(_)) => done.push(digest),
            (_, Err(ProposeError::Overloaded)) => refused += 1,
            (_, Err(error)) => panic!("{error}"),
        }
    }
    assert!(refused > 0 && !done.is_empty(), "{refused} refused");
    let state = handle.read().await.unwrap();
    assert!(done.iter().all(|digest| state.member_tokens.contains_key(digest)));
    assert_eq!(state.member_tokens.len(), done.len());
    handle.propose(put(1)).await.unwrap();
    handle.shutdown().await;
}
