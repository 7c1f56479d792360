//! From `ctl deploy` of a graph whose component is known to its first answer.
//!
//! The time starts before the process of `ctl` does and ends when the ingress has answered, so it holds the start of
//! ctl, reading and checking the manifest and the component, both rounds of Raft with their writes to disk, the
//! agent's work and one request.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context as _, ensure};

use super::cluster::Cluster;
use super::table::quantile;
use super::{Bench, say};

/// Deploys of a full run, and of a trial.
const DEPLOYS: usize = 60;
const DEPLOYS_QUICK: usize = 20;

pub fn run(bench: &Bench) -> anyhow::Result<()> {
    let cluster = Cluster::start(bench, "deploy")?;
    // The first one uploads and compiles; the next ones find all of that done.
    cluster.ctl(&["deploy", &manifest(bench, &cluster, "first")?.to_string_lossy()])?;
    cluster.answers(&cluster.target("first.localhost", "/"))?;
    let (mut accepted, mut answered) = (Vec::new(), Vec::new());
    for number in 0..if bench.quick { DEPLOYS_QUICK } else { DEPLOYS } {
        let name = format!("deploy-{number}");
        let file = manifest(bench, &cluster, &name)?;
        let target = cluster.target(&format!("{name}.localhost"), "/");
        let started = Instant::now();
        let mut ctl = cluster
            .ctl_command(&["deploy", &file.to_string_lossy(), "--detach"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("run ctl")?;
        let (ended, first) = std::thread::scope(|scope| {
            let waiting = scope.spawn(move || ctl.wait().map(|status| (status, Instant::now())));
            (waiting.join(), cluster.answers(&target))
        });
        let (status, ended) = ended.map_err(|_| anyhow::anyhow!("waiting for ctl panicked"))??;
        ensure!(status.success(), "ctl deploy {name} failed: {status}");
        accepted.push((ended - started).as_secs_f64() * 1e3);
        answered.push((first? - started).as_secs_f64() * 1e3);
    }
    say(&format!(
        "\ndeploy: `ctl deploy --detach` of a new graph of a known component, {} times one after another, from the \
         start of the process",
        answered.len()
    ));
    say(&format!("  {:<34} {:>8} {:>8} {:>8}", "", "p50 ms", "p99 ms", "least ms"));
    for (name, times) in [("to the end of ctl (acknowledged)", &accepted), ("to the first answer", &answered)] {
        let [p50, p99, least] = [0.5, 0.99, 0.0].map(|share| quantile(times, share));
        say(&format!("  {name:<34} {p50:>8.1} {p99:>8.1} {least:>8.1}"));
    }
    Ok(())
}

/// A graph of the hello component under a name of its own.
pub fn manifest(bench: &Bench, cluster: &Cluster, name: &str) -> anyhow::Result<PathBuf> {
    let folder = cluster.manifests()?;
    let component = folder.join("app.wasm");
    if !component.exists() {
        fs::copy(bench.examples.join("hello/build/app.wasm"), &component)?;
    }
    let text = format!(
        "version: 1\ngraph: {name}\ningress:\n  - {{http: {{host: {name}.localhost, path: /}}, to: app}}\n\
         components:\n  app: {{source: ./app.wasm}}\n"
    );
    let file = folder.join(format!("{name}.yaml"));
    fs::write(&file, text)?;
    Ok(file)
}
