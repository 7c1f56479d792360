#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::{Disk, DiskError, Kind, Loaded, SledDisk, Write, Writer, open};

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

/// Copies the files of a disk, so that each can be spoilt by itself.
fn copied(from: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("raft/blobs")).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, folder.path().join("raft").join(path.file_name().unwrap())).unwrap();
        }
    }
    folder
}

/// What was acknowledged and rotted is missed, wherever it was: neither disk would say so by itself.
#[test]
fn a_flipped_bit_is_refused() {
    for (kind, name) in [(Kind::Sled, "db"), (Kind::Wal, "log")] {
        let folder = tempfile::tempdir().unwrap();
        let mut disk = open(kind, folder.path(), "raft").unwrap();
        for index in 1..100 {
            disk.commit(&[append(index, &[index as u8; 1_000])]).unwrap();
        }
        drop(disk);
        let sound = fs::read(folder.path().join("raft").join(name)).unwrap();
        let end = sound.iter().rposition(|byte| *byte != 0).unwrap();
        for at in (0..40).map(|part| end * part / 40).chain([end]) {
            let spoilt = copied(&folder.path().join("raft"));
            let mut bytes = sound.clone();
            bytes[at] ^= 4;
            fs::write(spoilt.path().join("raft").join(name), bytes).unwrap();
            match open(kind, spoilt.path(), "raft").and_then(|mut disk| disk.load()) {
                Err(refused) => assert!(matches!(refused, DiskError::Damaged { .. }), "byte {at}: {refused}"),
                // sled keeps bytes that it no longer reads.
                Ok(loaded) => assert_eq!(loaded.entries.len(), 99, "{kind:?}, byte {at}"),
            }
        }
        // A log that is gone is not a new one.
        let spoilt = copied(&folder.path().join("raft"));
        fs::remove_file(spoilt.path().join("raft").join(name)).unwrap();
        let refused = open(kind, spoilt.path(), "raft").err().expect("its log is gone");
        assert!(!matches!(refused, DiskError::Locked { .. }), "{refused}");
    }
}

/// The bytes that the files of a folder take.
fn taken(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap());
    entries.map(|metadata| metadata.blocks() * 512).sum()
}

#[test]
fn what_was_purged_makes_room() {
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let mut disk = open(kind, folder.path(), "raft").unwrap();
        let mut most = 0;
        // 100 MiB in all, of which one is alive.
        for group in 0..200_u64 {
            let entries = (group * 512..(group + 1) * 512).map(|index| append(index, &[index as u8; 1_000]));
            let purge = (group > 1).then(|| Write::PurgeTo((group - 1) * 512 - 1));
            disk.commit(&entries.chain(purge).collect::<Vec<Write>>()).unwrap();
            most = most.max(taken(&folder.path().join("raft")));
        }
        assert!(most < 64 << 20, "{kind:?} took {most} bytes");
    }
}

#[test]
fn a_rewritten_log_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut disk = open(Kind::Wal, folder.path(), "raft").unwrap();
    let mut longest = 0;
    for index in 1..=80 {
        disk.commit(&[append(index, &[1; 300 << 10]), Write::PurgeTo(index - 1)]).unwrap();
        let length = fs::metadata(folder.path().join("raft/log")).unwrap().len();
        longest = longest.max(length);
    }
    assert!(longest < 18 << 20, "it was rewritten: {longest}");
    drop(disk);
    let loaded = open(Kind::Wal, folder.path(), "raft").unwrap().load().unwrap();
    assert_eq!(loaded.entries.iter().map(|entry| entry.0).collect::<Vec<u64>>(), [80]);
}

#[test]
fn a_block_torn_in_its_middle_is_no_damage() {
    let folder = tempfile::tempdir().unwrap();
    let mut disk = open(Kind::Wal, folder.path(), "raft").unwrap();
    disk.commit(&[append(1, b"kept")]).unwrap();
    let mark = fs::read(folder.path().join("raft/mark")).unwrap();
    let start = fs::read(folder.path().join("raft/log")).unwrap().len();
    // The kernel wrote the later pages of a commit, and the power went before the first.
    let commit: Vec<Write> = (2..100).map(|index| append(index, &[index as u8; 256])).collect();
    disk.commit(&commit).unwrap();
    drop(disk);
    let path = folder.path().join("raft/log");
    let mut bytes = fs::read(&path).unwrap();
    bytes[start..4_096].fill(0);
    fs::write(&path, bytes).unwrap();
    fs::write(folder.path().join("raft/mark"), mark).unwrap();
    let loaded = open(Kind::Wal, folder.path(), "raft").unwrap().load().unwrap();
    assert_eq!(loaded.entries, vec![(1, b"kept".to_vec())]);
}

#[test]
fn a_second_process_and_the_other_implementation_are_refused() {
    for (kind, other) in [(Kind::Sled, Kind::Wal), (Kind::Wal, Kind::Sled)] {
        let folder = tempfile::tempdir().unwrap();
        let mut first = open(kind, folder.path(), "raft").unwrap();
        let refused = open(kind, folder.path(), "raft").err().expect("it is in use");
        assert!(matches!(refused, DiskError::Locked { .. }), "{kind:?}: {refused}");
        first.commit(&[append(1, b"one")]).unwrap();
        drop(first);
        let refused = open(other, folder.path(), "raft").err().expect("it is of the other kind");
        assert!(matches!(refused, DiskError::OtherKind { .. }), "{kind:?}: {refused}");
        assert_eq!(open(kind, folder.path(), "raft").unwrap().load().unwrap().entries.len(), 1);
    }
}

#[test]
fn the_parts_of_snapshots_that_are_gone_are_gone() {
    let folder = tempfile::tempdir().unwrap();
    let mut disk = SledDisk::open(&folder.path().join("state")).unwrap();
    for size in [700 << 10, 100 << 10, 300 << 10, 10] {
        disk.commit(&[Write::Snapshot(Arc::new(vec![9; size]))]).unwrap();
        assert_eq!(disk.load().unwrap().snapshot.unwrap().len(), size);
        assert_eq!(disk.snapshot_parts(), size.div_ceil(64 << 10));
    }
}

/// sled 0.34.7 refuses to open with such a file, which a kill in its opening leaves.
#[test]
fn an_unfinished_checkpoint_of_sled_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let mut disk = open(Kind::Sled, folder.path(), "raft").unwrap();
    disk.commit(&[append(1, b"one")]).unwrap();
    drop(disk);
    fs::write(folder.path().join("raft/snap.7FFFFFFFFFFFFFFF.generating"), b"cut").unwrap();
    assert_eq!(open(Kind::Sled, folder.path(), "raft").unwrap().load().unwrap().entries.len(), 1);
}

/// A disk that refuses one commit and says yes to all others, as a kernel does that has dropped the pages.
struct RefusesOnce {
    commits: usize,
    panics: bool,
}

impl Disk for RefusesOnce {
    fn load(&mut self) -> Result<Loaded, DiskError> {
        Ok(Loaded::default())
    }

    fn commit(&mut self, _: &[Write]) -> std::io::Result<()> {
        self.commits += 1;
        assert!(!(self.panics && self.commits == 3), "a panic of the disk");
        if self.commits == 3 { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

#[tokio::test]
async fn nothing_is_acknowledged_after_a_refused_write() {
    for panics in [false, true] {
        let writer = Writer::start("test", RefusesOnce { commits: 0, panics }).unwrap();
        let write = || writer.write_and_wait(vec![append(1, b"one")]);
        assert!(write().await.is_ok() && write().await.is_ok());
        for _ in 0..5 {
            let error = write().await.unwrap_err();
            assert!(error.to_string().starts_with("the disk refused a write"), "{error}");
        }
    }
}

#[test]
fn an_unfinished_last_write_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let mut disk = open(Kind::Wal, folder.path(), "raft").unwrap();
    disk.commit(&[append(1, b"kept")]).unwrap();
    let mark = fs::read(folder.path().join("raft/mark")).unwrap();
    disk.commit(&[append(2, b"torn")]).unwrap();
    drop(disk);
    // It was torn before it was acknowledged.
    fs::write(folder.path().join("raft/mark"), mark).unwrap();
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
