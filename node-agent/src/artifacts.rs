//! The artifacts on this node's disk, by content address: `artifacts/<hex>`, pulled from the control plane.
//!
//! A file has its final name only once its bytes hash to that name and are on disk; a pull that broke off goes on
//! where it stopped, over restarts too. What nothing needs any more is removed after a grace.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use model::digest::{Digest, DigestError};
use model::graph::Artifact;
use proto::weft::artifact::v1 as wire;
use proto::weft::artifact::v1::artifacts_client::ArtifactsClient;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tonic::Code;

use crate::control_plane::{ControlPlane, Member};
use crate::durable;

const FOLDER: &str = "artifacts";
/// The extension of a pull that is not complete.
const PART: &str = "part";
/// Pulls at one time: enough to fill a link, few enough that none starves.
const PULLS_MAX: usize = 4;
/// A member that sends no chunk for so long is given up, and the next one goes on.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an artifact that nothing needs is kept: a rollback within it pulls nothing.
pub const GRACE: Duration = Duration::from_secs(60 * 60);

/// The artifacts of this node.
#[derive(Debug)]
pub struct ArtifactStore {
    folder: PathBuf,
    control_plane: ControlPlane,
    pulls: Semaphore,
    /// One lock for each digest that is being pulled, so that two graphs that need it pull it once.
    pulling: Mutex<BTreeMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
    /// Since when nothing needs these.
    unneeded: Mutex<BTreeMap<Digest, Instant>>,
}

/// How far a file that is already there is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Its length is right: it had the right bytes when it got its name, and the host checks them when it loads it.
    Length,
    /// Its bytes are right: after something went wrong with it.
    Bytes,
}

/// Why an artifact is not there. All of these may heal.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No member of the control plane gave it.
    #[error("artifact {} could not be pulled: {}", .digest.short(), .tried.join("; "))]
    Unavailable {
        /// Which.
        digest: Digest,
        /// What each member said.
        tried: Vec<String>,
    },
    /// The disk failed.
    #[error("artifact {} could not be stored at {}: {source}", .digest.short(), .path.display())]
    Io {
        /// Which.
        digest: Digest,
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
}

impl FetchError {
    /// The stable word for reports.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "artifact_unavailable",
            Self::Io { .. } => "artifact_io",
        }
    }
}

/// Why one member did not give an artifact.
#[derive(Debug, thiserror::Error)]
enum PullError {
    #[error("{}: {}", .0.code(), .0.message())]
    Refused(#[from] tonic::Status),
    #[error("no bytes for {} s", CHUNK_TIMEOUT.as_secs())]
    Silent,
    #[error("it has {found} bytes there, {expected} were assigned")]
    Size { found: u64, expected: u64 },
    #[error("its bytes hash to something else")]
    Corrupt,
    #[error(transparent)]
    Disk(#[from] io::Error),
}

impl ArtifactStore {
    /// The store below `data_dir`, filled from `control_plane`.
    pub fn open(data_dir: &Path, control_plane: ControlPlane) -> io::Result<Self> {
        let folder = data_dir.join(FOLDER);
        durable::create_folder(&folder)?;
        Ok(Self {
            folder,
            control_plane,
            pulls: Semaphore::new(PULLS_MAX),
            pulling: Mutex::default(),
            unneeded: Mutex::default(),
        })
    }

    /// Where the artifact is, or will be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.hex())
    }

    /// Whether all of these are here, by length.
    pub fn has(&self, artifacts: &BTreeSet<Artifact>) -> bool {
        artifacts.iter().all(|artifact| {
            fs::metadata(self.path(&artifact.digest)).is_ok_and(|file| file.len() == artifact.size)
        })
    }

    /// Returns once all of these are here.
    pub async fn ensure(&self, artifacts: &BTreeSet<Artifact>, trust: Trust) -> Result<(), FetchError> {
        let pulls = artifacts.iter().map(|artifact| self.ensure_one(*artifact, trust));
        futures::future::try_join_all(pulls).await.map(drop)
    }

    async fn ensure_one(&self, artifact: Artifact, trust: Trust) -> Result<(), FetchError> {
        let lock = self.lock(&artifact.digest);
        let _turn = lock.lock().await;
        let path = self.path(&artifact.digest);
        let io_error = |source| FetchError::Io { digest: artifact.digest, path: path.clone(), source };
        if self.present(artifact, trust).await.map_err(io_error)? {
            return Ok(());
        }
        // The semaphore lives as long as the store and is never closed.
        let _room = self.pulls.acquire().await;
        let mut tried = Vec::new();
        for (index, member) in self.control_plane.members() {
            match self.pull(artifact, member).await {
                Ok(()) => {
                    tracing::debug!(digest = %artifact.digest, from = %member.uri(), "artifact pulled");
                    return Ok(());
                }
                Err(PullError::Disk(source)) => return Err(io_error(source)),
                Err(error) => tried.push(format!("{} (member {index}): {error}", member.uri())),
            }
        }
        Err(FetchError::Unavailable { digest: artifact.digest, tried })
    }

    fn lock(&self, digest: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut pulling = self.pulling.lock().unwrap_or_else(PoisonError::into_inner);
        pulling.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = pulling.get(digest).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        pulling.insert(*digest, Arc::downgrade(&lock));
        lock
    }

    /// Whether the file is there and as far as it is trusted right; a wrong one is removed.
    async fn present(&self, artifact: Artifact, trust: Trust) -> io::Result<bool> {
        let path = self.path(&artifact.digest);
        let length = match tokio::fs::metadata(&path).await {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let right = length == artifact.size
            && (trust == Trust::Length
                || hash(&path).await?.finalize().as_slice() == artifact.digest.as_bytes());
        if !right {
            tracing::warn!(digest = %artifact.digest, "an artifact on disk has other bytes than its name says; pulled again");
            tokio::fs::remove_file(&path).await?;
        }
        Ok(right)
    }

    /// Pulls from one member, from where the last pull stopped.
    async fn pull(&self, artifact: Artifact, member: &Member) -> Result<(), PullError> {
        let path = self.path(&artifact.digest);
        let part = durable::beside(&path, PART);
        let mut offset = tokio::fs::metadata(&part).await.map(|metadata| metadata.len()).unwrap_or(0);
        if offset > artifact.size {
            tokio::fs::remove_file(&part).await?;
            offset = 0;
        }
        let mut sha256 = if offset == 0 { Sha256::new() } else { hash(&part).await? };
        let mut file = tokio::fs::File::options().create(true).append(true).open(&part).await?;

        if offset < artifact.size {
            let request = wire::GetRequest { digest: artifact.digest.to_string(), offset };
            let mut client = ArtifactsClient::new(member.channel());
            let answer = timeout(CHUNK_TIMEOUT, client.get(request)).await.map_err(|_| PullError::Silent)?;
            let mut chunks = answer?.into_inner();
            while offset < artifact.size {
                let next = timeout(CHUNK_TIMEOUT, chunks.message()).await.map_err(|_| PullError::Silent)?;
                let Some(next) = next? else {
                    return Err(tonic::Status::new(Code::Aborted, "it ended before its end").into());
                };
                let end = offset.saturating_add(next.chunk.len() as u64);
                if next.size != artifact.size || end > artifact.size {
                    return Err(PullError::Size { found: next.size.max(end), expected: artifact.size });
                }
                sha256.update(&next.chunk);
                file.write_all(&next.chunk).await?;
                offset = end;
            }
        }
        file.flush().await?;
        if sha256.finalize().as_slice() != artifact.digest.as_bytes() {
            drop(file);
            tokio::fs::remove_file(&part).await?;
            return Err(PullError::Corrupt);
        }
        file.sync_all().await?;
        drop(file);
        blocking(move || durable::rename(&part, &path)).await?;
        Ok(())
    }

    /// Removes what has not been needed for `grace`, and says how much that was.
    ///
    /// Must not run while something is being prepared that is not in `needed`.
    pub async fn collect(&self, needed: &BTreeSet<Digest>, grace: Duration) -> io::Result<usize> {
        let folder = self.folder.clone();
        let stored = blocking(move || stored(&folder)).await?;
        let now = Instant::now();
        let mut old = Vec::new();
        {
            let mut unneeded = self.unneeded.lock().unwrap_or_else(PoisonError::into_inner);
            unneeded.retain(|digest, _| stored.contains_key(digest) && !needed.contains(digest));
            for (digest, paths) in stored {
                if needed.contains(&digest) {
                    continue;
                }
                let since = *unneeded.entry(digest).or_insert(now);
                if now.saturating_duration_since(since) >= grace {
                    unneeded.remove(&digest);
                    old.push(paths);
                }
            }
        }
        let count = old.len();
        for path in old.into_iter().flatten() {
            tokio::fs::remove_file(path).await?;
        }
        Ok(count)
    }
}

/// The files of each digest, complete or not.
fn stored(folder: &Path) -> io::Result<BTreeMap<Digest, Vec<PathBuf>>> {
    let mut stored: BTreeMap<Digest, Vec<PathBuf>> = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let stem = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let stem = stem.strip_suffix(PART).and_then(|stem| stem.strip_suffix('.')).unwrap_or(stem);
        let digest: Result<Digest, DigestError> = format!("sha256:{stem}").parse();
        // What has another name was not put there by this store, so it is not this store's to remove.
        if let Ok(digest) = digest {
            stored.entry(digest).or_default().push(path);
        }
    }
    Ok(stored)
}

async fn hash(path: &Path) -> io::Result<Sha256> {
    let path = path.to_owned();
    blocking(move || {
        let mut sha256 = Sha256::new();
        io::copy(&mut fs::File::open(path)?, &mut HashWriter(&mut sha256))?;
        Ok(sha256)
    })
    .await
}

struct HashWriter<'a>(&'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
mod tests;
