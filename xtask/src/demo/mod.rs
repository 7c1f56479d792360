//! `cargo xtask demo`: the founding example on a cluster of real processes. One unchanged component answers with whole
//! e-mail addresses, and with their domains hidden once a policy stands in front of its database.
//!
//! Only commands that anyone could type are used, and they are shown. The answers are checked, and nothing is waited
//! for in between: what `ctl` reports as done must be seen by the next request.

mod customers;
mod dev;
mod http;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use clap::Args;

use crate::{binaries, command, guests};
use dev::Dev;

/// The graph and the policy, on one node.
const WHOLE: [&str; 2] = ["examples/customers/graph.yaml", "examples/customers/pii-firewall.yaml"];
/// The same with application, policy and database on a node each.
const APART: [&str; 2] = ["examples/customers/graph-apart.yaml", "examples/customers/pii-firewall-apart.yaml"];
/// From this many nodes on, the parts of the graph go to nodes of their own.
const APART_NODES: u16 = 3;
const POLICY_NAME: &str = "pii-firewall";
const HOST: &str = "customers.localhost";
const PATH: &str = "/customers";
/// Where `ctl` looks for a control plane when nobody tells it.
const API: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7100);
const INGRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8000);

/// How the demo runs.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Stop everything after the check; begins with an empty data directory, on free ports.
    #[arg(long)]
    once: bool,
    /// Where the cluster keeps its data; a later run goes on with it [default: `demo` or, on several nodes, `demo-apart` in the target directory].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where the API listens; port 0 takes a free one [default: 127.0.0.1:7100, with --once a free port].
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Where the ingress listens; port 0 takes a free one [default: 127.0.0.1:8000, with --once a free port].
    #[arg(long, value_name = "ADDRESS")]
    ingress: Option<SocketAddr>,
    /// How many nodes the cluster has, from 1 to 16; from 3 on, application, policy and database are on a node each
    /// [default: 1].
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=16))]
    nodes: Option<u16>,
    /// Take guests and programs as they were built last.
    #[arg(long)]
    no_build: bool,
}

impl Arguments {
    /// As CI runs it.
    pub const fn once() -> Self {
        Self { once: true, data_dir: None, listen: None, ingress: None, nodes: None, no_build: false }
    }

    /// Whether there are enough nodes for one of each part.
    fn is_apart(&self) -> bool {
        self.nodes.is_some_and(|nodes| nodes >= APART_NODES)
    }

    fn address(&self, given: Option<SocketAddr>, default: SocketAddr) -> SocketAddr {
        given.unwrap_or(SocketAddr::new(default.ip(), if self.once { 0 } else { default.port() }))
    }
}

/// A cluster that runs, and `ctl` for it.
struct Demo<'a> {
    root: &'a Path,
    graph: &'static str,
    policy: &'static str,
    is_apart: bool,
    ctl: PathBuf,
    dev: Dev,
    settings: Option<PathBuf>,
}

/// Runs the demo.
pub fn run(root: &Path, target_dir: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    let programs = if arguments.no_build {
        binaries::folder(target_dir)
    } else {
        guests::run_rust(root, target_dir)?;
        binaries::build(root, target_dir)?
    };
    let data_dir = data_dir(target_dir, arguments)?;
    // Without the folder of its node, no database was ever made.
    let is_new = !data_dir.join("n1").exists();
    let ctl = programs.join("ctl");
    let listen = arguments.address(arguments.listen, API);
    let ingress = arguments.address(arguments.ingress, INGRESS);
    // A run that ends at once leaves nothing with its user.
    let settings = arguments.once.then(|| data_dir.join("settings"));
    let dev = Dev::start(&ctl, root, &data_dir, listen, ingress, arguments.nodes, settings.as_deref())?;
    let is_apart = arguments.is_apart();
    let [graph, policy] = if is_apart { APART } else { WHOLE };
    let demo = Demo { root, graph, policy, is_apart, ctl, dev, settings };

    let whole = demo.without_policy(is_new)?;
    let hidden = demo.with_policy(&whole)?;
    let url = demo.url(PATH);
    command::say(&customers::side_by_side(&url, POLICY_NAME, &whole, &hidden));
    if arguments.once {
        return demo.dev.stop();
    }
    command::say(&demo.next());
    demo.dev.serve()
}

/// With `--once`, a folder that is empty; else one that the next run finds again.
fn data_dir(target_dir: &Path, arguments: &Arguments) -> anyhow::Result<PathBuf> {
    if let Some(given) = &arguments.data_dir {
        return std::path::absolute(given).context("the data directory");
    }
    if !arguments.once {
        // A database does not move: each way to place it has a folder of its own.
        return Ok(target_dir.join(if arguments.is_apart() { "demo-apart" } else { "demo" }));
    }
    let fresh = target_dir.join("demo-once");
    match fs::remove_dir_all(&fresh) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("empty {}", fresh.display()))
        }
        _ => Ok(fresh),
    }
}

impl Demo<'_> {
    /// Deploys the graph as its author wrote it, and asks it.
    fn without_policy(&self, is_new: bool) -> anyhow::Result<Vec<customers::Customer>> {
        let policies = command::output(self.ctl(&["policy", "list", "--output", "name"]))?;
        if policies.lines().any(|name| name == POLICY_NAME) {
            command::say(&format!("The policy {POLICY_NAME} is there from an earlier run."));
            command::run(self.ctl(&["policy", "delete", POLICY_NAME, "--yes"]))?;
        }
        command::run(self.ctl(&["deploy", self.graph]))?;
        let found = self.ask()?;
        // Somebody may have changed them since the first run: then the addresses must be whole, whatever they are.
        if is_new {
            let expected = customers::seeded();
            ensure!(found == expected, "the answer without a policy is {found:?}, and should be {expected:?}");
        }
        let hidden: Vec<_> = found.iter().filter(|customer| customer.email.contains('*')).collect();
        ensure!(hidden.is_empty(), "without a policy, these addresses are hidden: {hidden:?}");
        Ok(found)
    }

    /// Puts the policy in front of the database, and asks the same component again.
    fn with_policy(&self, whole: &[customers::Customer]) -> anyhow::Result<Vec<customers::Customer>> {
        command::run(self.ctl(&["policy", "apply", self.policy]))?;
        let found = self.ask()?;
        if self.is_apart {
            let drawn = command::output(self.ctl(&["graph", "customers"]))?;
            command::say(&format!("$ ctl graph customers\n{drawn}"));
            ensure!(drawn.contains("remote: n1 -> n2 -> n3"), "the graph is not on three nodes");
        }
        let expected: Vec<_> = whole.iter().map(customers::Customer::hidden).collect();
        ensure!(found == expected, "the answer with the policy is {found:?}, and should be {expected:?}");
        Ok(found)
    }

    fn ask(&self) -> anyhow::Result<Vec<customers::Customer>> {
        command::say(&format!("$ curl {}", self.url(PATH)));
        let answer = http::get(self.dev.ingress(), HOST, PATH)?;
        command::say(&answer.body);
        ensure!(answer.status == 200, "{} answers with {}: {}", self.url(PATH), answer.status, answer.body);
        serde_json::from_str(&answer.body)
            .with_context(|| format!("{PATH} is no list of customers: {}", answer.body))
    }

    fn url(&self, path: &str) -> String {
        format!("http://{HOST}:{}{path}", self.dev.ingress().port())
    }

    fn ctl(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.ctl);
        command.current_dir(self.root).args(arguments).env("CTL_ADDR", format!("https://{}", self.dev.api()));
        dev::surround(&mut command, self.settings.as_deref());
        command
    }

    /// What to try while the cluster serves: lines to copy.
    fn next(&self) -> String {
        let folder = self.ctl.parent().unwrap_or(&self.ctl).display();
        let mut lines = vec![
            "It goes on serving until Ctrl-C, and the next `cargo xtask demo` finds its data again.".to_owned(),
            "What to try next, in another terminal:".to_owned(),
            String::new(),
            format!("  export PATH=\"{folder}:$PATH\""),
        ];
        if self.dev.api() != API {
            lines.push(format!("  export CTL_ADDR=https://{}", self.dev.api()));
        }
        let change =
            format!("curl -d '{{\"email\": \"countess@lovelace.example\"}}' {}", self.url("/customers/1"));
        for line in [
            "ctl graph customers                  # the graph as linked: the policy stands before the database",
            "ctl access customers/app             # everything the component may reach",
            "ctl policy list",
            &change,
            "ctl logs customers/app",
            "ctl policy delete pii-firewall       # whole addresses again, without a deploy",
            "ctl history customers",
            "ctl --help",
        ] {
            lines.push(format!("  {line}"));
        }
        lines.push(String::new());
        lines.join("\n")
    }
}
