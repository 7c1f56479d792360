//! Three members of the control plane beside three of etcd: puts, linearizable gets, how long a dead leader is missed, and
//! what a large state costs.
//! Both have TLS with certificates at both ends on all connections, and their defaults for everything else.

mod state;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::cluster::clean;
use super::process::Process;
use super::table::{Summary, cpu, median, print_rates, quantile};
use super::{Bench, say};

const MEMBERS: usize = 3;
/// How long a change of the members may take to be possible: a new one catches up first.
const CHANGE_PATIENCE: Duration = Duration::from_secs(30);
const CHANGE_POLL: Duration = Duration::from_millis(100);
/// A leader is killed so long after the load began, which goes on for so long behind it.
const KILL_AFTER: Duration = Duration::from_secs(1);
const GAP_SECONDS: u64 = 6;
/// For a member that was started again to have what it missed.
const RECOVERY: Duration = Duration::from_secs(2);

/// Three members of one kind.
struct Store {
    name: &'static str,
    addresses: Vec<String>,
    /// What the load needs to be let in.
    credentials: PathBuf,
    folder: PathBuf,
    commands: Vec<Box<dyn Fn() -> Command>>,
    processes: Vec<Option<Process>>,
}

/// Measures.
pub fn run(bench: &Bench) -> anyhow::Result<()> {
    let mut stores = vec![weft(bench)?];
    match etcd(bench)? {
        Some(etcd) => stores.push(etcd),
        None => say("  etcd: not measured, `etcd` and `openssl` are not both on PATH"),
    }
    for (operation, clients) in [("put", 1), ("put", 64), ("get", 1), ("get", 64)] {
        let mut summaries: Vec<Summary> = stores.iter().map(|store| Summary::new(store.name)).collect();
        for _ in 0..bench.rounds {
            for (store, summary) in stores.iter().zip(&mut summaries) {
                let before = store.cpu()?;
                let seconds = bench.round.as_secs().max(1);
                let told = store.load(bench, &[operation, &clients.to_string(), &seconds.to_string()])?;
                let number = |field: &str| told[field].as_f64().with_context(|| format!("no {field}"));
                let rate = number("per_second")?;
                summary.rates.push(rate);
                summary.p50_us.push(number("p50_us")?);
                summary.p99_us.push(number("p99_us")?);
                let used = store.cpu()?.saturating_sub(before);
                summary.cpu_us.push(used.as_secs_f64() * 1e6 / (rate * seconds as f64));
            }
        }
        say(&format!(
            "\nraft: {operation} of 256 bytes, three members, {clients} clients; CPU of all members; ratio to etcd"
        ));
        print_rates(&summaries, summaries.len() - 1);
    }
    let kills = if bench.quick { 3 } else { 20 };
    let mut gaps = vec![Vec::new(); stores.len()];
    for _ in 0..kills {
        for (store, gaps) in stores.iter_mut().zip(&mut gaps) {
            gaps.push(store.gap(bench)?);
        }
    }
    say(&format!("\nraft: from the kill -9 of the leader to the next acknowledged put, {kills} times"));
    for (store, gaps) in stores.iter().zip(&gaps) {
        say(&format!(
            "  {:<34} median {:>5.0} ms, least {:>5.0} ms, most {:>5.0} ms",
            store.name,
            median(gaps),
            quantile(gaps, 0.0),
            quantile(gaps, 1.0)
        ));
    }
    say("  target: most at most 1000 ms");
    state::run(bench, &mut stores)
}

impl Store {
    fn start(&mut self, index: usize) -> anyhow::Result<()> {
        let name = format!("{}-{}", self.name, index + 1);
        let process = Process::start(&name, &mut self.commands[index](), &self.folder)?;
        self.processes[index] = Some(process);
        Ok(())
    }

    fn cpu(&self) -> anyhow::Result<Duration> {
        cpu(&self.processes.iter().flatten().collect::<Vec<_>>())
    }

    fn load_command(&self, bench: &Bench, arguments: &[&str]) -> Command {
        let mut command = Command::new(bench.baseline("put_load"));
        command.arg(self.name).args(arguments).arg(&self.credentials).args(&self.addresses);
        command
    }

    fn load(&self, bench: &Bench, arguments: &[&str]) -> anyhow::Result<serde_json::Value> {
        read(&self.load_command(bench, arguments).output().context("run the load")?, self.name)
    }

    /// Kills the leader under load, and says how long nothing was acknowledged, in milliseconds.
    fn gap(&mut self, bench: &Bench) -> anyhow::Result<f64> {
        let leader = self.load(bench, &["leader"])?["leader"].as_u64().context("a leader")?;
        let leader = usize::try_from(leader)?;
        let mut command = self.load_command(bench, &["gap", &GAP_SECONDS.to_string()]);
        let load = command.stdout(std::process::Stdio::piped()).spawn().context("run the load")?;
        std::thread::sleep(KILL_AFTER);
        // Dropped, it is killed as `kill -9` does.
        self.processes[leader] = None;
        let told = read(&load.wait_with_output()?, self.name)?;
        self.start(leader)?;
        std::thread::sleep(RECOVERY);
        told["longest_ms"].as_f64().context("no time")
    }
}

fn read(output: &std::process::Output, name: &str) -> anyhow::Result<serde_json::Value> {
    if !output.status.success() {
        bail!("the load of {name} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Addresses of loopback that nobody listens at.
fn addresses(count: usize) -> anyhow::Result<Vec<String>> {
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?.to_string())).collect()
}

fn weft(bench: &Bench) -> anyhow::Result<Store> {
    let folder = bench.folder("raft-weft")?;
    let addresses = addresses(MEMBERS)?;
    let data = |index: usize| folder.join(format!("member-{}", index + 1));
    let token = folder.join("token");
    let commands = (0..MEMBERS).map(|index| {
        let (program, listen, data) = (bench.binary("control-plane"), addresses[index].clone(), data(index));
        let (first, token) = (addresses[0].clone(), token.clone());
        let command: Box<dyn Fn() -> Command> = Box::new(move || {
            let mut command = clean(&program);
            command.args(["--listen", &listen, "--data-dir"]).arg(&data);
            match index {
                0 => command.arg("--init"),
                _ => command.args(["--members", &first, "--join-token-file"]).arg(&token),
            };
            command
        });
        command
    });
    let mut store = Store {
        name: "weft",
        credentials: data(0),
        commands: commands.collect(),
        processes: (0..MEMBERS).map(|_| None).collect(),
        addresses,
        folder: folder.clone(),
    };
    for index in 0..MEMBERS {
        if index > 0 {
            fs::write(&token, ctl(bench, &store, &["member", "token"])?)?;
        }
        store.start(index)?;
        let ready = data(index).join("ready.json");
        store.processes[index].as_mut().context("it runs")?.ready(&ready)?;
        if index > 0 {
            let (number, began) = ((index + 1).to_string(), Instant::now());
            while let Err(error) = ctl(bench, &store, &["member", "promote", &number]) {
                if began.elapsed() > CHANGE_PATIENCE {
                    return Err(error);
                }
                std::thread::sleep(CHANGE_POLL);
            }
        }
    }
    Ok(store)
}

fn ctl(bench: &Bench, store: &Store, arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = clean(&bench.binary("ctl"));
    command.env("CTL_ADDR", store.addresses.join(","));
    command.env("CTL_CREDENTIALS", store.credentials.join("operator.pem"));
    let output = command.args(arguments).output().context("run ctl")?;
    if !output.status.success() {
        bail!("ctl {} failed: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn etcd(bench: &Bench) -> anyhow::Result<Option<Store>> {
    let works = |program: &str, argument: &str| Command::new(program).arg(argument).output().is_ok();
    if !works("etcd", "--version") || !works("openssl", "version") {
        return Ok(None);
    }
    let folder = bench.folder("raft-etcd")?;
    certificates(&folder)?;
    let all = addresses(2 * MEMBERS)?;
    let (clients, peers) = (all[..MEMBERS].to_vec(), all[MEMBERS..].to_vec());
    let listed: Vec<String> =
        peers.iter().enumerate().map(|(index, peer)| format!("m{index}=https://{peer}")).collect();
    let commands = (0..MEMBERS).map(|index| {
        let (client, peer) = (format!("https://{}", clients[index]), format!("https://{}", peers[index]));
        let (folder, listed) = (folder.clone(), listed.join(","));
        let command: Box<dyn Fn() -> Command> = Box::new(move || {
            let mut command = Command::new("etcd");
            command.args(["--name", &format!("m{index}"), "--log-level", "error", "--data-dir"]);
            command.arg(folder.join(format!("member-{index}")));
            command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
            command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
            command.args(["--initial-cluster", &listed, "--client-cert-auth", "--peer-client-cert-auth"]);
            for (flag, file) in [("cert", "server.pem"), ("key", "server-key.pem"), ("trusted-ca", "ca.pem")] {
                command.arg(format!("--{flag}-file")).arg(folder.join(file));
                command.arg(format!("--peer-{flag}-file")).arg(folder.join(file));
            }
            command
        });
        command
    });
    let mut store = Store {
        name: "etcd",
        credentials: folder.clone(),
        commands: commands.collect(),
        processes: (0..MEMBERS).map(|_| None).collect(),
        addresses: clients.clone(),
        folder: folder.clone(),
    };
    (0..MEMBERS).try_for_each(|index| store.start(index))?;
    Ok(Some(store))
}

/// An authority, and a certificate of each side.
fn certificates(folder: &Path) -> anyhow::Result<()> {
    let openssl = |arguments: &[&str]| -> anyhow::Result<()> {
        let output = Command::new("openssl").current_dir(folder).args(arguments).output()?;
        if !output.status.success() {
            bail!("openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    };
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let ca = ["req", "-x509", "-keyout", "ca-key.pem", "-out", "ca.pem", "-subj", "/CN=bench", "-days", "2"];
    openssl(&[&ca[..], &key].concat())?;
    fs::write(
        folder.join("extensions"),
        "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n",
    )?;
    for side in ["server", "client"] {
        let [request, key_file, certificate] = ["request.pem", "key.pem", "pem"].map(|end| match end {
            "pem" => format!("{side}.pem"),
            end => format!("{side}-{end}"),
        });
        let subject = format!("/CN={side}");
        let make = ["req", "-keyout", &key_file, "-out", &request, "-subj", &subject];
        openssl(&[&make[..], &key].concat())?;
        openssl(&[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca-key.pem",
            "-CAcreateserial",
            "-out",
            &certificate,
            "-days",
            "2",
            "-extfile",
            "extensions",
        ])?;
    }
    Ok(())
}
