//! Places what has no place.

use cluster::command::Body;
use cluster::{Command, State};

use crate::raft::Handle;

/// Placements in one command: far below the bound of a command's size.
const PLACES_MAX: usize = 500;

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
