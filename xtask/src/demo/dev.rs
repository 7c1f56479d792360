//! The cluster of the demo: one `ctl dev`, which starts the other processes and ends them.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::signal::unix::{SignalKind, signal};

use crate::command;

/// What would send `ctl` or its children elsewhere than their flags say.
const FOREIGN_SETTINGS: [&str; 5] =
    ["CTL_CREDENTIALS", "CTL_NAMESPACE", "WEFT_ADVERTISE", "WEFT_CONFIG", "WEFT_DATA_DIR"];
/// How long a start may take: two starts of `ctl dev`, each with its own patience of 60 s.
const START_PATIENCE: Duration = Duration::from_secs(120);
/// How long the end may take: `ctl dev` gives the agents 25 s and the control plane 10 s.
const STOP_PATIENCE: Duration = Duration::from_secs(40);
/// How often the start and the end are looked for: nobody sees the difference.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A running `ctl dev`; ended with this value.
pub struct Dev {
    child: Child,
    running: Running,
}

/// What `ctl dev` says of itself in `dev.json`.
#[derive(Debug, Deserialize)]
struct Running {
    pid: u32,
    api_address: SocketAddr,
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    ingress_address: SocketAddr,
}

/// Takes out of the environment of `ctl` what is meant for another, and gives it a folder of settings of its own.
pub fn surround(command: &mut Command, settings: Option<&Path>) {
    for variable in FOREIGN_SETTINGS {
        command.env_remove(variable);
    }
    if let Some(settings) = settings {
        command.env("XDG_CONFIG_HOME", settings);
    }
}

impl Dev {
    /// Starts it and waits until the cluster is ready; how many nodes it has is its own choice if nobody says.
    pub fn start(
        ctl: &Path,
        root: &Path,
        data_dir: &Path,
        listen: SocketAddr,
        ingress: SocketAddr,
        nodes: Option<u16>,
        settings: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(ctl);
        command.current_dir(root).arg("dev").arg("--data-dir").arg(data_dir);
        command.args(["--listen", &listen.to_string(), "--ingress", &ingress.to_string()]);
        if let Some(nodes) = nodes {
            command.args(["--nodes", &nodes.to_string()]);
        }
        surround(&mut command, settings);
        let line = command::line(&command);
        command::say(&format!("$ {line} &"));
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("start {}: without --no-build, it is built first", ctl.display()))?;
        let nothing = Running { pid: child.id(), api_address: listen, nodes: Vec::new() };
        let mut dev = Self { child, running: nothing };
        dev.running = dev.wait_until_ready(&data_dir.join("dev.json"))?;
        Ok(dev)
    }

    fn wait_until_ready(&mut self, file: &PathBuf) -> anyhow::Result<Running> {
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("`ctl dev` ended at its start: {status}");
            }
            // A file that an earlier run left there does not count.
            let found = fs::read(file).ok().and_then(|text| serde_json::from_slice::<Running>(&text).ok());
            if let Some(running) = found.filter(|running| running.pid == self.child.id()) {
                ensure!(!running.nodes.is_empty(), "`ctl dev` started no node: {}", file.display());
                return Ok(running);
            }
            ensure!(Instant::now() < deadline, "`ctl dev` is not ready after {} s", START_PATIENCE.as_secs());
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Where the control plane's API listens.
    pub fn api(&self) -> SocketAddr {
        self.running.api_address
    }

    /// Where the ingress of the first node listens.
    pub fn ingress(&self) -> SocketAddr {
        self.running.nodes.first().map_or(self.running.api_address, |node| node.ingress_address)
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.ask_to_stop();
        let deadline = Instant::now() + STOP_PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "`ctl dev` did not end well: {status}");
                return Ok(());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        bail!("`ctl dev` has not ended {} s after it was asked to", STOP_PATIENCE.as_secs())
    }

    /// Waits until it ends, by Ctrl-C or by itself.
    pub fn serve(mut self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let status = runtime.block_on(async {
            // Ctrl-C reaches `ctl dev` too, which ends in order; this process must not end before.
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            loop {
                if let Some(status) = self.child.try_wait()? {
                    return anyhow::Ok(status);
                }
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => self.ask_to_stop(),
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
            }
        })?;
        ensure!(status.success(), "`ctl dev` did not end well: {status}");
        Ok(())
    }

    fn ask_to_stop(&self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // It may have ended just now, which is what is wanted.
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

impl Drop for Dev {
    /// Where something failed: nothing stays behind.
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        self.ask_to_stop();
        let deadline = Instant::now() + STOP_PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(LOOK_EVERY);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
