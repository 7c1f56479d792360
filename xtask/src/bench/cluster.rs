//! A cluster of real processes: one member of the control plane, one node agent or several, and `ctl` to tell them
//! what to do.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::Bench;
use super::load::{Connection, Target};
use super::process::Process;

/// How long a graph may take to answer: the first one is compiled.
const SERVING_PATIENCE: Duration = Duration::from_secs(60);
/// How often a graph that does not answer yet is asked: well below what a deploy takes.
const SERVING_POLL: Duration = Duration::from_micros(500);

/// What an agent writes when it listens.
const READY_FILE: &str = "agent.json";

/// The processes, ended with this value.
pub struct Cluster {
    /// The member of the control plane.
    pub control_plane: Process,
    /// The agent of the node `n1`.
    pub agent: Process,
    /// The agents of `n2` and so on.
    pub others: Vec<Process>,
    /// Where the ingress of `n1` listens.
    pub ingress: SocketAddr,
    /// Where those of `n2` and so on listen.
    pub other_ingresses: Vec<SocketAddr>,
    ctl: Ctl,
    folder: PathBuf,
}

/// `ctl` for one cluster.
struct Ctl {
    program: PathBuf,
    api: String,
    credentials: PathBuf,
}

impl Ctl {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = clean(&self.program);
        command.env("CTL_ADDR", format!("https://{}", self.api)).env("CTL_CREDENTIALS", &self.credentials);
        command.args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.command(arguments).output().context("run ctl")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            bail!("ctl {} failed ({}):\n{said}", arguments.join(" "), output.status);
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// A member of the control plane that is a cluster by itself, without a node.
pub struct ControlPlane {
    /// Its process.
    pub process: Process,
    /// Where it listens.
    pub api: String,
    /// What its operator has.
    pub operator: PathBuf,
}

impl ControlPlane {
    /// Starts it in an empty folder, and waits until it listens.
    pub fn start(bench: &Bench, folder: &Path) -> anyhow::Result<Self> {
        let data = folder.join("control-plane");
        let mut command = clean(&bench.binary("control-plane"));
        command.args(["--listen", "127.0.0.1:0", "--init", "--data-dir"]).arg(&data);
        let mut process = Process::start("control-plane", &mut command, folder)?;
        let api = text(&process.ready(&data.join("ready.json"))?, "api_address")?;
        Ok(Self { process, api, operator: data.join("operator.pem") })
    }
}

impl Cluster {
    /// Starts both in an empty folder, and waits until they listen.
    pub fn start(bench: &Bench, name: &str) -> anyhow::Result<Self> {
        Self::start_nodes(bench, name, 1)
    }

    /// The same with several nodes.
    pub fn start_nodes(bench: &Bench, name: &str, nodes: usize) -> anyhow::Result<Self> {
        let folder = bench.folder(name)?;
        let ControlPlane { process: control_plane, api, operator } = ControlPlane::start(bench, &folder)?;
        let ctl = Ctl { program: bench.binary("ctl"), api, credentials: operator };
        let (agent, ingress) = start_agent(bench, &folder, &ctl, 1)?;
        let (mut others, mut other_ingresses) = (Vec::new(), Vec::new());
        for number in 2..=nodes {
            let (agent, ingress) = start_agent(bench, &folder, &ctl, number)?;
            others.push(agent);
            other_ingresses.push(ingress);
        }
        Ok(Self { control_plane, agent, others, ingress, other_ingresses, ctl, folder })
    }

    /// Starts the agent of a node again that has ended, `n2` or later.
    pub fn restart_agent(&mut self, bench: &Bench, number: usize) -> anyhow::Result<()> {
        let at = number.checked_sub(2).filter(|at| *at < self.others.len()).context("a node beside n1")?;
        let data = self.folder.join(format!("agent-n{number}"));
        fs::remove_file(data.join(READY_FILE))?;
        (self.others[at], self.other_ingresses[at]) = run_agent(bench, &self.folder, &self.ctl, number)?;
        Ok(())
    }

    /// Runs `ctl` to its end.
    pub fn ctl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.ctl.run(arguments)
    }

    /// `ctl`, told where the cluster is, and nothing of its user's settings.
    pub fn ctl_command(&self, arguments: &[&str]) -> Command {
        self.ctl.command(arguments)
    }

    /// A folder of the cluster for manifests.
    pub fn manifests(&self) -> anyhow::Result<PathBuf> {
        let folder = self.folder.join("manifests");
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// A question to a graph through the ingress.
    pub fn target(&self, host: &str, path: &str) -> Target {
        Target { address: self.ingress, host: host.to_owned(), path: path.to_owned() }
    }

    /// Waits until the ingress answers with success.
    pub fn answers(&self, target: &Target) -> anyhow::Result<Instant> {
        let started = Instant::now();
        let mut connection = Connection::open(target)?;
        loop {
            let response = connection.ask()?;
            if response.status == 200 {
                return Ok(Instant::now());
            }
            if started.elapsed() > SERVING_PATIENCE {
                let said = String::from_utf8_lossy(&response.body).into_owned();
                bail!("{} does not answer: {} {said}", target.host, response.status);
            }
            std::thread::sleep(SERVING_POLL);
        }
    }
}

/// The agent of a node, and where its ingress listens.
fn start_agent(
    bench: &Bench,
    folder: &Path,
    ctl: &Ctl,
    number: usize,
) -> anyhow::Result<(Process, SocketAddr)> {
    let node = format!("n{number}");
    fs::write(folder.join(format!("token-{node}")), ctl.run(&["node", "token", &node])?)?;
    run_agent(bench, folder, ctl, number)
}

fn run_agent(bench: &Bench, folder: &Path, ctl: &Ctl, number: usize) -> anyhow::Result<(Process, SocketAddr)> {
    let node = format!("n{number}");
    let data = folder.join(format!("agent-{node}"));
    let token = folder.join(format!("token-{node}"));
    let mut command = clean(&bench.binary("node-agent"));
    command.args(["--name", &node, "--api-listen", "127.0.0.1:0", "--ingress-listen", "127.0.0.1:0"]);
    command.args(["--control-plane", &format!("https://{}", ctl.api), "--data-dir"]).arg(&data);
    command.arg("--join-token-file").arg(&token);
    let mut agent = Process::start(&format!("node-agent-{node}"), &mut command, folder)?;
    let ingress = text(&agent.ready(&data.join(READY_FILE))?, "ingress_address")?.parse()?;
    Ok((agent, ingress))
}

/// A command that sees no setting of whoever runs the measurement.
pub fn clean(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("WEFT_") || text.starts_with("CTL_") {
            command.env_remove(&name);
        }
    }
    command
}

fn text(value: &serde_json::Value, field: &str) -> anyhow::Result<String> {
    Ok(value[field].as_str().with_context(|| format!("no {field}"))?.to_owned())
}
