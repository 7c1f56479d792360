//! A disk of plain files: the control for sled, and the way out.
//!
//! `log` begins with a salt; behind it stands one block for each commit, with its number, a checksum over the salt and
//! all of it, and its writes. Block n is written once block n - 1 is durable, which is how damage is told from a power
//! cut: a broken block that a later one stands behind was acknowledged, a broken last one never was. The salt keeps
//! bytes that a client chose from passing for a block. `log` is rewritten when most of it is dead; `snapshot` is one
//! record.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::mark::Mark;
use super::{Disk, DiskError, Loaded, Write, lock, record};
use crate::durable;

/// The log is rewritten once it is this long and its live part is less than a quarter.
const REWRITE_BYTES: u64 = 16 << 20;

const FILE_MAGIC: &[u8; 8] = b"weftlog1";
const BLOCK_MAGIC: &[u8; 4] = b"WBLK";
/// Magic, salt, the number of the block before the first, checksum: a salt that rotted would make every block look like
/// one that was never finished.
const PREAMBLE_BYTES: usize = 36;
/// Magic, number, length, checksum.
const HEADER_BYTES: usize = 24;

const APPEND: u8 = 1;
const TRUNCATE: u8 = 2;
const PURGE: u8 = 3;
const PUT: u8 = 4;

/// The disk.
pub struct WalDisk {
    folder: PathBuf,
    log: File,
    /// The checksum of the salt, which that of every block goes on from.
    salt: u32,
    /// The number of the last block: it goes on when the log is rewritten.
    blocks: u64,
    mark: Mark,
    length: u64,
    entries: BTreeMap<u64, Vec<u8>>,
    values: BTreeMap<String, Vec<u8>>,
    live_bytes: u64,
    /// Keeps a second process out as long as this one lives.
    _lock: File,
}

impl WalDisk {
    /// Opens, or makes, the files in `folder`.
    pub fn open(folder: &Path) -> Result<Self, DiskError> {
        durable::create_folder(folder).map_err(|source| DiskError::Io { path: folder.to_owned(), source })?;
        let lock = lock(&folder.join("lock"))?;
        let path = folder.join("log");
        let failed = |source| DiskError::Io { path: path.clone(), source };
        if !path.try_exists().map_err(failed)? && !Mark::is_in(folder).map_err(failed)? {
            Mark::make(folder).map_err(failed)?;
        }
        let mark = Mark::open(folder)?;
        if !path.try_exists().map_err(failed)? {
            // Only a disk that never held anything may lack its log.
            mark.check(0)?;
            durable::replace(&path, &preamble(0).0).map_err(failed)?;
        }
        let log = OpenOptions::new().append(true).read(true).open(&path).map_err(failed)?;
        let mut disk = Self {
            folder: folder.to_owned(),
            log,
            salt: 0,
            blocks: 0,
            mark,
            length: 0,
            entries: BTreeMap::new(),
            values: BTreeMap::new(),
            live_bytes: 0,
            _lock: lock,
        };
        disk.replay(&path)?;
        Ok(disk)
    }

    fn replay(&mut self, path: &Path) -> Result<(), DiskError> {
        let failed = |source| DiskError::Io { path: path.to_owned(), source };
        let damaged = |what: String| DiskError::Damaged { path: path.to_owned(), what };
        let bytes = fs::read(path).map_err(failed)?;
        let (start, mut rest) = bytes
            .split_at_checked(PREAMBLE_BYTES)
            .filter(|(start, _)| start.starts_with(FILE_MAGIC))
            .ok_or_else(|| damaged("it does not begin as a log of this format".to_owned()))?;
        let broken = || damaged("its first bytes are broken".to_owned());
        (self.salt, self.blocks) = read_preamble(start).ok_or_else(broken)?;
        while !rest.is_empty() {
            let Some((body, after)) = take_block(rest, self.salt, |number| number == self.blocks + 1) else {
                if has_later_block(rest, self.salt, self.blocks + 1) {
                    return Err(damaged(format!("block {} is broken", self.blocks + 1)));
                }
                break;
            };
            self.replay_block(body).map_err(damaged)?;
            self.blocks += 1;
            rest = after;
        }
        self.mark.check(self.blocks)?;
        self.length = (bytes.len() - rest.len()) as u64;
        if !rest.is_empty() {
            // The unfinished last block was never acknowledged.
            self.log.set_len(self.length).map_err(failed)?;
        }
        // A run that was killed may have left blocks that are read here and not yet durable.
        self.log.sync_all().map_err(failed)
    }

    fn replay_block(&mut self, mut body: &[u8]) -> Result<(), String> {
        while !body.is_empty() {
            let (length, rest) = body.split_at_checked(4).ok_or("a write is too short")?;
            let length = u32::from_be_bytes(length.try_into().map_err(|_| "a write is too short")?) as usize;
            let (write, rest) = rest.split_at_checked(length).ok_or("a write is too short")?;
            self.replay_write(write)?;
            body = rest;
        }
        Ok(())
    }

    fn replay_write(&mut self, write: &[u8]) -> Result<(), String> {
        let (kind, body) = write.split_first().ok_or("an empty write")?;
        let number = |bytes: &[u8]| -> Result<u64, String> {
            let bytes: [u8; 8] = bytes.try_into().map_err(|_| "a write has a wrong length".to_owned())?;
            Ok(u64::from_be_bytes(bytes))
        };
        match *kind {
            APPEND => {
                let (index, bytes) = body.split_at_checked(8).ok_or("a write is too short")?;
                let index = number(index)?;
                if let Some((last, _)) = self.entries.last_key_value().filter(|(last, _)| **last + 1 != index) {
                    return Err(format!("the log goes from {last} to {index}"));
                }
                self.insert(index, bytes.to_vec());
            }
            TRUNCATE => self.truncate(number(body)?),
            PURGE => self.purge(number(body)?),
            PUT => {
                let (length, rest) = body.split_first().ok_or("a write is too short")?;
                let (key, bytes) = rest.split_at_checked(usize::from(*length)).ok_or("a write is too short")?;
                self.values.insert(String::from_utf8_lossy(key).into_owned(), bytes.to_vec());
            }
            other => return Err(format!("a write of unknown kind {other}")),
        }
        Ok(())
    }

    fn insert(&mut self, index: u64, bytes: Vec<u8>) {
        self.live_bytes += bytes.len() as u64;
        self.entries.insert(index, bytes);
    }

    fn truncate(&mut self, from: u64) {
        for (_, bytes) in self.entries.split_off(&from) {
            self.live_bytes -= bytes.len() as u64;
        }
    }

    fn purge(&mut self, to: u64) {
        let kept = self.entries.split_off(&(to.saturating_add(1)));
        for (_, bytes) in std::mem::replace(&mut self.entries, kept) {
            self.live_bytes -= bytes.len() as u64;
        }
    }

    fn write_block(&mut self, body: &[u8]) -> io::Result<()> {
        if body.is_empty() {
            return Ok(());
        }
        let block = block(self.salt, self.blocks + 1, body);
        self.log.write_all(&block)?;
        self.log.sync_data()?;
        self.blocks += 1;
        self.length += block.len() as u64;
        self.mark.set(self.blocks)
    }

    fn rewrite(&mut self) -> io::Result<()> {
        let (mut bytes, salt) = preamble(self.blocks);
        let mut body = Vec::new();
        for (key, value) in &self.values {
            push(&mut body, &encode_put(key, value))?;
        }
        for (index, entry) in &self.entries {
            push(&mut body, &encode_append(*index, entry))?;
        }
        bytes.extend_from_slice(&block(salt, self.blocks + 1, &body));
        let path = self.folder.join("log");
        durable::replace(&path, &bytes)?;
        self.log = OpenOptions::new().append(true).read(true).open(path)?;
        self.salt = salt;
        self.blocks += 1;
        self.length = bytes.len() as u64;
        self.mark.set(self.blocks)
    }
}

impl Disk for WalDisk {
    fn load(&mut self) -> Result<Loaded, DiskError> {
        let path = self.folder.join("snapshot");
        let snapshot = match fs::read(&path) {
            Ok(sealed) => {
                let opened =
                    record::open(&sealed).map_err(|what| DiskError::Damaged { path: path.clone(), what })?;
                Some(opened.to_vec())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(DiskError::Io { path, source }),
        };
        Ok(Loaded {
            entries: self.entries.iter().map(|(index, bytes)| (*index, bytes.clone())).collect(),
            values: self.values.clone(),
            snapshot,
        })
    }

    fn commit(&mut self, writes: &[Write]) -> io::Result<()> {
        let mut body = Vec::new();
        for write in writes {
            match write {
                Write::Append { index, bytes: entry } => {
                    push(&mut body, &encode_append(*index, entry))?;
                    self.insert(*index, entry.clone());
                }
                Write::TruncateFrom(from) => {
                    push(&mut body, &encode_number(TRUNCATE, *from))?;
                    self.truncate(*from);
                }
                Write::PurgeTo(to) => {
                    push(&mut body, &encode_number(PURGE, *to))?;
                    self.purge(*to);
                }
                Write::Put { key, bytes: value } => {
                    push(&mut body, &encode_put(key, value))?;
                    self.values.insert((*key).to_owned(), value.clone());
                }
                Write::Snapshot(snapshot) => {
                    // In order: what stands before it is durable first.
                    self.write_block(&std::mem::take(&mut body))?;
                    durable::replace(&self.folder.join("snapshot"), &record::seal(snapshot))?;
                }
            }
        }
        self.write_block(&body)?;
        if self.length > REWRITE_BYTES && self.live_bytes < self.length / 4 {
            self.rewrite()?;
        }
        Ok(())
    }
}

/// The first bytes of a log whose first block comes behind block `before`, and their checksum, which those of the blocks
/// go on from.
fn preamble(before: u64) -> (Vec<u8>, u32) {
    let mut bytes = FILE_MAGIC.to_vec();
    bytes.extend_from_slice(Uuid::new_v4().as_bytes());
    bytes.extend_from_slice(&before.to_be_bytes());
    let salt = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&salt.to_be_bytes());
    (bytes, salt)
}

/// The checksum of a preamble and the block that the log comes behind, if it is sound.
fn read_preamble(preamble: &[u8]) -> Option<(u32, u64)> {
    let (start, checksum) = preamble.split_last_chunk::<4>()?;
    let (_, before) = start.split_last_chunk::<8>()?;
    let salt = crc32c::crc32c(start);
    (*checksum == salt.to_be_bytes()).then(|| (salt, u64::from_be_bytes(*before)))
}

fn encode_append(index: u64, entry: &[u8]) -> Vec<u8> {
    let mut bytes = encode_number(APPEND, index);
    bytes.extend_from_slice(entry);
    bytes
}

fn encode_number(kind: u8, number: u64) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes
}

fn encode_put(key: &str, value: &[u8]) -> Vec<u8> {
    // The keys are constants of this crate, far shorter than 256 bytes.
    let length = u8::try_from(key.len()).unwrap_or(u8::MAX);
    let mut bytes = vec![PUT, length];
    bytes.extend_from_slice(&key.as_bytes()[..usize::from(length)]);
    bytes.extend_from_slice(value);
    bytes
}

fn push(body: &mut Vec<u8>, write: &[u8]) -> io::Result<()> {
    let length = u32::try_from(write.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a write of 4 GiB or more"))?;
    body.extend_from_slice(&length.to_be_bytes());
    body.extend_from_slice(write);
    Ok(())
}

fn block(salt: u32, number: u64, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    bytes.extend_from_slice(BLOCK_MAGIC);
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.extend_from_slice(&(body.len() as u64).to_be_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c_append(salt, &bytes), body);
    bytes.extend_from_slice(&checksum.to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// The body of a sound block at the start of `bytes` whose number is wanted, and what stands behind it.
fn take_block(bytes: &[u8], salt: u32, wanted: impl FnOnce(u64) -> bool) -> Option<(&[u8], &[u8])> {
    let (header, rest) = bytes.split_at_checked(HEADER_BYTES)?;
    let number = u64::from_be_bytes(header[4..12].try_into().ok()?);
    if !header.starts_with(BLOCK_MAGIC) || !wanted(number) {
        return None;
    }
    let length = usize::try_from(u64::from_be_bytes(header[12..20].try_into().ok()?)).ok()?;
    let (body, rest) = rest.split_at_checked(length)?;
    let checksum = crc32c::crc32c_append(crc32c::crc32c_append(salt, &header[..20]), body);
    (header[20..] == checksum.to_be_bytes()).then_some((body, rest))
}

/// Whether a sound block with a number above `broken` starts anywhere behind the first byte.
fn has_later_block(bytes: &[u8], salt: u32, broken: u64) -> bool {
    (1..bytes.len()).any(|start| take_block(&bytes[start..], salt, |number| number > broken).is_some())
}
