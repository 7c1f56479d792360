//! What must hold, whatever happens: the log as the first member applied it, and everybody else compared with that.

use std::collections::BTreeMap;
use std::fmt;

use cluster::state::REQUEST_KEPT_MS;
use cluster::{Outcome, State};

use crate::raft::codec;
use crate::raft::handle::Committed;
use crate::raft::types::{Entry, EntryPayload, LogId, Vote};

/// All of a state is compared at each so manieth place of the log; at the others, what tells two states apart quickly.
const WHOLE_STATE_EVERY: u64 = 16;

/// What must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// A ballot has one leader.
    OneLeader,
    /// Whoever comes to lead has all that was applied before.
    LeaderComplete,
    /// What a member has promised to a ballot, it keeps after a crash.
    VotesKept,
    /// One place of the log holds one entry, on all members.
    OneLog,
    /// A member applies one place after the other.
    InOrder,
    /// Members that have applied the same have the same state.
    SameState,
    /// `cluster::check` finds nothing.
    SoundState,
    /// A repeated request changes nothing, and is told what it was told before.
    AppliedOnce,
    /// Whoever asked is told what became of its command.
    SameOutcome,
    /// What was acknowledged is there for good.
    AcknowledgedKept,
    /// A command that is proposed after another was acknowledged comes after it.
    InRealTime,
    /// A read has all that was acknowledged before it.
    FreshReads,
    /// A disk that kept its promises is opened again.
    OpensAgain,
    /// Once nothing is broken any more, all members serve and agree within a bound of time.
    Converges,
    /// Nothing panics.
    NoPanic,
}

impl fmt::Display for Invariant {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, out)
    }
}

/// One place of the log.
struct Decided {
    log_id: LogId,
    payload: EntryPayload,
    outcome: Option<Outcome>,
    state: State,
    is_acknowledged: bool,
}

/// A request, as whoever counts for itself knows it.
struct Known {
    time_ms: u64,
    fingerprint: String,
    outcome: Outcome,
}

/// Who looks at everything.
#[derive(Default)]
pub struct Oracle {
    log: Vec<Decided>,
    state: State,
    requests: BTreeMap<String, Known>,
    /// The last place that each member has applied in its present run.
    applied: BTreeMap<u64, u64>,
    /// The highest ballot that each member has said yes to.
    promised: BTreeMap<u64, Vote>,
    /// Who has led by a ballot, by term and member.
    leaders: BTreeMap<(u64, u64), u64>,
    /// What does not hold.
    pub broken: Vec<(Invariant, String)>,
    pub repeated: u64,
}

impl Oracle {
    pub fn breaks(&mut self, invariant: Invariant, what: String) {
        self.broken.push((invariant, what));
    }

    fn unless(&mut self, holds: bool, invariant: Invariant, what: impl FnOnce() -> String) {
        if !holds {
            self.broken.push((invariant, what()));
        }
    }

    /// The last place of the log that anybody has applied.
    pub fn last(&self) -> Option<u64> {
        self.log.last().map(|decided| decided.log_id.index)
    }

    pub fn leaders(&self) -> usize {
        self.leaders.len()
    }

    /// The state as it should be everywhere, at the end of the log.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// How many entries there are, and how many of them were refused.
    pub fn counts(&self) -> (usize, usize) {
        let is_refused = |decided: &&Decided| matches!(decided.outcome, Some(Outcome::Refused(_)));
        (self.log.len(), self.log.iter().filter(is_refused).count())
    }

    /// A member is about to apply an entry.
    pub fn applies(&mut self, member: u64, entry: &Entry) {
        let index = entry.log_id.index;
        let before = self.applied.insert(member, index);
        let expected = before.map_or(0, |before| before + 1);
        self.unless(index == expected, Invariant::InOrder, || {
            format!("member {member} applies {index}, and {expected} comes next")
        });
        let Ok(place) = usize::try_from(index) else { return };
        match self.log.get(place) {
            Some(decided) if decided.log_id == entry.log_id && decided.payload == entry.payload => {}
            Some(decided) => {
                let invariant = match decided.is_acknowledged {
                    true => Invariant::AcknowledgedKept,
                    false => Invariant::OneLog,
                };
                let what = format!(
                    "member {member} applies {} at {index}, which was applied as {}",
                    entry.log_id, decided.log_id
                );
                self.breaks(invariant, what);
            }
            None if place == self.log.len() => self.decide(entry),
            None => {
                let what = format!("member {member} applies {index}, beyond the end of the log");
                self.breaks(Invariant::InOrder, what);
            }
        }
    }

    fn decide(&mut self, entry: &Entry) {
        let outcome = match &entry.payload {
            EntryPayload::Blank | EntryPayload::Membership(_) => None,
            EntryPayload::Normal(payload) => match codec::decode_command(payload) {
                Ok(command) => Some(self.apply(&command)),
                Err(error) => {
                    self.breaks(Invariant::OneLog, format!("entry {} cannot be read: {error}", entry.log_id));
                    None
                }
            },
        };
        self.log.push(Decided {
            log_id: entry.log_id,
            payload: entry.payload.clone(),
            outcome,
            state: self.state.clone(),
            is_acknowledged: false,
        });
    }

    fn apply(&mut self, command: &cluster::Command) -> Outcome {
        let before = self.state.revision;
        let outcome = self.state.apply(command);
        let now_ms = self.state.now_ms;
        if self.state.revision != before {
            let sound = cluster::check(&self.state);
            self.unless(sound.is_empty(), Invariant::SoundState, || {
                format!("{} after {command:?}", sound.join("; "))
            });
        }
        let Some(tag) = &command.request else { return outcome };
        let id = tag.id.to_string();
        match self.requests.get(&id) {
            Some(known) if now_ms.saturating_sub(known.time_ms) <= REQUEST_KEPT_MS => {
                self.repeated += 1;
                let is_same = known.fingerprint != tag.fingerprint || known.outcome == outcome;
                let holds = is_same && self.state.revision == before;
                self.unless(holds, Invariant::AppliedOnce, || {
                    format!("request {id} was applied again, to {outcome:?}")
                });
            }
            _ if matches!(outcome, Outcome::Refused(_)) => {}
            _ => {
                let fingerprint = tag.fingerprint.clone();
                self.requests.insert(id, Known { time_ms: now_ms, fingerprint, outcome: outcome.clone() });
            }
        }
        outcome
    }

    /// A member has applied the log up to there, and has this state now.
    pub fn applied(&mut self, member: u64, last: LogId, state: &State) {
        let is_whole = last.index.is_multiple_of(WHOLE_STATE_EVERY);
        self.compare(member, last, state, is_whole);
    }

    /// A member has the state of a snapshot.
    pub fn restored(&mut self, member: u64, last: LogId, state: &State) {
        self.applied.insert(member, last.index);
        self.compare(member, last, state, true);
    }

    /// At the end, a member has this state.
    pub fn ends(&mut self, member: u64, state: &State) {
        let same = self.state == *state;
        self.unless(same, Invariant::SameState, || format!("member {member} ends with another state"));
    }

    fn compare(&mut self, member: u64, last: LogId, state: &State, is_whole: bool) {
        let decided = usize::try_from(last.index).ok().and_then(|index| self.log.get(index));
        let Some(decided) = decided else {
            let what = format!("member {member} has a state of {last}, which nobody has applied");
            return self.breaks(Invariant::SameState, what);
        };
        let expected = &decided.state;
        let is_like = |a: &State, b: &State| {
            a.revision == b.revision
                && a.now_ms == b.now_ms
                && a.events.last() == b.events.last()
                && a.requests.len() == b.requests.len()
                && a.members == b.members
        };
        let same = if is_whole { expected == state } else { is_like(expected, state) };
        let (at, expected) = (state.revision, expected.revision);
        self.unless(same, Invariant::SameState, || {
            format!("member {member} has another state at {last}: revision {at}, expected {expected}")
        });
    }

    /// A run begins, with nothing applied and this vote on its disk.
    pub fn begins(&mut self, member: u64, vote: Option<Vote>) {
        self.applied.remove(&member);
        let promised = self.promised.get(&member).copied();
        self.unless(promised <= vote, Invariant::VotesKept, || {
            format!("member {member} promised {promised:?} and has {vote:?} after a crash")
        });
    }

    /// A member has said yes to a ballot.
    pub fn promises(&mut self, member: u64, vote: Vote) {
        // Whether a ballot has its quorum already is not asked of the one that promises.
        let vote = Vote { committed: false, ..vote };
        let promised = self.promised.entry(member).or_insert(vote);
        *promised = vote.max_of(*promised);
    }

    /// A member leads by a ballot, and its log goes that far.
    pub fn leads(&mut self, member: u64, vote: Vote, last: u64) -> bool {
        let id = vote.leader_id;
        let is_new = match self.leaders.insert((id.term, id.node_id), member) {
            Some(before) => {
                self.unless(before == member, Invariant::OneLeader, || {
                    format!("members {before} and {member} lead by ballot {id}")
                });
                false
            }
            None => true,
        };
        self.unless(id.node_id == member, Invariant::OneLeader, || {
            format!("member {member} leads by ballot {id}, another one's")
        });
        let earlier = self.log.iter().rev().find(|decided| decided.log_id.leader_id < id);
        let needed = earlier.map_or(0, |decided| decided.log_id.index);
        self.unless(last >= needed, Invariant::LeaderComplete, || {
            format!("member {member} leads by ballot {id} with a log up to {last}, and {needed} was applied")
        });
        is_new
    }

    /// What has been acknowledged by now: who asks later must see it.
    pub fn acknowledged(&self) -> Option<u64> {
        self.log.iter().rev().find(|decided| decided.is_acknowledged).map(|decided| decided.log_id.index)
    }

    /// A client is told that its command is done.
    pub fn acknowledges(&mut self, payload: &[u8], committed: &Committed, before: Option<u64>) {
        let index = committed.index;
        self.unless(Some(index) > before, Invariant::InRealTime, || {
            format!("a command is at {index}, and was proposed after {before:?} was acknowledged")
        });
        let decided = usize::try_from(index).ok().and_then(|index| self.log.get_mut(index));
        let Some(decided) = decided else {
            let what = format!("{index} is acknowledged, and nobody has applied it");
            return self.breaks(Invariant::AcknowledgedKept, what);
        };
        decided.is_acknowledged = true;
        let is_same = matches!(&decided.payload, EntryPayload::Normal(found) if found.0 == payload);
        let is_told = decided.outcome.as_ref() == Some(&committed.outcome);
        let told = format!("{:?} at {index} was {:?}", committed.outcome, decided.outcome);
        self.unless(is_same, Invariant::AcknowledgedKept, || format!("another command is at {index}"));
        self.unless(!is_same || is_told, Invariant::SameOutcome, || told);
    }

    /// A client is given a state that has to hold what was acknowledged before it asked.
    pub fn is_read(&mut self, member: u64, state: &State, before: Option<u64>) {
        let decided = before.and_then(|index| self.log.get(usize::try_from(index).ok()?));
        let expected = decided.map_or(0, |decided| decided.state.revision.0);
        self.unless(state.revision.0 >= expected, Invariant::FreshReads, || {
            format!("member {member} reads revision {}, and {expected} was acknowledged", state.revision)
        });
    }
}

trait MaxOf {
    fn max_of(self, other: Self) -> Self;
}

impl MaxOf for Vote {
    /// Ballots of members are in order wherever both are not committed.
    fn max_of(self, other: Self) -> Self {
        if self >= other { self } else { other }
    }
}
