//! For how long this node may serve what must not serve once the node is cut off (`on-isolation: stop`).
//!
//! A control plane that answers a heartbeat gives a lease from when that was sent. It counts the node as lost, and places
//! what it had elsewhere, only later than that: two nodes never serve it at one time because one of them is isolated,
//! whatever the network does, as long as their clocks run about as fast. What is drained or moved between nodes that are
//! heard of is another matter: the one before goes on until the next one answers, as for every graph.
//!
//! Time is that of the monotonic clock, which stands still while a machine sleeps or is suspended: one that wakes believes
//! for the rest of its lease that it holds it. A node that has just started has no lease, whatever its ledger says.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::id::Generation;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Why what must not serve here does not.
pub(crate) const ISOLATED: &str =
    "this node is cut off from the control plane, and the graph asks for `on-isolation: stop`";

/// The lease ended under way.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error(
    "the node was cut off from the control plane for too long, and the graph asks for `on-isolation: stop`"
)]
pub(crate) struct Isolated;

/// Heartbeats that have no answer yet and are remembered: an answer to an older one says too little.
const UNANSWERED_MAX: usize = 64;

/// Until when the lease is held; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Lease(watch::Sender<Option<Instant>>);

impl Lease {
    /// Whether it is held now.
    pub(crate) fn is_held(&self) -> bool {
        self.0.borrow().is_some_and(|until| until > Instant::now())
    }

    /// It is held until then, unless it was for longer; wakes those who wait for it.
    pub(crate) fn renew(&self, until: Instant) {
        self.0.send_if_modified(|known| {
            let was_held = known.is_some_and(|known| known > Instant::now());
            *known = Some(known.map_or(until, |known| known.max(until)));
            !was_held
        });
    }

    /// Wakes when it is held again after it was not.
    pub(crate) fn returns(&self) -> watch::Receiver<Option<Instant>> {
        self.0.subscribe()
    }

    /// Resolves once it is held.
    pub(crate) async fn held(&self) {
        // The other end is this one.
        let _ = self.returns().wait_for(|until| until.is_some_and(|until| until > Instant::now())).await;
    }

    /// When it ends, if it is held.
    pub(crate) fn end(&self) -> Option<Instant> {
        self.0.borrow().filter(|until| *until > Instant::now())
    }

    /// Resolves once it is not held.
    pub(crate) async fn ended(&self) {
        // It may be renewed meanwhile.
        while let Some(until) = self.end() {
            sleep_until(until).await;
        }
    }
}

/// The heartbeats of one session, each with when it was sent; clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Heartbeats(Arc<Mutex<Sent>>);

#[derive(Debug, Default)]
struct Sent {
    last: u64,
    unanswered: VecDeque<(u64, Instant)>,
}

impl Heartbeats {
    /// The number of one that is sent now.
    pub(crate) fn next(&self, now: Instant) -> u64 {
        let mut sent = self.sent();
        sent.last += 1;
        let number = sent.last;
        if sent.unanswered.len() >= UNANSWERED_MAX {
            sent.unanswered.pop_front();
        }
        sent.unanswered.push_back((number, now));
        number
    }

    /// Until when an answer to one gives the lease. It says that what stops in isolation of the generation `assigned` is still
    /// assigned to the node; a later one that the node has accepted meanwhile came from the same control plane before it.
    pub(crate) fn confirmed(
        &self,
        number: u64,
        lease: Duration,
        (assigned, accepted): (Generation, Generation),
    ) -> Option<Instant> {
        let mut sent = self.sent();
        let at = sent.unanswered.iter().position(|(other, _)| *other == number)?;
        // Those before it have no answer, or one that says less.
        let (_, when) = sent.unanswered.drain(..=at).next_back()?;
        (assigned <= accepted).then(|| when + lease)
    }

    fn sent(&self) -> MutexGuard<'_, Sent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(2);
    const SAME: (Generation, Generation) = (Generation(7), Generation(7));

    #[tokio::test]
    async fn it_is_held_from_when_a_heartbeat_was_sent_and_ends_by_itself() {
        let (lease, heartbeats, short) = (Lease::default(), Heartbeats::default(), Duration::from_millis(50));
        assert!(!lease.is_held(), "a node that has just started has none");
        lease.ended().await;
        let sent = Instant::now();
        let number = heartbeats.next(sent);
        let until = heartbeats.confirmed(number, short, SAME).unwrap();
        assert_eq!(until, sent + short, "and not from when the answer came");
        lease.renew(until + short);
        // What came late takes nothing away.
        lease.renew(until);
        assert_eq!(lease.end().unwrap_or(until + short), until + short);
        lease.ended().await;
        assert!(Instant::now() >= until + short && !lease.is_held());
        lease.renew(Instant::now() + LEASE);
        assert!(lease.is_held());
    }

    #[tokio::test]
    async fn who_waits_is_woken_when_it_is_held_again_and_not_each_time() {
        let (lease, now) = (Lease::default(), Instant::now());
        let mut returns = lease.returns();
        lease.renew(now);
        assert!(returns.has_changed().unwrap(), "it was not held");
        returns.mark_unchanged();
        lease.renew(now + LEASE * 1_000);
        assert!(returns.has_changed().unwrap(), "that was over when it came");
        returns.mark_unchanged();
        lease.renew(now + LEASE * 2_000);
        assert!(!returns.has_changed().unwrap());
        assert_eq!(lease.end(), Some(now + LEASE * 2_000));
    }

    #[tokio::test]
    async fn an_answer_counts_once_and_for_what_was_assigned() {
        let (heartbeats, now) = (Heartbeats::default(), Instant::now());
        let numbers: Vec<u64> = (0..3).map(|_| heartbeats.next(now)).collect();
        assert_eq!(heartbeats.confirmed(numbers[1], LEASE, (Generation(8), Generation(7))), None);
        assert_eq!(heartbeats.confirmed(numbers[0], LEASE, SAME), None, "a later one was answered");
        let number = heartbeats.next(now);
        let later = heartbeats.confirmed(number, LEASE, (Generation(6), Generation(7)));
        assert!(later.is_some(), "another one was accepted meanwhile");
        let numbers = [number, number, heartbeats.next(now)];
        assert_eq!(heartbeats.confirmed(99, LEASE, SAME), None);
        assert!(heartbeats.confirmed(numbers[2], LEASE, SAME).is_some());
        assert_eq!(heartbeats.confirmed(numbers[2], LEASE, SAME), None);
        let many: Vec<u64> = (0..=UNANSWERED_MAX).map(|_| heartbeats.next(now)).collect();
        assert_eq!(heartbeats.confirmed(many[0], LEASE, SAME), None, "it is forgotten");
        assert!(heartbeats.confirmed(many[UNANSWERED_MAX], LEASE, SAME).is_some());
    }
}
