//! How long to wait before something is tried again: doubling from a least to a most, with jitter, so that many
//! agents that lost the same thing at the same moment do not come back at the same moment.

use std::time::Duration;

/// The waits of one thing that is tried again and again.
#[derive(Debug, Clone)]
pub struct Backoff {
    least: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    /// Waits from `least` to `most`.
    pub const fn new(least: Duration, most: Duration) -> Self {
        Self { least, most, failures: 0 }
    }

    /// Forgets the failures: the next wait is the least.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Counts a failure and says how long to wait after it: at least half of the full wait, the rest at random.
    pub fn after_failure(&mut self) -> Duration {
        let doubled = self.least.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1);
        let full = doubled.min(self.most);
        full / 2 + (full / 2).mul_f64(fraction())
    }
}

/// A random number from 0 to 1.
pub(crate) fn fraction() -> f64 {
    // Without randomness the waits are only longer, so a system that has none is no reason to fail.
    let drawn = getrandom::u32().unwrap_or(u32::MAX);
    f64::from(drawn) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_most_and_start_again() {
        let (least, most) = (Duration::from_millis(100), Duration::from_secs(60));
        let mut backoff = Backoff::new(least, most);
        for failure in 0..80 {
            let full = least.saturating_mul(1_u32.checked_shl(failure).unwrap_or(u32::MAX)).min(most);
            let wait = backoff.after_failure();
            assert!(wait >= full / 2 && wait <= full, "failure {failure}: {wait:?} of {full:?}");
        }
        backoff.reset();
        assert!(backoff.after_failure() <= least);
    }
}
