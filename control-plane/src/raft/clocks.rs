//! What time it is for the cluster: that of most members' clocks, so that one clock that jumps makes nothing expire.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A clock that was read longer ago says nothing. Members hear of each other several times a second; an outage of that time
/// is bridged by the clock of the processor, which does not jump.
const READING_LIFE: Duration = Duration::from_mins(1);

/// A clock that is further from most others is off. Certificates are believed when clocks differ by half of that.
const OFF_MAX_MS: u64 = 10 * 60 * 1_000;

/// What is known of the clocks of members; a cheap handle.
#[derive(Debug, Clone, Default)]
pub struct Clocks {
    heard: Arc<Mutex<Heard>>,
}

#[derive(Debug, Default)]
struct Heard {
    /// Those of other members, as they answer whoever leads.
    members: BTreeMap<u64, Reading>,
    /// What whoever leads has said.
    leader: Option<Reading>,
}

/// A clock, and when it was read.
#[derive(Debug, Clone, Copy)]
struct Reading {
    ms: u64,
    at: Instant,
}

impl Reading {
    fn of(ms: u64) -> Option<Self> {
        // Members of an earlier version say nothing.
        (ms > 0).then(|| Self { ms, at: Instant::now() })
    }

    /// What it shows now.
    fn now_ms(self) -> Option<u64> {
        let age = self.at.elapsed();
        let passed = u64::try_from(age.as_millis()).ok().filter(|_| age < READING_LIFE)?;
        Some(self.ms.saturating_add(passed))
    }
}

impl Clocks {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A member has said what its clock shows.
    pub(super) fn hears(&self, member: u64, ms: u64) {
        if let Some(reading) = Reading::of(ms) {
            self.heard().members.insert(member, reading);
        }
    }

    /// Whoever leads has said what time it is.
    pub(super) fn follows(&self, ms: u64) {
        if let Some(reading) = Reading::of(ms) {
            self.heard().leader = Some(reading);
        }
    }

    /// What time it is, in milliseconds since 1970: for a member that leads, the middle of all clocks; for others, what
    /// that one has said. Of two that differ it is the earlier one: time never goes back for the state, so that nothing
    /// expires early.
    pub(super) fn now_ms(&self, leads: bool) -> u64 {
        let heard = self.heard();
        let said = heard.leader.and_then(Reading::now_ms);
        if !leads {
            return said.unwrap_or_else(own_ms);
        }
        let mut clocks = heard.members();
        if clocks.is_empty() {
            // It leads since a moment.
            clocks.extend(said);
        }
        clocks.push(own_ms());
        middle(clocks)
    }

    /// Whether the clock of a member, or this one's own, is far from that of most, as whoever leads knows who has heard of
    /// two others.
    pub(super) fn is_off(&self, member: Option<u64>) -> bool {
        let heard = self.heard();
        let mut clocks = heard.members();
        let shown = match member {
            Some(member) => heard.members.get(&member).and_then(|reading| reading.now_ms()),
            None => Some(own_ms()),
        };
        if clocks.len() < 2 {
            return false;
        }
        clocks.push(own_ms());
        let most = middle(clocks);
        shown.is_some_and(|shown| shown.abs_diff(most) > OFF_MAX_MS)
    }
}

impl Heard {
    /// What the clocks of the others show now.
    fn members(&self) -> Vec<u64> {
        self.members.values().filter_map(|reading| reading.now_ms()).collect()
    }
}

/// The middle one, or the earlier one of the two in the middle.
fn middle(mut clocks: Vec<u64>) -> u64 {
    clocks.sort_unstable();
    clocks.get(clocks.len().saturating_sub(1) / 2).copied().unwrap_or_else(own_ms)
}

/// What this member's own clock shows.
pub(super) fn own_ms() -> u64 {
    #[cfg(test)]
    if let Some(process) = super::simulation::Process::current() {
        return process.world.now_ms(process.member);
    }
    crate::clock::now_ms()
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR_MS: u64 = 365 * 24 * 60 * 60 * 1_000;

    /// How far the clock of the cluster is from the own one, in seconds.
    fn off(clocks: &Clocks, leads: bool) -> i64 {
        (clocks.now_ms(leads).cast_signed() - own_ms().cast_signed()) / 1_000
    }

    #[test]
    fn one_clock_of_three_says_nothing_and_two_say_what_time_it_is() {
        let clocks = Clocks::default();
        assert_eq!(off(&clocks, true), 0);
        clocks.hears(2, own_ms());
        clocks.hears(3, own_ms() + YEAR_MS);
        assert_eq!(off(&clocks, true), 0);
        assert!(!clocks.is_off(None) && !clocks.is_off(Some(2)) && clocks.is_off(Some(3)));
        clocks.hears(3, own_ms() - YEAR_MS);
        assert_eq!(off(&clocks, true), 0);
        clocks.hears(2, own_ms() - YEAR_MS);
        assert_eq!(off(&clocks, true), -365 * 24 * 60 * 60);
        assert!(clocks.is_off(None) && !clocks.is_off(Some(2)) && !clocks.is_off(Some(3)));
    }

    #[test]
    fn of_two_the_earlier_one_counts() {
        let clocks = Clocks::default();
        clocks.hears(2, own_ms() + YEAR_MS);
        assert_eq!(off(&clocks, true), 0);
        clocks.hears(2, own_ms() - 300_000);
        assert_eq!(off(&clocks, true), -300);
    }

    #[test]
    fn whoever_follows_goes_by_what_the_leader_said_and_so_does_a_new_leader_that_has_heard_nobody() {
        let clocks = Clocks::default();
        clocks.follows(0);
        assert_eq!(off(&clocks, false), 0);
        clocks.follows(own_ms() - 300_000);
        assert_eq!(off(&clocks, false), -300);
        assert_eq!(off(&clocks, true), -300);
        clocks.hears(2, own_ms());
        assert_eq!(off(&clocks, true), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_heard_goes_on_for_a_minute() {
        let clocks = Clocks::default();
        clocks.follows(1_000);
        tokio::time::advance(READING_LIFE - Duration::from_secs(1)).await;
        assert_eq!(clocks.now_ms(false), 60_000);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(off(&clocks, false), 0);
    }
}
