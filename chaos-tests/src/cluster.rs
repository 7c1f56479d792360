//! A control plane and a node agent, as processes that can be killed and started again.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::api::Api;
use crate::process::Process;
use crate::seed::Choices;
use crate::traffic::Client;
use crate::wait::{SOON, until};
use crate::{built, say};

/// Below the ports that systems give to outgoing connections: the port of a process that is down must not become
/// a client's.
const PORTS: std::ops::Range<u64> = 15_000..30_000;
/// Below the folder of temporary files: a file for each claimed port.
const CLAIMS: &str = "weft-chaos-ports";
/// The lines of a log that are shown with a failure.
const LOG_LINES_SHOWN: usize = 40;
/// How soon the control plane gives up an agent that is gone, so that tests see it.
const NODE_TIMEOUT_MS: u64 = 1_500;

/// One of the two binaries, with what outlives its process.
#[derive(Debug)]
pub struct Member {
    name: &'static str,
    arguments: Vec<String>,
    /// Where it keeps what survives.
    pub data_dir: PathBuf,
    ready_file: &'static str,
    logs: PathBuf,
    starts: usize,
    process: Option<Process>,
}

/// A control plane, a node agent, and the folder of both.
pub struct Cluster {
    /// The control plane.
    pub control_plane: Member,
    /// The node agent.
    pub agent: Member,
    /// Random choices of this test.
    pub choices: Choices,
    control_plane_address: SocketAddr,
    agent_api_address: SocketAddr,
    ingress_address: SocketAddr,
    /// Dropped after the processes.
    _claims: Vec<File>,
    /// Dropped last: the processes write to it.
    folder: Option<TempDir>,
}

impl Cluster {
    /// Starts both and waits until the node is ready.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts both, the agent with some flags more.
    pub async fn start_with(agent_flags: &[&str]) -> Self {
        let mut choices = Choices::new();
        let folder = tempfile::Builder::new().prefix("weft-chaos-").tempdir().expect("a folder can be made");
        let ([control_plane, api, ingress], claims) = claim_addresses(&mut choices);
        let member = |name, ready_file, flags: &[String]| {
            let data_dir = folder.path().join(name);
            std::fs::create_dir_all(&data_dir).expect("a folder can be made");
            let mut arguments = vec!["--data-dir".to_owned(), data_dir.display().to_string()];
            arguments.extend_from_slice(flags);
            let logs = folder.path().to_owned();
            Member { name, arguments, data_dir, ready_file, logs, starts: 0, process: None }
        };
        let flag = |name: &str, value: &dyn std::fmt::Display| [format!("--{name}"), value.to_string()];
        let flags = [flag("listen", &control_plane), flag("node-timeout-ms", &NODE_TIMEOUT_MS)].concat();
        let mut cluster = Self {
            control_plane: member("control-plane", "ready.json", &[flags, vec!["--init".to_owned()]].concat()),
            agent: member(
                "node-agent",
                "agent.json",
                &[
                    flag("name", &"n1").to_vec(),
                    flag("control-plane", &format!("http://{control_plane}")).to_vec(),
                    flag("api-listen", &api).to_vec(),
                    flag("ingress-listen", &ingress).to_vec(),
                    agent_flags.iter().map(|&flag| flag.to_owned()).collect(),
                ]
                .concat(),
            ),
            choices,
            control_plane_address: control_plane,
            agent_api_address: api,
            ingress_address: ingress,
            _claims: claims,
            folder: Some(folder),
        };
        cluster.control_plane.start().await;
        cluster.agent.start().await;
        cluster.node_ready().await;
        cluster
    }

    /// The control plane's API.
    pub fn api(&self) -> Api {
        Api::new(self.control_plane_address)
    }

    /// Where the control plane listens.
    pub fn control_plane_address(&self) -> SocketAddr {
        self.control_plane_address
    }

    /// Where the agent's API listens.
    pub fn agent_api_address(&self) -> SocketAddr {
        self.agent_api_address
    }

    /// Where the ingress listens.
    pub fn ingress_address(&self) -> SocketAddr {
        self.ingress_address
    }

    /// Asks a graph by its host, on a connection of its own.
    pub fn client(&self, host: &str) -> Client {
        Client::new(self.ingress_address, host)
    }

    /// The folder of everything; kept if the test fails.
    pub fn folder(&self) -> &Path {
        self.folder.as_ref().expect("the folder lives as long as the cluster").path()
    }

    /// Waits until the control plane counts on the node.
    pub async fn node_ready(&self) {
        let api = self.api();
        until("node n1 is ready", SOON, async || match api.node("n1").await {
            Ok(node) if node.state == "ready" => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let Some(folder) = self.folder.take() else { return };
        let folder = folder.keep();
        say(&format!("data and logs of the failed test: {}", folder.display()));
        for member in [&mut self.control_plane, &mut self.agent] {
            if let Some(status) = member.process.as_mut().and_then(Process::ended) {
                say(&format!("--- {} had ended by itself: {status}", member.name));
            }
            let log = member.last_log();
            let lines: Vec<&str> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
            say(&format!("--- the end of the log of {}:\n{}", member.name, shown.join("\n")));
        }
    }
}

impl Member {
    /// Starts it and waits until it says that it listens.
    pub async fn start(&mut self) {
        self.spawn();
        let what = format!("{} is ready", self.name);
        until(&what, SOON, async || self.look()).await;
    }

    /// Starts it, without waiting.
    pub fn spawn(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        self.starts += 1;
        let log = self.log_file(self.starts);
        self.process = Some(Process::start(self.name, &built::binary(self.name), &self.arguments, log));
    }

    fn look(&mut self) -> Result<(), String> {
        let process = self.process.as_mut().expect("it was started");
        if let Some(status) = process.ended() {
            panic!("{} ended at its start with {status}:\n{}", self.name, process.log());
        }
        let path = self.data_dir.join(self.ready_file);
        let text = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let ready: Value = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        // The file of the process before is there until this one has written its own.
        if ready["pid"] == process.id() { Ok(()) } else { Err(format!("{ready} is of another process")) }
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process.take().expect("it runs").kill();
    }

    /// `kill -9`, then start.
    pub async fn restart(&mut self) {
        self.kill();
        self.start().await;
    }

    /// Asks it to end, without waiting.
    pub fn terminate(&self) {
        self.process.as_ref().expect("it runs").signal(Signal::TERM);
    }

    /// Makes it stand still.
    pub fn pause(&self) {
        self.process.as_ref().expect("it runs").signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.process.as_ref().expect("it runs").signal(Signal::CONT);
    }

    /// Waits until it has ended after [`Member::terminate`].
    pub async fn end_within(&mut self, within: Duration) -> ExitStatus {
        let status = self.process.as_mut().expect("it runs").end_within(within).await;
        self.process = None;
        status
    }

    /// Whether its process lives.
    pub fn runs(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.ended().is_none())
    }

    /// What its last process wrote.
    pub fn last_log(&self) -> String {
        std::fs::read_to_string(self.log_file(self.starts)).unwrap_or_default()
    }

    fn log_file(&self, start: usize) -> PathBuf {
        self.logs.join(format!("{}-{start}.log", self.name))
    }
}

/// Free addresses, and the files whose locks keep other tests from taking them while a process of this one is down.
fn claim_addresses<const N: usize>(choices: &mut Choices) -> ([SocketAddr; N], Vec<File>) {
    let folder = std::env::temp_dir().join(CLAIMS);
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    let mut claims = Vec::new();
    let addresses = std::array::from_fn(|_| {
        loop {
            let port = u16::try_from(PORTS.start + choices.below(PORTS.end - PORTS.start)).expect("a port");
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let claim = File::create(folder.join(port.to_string())).expect("a file can be made");
            if claim.try_lock().is_ok() && TcpListener::bind(address).is_ok() {
                claims.push(claim);
                return address;
            }
        }
    });
    (addresses, claims)
}
