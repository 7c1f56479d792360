//! Hello through the ingress: what an instance per request costs, beside the documented loop and bare hyper.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::cluster::Cluster;
use super::load::Target;
use super::process::Process;
use super::table::{Contender, compare, print_rates};
use super::{Bench, say};

/// Enough to keep both cores of a small machine busy, few enough that queueing does not hide the cost.
const CONNECTIONS: usize = 16;
const HOST: &str = "hello.localhost";

pub fn run(bench: &Bench) -> anyhow::Result<()> {
    let component = bench.examples.join("hello/build/app.wasm");
    let folder = bench.folder("serve")?;
    let (minimal, minimal_at) = Process::start_baseline(
        "minimal_serve",
        Command::new(bench.baseline("minimal_serve")).arg(&component),
        &folder,
    )?;
    let (raw, raw_at) =
        Process::start_baseline("raw_hello", &mut Command::new(bench.baseline("raw_hello")), &folder)?;
    let wasmtime = start_wasmtime(&component, &folder)?;
    let cluster = Cluster::start(bench, "serve")?;
    cluster.ctl(&["deploy", &bench.examples.join("hello/graph.yaml").to_string_lossy()])?;
    let through_ingress = cluster.target(HOST, "/");
    cluster.answers(&through_ingress)?;

    let ask = |address: SocketAddr| Target { address, host: HOST.to_owned(), path: "/".to_owned() };
    let mut contenders = vec![
        Contender { name: "weft ingress".to_owned(), target: through_ingress, processes: vec![&cluster.agent] },
        Contender { name: "minimal_serve".to_owned(), target: ask(minimal_at), processes: vec![&minimal] },
        Contender { name: "raw hyper (the limit)".to_owned(), target: ask(raw_at), processes: vec![&raw] },
    ];
    if let Some((process, address)) = &wasmtime {
        contenders.push(Contender {
            name: "wasmtime serve".to_owned(),
            target: ask(*address),
            processes: vec![process],
        });
    }
    say(&format!(
        "\nserve: hello, one instance per request, {CONNECTIONS} connections; ratio to minimal_serve"
    ));
    print_rates(&compare(bench, &contenders, CONNECTIONS)?, 1);
    if wasmtime.is_none() {
        say("  wasmtime serve: not measured, `wasmtime` is not on PATH");
    }
    let one = compare(bench, &contenders, 1)?;
    say("\nserve: the same on one connection");
    print_rates(&one, 1);
    Ok(())
}

/// `wasmtime serve`, where it is installed.
fn start_wasmtime(component: &Path, folder: &Path) -> anyhow::Result<Option<(Process, SocketAddr)>> {
    /// How long it may take to compile the component and listen.
    const PATIENCE: Duration = Duration::from_secs(20);
    if !Command::new("wasmtime").arg("--version").output().is_ok_and(|output| output.status.success()) {
        return Ok(None);
    }
    // It does not say which port it took, so it is given one that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut command = Command::new("wasmtime");
    command.args(["serve", "--addr", &address.to_string()]).arg(component);
    let process = Process::start("wasmtime-serve", &mut command, folder)?;
    let started = Instant::now();
    while std::net::TcpStream::connect(address).is_err() {
        anyhow::ensure!(started.elapsed() < PATIENCE, "wasmtime serve does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(Some((process, address)))
}
