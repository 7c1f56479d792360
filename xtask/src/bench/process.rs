//! The servers of a measurement: started with a log of their own, asked for their CPU time and memory, and ended with
//! the value that holds them.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// How long a server may take to say where it listens; it may compile a component first.
const START_PATIENCE: Duration = Duration::from_secs(60);
const START_POLL: Duration = Duration::from_millis(10);
/// The unit of times in `/proc/PID/stat`: `USER_HZ`, 100 on every Linux.
const TICK: Duration = Duration::from_millis(10);
/// Lines of a log that are shown where a server ends early.
const LOG_LINES: usize = 20;

/// A running server; killed when dropped.
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts `command`, with its standard error in a file of `folder`.
    pub fn start(name: &str, command: &mut Command, folder: &Path) -> anyhow::Result<Self> {
        let log = folder.join(format!("{name}.log"));
        command.stdin(Stdio::null()).stderr(File::create(&log)?);
        let child = command.spawn().with_context(|| format!("start {name}"))?;
        Ok(Self { child, name: name.to_owned(), log })
    }

    /// Starts a baseline, which prints its address as its first line.
    pub fn start_baseline(
        name: &str,
        command: &mut Command,
        folder: &Path,
    ) -> anyhow::Result<(Self, SocketAddr)> {
        let mut process = Self::start(name, command.stdout(Stdio::piped()), folder)?;
        let stdout = process.child.stdout.take().context("standard output is piped")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        match line.trim().parse() {
            Ok(address) => Ok((process, address)),
            Err(_) => Err(process.failure("did not print its address")),
        }
    }

    /// Waits for a JSON file that the server writes when it listens.
    pub fn ready(&mut self, file: &Path) -> anyhow::Result<serde_json::Value> {
        let started = Instant::now();
        while started.elapsed() < START_PATIENCE {
            if let Ok(text) = fs::read_to_string(file) {
                return serde_json::from_str(&text).with_context(|| format!("read {}", file.display()));
            }
            if self.child.try_wait()?.is_some() {
                return Err(self.failure("ended at once"));
            }
            std::thread::sleep(START_POLL);
        }
        Err(self.failure("did not get ready"))
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn failure(&self, what: &str) -> anyhow::Error {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
        anyhow::anyhow!("{} {what}; its log ends with:\n{tail}", self.name)
    }

    /// The CPU time of all its threads so far.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))
            .with_context(|| format!("{} has ended", self.name))?;
        // The name in brackets may have spaces; user and system time are the 14th and 15th field of the line.
        let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let [user, system] = [11, 12].map(|at| fields.get(at).and_then(|text| text.parse::<u32>().ok()));
        match (user, system) {
            (Some(user), Some(system)) => Ok(TICK * (user + system)),
            _ => bail!("/proc/PID/stat has another form here"),
        }
    }

    /// Its resident memory: all of it, and what of it is not backed by files.
    pub fn memory(&self) -> anyhow::Result<Memory> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
        };
        match (field("VmRSS:"), field("RssAnon:")) {
            (Some(resident_kib), Some(anonymous_kib)) => Ok(Memory { resident_kib, anonymous_kib }),
            _ => bail!("/proc/PID/status has another form here"),
        }
    }
}

/// Resident memory of a process.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// All of it.
    pub resident_kib: u64,
    /// Without pages of files.
    pub anonymous_kib: u64,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
