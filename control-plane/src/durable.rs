//! Folders and files that survive a power cut: what is written is synced, and so is its name in the folder above.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Makes a folder, and those above it that are missing, and makes their names durable.
///
/// The name of a folder that is there already is synced too: an earlier run may have been killed before it could.
pub fn create_folder(folder: &Path) -> io::Result<()> {
    let mut missing = Vec::new();
    let mut at = folder;
    while !at.is_dir() {
        missing.push(at);
        match at.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => at = parent,
            _ => break,
        }
    }
    for made in missing.into_iter().rev() {
        match fs::create_dir(made) {
            // Made by someone else meanwhile; a file of that name stays an error.
            Err(_) if made.is_dir() => {}
            done => done?,
        }
        sync_name(made)?;
    }
    sync_folder(folder)?;
    sync_name(folder)
}

/// Makes the names in a folder durable.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Makes the name of a file or folder durable in the folder above it.
fn sync_name(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_folder(Path::new(".")),
        Some(parent) => sync_folder(parent),
        None => Ok(()),
    }
}

/// Replaces a file: after a power cut it has either the old bytes or all of the new ones.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let partial = path.with_extension("partial");
    // Others have no business in a data directory: there are keys in it.
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&partial, path)?;
    sync_name(path)
}
