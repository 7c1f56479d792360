//! `cargo xtask bench`: what Weft costs, each figure beside a baseline of the same run.
//!
//! Rounds of the things compared are interleaved, so that a change of the machine's mood meets all of them; medians
//! and ratios are printed. Everything runs on loopback, for a bounded time, and is ended with the run. These figures
//! are no tests: nothing fails when they change. `docs/benchmarks.md` keeps those of record.

mod cluster;
mod deploy;
mod failover;
mod fleet;
mod link;
mod load;
mod memory;
mod nodes;
mod policy;
mod process;
mod raft;
mod schedule;
mod serve;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use crate::{binaries, command, guests};

/// What to measure, and how long.
#[derive(Debug, Args)]
pub struct Arguments {
    /// What to measure; everything if left out.
    #[arg(value_enum)]
    subject: Option<Subject>,
    /// Fewer and shorter rounds, fewer graphs: a trial, not a figure of record.
    #[arg(long)]
    quick: bool,
    /// How long one round of one thing takes.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: Option<u64>,
    /// Measure what `cargo build` makes, without `--release`.
    #[arg(long)]
    dev: bool,
}

/// What there is to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// Hello through the ingress, beside a minimal loop and bare hyper.
    Serve,
    /// A call over a link: on one node beside components composed by wac alone, between two beside bare gRPC.
    Link,
    /// A request at another node than that of its graph, beside one at its node.
    Nodes,
    /// Customers with and without a policy in front of the database.
    Policy,
    /// Three members of the control plane, beside three of etcd.
    Raft,
    /// Where graphs go: from nothing, one more, a node lost; and how that grows.
    Schedule,
    /// A node lost, until all that was on it answers elsewhere.
    Failover,
    /// A fleet of simulated agents: deploys, what the control plane costs, and how soon a tenth that is lost is made up for.
    Fleet,
    /// From `ctl deploy` to the first answer.
    Deploy,
    /// Memory of idle graphs.
    Memory,
}

const ALL: [Subject; 10] = [
    Subject::Serve,
    Subject::Link,
    Subject::Nodes,
    Subject::Policy,
    Subject::Raft,
    Subject::Schedule,
    Subject::Failover,
    Subject::Fleet,
    Subject::Deploy,
    Subject::Memory,
];

/// What the measurements share.
struct Bench {
    /// The examples' built guests and manifests.
    examples: PathBuf,
    /// The binaries measured.
    binaries: PathBuf,
    /// Data of the servers; removed at the end.
    scratch: PathBuf,
    quick: bool,
    rounds: usize,
    round: Duration,
}

/// Builds what is measured, measures, and prints.
pub fn run(root: &Path, target_dir: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    guests::run_rust(root, target_dir)?;
    let binaries = build(root, target_dir, arguments.dev)?;
    let seconds = arguments.seconds.unwrap_or(if arguments.quick { 2 } else { 5 });
    let scratch = target_dir.join(format!("bench-{}", std::process::id()));
    fs::create_dir_all(&scratch)?;
    let bench = Bench {
        examples: root.join("examples"),
        binaries,
        scratch: scratch.clone(),
        quick: arguments.quick,
        rounds: if arguments.quick { 3 } else { 7 },
        round: Duration::from_secs(seconds),
    };
    say(&machine(root, arguments)?);
    let subjects = arguments.subject.map_or_else(|| ALL.to_vec(), |subject| vec![subject]);
    let measured = subjects.into_iter().try_for_each(|subject| match subject {
        Subject::Serve => serve::run(&bench),
        Subject::Link => link::run(&bench),
        Subject::Nodes => nodes::run(&bench),
        Subject::Policy => policy::run(&bench),
        Subject::Raft => raft::run(&bench),
        Subject::Schedule => schedule::run(&bench),
        Subject::Failover => failover::run(&bench),
        Subject::Fleet => fleet::run(&bench),
        Subject::Deploy => deploy::run(&bench),
        Subject::Memory => memory::run(&bench),
    });
    // The servers are ended by now; their logs are worth keeping only where something went wrong.
    match &measured {
        Ok(()) => fs::remove_dir_all(&scratch)?,
        Err(_) => say(&format!("\nlogs and data are kept in {}", scratch.display())),
    }
    measured
}

/// Where what is measured is, built.
fn build(root: &Path, target_dir: &Path, dev: bool) -> anyhow::Result<PathBuf> {
    if dev {
        return binaries::build(root, target_dir);
    }
    // All of the workspace, for the reason that [`binaries::build`] has.
    command::run(command::cargo(
        root,
        &["build", "--release", "--workspace", "--bins", "--examples", "--locked"],
    ))?;
    Ok(target_dir.join("release"))
}

impl Bench {
    fn binary(&self, name: &str) -> PathBuf {
        self.binaries.join(name)
    }

    fn baseline(&self, name: &str) -> PathBuf {
        self.binaries.join("examples").join(name)
    }

    /// An empty folder of this name.
    fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.scratch.join(name);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }
}

/// On what, and of what, the figures are.
fn machine(root: &Path, arguments: &Arguments) -> anyhow::Result<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let git = |what: &[&str]| -> anyhow::Result<String> {
        let output = Command::new("git").current_dir(root).args(what).output().context("run git")?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let changed = if git(&["status", "--porcelain"])?.is_empty() { "" } else { ", with changes" };
    Ok(format!(
        "machine: {} x {}, Linux {}, load {} before the run\ncode: {}{changed}, {} build{}",
        std::thread::available_parallelism()?,
        model.trim_start_matches([' ', '\t', ':']),
        kernel.trim(),
        load.split(' ').next().unwrap_or_default(),
        git(&["rev-parse", "--short", "HEAD"])?,
        if arguments.dev { "dev" } else { "release" },
        if arguments.quick { ", quick" } else { "" },
    ))
}

#[expect(clippy::print_stdout, reason = "a developer's tool; the figures are its output")]
fn say(line: &str) {
    println!("{line}");
}
