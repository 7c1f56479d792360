//! The data directory of a development cluster: one folder for each process, its log and pid beside it, a lock, and
//! `dev.json`, which says what runs.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

const LOCK: &str = "dev.lock";
const STATE: &str = "dev.json";
/// The most that is read of a log's end: a failed start says why in its last lines.
const TAIL_MAX_BYTES: u64 = 8 << 10;
/// Lines shown of a log's end.
const TAIL_LINES: usize = 12;

/// A data directory that belongs to this run alone, for as long as this value lives.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Held, not used: the system frees the lock when the process ends, however it ends.
    _lock: File,
}

/// What runs, for programs: the content of `dev.json`, there while `ctl dev` runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Running {
    /// `ctl dev` itself.
    pub(super) pid: u32,
    /// Where the API listens, `host:port`.
    pub(super) api_address: SocketAddr,
    /// The control plane's process.
    pub(super) control_plane_pid: u32,
    /// The nodes.
    pub(super) nodes: Vec<RunningNode>,
}

/// One node of [`Running`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RunningNode {
    /// Its name.
    pub(super) name: String,
    /// Its agent's process.
    pub(super) pid: u32,
    /// Where its agent's API listens, `host:port`; another port after each start.
    pub(super) api_address: SocketAddr,
    /// Where its ingress listens, `host:port`.
    pub(super) ingress_address: SocketAddr,
}

impl Folder {
    /// Makes the directory if there is none, and takes it.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let wrong = |error: io::Error| {
            Failure::refused(format!("the data directory {} cannot be used: {error}", path.display()))
                .help("name a folder that you may write to with --data-dir")
        };
        fs::create_dir_all(path).map_err(wrong)?;
        // Whole paths: processes are known by them later, whatever the working directory is then.
        let path = fs::canonicalize(path).map_err(wrong)?;
        // What is in it is of no use to anyone else, and must not get into a repository by `git add .`.
        let ignore = path.join(".gitignore");
        if !ignore.exists() {
            fs::write(&ignore, "*\n").map_err(wrong)?;
        }
        let lock =
            File::options().create(true).truncate(false).write(true).open(path.join(LOCK)).map_err(wrong)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(in_use(&path)),
            Err(TryLockError::Error(error)) => Err(wrong(error)),
        }
    }

    /// The directory.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the process `name` keeps its data.
    pub(super) fn data_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Where the process `name` writes its log.
    pub(super) fn log_of(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.log"))
    }

    /// Where the pid of the process `name` is kept.
    pub(super) fn pid_of(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.pid"))
    }

    /// The processes that were started and whose end was not seen: name and pid.
    pub(super) fn pids(&self) -> io::Result<Vec<(String, u32)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            let (Some(stem), Some("pid")) = (path.file_stem(), path.extension().and_then(|e| e.to_str()))
            else {
                continue;
            };
            if let Ok(pid) = fs::read_to_string(&path).unwrap_or_default().trim().parse() {
                found.push((stem.to_string_lossy().into_owned(), pid));
            }
        }
        found.sort();
        Ok(found)
    }

    /// The nodes that have a folder here, started or not: their numbers in order.
    pub(super) fn node_numbers(&self) -> Vec<u16> {
        let has_folder = |number: &u16| self.data_of(&super::node_name(*number)).is_dir();
        (1..=super::NODES_MAX).filter(has_folder).collect()
    }

    /// Says what runs.
    pub(super) fn write(&self, running: &Running) -> io::Result<()> {
        let text = serde_json::to_string_pretty(running).map_err(io::Error::other)?;
        replace(&self.path.join(STATE), &format!("{text}\n"))
    }

    /// Says that nothing runs.
    pub(super) fn clear(&self) {
        // Readers look whether the pid lives; a file that stays misleads none of them.
        let _ = fs::remove_file(self.path.join(STATE));
    }
}

fn in_use(path: &Path) -> Failure {
    let running = fs::read_to_string(path.join(STATE)).ok();
    let running: Option<Running> = running.and_then(|text| serde_json::from_str(&text).ok());
    let who = match &running {
        Some(running) => format!(" (pid {}, API at http://{})", running.pid, running.api_address),
        None => String::new(),
    };
    Failure::refused(format!("another `ctl dev`{who} runs on {}", path.display()))
        .help("stop it, or give this one its own --data-dir, --listen and --ingress")
}

/// Replaces a file, so that readers see the old text or the new.
pub(super) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let partial = path.with_extension("partial");
    fs::write(&partial, text)?;
    fs::rename(partial, path)
}

/// Begins a new log, and keeps the one before: what a run wrote can be read after the next one has started.
pub(super) fn rotate(log: &Path) -> io::Result<()> {
    match fs::rename(log, log.with_extension("log.old")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The last lines of a log, from `start` on.
pub(super) fn tail(log: &Path, start: u64) -> Vec<String> {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let end = file.metadata()?.len();
        file.seek(SeekFrom::Start(start.max(end.saturating_sub(TAIL_MAX_BYTES))))?;
        let mut bytes = Vec::new();
        file.take(TAIL_MAX_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let first = lines.len().saturating_sub(TAIL_LINES);
    lines[first..].iter().map(|line| crate::render::table::printable(line)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_belongs_to_one_run_at_a_time() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/.weft");
        let folder = Folder::open(&path).unwrap();
        assert_eq!(fs::read_to_string(path.join(".gitignore")).unwrap(), "*\n");
        let refused = Folder::open(&path).unwrap_err().to_string();
        assert!(refused.starts_with("another `ctl dev` runs on "), "{refused}");

        let running = Running {
            pid: 77,
            api_address: "127.0.0.1:7100".parse().unwrap(),
            control_plane_pid: 78,
            nodes: vec![RunningNode {
                name: "n1".to_owned(),
                pid: 79,
                api_address: "127.0.0.1:40001".parse().unwrap(),
                ingress_address: "127.0.0.1:8000".parse().unwrap(),
            }],
        };
        folder.write(&running).unwrap();
        let refused = Folder::open(&path).unwrap_err().to_string();
        assert!(refused.contains("(pid 77, API at http://127.0.0.1:7100)"), "{refused}");
        let read: Running = serde_json::from_str(&fs::read_to_string(path.join(STATE)).unwrap()).unwrap();
        assert_eq!(read, running);
        folder.clear();
        assert!(!path.join(STATE).exists());

        drop(folder);
        Folder::open(&path).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("file");
        fs::write(&file, "").unwrap();
        let refused = Folder::open(&file.join("x")).unwrap_err().to_string();
        assert!(refused.contains("file/x cannot be used"), "{refused}");
    }

    #[test]
    fn pids_of_what_was_started_are_found() {
        let parent = tempfile::tempdir().unwrap();
        let folder = Folder::open(parent.path()).unwrap();
        for (file, text) in [("n1.pid", "12\n"), ("control-plane.pid", "7"), ("n2.pid", "x"), ("n3.log", "5")] {
            fs::write(parent.path().join(file), text).unwrap();
        }
        let expected = [("control-plane".to_owned(), 7), ("n1".to_owned(), 12)];
        assert_eq!(folder.pids().unwrap(), expected);
    }

    #[test]
    fn nodes_are_known_by_their_folders() {
        let parent = tempfile::tempdir().unwrap();
        let folder = Folder::open(parent.path()).unwrap();
        assert!(folder.node_numbers().is_empty());
        for name in ["n10", "n2", "n1", "control-plane", "n0", "n17", "n03"] {
            fs::create_dir(folder.data_of(name)).unwrap();
        }
        fs::write(folder.data_of("n4"), "").unwrap();
        assert_eq!(folder.node_numbers(), [1, 2, 10]);
    }

    #[test]
    fn the_end_of_a_log_is_bounded_and_begins_where_it_should() {
        let parent = tempfile::tempdir().unwrap();
        let log = parent.path().join("n1.log");
        assert!(tail(&log, 0).is_empty());
        rotate(&log).unwrap();
        let old = "old\n";
        let long = "x".repeat(100);
        let new: String = (0..200).map(|n| format!("{n} {long}\n\n")).collect();
        fs::write(&log, format!("{old}{new}last \u{1b}[31m\n")).unwrap();
        let lines = tail(&log, old.len() as u64);
        assert_eq!(lines.len(), TAIL_LINES);
        assert_eq!(lines.last().unwrap(), "last \u{fffd}[31m");
        fs::write(&log, "old\nnew\n").unwrap();
        assert_eq!(tail(&log, 4), ["new"]);
        assert!(tail(&log, 1_000).is_empty());
        rotate(&log).unwrap();
        assert!(!log.exists() && parent.path().join("n1.log.old").exists());
    }
}
