//! A disk on sled 0.34.7, made durable.
//!
//! `sled::Db::flush` ends in `sync_file_range`, which does not survive a power cut; the barrier is an `fdatasync` of
//! sled's `db` file behind it. `conf` and the folders are synced once, when they are made, under another name: a power
//! cut leaves no half-made database. Segments are large and values small, so that sled never writes a page to a blob
//! file, which it would never sync.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use sha2::{Digest as _, Sha256};

use super::mark::Mark;
use super::{Disk, DiskError, LOCK_PATIENCE, LOCK_RETRY, Loaded, Write, lock, record};
use crate::durable;

/// Large enough that no page goes to a blob file with values of [`PART_MAX_BYTES`].
const SEGMENT_BYTES: usize = 8 << 20;
/// A longer entry is cut into parts: a page holds up to 16 values.
const PART_MAX_BYTES: usize = 64 << 10;
/// What sled may keep in memory; the tail of the log is kept by the log store.
const CACHE_BYTES: u64 = 64 << 20;
const MANIFEST: &[u8] = b"manifest";
/// The number of the last commit, written as the last part of each.
const COMMITS: &[u8] = b"commits";

/// The disk.
pub struct SledDisk {
    folder: PathBuf,
    db: ::sled::Db,
    log: ::sled::Tree,
    values: ::sled::Tree,
    snapshots: ::sled::Tree,
    /// A second handle on sled's own file: syncing works by inode.
    barrier: File,
    /// The number of the last commit.
    commits: u64,
    mark: Mark,
    /// Whether a commit has failed: nothing is written after that.
    has_failed: bool,
}

impl Drop for SledDisk {
    fn drop(&mut self) {
        // sled flushes when it is let go of, also what a disk has refused, and panics where it is refused again. Every
        // commit was synced: on a disk that fails it is not let go of before the process ends.
        if self.has_failed || self.barrier.sync_data().is_err() {
            std::mem::forget(self.db.clone());
        }
    }
}

fn broken(error: ::sled::Error) -> io::Error {
    match error {
        ::sled::Error::Io(error) => error,
        other => io::Error::other(other),
    }
}

impl SledDisk {
    /// Opens, or makes, the database in `folder`.
    pub fn open(folder: &Path) -> Result<Self, DiskError> {
        let failed = |source| DiskError::Io { path: folder.to_owned(), source };
        if !folder.try_exists().map_err(failed)? {
            make(folder)?;
        }
        remove_unfinished(folder)?;
        let (db, [log, values, snapshots]) = open_unlocked(folder)?;
        // A run that was killed may have left what is read here and not yet durable.
        sync_made(folder).and_then(|()| durable::create_folder(folder)).map_err(failed)?;
        let barrier = File::open(folder.join("db")).map_err(failed)?;
        let commits = read_commits(&db).map_err(|what| damaged(folder, what))?;
        let mark = Mark::open(folder)?;
        mark.check(commits)?;
        Ok(Self {
            folder: folder.to_owned(),
            db,
            log,
            values,
            snapshots,
            barrier,
            commits,
            mark,
            has_failed: false,
        })
    }

    fn put_entry(&self, batch: &mut ::sled::Batch, index: u64, bytes: &[u8]) {
        let sealed = record::seal(bytes);
        let parts = sealed.chunks(PART_MAX_BYTES);
        let count = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        for (number, part) in (0_u32..).zip(parts) {
            // Each part says how many there are, so that a missing one is seen.
            let mut value = count.to_be_bytes().to_vec();
            value.extend_from_slice(part);
            batch.insert(&entry_key(index, number)[..], value);
        }
    }

    fn remove(&self, range: impl std::ops::RangeBounds<[u8; 12]>) -> io::Result<()> {
        let mut batch = ::sled::Batch::default();
        for key in self.log.range(range).keys() {
            batch.remove(key.map_err(broken)?);
        }
        self.log.apply_batch(batch).map_err(broken)
    }

    fn put_snapshot(&self, bytes: &[u8]) -> io::Result<()> {
        let before = self.snapshots.get(MANIFEST).map_err(broken)?;
        let old = before.as_deref().map(Manifest::decode).transpose().map_err(io::Error::other)?;
        let id = old.map_or(0, |manifest| manifest.id + 1);
        let mut count = 0;
        for part in bytes.chunks(PART_MAX_BYTES) {
            self.snapshots.insert(part_key(id, count), record::seal(part)).map_err(broken)?;
            count += 1;
        }
        // The parts are durable before the manifest names them.
        self.sync()?;
        let manifest = Manifest { id, count, digest: Sha256::digest(bytes).into() };
        self.snapshots.insert(MANIFEST, manifest.encode()).map_err(broken)?;
        self.sync()?;
        // Those of the snapshot before, and of one that a crash cut off.
        let (own, next) = (part_key(id, 0), part_key(id, count));
        let mut dead = ::sled::Batch::default();
        for key in self.snapshots.iter().keys() {
            let key = key.map_err(broken)?;
            if key != MANIFEST && !(&own[..]..&next[..]).contains(&&key[..]) {
                dead.remove(key);
            }
        }
        self.snapshots.apply_batch(dead).map_err(broken)
    }

    /// The durability barrier.
    fn sync(&self) -> io::Result<()> {
        self.db.flush().map_err(broken)?;
        self.barrier.sync_data()?;
        self.check_blobs()
    }

    /// sled never syncs its blob files: none may exist. If one does, it is synced here and said aloud.
    fn check_blobs(&self) -> io::Result<()> {
        let folder = self.folder.join("blobs");
        let Ok(entries) = std::fs::read_dir(&folder) else { return Ok(()) };
        let mut found = 0;
        for entry in entries {
            File::open(entry?.path())?.sync_all()?;
            found += 1;
        }
        if found > 0 {
            durable::sync_folder(&folder)?;
            tracing::error!(found, folder = %folder.display(), "sled wrote blob files; they were synced");
        }
        Ok(())
    }

    /// Parts of snapshots that are stored, whether they are named or not.
    #[cfg(test)]
    pub(super) fn snapshot_parts(&self) -> usize {
        self.snapshots.len().saturating_sub(1)
    }

    fn load_entries(&self) -> Result<Vec<(u64, Vec<u8>)>, String> {
        let mut entries: Vec<(u64, Vec<u8>)> = Vec::new();
        let mut pending: Option<(u64, u32, u32, Vec<u8>)> = None;
        for pair in self.log.iter() {
            let (key, value) = pair.map_err(|error| error.to_string())?;
            let (index, number) = read_entry_key(&key)?;
            let (count, part) = value.split_at_checked(4).ok_or("a part of an entry is too short")?;
            let count = u32::from_be_bytes([count[0], count[1], count[2], count[3]]);
            let (next, mut bytes) = match pending.take() {
                Some((at, next, of, bytes)) if at == index && of == count => (next, bytes),
                None => (0, Vec::new()),
                Some((at, ..)) => return Err(format!("entry {at} of the log lacks parts")),
            };
            if number != next {
                return Err(format!("entry {index} of the log lacks part {next}"));
            }
            bytes.extend_from_slice(part);
            if number + 1 < count {
                pending = Some((index, number + 1, count, bytes));
                continue;
            }
            let opened = record::open(&bytes).map_err(|what| format!("entry {index} of the log: {what}"))?;
            if let Some((last, _)) = entries.last().filter(|(last, _)| last + 1 != index) {
                return Err(format!("the log has a hole between {last} and {index}"));
            }
            entries.push((index, opened.to_vec()));
        }
        match pending {
            Some((at, ..)) => Err(format!("entry {at} of the log lacks parts")),
            None => Ok(entries),
        }
    }

    fn load_snapshot(&self) -> Result<Option<Vec<u8>>, String> {
        let Some(sealed) = self.snapshots.get(MANIFEST).map_err(|error| error.to_string())? else {
            return Ok(None);
        };
        let manifest = Manifest::decode(&sealed)?;
        let mut bytes = Vec::new();
        for number in 0..manifest.count {
            let part = self
                .snapshots
                .get(part_key(manifest.id, number))
                .map_err(|error| error.to_string())?
                .ok_or_else(|| format!("the snapshot lacks part {number}"))?;
            bytes.extend_from_slice(record::open(&part)?);
        }
        if <[u8; 32]>::from(Sha256::digest(&bytes)) != manifest.digest {
            return Err("the snapshot's digest is wrong".to_owned());
        }
        Ok(Some(bytes))
    }

    fn load_values(&self) -> Result<BTreeMap<String, Vec<u8>>, String> {
        let mut values = BTreeMap::new();
        for pair in self.values.iter() {
            let (key, value) = pair.map_err(|error| error.to_string())?;
            let name = String::from_utf8_lossy(&key).into_owned();
            let bytes = record::open(&value).map_err(|what| format!("value {name}: {what}"))?;
            values.insert(name, bytes.to_vec());
        }
        Ok(values)
    }
}

impl Disk for SledDisk {
    fn load(&mut self) -> Result<Loaded, DiskError> {
        let load = || -> Result<Loaded, String> {
            Ok(Loaded {
                entries: self.load_entries()?,
                values: self.load_values()?,
                snapshot: self.load_snapshot()?,
            })
        };
        load().map_err(|what| damaged(&self.folder, what))
    }

    fn commit(&mut self, writes: &[Write]) -> io::Result<()> {
        self.has_failed = true;
        self.write(writes)?;
        self.has_failed = false;
        Ok(())
    }
}

impl SledDisk {
    fn write(&mut self, writes: &[Write]) -> io::Result<()> {
        let mut appended = ::sled::Batch::default();
        for write in writes {
            if let Write::Append { index, bytes } = write {
                self.put_entry(&mut appended, *index, bytes);
                continue;
            }
            self.log.apply_batch(std::mem::take(&mut appended)).map_err(broken)?;
            match write {
                Write::Append { .. } => {}
                Write::TruncateFrom(index) => self.remove(entry_key(*index, 0)..)?,
                Write::PurgeTo(index) => self.remove(..=entry_key(*index, u32::MAX))?,
                Write::Put { key, bytes } => {
                    self.values.insert(key, record::seal(bytes)).map_err(broken)?;
                }
                Write::Snapshot(bytes) => self.put_snapshot(bytes)?,
            }
        }
        self.log.apply_batch(appended).map_err(broken)?;
        let number = self.commits + 1;
        self.db.insert(COMMITS, record::seal(&number.to_be_bytes())).map_err(broken)?;
        self.sync()?;
        self.commits = number;
        self.mark.set(number)
    }
}

type Opened = (::sled::Db, [::sled::Tree; 3]);

fn open_database(folder: &Path) -> Result<Opened, ::sled::Error> {
    let db = ::sled::Config::new()
        .path(folder)
        .flush_every_ms(None)
        .segment_size(SEGMENT_BYTES)
        .cache_capacity(CACHE_BYTES)
        .mode(::sled::Mode::HighThroughput)
        .open()?;
    let trees = [db.open_tree("log")?, db.open_tree("values")?, db.open_tree("snapshots")?];
    db.flush()?;
    Ok((db, trees))
}

/// Opens once the lock of an earlier owner is gone: sled gives it back a moment after its last handle.
fn open_unlocked(folder: &Path) -> Result<Opened, DiskError> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match open_database(folder) {
            Ok(opened) => return Ok(opened),
            Err(::sled::Error::Io(error)) if error.to_string().contains("could not acquire lock") => {
                if Instant::now() >= deadline {
                    return Err(DiskError::Locked { path: folder.to_owned() });
                }
                std::thread::sleep(LOCK_RETRY);
            }
            Err(::sled::Error::Io(source)) => return Err(DiskError::Io { path: folder.to_owned(), source }),
            Err(other) => return Err(damaged(folder, format!("sled says: {other}"))),
        }
    }
}

/// Makes the database under another name and renames it once all of it is durable.
fn make(folder: &Path) -> Result<(), DiskError> {
    let failed = |source| DiskError::Io { path: folder.to_owned(), source };
    let unfinished = folder.with_extension("unfinished");
    if unfinished.try_exists().map_err(failed)? {
        fs::remove_dir_all(&unfinished).map_err(failed)?;
    }
    durable::create_folder(&unfinished).map_err(failed)?;
    drop(open_unlocked(&unfinished)?);
    // sled is done with its files once its lock is free.
    drop(lock(&unfinished.join("db"))?);
    sync_made(&unfinished).and_then(|()| Mark::make(&unfinished)).map_err(failed)?;
    fs::rename(&unfinished, folder).map_err(failed)?;
    durable::create_folder(folder).map_err(failed)
}

/// Removes what a kill or a power cut left of a checkpoint that sled was writing as it opened. sled means to pass over
/// such files and looks for another ending, so it would take one for its newest and refuse to open.
fn remove_unfinished(folder: &Path) -> Result<(), DiskError> {
    let failed = |source| DiskError::Io { path: folder.to_owned(), source };
    // Not while another process writes one.
    let _lock = lock(&folder.join("db"))?;
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "generating") {
            fs::remove_file(&path).map_err(failed)?;
        }
    }
    Ok(())
}

/// Makes durable what sled makes without syncing it.
fn sync_made(folder: &Path) -> io::Result<()> {
    for name in ["db", "conf"] {
        File::open(folder.join(name))?.sync_all()?;
    }
    durable::create_folder(&folder.join("blobs"))
}

fn read_commits(db: &::sled::Db) -> Result<u64, String> {
    let Some(sealed) = db.get(COMMITS).map_err(|error| error.to_string())? else { return Ok(0) };
    let number = record::open(&sealed)?;
    Ok(u64::from_be_bytes(number.try_into().map_err(|_| "the number of commits has a wrong length")?))
}

fn damaged(folder: &Path, what: String) -> DiskError {
    DiskError::Damaged { path: folder.to_owned(), what }
}

fn entry_key(index: u64, part: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&index.to_be_bytes());
    key[8..].copy_from_slice(&part.to_be_bytes());
    key
}

fn read_entry_key(key: &[u8]) -> Result<(u64, u32), String> {
    let key: [u8; 12] = key.try_into().map_err(|_| "a key of the log has a wrong length".to_owned())?;
    let [a, b, c, d, e, f, g, h, i, j, k, l] = key;
    Ok((u64::from_be_bytes([a, b, c, d, e, f, g, h]), u32::from_be_bytes([i, j, k, l])))
}

fn part_key(id: u64, number: u32) -> [u8; 12] {
    entry_key(id, number)
}

/// Names the parts of a complete snapshot.
#[derive(Clone, Copy)]
struct Manifest {
    id: u64,
    count: u32,
    digest: [u8; 32],
}

impl Manifest {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = self.id.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.count.to_be_bytes());
        bytes.extend_from_slice(&self.digest);
        record::seal(&bytes)
    }

    fn decode(sealed: &[u8]) -> Result<Self, String> {
        let bytes = record::open(sealed).map_err(|what| format!("the snapshot's manifest: {what}"))?;
        let wrong = || "the snapshot's manifest has a wrong length".to_owned();
        let (key, digest) = bytes.split_at_checked(12).ok_or_else(wrong)?;
        let (id, count) = read_entry_key(key)?;
        Ok(Self { id, count, digest: digest.try_into().map_err(|_| wrong())? })
    }
}
