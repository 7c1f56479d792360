//! Links graphs again after the policies have changed.

use std::sync::Arc;

use cluster::command::{Body, Relink};
use cluster::{Command, Outcome};
use model::id::StateRevision;
use tokio::sync::Mutex;

use crate::clock::now_ms;
use crate::linking::{Linker, policies_in_force};
use crate::raft::Handle;

/// Links graphs again; a cheap handle.
#[derive(Debug, Clone)]
pub struct Relinker {
    raft: Handle,
    linker: Linker,
    /// The policies that every graph was seen linked with. One pass at a time.
    done_at: Arc<Mutex<Option<StateRevision>>>,
}

impl Relinker {
    /// A relinker.
    pub fn new(raft: Handle, linker: Linker) -> Self {
        Self { raft, linker, done_at: Arc::default() }
    }

    /// One pass: after it, every graph of the state it saw is linked with the policies of that state.
    pub async fn pass(&self) {
        let mut done_at = self.done_at.lock().await;
        let state = self.raft.state();
        if *done_at == Some(state.policies_at) {
            return;
        }
        let (linker, seen) = (self.linker.clone(), state.clone());
        let effects = tokio::task::spawn_blocking(move || linker.effects(&seen, &policies_in_force(&seen)));
        let Ok(effects) = effects.await else { return };
        let mut all = true;
        for effect in effects {
            let Some(record) = state.graphs.get(&effect.key) else { continue };
            let linked = match effect.linked {
                Ok(linked) => linked,
                Err(why) => {
                    // Policies are checked against every graph before they are committed, and graphs against every
                    // policy, so this means lost artifacts: the graph stays as it is linked, and it is said aloud.
                    tracing::error!(graph = %effect.key, why = why.join("; "), "a graph cannot be linked again");
                    continue;
                }
            };
            let body = Body::Relink(Box::new(Relink {
                key: effect.key,
                uid: record.uid.clone(),
                revision: record.number(),
                policies_at: state.policies_at,
                linked,
            }));
            match self.raft.propose(Command { now_ms: now_ms(), request: None, body }).await {
                Ok(committed) => all &= !matches!(committed.outcome, Outcome::Refused(_)),
                Err(error) => {
                    tracing::warn!(%error, "a graph was not linked again yet");
                    all = false;
                }
            }
        }
        if all {
            *done_at = Some(state.policies_at);
        }
    }
}
