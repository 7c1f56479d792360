//! What a call over a link costs: fused on one node, and between two nodes.

mod fused;
mod remote;
mod streams;

use super::Bench;

pub fn run(bench: &Bench) -> anyhow::Result<()> {
    fused::run(bench)?;
    remote::run(bench)?;
    streams::run(bench)
}
