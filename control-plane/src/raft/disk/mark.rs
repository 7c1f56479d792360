//! How far a disk is known to have come, kept beside it.
//!
//! A log that rotted looks like one whose end was never finished: sled drops everything behind a flipped bit, and a log
//! of plain files drops its last block, without a word. So the number of the last durable commit is written into a file
//! of its own once the commit is durable. It is not synced: after a power cut it may be behind, never ahead. A disk that
//! has come less far than its mark has lost what was acknowledged.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::DiskError;
use crate::durable;

const NAME: &str = "mark";
/// Two slots are written in turn, each within a sector of its own: one of them is always whole.
const SLOT_BYTES: usize = 512;
const NUMBER_BYTES: usize = 8;

/// The mark of a disk.
#[derive(Debug)]
pub struct Mark {
    file: File,
    path: PathBuf,
    number: u64,
}

impl Mark {
    /// Makes the mark of a new disk in `folder`.
    pub fn make(folder: &Path) -> io::Result<()> {
        let mut bytes = slot(0);
        bytes.extend(slot(0));
        durable::replace(&folder.join(NAME), &bytes)
    }

    /// Whether `folder` has a mark.
    pub fn is_in(folder: &Path) -> io::Result<bool> {
        folder.join(NAME).try_exists()
    }

    /// Opens the mark of the disk in `folder`.
    pub fn open(folder: &Path) -> Result<Self, DiskError> {
        let path = folder.join(NAME);
        let failed = |source| DiskError::Io { path: path.clone(), source };
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(failed)?;
        let mut bytes = [0; 2 * SLOT_BYTES];
        let read = file.read_exact_at(&mut bytes, 0);
        let (first, second) = bytes.split_at(SLOT_BYTES);
        match read.map(|()| read_slot(first).max(read_slot(second))) {
            Ok(Some(number)) => Ok(Self { file, path, number }),
            Ok(None) => Err(DiskError::Damaged { path, what: "none of its slots is whole".to_owned() }),
            Err(source) => Err(DiskError::Io { path, source }),
        }
    }

    /// Refuses a disk that has come to commit `found` only.
    pub fn check(&self, found: u64) -> Result<(), DiskError> {
        if found >= self.number {
            return Ok(());
        }
        let what = format!("commit {} was acknowledged, and {found} is the last that is there", self.number);
        Err(DiskError::Damaged { path: self.path.clone(), what })
    }

    /// Commit `number` is durable.
    pub fn set(&mut self, number: u64) -> io::Result<()> {
        let at = if number.is_multiple_of(2) { 0 } else { SLOT_BYTES as u64 };
        self.file.write_all_at(&slot(number)[..NUMBER_BYTES + 4], at)?;
        self.number = number;
        Ok(())
    }
}

fn slot(number: u64) -> Vec<u8> {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_be_bytes());
    bytes.resize(SLOT_BYTES, 0);
    bytes
}

fn read_slot(bytes: &[u8]) -> Option<u64> {
    let (number, rest) = bytes.split_first_chunk::<NUMBER_BYTES>()?;
    (rest.get(..4)? == crc32c::crc32c(number).to_be_bytes()).then(|| u64::from_be_bytes(*number))
}
