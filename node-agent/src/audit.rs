//! What was refused to whom, for whoever has to find out later: a file of JSON lines, each with the digest of the one
//! before it, so that a line that was changed or taken out is seen.
//!
//! It is bounded: when the file is full it becomes `audit.log.1`, in the place of the one before, and the chain goes on
//! in a new one. Nobody waits for it: what cannot be written in time is counted, and the count is written.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

const FILE: &str = "audit.log";
/// The file that was filled last.
const FULL_FILE: &str = "audit.log.1";
/// With the one before, twice as much is kept: some 50,000 refusals.
const FILE_MAX_BYTES: u64 = 8 << 20;
/// Refusals that wait to be written.
const WAITING_MAX: usize = 4_096;
/// The longest text of a line that comes from outside.
const TEXT_MAX_BYTES: usize = 256;
/// What the first line of all has in the place of a digest.
const BEGINNING: &str = "";

/// One refusal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// `link_denied`, or `lost` where some could not be written.
    pub event: String,
    /// The identity in the caller's certificate.
    pub peer: String,
    /// What was asked for.
    pub asked: String,
    /// Why it was refused. The caller was not told.
    pub why: String,
}

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    number: u64,
    time_ms: u64,
    #[serde(flatten)]
    entry: Entry,
    /// SHA-256 of the line before, in hex.
    previous: String,
}

/// Takes refusals; clones are the same.
#[derive(Debug, Clone)]
pub struct Audit {
    entries: SyncSender<Entry>,
    lost: Arc<AtomicU64>,
}

/// A line that does not follow from the one before it.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The file cannot be read.
    #[error("cannot read {}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no line of an audit.
    #[error("{}, line {line}: {source}", .path.display())]
    Form {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A line was changed, put in or taken out before this one.
    #[error("{}, line {line}: it does not follow from the line before it: a line was changed or taken out", .path.display())]
    Broken {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
    },
}

impl Audit {
    /// Goes on with the audit in a data directory. A last line that was cut off by a crash is cut off whole.
    pub fn open(data_dir: &Path) -> io::Result<Self> {
        let (entries, waiting) = sync_channel(WAITING_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let mut writer = Writer::open(data_dir, lost.clone())?;
        std::thread::Builder::new().name("audit".to_owned()).spawn(move || writer.run(&waiting))?;
        Ok(Self { entries, lost })
    }

    /// Writes it down, or counts it if too many wait.
    pub fn refused(&self, event: &str, peer: impl ToString, asked: &str, why: impl ToString) {
        let cut = |text: &str| text[..text.floor_char_boundary(TEXT_MAX_BYTES)].to_owned();
        let entry = Entry {
            event: event.to_owned(),
            peer: cut(&peer.to_string()),
            asked: cut(asked),
            why: cut(&why.to_string()),
        };
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.entries.try_send(entry) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Writer {
    folder: PathBuf,
    file: File,
    bytes: u64,
    number: u64,
    previous: String,
    lost: Arc<AtomicU64>,
    has_failed: bool,
}

impl Writer {
    fn open(folder: &Path, lost: Arc<AtomicU64>) -> io::Result<Self> {
        let path = folder.join(FILE);
        let (bytes, mut last) = whole_lines(&path)?;
        if last.is_none() {
            last = whole_lines(&folder.join(FULL_FILE))?.1;
        }
        let file = append(&path)?;
        file.set_len(bytes)?;
        let number = last.as_deref().and_then(|line| serde_json::from_str::<Line>(line).ok());
        Ok(Self {
            folder: folder.to_owned(),
            file,
            bytes,
            number: number.map_or(0, |line| line.number),
            previous: last.map_or_else(|| BEGINNING.to_owned(), |line| digest(&line)),
            lost,
            has_failed: false,
        })
    }

    fn run(&mut self, waiting: &Receiver<Entry>) {
        while let Ok(entry) = waiting.recv() {
            self.write(entry);
            let lost = self.lost.swap(0, Ordering::Relaxed);
            if lost > 0 {
                let why = format!("{lost} refusals came too fast to be written");
                self.write(Entry { event: "lost".to_owned(), why, ..Entry::default() });
            }
        }
    }

    fn write(&mut self, entry: Entry) {
        let written = self.try_write(entry);
        match &written {
            Err(error) if !self.has_failed => tracing::error!(%error, "the audit cannot be written"),
            _ => {}
        }
        self.has_failed = written.is_err();
    }

    fn try_write(&mut self, entry: Entry) -> io::Result<()> {
        if self.bytes >= FILE_MAX_BYTES {
            self.file.sync_all()?;
            std::fs::rename(self.folder.join(FILE), self.folder.join(FULL_FILE))?;
            (self.file, self.bytes) = (append(&self.folder.join(FILE))?, 0);
        }
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let line = Line {
            number: self.number + 1,
            time_ms: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
            entry,
            previous: self.previous.clone(),
        };
        let text = serde_json::to_string(&line)?;
        self.file.write_all(format!("{text}\n").as_bytes())?;
        self.bytes += text.len() as u64 + 1;
        self.number = line.number;
        self.previous = digest(&text);
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// The bytes of the lines that end, and the last of them.
fn whole_lines(path: &Path) -> io::Result<(u64, Option<String>)> {
    let mut reader = match File::open(path) {
        Ok(file) => BufReader::new(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((0, None)),
        Err(error) => return Err(error),
    };
    let (mut bytes, mut last, mut line) = (0, None, String::new());
    while reader.read_line(&mut line)? > 0 && line.ends_with('\n') {
        bytes += line.len() as u64;
        last = Some(line.trim_end_matches('\n').to_owned());
        line.clear();
    }
    Ok((bytes, last))
}

fn digest(line: &str) -> String {
    hex::encode(Sha256::digest(line))
}

/// All refusals that are kept, oldest first, if no line was changed or taken out between them.
pub fn read(data_dir: &Path) -> Result<Vec<Entry>, ChainError> {
    let mut entries = Vec::new();
    let mut previous = None;
    for name in [FULL_FILE, FILE] {
        let path = data_dir.join(name);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(ChainError::File { path, source }),
        };
        for (index, text) in text.lines().enumerate() {
            let at = index + 1;
            let line: Line = serde_json::from_str(text).map_err(|source| ChainError::Form {
                path: path.clone(),
                line: at,
                source,
            })?;
            // The first that is kept may follow from one that is not.
            let is_begun = previous.is_some() || line.number == 1;
            if is_begun && previous.as_deref().unwrap_or(BEGINNING) != line.previous {
                return Err(ChainError::Broken { path, line: at });
            }
            previous = Some(digest(text));
            entries.push(line.entry);
        }
    }
    Ok(entries)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn writer(folder: &Path) -> Writer {
        Writer::open(folder, Arc::default()).unwrap()
    }

    fn entry(asked: impl ToString) -> Entry {
        Entry { event: "link_denied".to_owned(), asked: asked.to_string(), ..Entry::default() }
    }

    #[test]
    fn the_chain_goes_on_over_restarts_and_full_files_and_a_cut_line_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = writer(folder.path());
        first.try_write(entry(1)).unwrap();
        first.bytes = FILE_MAX_BYTES;
        first.try_write(entry(2)).unwrap();
        assert!(folder.path().join(FULL_FILE).exists());
        append(&folder.path().join(FILE)).unwrap().write_all(b"{\"number\":3,\"ti").unwrap();
        writer(folder.path()).try_write(entry(3)).unwrap();
        assert_eq!(read(folder.path()).unwrap(), [entry(1), entry(2), entry(3)]);
        std::fs::remove_file(folder.path().join(FULL_FILE)).unwrap();
        assert_eq!(read(folder.path()).unwrap(), [entry(2), entry(3)]);
    }

    #[test]
    fn a_line_that_was_changed_or_taken_out_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = writer(folder.path());
        for number in 1..=4 {
            writer.try_write(entry(format!("graph-{number}"))).unwrap();
        }
        let path = folder.path().join(FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        let without_second: Vec<_> = text.lines().filter(|line| !line.contains("graph-2")).collect();
        for (changed, at) in [
            (text.replace("graph-3", "graph-x"), 4),
            (without_second.join("\n"), 2),
            (text.replacen('{', "{ ", 1), 2),
        ] {
            std::fs::write(&path, changed).unwrap();
            assert!(matches!(read(folder.path()), Err(ChainError::Broken { line, .. }) if line == at));
        }
        std::fs::write(&path, "no line").unwrap();
        assert!(matches!(read(folder.path()), Err(ChainError::Form { line: 1, .. })));
    }

    #[test]
    fn what_is_refused_is_written_and_cut_to_its_bound() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::open(folder.path()).unwrap();
        audit.refused("link_denied", "peer", &"é".repeat(TEXT_MAX_BYTES), "why");
        drop(audit);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while read(folder.path()).unwrap().is_empty() {
            assert!(std::time::Instant::now() < deadline, "nothing was written");
            std::thread::yield_now();
        }
        assert_eq!(read(folder.path()).unwrap()[0].asked.len(), TEXT_MAX_BYTES);
    }
}
