//! Lets revisions take over by steps: looks at them, and proposes what `cluster::rollout` decides.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use cluster::command::{Body, ChangeRollout, RolloutChange};
use cluster::rollout::{Evidence, Traffic, decide, is_well};
use cluster::state::{GraphRecord, Rollout};
use cluster::{Command, State};
use model::id::{Generation, GraphKey, RevisionNumber};
use model::rollout::Phase;
use model::traffic::Counts;
use tokio_util::sync::CancellationToken;

use super::scheduler::ROUTES_SETTLE;
use crate::raft::Handle;
use crate::traffic::{CandidateId, TrafficBook};

/// How often they are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long a member leads before it decides, and looks at a step before it ends: agents have found it by then, and told of
/// what they answer.
const TOLD_AFTER: Duration = Duration::from_secs(3);

/// A step of a rollout, as far as this member has seen it.
struct Seen {
    revision: RevisionNumber,
    phase: Phase,
    step: usize,
    /// Which candidate it was.
    candidate: CandidateId,
    /// What was counted when it was first seen.
    before: Traffic,
    /// When that was.
    since: Instant,
    /// When the candidate was last as it should be, and when it was last not.
    well: Instant,
    unwell: Instant,
    /// What the stable revision answered while the candidate had other generations, and what it did since.
    stable_before: Counts,
    stable: Counts,
}

impl Seen {
    fn is(&self, record: &GraphRecord, rollout: &Rollout) -> bool {
        (self.revision, self.phase, self.step) == (record.number(), rollout.phase, rollout.step)
    }
}

/// Looks at all of them, whenever this member leads, until `stop`.
pub(super) async fn run(raft: Handle, traffic: TrafficBook, stop: CancellationToken) {
    let mut seen: BTreeMap<GraphKey, Seen> = BTreeMap::new();
    let mut leads: Option<Instant> = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        if !raft.is_leader() {
            (leads, seen) = (None, BTreeMap::new());
            traffic.keep(&BTreeSet::new());
            continue;
        }
        if leads.get_or_insert_with(Instant::now).elapsed() < TOLD_AFTER {
            continue;
        }
        let state = raft.state();
        for body in look(&state, &traffic, &mut seen, raft.now_ms()) {
            let command = Command { now_ms: raft.now_ms(), request: None, body };
            if let Err(error) = raft.propose_as_leader(command).await {
                tracing::warn!(%error, "a rollout does not go on yet");
            }
        }
    }
}

/// What is to be done.
fn look(state: &State, book: &TrafficBook, seen: &mut BTreeMap<GraphKey, Seen>, now_ms: u64) -> Vec<Body> {
    let rolled =
        state.graphs.iter().filter_map(|(key, record)| Some((key, record, record.rollout.as_deref()?)));
    let (mut bodies, mut now, mut candidates) = (Vec::new(), BTreeMap::new(), BTreeSet::new());
    for (key, record, rollout) in rolled {
        let generation = state.graphs.get(&key.candidate()).map(|candidate| candidate.generation);
        let candidate = (key.clone(), generation.unwrap_or(Generation(0)));
        candidates.insert(candidate.clone());
        let counted = book.sum(&candidate);
        let known = seen.remove(key).filter(|known| known.is(record, rollout));
        let known = match known {
            // Another candidate of the same revision, as policies have it now, is counted from nothing.
            Some(mut known) if known.candidate != candidate => {
                known.stable_before.add(&known.stable);
                Seen { candidate, before: Traffic::default(), ..known }
            }
            Some(known) => known,
            None => Seen {
                revision: record.number(),
                phase: rollout.phase,
                step: rollout.step,
                candidate,
                before: counted.clone(),
                since: Instant::now(),
                well: Instant::now(),
                unwell: Instant::now(),
                stable_before: Counts::default(),
                stable: Counts::default(),
            },
        };
        let (well, unwell) = match is_well(state, &key.candidate()) {
            true => (Instant::now(), known.unwell),
            false => (known.well, Instant::now()),
        };
        let known = Seen { well, unwell, stable: counted.stable.clone(), ..known };
        let step = Traffic {
            stable: counted.stable.since(&known.before.stable),
            candidate: counted.candidate.since(&known.before.candidate),
        };
        let mut stable = known.stable_before.clone();
        stable.add(&counted.stable);
        let evidence = Evidence { step, stable };
        let is_forgotten = rollout.phase == Phase::Ending && known.since.elapsed() >= ROUTES_SETTLE;
        let change = match is_forgotten {
            true => Some(RolloutChange::Finish),
            false => decide(state, key, record, &evidence, known.well.elapsed(), now_ms),
        };
        // What ends a step has to have seen some of it.
        let ends = |change: &RolloutChange| {
            matches!(change, RolloutChange::Next { .. } | RolloutChange::Promote { .. })
        };
        let change =
            change.filter(|change| !ends(change) || known.since.max(known.unwell).elapsed() >= TOLD_AFTER);
        bodies.extend(change.map(|change| changing(key, record, rollout, change)));
        now.insert(key.clone(), known);
    }
    *seen = now;
    book.keep(&candidates);
    bodies
}

/// The command that changes a rollout as it is.
pub(crate) fn changing(key: &GraphKey, record: &GraphRecord, rollout: &Rollout, change: RolloutChange) -> Body {
    Body::ChangeRollout(Box::new(ChangeRollout {
        key: key.clone(),
        uid: record.uid.clone(),
        revision: record.number(),
        phase: rollout.phase,
        step: rollout.step,
        is_paused: rollout.paused.is_some(),
        change,
    }))
}
