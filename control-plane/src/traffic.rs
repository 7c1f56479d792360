//! How requests went to graphs of which a revision takes over by steps, as the agents tell whoever leads.
//!
//! Kept in memory: each agent counts from when it knows of a candidate, and says all of it again with each heartbeat, so
//! that another leader has the same a moment later; but for what came of a step, which it counts from when it first sees that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use cluster::State;
use cluster::rollout::Traffic;
use model::id::{Generation, GraphKey};
use model::name::NodeName;
use model::rollout::{Phase, StepTraffic};
use model::status::GraphStatus;
use model::traffic::Answered;

/// A candidate: its graph, and which of its candidates it is.
pub type CandidateId = (GraphKey, Generation);

/// What the agents have told; a cheap handle.
#[derive(Debug, Clone, Default)]
pub struct TrafficBook(Arc<Mutex<BTreeMap<CandidateId, Told>>>);

/// What is known of one candidate.
#[derive(Debug, Default)]
struct Told {
    /// What each agent said last.
    last: BTreeMap<NodeName, Traffic>,
    /// All that was said, also by agents that were started again since.
    sum: Traffic,
    /// What came of it in a step, and in which.
    step: Option<(usize, StepTraffic)>,
}

impl TrafficBook {
    /// Notes what an agent has counted until now; of a candidate that there is not in `state`, nothing.
    pub fn note(&self, state: &State, node: &NodeName, candidate: CandidateId, counted: Traffic) {
        let (key, generation) = &candidate;
        if state.graphs.get(&key.candidate()).is_none_or(|record| record.generation != *generation) {
            return;
        }
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told = book.entry(candidate).or_default();
        let before = told.last.get(node).cloned().unwrap_or_default();
        told.sum.stable.add(&counted.stable.since(&before.stable));
        told.sum.candidate.add(&counted.candidate.since(&before.candidate));
        told.last.insert(node.clone(), counted);
    }

    /// All that was counted of a candidate.
    pub fn sum(&self, candidate: &CandidateId) -> Traffic {
        let book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        book.get(candidate).map(|told| told.sum.clone()).unwrap_or_default()
    }

    /// Notes how the requests of a candidate's step went from a time, milliseconds since 1970, until now.
    pub fn note_step(&self, candidate: &CandidateId, step: usize, traffic: &Traffic, since_ms: u64) {
        let (stable, new) = (Answered::from(&traffic.stable), Answered::from(&traffic.candidate));
        let traffic = StepTraffic { since_ms, stable, candidate: new };
        if let Some(told) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(candidate) {
            told.step = Some((step, traffic));
        }
    }

    /// Tells it, where this member has counted it.
    pub fn tell(&self, status: &mut GraphStatus) {
        let Some(rollout) = &mut status.rollout else { return };
        let book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told = book.get(&(status.key.clone(), rollout.generation)).and_then(|told| told.step);
        let is_answering = matches!(rollout.phase, Phase::Answering { .. });
        rollout.traffic =
            told.filter(|(step, _)| is_answering && *step == rollout.step).map(|(_, traffic)| traffic);
    }

    /// Forgets all others.
    pub fn keep(&self, candidates: &BTreeSet<CandidateId>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|known, _| candidates.contains(known));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use cluster::state::GraphRecord;
    use model::id::{RevisionNumber, Uid};
    use model::linked::LinkedGraph;
    use model::rollout::RolloutStatus;
    use model::traffic::Counts;

    use super::*;

    fn counted(requests: u64, failures: u64) -> Traffic {
        Traffic {
            stable: Counts::default(),
            candidate: Counts { requests, failures, latencies: vec![requests] },
        }
    }

    #[test]
    fn what_agents_say_adds_up_also_of_one_that_was_started_again() {
        let key: GraphKey = "shop/web".parse().unwrap();
        let linked = LinkedGraph::default();
        let record =
            GraphRecord { generation: Generation(7), ..GraphRecord::new(Uid::new("u").unwrap(), 0, linked) };
        let state = State { graphs: [(key.candidate(), record)].into_iter().collect(), ..State::default() };
        let (book, candidate) = (TrafficBook::default(), (key.clone(), Generation(7)));
        let (first, second): (NodeName, NodeName) = ("n1".parse().unwrap(), "n2".parse().unwrap());
        book.note(&state, &first, candidate.clone(), counted(10, 1));
        book.note(&state, &second, candidate.clone(), counted(5, 0));
        book.note(&state, &first, candidate.clone(), counted(14, 1));
        assert_eq!(book.sum(&candidate), counted(19, 1));
        book.note(&state, &first, candidate.clone(), counted(2, 2));
        assert_eq!(book.sum(&candidate), counted(21, 3), "it counts from nothing again");
        book.note(&state, &first, (key.clone(), Generation(6)), counted(2, 2));
        assert_eq!(book.sum(&(key, Generation(6))), Traffic::default(), "there is no such candidate");
        book.keep(&BTreeSet::new());
        assert_eq!(book.sum(&candidate), Traffic::default());
    }

    #[test]
    fn what_came_of_a_step_is_told_of_that_step_and_that_candidate_alone() {
        let key: GraphKey = "shop/web".parse().unwrap();
        let record = GraphRecord::new(Uid::new("u").unwrap(), 0, LinkedGraph::default());
        let candidate = GraphRecord { generation: Generation(7), ..record.clone() };
        let graphs = [(key.clone(), record), (key.candidate(), candidate)].into_iter().collect();
        let state = State { graphs, ..State::default() };
        let at = |generation, phase, step| {
            let rollout = RolloutStatus {
                revision: RevisionNumber(2),
                generation: Generation(generation),
                stable: RevisionNumber(1),
                phase,
                step,
                steps: Vec::new(),
                paused: None,
                candidate: String::new(),
                traffic: None,
            };
            let status = cluster::view::status(&state, &key).unwrap();
            GraphStatus { rollout: Some(rollout), ..status }
        };
        let told = |book: &TrafficBook, generation, phase, step| {
            let mut status = at(generation, phase, step);
            book.tell(&mut status);
            status.rollout.unwrap().traffic
        };
        let (book, candidate) = (TrafficBook::default(), (key.clone(), Generation(7)));
        let answering = Phase::Answering { since_ms: 0 };
        book.note_step(&candidate, 1, &counted(3, 1), 5_000);
        assert_eq!(told(&book, 7, answering, 1), None, "no agent has said anything of it");
        book.note(&state, &"n1".parse().unwrap(), candidate.clone(), counted(10, 1));
        book.note_step(&candidate, 1, &counted(3, 1), 5_000);
        let traffic = told(&book, 7, answering, 1).unwrap();
        assert_eq!((traffic.since_ms, traffic.candidate.requests, traffic.candidate.failures), (5_000, 3, 1));
        assert_eq!(told(&book, 7, answering, 2), None, "another step");
        assert_eq!(told(&book, 8, answering, 1), None, "another candidate");
        assert_eq!(told(&book, 7, Phase::Promoting, 1), None, "it is decided");
        // A member that does not lead has it from the one that does.
        let mut led = at(7, answering, 1);
        book.tell(&mut led);
        let taken = |generation, step| {
            let mut status = at(generation, answering, step);
            status.take_counts(led.clone());
            status.rollout.unwrap().traffic
        };
        assert_eq!((taken(7, 1), taken(7, 2), taken(8, 1)), (Some(traffic), None, None));
    }
}
