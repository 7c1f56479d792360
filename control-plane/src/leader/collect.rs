//! Lets go of artifacts that nothing names any more, after a grace in which they may be named again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cluster::Command;
use cluster::command::Body;
use cluster::feature::FORGETS_ARTIFACTS;
use model::digest::Digest;
use tokio_util::sync::CancellationToken;

use crate::raft::Handle;

/// Artifacts of one command.
const BATCH_MAX: usize = 256;
/// The waits between two looks: a quarter of the grace, within these.
const LOOK_LEAST: Duration = Duration::from_millis(250);
const LOOK_MOST: Duration = Duration::from_mins(10);

/// Runs until `stop`. Who comes to lead begins to count anew: an artifact is kept longer, never shorter.
pub(super) async fn run(raft: Handle, grace: Duration, stop: CancellationToken) {
    let mut unnamed: BTreeMap<Digest, Instant> = BTreeMap::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep((grace / 4).clamp(LOOK_LEAST, LOOK_MOST)) => {}
        }
        let state = raft.state();
        if !raft.is_leader() || state.level() < FORGETS_ARTIFACTS {
            unnamed.clear();
            continue;
        }
        let look = tokio::task::spawn_blocking(move || {
            let named = state.named_artifacts();
            state.artifacts.keys().filter(|digest| !named.contains(*digest)).copied().collect::<Vec<_>>()
        });
        // A task that was lost is made again by the next look.
        let Ok(found) = look.await else { continue };
        let now = Instant::now();
        unnamed =
            found.into_iter().map(|digest| (digest, unnamed.get(&digest).copied().unwrap_or(now))).collect();
        let due: Vec<Digest> =
            unnamed.iter().filter(|(_, since)| since.elapsed() >= grace).map(|(digest, _)| *digest).collect();
        for batch in due.chunks(BATCH_MAX) {
            let body = Body::ForgetArtifacts(batch.to_vec());
            let command = Command { now_ms: raft.now_ms(), request: None, body };
            match raft.propose_as_leader(command).await {
                Ok(_) => tracing::info!(count = batch.len(), "artifacts that nothing names were let go of"),
                Err(error) => {
                    tracing::warn!(%error, "artifacts that nothing names were not let go of yet");
                    break;
                }
            }
        }
    }
}
