//! The real binary as a process of its own, and what it says when it cannot start.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::member::{Client, PATIENCE, address_in};

/// Says a line that the test harness does not keep for itself when a test passes.
pub(crate) fn say(line: &str) {
    // There is nowhere else to say that standard error is closed.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// The program with its flags, on a data directory.
pub(crate) fn program(folder: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_control-plane"));
    command.arg("--data-dir").arg(folder).args(flags);
    if !flags.iter().any(|flag| flag.starts_with("--listen")) {
        command.arg("--listen=127.0.0.1:0");
    }
    command.env_remove("WEFT_LOG").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// A running member, killed when it is dropped.
pub(crate) struct Running {
    child: Child,
    pub(crate) address: SocketAddr,
    folder: PathBuf,
    /// How long it took to be ready.
    pub(crate) took: Duration,
}

impl Running {
    pub(crate) async fn start(folder: &Path, flags: &[&str]) -> Self {
        // What a run that was killed left behind.
        let _ = std::fs::remove_file(folder.join("ready.json"));
        let start = Instant::now();
        let mut command = program(folder, flags);
        command.stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let address = address_in(&folder.join("ready.json")).await;
        Self { child, address, folder: folder.to_owned(), took: start.elapsed() }
    }

    /// An operator's client of it.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.address, &self.folder)
    }

    /// As `kill -9` does.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn wait(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("the process does not end: {:?}", child.wait());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs a program that must fail, and returns what it says.
pub(crate) fn failure(mut command: Command) -> String {
    let mut child = command.spawn().unwrap();
    let status = wait(&mut child);
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(!status.success() && status.code().is_some(), "{status:?}: {said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_a_member_from_starting_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let empty = failure(program(path, &[]));
    assert!(empty.contains("start with --init to make a new one"), "{empty}");

    for storage in ["sled", "wal"] {
        let path = path.join(storage);
        let flag = format!("--storage={storage}");
        let running = Running::start(&path, &["--init", &flag]).await;
        let second = failure(program(&path, &["--init", &flag]));
        assert!(second.contains("another control plane runs on this data directory"), "{second}");
        assert!(path.join("ready.json").exists(), "the refused process takes nothing away");
        let address = running.address.to_string();
        let taken =
            failure(program(&path.with_extension("other"), &["--init", &format!("--listen={address}")]));
        assert!(taken.contains("is another control plane running there?"), "{taken}");
        running.kill();
        let other = if storage == "sled" { "--storage=wal" } else { "--storage=sled" };
        let mixed = failure(program(&path, &["--init", other]));
        assert!(mixed.contains("was made with") && mixed.contains(&flag.replace('=', " ")), "{mixed}");
    }

    let brief = failure(program(path, &["--init", "--certificate-lifetime=1s"]));
    assert!(brief.contains("it must be from 10s to 2160h"), "{brief}");
    let mut strange = program(path, &["--init"]);
    strange.env("WEFT_LOG", "=nonsense=");
    let strange = failure(strange);
    assert!(strange.contains("WEFT_LOG"), "{strange}");
    std::fs::write(path.join("file"), "").unwrap();
    let file = failure(program(&path.join("file"), &["--init"]));
    assert!(file.contains("file"), "{file}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_without_the_authority_of_its_cluster_does_not_make_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("one");
    let (authority, flags) = (path.join("authority.pem"), ["--init"]);
    Running::start(&path, &flags).await.kill();
    for secret in ["authority.pem", "operator.pem"] {
        let mode = path.join(secret).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{secret}");
    }
    let right = std::fs::read(&authority).unwrap();
    std::fs::remove_file(&authority).unwrap();
    let lost = failure(program(&path, &flags));
    assert!(lost.contains("is missing, which holds the authority of cluster"), "{lost}");
    assert!(!authority.exists(), "none is made in its place");

    let other = folder.path().join("two");
    Running::start(&other, &flags).await.kill();
    std::fs::copy(other.join("authority.pem"), &authority).unwrap();
    let foreign = failure(program(&path, &flags));
    assert!(foreign.contains("is the authority of cluster"), "{foreign}");
    std::fs::write(&authority, &right[..right.len() / 2]).unwrap();
    let damaged = failure(program(&path, &flags));
    assert!(damaged.contains("is damaged: restore it from a backup"), "{damaged}");

    std::fs::write(&authority, right).unwrap();
    let running = Running::start(&path, &flags).await;
    running.client().state_revision().await;
    running.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_that_lost_a_part_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    Running::start(folder.path(), &["--init", "--storage=wal"]).await.kill();
    let log = folder.path().join("raft/log");
    let bytes = std::fs::read(&log).unwrap();
    for at in [2, 40, bytes.len() / 2] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        std::fs::write(&log, damaged).unwrap();
        let said = failure(program(folder.path(), &["--storage=wal"]));
        assert!(said.contains("is damaged") && said.contains("must not start from it"), "byte {at}: {said}");
    }
    std::fs::write(&log, bytes).unwrap();
    Running::start(folder.path(), &["--storage=wal"]).await.kill();
}
