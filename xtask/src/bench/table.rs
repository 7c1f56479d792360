//! Medians, and the tables they are printed in.

use std::time::Duration;

use super::load::Round;
use super::load::{self, Target};
use super::process::Process;
use super::{Bench, say};

/// One thing that is compared.
pub struct Contender<'a> {
    /// What it is called in the table.
    pub name: String,
    /// What is asked.
    pub target: Target,
    /// Whose CPU time counts.
    pub processes: Vec<&'a Process>,
}

/// What all rounds of one contender came to.
#[derive(Debug, Clone)]
pub struct Summary {
    /// What it is called.
    pub name: String,
    /// Answers per second, by round.
    pub rates: Vec<f64>,
    /// Half of the answers took no longer, in microseconds, by round.
    pub p50_us: Vec<f64>,
    /// All but one in a hundred took no longer.
    pub p99_us: Vec<f64>,
    /// The server's CPU time for one answer, in microseconds.
    pub cpu_us: Vec<f64>,
}

/// Requests before the first round: they fill caches and pools.
const WARM_UP: Duration = Duration::from_millis(500);

/// Drives all contenders in turn, round after round.
pub fn compare(
    bench: &Bench,
    contenders: &[Contender<'_>],
    connections: usize,
) -> anyhow::Result<Vec<Summary>> {
    let mut summaries: Vec<Summary> =
        contenders.iter().map(|contender| Summary::new(&contender.name)).collect();
    for contender in contenders {
        load::drive(&contender.target, connections, WARM_UP)?;
    }
    for _ in 0..bench.rounds {
        for (contender, summary) in contenders.iter().zip(&mut summaries) {
            let before = cpu(&contender.processes)?;
            let round = load::drive(&contender.target, connections, bench.round)?;
            summary.add(&round, cpu(&contender.processes)?.saturating_sub(before));
        }
    }
    Ok(summaries)
}

/// The CPU time of these together.
pub fn cpu(processes: &[&Process]) -> anyhow::Result<Duration> {
    processes.iter().map(|process| process.cpu()).sum()
}

impl Summary {
    /// Without any round yet.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), rates: vec![], p50_us: vec![], p99_us: vec![], cpu_us: vec![] }
    }

    fn add(&mut self, round: &Round, cpu: Duration) {
        self.rates.push(round.rate());
        self.p50_us.push(round.latency_us(0.50));
        self.p99_us.push(round.latency_us(0.99));
        self.cpu_us.push(cpu.as_secs_f64() * 1e6 / round.latencies.len() as f64);
    }
}

/// The middle one, or the mean of the two in the middle.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.len(), sorted.len() / 2) {
        (0, _) => f64::NAN,
        (length, middle) if length % 2 == 1 => sorted[middle],
        (_, middle) => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

/// What `share` of the values do not exceed.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get(((sorted.len() as f64 * share) as usize).min(last)).copied().unwrap_or(f64::NAN)
}

/// One line for each contender, with its rate beside that of `baseline`: the median of the ratios of each round.
pub fn print_rates(summaries: &[Summary], baseline: usize) {
    say(&format!(
        "  {:<34} {:>9} {:>17} {:>8} {:>8} {:>8} {:>7}",
        "", "req/s", "(least..most)", "p50 us", "p99 us", "CPU us", "ratio"
    ));
    for summary in summaries {
        let ratios: Vec<f64> =
            summary.rates.iter().zip(&summaries[baseline].rates).map(|(rate, base)| rate / base).collect();
        say(&format!(
            "  {:<34} {:>9.0} {:>17} {:>8.0} {:>8.0} {:>8.1} {:>6.2}x",
            summary.name,
            median(&summary.rates),
            format!("({:.0}..{:.0})", quantile(&summary.rates, 0.0), quantile(&summary.rates, 1.0)),
            median(&summary.p50_us),
            median(&summary.p99_us),
            median(&summary.cpu_us),
            median(&ratios),
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_quantiles() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(quantile(&[3.0, 1.0, 2.0], 1.0), 3.0);
        assert_eq!(quantile(&[3.0, 1.0, 2.0], 0.0), 1.0);
    }
}
