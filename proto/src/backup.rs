//! The file of a backup, and what must hold of its parts, wherever they come from.
//!
//! The file is [`MAGIC`] and then the parts of `weft.backup.v1.Backups/Save`, each behind its length in four bytes, the
//! largest first. Nothing stands behind the last part.

use std::io::{self, Read, Write};

use model::digest::{Digest, DigestError};
use model::graph::ARTIFACT_MAX;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use crate::CHUNK_MAX_BYTES;
use crate::weft::backup::v1 as wire;
use crate::weft::backup::v1::part::Part as Body;

/// The first bytes of every file.
pub const MAGIC: &[u8; 8] = b"weftbak1";
/// The form of the parts that is written, and the latest that is read.
pub const FORMAT: u32 = 1;
/// The longest state: that of a snapshot.
pub const STATE_MAX_BYTES: u64 = 4 << 30;
/// The longest part: a chunk and its frame. Refused before there is memory for more.
const PART_MAX_BYTES: usize = CHUNK_MAX_BYTES + 1_024;

/// What is wrong with a backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It is none.
    #[error("it does not begin as a backup does")]
    NotABackup,
    /// It is of a later version.
    #[error(
        "it has format {found}, and this version reads up to {FORMAT}: take the version that made it, or a later one"
    )]
    Format {
        /// Its format.
        found: u32,
    },
    /// It is larger than one may be.
    #[error("it says that {what} has {size} bytes, and at most {most} are taken")]
    TooLarge {
        /// What.
        what: &'static str,
        /// What it says.
        size: u64,
        /// The bound.
        most: u64,
    },
    /// It ends too early.
    #[error("it is cut off: {0}")]
    CutOff(&'static str),
    /// Something stands behind its end.
    #[error("something stands behind its end")]
    Trailing,
    /// It is not what was written.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// It could not be read or written.
    #[error("it cannot be read or written")]
    Io(#[from] io::Error),
}

impl BackupError {
    /// A stable word for it.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotABackup | Self::Format { .. } => "snapshot_version",
            Self::TooLarge { .. } => "snapshot_too_large",
            Self::CutOff(_) | Self::Trailing | Self::Damaged(_) => "snapshot_damaged",
            Self::Io(_) => "disk",
        }
    }
}

fn damaged(what: impl Into<String>) -> BackupError {
    BackupError::Damaged(what.into())
}

/// Bytes of a part as a backup has them.
fn framed(part: &wire::Part) -> Vec<u8> {
    let length = part.encoded_len();
    let mut bytes = Vec::with_capacity(4 + length);
    // A longer one is refused by whoever takes it.
    bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(&part.encode_to_vec());
    bytes
}

/// What is being taken, and how much of it is missing.
struct Awaited {
    digest: Digest,
    what: String,
    missing: u64,
    hash: Sha256,
}

impl Awaited {
    fn new(what: String, digest: Digest, size: u64) -> Self {
        Self { digest, what, missing: size, hash: Sha256::new() }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        let length = bytes.len() as u64;
        if length == 0 || length > CHUNK_MAX_BYTES as u64 || length > self.missing {
            return Err(damaged(format!("a chunk of {} has {length} bytes", self.what)));
        }
        self.missing -= length;
        self.hash.update(bytes);
        Ok(())
    }

    fn finish(self) -> Result<(), BackupError> {
        if self.missing > 0 {
            return Err(damaged(format!("{} lacks {} bytes", self.what, self.missing)));
        }
        if Digest::from_bytes(self.hash.finalize().into()) == self.digest {
            return Ok(());
        }
        Err(damaged(format!("{} is not what was written", self.what)))
    }
}

/// Follows the parts of a backup, and refuses what does not fit.
#[derive(Default)]
pub struct Verifier {
    head: Option<wire::Head>,
    awaited: Option<Awaited>,
    hash: Sha256,
    parts: u64,
    artifacts: u64,
    artifact_bytes: u64,
    has_ended: bool,
}

impl Verifier {
    /// Takes the next part.
    pub fn take(&mut self, part: &wire::Part) -> Result<(), BackupError> {
        if self.has_ended {
            return Err(BackupError::Trailing);
        }
        match (&part.part, &self.head) {
            (Some(Body::Head(head)), None) => {
                check_head(head)?;
                let digest = <[u8; 32]>::try_from(&head.state_sha256[..]);
                let digest = digest.map_err(|_| damaged("the digest of the state has a wrong length"))?;
                let digest = Digest::from_bytes(digest);
                self.awaited = Some(Awaited::new("the state".to_owned(), digest, head.state_bytes));
                self.head = Some(head.clone());
            }
            (Some(Body::State(bytes)), Some(_)) if self.artifacts == 0 => self.chunk(bytes)?,
            (Some(Body::Chunk(bytes)), Some(_)) if self.artifacts > 0 => self.chunk(bytes)?,
            (Some(Body::Artifact(artifact)), Some(_)) => {
                self.finish_awaited()?;
                let digest: Result<Digest, DigestError> = artifact.digest.parse();
                let digest = digest.map_err(|error| damaged(error.to_string()))?;
                if artifact.size > ARTIFACT_MAX.0 {
                    return Err(BackupError::TooLarge {
                        what: "an artifact",
                        size: artifact.size,
                        most: ARTIFACT_MAX.0,
                    });
                }
                self.artifacts += 1;
                self.artifact_bytes += artifact.size;
                self.awaited = Some(Awaited::new(format!("artifact {digest}"), digest, artifact.size));
            }
            (Some(Body::End(end)), Some(head)) => {
                let counted = (head.artifacts, head.artifact_bytes);
                if counted != (self.artifacts, self.artifact_bytes) {
                    let said =
                        format!("{} artifacts were said, and {} are there", head.artifacts, self.artifacts);
                    return Err(damaged(said));
                }
                self.finish_awaited()?;
                let found: [u8; 32] = self.hash.clone().finalize().into();
                if end.parts != self.parts || end.sha256 != found {
                    return Err(damaged("its parts are not those that were written"));
                }
                self.has_ended = true;
            }
            (Some(Body::Head(_)), Some(_)) => return Err(damaged("it has a second head")),
            (Some(_), _) => return Err(damaged("its parts are out of order")),
            (None, _) => return Err(damaged("one of its parts is of no known kind")),
        }
        self.parts += 1;
        self.hash.update(framed(part));
        Ok(())
    }

    fn chunk(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        match &mut self.awaited {
            Some(awaited) => awaited.take(bytes),
            None => Err(damaged("its parts are out of order")),
        }
    }

    fn finish_awaited(&mut self) -> Result<(), BackupError> {
        self.awaited.take().map_or(Ok(()), Awaited::finish)
    }

    /// What is said of the parts so far: the last one.
    pub fn end(&self) -> wire::Part {
        let end = wire::End { parts: self.parts, sha256: self.hash.clone().finalize().to_vec() };
        wire::Part { part: Some(Body::End(end)) }
    }

    /// The head, once all parts are there.
    pub fn finish(self) -> Result<wire::Head, BackupError> {
        match self.head {
            Some(head) if self.has_ended => Ok(head),
            _ => Err(BackupError::CutOff("its end is missing")),
        }
    }
}

fn check_head(head: &wire::Head) -> Result<(), BackupError> {
    if head.format != FORMAT {
        return Err(BackupError::Format { found: head.format });
    }
    if head.state_bytes > STATE_MAX_BYTES {
        return Err(BackupError::TooLarge { what: "its state", size: head.state_bytes, most: STATE_MAX_BYTES });
    }
    Ok(())
}

/// Writes a backup as a file, verifying it.
pub struct Writer<W> {
    to: W,
    verifier: Verifier,
}

impl<W: Write> Writer<W> {
    /// Begins a file.
    pub fn new(mut to: W) -> Result<Self, BackupError> {
        to.write_all(MAGIC)?;
        Ok(Self { to, verifier: Verifier::default() })
    }

    /// Writes the next part.
    pub fn put(&mut self, part: &wire::Part) -> Result<(), BackupError> {
        self.verifier.take(part)?;
        Ok(self.to.write_all(&framed(part))?)
    }

    /// The head, and what was written to, once all parts are there.
    pub fn finish(self) -> Result<(wire::Head, W), BackupError> {
        Ok((self.verifier.finish()?, self.to))
    }
}

/// Reads the file of a backup, verifying it part by part: what a part says is certain only once [`Reader::next`] has
/// returned `None`.
pub struct Reader<R> {
    from: R,
    verifier: Verifier,
}

impl<R: Read> Reader<R> {
    /// Begins to read.
    pub fn new(mut from: R) -> Result<Self, BackupError> {
        if read_up_to(&mut from, MAGIC.len())? != MAGIC {
            return Err(BackupError::NotABackup);
        }
        Ok(Self { from, verifier: Verifier::default() })
    }

    /// The next part; none behind the end.
    #[expect(clippy::should_implement_trait, reason = "an error ends it, which an iterator does not say")]
    pub fn next(&mut self) -> Result<Option<Body>, BackupError> {
        let length = match read_up_to(&mut self.from, 4)?[..] {
            [] if self.verifier.has_ended => return Ok(None),
            [] => return Err(BackupError::CutOff("its end is missing")),
            [a, b, c, d] => [a, b, c, d],
            _ => return Err(BackupError::CutOff("a length is not whole")),
        };
        if self.verifier.has_ended {
            return Err(BackupError::Trailing);
        }
        let length = u32::from_be_bytes(length) as usize;
        if length > PART_MAX_BYTES {
            return Err(damaged(format!("a part says that it has {length} bytes")));
        }
        let bytes = read_up_to(&mut self.from, length)?;
        if bytes.len() < length {
            return Err(BackupError::CutOff("a part is not whole"));
        }
        let part = wire::Part::decode(&bytes[..]).map_err(|error| damaged(error.to_string()))?;
        // What is not part of the message would go by unseen.
        if part.encode_to_vec() != bytes {
            return Err(damaged("a part has more in it than is known"));
        }
        self.verifier.take(&part)?;
        Ok(part.part)
    }

    /// Reads to the end; the head.
    pub fn verify(mut self) -> Result<wire::Head, BackupError> {
        while self.next()?.is_some() {}
        self.verifier.finish()
    }
}

/// So many bytes, or as many as there are.
fn read_up_to(from: &mut impl Read, count: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(count as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;
