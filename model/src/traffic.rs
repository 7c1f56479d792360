//! How requests went: counts that can be added up, and compared.

use serde::{Deserialize, Serialize};

/// The bounds of latencies that are told apart: four to each doubling.
const STEPS_PER_DOUBLING: u32 = 4;
/// The first bound, in microseconds.
const FIRST_US: f64 = 100.0;
/// Latencies that are told apart: the last one is beyond the longest deadline of a call.
pub const LATENCIES_MAX: usize = 96;
/// Of so many in a hundred requests the slowest is told, and compared.
pub const LATENCY_PERCENT: u64 = 95;

/// Requests that were answered, how many of them with an error, and how long that took.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// All of them.
    pub requests: u64,
    /// Those that were answered with a status of 500 or more.
    pub failures: u64,
    /// How many took how long until the head of their answer: less than 100 us, and then four bounds to each doubling.
    pub latencies: Vec<u64>,
}

/// How requests went, in a few figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// All of them.
    pub requests: u64,
    /// Those that were answered with a status of 500 or more.
    pub failures: u64,
    /// Within how many microseconds the head of the answer came for [`LATENCY_PERCENT`] in a hundred of them, a fifth too many at
    /// most; none of none.
    pub within_us: Option<u64>,
}

impl From<&Counts> for Answered {
    fn from(counts: &Counts) -> Self {
        let within_us = counts.quantile_us(LATENCY_PERCENT).map(|(_, most)| most);
        Self { requests: counts.requests, failures: counts.failures, within_us }
    }
}

/// Which of [`Counts::latencies`] counts a request that took so many microseconds.
pub fn latency_index(micros: u64) -> usize {
    // Far more precise than is needed below 2^53, which is 285 years.
    #[allow(clippy::cast_precision_loss, reason = "of bounds that are a fifth apart")]
    let doublings = (micros as f64 / FIRST_US).log2();
    if doublings <= 0.0 {
        return 0;
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 256")]
    let index = (doublings * f64::from(STEPS_PER_DOUBLING)).ceil() as usize;
    index.min(LATENCIES_MAX - 1)
}

/// The upper bound of a latency that is counted at `index`, in microseconds.
fn bound_us(index: usize) -> u64 {
    let doublings = f64::from(u32::try_from(index).unwrap_or(u32::MAX)) / f64::from(STEPS_PER_DOUBLING);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and at most 2^31")]
    let bound = (FIRST_US * doublings.exp2()).ceil() as u64;
    bound
}

impl Counts {
    /// These and others.
    pub fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.failures = self.failures.saturating_add(other.failures);
        if self.latencies.len() < other.latencies.len() {
            self.latencies.resize(other.latencies.len(), 0);
        }
        for (count, more) in self.latencies.iter_mut().zip(&other.latencies) {
            *count = count.saturating_add(*more);
        }
    }

    /// What came since `before`; all of them where they were counted from nothing again.
    pub fn since(&self, before: &Self) -> Self {
        if self.requests < before.requests || self.failures < before.failures {
            return self.clone();
        }
        let earlier = before.latencies.iter().copied().chain(std::iter::repeat(0));
        Self {
            requests: self.requests - before.requests,
            failures: self.failures - before.failures,
            latencies: self
                .latencies
                .iter()
                .zip(earlier)
                .map(|(now, before)| now.saturating_sub(before))
                .collect(),
        }
    }

    /// Within which bounds a request took as long as `percent` of them did at most, in microseconds; none of none.
    pub fn quantile_us(&self, percent: u64) -> Option<(u64, u64)> {
        let all = self.latencies.iter().fold(0, |all: u64, count| all.saturating_add(*count));
        let wanted = all.saturating_mul(percent).div_ceil(100).max(1);
        let mut seen: u64 = 0;
        let index = self.latencies.iter().position(|count| {
            seen = seen.saturating_add(*count);
            seen >= wanted
        })?;
        let least = index.checked_sub(1).map_or(0, bound_us);
        Some((least, bound_us(index)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};

    use super::*;

    fn counts(latencies: &[u64]) -> Counts {
        let mut counts =
            Counts { requests: latencies.len() as u64, failures: 0, latencies: vec![0; LATENCIES_MAX] };
        for latency in latencies {
            counts.latencies[latency_index(*latency)] += 1;
        }
        counts
    }

    #[test]
    fn a_quantile_is_between_its_bounds() {
        let mut latencies = vec![1_000_u64; 94];
        latencies.extend([50_000; 6]);
        let counts = counts(&latencies);
        let (least, most) = counts.quantile_us(50).unwrap();
        assert!(least < 1_000 && (1_000..1_250).contains(&most), "{least} {most}");
        let (least, most) = counts.quantile_us(95).unwrap();
        assert!(least < 50_000 && most >= 50_000, "{least} {most}");
        assert_eq!(Counts::default().quantile_us(95), None);
        assert_eq!(Answered::from(&counts), Answered { requests: 100, failures: 0, within_us: Some(most) });
        assert_eq!(Answered::from(&Counts::default()), Answered::default());
    }

    #[test]
    fn what_was_counted_from_nothing_again_counts_whole() {
        let (before, after) = (counts(&[500; 10]), counts(&[500; 14]));
        assert_eq!(after.since(&before).requests, 4);
        assert_eq!(before.since(&after), before);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_latency_is_within_its_bounds(micros in 0..700_000_000_u64) {
            let index = latency_index(micros);
            prop_assert!(micros <= bound_us(index));
            prop_assert!(index == 0 || micros > bound_us(index - 1) - 1);
        }

        #[test]
        fn parts_add_up(a in proptest::collection::vec(0..1_000_000_u64, 0..20),
                        b in proptest::collection::vec(0..1_000_000_u64, 0..20)) {
            let (mut sum, first) = (counts(&a), counts(&a));
            sum.add(&counts(&b));
            prop_assert_eq!(sum.since(&first), counts(&b));
        }
    }
}
