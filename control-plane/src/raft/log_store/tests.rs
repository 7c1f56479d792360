//! Logs, votes and snapshots that are not what was written, on real disks: a member refuses to start from them, each time.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::error::Error as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use cluster::Command;
use cluster::command::Body;
use model::digest::Digest;
use model::graph::Artifact;

use super::{COMMITTED, PURGED, VOTE, Write, codec};
use crate::planted::Planted;
use crate::raft::disk::{DiskError, Kind, open};
use crate::raft::{
    ELECTION_TIMEOUT, Handle, LOG_FOLDER, LOG_MAX_BYTES, OpenError, Peers, RaftConfig, Room, Start,
};

const PATIENCE: Duration = Duration::from_secs(30);
const VALUES: [&str; 4] = ["identity", VOTE, PURGED, COMMITTED];

fn config(folder: &Path, storage: Kind) -> RaftConfig {
    RaftConfig {
        data_dir: folder.to_owned(),
        node_id: 1,
        storage,
        start: Start::Init,
        peers: Peers::default(),
        log_max_bytes: LOG_MAX_BYTES,
        election_timeout: ELECTION_TIMEOUT,
        room: Room::default(),
        planted: Planted::default(),
    }
}

/// A member that has run for a while.
async fn member(folder: &Path, kind: Kind) -> Handle {
    let handle = Handle::open(config(folder, kind)).await.unwrap();
    for number in 0..8 {
        let body = Body::PutArtifact(Artifact { digest: Digest::from_bytes([number; 32]), size: 1 });
        handle.propose(Command { now_ms: 1, request: None, body }).await.unwrap();
    }
    handle
}

/// What brings a new disk to where the log of a member is.
async fn writes(kind: Kind) -> Vec<Write> {
    let folder = tempfile::tempdir().unwrap();
    member(folder.path(), kind).await.shutdown().await;
    let loaded = open(kind, folder.path(), LOG_FOLDER).unwrap().load().unwrap();
    let value =
        |key: &'static str| loaded.values.get(key).map(|bytes| Write::Put { key, bytes: bytes.clone() });
    let values = VALUES.into_iter().filter_map(value);
    let entries =
        loaded.entries.iter().map(|(index, bytes)| Write::Append { index: *index, bytes: bytes.clone() });
    values.chain(entries).collect()
}

fn place(writes: &[Write], index: u64) -> usize {
    writes.iter().position(|write| matches!(write, Write::Append { index: at, .. } if *at == index)).unwrap()
}

/// A member refuses to start, and again when it is tried again.
async fn refuses(config: RaftConfig, what: &str, why: &str) {
    for _ in 0..2 {
        let refused = Handle::open(config.clone()).await.expect_err(what);
        assert!(matches!(refused, OpenError::Disk(DiskError::Damaged { .. })), "{what}: {refused:?}");
        let said = refused.source().unwrap().to_string();
        assert!(said.contains(why) && said.contains("must not start from it"), "{what}: {said}");
    }
}

type Spoil = fn(&mut Vec<Write>);

/// Rows 80 and 81. An index is the key of an entry in sled, so that it cannot have two there.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_not_what_was_written_is_refused() {
    let both = [Kind::Sled, Kind::Wal];
    let spoils: [(&str, &[Kind], Spoil, &str); 7] = [
        ("a hole", &both, |writes| drop(writes.remove(place(writes, 4))), "3"),
        ("no beginning", &both, |writes| drop(writes.remove(place(writes, 0))), "the log starts at 1"),
        (
            "an index twice",
            &[Kind::Wal],
            |writes| writes.insert(place(writes, 4), writes[place(writes, 4)].clone()),
            "the log goes from 4 to 4",
        ),
        (
            "an entry in another's place",
            &both,
            |writes| {
                let Write::Append { bytes, .. } = writes[place(writes, 4)].clone() else { unreachable!() };
                let at = place(writes, 5);
                writes[at] = Write::Append { index: 5, bytes };
            },
            "entry 4 is stored as 5",
        ),
        (
            "a term that goes down",
            &both,
            |writes| {
                let at = place(writes, 5);
                let Write::Append { bytes, .. } = &writes[at] else { unreachable!() };
                let mut entry = codec::decode_entry(bytes).unwrap();
                assert!(entry.log_id.leader_id.term > 0);
                entry.log_id.leader_id.term = 0;
                writes[at] = Write::Append { index: 5, bytes: codec::encode_entry(&entry) };
            },
            "the term goes down at entry 5",
        ),
        (
            "no vote",
            &both,
            |writes| writes.retain(|write| !matches!(write, Write::Put { key: VOTE, .. })),
            "there is a log but no vote",
        ),
        (
            "no identity",
            &both,
            |writes| writes.retain(|write| !matches!(write, Write::Put { key: "identity", .. })),
            "no identity",
        ),
    ];
    for kind in both {
        let sound = writes(kind).await;
        let disk = |writes: &[Write]| {
            let folder = tempfile::tempdir().unwrap();
            open(kind, folder.path(), LOG_FOLDER).unwrap().commit(writes).unwrap();
            folder
        };
        let folder = disk(&sound);
        Handle::open(config(folder.path(), kind)).await.unwrap().shutdown().await;
        for (what, _, spoil, why) in spoils.iter().filter(|(_, kinds, ..)| kinds.contains(&kind)) {
            let mut spoilt = sound.clone();
            spoil(&mut spoilt);
            let folder = disk(&spoilt);
            refuses(config(folder.path(), kind), &format!("{kind:?}, {what}"), why).await;
        }
    }
}

/// Rows 76 and 77, of the snapshot that a member has itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_not_what_was_written_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let handle = member(folder.path(), Kind::Wal).await;
    handle.raft().trigger().snapshot().await.unwrap();
    let taken = |metrics: &openraft::RaftMetrics<_>| metrics.snapshot.is_some();
    handle.raft().wait(Some(PATIENCE)).metrics(taken, "a snapshot").await.unwrap();
    let state = handle.state();
    handle.shutdown().await;
    drop(handle);
    let path = folder.path().join("state/snapshot");
    let sound = fs::read(&path).unwrap();
    let (checksum, length) = ("the checksum of a record is wrong", sound.len());
    let config = config(folder.path(), Kind::Wal);
    let mut spoilt = vec![
        ("a later format".to_owned(), [&[2], &sound[1..]].concat(), "this version reads format 1"),
        ("nothing".to_owned(), Vec::new(), "is too short"),
        ("a byte more".to_owned(), [&sound[..], b"!"].concat(), checksum),
    ];
    for at in [1, 5, length / 2, length - 1] {
        let mut bytes = sound.clone();
        bytes[at] ^= 4;
        spoilt.push((format!("byte {at}"), bytes, checksum));
        spoilt.push((
            format!("cut off at {at}"),
            sound[..at].to_vec(),
            if at < 5 { "is too short" } else { checksum },
        ));
    }
    for (what, bytes, why) in spoilt {
        fs::write(&path, bytes).unwrap();
        refuses(config.clone(), &what, why).await;
    }
    fs::write(&path, sound).unwrap();
    let handle = Handle::open(config).await.unwrap();
    assert_eq!(handle.read().await.unwrap(), state);
    handle.shutdown().await;
}
