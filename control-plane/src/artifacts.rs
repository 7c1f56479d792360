//! Artifacts on this member's disk, by content address.
//!
//! `artifacts/<hex>` is complete and verified; `artifacts/partial/<hex>` is an upload under way, which survives a
//! restart and is gone on from its length. Bytes are verified before they get their name, so that a name is proof.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use model::digest::Digest;
use model::graph::{ARTIFACT_MAX, Artifact};
use sha2::{Digest as _, Sha256};

/// The store; a cheap handle.
#[derive(Debug, Clone)]
pub struct ArtifactStore {
    folder: Arc<PathBuf>,
    uploading: Arc<Mutex<BTreeSet<Digest>>>,
}

/// Why an artifact cannot be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// It is larger than an artifact may be.
    #[error("an artifact has at most {ARTIFACT_MAX}, this one has {size} bytes")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
    },
    /// The upload does not go on where the store stands.
    #[error("the store has {stored} bytes of {digest}: go on from there")]
    Offset {
        /// The artifact.
        digest: Digest,
        /// How much is stored.
        stored: u64,
    },
    /// More bytes came than were announced.
    #[error("more bytes came than the {size} that were announced")]
    TooLong {
        /// The announced size.
        size: u64,
    },
    /// The bytes are not those of the digest.
    #[error("the bytes have digest {found}, not {wanted}: what was stored of them is thrown away")]
    Mismatch {
        /// The announced digest.
        wanted: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// Another client uploads the same artifact at this moment.
    #[error("{0} is being uploaded by another client: ask again in a moment")]
    Busy(Digest),
    /// There is no such artifact.
    #[error("artifact {0} is not stored")]
    Missing(Digest),
    /// The disk.
    #[error("cannot use the artifact store at {path}")]
    Disk {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn disk(path: &Path) -> impl FnOnce(io::Error) -> ArtifactError + '_ {
    move |source| ArtifactError::Disk { path: path.to_owned(), source }
}

impl ArtifactStore {
    /// Opens the store below `data_dir`, making its folders.
    pub fn open(data_dir: &Path) -> Result<Self, ArtifactError> {
        let folder = data_dir.join("artifacts");
        let partial = folder.join("partial");
        fs::create_dir_all(&partial).map_err(disk(&partial))?;
        Ok(Self { folder: Arc::new(folder), uploading: Arc::default() })
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.hex())
    }

    fn partial_path(&self, digest: &Digest) -> PathBuf {
        self.folder.join("partial").join(digest.hex())
    }

    /// The size of a complete artifact, or `Err` with the bytes stored so far.
    pub fn stat(&self, digest: &Digest) -> Result<u64, u64> {
        if let Ok(found) = fs::metadata(self.path(digest)) {
            return Ok(found.len());
        }
        Err(fs::metadata(self.partial_path(digest)).map_or(0, |found| found.len()))
    }

    /// Goes on with an upload at `offset`.
    pub fn upload(&self, artifact: Artifact, offset: u64) -> Result<Upload, ArtifactError> {
        if artifact.size > ARTIFACT_MAX.0 {
            return Err(ArtifactError::TooLarge { size: artifact.size });
        }
        let digest = artifact.digest;
        let claim = Claim::take(self, digest).ok_or(ArtifactError::Busy(digest))?;
        let path = self.partial_path(&digest);
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(disk(&path))?;
        let stored = file.seek(SeekFrom::End(0)).map_err(disk(&path))?;
        if stored != offset || stored > artifact.size {
            if stored > artifact.size {
                // Announced with another size before: the bytes cannot be this artifact's.
                fs::remove_file(&path).map_err(disk(&path))?;
            }
            let stored = if stored > artifact.size { 0 } else { stored };
            return Err(ArtifactError::Offset { digest, stored });
        }
        Ok(Upload { store: self.clone(), artifact, file, stored, _claim: claim })
    }

    /// The bytes of a complete artifact, verified.
    pub fn read(&self, digest: &Digest) -> Result<Vec<u8>, ArtifactError> {
        let path = self.path(digest);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ArtifactError::Missing(*digest));
            }
            Err(error) => return Err(disk(&path)(error)),
        };
        let found = Digest::from_bytes(Sha256::digest(&bytes).into());
        if found == *digest { Ok(bytes) } else { Err(ArtifactError::Mismatch { wanted: *digest, found }) }
    }

    /// A complete artifact, opened for reading from `offset` on, and its size.
    pub fn open_at(&self, digest: &Digest, offset: u64) -> Result<(File, u64), ArtifactError> {
        let path = self.path(digest);
        let mut file = File::open(&path).map_err(|_| ArtifactError::Missing(*digest))?;
        let size = file.metadata().map_err(disk(&path))?.len();
        file.seek(SeekFrom::Start(offset.min(size))).map_err(disk(&path))?;
        Ok((file, size))
    }
}

/// An upload under way. Dropping it keeps what came.
#[derive(Debug)]
pub struct Upload {
    store: ArtifactStore,
    artifact: Artifact,
    file: File,
    stored: u64,
    _claim: Claim,
}

impl Upload {
    /// Bytes stored so far.
    pub const fn stored(&self) -> u64 {
        self.stored
    }

    /// Appends a chunk.
    pub fn append(&mut self, chunk: &[u8]) -> Result<(), ArtifactError> {
        let length = chunk.len() as u64;
        if self.stored + length > self.artifact.size {
            return Err(ArtifactError::TooLong { size: self.artifact.size });
        }
        let path = self.store.partial_path(&self.artifact.digest);
        self.file.write_all(chunk).map_err(disk(&path))?;
        self.stored += length;
        Ok(())
    }

    /// Verifies a full upload and gives it its name; answers `false` if bytes are still missing.
    pub fn finish(mut self) -> Result<bool, ArtifactError> {
        if self.stored < self.artifact.size {
            return Ok(false);
        }
        let partial = self.store.partial_path(&self.artifact.digest);
        let found = digest_of(&mut self.file).map_err(disk(&partial))?;
        if found != self.artifact.digest {
            fs::remove_file(&partial).map_err(disk(&partial))?;
            return Err(ArtifactError::Mismatch { wanted: self.artifact.digest, found });
        }
        self.file.sync_all().map_err(disk(&partial))?;
        let path = self.store.path(&self.artifact.digest);
        fs::rename(&partial, &path).map_err(disk(&path))?;
        let folder = self.store.folder.as_path();
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(disk(folder))?;
        Ok(true)
    }
}

fn digest_of(file: &mut File) -> io::Result<Digest> {
    file.seek(SeekFrom::Start(0))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(Digest::from_bytes(hash.finalize().into()));
        }
        hash.update(&buffer[..count]);
    }
}

/// The right to write one partial file.
#[derive(Debug)]
struct Claim {
    uploading: Arc<Mutex<BTreeSet<Digest>>>,
    digest: Digest,
}

impl Claim {
    fn take(store: &ArtifactStore, digest: Digest) -> Option<Self> {
        // A panic while the set was held leaves a set that is still sound.
        let mut uploading = store.uploading.lock().unwrap_or_else(PoisonError::into_inner);
        uploading.insert(digest).then(|| Self { uploading: store.uploading.clone(), digest })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.uploading.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.digest);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn artifact(bytes: &[u8]) -> Artifact {
        Artifact { digest: Digest::from_bytes(Sha256::digest(bytes).into()), size: bytes.len() as u64 }
    }

    #[test]
    fn an_upload_goes_on_where_it_was_cut() {
        let folder = tempfile::tempdir().unwrap();
        let store = ArtifactStore::open(folder.path()).unwrap();
        let artifact = artifact(b"hello world");
        let mut upload = store.upload(artifact, 0).unwrap();
        upload.append(b"hello").unwrap();
        assert!(matches!(store.upload(artifact, 0), Err(ArtifactError::Busy(_))));
        drop(upload);

        let store = ArtifactStore::open(folder.path()).unwrap();
        assert_eq!(store.stat(&artifact.digest), Err(5));
        assert!(matches!(store.upload(artifact, 0), Err(ArtifactError::Offset { stored: 5, .. })));
        let mut upload = store.upload(artifact, 5).unwrap();
        upload.append(b" world").unwrap();
        assert!(upload.finish().unwrap());
        assert_eq!(store.stat(&artifact.digest), Ok(11));
        assert_eq!(store.read(&artifact.digest).unwrap(), b"hello world");
    }

    #[test]
    fn other_bytes_than_announced_get_no_name() {
        let folder = tempfile::tempdir().unwrap();
        let store = ArtifactStore::open(folder.path()).unwrap();
        let artifact = artifact(b"hello");
        let mut upload = store.upload(artifact, 0).unwrap();
        upload.append(b"hullo").unwrap();
        assert!(matches!(upload.finish(), Err(ArtifactError::Mismatch { .. })));
        assert_eq!(store.stat(&artifact.digest), Err(0));
        let mut upload = store.upload(artifact, 0).unwrap();
        assert!(matches!(upload.append(b"hello!"), Err(ArtifactError::TooLong { size: 5 })));
        let huge = Artifact { size: ARTIFACT_MAX.0 + 1, ..artifact };
        assert!(matches!(store.upload(huge, 0), Err(ArtifactError::TooLarge { .. })));
    }
}
