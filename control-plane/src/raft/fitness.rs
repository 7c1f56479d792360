//! Whether this member should lead: one with little room on its disk refuses changes, and one whose clock is far off is
//! refused by those who look at its certificate, or refuses them. It lets another one lead.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::handle::Handle;

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Hands over, where this member leads and another one is fitter, until `stop`.
pub async fn keep(raft: Handle, stop: CancellationToken) {
    let mut was_off = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let is_off = raft.peers().clocks.is_off(None);
        if is_off && !was_off {
            tracing::error!("the clock of this member is far from what most others show: set it");
        }
        was_off = is_off;
        if !raft.is_leader() || raft.is_fit(raft.id()) {
            continue;
        }
        let Some(to) = raft.best_other().filter(|other| raft.is_fit(*other)) else { continue };
        match raft.transfer(Some(to)).await {
            Ok(to) => tracing::info!(to, "another member leads, whose disk and clock are well"),
            Err(error) => tracing::warn!(%error, "no other member leads yet, whose disk and clock are well"),
        }
    }
}
