//! The data directory: whose it is, and a lock so that two agents never share one.
//!
//! Knows nothing of what else is kept there.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use model::name::NodeName;
use serde::{Deserialize, Serialize};

use crate::durable;

const LOCK_FILE: &str = "lock";
const NODE_FILE: &str = "node.json";

/// A data directory that belongs to this agent alone for as long as this value lives.
#[derive(Debug)]
pub struct DataDir {
    /// Held, not used: the system frees the lock when the process ends, however it ends.
    _lock: File,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another agent runs on it.
    #[error("{} is in use by another agent: stop it, or give this one its own --data-dir", .folder.display())]
    InUse {
        /// The data directory.
        folder: PathBuf,
    },
    /// It was made for another node.
    #[error(
        "{} belongs to node `{found}`, not `{expected}`: give this node its own --data-dir, or start it as --name \
         {found}", .folder.display()
    )]
    OtherNode {
        /// The data directory.
        folder: PathBuf,
        /// The node it belongs to.
        found: NodeName,
        /// The node that was to be started.
        expected: NodeName,
    },
    /// The file that says whose it is cannot be understood.
    #[error(
        "{} is damaged: restore it, or remove the whole data directory to join as a new node", .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// It cannot be read or written.
    #[error("cannot use {}: check that it is a folder this user may write to, on a disk with room", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    node: NodeName,
}

impl DataDir {
    /// Takes `folder` for `node`; makes it if there is none.
    pub fn open(folder: &Path, node: &NodeName) -> Result<Self, DataDirError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| DataDirError::Io { path, source }
        };
        durable::create_folder(folder).map_err(at(folder))?;
        let lock_path = folder.join(LOCK_FILE);
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(at(&lock_path))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => DataDirError::InUse { folder: folder.to_owned() },
            TryLockError::Error(source) => DataDirError::Io { path: lock_path.clone(), source },
        })?;

        let path = folder.join(NODE_FILE);
        let stored = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice::<Stored>(&bytes)
                .map_err(|source| DataDirError::Damaged { path: path.clone(), source })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let stored = Stored { node: node.clone() };
                let bytes = serde_json::to_vec(&stored)
                    .map_err(|source| DataDirError::Damaged { path: path.clone(), source })?;
                durable::replace(&path, &bytes).map_err(at(&path))?;
                stored
            }
            Err(source) => return Err(DataDirError::Io { path, source }),
        };
        if stored.node != *node {
            return Err(DataDirError::OtherNode {
                folder: folder.to_owned(),
                found: stored.node,
                expected: node.clone(),
            });
        }
        Ok(Self { _lock: lock })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn one_folder_is_one_node_and_one_agent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let (one, two): (NodeName, NodeName) = ("one".parse().unwrap(), "two".parse().unwrap());

        let first = DataDir::open(&path, &one).unwrap();
        assert!(matches!(DataDir::open(&path, &one), Err(DataDirError::InUse { .. })));
        drop(first);

        let Err(error) = DataDir::open(&path, &two) else { panic!("another node took the folder") };
        assert!(error.to_string().contains("belongs to node `one`"), "{error}");
        drop(DataDir::open(&path, &one).unwrap());

        std::fs::write(path.join(NODE_FILE), "{").unwrap();
        assert!(matches!(DataDir::open(&path, &one), Err(DataDirError::Damaged { .. })));
    }
}
