//! Customers with and without a policy between the application and its database.
//!
//! Both graphs run in one cluster: the example's own, which the policy matches by its label, and a copy without it.

use std::fs;

use anyhow::{Context as _, ensure};

use super::cluster::Cluster;
use super::load::{Connection, Target};
use super::table::{Contender, compare, median, print_rates};
use super::{Bench, say};

const CONNECTIONS: usize = 16;
const HOST: &str = "customers.localhost";
const PLAIN_HOST: &str = "plain.localhost";

pub fn run(bench: &Bench) -> anyhow::Result<()> {
    let cluster = Cluster::start(bench, "policy")?;
    let example = bench.examples.join("customers");
    let folder = cluster.manifests()?;
    fs::create_dir_all(folder.join("build"))?;
    for file in ["seed.sql", "build/app.wasm"] {
        fs::copy(example.join(file), folder.join(file)).with_context(|| format!("copy {file}"))?;
    }
    let manifest = fs::read_to_string(example.join("graph.yaml"))?
        .replace("graph: customers\n", "graph: plain\n")
        .replace("labels: {data: pii}\n", "")
        .replace(HOST, PLAIN_HOST);
    fs::write(folder.join("graph.yaml"), manifest)?;
    cluster.ctl(&["deploy", &example.join("graph.yaml").to_string_lossy()])?;
    cluster.ctl(&["policy", "apply", &example.join("pii-firewall.yaml").to_string_lossy()])?;
    cluster.ctl(&["deploy", &folder.join("graph.yaml").to_string_lossy()])?;

    let [plain, guarded] = [PLAIN_HOST, HOST].map(|host| cluster.target(host, "/customers"));
    ensure!(body(&cluster, &plain)?.contains("@example.com"), "without the policy the domains are shown");
    let hidden = body(&cluster, &guarded)?;
    ensure!(
        hidden.contains("@***") && !hidden.contains("@example.com"),
        "the policy hides the domains: {hidden}"
    );
    let contenders = [
        Contender { name: "customers".to_owned(), target: plain, processes: vec![&cluster.agent] },
        Contender {
            name: "customers behind pii-firewall".to_owned(),
            target: guarded,
            processes: vec![&cluster.agent],
        },
    ];
    let summaries = compare(bench, &contenders, CONNECTIONS)?;
    say(&format!("\npolicy: GET /customers from SQLite, {CONNECTIONS} connections; ratio to no policy"));
    print_rates(&summaries, 0);
    let [plain, guarded] = [0, 1].map(|at: usize| median(&summaries[at].cpu_us));
    say(&format!("  one proxy costs {:.1} us of CPU for each request", guarded - plain));
    Ok(())
}

fn body(cluster: &Cluster, target: &Target) -> anyhow::Result<String> {
    cluster.answers(target)?;
    Ok(String::from_utf8_lossy(&Connection::open(target)?.ask()?.body).into_owned())
}
