//! Bytes of which it can be told whether they are the ones that were written: a mark, the SHA-256 of the payload, and
//! the payload.

use sha2::{Digest as _, Sha256};

/// Names a format; another format has another mark.
pub type Mark = [u8; 8];

const CHECKSUM_BYTES: usize = 32;

/// What is wrong with the bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// It does not start with the mark of this format.
    #[error("it is not a file of this version")]
    Mark,
    /// The checksum and the payload do not fit.
    #[error("its checksum does not match")]
    Checksum,
}

/// The bytes of a file with this payload.
pub fn encode(mark: &Mark, payload: &[u8]) -> Vec<u8> {
    [mark.as_slice(), &Sha256::digest(payload), payload].concat()
}

/// The payload in the bytes of a file.
pub fn decode<'a>(mark: &Mark, bytes: &'a [u8]) -> Result<&'a [u8], Damage> {
    let rest = bytes.strip_prefix(mark).ok_or(Damage::Mark)?;
    let (checksum, payload) = rest.split_at_checked(CHECKSUM_BYTES).ok_or(Damage::Checksum)?;
    if Sha256::digest(payload).as_slice() == checksum { Ok(payload) } else { Err(Damage::Checksum) }
}
