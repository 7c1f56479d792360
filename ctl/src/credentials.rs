//! Who `ctl` is to a control plane: an identity in a file that the control plane made for its operators.

use std::env;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use trust::identity::IdentityError;
use trust::{Identity, Keyring};
use zeroize::Zeroizing;

use crate::cli::Address;

/// Below the user's folder of settings: a file for each control plane.
const FOLDER: &str = "weft/credentials";

/// Why there is no identity to show.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// There is no file.
    #[error("there are no credentials for the control plane at {address}: {}", looked(.path.as_deref()))]
    Missing {
        /// The control plane.
        address: String,
        /// Where they should be; absent where the user has no folder of settings.
        path: Option<PathBuf>,
    },
    /// The file cannot be read.
    #[error("the credentials in {} cannot be read: {source}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{} holds no credentials: {source}", .path.display())]
    Form {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: IdentityError,
    },
    /// They were good once.
    #[error("the credentials in {} have ended", .path.display())]
    Ended {
        /// Which.
        path: PathBuf,
    },
}

fn looked(path: Option<&Path>) -> String {
    path.map_or_else(|| "HOME is not set".to_owned(), |path| format!("there is no file {}", path.display()))
}

impl CredentialsError {
    /// What to do.
    pub const fn help() -> &'static str {
        "copy `operator.pem` from the data directory of the control plane, and name it with --credentials \
         (CTL_CREDENTIALS); `ctl dev` does it by itself"
    }
}

/// Where the credentials for an address are unless the command line says otherwise.
pub fn default_path(address: &Address) -> Option<PathBuf> {
    let settings = match env::var_os("XDG_CONFIG_HOME").filter(|folder| Path::new(folder).is_absolute()) {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(env::var_os("HOME").filter(|home| !home.is_empty())?).join(".config"),
    };
    // An address of IPv6 has brackets and colons, which not every file system takes.
    let name: String = address.authority().chars().map(|c| if "[]:".contains(c) { '_' } else { c }).collect();
    Some(settings.join(FOLDER).join(format!("{name}.pem")))
}

/// Reads the credentials for an address, from `path` or where they usually are.
pub fn read(address: &Address, path: Option<&Path>) -> Result<Keyring, CredentialsError> {
    let path = path.map(Path::to_owned).or_else(|| default_path(address));
    let missing = |path| CredentialsError::Missing { address: address.to_string(), path };
    let Some(path) = path else { return Err(missing(None)) };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing(Some(path))),
        Err(source) => return Err(CredentialsError::File { path, source }),
    };
    match Identity::from_pem(&text) {
        Err(source) => Err(CredentialsError::Form { path, source }),
        Ok(identity) if identity.expires() <= SystemTime::now() => Err(CredentialsError::Ended { path }),
        Ok(identity) => Ok(Keyring::new(identity)),
    }
}

/// Puts the credentials of a control plane where `ctl` looks for them.
pub fn keep(address: &Address, from: &Path) -> io::Result<()> {
    let text = Zeroizing::new(std::fs::read(from)?);
    match default_path(address) {
        Some(path) => write_secret(&path, &text),
        // Without a home there is nowhere to look either: they are named on the command line.
        None => Ok(()),
    }
}

/// Replaces a file that nobody else may read, and makes the folder above it.
pub fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let partial = path.with_extension("partial");
    let options = std::fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&partial);
    io::Write::write_all(&mut options?, bytes)?;
    std::fs::rename(partial, path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_wrong_with_credentials_is_said_with_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let address: Address = "127.0.0.1:7100".parse().unwrap();
        let path = folder.path().join("new/credentials.pem");
        let missing = read(&address, Some(&path)).unwrap_err().to_string();
        assert!(
            missing.starts_with("there are no credentials for the control plane at https://127.0.0.1:7100: ")
        );
        write_secret(&path, b"nothing").unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let wrong = read(&address, Some(&path)).unwrap_err();
        assert!(matches!(wrong, CredentialsError::Form { .. }), "{wrong}");
        assert!(wrong.to_string().contains("credentials.pem holds no credentials"), "{wrong}");
    }

    #[test]
    fn every_control_plane_has_a_file_of_its_own() {
        let name = |address: &str| {
            let path = default_path(&address.parse().unwrap()).unwrap();
            path.file_name().unwrap().to_str().unwrap().to_owned()
        };
        assert_eq!(name("cp.example:7100"), "cp.example_7100.pem");
        assert_eq!(name("https://[::1]:7100"), "___1__7100.pem");
    }
}
