//! The scheduler by itself, in sizes that grow, each beside the one before.

use anyhow::{Context as _, ensure};

use super::table::median;
use super::{Bench, say};

/// Graphs of five components each, nodes, on how many nodes each component is, and how many instances are reserved for one.
const SIZES: [[usize; 4]; 5] =
    [[250, 125, 1, 0], [500, 250, 1, 0], [1_000, 500, 1, 0], [2_000, 1_000, 1, 0], [10_000, 5_000, 1, 0]];
/// The same with four of each component: as many instances.
const REPLICATED: [[usize; 4]; 4] =
    [[125, 250, 4, 0], [250, 500, 4, 0], [500, 1_000, 4, 0], [2_500, 5_000, 4, 0]];
/// The same with ten instances reserved for one component of each graph.
const RESERVING: [[usize; 4]; 3] = [[500, 250, 1, 10], [2_000, 1_000, 1, 10], [10_000, 5_000, 1, 10]];
const COMPONENTS: usize = 5;
/// What is measured, by the name that the load prints, and the targets for ten thousand components and the largest size.
const FIGURES: [(&str, &str); 4] = [
    ("from_nothing_ms", "from nothing"),
    ("deploy_most_ms", "one more graph, most of 50"),
    ("loss_most_ms", "a node lost, most of 50"),
    ("nothing_ms", "where nothing is to do"),
];

pub fn run(bench: &Bench) -> anyhow::Result<()> {
    say(&format!(
        "\nschedule: median of {} rounds, in ms; ratio of the time for each instance to that of the size before",
        bench.rounds
    ));
    measure(bench, "on one node each", &SIZES)?;
    measure(bench, "on four nodes each", &REPLICATED)?;
    measure(bench, "on one node each, each graph with instances reserved", &RESERVING)?;
    say(
        "  targets: 10000 on 1000 from nothing 250 ms, 50000 on 5000 1500 ms; one node lost 5 ms, one more graph 1 ms",
    );
    Ok(())
}

fn measure(bench: &Bench, how: &str, sizes: &[[usize; 4]]) -> anyhow::Result<()> {
    let mut measured: Vec<Vec<f64>> = Vec::new();
    for size in sizes {
        let mut rounds = vec![Vec::new(); FIGURES.len()];
        for _ in 0..bench.rounds {
            let mut command = std::process::Command::new(bench.baseline("schedule_load"));
            let output =
                command.args(size.map(|number| number.to_string())).output().context("run the load")?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let told: serde_json::Value = serde_json::from_slice(&output.stdout)?;
            for ((name, _), round) in FIGURES.iter().zip(&mut rounds) {
                round.push(told[*name].as_f64().with_context(|| format!("no {name}"))?);
            }
        }
        measured.push(rounds.iter().map(|round| median(round)).collect());
    }
    for (at, (_, what)) in FIGURES.iter().enumerate() {
        say(&format!("  {what}, {how}"));
        let instances = |[graphs, _, replicas, _]: &[usize; 4]| graphs * COMPONENTS * replicas;
        for (size, (of, figures)) in sizes.iter().zip(&measured).enumerate() {
            let each = figures[at] / instances(of) as f64;
            let before =
                size.checked_sub(1).map(|before| measured[before][at] / instances(&sizes[before]) as f64);
            let ratio = before.map_or_else(String::new, |before| format!("{:>6.2}x", each / before));
            say(&format!(
                "    {:>6} instances on {:>5} nodes {:>10.3} ms {ratio}",
                instances(of),
                of[1],
                figures[at]
            ));
        }
    }
    Ok(())
}
