//! Resident memory of a deployed graph that no one asks anything.

use std::time::Duration;

use super::cluster::Cluster;
use super::deploy::manifest;
use super::process::Memory;
use super::{Bench, say};

/// Graphs of a full run, and of a trial.
const GRAPHS: usize = 1_000;
const GRAPHS_QUICK: usize = 100;
/// Reports and snapshots that follow a deploy have ended by then.
const SETTLE: Duration = Duration::from_secs(3);

pub fn run(bench: &Bench) -> anyhow::Result<()> {
    let graphs = if bench.quick { GRAPHS_QUICK } else { GRAPHS };
    let cluster = Cluster::start(bench, "memory")?;
    let deploy = |number: usize| -> anyhow::Result<()> {
        let name = format!("idle-{number}");
        let file = manifest(bench, &cluster, &name)?;
        cluster.ctl(&["deploy", &file.to_string_lossy(), "--detach"])?;
        Ok(())
    };
    let answers = |number: usize| cluster.answers(&cluster.target(&format!("idle-{number}.localhost"), "/"));
    let measure = || -> anyhow::Result<[Memory; 2]> {
        std::thread::sleep(SETTLE);
        Ok([cluster.agent.memory()?, cluster.control_plane.memory()?])
    };
    let empty = measure()?;
    deploy(0)?;
    answers(0)?;
    let one = measure()?;
    for number in 1..graphs {
        deploy(number)?;
    }
    // Every one of them is there; their pools are warm, as those of graphs that answered once.
    for number in 0..graphs {
        answers(number)?;
    }
    let all = measure()?;
    say(&format!(
        "\nmemory: resident KiB with 0, 1 and {graphs} deployed graphs of one component, each asked once"
    ));
    say(&format!(
        "  {:<34} {:>9} {:>9} {:>9} {:>14} {:>14}",
        "", "0", "1", graphs, "KiB per graph", "anonymous only"
    ));
    let each = |more: u64, less: u64| more.saturating_sub(less) as f64 / (graphs - 1) as f64;
    for (at, name) in ["node-agent", "control-plane"].iter().enumerate() {
        say(&format!(
            "  {name:<34} {:>9} {:>9} {:>9} {:>14.1} {:>14.1}",
            empty[at].resident_kib,
            one[at].resident_kib,
            all[at].resident_kib,
            each(all[at].resident_kib, one[at].resident_kib),
            each(all[at].anonymous_kib, one[at].anonymous_kib),
        ));
    }
    Ok(())
}
