//! Places what has no place, moves what must, and lets go of where graphs were.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use cluster::command::{Body, Leave, Place};
use cluster::schedule::Planner;
use cluster::state::Leaving;
use cluster::{Command, State};
use model::id::{Generation, GraphKey};
use model::name::NodeName;
use model::node::Admission;
use model::placement::Placement;
use tokio_util::sync::CancellationToken;

use super::liveness::Liveness;
use crate::raft::{Handle, ProposeError};

/// Placements in one command: far below the bound of a command's size.
const PLACES_MAX: usize = 500;
/// Nodes that the placements of one command name, unless one alone names more.
const NODES_NAMED_MAX: usize = 1_000;
/// How long a graph that was moved goes on where it was, after it answers where it went: every ingress is told within a
/// tenth of a second where that is, and what it has sent before is answered.
pub(super) const ROUTES_SETTLE: Duration = Duration::from_secs(2);
/// How often it is looked at whether what was moved can be let go of.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// One pass: plans, and proposes the plan. What became stale meanwhile is planned again at the next pass.
pub(super) async fn pass(raft: &Handle, state: &State, liveness: &Liveness, planner: &Mutex<Planner>) {
    let suspects = liveness.suspects(state);
    let places = planner.lock().unwrap_or_else(PoisonError::into_inner).plan(state, raft.now_ms(), &suspects);
    for part in parts(places) {
        let first = part.first().map(|place| place.key.to_string()).unwrap_or_default();
        let command = Command { now_ms: raft.now_ms(), request: None, body: Body::Place(part) };
        match raft.propose_as_leader(command).await {
            Ok(_) => {}
            // It is too large at each pass: what comes after it must not wait for it.
            Err(error @ ProposeError::TooLarge { .. }) => {
                tracing::warn!(%error, %first, "placements do not fit into a command");
            }
            Err(error) => {
                tracing::warn!(%error, "placements were not committed");
                return;
            }
        }
    }
}

/// As many placements at one time as a command has room for.
fn parts(places: Vec<Place>) -> Vec<Vec<Place>> {
    let mut parts: Vec<Vec<Place>> = Vec::new();
    let mut left = 0;
    for place in places {
        let Placement { away, more, .. } = &place.placement;
        let named = 1 + away.len() + more.values().map(BTreeSet::len).sum::<usize>();
        match parts.last_mut().filter(|part| part.len() < PLACES_MAX && named <= left) {
            Some(part) => part.push(place),
            None => {
                left = NODES_NAMED_MAX;
                parts.push(vec![place]);
            }
        }
        left = left.saturating_sub(named);
    }
    parts
}

/// Lets go of where graphs were, whenever this member leads, until `stop`.
pub(super) async fn let_go(raft: Handle, stop: CancellationToken) {
    // Since when this member knows that a graph answers where it went.
    let mut answered: BTreeMap<(GraphKey, Generation), Instant> = BTreeMap::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        if !raft.is_leader() {
            answered.clear();
            continue;
        }
        let state = raft.state();
        let moved =
            state.graphs.iter().filter_map(|(key, record)| Some((key, record, record.leaving.as_deref()?)));
        let mut leaves = Vec::new();
        let mut seen = BTreeMap::new();
        for (key, record, leaving) in moved {
            let since = leaving.answered_ms.map(|_| {
                let id = (key.clone(), leaving.generation);
                let since = answered.get(&id).copied().unwrap_or_else(Instant::now);
                seen.insert(id, since);
                since
            });
            if since.is_some_and(|since| since.elapsed() >= ROUTES_SETTLE)
                || is_late(&state, leaving, raft.now_ms())
            {
                leaves.push(Leave {
                    key: key.clone(),
                    uid: record.uid.clone(),
                    generation: leaving.generation,
                });
            }
        }
        answered = seen;
        for part in leaves.chunks(PLACES_MAX) {
            let command = Command { now_ms: raft.now_ms(), request: None, body: Body::Leave(part.to_vec()) };
            if let Err(error) = raft.propose_as_leader(command).await {
                tracing::warn!(%error, "graphs that were moved are not let go of yet");
            }
        }
    }
}

/// Whether what answers where a graph was is not waited for any more: its nodes are lost, or the deadline of a drain is
/// over.
fn is_late(state: &State, leaving: &Leaving, now_ms: u64) -> bool {
    let nodes = leaving.placement.nodes();
    let is_over = |name: &&NodeName| match state.nodes.get(*name) {
        None => true,
        Some(node) => matches!(node.admission, Admission::Draining { deadline_ms } if deadline_ms <= now_ms),
    };
    nodes.iter().any(is_over) || !nodes.iter().any(|name| state.is_ready(name))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use model::id::Uid;

    use super::*;

    fn place(more: usize) -> Place {
        let mut placement = Placement::whole("n0".parse().unwrap());
        let nodes: BTreeSet<NodeName> =
            (1..=more).map(|number| format!("n{number}").parse().unwrap()).collect();
        placement.more.extend((more > 0).then(|| ("app".parse().unwrap(), nodes)));
        Place {
            key: "default/g".parse().unwrap(),
            uid: Uid::new("u").unwrap(),
            generation: Generation(1),
            placement,
        }
    }

    #[test]
    fn a_command_has_few_placements_and_few_nodes() {
        let sizes = |places| parts(places).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(Vec::new()), Vec::<usize>::new());
        assert_eq!(sizes(vec![place(0); 1_100]), [500, 500, 100]);
        assert_eq!(sizes(vec![place(99); 21]), [10, 10, 1]);
        assert_eq!(sizes(vec![place(0), place(5_000), place(0)]), [1, 1, 1], "what is large goes alone");
    }
}
