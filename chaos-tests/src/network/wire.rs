//! One direction between two hosts: when each frame arrives, if it does. Pure but for its choices: time is passed in.

use std::iter::Sum;
use std::time::{Duration, Instant};

use super::conditions::Conditions;
use crate::seed::Choices;

/// Frames that are on their way: more than a fast connection has under way in the longest delay.
const WAITING_MAX: usize = 4_096;
/// How long a delay stays as it is: queues of routers do not change from one frame to the next.
const DELAY_HOLDS: Duration = Duration::from_millis(10);
/// How much later a frame comes that is held back: enough for some of those behind it to pass.
const HELD_BACK: Duration = Duration::from_millis(15);

/// What became of the frames in one direction, or in several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames that were sent.
    pub sent: u64,
    /// Those that did not arrive since there was no way.
    pub cut: u64,
    /// Those that were lost by choice.
    pub lost: u64,
    /// Those for which there was no room in a queue.
    pub overflowed: u64,
    /// Those that were sent on twice.
    pub doubled: u64,
    /// Those that waited for their turn since the rate is limited.
    pub queued: u64,
    /// Frames that arrived, with those that did so twice.
    pub arrived: u64,
    /// Those of them that arrived behind one that was sent later.
    pub overtaken: u64,
    /// The bytes of those that arrived.
    pub bytes: u64,
}

impl Sum for Counters {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            sent: sum.sent + one.sent,
            cut: sum.cut + one.cut,
            lost: sum.lost + one.lost,
            overflowed: sum.overflowed + one.overflowed,
            doubled: sum.doubled + one.doubled,
            queued: sum.queued + one.queued,
            arrived: sum.arrived + one.arrived,
            overtaken: sum.overtaken + one.overtaken,
            bytes: sum.bytes + one.bytes,
        })
    }
}

/// One direction.
#[derive(Debug)]
pub(super) struct Wire {
    conditions: Conditions,
    counters: Counters,
    choices: Choices,
    waiting: usize,
    /// When the last byte of what is in the queue has left it.
    free_at: Option<Instant>,
    /// The delay of now, and until when that is so.
    delay: Option<(Duration, Instant)>,
    /// When the last frame arrives that keeps to the order.
    last_due: Option<Instant>,
    /// The frame that arrived and was sent last, by its number.
    newest: u64,
}

/// A frame that will arrive, unless the way is cut before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) due: Instant,
    /// Counts what was sent in this direction.
    pub(super) number: u64,
    pub(super) copies: usize,
}

impl Wire {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            conditions: Conditions::GOOD,
            counters: Counters::default(),
            choices: Choices::of(seed),
            waiting: 0,
            free_at: None,
            delay: None,
            last_due: None,
            newest: 0,
        }
    }

    /// From now on this becomes of what is sent.
    pub(super) fn becomes(&mut self, conditions: Conditions) {
        (self.conditions, self.delay) = (conditions, None);
    }

    pub(super) fn counters(&self) -> Counters {
        self.counters
    }

    /// What becomes of a frame that is sent now.
    pub(super) fn takes(&mut self, length: usize, now: Instant) -> Option<Arrival> {
        self.counters.sent += 1;
        let number = self.counters.sent;
        // As many choices for each frame, so that one becomes what its number says, whatever became of others.
        let [is_lost, is_held_back, is_doubled] = self.drawn();
        let jitter = self.choices.number();
        if self.conditions.is_cut {
            self.counters.cut += 1;
            return None;
        }
        if is_lost {
            self.counters.lost += 1;
            return None;
        }
        let leaves = if self.waiting < WAITING_MAX { self.leaves(length, now) } else { None };
        let Some(leaves) = leaves else {
            self.counters.overflowed += 1;
            return None;
        };
        let mut due = leaves + self.delay(jitter, now);
        if is_held_back {
            due += HELD_BACK;
        } else {
            due = self.last_due.map_or(due, |last| last.max(due));
            self.last_due = Some(due);
        }
        let copies = if is_doubled { 2 } else { 1 };
        self.counters.doubled += u64::from(is_doubled);
        self.waiting += copies;
        Some(Arrival { due, number, copies })
    }

    fn drawn(&mut self) -> [bool; 3] {
        let Conditions { lost_in_thousand, held_back_in_thousand, doubled_in_thousand, .. } = self.conditions;
        [lost_in_thousand, held_back_in_thousand, doubled_in_thousand]
            .map(|in_thousand| self.choices.below(1_000) < in_thousand)
    }

    /// When the last byte of it has left the queue, if it fits there.
    fn leaves(&mut self, length: usize, now: Instant) -> Option<Instant> {
        let Some(rate) = self.conditions.rate else { return Some(now) };
        let takes = |bytes: u64| Duration::from_nanos(bytes * 1_000_000_000 / rate.bytes_per_second);
        let begins = self.free_at.map_or(now, |free| free.max(now));
        if begins - now > takes(rate.queue_bytes) {
            return None;
        }
        self.counters.queued += u64::from(begins > now);
        let leaves = begins + takes(length as u64);
        self.free_at = Some(leaves);
        Some(leaves)
    }

    fn delay(&mut self, drawn: u64, now: Instant) -> Duration {
        if let Some((delay, until)) = self.delay
            && now < until
        {
            return delay;
        }
        let Conditions { delay, jitter, .. } = self.conditions;
        let span = u64::try_from(jitter.as_micros() * 2).expect("a short time") + 1;
        let delay = (delay + Duration::from_micros(drawn % span)).saturating_sub(jitter);
        self.delay = Some((delay, now + DELAY_HOLDS));
        delay
    }

    /// Whether a frame whose time has come arrives: the way may have been cut meanwhile.
    pub(super) fn arrives(&mut self, number: u64, length: usize) -> bool {
        self.waiting -= 1;
        if self.conditions.is_cut {
            self.counters.cut += 1;
            return false;
        }
        self.counters.arrived += 1;
        self.counters.bytes += length as u64;
        self.counters.overtaken += u64::from(number < self.newest);
        self.newest = self.newest.max(number);
        true
    }

    /// Whether nothing is on its way, so that what arrives at once arrives in its order.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting == 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::conditions::Rate;
    use super::{Arrival, Conditions, Counters, Duration, Instant, WAITING_MAX, Wire};

    const FRAME: usize = 1_000;

    fn wire(conditions: Conditions) -> Wire {
        let mut wire = Wire::new(7);
        wire.conditions = conditions;
        wire
    }

    /// So many frames, one each millisecond, and when they arrive.
    fn sent(wire: &mut Wire, count: u32) -> Vec<(u64, Option<Arrival>)> {
        let start = Instant::now();
        let mut taken = Vec::new();
        for turn in 0..count {
            let arrival = wire.takes(FRAME, start + Duration::from_millis(1) * turn);
            taken.push((u64::from(turn), arrival));
            for _ in 0..arrival.map_or(0, |arrival| arrival.copies) {
                wire.arrives(arrival.unwrap().number, FRAME);
            }
        }
        taken
    }

    #[test]
    fn a_good_wire_changes_nothing() {
        let mut wire = wire(Conditions::GOOD);
        let now = Instant::now();
        for number in 1..=3 {
            assert_eq!(wire.takes(FRAME, now), Some(Arrival { due: now, number, copies: 1 }));
            assert!(!wire.is_idle() && wire.arrives(number, FRAME) && wire.is_idle());
        }
        let all = Counters { sent: 3, arrived: 3, bytes: 3_000, ..Counters::default() };
        assert_eq!(wire.counters(), all);
    }

    #[test]
    fn what_is_asked_for_is_what_happens_and_the_seed_says_to_which() {
        let conditions = Conditions::rough(300);
        let (mut one, mut other) = (wire(conditions), wire(conditions));
        let shape = |taken: Vec<(u64, Option<Arrival>)>| -> Vec<(u64, usize)> {
            taken.iter().map(|(turn, arrival)| (*turn, arrival.map_or(0, |arrival| arrival.copies))).collect()
        };
        let (first, second) = (shape(sent(&mut one, 10_000)), shape(sent(&mut other, 10_000)));
        assert_eq!(first, second);
        let Counters { sent, lost, doubled, .. } = one.counters();
        assert_eq!(sent, 10_000);
        assert!((2_850..=3_150).contains(&lost), "{lost}");
        // Of those that are not lost.
        assert!((100..=180).contains(&doubled), "{doubled}");
    }

    #[test]
    fn frames_keep_their_order_but_for_those_that_are_held_back() {
        let conditions = Conditions { held_back_in_thousand: 0, ..Conditions::rough(0) };
        let mut ordered = wire(conditions);
        let dues: Vec<Instant> = sent(&mut ordered, 1_000).iter().map(|(_, sent)| sent.unwrap().due).collect();
        assert!(dues.is_sorted());

        let mut held = wire(Conditions { held_back_in_thousand: 500, ..Conditions::GOOD });
        let now = Instant::now();
        let mut taken: Vec<Arrival> = (0..100).filter_map(|_| held.takes(FRAME, now)).collect();
        taken.sort_by_key(|arrival| arrival.due);
        for arrival in taken {
            assert!(held.arrives(arrival.number, FRAME));
        }
        assert!((20..80).contains(&held.counters().overtaken), "{:?}", held.counters());
    }

    #[test]
    fn a_cut_takes_what_is_on_its_way_too() {
        let mut wire = wire(Conditions::late(Duration::from_millis(50)));
        let arrival = wire.takes(FRAME, Instant::now()).unwrap();
        wire.conditions = Conditions::CUT;
        assert_eq!(wire.takes(FRAME, Instant::now()), None);
        assert!(!wire.arrives(arrival.number, FRAME));
        assert_eq!(wire.counters(), Counters { sent: 2, cut: 2, ..Counters::default() });
    }

    #[test]
    fn a_rate_makes_a_queue_which_has_a_bound() {
        let rate = Rate { bytes_per_second: 100_000, queue_bytes: 65_000 };
        let mut wire = wire(Conditions { rate: Some(rate), ..Conditions::GOOD });
        let now = Instant::now();
        let taken: Vec<Arrival> = (0..200).filter_map(|_| wire.takes(FRAME, now)).collect();
        // Each takes ten milliseconds more, and the queue is full with what fits.
        let steps = taken.windows(2).map(|two| two[1].due - two[0].due);
        assert!(steps.clone().all(|step| step == Duration::from_millis(10)));
        assert_eq!(taken.len(), 66);
        assert_eq!(wire.counters().overflowed, 200 - taken.len() as u64);
    }

    #[test]
    fn no_more_is_on_its_way_than_its_bound() {
        let mut wire = wire(Conditions::late(Duration::from_secs(1)));
        let now = Instant::now();
        let taken = (0..WAITING_MAX + 10).filter_map(|_| wire.takes(FRAME, now)).count();
        assert_eq!((taken, wire.counters().overflowed), (WAITING_MAX, 10));
    }
}
