//! Makes the members of consensus those that the state names.

use std::time::Duration;

use cluster::State;

use crate::raft::Handle;

/// The wait before a change that could not be made is tried again: mostly another one is not finished.
const AGAIN: Duration = Duration::from_millis(200);
/// Changes of one pass: the next one follows soon.
const CHANGES_MAX: usize = 32;

/// One pass: a change after the other, until there is none.
pub(super) async fn pass(raft: &Handle, state: &State) {
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
