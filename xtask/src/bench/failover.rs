//! A node that is lost: how long until everything that was on it answers elsewhere, and what becomes meanwhile of what is
//! asked at another node.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::cluster::Cluster;
use super::deploy::manifest;
use super::load::{Connection, Target};
use super::table::quantile;
use super::{Bench, say};

/// Nodes: the first takes the requests and no graph, and is never lost.
const NODES: usize = 4;
const GRAPHS: usize = 9;
const KILLS: usize = 20;
const KILLS_QUICK: usize = 4;
/// Requests to each graph, before the node is lost and until all answer elsewhere, are this far apart.
const PACE: Duration = Duration::from_millis(2);
/// How long load runs before a node is lost.
const BEFORE: Duration = Duration::from_millis(500);
/// Everything answers elsewhere within this, or the measurement ends.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);

/// What was asked of one graph while a node was lost.
#[derive(Default)]
struct Told {
    /// When the first good answer came that was asked for after the loss; since the loss.
    back: Duration,
    answers: usize,
    /// Answers that were no success, by status; 0 is none at all.
    failed: BTreeMap<u16, usize>,
    slowest: Duration,
}

pub fn run(bench: &Bench) -> anyhow::Result<()> {
    let mut cluster = Cluster::start_nodes(bench, "failover", NODES)?;
    cluster.ctl(&["node", "cordon", "n1"])?;
    for number in 0..GRAPHS {
        let file = manifest(bench, &cluster, &graph(number))?;
        cluster.ctl(&["deploy", &file.to_string_lossy()])?;
    }
    let kills = if bench.quick { KILLS_QUICK } else { KILLS };
    let (mut back, mut moved) = (Vec::new(), 0);
    let (mut there, mut elsewhere) = (Told::default(), Told::default());
    for _ in 0..kills {
        let (victim, graphs) = fullest(&cluster)?;
        moved += graphs.len();
        let told = lose(bench, &mut cluster, victim, &graphs)?;
        let slowest = told.iter().filter(|(graph, _)| graphs.contains(graph)).map(|(_, told)| told.back).max();
        back.push(slowest.context("a graph was moved")?.as_secs_f64() * 1e3);
        for (graph, told) in told {
            let sum = if graphs.contains(&graph) { &mut there } else { &mut elsewhere };
            sum.answers += told.answers;
            sum.slowest = sum.slowest.max(told.slowest);
            for (status, count) in told.failed {
                *sum.failed.entry(status).or_default() += count;
            }
        }
    }
    say(&format!(
        "\nfailover: from the kill -9 of an agent until all that was on its node answers elsewhere, {kills} times, {moved} graphs moved"
    ));
    say(&format!(
        "  p50 {:.0} ms, p99 {:.0} ms, least {:.0} ms; target: p99 at most 2000 ms",
        quantile(&back, 0.5),
        quantile(&back, 0.99),
        quantile(&back, 0.0)
    ));
    for (what, told) in [("graphs on the lost node", &there), ("all others", &elsewhere)] {
        let failed: usize = told.failed.values().sum();
        let by: Vec<String> =
            told.failed.iter().map(|(status, count)| format!("{count} with {status}")).collect();
        say(&format!(
            "  requests to {what}, at the ingress of another node: {} of {} failed{}{}, the slowest took {:.0} ms",
            failed,
            told.answers,
            if by.is_empty() { "" } else { ": " },
            by.join(", "),
            told.slowest.as_secs_f64() * 1e3
        ));
    }
    Ok(())
}

fn graph(number: usize) -> String {
    format!("moved-{number}")
}

/// The node with most graphs, by its number, and what they are.
fn fullest(cluster: &Cluster) -> anyhow::Result<(usize, Vec<String>)> {
    let mut nodes = Vec::new();
    for number in 2..=NODES {
        nodes.push((number, graphs_of(cluster, number)?));
    }
    let fullest = nodes.into_iter().max_by_key(|(number, graphs)| (graphs.len(), usize::MAX - number));
    fullest.context("there are nodes")
}

fn node(cluster: &Cluster, number: usize) -> anyhow::Result<serde_json::Value> {
    let text = cluster.ctl(&["node", "show", &format!("n{number}"), "-o", "json"])?;
    Ok(serde_json::from_str(&text)?)
}

fn graphs_of(cluster: &Cluster, number: usize) -> anyhow::Result<Vec<String>> {
    let node = node(cluster, number)?;
    let graphs = node["graphs"].as_array().cloned().unwrap_or_default();
    let names = graphs.iter().filter_map(|graph| graph.as_str()?.strip_prefix("default/"));
    Ok(names.map(str::to_owned).collect())
}

/// Kills the agent of a node under load, and starts it again once all answers elsewhere.
fn lose(
    bench: &Bench,
    cluster: &mut Cluster,
    victim: usize,
    graphs: &[String],
) -> anyhow::Result<Vec<(String, Told)>> {
    let (is_lost, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
    let targets: Vec<(String, Target)> = (0..GRAPHS)
        .map(|number| (graph(number), cluster.target(&format!("{}.localhost", graph(number)), "/")))
        .collect();
    let told = std::thread::scope(|scope| {
        let asked: Vec<_> = targets
            .iter()
            .map(|(name, target)| {
                let (is_lost, is_over) = (&is_lost, &is_over);
                let waits = graphs.contains(name);
                scope.spawn(move || ask(target, waits, is_lost, is_over).map(|told| (name.clone(), told)))
            })
            .collect();
        std::thread::sleep(BEFORE);
        cluster.others[victim - 2].kill();
        is_lost.store(true, Ordering::Release);
        let (moved, others): (Vec<_>, Vec<_>) =
            asked.into_iter().enumerate().partition(|(number, _)| graphs.contains(&graph(*number)));
        let mut told = Vec::new();
        for (_, thread) in moved {
            told.push(thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?);
        }
        is_over.store(true, Ordering::Release);
        for (_, thread) in others {
            told.push(thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?);
        }
        told.into_iter().collect::<anyhow::Result<Vec<_>>>()
    })?;
    cluster.restart_agent(bench, victim)?;
    let started = Instant::now();
    while node(cluster, victim)?["state"] != "ready" {
        if started.elapsed() > PATIENCE {
            bail!("n{victim} is not ready again");
        }
        std::thread::sleep(POLL);
    }
    Ok(told)
}

/// Asks one graph again and again: until it answers after the loss, or until all is over.
fn ask(target: &Target, waits: bool, is_lost: &AtomicBool, is_over: &AtomicBool) -> anyhow::Result<Told> {
    let mut told = Told::default();
    let mut connection: Option<Connection> = None;
    let mut lost: Option<Instant> = None;
    let begun = Instant::now();
    loop {
        if lost.is_none() && is_lost.load(Ordering::Acquire) {
            lost = Some(Instant::now());
        }
        if begun.elapsed() > PATIENCE {
            bail!("{} does not answer", target.host);
        }
        let asked = Instant::now();
        let mut open = match connection.take() {
            Some(open) => open,
            None => Connection::open(target)?,
        };
        let status = open.ask().map_or(0, |response| response.status);
        told.answers += 1;
        told.slowest = told.slowest.max(asked.elapsed());
        if status != 0 {
            connection = Some(open);
        }
        if status == 200 {
            if let Some(lost) = lost.filter(|_| waits) {
                told.back = lost.elapsed();
                return Ok(told);
            }
        } else {
            *told.failed.entry(status).or_default() += 1;
        }
        if is_over.load(Ordering::Acquire) {
            return Ok(told);
        }
        std::thread::sleep(PACE);
    }
}
