//! How the requests of clients went at this node's ingress, for graphs of which a revision takes over by steps.
//!
//! Counted from when the node knows of a candidate, and told whole each time: what was told and lost costs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::StatusCode;
use model::id::{Generation, GraphKey};
use model::traffic::{Counts, LATENCIES_MAX, latency_index};
use proto::weft::node::v1 as wire;

use crate::calls::CallBook;

/// A candidate: its graph, and which of its candidates it is.
pub(crate) type CandidateId = (GraphKey, Generation);

/// What is counted, and what is told with it; a cheap handle.
#[derive(Debug, Clone, Default)]
pub struct TrafficCounts {
    of_candidates: Arc<Mutex<BTreeMap<CandidateId, Arc<Both>>>>,
    calls: CallBook,
}

/// The requests that the two revisions of one graph have answered.
#[derive(Debug, Default)]
pub(crate) struct Both {
    stable: Tally,
    candidate: Tally,
}

/// Which of two revisions answers a request that is counted.
#[derive(Debug, Clone)]
pub(crate) struct Counted {
    both: Arc<Both>,
    is_candidate: bool,
}

#[derive(Debug)]
struct Tally {
    requests: AtomicU64,
    failures: AtomicU64,
    latencies: [AtomicU64; LATENCIES_MAX],
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            requests: AtomicU64::default(),
            failures: AtomicU64::default(),
            latencies: std::array::from_fn(|_| AtomicU64::default()),
        }
    }
}

impl Tally {
    fn counts(&self) -> Counts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            requests: read(&self.requests),
            failures: read(&self.failures),
            latencies: self.latencies.iter().map(read).collect(),
        }
    }
}

impl Counted {
    /// What the candidate or the stable revision answers.
    pub(crate) const fn by(both: Arc<Both>, is_candidate: bool) -> Self {
        Self { both, is_candidate }
    }

    /// A request begins.
    pub(crate) fn begin(self) -> Counting {
        Counting { counted: self, begun: Instant::now(), status: None }
    }

    fn ended(&self, is_failure: bool, took: Duration) {
        let tally = if self.is_candidate { &self.both.candidate } else { &self.both.stable };
        tally.requests.fetch_add(1, Ordering::Relaxed);
        if is_failure {
            tally.failures.fetch_add(1, Ordering::Relaxed);
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(count) = tally.latencies.get(latency_index(micros)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A request that is counted when it ends. One that nobody has answered when its client is gone has failed.
pub(crate) struct Counting {
    counted: Counted,
    begun: Instant,
    status: Option<StatusCode>,
}

impl Counting {
    /// The head of its answer is there.
    pub(crate) fn answered(mut self, status: StatusCode) {
        self.status = Some(status);
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        let is_failure = self.status.is_none_or(|status| status.is_server_error());
        self.counted.ended(is_failure, self.begun.elapsed());
    }
}

impl TrafficCounts {
    /// What is counted of a candidate and its graph, from nothing if it is new.
    pub(crate) fn of(&self, candidate: CandidateId) -> Arc<Both> {
        let mut counts = self.of_candidates.lock().unwrap_or_else(PoisonError::into_inner);
        counts.entry(candidate).or_default().clone()
    }

    /// Forgets all others.
    pub(crate) fn keep(&self, candidates: &BTreeSet<CandidateId>) {
        self.of_candidates
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|known, _| candidates.contains(known));
    }

    /// What is under way of components that are scaled by it.
    pub(crate) const fn calls(&self) -> &CallBook {
        &self.calls
    }

    /// All of it; none where there is nothing to count.
    pub(crate) fn told(&self) -> Option<wire::Traffic> {
        let counts = self.of_candidates.lock().unwrap_or_else(PoisonError::into_inner);
        let graphs = counts.iter().map(|((graph, generation), both)| wire::GraphTraffic {
            graph: graph.to_string(),
            generation: generation.0,
            stable: Some(both.stable.counts().into()),
            candidate: Some(both.candidate.counts().into()),
        });
        let graphs: Vec<_> = graphs.collect();
        let calls = self.calls.told();
        (!graphs.is_empty() || !calls.is_empty()).then_some(wire::Traffic { graphs, calls })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_told_until_it_is_forgotten() {
        let counts = TrafficCounts::default();
        assert_eq!(counts.told(), None);
        let candidate: CandidateId = ("shop/web".parse().unwrap(), Generation(7));
        let both = counts.of(candidate.clone());
        Counted::by(both.clone(), true).begin().answered(StatusCode::BAD_GATEWAY);
        drop(Counted::by(both.clone(), true).begin());
        Counted::by(both.clone(), true).begin().answered(StatusCode::NOT_FOUND);
        Counted::by(both, true).ended(false, Duration::MAX);
        Counted::by(counts.of(candidate.clone()), false).ended(false, Duration::ZERO);
        let told = counts.told().unwrap().graphs.remove(0);
        let stable = Counts::try_from(told.stable.unwrap()).unwrap();
        let of_candidate = Counts::try_from(told.candidate.unwrap()).unwrap();
        assert_eq!((stable.requests, stable.failures, stable.latencies), (1, 0, vec![1]));
        assert_eq!((of_candidate.requests, of_candidate.failures), (4, 2), "one had no answer");
        assert_eq!(of_candidate.latencies.last(), Some(&1), "the longest are one");
        counts.keep(&BTreeSet::from([candidate]));
        assert!(counts.told().is_some());
        counts.keep(&BTreeSet::new());
        assert_eq!(counts.told(), None);
    }
}
