//! What a call over a link costs: fused on one node, and between two nodes.

mod cancelled;
mod fused;
mod remote;
mod resources;
mod stages;
mod streams;

use super::Bench;

pub fn run(bench: &Bench) -> anyhow::Result<()> {
    fused::run(bench)?;
    remote::run(bench)?;
    resources::run(bench)?;
    streams::run(bench)?;
    cancelled::run(bench)
}
