//! Artifacts on this member's disk, by content address.
//!
//! `artifacts/<hex>` is complete and verified; `artifacts/partial/<hex>` is an upload under way, which survives a
//! restart and is gone on from its length. Bytes are verified before they get their name, so that a name is proof.
//! Bytes that are found to have rotted since are set aside as `artifacts/<hex>.damaged`, and can be uploaded again.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use model::digest::Digest;
use model::graph::{ARTIFACT_MAX, Artifact};
use sha2::{Digest as _, Sha256};

use crate::durable;

/// Uploads that may be unfinished: each holds up to an artifact's size on disk. The one that was left alone for longest
/// makes room for a new one.
const PARTIAL_MAX: usize = 64;

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
    /// The artifact that is stored under this digest has another size.
    #[error("{digest} is stored and has {stored} bytes, not {announced}")]
    Size {
        /// The artifact.
        digest: Digest,
        /// Its size.
        stored: u64,
        /// What was announced.
        announced: u64,
    },
    /// A reader asked for bytes behind the end.
    #[error("{digest} has {size} bytes, none at {offset}")]
    BeyondEnd {
        /// The artifact.
        digest: Digest,
        /// Its size.
        size: u64,
        /// Where it was to be read from.
        offset: u64,
    },
    /// Too many uploads at one time.
    #[error("{PARTIAL_MAX} artifacts are being uploaded, which is as many as may be: ask again in a moment")]
    TooMany,
    /// The bytes are not those of the digest.
    #[error("the bytes have digest {found}, not {wanted}: they are not kept")]
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
        durable::create_folder(&partial).map_err(disk(&partial))?;
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

    /// Goes on with an upload at `offset`; `None` if the artifact is complete already.
    pub fn upload(&self, artifact: Artifact, offset: u64) -> Result<Option<Upload>, ArtifactError> {
        if artifact.size > ARTIFACT_MAX.0 {
            return Err(ArtifactError::TooLarge { size: artifact.size });
        }
        let digest = artifact.digest;
        let claim = Claim::take(self, digest).ok_or(ArtifactError::Busy(digest))?;
        match self.stat(&digest) {
            Ok(stored) if stored == artifact.size => return Ok(None),
            Ok(stored) => return Err(ArtifactError::Size { digest, stored, announced: artifact.size }),
            Err(_) => {}
        }
        let path = self.partial_path(&digest);
        if !path.try_exists().map_err(disk(&path))? {
            self.make_room()?;
        }
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
        Ok(Some(Upload { store: self.clone(), artifact, file, stored, _claim: claim }))
    }

    /// Removes the unfinished upload that was left alone for longest, if there are as many as may be.
    fn make_room(&self) -> Result<(), ArtifactError> {
        let folder = self.folder.join("partial");
        let mut found: Vec<(SystemTime, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&folder).map_err(disk(&folder))? {
            let entry = entry.map_err(disk(&folder))?;
            // One that was finished meanwhile is no longer there.
            let Ok(changed) = entry.metadata().and_then(|metadata| metadata.modified()) else { continue };
            found.push((changed, entry.path()));
        }
        if found.len() < PARTIAL_MAX {
            return Ok(());
        }
        let claimed = self.uploading.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let claimed: BTreeSet<PathBuf> = claimed.iter().map(|digest| self.partial_path(digest)).collect();
        let abandoned = found.into_iter().filter(|(_, path)| !claimed.contains(path)).min();
        let (_, path) = abandoned.ok_or(ArtifactError::TooMany)?;
        fs::remove_file(&path).map_err(disk(&path))
    }

    /// Notes that an artifact is wanted at this moment: it is not swept for another grace.
    pub fn touch(&self, digest: &Digest) -> Result<(), ArtifactError> {
        let path = self.path(digest);
        let touched =
            File::options().append(true).open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        touched.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ArtifactError::Missing(*digest),
            _ => disk(&path)(error),
        })
    }

    /// Removes what is not wanted, and was not changed or touched for a grace: bytes that nothing names any more, and those
    /// that were set aside. How much was removed.
    pub fn sweep(&self, is_wanted: impl Fn(&Digest) -> bool, grace: Duration) -> Result<usize, ArtifactError> {
        let folder = self.folder.as_path();
        let mut removed = 0;
        for entry in fs::read_dir(folder).map_err(disk(folder))? {
            let path = entry.map_err(disk(folder))?.path();
            let stem = path.file_stem().and_then(OsStr::to_str).unwrap_or_default();
            let Ok(digest) = format!("sha256:{stem}").parse::<Digest>() else { continue };
            let is_set_aside = path.extension().is_some();
            // Nobody stores it at this moment.
            let Some(_claim) = Claim::take(self, digest) else { continue };
            let is_old = fs::metadata(&path)
                .and_then(|found| found.modified())
                .is_ok_and(|changed| changed.elapsed().is_ok_and(|age| age >= grace));
            if is_old && (is_set_aside || !is_wanted(&digest)) {
                fs::remove_file(&path).map_err(disk(&path))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// All that are complete, with their sizes on disk.
    pub fn complete(&self) -> Result<Vec<Artifact>, ArtifactError> {
        let folder = self.folder.as_path();
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).map_err(disk(folder))? {
            let entry = entry.map_err(disk(folder))?;
            let Ok(digest) = format!("sha256:{}", entry.file_name().display()).parse() else { continue };
            // One that was swept meanwhile is no longer there.
            let Ok(metadata) = entry.metadata() else { continue };
            found.push(Artifact { digest, size: metadata.len() });
        }
        Ok(found)
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
        if found == *digest {
            return Ok(bytes);
        }
        tracing::error!(%digest, %found, "a stored artifact has rotted: it is set aside and must be uploaded again");
        fs::rename(&path, path.with_extension("damaged")).map_err(disk(&path))?;
        Err(ArtifactError::Mismatch { wanted: *digest, found })
    }

    /// A complete artifact, opened for reading from `offset` on, and its size.
    pub fn open_at(&self, digest: &Digest, offset: u64) -> Result<(File, u64), ArtifactError> {
        let path = self.path(digest);
        let mut file = File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ArtifactError::Missing(*digest),
            _ => disk(&path)(error),
        })?;
        let size = file.metadata().map_err(disk(&path))?.len();
        if offset > size {
            return Err(ArtifactError::BeyondEnd { digest: *digest, size, offset });
        }
        file.seek(SeekFrom::Start(offset)).map_err(disk(&path))?;
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
        durable::sync_folder(folder).map_err(disk(folder))?;
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

    fn begin(store: &ArtifactStore, artifact: Artifact, offset: u64) -> Upload {
        store.upload(artifact, offset).unwrap().unwrap()
    }

    #[test]
    fn an_upload_goes_on_where_it_was_cut() {
        let folder = tempfile::tempdir().unwrap();
        let store = ArtifactStore::open(folder.path()).unwrap();
        let artifact = artifact(b"hello world");
        let mut upload = begin(&store, artifact, 0);
        upload.append(b"hello").unwrap();
        assert!(matches!(store.upload(artifact, 0), Err(ArtifactError::Busy(_))));
        drop(upload);

        let store = ArtifactStore::open(folder.path()).unwrap();
        assert_eq!(store.stat(&artifact.digest), Err(5));
        assert!(matches!(store.upload(artifact, 0), Err(ArtifactError::Offset { stored: 5, .. })));
        let mut upload = begin(&store, artifact, 5);
        upload.append(b" world").unwrap();
        assert!(upload.finish().unwrap());
        assert_eq!(store.stat(&artifact.digest), Ok(11));
        assert_eq!(store.read(&artifact.digest).unwrap(), b"hello world");
        assert!(store.upload(artifact, 0).unwrap().is_none());
        let other = Artifact { size: 12, ..artifact };
        assert!(matches!(store.upload(other, 0), Err(ArtifactError::Size { stored: 11, announced: 12, .. })));
    }

    #[test]
    fn other_bytes_than_announced_get_no_name() {
        let folder = tempfile::tempdir().unwrap();
        let store = ArtifactStore::open(folder.path()).unwrap();
        let artifact = artifact(b"hello");
        let mut upload = begin(&store, artifact, 0);
        upload.append(b"hullo").unwrap();
        assert!(matches!(upload.finish(), Err(ArtifactError::Mismatch { .. })));
        assert_eq!(store.stat(&artifact.digest), Err(0));
        let mut upload = begin(&store, artifact, 0);
        assert!(matches!(upload.append(b"hello!"), Err(ArtifactError::TooLong { size: 5 })));
        let huge = Artifact { size: ARTIFACT_MAX.0 + 1, ..artifact };
        assert!(matches!(store.upload(huge, 0), Err(ArtifactError::TooLarge { .. })));
    }

    #[test]
    fn rotten_bytes_are_never_given_out_and_can_be_uploaded_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = ArtifactStore::open(folder.path()).unwrap();
        let artifact = artifact(b"hello");
        let upload = |store: &ArtifactStore| {
            let mut upload = begin(store, artifact, 0);
            upload.append(b"hello").unwrap();
            assert!(upload.finish().unwrap());
        };
        upload(&store);
        fs::write(store.path(&artifact.digest), b"hallo").unwrap();
        assert!(matches!(store.read(&artifact.digest), Err(ArtifactError::Mismatch { .. })));
        assert_eq!(store.stat(&artifact.digest), Err(0));
        upload(&store);
        assert_eq!(store.read(&artifact.digest).unwrap(), b"hello");
    }

    #[test]
    fn what_nothing_names_is_swept_after_its_grace() {
        let folder = tempfile::tempdir().unwrap();
        let store = ArtifactStore::open(folder.path()).unwrap();
        let [named, unnamed, young, rotten] = [&b"named"[..], b"unnamed", b"young", b"rotten"].map(|bytes| {
            let artifact = artifact(bytes);
            let mut upload = begin(&store, artifact, 0);
            upload.append(bytes).unwrap();
            assert!(upload.finish().unwrap());
            artifact.digest
        });
        fs::write(store.path(&rotten), b"rutten").unwrap();
        assert!(store.read(&rotten).is_err(), "set aside");
        let grace = Duration::from_hours(1);
        let age = |path: &Path| {
            let file = File::options().append(true).open(path).unwrap();
            file.set_modified(SystemTime::now() - grace).unwrap();
        };
        [named, unnamed, young].iter().for_each(|digest| age(&store.path(digest)));
        age(&store.path(&rotten).with_extension("damaged"));
        store.touch(&young).unwrap();
        assert!(matches!(store.touch(&rotten), Err(ArtifactError::Missing(_))));
        assert_eq!(store.sweep(|digest| *digest == named, grace).unwrap(), 2);
        let is_there = |digest: &Digest| store.stat(digest).is_ok();
        assert!(is_there(&named) && is_there(&young) && !is_there(&unnamed));
        assert_eq!(store.sweep(|digest| *digest == named, grace).unwrap(), 0);
    }

    #[test]
    fn abandoned_uploads_make_room() {
        let folder = tempfile::tempdir().unwrap();
        let store = ArtifactStore::open(folder.path()).unwrap();
        let numbered = |number: usize| artifact(format!("artifact {number}").as_bytes());
        let first = begin(&store, numbered(0), 0);
        for number in 1..PARTIAL_MAX {
            drop(begin(&store, numbered(number), 0));
        }
        let last = begin(&store, numbered(PARTIAL_MAX), 0);
        let left = fs::read_dir(folder.path().join("artifacts/partial")).unwrap().count();
        assert_eq!(left, PARTIAL_MAX);
        assert!(store.partial_path(&first.artifact.digest).exists(), "an upload under way is never taken away");
        assert!(store.partial_path(&last.artifact.digest).exists());
    }
}
