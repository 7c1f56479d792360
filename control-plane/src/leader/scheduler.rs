//! Places what has no place, moves what must, and lets go of where graphs were.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cluster::command::{Body, Leave};
use cluster::state::Leaving;
use cluster::{Command, State};
use model::id::{Generation, GraphKey};
use model::name::NodeName;
use model::node::Admission;
use tokio_util::sync::CancellationToken;

use crate::raft::Handle;

/// Placements in one command: far below the bound of a command's size.
const PLACES_MAX: usize = 500;
/// How long a graph that was moved goes on where it was, after it answers where it went: every ingress is told within a
/// tenth of a second where that is, and what it has sent before is answered.
const ROUTES_SETTLE: Duration = Duration::from_secs(2);
/// How often it is looked at whether what was moved can be let go of.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// One pass: plans, and proposes the plan. What became stale meanwhile is planned again at the next pass.
pub(super) async fn pass(raft: &Handle, state: &State) {
    let places = cluster::schedule(state);
    for part in places.chunks(PLACES_MAX) {
        let command = Command { now_ms: raft.now_ms(), request: None, body: Body::Place(part.to_vec()) };
        if let Err(error) = raft.propose_as_leader(command).await {
            tracing::warn!(%error, "placements were not committed");
            return;
        }
    }
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
