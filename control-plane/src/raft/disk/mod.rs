//! What a member keeps on disk, behind one trait with two implementations.
//!
//! A [`Disk`] is owned by one operating-system thread, the [`Writer`], which takes whatever is queued, commits it
//! with one barrier, and answers in order. No call of a disk runs on an async worker.

mod mark;
pub mod record;
mod sled;
mod wal;
mod writer;

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use sled::SledDisk;
pub use wal::WalDisk;
pub use writer::{Done, Writer};

/// How long an earlier owner of a disk may take to give it back: a process that was just killed, a member that stops.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// What one commit changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Puts an entry at the end of the log.
    Append {
        /// Its place.
        index: u64,
        /// Its encoded form.
        bytes: Vec<u8>,
    },
    /// Removes all entries from this place on.
    TruncateFrom(u64),
    /// Removes all entries up to and with this place.
    PurgeTo(u64),
    /// Keeps a small value under a name.
    Put {
        /// The name.
        key: &'static str,
        /// The value.
        bytes: Vec<u8>,
    },
    /// Replaces the snapshot.
    Snapshot(std::sync::Arc<Vec<u8>>),
}

impl Write {
    /// Roughly what it brings to the disk.
    fn bytes(&self) -> usize {
        match self {
            Self::Append { bytes, .. } | Self::Put { bytes, .. } => bytes.len(),
            Self::Snapshot(bytes) => bytes.len(),
            Self::TruncateFrom(_) | Self::PurgeTo(_) => 0,
        }
    }
}

/// All that a disk holds, read at start.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The log, by index, without holes.
    pub entries: Vec<(u64, Vec<u8>)>,
    /// The small values.
    pub values: std::collections::BTreeMap<String, Vec<u8>>,
    /// The snapshot.
    pub snapshot: Option<Vec<u8>>,
}

/// Durable storage of one member, used by one thread.
pub trait Disk: Send + 'static {
    /// Reads and verifies everything.
    fn load(&mut self) -> Result<Loaded, DiskError>;

    /// Does all of `writes`, in order. They survive a power cut once this has returned `Ok`; before that, a power cut
    /// leaves the first few of them, or none.
    ///
    /// After an error the disk must not be used again: what is on it is unknown until it is opened anew.
    fn commit(&mut self, writes: &[Write]) -> io::Result<()>;

    /// Says which writes the next commit will have; how long that takes where time is simulated.
    #[cfg(test)]
    fn begin(&mut self, _: &[Write]) -> Duration {
        Duration::ZERO
    }
}

/// Which implementation is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// sled with a durability barrier.
    Sled,
    /// Plain files.
    Wal,
}

/// Opens, or makes, the disk `name` below `folder`.
pub fn open(kind: Kind, folder: &Path, name: &str) -> Result<Box<dyn Disk>, DiskError> {
    #[cfg(test)]
    if let Some(disk) = super::simulation::disk(name) {
        return Ok(disk);
    }
    let folder = folder.join(name);
    let (other, found) = match kind {
        Kind::Sled => ("log", "plain files (--storage wal)"),
        Kind::Wal => ("db", "sled (--storage sled)"),
    };
    if folder.join(other).exists() {
        return Err(DiskError::OtherKind { path: folder, found });
    }
    Ok(match kind {
        Kind::Sled => Box::new(SledDisk::open(&folder)?),
        Kind::Wal => Box::new(WalDisk::open(&folder)?),
    })
}

impl Disk for Box<dyn Disk> {
    fn load(&mut self) -> Result<Loaded, DiskError> {
        (**self).load()
    }

    fn commit(&mut self, writes: &[Write]) -> io::Result<()> {
        (**self).commit(writes)
    }

    #[cfg(test)]
    fn begin(&mut self, writes: &[Write]) -> Duration {
        (**self).begin(writes)
    }
}

/// Why a disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The system refused.
    #[error("cannot use {path}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has it.
    #[error("{path} is in use: another control plane runs on this data directory, and only one may")]
    Locked {
        /// Where.
        path: PathBuf,
    },
    /// It was made by the other implementation.
    #[error("{path} was made with {found}: start with that, or take another data directory")]
    OtherKind {
        /// Where.
        path: PathBuf,
        /// What made it.
        found: &'static str,
    },
    /// What is on the disk is not what was written. A member with such a disk must not vote again under its id.
    #[error(
        "{path} is damaged: {what}. This member must not start from it: set the data directory aside and let the \
         member join again as a new one, or restore a backup"
    )]
    Damaged {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// Locks a file, making it if it is missing, for as long as the file is held; waits for an earlier owner to give it
/// back.
fn lock(path: &Path) -> Result<File, DiskError> {
    let failed = |source| DiskError::Io { path: path.to_owned(), source };
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(failed)?;
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(LOCK_RETRY),
            Err(TryLockError::WouldBlock) => return Err(DiskError::Locked { path: path.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests;
