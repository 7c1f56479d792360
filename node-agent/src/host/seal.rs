//! Files that only this node can have written: bytes behind a MAC under a key made at the first start.
//!
//! Compiled code from disk becomes callable, so a file that was changed, or put there by someone else, must look
//! like no file at all.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// Length of the key and of a MAC.
const SEAL_BYTES: usize = 32;
/// Readable by the agent's user only.
const KEY_MODE: u32 = 0o600;

/// Seals and opens files in one directory.
pub(crate) struct Sealer {
    key: [u8; SEAL_BYTES],
    /// Makes the names of files in progress distinct.
    next: AtomicU64,
}

/// The bytes of a file whose seal was right.
pub(crate) struct Opened(Vec<u8>);

impl Opened {
    /// The bytes without the seal.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0[SEAL_BYTES..]
    }
}

impl Sealer {
    /// Reads the key, or makes it.
    pub(crate) fn open(key: &Path) -> io::Result<Self> {
        match fs::read(key) {
            Ok(bytes) => {
                let key = bytes.try_into().map_err(|_| {
                    io::Error::new(
                        io::ErrorKind::InvalidData,
                        "the compile cache key has not 32 bytes: delete it and the cache beside it",
                    )
                })?;
                Ok(Self { key, next: AtomicU64::new(0) })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::create(key),
            Err(error) => Err(error),
        }
    }

    fn create(path: &Path) -> io::Result<Self> {
        let mut key = [0; SEAL_BYTES];
        getrandom::fill(&mut key).map_err(io::Error::other)?;
        let staged = path.with_extension("new");
        let _ = fs::remove_file(&staged);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(KEY_MODE).open(&staged)?;
        file.write_all(&key)?;
        file.sync_all()?;
        fs::rename(&staged, path)?;
        Ok(Self { key, next: AtomicU64::new(0) })
    }

    /// The file's name is under the MAC too: a right file in a wrong place is wrong.
    fn mac(&self, name: &str) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).ok()?;
        mac.update(&(name.len() as u64).to_le_bytes());
        mac.update(name.as_bytes());
        Some(mac)
    }

    /// Bytes that [`Sealer::unseal`] accepts under the same name.
    pub(crate) fn seal(&self, name: &str, body: &[u8]) -> Option<Vec<u8>> {
        let mut mac = self.mac(name)?;
        mac.update(body);
        let mut sealed = Vec::with_capacity(SEAL_BYTES + body.len());
        sealed.extend_from_slice(&mac.finalize().into_bytes());
        sealed.extend_from_slice(body);
        Some(sealed)
    }

    /// What was sealed under this name, if it is unchanged.
    pub(crate) fn unseal(&self, name: &str, sealed: Vec<u8>) -> Option<Opened> {
        let (seal, body) = sealed.split_at_checked(SEAL_BYTES)?;
        let mut mac = self.mac(name)?;
        mac.update(body);
        mac.verify_slice(seal).ok()?;
        Some(Opened(sealed))
    }

    /// The bytes of a file that is there and right; a file with a wrong seal is deleted.
    pub(crate) fn read(&self, directory: &Path, name: &str) -> Option<Opened> {
        let path = directory.join(name);
        let bytes = fs::read(&path).ok()?;
        if let Some(opened) = self.unseal(name, bytes) {
            return Some(opened);
        }
        tracing::warn!(file = %path.display(), "a file of the compile cache has a wrong seal; it is made again");
        let _ = fs::remove_file(&path);
        None
    }

    /// Writes a file that [`Sealer::read`] accepts. It appears whole or not at all; it need not survive power loss,
    /// since it can be made again.
    pub(crate) fn write(&self, directory: &Path, name: &str, body: &[u8]) -> io::Result<PathBuf> {
        let sealed = self.seal(name, body).ok_or_else(|| io::Error::other("the MAC refuses its key"))?;
        let path = directory.join(name);
        let staged = directory.join(format!(".{name}.{}.new", self.next.fetch_add(1, Ordering::Relaxed)));
        fs::write(&staged, sealed)?;
        fs::rename(&staged, &path)?;
        Ok(path)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_sealed_here_opens() {
        let directory = tempfile::tempdir().unwrap();
        let key = directory.path().join("key");
        let sealer = Sealer::open(&key).unwrap();
        let path = sealer.write(directory.path(), "a", b"code").unwrap();
        let again = Sealer::open(&key).unwrap();
        assert_eq!(again.read(directory.path(), "a").unwrap().bytes(), b"code");

        // The same bytes under another name.
        fs::copy(&path, directory.path().join("b")).unwrap();
        assert!(again.read(directory.path(), "b").is_none());
        assert!(!directory.path().join("b").exists(), "a wrong file stays");

        // Every single bit matters.
        let good = fs::read(&path).unwrap();
        for index in 0..good.len() {
            let mut bad = good.clone();
            bad[index] ^= 1;
            fs::write(&path, &bad).unwrap();
            assert!(again.read(directory.path(), "a").is_none(), "byte {index}");
        }
        fs::write(&path, &good[..SEAL_BYTES - 1]).unwrap();
        assert!(again.read(directory.path(), "a").is_none());

        // Another node's key.
        let other = Sealer::open(&directory.path().join("other")).unwrap();
        fs::write(&path, &good).unwrap();
        assert!(other.read(directory.path(), "a").is_none());
    }
}
