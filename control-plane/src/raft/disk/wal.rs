//! A disk of plain files: the control for sled, and the way out.
//!
//! `log` is a sequence of frames, each with a length, a checksum and one write; it is rewritten when most of it is
//! dead. `snapshot` is one frame. Files are made whole under another name, synced and renamed.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::{Disk, DiskError, Loaded, Write, create_durable_folder, record, sync_folder};

/// The log is rewritten once it is this long and its live part is less than a quarter.
const REWRITE_BYTES: u64 = 16 << 20;
/// No frame is longer: a length beyond it is damage, not a frame.
const FRAME_MAX_BYTES: usize = 64 << 20;

const APPEND: u8 = 1;
const TRUNCATE: u8 = 2;
const PURGE: u8 = 3;
const PUT: u8 = 4;

/// The disk.
pub struct WalDisk {
    folder: PathBuf,
    log: File,
    length: u64,
    entries: BTreeMap<u64, Vec<u8>>,
    values: BTreeMap<String, Vec<u8>>,
    live_bytes: u64,
}

impl WalDisk {
    /// Opens, or makes, the files in `folder`.
    pub fn open(folder: &Path) -> Result<Self, DiskError> {
        create_durable_folder(folder)?;
        let path = folder.join("log");
        let failed = |source| DiskError::Io { path: path.clone(), source };
        let log = OpenOptions::new().create(true).append(true).read(true).open(&path).map_err(failed)?;
        log.sync_all().map_err(failed)?;
        sync_folder(folder).map_err(failed)?;
        let mut disk = Self {
            folder: folder.to_owned(),
            log,
            length: 0,
            entries: BTreeMap::new(),
            values: BTreeMap::new(),
            live_bytes: 0,
        };
        disk.replay(&path)?;
        Ok(disk)
    }

    fn replay(&mut self, path: &Path) -> Result<(), DiskError> {
        let failed = |source| DiskError::Io { path: path.to_owned(), source };
        let damaged = |what| DiskError::Damaged { path: path.to_owned(), what };
        let bytes = fs::read(path).map_err(failed)?;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            match take_frame(rest) {
                Ok((frame, after)) => {
                    self.replay_write(frame).map_err(damaged)?;
                    rest = after;
                }
                // An unfinished last write was never acknowledged: it is cut off. A broken frame with sound ones
                // behind it is damage to what was acknowledged.
                Err(what) if has_frame_behind(rest) => return Err(damaged(what)),
                Err(_) => break,
            }
        }
        self.length = (bytes.len() - rest.len()) as u64;
        if !rest.is_empty() {
            self.log.set_len(self.length).map_err(failed)?;
            self.log.sync_all().map_err(failed)?;
        }
        Ok(())
    }

    fn replay_write(&mut self, frame: &[u8]) -> Result<(), String> {
        let (kind, body) = frame.split_first().ok_or("an empty frame")?;
        let number = |bytes: &[u8]| -> Result<u64, String> {
            let bytes: [u8; 8] = bytes.try_into().map_err(|_| "a frame has a wrong length".to_owned())?;
            Ok(u64::from_be_bytes(bytes))
        };
        match *kind {
            APPEND => {
                let (index, bytes) = body.split_at_checked(8).ok_or("a frame is too short")?;
                let index = number(index)?;
                if let Some((last, _)) = self.entries.last_key_value().filter(|(last, _)| **last + 1 != index) {
                    return Err(format!("the log goes from {last} to {index}"));
                }
                self.insert(index, bytes.to_vec());
            }
            TRUNCATE => self.truncate(number(body)?),
            PURGE => self.purge(number(body)?),
            PUT => {
                let (length, rest) = body.split_first().ok_or("a frame is too short")?;
                let (key, bytes) = rest.split_at_checked(usize::from(*length)).ok_or("a frame is too short")?;
                self.values.insert(String::from_utf8_lossy(key).into_owned(), bytes.to_vec());
            }
            other => return Err(format!("a frame of unknown kind {other}")),
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

    fn rewrite(&mut self) -> io::Result<()> {
        let mut bytes = Vec::new();
        for (key, value) in &self.values {
            frame(&mut bytes, &encode_put(key, value));
        }
        for (index, entry) in &self.entries {
            frame(&mut bytes, &encode_append(*index, entry));
        }
        write_whole(&self.folder, "log", &bytes)?;
        self.log = OpenOptions::new().append(true).read(true).open(self.folder.join("log"))?;
        self.length = bytes.len() as u64;
        Ok(())
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
        let mut bytes = Vec::new();
        for write in writes {
            match write {
                Write::Append { index, bytes: entry } => {
                    frame(&mut bytes, &encode_append(*index, entry));
                    self.insert(*index, entry.clone());
                }
                Write::TruncateFrom(from) => {
                    frame(&mut bytes, &encode_number(TRUNCATE, *from));
                    self.truncate(*from);
                }
                Write::PurgeTo(to) => {
                    frame(&mut bytes, &encode_number(PURGE, *to));
                    self.purge(*to);
                }
                Write::Put { key, bytes: value } => {
                    frame(&mut bytes, &encode_put(key, value));
                    self.values.insert((*key).to_owned(), value.clone());
                }
                Write::Snapshot(snapshot) => {
                    write_whole(&self.folder, "snapshot", &record::seal(snapshot))?;
                }
            }
        }
        if !bytes.is_empty() {
            self.log.write_all(&bytes)?;
            self.log.sync_data()?;
            self.length += bytes.len() as u64;
        }
        if self.length > REWRITE_BYTES && self.live_bytes < self.length / 4 {
            self.rewrite()?;
        }
        Ok(())
    }
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

fn frame(out: &mut Vec<u8>, bytes: &[u8]) {
    let sealed = record::seal(bytes);
    // Entries are bounded far below 4 GiB before they get here.
    let length = u32::try_from(sealed.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&sealed);
}

fn take_frame(bytes: &[u8]) -> Result<(&[u8], &[u8]), String> {
    let (length, rest) = bytes.split_at_checked(4).ok_or("a frame's length is cut")?;
    let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
    if length > FRAME_MAX_BYTES {
        return Err(format!("a frame of {length} bytes"));
    }
    let (sealed, rest) = rest.split_at_checked(length).ok_or("a frame is cut")?;
    Ok((record::open(sealed)?, rest))
}

/// Whether a sound frame starts anywhere behind the first byte.
fn has_frame_behind(bytes: &[u8]) -> bool {
    (1..bytes.len()).any(|start| matches!(take_frame(&bytes[start..]), Ok((frame, _)) if !frame.is_empty()))
}

fn write_whole(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let partial = folder.join(format!("{name}.partial"));
    let mut file = File::create(&partial)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&partial, folder.join(name))?;
    sync_folder(folder)
}
