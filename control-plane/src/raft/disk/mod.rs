//! What a member keeps on disk, behind one trait with two implementations.
//!
//! A [`Disk`] is owned by one operating-system thread, the [`Writer`], which takes whatever is queued, commits it
//! with one barrier, and answers in order. No call of a disk runs on an async worker.

pub mod record;
mod sled;
mod wal;
mod writer;

use std::io;
use std::path::{Path, PathBuf};

pub use sled::SledDisk;
pub use wal::WalDisk;
pub use writer::{Done, Writer};

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

    /// Does all of `writes`, in order. They survive a power cut once this has returned `Ok`.
    ///
    /// After an error the disk must not be used again: what is on it is unknown until it is opened anew.
    fn commit(&mut self, writes: &[Write]) -> io::Result<()>;
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
    let folder = folder.join(name);
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

/// Makes a folder and makes its entry in its parent durable.
pub(crate) fn create_durable_folder(folder: &Path) -> Result<(), DiskError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| DiskError::Io { path, source }
    };
    std::fs::create_dir_all(folder).map_err(failed(folder))?;
    sync_folder(folder).map_err(failed(folder))?;
    if let Some(parent) = folder.parent() {
        sync_folder(parent).map_err(failed(parent))?;
    }
    Ok(())
}

/// Makes the entries of a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests;
