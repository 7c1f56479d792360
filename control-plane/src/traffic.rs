//! How requests went to graphs of which a revision takes over by steps, as the agents tell whoever leads.
//!
//! Kept in memory: each agent counts from when it knows of a candidate, and says all of it again with each heartbeat, so
//! that another leader has the same a moment later.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use cluster::State;
use cluster::rollout::Traffic;
use model::id::{Generation, GraphKey};
use model::name::NodeName;

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

    /// Forgets all others.
    pub fn keep(&self, candidates: &BTreeSet<CandidateId>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|known, _| candidates.contains(known));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use cluster::state::GraphRecord;
    use model::id::Uid;
    use model::linked::LinkedGraph;
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
}
