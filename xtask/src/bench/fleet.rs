//! A fleet of agents that run nothing, on one member of the control plane, in sizes that grow: each has an identity and a
//! session of its own, and says of whatever it is assigned that it serves.

use anyhow::{Context as _, ensure};

use super::cluster::{ControlPlane, clean};
use super::{Bench, say};

/// Nodes, and graphs: every node is told of the routes of all.
const SIZES: [(usize, usize); 4] = [(100, 100), (300, 300), (1_000, 200), (1_000, 1_000)];
const SIZES_QUICK: [(usize, usize); 2] = [(50, 50), (150, 150)];

pub fn run(bench: &Bench) -> anyhow::Result<()> {
    let sizes = if bench.quick { &SIZES_QUICK[..] } else { &SIZES[..] };
    say(
        "\nfleet: simulated agents on one member of the control plane, each of which is told of all routes; a tenth of them is lost at the end",
    );
    let mut before: Option<(f64, f64)> = None;
    for (size, graphs) in sizes {
        let folder = bench.folder(&format!("fleet-{size}"))?;
        let control_plane = ControlPlane::start(bench, &folder)?;
        let mut command = clean(&bench.baseline("fleet_load"));
        command.arg(&control_plane.api).arg(&control_plane.operator);
        command.args([control_plane.process.id().to_string(), size.to_string(), graphs.to_string()]);
        let output = command.output().context("run the load")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let told: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let number = |name: &str| told[name].as_f64().with_context(|| format!("no {name}"));
        let (rate, converge) = (number("deploys_per_second")?, number("converge_s")?);
        let ratio = before.map_or_else(String::new, |(rate_before, converge_before)| {
            format!(
                " ({:.2}x of the size before), converging {:.2}x",
                rate / rate_before,
                converge / converge_before
            )
        });
        say(&format!(
            "  {size:>5} agents, {graphs} graphs: joined in {:.1} s; idle {:.1} % of a core; {:.0} MiB, with graphs {:.0} MiB",
            number("join_s")?,
            number("idle_cpu")? * 100.0,
            number("memory_of_nodes_kib")? / 1024.0,
            number("memory_of_graphs_kib")? / 1024.0
        ));
        say(&format!(
            "        {rate:.0} deploys/s{ratio}; all assigned after {:.2} s; {:.1} ms of CPU for each; {:.0} messages with routes, {:.1} MiB",
            number("assigned_s")?,
            number("deploy_cpu_ms")?,
            number("route_messages")?,
            number("route_mib")?
        ));
        say(&format!(
            "        a tenth lost: its {:.0} graphs are assigned elsewhere after {converge:.2} s, {:.2} s of CPU",
            number("moved")?,
            number("converge_cpu_s")?
        ));
        before = Some((rate, converge));
    }
    Ok(())
}
