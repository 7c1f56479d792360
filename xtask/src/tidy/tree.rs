//! The files of the repository, read once: everything that people write, nothing that is built.

use std::fs;
use std::io;
use std::path::Path;

/// Folders that hold what is built, and git's own.
const FOLDERS_OF_OTHERS: [&str; 4] = [".git", ".weft", "build", "target"];

/// A file of text.
#[derive(Debug)]
pub struct File {
    /// Below the repository, with `/` between folders.
    pub path: String,
    /// What it says.
    pub text: String,
}

impl File {
    /// The part of its name behind the last dot, if there is one.
    pub fn extension(&self) -> &str {
        self.name().rsplit_once('.').map_or("", |(_, extension)| extension)
    }

    /// Its name without folders.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

/// Every text file below `root`, in order of their paths.
pub fn read(root: &Path, target_dir: &Path) -> io::Result<Vec<File>> {
    let mut files = Vec::new();
    descend(root, "", target_dir, &mut files)?;
    files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(files)
}

fn descend(folder: &Path, prefix: &str, target_dir: &Path, files: &mut Vec<File>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if kind.is_dir() {
            if !FOLDERS_OF_OTHERS.contains(&name.as_str()) && entry.path() != target_dir {
                descend(&entry.path(), &format!("{prefix}{name}/"), target_dir, files)?;
            }
        } else if kind.is_file()
            && let Ok(text) = String::from_utf8(fs::read(entry.path())?)
        {
            files.push(File { path: format!("{prefix}{name}"), text });
        }
    }
    Ok(())
}
