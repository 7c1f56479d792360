//! Where the processors' time of a call goes: samples of both agents, sorted by what they were found in.
//!
//! `perf` takes them (`linux-perf` of Debian); without it, or where the kernel lets nobody, that is said and all else is
//! measured. A function that the compiler has put into another counts for that one, and one that is generic for the first
//! stage that its name tells of: a share is no more exact than that.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::bench::load::{Target, drive};
use crate::bench::process::Process;
use crate::bench::say;
use crate::bench::table::cpu;

/// Samples per second of each thread that runs: not a divisor of any timer's.
const SAMPLES_PER_SECOND: u32 = 1_997;

/// A stage, and how its functions' names or the files that they are in are known. The first that fits counts.
const STAGES: [(&str, &[&str]); 8] = [
    ("the kernel: sockets, wake-ups", &["[kernel", "[vdso]"]),
    ("TLS", &["rustls", "ring_core", "aws_lc", "aes", "gcm", "ghash", "chacha", "poly1305"]),
    ("HTTP/2 and gRPC", &["h2::", "hyper", "tonic", "http::", "http_body", "tower"]),
    ("frames: protobuf, who is meant", &["prost", "proto::", "carrier", "node_agent::api::links"]),
    ("guests: their code, entry and exit", &["wasmtime", "[jit]", "//anon", "perf-", "cranelift", "wasm"]),
    ("the call itself: values, session, judgement", &["node_agent", "model::"]),
    ("tasks, channels, timers", &["tokio", "futures", "mio::", "std::sync", "parking_lot"]),
    ("memory", &["malloc", "free", "realloc", "calloc", "mem", "alloc", "libc"]),
];
const REST: &str = "all else";

/// Prints a table for both ends of `processes` under so many callers.
pub(super) fn print(
    processes: &[&Process],
    target: &Target,
    (callers, calls): (usize, u32),
    length: Duration,
    folder: &Path,
) -> anyhow::Result<()> {
    say(&format!("\nlink: where the CPU of a call goes at both ends, {callers} requests at once, by samples"));
    let file = folder.join("perf.data");
    let pids: Vec<String> = processes.iter().map(|process| process.id().to_string()).collect();
    let recording = Command::new("perf")
        .args(["record", "--quiet", "--event", "cpu-clock", "--freq", &SAMPLES_PER_SECOND.to_string(), "--pid"])
        .arg(pids.join(","))
        .arg("--output")
        .arg(&file)
        .args(["--", "sleep", &length.as_secs_f64().to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut recording) = recording else {
        say("  not measured, `perf` is not on PATH");
        return Ok(());
    };
    let before = cpu(processes)?;
    let round = drive(target, callers, length);
    let spent = cpu(processes)?.saturating_sub(before);
    let is_recorded = recording.wait()?.success();
    let round = round?;
    if !is_recorded {
        say("  not measured, `perf` may not look at other processes here");
        return Ok(());
    }
    let report = Command::new("perf")
        .args(["report", "--stdio", "--quiet", "--no-children", "--fields", "overhead,dso,symbol"])
        .args(["--field-separator", ";", "--input"])
        .arg(&file)
        .stderr(Stdio::null())
        .output()
        .context("run perf report")?;
    let shares = sorted(&String::from_utf8_lossy(&report.stdout));
    let all: f64 = shares.iter().map(|(_, share)| share).sum();
    ensure!(all > 0.0, "perf found no samples");
    let call_us = spent.as_secs_f64() * 1e6 / (round.latencies.len() as f64 * f64::from(calls));
    for (stage, share) in shares {
        let share = share / all;
        say(&format!("  {stage:<46} {:>5.1} % {:>7.2} us", 100.0 * share, call_us * share));
    }
    say(&format!("  {:<46} {:>5.1} % {call_us:>7.2} us", "all", 100.0));
    Ok(())
}

/// The shares of the stages in a report of lines `percent;file;[k] function`.
fn sorted(report: &str) -> Vec<(&'static str, f64)> {
    let mut shares: Vec<(&str, f64)> = STAGES.iter().map(|(stage, _)| (*stage, 0.0)).collect();
    shares.push((REST, 0.0));
    for line in report.lines() {
        let Some((share, found)) = line.trim().split_once(';') else { continue };
        let Ok(share) = share.trim().trim_end_matches('%').parse::<f64>() else { continue };
        let found = found.to_lowercase();
        let fits = |(_, words): &(&str, &[&str])| words.iter().any(|word| found.contains(word));
        let at = STAGES.iter().position(fits).unwrap_or(STAGES.len());
        shares[at].1 += share;
    }
    shares
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn samples_are_of_the_first_stage_that_fits() {
        let report = "\n# a comment\n 40.00%;[kernel.kallsyms];[k] _raw_spin_unlock\n 20.50%;node-agent;[.] rustls::record_layer::encrypt\
                      \n 10.00%;node-agent;[.] node_agent::link::carrier::take\n  5.00%;node-agent;[.] node_agent::host::remote::call\
                      \n  4.00%;[JIT] tid 7;[.] 0x00007f0000000000\n  2.00%;libc.so.6;[.] __memmove_avx512\n  1.00%;node-agent;[.] what\n  0.50%;node-agent;[.] alloc::string::String::push\n";
        let shares = sorted(report);
        let of = |stage: &str| shares.iter().find(|(found, _)| found.starts_with(stage)).unwrap().1;
        assert_eq!(
            ["the kernel", "TLS", "frames", "the call", "guests", "memory", "all else"].map(of),
            [40.0, 20.5, 10.0, 5.0, 4.0, 2.5, 1.0]
        );
    }
}
