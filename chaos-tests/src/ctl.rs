//! `ctl` as a process, as people and pipelines run it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use crate::built;
use crate::cluster::{Cluster, OPERATOR_FILE};
use crate::say;

/// A command that takes longer hangs.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

/// `ctl` for one cluster.
#[derive(Debug, Clone)]
pub struct Ctl {
    addresses: String,
    credentials: PathBuf,
    home: PathBuf,
    folder: PathBuf,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code.
    pub code: i32,
    /// Data.
    pub stdout: String,
    /// Progress, notes and errors.
    pub stderr: String,
}

impl Ctl {
    /// `ctl` for this cluster.
    pub fn new(cluster: &Cluster) -> Self {
        let home = cluster.folder().join("home");
        let credentials = cluster.control_plane.data_dir.join(OPERATOR_FILE);
        let addresses = cluster.member_addresses().iter().map(ToString::to_string).collect::<Vec<_>>();
        Self { addresses: addresses.join(","), credentials, folder: home.clone(), home }
    }

    /// The same, run in another folder than an empty home.
    #[must_use]
    pub fn in_folder(self, folder: PathBuf) -> Self {
        Self { folder, ..self }
    }

    /// Runs one command.
    pub async fn run(&self, arguments: &[&str]) -> Ended {
        std::fs::create_dir_all(&self.home).expect("a folder can be made");
        let running = Command::new(built::binary("ctl"))
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.home)
            .env("CTL_ADDR", &self.addresses)
            .env("CTL_CREDENTIALS", &self.credentials)
            .current_dir(&self.folder)
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(COMMAND_TIMEOUT, running).await;
        let output = output.unwrap_or_else(|_| panic!("`ctl {}` did not end", arguments.join(" ")));
        let output = output.expect("ctl can be started");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("ctl writes UTF-8");
        let ended = Ended {
            code: output.status.code().expect("ctl ends by itself"),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        };
        say(&format!("$ ctl {}\n{}{}[exit {}]", arguments.join(" "), ended.stdout, ended.stderr, ended.code));
        ended
    }

    /// Runs one command that must end with 0; returns its data.
    pub async fn done(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments).await;
        assert_eq!(ended.code, 0, "`ctl {}`: {}", arguments.join(" "), ended.stderr);
        ended.stdout
    }
}

/// A path as an argument.
pub fn argument(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}
