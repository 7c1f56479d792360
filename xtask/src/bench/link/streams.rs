//! What streams over a link carry, beside a stream of gRPC of the same bytes; what a call takes that carries bytes as a
//! list; and what is left for a neighbour meanwhile.
//!
//! All are asked alike: a request brings 16 MiB, which go to the other process and come back, and are counted there.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};

use super::remote::{CHAIN, Pair, Raw, at_least, range, ratio};
use crate::bench::cluster::Cluster;
use crate::bench::load::{Connection, Round, Target, drive};
use crate::bench::process::Process;
use crate::bench::table::{cpu, median};
use crate::bench::{Bench, say};

/// The desk and the mill, without anybody between them.
pub(super) const STREAMS: Pair =
    Pair { example: "streams", caller: "desk", provider: "mill", probe: "/whole?1" };
const MIB: usize = 1 << 20;
/// The bytes of a request, which go there and back.
const BODY_BYTES: usize = 16 * MIB;
/// Requests of a round.
const REQUESTS: usize = 4;
/// The bytes of a list, and how many requests a round has with such.
const LISTS: [(usize, usize); 5] = [(0, 200), (1 << 10, 200), (64 << 10, 100), (MIB, 20), (3 * MIB, 10)];

const APART: usize = 0;
const RAW: usize = 2;
/// The target of the design.
const RATE_LEAST: f64 = 0.5;

struct Contender<'a> {
    name: &'static str,
    /// Where a body goes there and back.
    body: Target,
    /// Where a list of so many bytes does.
    list: Target,
    /// Where one small call is made.
    call: Target,
    processes: Vec<&'a Process>,
}

/// What came of a contender, by round.
#[derive(Default)]
struct Rates {
    mib_per_second: Vec<f64>,
    cpu_us: Vec<f64>,
}

pub fn run(bench: &Bench) -> anyhow::Result<()> {
    let folder = bench.folder("streams")?;
    let raw = Raw::start(bench, &folder)?;
    let cluster = Cluster::start_nodes(bench, "streams", 2)?;
    let provider = cluster.others.first().context("a second node")?;
    for (name, node) in [("poured", "n2"), ("kept", "n1")] {
        STREAMS.deploy(bench, &cluster, name, node)?;
    }
    for (name, node) in [("apart", "n2"), ("beside", "n1")] {
        CHAIN.deploy(bench, &cluster, name, node)?;
    }
    let weft = |name, streams: &str, chain: &str, processes| Contender {
        name,
        body: cluster.target(&format!("{streams}.localhost"), "/echo"),
        list: cluster.target(&format!("{streams}.localhost"), "/whole?"),
        call: cluster.target(&format!("{chain}.localhost"), "/add?n=1"),
        processes,
    };
    let contenders = [
        weft("weft, between two nodes", "poured", "apart", vec![&cluster.agent, provider]),
        weft("weft, fused", "kept", "beside", vec![&cluster.agent]),
        Contender {
            name: "tonic",
            body: raw.target("/pour"),
            list: raw.target("/unary?n=1&bytes="),
            call: raw.target("/unary?n=1"),
            processes: vec![&raw.caller, &raw.server],
        },
    ];
    print_rates(&pour(bench, &contenders)?, &contenders);
    for (bytes, requests) in LISTS {
        print_lists(&lists(bench, &contenders, bytes, requests)?, &contenders, bytes);
    }
    neighbours(bench, &contenders)
}

/// Sends a body there and back.
fn ask(connection: &mut Connection) -> anyhow::Result<()> {
    let response = connection.ask()?;
    let text = String::from_utf8_lossy(&response.body).into_owned();
    ensure!(response.status == 200 && text.contains(&BODY_BYTES.to_string()), "answered {text}");
    Ok(())
}

fn pour(bench: &Bench, contenders: &[Contender<'_>]) -> anyhow::Result<Vec<Rates>> {
    let mut rates: Vec<Rates> = contenders.iter().map(|_| Rates::default()).collect();
    let body = vec![7; BODY_BYTES];
    let mut connections = Vec::new();
    for contender in contenders {
        let mut connection = Connection::open_with(&contender.body, &body)?;
        ask(&mut connection)?;
        connections.push(connection);
    }
    for _ in 0..bench.rounds {
        for ((contender, connection), rates) in contenders.iter().zip(&mut connections).zip(&mut rates) {
            let (before, started) = (cpu(&contender.processes)?, Instant::now());
            for _ in 0..REQUESTS {
                ask(connection)?;
            }
            let mib = (REQUESTS * BODY_BYTES / MIB) as f64;
            rates.mib_per_second.push(mib / started.elapsed().as_secs_f64());
            let spent = cpu(&contender.processes)?.saturating_sub(before);
            rates.cpu_us.push(spent.as_secs_f64() * 1e6 / mib);
        }
    }
    Ok(rates)
}

fn print_rates(rates: &[Rates], contenders: &[Contender<'_>]) {
    say(&format!(
        "\nlink: {} MiB by a stream there and by another back, one at a time; CPU of both ends with their HTTP; ratio \
         to tonic's stream",
        BODY_BYTES / MIB
    ));
    say(&format!("  {:<24} {:>8} {:>16} {:>12} {:>7}", "", "MiB/s", "(least..most)", "CPU us/MiB", "ratio"));
    let against = |at: usize| ratio(&rates[at].mib_per_second, &rates[RAW].mib_per_second);
    for (at, contender) in contenders.iter().enumerate() {
        say(&format!(
            "  {:<24} {:>8.0} {:>16} {:>12.0} {:>6.2}x",
            contender.name,
            median(&rates[at].mib_per_second),
            range(&rates[at].mib_per_second, 0),
            median(&rates[at].cpu_us),
            against(at),
        ));
    }
    at_least("MiB/s", against(APART), RATE_LEAST, "tonic's stream");
}

/// How long a request takes that sends a list there and back, in microseconds, by contender and round.
fn lists(
    bench: &Bench,
    contenders: &[Contender<'_>],
    bytes: usize,
    requests: usize,
) -> anyhow::Result<Vec<Vec<f64>>> {
    let mut times = vec![Vec::new(); contenders.len()];
    for _ in 0..bench.rounds {
        for (contender, times) in contenders.iter().zip(&mut times) {
            let target = Target { path: format!("{}{bytes}", contender.list.path), ..contender.list.clone() };
            let mut connection = Connection::open(&target)?;
            let mut taken = Vec::with_capacity(requests);
            for _ in 0..requests {
                let started = Instant::now();
                let response = connection.ask()?;
                taken.push(started.elapsed().as_secs_f64() * 1e6);
                ensure!(response.status == 200, "answered {}", String::from_utf8_lossy(&response.body));
            }
            times.push(median(&taken));
        }
    }
    Ok(times)
}

fn print_lists(times: &[Vec<f64>], contenders: &[Contender<'_>], bytes: usize) {
    say(&format!("\nlink: one call with a list of {bytes} bytes, which comes back; ratio to tonic unary"));
    say(&format!("  {:<24} {:>10} {:>18} {:>7}", "", "us", "(least..most)", "ratio"));
    for (contender, taken) in contenders.iter().zip(times) {
        say(&format!(
            "  {:<24} {:>10.0} {:>18} {:>6.2}x",
            contender.name,
            median(taken),
            range(taken, 0),
            ratio(taken, &times[RAW]),
        ));
    }
}

/// What a small call takes, alone and while a body goes by the same way.
fn neighbours(bench: &Bench, contenders: &[Contender<'_>]) -> anyhow::Result<()> {
    say(
        "\nlink: a request with one call on one connection, alone and while bodies go the same way; ratio to alone",
    );
    say(&format!(
        "  {:<24} {:>10} {:>10} {:>12} {:>12} {:>10}",
        "", "alone p50", "p99 us", "beside p50", "p99 us", "p99 ratio"
    ));
    let body = vec![7; BODY_BYTES];
    for contender in contenders {
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        for _ in 0..bench.rounds {
            alone.push(drive(&contender.call, 1, bench.round)?);
            beside.push(with_bodies(bench, contender, &body)?);
        }
        let of = |rounds: &[Round], share: f64| -> Vec<f64> {
            rounds.iter().map(|round| round.latency_us(share)).collect()
        };
        let [alone_p99, beside_p99] = [of(&alone, 0.99), of(&beside, 0.99)];
        say(&format!(
            "  {:<24} {:>10.0} {:>10.0} {:>12.0} {:>12.0} {:>9.2}x",
            contender.name,
            median(&of(&alone, 0.5)),
            median(&alone_p99),
            median(&of(&beside, 0.5)),
            median(&beside_p99),
            ratio(&beside_p99, &alone_p99),
        ));
    }
    Ok(())
}

/// Small calls while another connection sends one body after the other.
fn with_bodies(bench: &Bench, contender: &Contender<'_>, body: &[u8]) -> anyhow::Result<Round> {
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let bulk = scope.spawn(|| {
            let mut connection = Connection::open_with(&contender.body, body)?;
            while !ends.load(Ordering::Acquire) {
                ask(&mut connection)?;
            }
            anyhow::Ok(())
        });
        let round = drive(&contender.call, 1, bench.round);
        ends.store(true, Ordering::Release);
        match bulk.join() {
            Ok(sent) => sent?,
            Err(_) => bail!("the thread that sends bodies panicked"),
        }
        round
    })
}
