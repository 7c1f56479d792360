//! A request at the node of its graph, and at another node, which passes it on.

use std::fs;

use anyhow::Context as _;

use super::cluster::Cluster;
use super::load::Target;
use super::table::{Contender, compare, median, print_rates};
use super::{Bench, say};

const CONNECTIONS: usize = 16;
const HOST: &str = "hello.localhost";

pub fn run(bench: &Bench) -> anyhow::Result<()> {
    let cluster = Cluster::start_nodes(bench, "nodes", 2)?;
    let example = bench.examples.join("hello");
    let folder = cluster.manifests()?;
    fs::create_dir_all(folder.join("build"))?;
    fs::copy(example.join("build/app.wasm"), folder.join("build/app.wasm")).context("copy the component")?;
    let manifest = fs::read_to_string(example.join("graph.yaml"))?
        .replace("app.wasm}", "app.wasm, placement: {require: {node: n1}}}");
    fs::write(folder.join("graph.yaml"), manifest)?;
    cluster.ctl(&["deploy", &folder.join("graph.yaml").to_string_lossy()])?;

    let at_its_node = cluster.target(HOST, "/");
    let address = *cluster.other_ingresses.first().context("there is another node")?;
    let elsewhere = Target { address, ..cluster.target(HOST, "/") };
    for target in [&at_its_node, &elsewhere] {
        cluster.answers(target)?;
    }
    let processes: Vec<_> = std::iter::once(&cluster.agent).chain(&cluster.others).collect();
    let contenders = [
        Contender { name: "at its node".to_owned(), target: at_its_node, processes: processes.clone() },
        Contender { name: "at another node".to_owned(), target: elsewhere, processes },
    ];
    for connections in [CONNECTIONS, 1] {
        let summaries = compare(bench, &contenders, connections)?;
        say(&format!(
            "\nnodes: hello at its node and at another, {connections} connections; CPU of both agents"
        ));
        print_rates(&summaries, 0);
        let [here, there] = [0, 1].map(|at: usize| median(&summaries[at].cpu_us));
        say(&format!("  passing a request on costs {:.1} us of CPU at both nodes together", there - here));
    }
    Ok(())
}
