#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs;
use std::sync::Arc;

use proptest::prelude::*;

use super::{Disk as _, DiskError, Kind, Loaded, Write, open};

const KINDS: [Kind; 2] = [Kind::Sled, Kind::Wal];

fn append(index: u64, bytes: &[u8]) -> Write {
    Write::Append { index, bytes: bytes.to_vec() }
}

/// What the writes mean, without a disk.
fn expected(writes: &[Write]) -> Loaded {
    let mut loaded = Loaded::default();
    for write in writes {
        match write {
            Write::Append { index, bytes } => loaded.entries.push((*index, bytes.clone())),
            Write::TruncateFrom(from) => loaded.entries.retain(|(index, _)| index < from),
            Write::PurgeTo(to) => loaded.entries.retain(|(index, _)| index > to),
            Write::Put { key, bytes } => {
                loaded.values.insert((*key).to_owned(), bytes.clone());
            }
            Write::Snapshot(bytes) => loaded.snapshot = Some(bytes.to_vec()),
        }
    }
    loaded
}

#[test]
fn what_was_committed_is_there_after_opening_again() {
    let writes = [
        append(1, b"one"),
        append(2, &vec![7; 200 << 10]),
        append(3, b""),
        Write::Put { key: "vote", bytes: b"me".to_vec() },
        append(4, b"four"),
        Write::TruncateFrom(4),
        append(4, b"other four"),
        Write::PurgeTo(1),
        Write::Snapshot(Arc::new(vec![1; 300 << 10])),
        Write::Snapshot(Arc::new(vec![2; 100 << 10])),
    ];
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        open(kind, folder.path(), "raft").unwrap().commit(&writes).unwrap();
        let loaded = open(kind, folder.path(), "raft").unwrap().load().unwrap();
        assert_eq!(loaded, expected(&writes), "{kind:?}");
    }
}

#[test]
fn a_flipped_bit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let writes: Vec<Write> = (1..50).map(|index| append(index, &[index as u8; 100])).collect();
    open(Kind::Wal, folder.path(), "raft").unwrap().commit(&writes).unwrap();
    let path = folder.path().join("raft/log");
    let mut bytes = fs::read(&path).unwrap();
    bytes[1_000] ^= 1;
    fs::write(&path, bytes).unwrap();
    let refused = open(Kind::Wal, folder.path(), "raft").err().expect("damage must be refused");
    assert!(matches!(refused, DiskError::Damaged { .. }), "{refused}");
}

#[test]
fn an_unfinished_last_write_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let mut disk = open(Kind::Wal, folder.path(), "raft").unwrap();
    disk.commit(&[append(1, b"kept")]).unwrap();
    disk.commit(&[append(2, b"torn")]).unwrap();
    drop(disk);
    let path = folder.path().join("raft/log");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
    let mut disk = open(Kind::Wal, folder.path(), "raft").unwrap();
    assert_eq!(disk.load().unwrap().entries, vec![(1, b"kept".to_vec())]);
    disk.commit(&[append(2, b"again")]).unwrap();
    drop(disk);
    let loaded = open(Kind::Wal, folder.path(), "raft").unwrap().load().unwrap();
    assert_eq!(loaded.entries.len(), 2);
}

/// A legal sequence of writes from random numbers.
fn legal_writes(choices: &[(u8, u16)]) -> Vec<Write> {
    let (mut first, mut next) = (1_u64, 1_u64);
    let mut writes = Vec::new();
    for (choice, size) in choices {
        writes.push(match choice % 8 {
            0 if next > first => {
                let from = first + u64::from(*size) % (next - first);
                next = from;
                Write::TruncateFrom(from)
            }
            1 if next > first => {
                let to = first + u64::from(*size) % (next - first);
                first = to + 1;
                Write::PurgeTo(to)
            }
            2 => Write::Put { key: "vote", bytes: size.to_be_bytes().to_vec() },
            3 => Write::Snapshot(Arc::new(vec![*choice; usize::from(*size)])),
            _ => {
                next += 1;
                append(next - 1, &vec![*choice; usize::from(*size)])
            }
        });
    }
    writes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn both_disks_hold_what_the_writes_mean(
        choices in prop::collection::vec((any::<u8>(), any::<u16>()), 0..40),
        cuts in prop::collection::vec(1_usize..6, 1..12),
    ) {
        let writes = legal_writes(&choices);
        for kind in KINDS {
            let folder = tempfile::tempdir().unwrap();
            let mut rest = &writes[..];
            let mut cuts = cuts.iter().cycle();
            while !rest.is_empty() {
                let count = (*cuts.next().unwrap()).min(rest.len());
                open(kind, folder.path(), "raft").unwrap().commit(&rest[..count]).unwrap();
                rest = &rest[count..];
            }
            let loaded = open(kind, folder.path(), "raft").unwrap().load().unwrap();
            prop_assert_eq!(loaded, expected(&writes), "{:?}", kind);
        }
    }
}
