//! Reading the bytes of artifacts that the agent has fetched.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use model::digest::Digest;
use sha2::{Digest as _, Sha256};

/// Where artifacts are on this node's disk.
pub trait Artifacts: Send + Sync {
    /// The file with this content, fetched before.
    fn path(&self, digest: &Digest) -> PathBuf;
}

/// Why an artifact cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArtifactError {
    /// The file cannot be read.
    #[error("artifact {} cannot be read", digest.short())]
    Read {
        /// Which.
        digest: Digest,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file has other bytes than it should.
    #[error("artifact {} has other bytes on this node's disk (sha256 {})", digest.short(), found.short())]
    Corrupt {
        /// Which.
        digest: Digest,
        /// What the file's bytes hash to.
        found: Digest,
    },
}

/// The bytes with this digest; checked again at each load, since a disk may change what was right when it came.
pub(crate) fn read(artifacts: &dyn Artifacts, digest: &Digest) -> Result<Arc<[u8]>, ArtifactError> {
    let bytes = std::fs::read(artifacts.path(digest))
        .map_err(|source| ArtifactError::Read { digest: *digest, source })?;
    let found = Digest::from_bytes(Sha256::digest(&bytes).into());
    if found != *digest {
        return Err(ArtifactError::Corrupt { digest: *digest, found });
    }
    Ok(bytes.into())
}
