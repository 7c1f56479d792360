//! Files that are either the old or the new after a crash, never half of both.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Replaces a file's bytes; on return they survive a power cut.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = beside(path, "tmp");
    // Others have no business in a data directory: there are keys in it.
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    rename(&temporary, path)
}

/// Renames a file whose bytes are on disk; on return its new name survives a power cut.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_folder(to)
}

/// Makes a folder, and those above it that are missing; on return it survives a power cut.
///
/// The name of a folder that is there already is synced too: an earlier run may have been killed before it could.
pub fn create_folder(folder: &Path) -> io::Result<()> {
    if !folder.is_dir() {
        if let Some(above) = folder.parent().filter(|above| !above.as_os_str().is_empty()) {
            create_folder(above)?;
        }
        match fs::create_dir(folder) {
            // Made by someone else meanwhile; a file of that name stays an error.
            Err(_) if folder.is_dir() => {}
            done => done?,
        }
    }
    if folder.parent().is_some() { sync_folder(folder) } else { Ok(()) }
}

/// The path with one more extension.
pub fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    PathBuf::from(name)
}

/// Syncs the folder that holds `path`: without it a new name is lost with the power.
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn folders_are_made_down_to_the_last_and_a_file_in_the_way_is_an_error() {
        let top = tempfile::tempdir().unwrap();
        let folder = top.path().join("a/b/c");
        for _ in 0..2 {
            create_folder(&folder).unwrap();
            assert!(folder.is_dir());
        }
        fs::write(top.path().join("file"), "").unwrap();
        assert!(create_folder(&top.path().join("file")).is_err());
        assert!(create_folder(&top.path().join("file/below")).is_err());
    }
}
