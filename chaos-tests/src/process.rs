//! A child process: its log in a file, ended when dropped.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::network::Namespace;
use crate::wait::until;

/// What is around a program, where it is not what is around this test.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// Its network.
    pub namespace: Option<Namespace>,
    /// What it has in its environment, by name.
    pub environment: Vec<(&'static str, PathBuf)>,
}

/// A running child process.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program`, with nothing of this process's environment but what programs need to run.
    pub fn start(name: &str, program: &Path, arguments: &[String], log: PathBuf) -> Self {
        Self::start_in(&Surroundings::default(), name, program, arguments, log)
    }

    /// The same, with surroundings of its own.
    pub fn start_in(
        surroundings: &Surroundings,
        name: &str,
        program: &Path,
        arguments: &[String],
        log: PathBuf,
    ) -> Self {
        let output = File::create(&log).expect("the log can be made");
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(surroundings.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a file can be shared"))
            .stderr(output);
        let spawned = match &surroundings.namespace {
            Some(namespace) => namespace.within(|| command.spawn()),
            None => command.spawn(),
        };
        let child = spawned.unwrap_or_else(|error| panic!("{} cannot be started: {error}", program.display()));
        Self { name: name.to_owned(), child, log }
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The memory it uses.
    pub fn memory_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.id());
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let found = text.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        found.and_then(|kib| kib.parse::<u64>().ok()).expect("a process has memory") << 10
    }

    /// How many files and sockets it has open.
    pub fn open_files(&self) -> usize {
        let path = format!("/proc/{}/fd", self.id());
        std::fs::read_dir(&path).unwrap_or_else(|error| panic!("{path}: {error}")).count()
    }

    /// What it wrote.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(id, signal).unwrap_or_else(|error| panic!("{} cannot be signalled: {error}", self.name));
    }

    /// Kills it, as `kill -9` does; it is gone when this returns.
    pub fn kill(mut self) {
        self.end();
    }

    /// Waits until it has ended by itself.
    pub async fn end_within(&mut self, within: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        until(&what, within, async || self.ended().ok_or("it runs")).await
    }

    fn end(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}
