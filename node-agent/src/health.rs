//! Whether it is worth asking another node: a circuit breaker, and a budget for asking again.
//!
//! Both are told what became of what was asked, and ask nobody themselves. They know no clock: the time comes with each
//! question.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::backoff::Backoff;

/// Failures in a row that open a circuit: fewer happen when one connection is lost that many use.
const FAILURES_MAX: u32 = 5;
/// How long a circuit is open at first: a process that is restarted is back in some of these.
const OPEN_LEAST: Duration = Duration::from_millis(100);
/// The longest: what is healed is found again within it.
const OPEN_MOST: Duration = Duration::from_secs(2);

/// Keeps callers from waiting for what has failed time and again: after some failures in a row they are refused at
/// once, until one of them may try; if that goes well, all may.
///
/// It counts those who ask, by which who asks next can choose between several nodes.
pub(crate) struct Breaker {
    circuit: Mutex<Circuit>,
    asking: AtomicUsize,
}

struct Circuit {
    failures: u32,
    backoff: Backoff,
    /// When somebody may try again, once it is open.
    open_until: Option<Instant>,
    /// When it was opened first, since an answer.
    opened: Option<Instant>,
    /// Whether somebody tries.
    is_tried: bool,
}

/// The right to ask. Dropped without a word of what came of it, it says nothing.
pub(crate) struct Admission<'a> {
    breaker: &'a Breaker,
    is_trial: bool,
}

/// The circuit is open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, thiserror::Error)]
#[error("it failed {FAILURES_MAX} times in a row or more, and is not asked for the next {} ms", .left.as_millis())]
pub(crate) struct Open {
    /// For so long, if no other has better luck; nothing while another tries.
    left: Duration,
    /// For so long nobody has been answered, since it was opened first.
    pub(crate) age: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        let backoff = Backoff::new(OPEN_LEAST, OPEN_MOST);
        let circuit = Circuit { failures: 0, backoff, open_until: None, opened: None, is_tried: false };
        Self { circuit: Mutex::new(circuit), asking: AtomicUsize::new(0) }
    }
}

impl Breaker {
    /// Lets a caller ask, or says for how long nobody may.
    pub(crate) fn admit(&self, now: Instant) -> Result<Admission<'_>, Open> {
        let mut circuit = self.circuit();
        let Some(until) = circuit.open_until else { return Ok(Admission::new(self, false)) };
        let left = until.saturating_duration_since(now);
        if circuit.is_tried || !left.is_zero() {
            let age = circuit.opened.map_or(Duration::ZERO, |opened| now.saturating_duration_since(opened));
            return Err(Open { left, age });
        }
        circuit.is_tried = true;
        Ok(Admission::new(self, true))
    }

    /// Lets a caller try who has nobody else to ask, though the circuit is open, or says for how long it is: one at a time.
    pub(crate) fn admit_early(&self, now: Instant) -> Result<Admission<'_>, Open> {
        let mut circuit = self.circuit();
        if circuit.open_until.is_none() || circuit.is_tried {
            drop(circuit);
            return self.admit(now);
        }
        circuit.is_tried = true;
        Ok(Admission::new(self, true))
    }

    /// Whether nobody may ask now.
    pub(crate) fn is_open(&self, now: Instant) -> bool {
        let circuit = self.circuit();
        circuit.open_until.is_some_and(|until| circuit.is_tried || until > now)
    }

    /// How many ask and have no answer yet.
    pub(crate) fn asking(&self) -> usize {
        self.asking.load(Ordering::Relaxed)
    }

    fn circuit(&self) -> MutexGuard<'_, Circuit> {
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Admission<'a> {
    fn new(breaker: &'a Breaker, is_trial: bool) -> Self {
        breaker.asking.fetch_add(1, Ordering::Relaxed);
        Self { breaker, is_trial }
    }

    /// It was answered, whatever the answer was; says whether that closes the circuit.
    pub(crate) fn answered(self) -> bool {
        let mut circuit = self.breaker.circuit();
        circuit.failures = 0;
        circuit.backoff.reset();
        circuit.opened = None;
        circuit.open_until.take().is_some()
    }

    /// It was not; says for how long that opens the circuit.
    pub(crate) fn failed(self, now: Instant) -> Option<Duration> {
        let mut circuit = self.breaker.circuit();
        circuit.failures = circuit.failures.saturating_add(1);
        // Those who asked before it was open say nothing new.
        let is_late = circuit.open_until.is_some() && !self.is_trial;
        if circuit.failures < FAILURES_MAX || is_late {
            return None;
        }
        let wait = circuit.backoff.after_failure();
        circuit.open_until = Some(now + wait);
        circuit.opened.get_or_insert(now);
        Some(wait)
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        self.breaker.asking.fetch_sub(1, Ordering::Relaxed);
        if self.is_trial {
            self.breaker.circuit().is_tried = false;
        }
    }
}

/// Asking again costs this many of what each first question brings: at most a fifth of the load is repeated.
const COST: u32 = 5;
/// What there may be, and is at the start: this many questions may be asked again in a row.
const BUDGET_MAX: u32 = 100 * COST;
/// What comes back each second without any question, so that little load may be repeated as well.
const REFILL_PER_SECOND: u32 = 10 * COST;

/// How often may be asked again what was not answered: a share of what is asked, so that a node that cannot keep up does
/// not get more to do for it.
pub(crate) struct Budget(Mutex<Account>);

struct Account {
    left: u32,
    refilled: Instant,
}

impl Budget {
    /// A full one.
    pub(crate) fn new(now: Instant) -> Self {
        Self(Mutex::new(Account { left: BUDGET_MAX, refilled: now }))
    }

    /// Something is asked for the first time.
    pub(crate) fn deposit(&self) {
        let mut account = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        account.left = account.left.saturating_add(1).min(BUDGET_MAX);
    }

    /// Whether something may be asked again.
    pub(crate) fn withdraw(&self, now: Instant) -> bool {
        let mut account = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = now.saturating_duration_since(account.refilled);
        let refill =
            u32::try_from(idle.as_millis() * u128::from(REFILL_PER_SECOND) / 1_000).unwrap_or(u32::MAX);
        if refill > 0 {
            account.left = account.left.saturating_add(refill).min(BUDGET_MAX);
            account.refilled = now;
        }
        let left = account.left.checked_sub(COST);
        account.left = left.unwrap_or(account.left);
        left.is_some()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::collection;
    use proptest::prelude::{ProptestConfig, any, prop_assert, proptest};

    use super::*;

    #[test]
    fn a_circuit_opens_after_failures_in_a_row_and_one_trial_closes_it() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 1..FAILURES_MAX {
            assert_eq!(breaker.admit(now).unwrap().failed(now), None);
        }
        // An answer between begins the count anew.
        assert!(!breaker.admit(now).unwrap().answered());
        for _ in 1..FAILURES_MAX {
            assert_eq!(breaker.admit(now).unwrap().failed(now), None);
        }
        let wait = breaker.admit(now).unwrap().failed(now).unwrap();
        assert!(wait >= OPEN_LEAST / 2 && wait <= OPEN_LEAST, "{wait:?}");
        assert!(breaker.admit(now).is_err());
        let later = now + wait;
        let trial = breaker.admit(later).unwrap();
        assert!(breaker.admit(later).is_err(), "one tries, the others wait");
        let longer = trial.failed(later).unwrap();
        assert!(longer >= OPEN_LEAST, "{longer:?}");
        assert_eq!(breaker.admit(later).err().map(|open| open.age), Some(wait), "since it was opened first");
        // A trial that is given up leaves its place to the next.
        let later = later + longer;
        drop(breaker.admit(later).unwrap());
        assert!(breaker.admit(later).unwrap().answered());
        assert!(breaker.admit(later).is_ok());
    }

    #[test]
    fn who_has_nobody_else_to_ask_tries_an_open_circuit_one_at_a_time() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..FAILURES_MAX {
            breaker.admit(now).unwrap().failed(now);
        }
        assert!(breaker.admit(now).is_err());
        let trial = breaker.admit_early(now).unwrap();
        assert!(breaker.admit_early(now).is_err(), "one at a time");
        assert!(trial.failed(now).is_some());
        assert!(breaker.admit_early(now).unwrap().answered());
        assert!(breaker.admit(now).is_ok() && breaker.admit_early(now).is_ok());
    }

    #[test]
    fn those_who_ask_are_counted_until_they_know() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        let [first, second, third] = [(); 3].map(|()| breaker.admit(now).unwrap());
        assert_eq!(breaker.asking(), 3);
        first.answered();
        second.failed(now);
        drop(third);
        assert_eq!(breaker.asking(), 0);
    }

    #[test]
    fn failures_of_those_who_asked_before_do_not_keep_it_open() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        let mut asked: Vec<_> = (0..50).map(|_| breaker.admit(now).unwrap()).collect();
        let opened: Vec<_> = asked.drain(..).filter_map(|admission| admission.failed(now)).collect();
        assert_eq!(opened.len(), 1);
        assert!(breaker.admit(now + OPEN_LEAST).is_ok());
    }

    #[test]
    fn a_fifth_of_what_is_asked_may_be_asked_again() {
        let now = Instant::now();
        let budget = Budget::new(now);
        let spent = (0..10_000).filter(|_| budget.withdraw(now)).count();
        assert_eq!(spent, 100);
        for _ in 0..1_000 {
            budget.deposit();
        }
        assert_eq!((0..10_000).filter(|_| budget.withdraw(now)).count(), 100, "no more is kept than there was");
        for _ in 0..50 {
            budget.deposit();
        }
        assert_eq!((0..10_000).filter(|_| budget.withdraw(now)).count(), 10);
        assert_eq!((0..10_000).filter(|_| budget.withdraw(now + Duration::from_secs(1))).count(), 10);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn an_open_circuit_lets_somebody_try_within_its_longest_time(outcomes in collection::vec(any::<bool>(), 0..60)) {
            let breaker = Breaker::default();
            let mut now = Instant::now();
            for is_good in outcomes {
                let mut waited = Duration::ZERO;
                let admission = loop {
                    match breaker.admit(now) {
                        Ok(admission) => break admission,
                        Err(Open { left, .. }) => {
                            prop_assert!(!left.is_zero());
                            (now, waited) = (now + left, waited + left);
                        }
                    }
                };
                prop_assert!(waited <= OPEN_MOST);
                if is_good { admission.answered(); } else { admission.failed(now); }
            }
        }
    }
}
