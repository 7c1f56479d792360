//! What a newcomer is given by hand to join a cluster: a secret to be let in, and the authority to recognise it by.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::fingerprint::{Fingerprint, bytes_of_hex};

const VERSION: &str = "weft-join-v1";
/// Beyond guessing, also for somebody who holds all digests that a cluster stores.
const SECRET_BYTES: usize = 32;

/// A secret of one use and the fingerprint of the cluster's authority.
///
/// It has no `Display`, so that it is not shown by accident: [`JoinToken::reveal`] does it on purpose.
#[derive(Clone)]
pub struct JoinToken {
    secret: [u8; SECRET_BYTES],
    authority: Fingerprint,
}

/// Why a text is not a [`JoinToken`], or none could be made. None of them repeats any of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinTokenError {
    /// It begins with something else than the version of tokens that is known here.
    #[error("a join token begins with `{VERSION}.`")]
    Version,
    /// It has not three parts.
    #[error("a join token has three parts with a dot between them; is a part of it missing?")]
    Parts,
    /// Its secret is damaged.
    #[error("the second part of a join token has 64 lower-case hex digits")]
    Secret,
    /// Its fingerprint is damaged.
    #[error("the third part of a join token has 64 lower-case hex digits")]
    Authority,
    /// The system gives no randomness.
    #[error("the system gives no randomness")]
    Randomness,
}

impl JoinToken {
    /// A token with a new secret, for the cluster of this authority.
    ///
    /// # Errors
    ///
    /// Fails if the system gives no randomness.
    pub fn generate(authority: Fingerprint) -> Result<Self, JoinTokenError> {
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret).map_err(|_| JoinTokenError::Randomness)?;
        Ok(Self { secret, authority })
    }

    /// The authority that the newcomer must find.
    pub const fn authority(&self) -> Fingerprint {
        self.authority
    }

    /// What the cluster stores instead of the secret: its SHA-256 in hex.
    pub fn digest(&self) -> String {
        hex::encode(Sha256::digest(self.secret))
    }

    /// The token as text, secret and all: `weft-join-v1.SECRET.FINGERPRINT`.
    pub fn reveal(&self) -> Zeroizing<String> {
        let secret = Zeroizing::new(hex::encode(self.secret));
        // In one piece: a text that grows leaves copies behind.
        Zeroizing::new([VERSION, &secret, &self.authority.to_string()].join("."))
    }
}

impl Drop for JoinToken {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl FromStr for JoinToken {
    type Err = JoinTokenError;

    fn from_str(text: &str) -> Result<Self, JoinTokenError> {
        let mut parts = text.trim().split('.');
        if parts.next() != Some(VERSION) {
            return Err(JoinTokenError::Version);
        }
        let (Some(secret), Some(authority), None) = (parts.next(), parts.next(), parts.next()) else {
            return Err(JoinTokenError::Parts);
        };
        let secret = bytes_of_hex(secret).ok_or(JoinTokenError::Secret)?;
        let authority = authority.parse().map_err(|_| JoinTokenError::Authority)?;
        Ok(Self { secret, authority })
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("JoinToken").field("authority", &self.authority).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written_and_keeps_its_secret() {
        let token = JoinToken::generate(Fingerprint::of(b"authority")).unwrap();
        let text = token.reveal();
        let read: JoinToken = format!("{}\n", *text).parse().unwrap();
        assert_eq!((read.secret, read.authority()), (token.secret, token.authority()));
        assert_eq!(read.digest(), token.digest());
        assert_ne!(token.digest(), JoinToken::generate(token.authority()).unwrap().digest());
        let secret = text.split('.').nth(1).unwrap();
        assert!(!format!("{token:?}").contains(secret));
    }

    #[track_caller]
    fn refused(text: &str, reason: &JoinTokenError) {
        assert_eq!(text.parse::<JoinToken>().err().as_ref(), Some(reason));
        assert!(text.len() < 20 || !reason.to_string().contains(&text[..20]));
    }

    #[test]
    fn a_damaged_token_is_told_where() {
        let digits = "a".repeat(64);
        refused("", &JoinTokenError::Version);
        refused(&format!("weft-join-v2.{digits}.{digits}"), &JoinTokenError::Version);
        refused(&format!("weft-join-v1.{digits}"), &JoinTokenError::Parts);
        refused(&format!("weft-join-v1.{digits}.{digits}.{digits}"), &JoinTokenError::Parts);
        refused(&format!("weft-join-v1.{}.{digits}", &digits[1..]), &JoinTokenError::Secret);
        refused(&format!("weft-join-v1.{}.{digits}", "A".repeat(64)), &JoinTokenError::Secret);
        refused(&format!("weft-join-v1.{digits}.{}", &digits[2..]), &JoinTokenError::Authority);
    }
}
