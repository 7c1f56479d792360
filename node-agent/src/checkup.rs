//! When a component that serves is checked again, and what comes of it. Knows no clock, no task and no wasm: the time comes
//! with each question.

use std::time::Duration;

use model::graph::CheckTerms;
use tokio::time::Instant;

/// The checks of one component of a graph that serves.
#[derive(Debug)]
pub(crate) struct Checkup {
    every: Duration,
    failures_max: u32,
    /// When the next one is due; nothing while one is under way.
    due: Option<Instant>,
    /// In a row.
    failures: u32,
    failing: Option<String>,
}

impl Checkup {
    /// One whose first check is due after a share of the time between two; none where it is not checked again.
    ///
    /// The share is drawn by chance, so that not all graphs of a node that has just started are asked at one moment.
    pub(crate) fn new(terms: &CheckTerms, now: Instant, share: f64) -> Option<Self> {
        let every = terms.every?;
        let due = Some(now + every.mul_f64(share.clamp(0.0, 1.0)));
        Some(Self { every, failures_max: terms.failures, due, failures: 0, failing: None })
    }

    /// Goes on from what was checked until now, of the same component on the same terms: as often failed, and due when that
    /// was; at once where a check of it is under way or the last one failed.
    pub(crate) fn go_on(&mut self, before: &Self, now: Instant) {
        if (self.every, self.failures_max) != (before.every, before.failures_max) {
            return;
        }
        (self.failures, self.failing) = (before.failures, before.failing.clone());
        self.due = Some(before.due.filter(|_| before.failures == 0).unwrap_or(now));
    }

    /// When the next check is due; nothing while one is under way.
    pub(crate) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// A check is under way.
    pub(crate) const fn begin(&mut self) {
        self.due = None;
    }

    /// One has ended, or nothing was asked; says whether it passes or fails now and did not before.
    pub(crate) fn ended(&mut self, outcome: Option<Result<(), String>>, now: Instant) -> bool {
        self.due = Some(now + self.every);
        let Some(outcome) = outcome else { return false };
        let was_failing = self.failing.is_some();
        match outcome {
            Ok(()) => (self.failures, self.failing) = (0, None),
            Err(why) => {
                self.failures = self.failures.saturating_add(1);
                // What is said stays as it was at first: each change of it is told to the control plane.
                if self.failures >= self.failures_max && !was_failing {
                    self.failing = Some(format!("{why}{}", times(self.failures)));
                }
            }
        }
        self.failing.is_some() != was_failing
    }

    /// Why it fails, if it does.
    pub(crate) fn failing(&self) -> Option<&str> {
        self.failing.as_deref()
    }
}

fn times(count: u32) -> String {
    match count {
        1 => String::new(),
        count => format!(", {count} times in a row"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(10);

    fn checkup(failures: u32, share: f64, now: Instant) -> Checkup {
        let terms = CheckTerms { every: Some(EVERY), failures, ..CheckTerms::default() };
        Checkup::new(&terms, now, share).unwrap()
    }

    fn wrong(why: &str) -> Option<Result<(), String>> {
        Some(Err(why.to_owned()))
    }

    #[tokio::test]
    async fn the_first_is_due_within_the_time_between_two_and_none_is_while_one_is_under_way() {
        let now = Instant::now();
        assert!(Checkup::new(&CheckTerms::default(), now, 0.5).is_none(), "it is not checked again");
        for (share, expected) in [(0.0, Duration::ZERO), (0.25, EVERY / 4), (7.0, EVERY)] {
            assert_eq!(checkup(3, share, now).due(), Some(now + expected));
        }
        let mut checkup = checkup(3, 1.0, now);
        checkup.begin();
        assert_eq!(checkup.due(), None);
        checkup.ended(Some(Ok(())), now + EVERY * 2);
        assert_eq!(checkup.due(), Some(now + EVERY * 3));
    }

    #[tokio::test]
    async fn so_many_failures_in_a_row_fail_and_one_that_passes_ends_it() {
        let now = Instant::now();
        let mut checkup = checkup(3, 0.0, now);
        assert!(!checkup.ended(wrong("a"), now) && !checkup.ended(wrong("b"), now));
        assert!(!checkup.ended(Some(Ok(())), now), "it had not failed");
        assert!(!checkup.ended(wrong("c"), now) && !checkup.ended(wrong("d"), now));
        assert!(!checkup.ended(None, now), "nothing was asked");
        assert!(checkup.ended(wrong("e"), now));
        assert_eq!(checkup.failing(), Some("e, 3 times in a row"));
        assert!(!checkup.ended(wrong("f"), now));
        assert_eq!(checkup.failing(), Some("e, 3 times in a row"), "it is told once");
        assert!(checkup.ended(Some(Ok(())), now));
        assert_eq!(checkup.failing(), None);
        assert!(!checkup.ended(wrong("g"), now), "it is counted anew");
    }

    #[tokio::test]
    async fn what_is_placed_anew_goes_on_from_what_was_checked() {
        let now = Instant::now();
        let mut before = checkup(2, 0.5, now);
        let mut after = checkup(2, 1.0, now);
        after.go_on(&before, now);
        assert_eq!(after.due(), Some(now + EVERY / 2));
        assert!(!before.ended(wrong("a"), now) && before.ended(wrong("b"), now));
        after.go_on(&before, now);
        assert_eq!((after.failing(), after.due()), (Some("b, 2 times in a row"), Some(now)));
        before.begin();
        let mut other = checkup(3, 1.0, now);
        other.go_on(&before, now);
        assert_eq!(
            (other.failing(), other.due()),
            (None, Some(now + EVERY)),
            "on other terms it is another one"
        );
    }

    #[tokio::test]
    async fn one_failure_may_be_enough() {
        let now = Instant::now();
        let mut checkup = checkup(1, 0.0, now);
        assert!(checkup.ended(wrong("a"), now));
        assert_eq!(checkup.failing(), Some("a"));
    }
}
