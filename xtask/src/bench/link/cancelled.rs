//! How soon a call ends on another node when its caller is gone.

use std::io::Write as _;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::streams::STREAMS;
use crate::bench::cluster::Cluster;
use crate::bench::table::{median, quantile};
use crate::bench::{Bench, say};

const GRAPH: &str = "ticking";
/// Between two signs of life of the callee: as exact as the figure can be.
const TICK_MS: u64 = 2;
/// Long enough to be sure that the callee lives, and that it does not.
const PATIENCE: Duration = Duration::from_millis(250);
/// Clients that break off.
const TIMES: usize = 20;
const QUICK_TIMES: usize = 5;
/// The target of the design.
const MOST_MS: f64 = 50.0;

pub fn run(bench: &Bench) -> anyhow::Result<()> {
    let cluster = Cluster::start_nodes(bench, GRAPH, 2)?;
    STREAMS.deploy(bench, &cluster, GRAPH, "n2")?;
    let mut ended_ms = Vec::new();
    for _ in 0..if bench.quick { QUICK_TIMES } else { TIMES } {
        ended_ms.push(break_off(&cluster)?);
    }
    let most = quantile(&ended_ms, 1.0);
    let word = if most <= MOST_MS { "met" } else { "missed" };
    say(&format!(
        "\nlink: a client breaks off; from then to the last sign of life of the callee on another node, {} times\n  \
         median {:.0} ms, most {most:.0} ms\n  target: at most {MOST_MS:.0} ms: {word}",
        ended_ms.len(),
        median(&ended_ms),
    ));
    Ok(())
}

/// How many milliseconds the callee lived on.
fn break_off(cluster: &Cluster) -> anyhow::Result<f64> {
    let target = cluster.target(&format!("{GRAPH}.localhost"), &format!("/tick?{TICK_MS}"));
    let mut client = TcpStream::connect(target.address)?;
    client.write_all(format!("GET {} HTTP/1.1\r\nhost: {}\r\n\r\n", target.path, target.host).as_bytes())?;
    std::thread::sleep(PATIENCE);
    let gone_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    client.shutdown(Shutdown::Both)?;
    drop(client);
    std::thread::sleep(PATIENCE);
    let ticks = ticks(cluster)?;
    let gone_ms = u64::try_from(gone_ms)?;
    ensure!(ticks.iter().any(|tick| tick + 50 > gone_ms && *tick <= gone_ms), "the callee did not live");
    let last = ticks.iter().max().context("a tick")?;
    Ok(last.saturating_sub(gone_ms) as f64)
}

/// When the callee has said so, lately.
fn ticks(cluster: &Cluster) -> anyhow::Result<Vec<u64>> {
    let said = cluster.ctl(&["logs", GRAPH, "--output", "json", "-n", "200"])?;
    let mut ticks = Vec::new();
    for line in said.lines().filter(|line| line.contains("tick")) {
        let line: Value = serde_json::from_str(line).with_context(|| format!("a line of JSON: {line}"))?;
        let time = line["timeMs"].as_str().and_then(|time| time.parse().ok());
        ticks.push(time.with_context(|| format!("a time: {line}"))?);
    }
    Ok(ticks)
}
