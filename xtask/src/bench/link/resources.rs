//! What a resource of another node costs: `GET /customers/1` opens a connection, executes on it and drops it.

use std::fs;

use anyhow::Context as _;

use super::remote::Raw;
use crate::bench::cluster::Cluster;
use crate::bench::table::{Contender, compare, print_rates};
use crate::bench::{Bench, say};

/// Where two calls without a component stand.
const UNARY: usize = 2;

pub fn run(bench: &Bench) -> anyhow::Result<()> {
    let folder = bench.folder("resources")?;
    let raw = Raw::start(bench, &folder)?;
    let cluster = Cluster::start_nodes(bench, "resources", 2)?;
    let example = bench.examples.join("customers");
    let manifests = cluster.manifests()?;
    fs::create_dir_all(manifests.join("build"))?;
    for file in ["seed.sql", "build/app.wasm"] {
        fs::copy(example.join(file), manifests.join(file)).with_context(|| format!("copy {file}"))?;
    }
    let text = fs::read_to_string(example.join("graph-apart.yaml"))?;
    for (name, node) in [("apart", "n2"), ("beside", "n1")] {
        let manifest = text
            .replace("graph: customers\n", &format!("graph: {name}\n"))
            .replace("customers.localhost", &format!("{name}.localhost"))
            .replace("{node: n3}", &format!("{{node: {node}}}"));
        let file = manifests.join(format!("{name}.yaml"));
        fs::write(&file, manifest)?;
        cluster.ctl(&["deploy", &file.to_string_lossy()])?;
        cluster.answers(&cluster.target(&format!("{name}.localhost"), "/customers/1"))?;
    }
    let provider = cluster.others.first().context("a second node")?;
    let contenders = [
        Contender {
            name: "weft, between two nodes".to_owned(),
            target: cluster.target("apart.localhost", "/customers/1"),
            processes: vec![&cluster.agent, provider],
        },
        Contender {
            name: "weft, on one node".to_owned(),
            target: cluster.target("beside.localhost", "/customers/1"),
            processes: vec![&cluster.agent],
        },
        Contender {
            name: "tonic unary, two calls, no SQLite".to_owned(),
            target: raw.target("/unary?n=2"),
            processes: vec![&raw.caller, &raw.server],
        },
    ];
    let summaries = compare(bench, &contenders, 1)?;
    say(
        "\nlink: GET /customers/1, which opens a connection of SQLite, executes on it and drops it, one at a time; \
         ratio to two unary calls",
    );
    print_rates(&summaries, UNARY);
    Ok(())
}
