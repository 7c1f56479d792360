//! A call over a link between two nodes, beside gRPC of the same bytes without components, and the same graph fused.
//!
//! All of them are asked alike: one HTTP request makes so many calls, one after another. What the first call costs is
//! a request with one less a request with none; what a further one costs is a request with many less one with one.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::stages;
use crate::bench::cluster::Cluster;
use crate::bench::load::{Connection, Target, drive};
use crate::bench::process::Process;
use crate::bench::table::{cpu, median, quantile};
use crate::bench::{Bench, say};

/// Calls of a request that makes many: at 100 us each it is short against its deadline.
const CALLS: u32 = 1_000;
/// Requests of a round on one connection, by how many calls each makes.
const REQUESTS: [(u32, usize); 3] = [(0, 200), (1, 200), (CALLS, 8)];
/// Callers at once, and the calls of a request of theirs: a round is about as long for many as for few.
const CALLERS: [(usize, u32); 4] = [(1, CALLS), (8, CALLS), (64, CALLS), (512, CALLS / 10)];
/// At so many callers, the targets count.
const CALLERS_OF_TARGET: usize = 64;
/// Before the first round: streams are dialled, pools are filled.
const WARM_UP: Duration = Duration::from_millis(500);

/// Where each stands in the list of contenders.
const REMOTE: usize = 0;
const FUSED: usize = 1;
const UNARY: usize = 2;
const BIDI: usize = 3;

/// The targets of the design.
const FIRST_MOST: f64 = 2.0;
const FURTHER_MOST: f64 = 1.3;
const UNARY_RATE_LEAST: f64 = 3.0;
const BIDI_RATE_LEAST: f64 = 0.5;

struct Contender<'a> {
    name: &'static str,
    target: Target,
    /// Both ends.
    processes: Vec<&'a Process>,
}

/// What one caller saw in one round, in microseconds for a request.
#[derive(Clone, Copy, Default)]
struct Times {
    none: f64,
    one: f64,
    many: f64,
}

/// What many callers saw, by round.
#[derive(Default)]
struct Rates {
    calls_per_second: Vec<f64>,
    p50_us: Vec<f64>,
    cpu_us: Vec<f64>,
}

pub fn run(bench: &Bench) -> anyhow::Result<()> {
    let folder = bench.folder("remote-link")?;
    let raw = Raw::start(bench, &folder)?;
    let cluster = Cluster::start_nodes(bench, "remote-link", 2)?;
    let provider = cluster.others.first().context("a second node")?;
    let weft = |name: &str, node: &str| -> anyhow::Result<Target> {
        CHAIN.deploy(bench, &cluster, name, node)?;
        Ok(cluster.target(&format!("{name}.localhost"), "/add?n="))
    };
    let contenders = [
        Contender {
            name: "weft, between two nodes",
            target: weft("apart", "n2")?,
            processes: vec![&cluster.agent, provider],
        },
        Contender { name: "weft, fused", target: weft("beside", "n1")?, processes: vec![&cluster.agent] },
        Contender {
            name: "tonic unary",
            target: raw.target("/unary?n="),
            processes: vec![&raw.caller, &raw.server],
        },
        Contender {
            name: "tonic stream",
            target: raw.target("/bidi?n="),
            processes: vec![&raw.caller, &raw.server],
        },
    ];
    for contender in &contenders {
        for (calls, _) in REQUESTS {
            drive(&calling(&contender.target, calls), 4, WARM_UP)?;
        }
    }
    print_latencies(&one_caller(bench, &contenders)?, &contenders);
    for (callers, calls) in CALLERS {
        print_rates(&many_callers(bench, &contenders, callers, calls)?, &contenders, callers, calls);
    }
    let Contender { target, processes, .. } = &contenders[REMOTE];
    let asked = (CALLERS_OF_TARGET, CALLS);
    stages::print(processes, &calling(target, CALLS), asked, bench.round, &folder)
}

/// Both ends of gRPC without components.
pub(super) struct Raw {
    pub(super) server: Process,
    pub(super) caller: Process,
    /// Where the caller takes requests.
    pub(super) address: SocketAddr,
}

impl Raw {
    pub(super) fn start(bench: &Bench, folder: &Path) -> anyhow::Result<Self> {
        let echo = bench.baseline("raw_echo");
        let identity = folder.join("raw-echo.pem");
        let mut serve = Command::new(&echo);
        let (server, at) =
            Process::start_baseline("raw-echo-server", serve.arg("serve").arg(&identity), folder)?;
        let mut call = Command::new(&echo);
        call.arg("call").arg(at.to_string()).arg(&identity);
        let (caller, address) = Process::start_baseline("raw-echo-caller", &mut call, folder)?;
        Ok(Self { server, caller, address })
    }

    pub(super) fn target(&self, path: &str) -> Target {
        Target { address: self.address, host: "raw.localhost".to_owned(), path: path.to_owned() }
    }
}

/// Two components of an example, of which the first calls the second.
pub(super) struct Pair {
    pub(super) example: &'static str,
    pub(super) caller: &'static str,
    pub(super) provider: &'static str,
    /// What is answered once both serve.
    pub(super) probe: &'static str,
}

/// Adds numbers.
pub(super) const CHAIN: Pair = Pair { example: "chain", caller: "front", provider: "back", probe: "/add?n=1" };

impl Pair {
    /// Deploys them as a graph of this name, with the provider on this node.
    pub(super) fn deploy(
        &self,
        bench: &Bench,
        cluster: &Cluster,
        name: &str,
        node: &str,
    ) -> anyhow::Result<()> {
        let Self { example, caller, provider, probe } = self;
        let folder = cluster.manifests()?;
        for file in [caller, provider].map(|component| format!("{component}.wasm")) {
            fs::copy(bench.examples.join(example).join("build").join(&file), folder.join(&file))
                .with_context(|| format!("copy {file}"))?;
        }
        // With 64 callers a request takes seconds: its deadline is not what is measured.
        let text = format!(
            "version: 1\ngraph: {name}\ningress:\n  - {{http: {{host: {name}.localhost, path: /}}, to: {caller}}}\n\
             components:\n\
             \x20 {caller}: {{source: ./{caller}.wasm, limits: {{deadline: 60s}}, placement: {{require: {{node: n1}}}}}}\n\
             \x20 {provider}: {{source: ./{provider}.wasm, limits: {{deadline: 60s}}, placement: {{require: {{node: {node}}}}}}}\n"
        );
        let file = folder.join(format!("{name}.yaml"));
        fs::write(&file, text)?;
        cluster.ctl(&["deploy", &file.to_string_lossy()])?;
        cluster.answers(&cluster.target(&format!("{name}.localhost"), probe))?;
        Ok(())
    }
}

fn calling(target: &Target, calls: u32) -> Target {
    Target { path: format!("{}{calls}", target.path), ..target.clone() }
}

/// The times of one caller, by contender and round.
fn one_caller(bench: &Bench, contenders: &[Contender<'_>]) -> anyhow::Result<Vec<Vec<Times>>> {
    let mut times = vec![Vec::new(); contenders.len()];
    for _ in 0..bench.rounds {
        for (contender, times) in contenders.iter().zip(&mut times) {
            let [none, one, many] = REQUESTS.map(|(calls, requests)| ask(&contender.target, calls, requests));
            times.push(Times { none: none?, one: one?, many: many? });
        }
    }
    Ok(times)
}

/// The median of so many requests.
fn ask(target: &Target, calls: u32, requests: usize) -> anyhow::Result<f64> {
    let mut connection = Connection::open(&calling(target, calls))?;
    let mut times = Vec::with_capacity(requests);
    for _ in 0..requests {
        let started = Instant::now();
        let response = connection.ask()?;
        times.push(started.elapsed().as_secs_f64() * 1e6);
        let text = String::from_utf8_lossy(&response.body).into_owned();
        ensure!(response.status == 200 && text.trim() == calls.to_string(), "answered {text}");
    }
    Ok(median(&times))
}

fn many_callers(
    bench: &Bench,
    contenders: &[Contender<'_>],
    callers: usize,
    calls: u32,
) -> anyhow::Result<Vec<Rates>> {
    let mut rates: Vec<Rates> = contenders.iter().map(|_| Rates::default()).collect();
    for _ in 0..bench.rounds {
        for (contender, rates) in contenders.iter().zip(&mut rates) {
            let target = calling(&contender.target, calls);
            let before = cpu(&contender.processes)?;
            let round = drive(&target, callers, bench.round)?;
            let spent = cpu(&contender.processes)?.saturating_sub(before);
            let calls = f64::from(calls);
            rates.calls_per_second.push(round.rate() * calls);
            rates.p50_us.push(round.latency_us(0.5) / calls);
            rates.cpu_us.push(spent.as_secs_f64() * 1e6 / (round.latencies.len() as f64 * calls));
        }
    }
    Ok(rates)
}

fn print_latencies(times: &[Vec<Times>], contenders: &[Contender<'_>]) {
    say(&format!(
        "\nlink: `add` of examples/chain between two nodes, one caller: a request with 0, 1 and {CALLS} calls; ratio \
         to unary\n  first call: 1 less 0, between two nodes 1 less 1 fused; further call: {CALLS} less 1, divided"
    ));
    say(&format!(
        "  {:<24} {:>7} {:>7} {:>8} {:>9} {:>14} {:>7} {:>11} {:>16} {:>7}",
        "",
        "0 us",
        "1 us",
        "1000 us",
        "first us",
        "(least..most)",
        "ratio",
        "further us",
        "(least..most)",
        "ratio"
    ));
    let first = |at: usize| -> Vec<f64> {
        let less =
            |(time, fused): (&Times, &Times)| time.one - if at == REMOTE { fused.one } else { time.none };
        times[at].iter().zip(&times[FUSED]).map(less).collect()
    };
    let further = |at: usize| -> Vec<f64> {
        times[at].iter().map(|time| (time.many - time.one) / f64::from(CALLS - 1)).collect()
    };
    for (at, contender) in contenders.iter().enumerate() {
        let [none, one, many]: [fn(&Times) -> f64; 3] = [|time| time.none, |time| time.one, |time| time.many];
        let [none, one, many] =
            [none, one, many].map(|of| median(&times[at].iter().map(of).collect::<Vec<_>>()));
        say(&format!(
            "  {:<24} {none:>7.0} {one:>7.0} {many:>8.0} {:>9.1} {:>14} {:>6.2}x {:>11.2} {:>16} {:>6.2}x",
            contender.name,
            median(&first(at)),
            range(&first(at), 0),
            ratio(&first(at), &first(UNARY)),
            median(&further(at)),
            range(&further(at), 1),
            ratio(&further(at), &further(UNARY)),
        ));
    }
    at_most("first call", ratio(&first(REMOTE), &first(UNARY)), FIRST_MOST, "a first unary call");
    at_most("further call", ratio(&further(REMOTE), &further(UNARY)), FURTHER_MOST, "a unary call");
}

fn print_rates(rates: &[Rates], contenders: &[Contender<'_>], callers: usize, calls: u32) {
    say(&format!(
        "\nlink: the same, {calls} calls a request, requests at once: {callers}; CPU of both ends with their HTTP; \
         ratio to unary"
    ));
    say(&format!(
        "  {:<24} {:>10} {:>22} {:>12} {:>12} {:>7}",
        "", "calls/s", "(least..most)", "p50 us/call", "CPU us/call", "ratio"
    ));
    let against = |at: usize, base: usize| ratio(&rates[at].calls_per_second, &rates[base].calls_per_second);
    for (at, contender) in contenders.iter().enumerate() {
        say(&format!(
            "  {:<24} {:>10.0} {:>22} {:>12.2} {:>12.2} {:>6.2}x",
            contender.name,
            median(&rates[at].calls_per_second),
            range(&rates[at].calls_per_second, 0),
            median(&rates[at].p50_us),
            median(&rates[at].cpu_us),
            against(at, UNARY),
        ));
    }
    if callers == CALLERS_OF_TARGET {
        at_least("calls/s", against(REMOTE, UNARY), UNARY_RATE_LEAST, "unary's");
        at_least("calls/s", against(REMOTE, BIDI), BIDI_RATE_LEAST, "the stream's");
    }
}

/// The median of the ratios of each round.
pub(super) fn ratio(values: &[f64], base: &[f64]) -> f64 {
    median(&values.iter().zip(base).map(|(value, base)| value / base).collect::<Vec<_>>())
}

pub(super) fn range(values: &[f64], digits: usize) -> String {
    format!("({:.digits$}..{:.digits$})", quantile(values, 0.0), quantile(values, 1.0))
}

pub(super) fn at_most(what: &str, found: f64, most: f64, of: &str) {
    let word = if found <= most { "met" } else { "missed" };
    say(&format!("  target: {what} at most {most:.1}x {of}: {found:.2}x, {word}"));
}

pub(super) fn at_least(what: &str, found: f64, least: f64, of: &str) {
    let word = if found >= least { "met" } else { "missed" };
    say(&format!("  target: {what} at least {least:.1}x {of}: {found:.2}x, {word}"));
}
