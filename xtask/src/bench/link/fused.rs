//! A call over a link on one node, beside the same two components composed by wac alone.
//!
//! One request makes no call or very many; the difference, divided, is what a call costs.

use std::process::Command;
use std::time::Duration;

use crate::bench::cluster::Cluster;
use crate::bench::load::{Connection, Target};
use crate::bench::process::Process;
use crate::bench::table::{median, quantile};
use crate::bench::{Bench, say};

/// So many that a request is long against the noise of one, and short against its deadline: some 10 ms.
const CALLS: u32 = 1_000_000;
/// Requests of each kind in a round; the least time counts, since noise only adds.
const REQUESTS: usize = 20;
const HOST: &str = "chain.localhost";

struct Contender {
    name: &'static str,
    target: Target,
    /// What a call costs, in nanoseconds, by round.
    costs: Vec<f64>,
}

pub fn run(bench: &Bench) -> anyhow::Result<()> {
    let folder = bench.folder("link")?;
    let part = |name: &str| bench.examples.join("chain/build").join(name);
    let composed = |name: &str, flags: &[&str]| {
        let mut command = Command::new(bench.baseline("minimal_serve"));
        Process::start_baseline(
            name,
            command.args(flags).args([part("front.wasm"), part("back.wasm")]),
            &folder,
        )
    };
    let (_same, same_at) = composed("wac-agent-settings", &["--agent-settings"])?;
    let (_defaults, defaults_at) = composed("wac-defaults", &[])?;
    let cluster = Cluster::start(bench, "link")?;
    cluster.ctl(&["deploy", &bench.examples.join("chain/graph.yaml").to_string_lossy()])?;
    cluster.answers(&cluster.target(HOST, "/add?n=0"))?;

    let at = |address| Target { address, host: HOST.to_owned(), path: String::new() };
    let mut contenders = [
        Contender { name: "weft link", target: at(cluster.ingress), costs: vec![] },
        Contender { name: "wac, the agent's engine settings", target: at(same_at), costs: vec![] },
        Contender { name: "wac, wasmtime's defaults", target: at(defaults_at), costs: vec![] },
    ];
    for _ in 0..=bench.rounds {
        for contender in &mut contenders {
            let many = least(&contender.target, CALLS)?;
            let none = least(&contender.target, 0)?;
            contender.costs.push(many.saturating_sub(none).as_secs_f64() * 1e9 / f64::from(CALLS));
        }
    }
    say(&format!(
        "\nlink: `add: func(u32, u32) -> u32` from front to back, (time of {CALLS} calls - of none) / {CALLS}; \
         ratio to wac under the same settings"
    ));
    say(&format!("  {:<34} {:>9} {:>17} {:>7}", "", "ns/call", "(least..most)", "ratio"));
    // The first round fills caches.
    let base: Vec<f64> = contenders[1].costs[1..].to_vec();
    for contender in &contenders {
        let costs = &contender.costs[1..];
        let ratios: Vec<f64> = costs.iter().zip(&base).map(|(cost, base)| cost / base).collect();
        say(&format!(
            "  {:<34} {:>9.2} {:>17} {:>6.2}x",
            contender.name,
            median(costs),
            format!("({:.2}..{:.2})", quantile(costs, 0.0), quantile(costs, 1.0)),
            median(&ratios),
        ));
    }
    Ok(())
}

/// The least time of a request with so many calls.
fn least(target: &Target, calls: u32) -> anyhow::Result<Duration> {
    let mut connection = Connection::open(&Target { path: format!("/add?n={calls}"), ..target.clone() })?;
    let mut least = Duration::MAX;
    for _ in 0..REQUESTS {
        let started = std::time::Instant::now();
        let response = connection.ask()?;
        least = least.min(started.elapsed());
        let text = String::from_utf8_lossy(&response.body).into_owned();
        anyhow::ensure!(response.status == 200 && text.trim() == calls.to_string(), "answered {text}");
    }
    Ok(least)
}
