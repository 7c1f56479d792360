//! Makes the members of consensus those that the state names.

use std::time::Duration;

use cluster::command::Body;
use cluster::{Command, State};

use crate::raft::Handle;

/// The wait before a change that could not be made is tried again: mostly another one is not finished.
const AGAIN: Duration = Duration::from_millis(200);
/// Changes of one pass: the next one follows soon.
const CHANGES_MAX: usize = 32;

/// One pass: a change after the other, until there is none, and what all members know by now.
pub(super) async fn pass(raft: &Handle, state: &State, own_level: u32) {
    if let Some(level) = state.level_to_raise_to(own_level) {
        let body = Body::RaiseFeatureLevel { level };
        let raised = raft.propose_as_leader(Command { now_ms: raft.now_ms(), request: None, body }).await;
        match raised {
            Ok(_) => tracing::info!(level, "all members know this feature level, which is used from now on"),
            Err(error) => tracing::warn!(%error, level, "the feature level was not raised yet"),
        }
    }
    for _ in 0..CHANGES_MAX {
        match raft.follow_members(state).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::warn!(%error, "the members of consensus are not those of the state yet");
                tokio::time::sleep(AGAIN).await;
            }
        }
        if !raft.is_leader() {
            return;
        }
    }
}
