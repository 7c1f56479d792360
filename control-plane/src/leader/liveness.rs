//! Which agents are heard of: kept in memory, only transitions are proposed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cluster::Command;
use cluster::command::Body;
use model::name::NodeName;
use model::node::NodeState;
use tokio_util::sync::CancellationToken;

use crate::raft::Handle;

/// How long agents may take to leave a leader that is gone and to find the new one: five seconds until they miss its
/// signs of life, and some for their tries.
const TAKE_OVER_PATIENCE: Duration = Duration::from_secs(10);
/// How often deadlines are looked at.
const CHECK_EVERY: Duration = Duration::from_millis(100);

/// When each agent was last heard of; a cheap handle.
#[derive(Debug, Clone)]
pub struct Liveness {
    timeout: Duration,
    heard: Arc<Mutex<BTreeMap<NodeName, Instant>>>,
}

impl Liveness {
    /// Agents that are silent for longer than `timeout` are lost.
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, heard: Arc::default() }
    }

    /// How often an agent must speak: three times within the timeout.
    pub fn heartbeat_interval(&self) -> Duration {
        self.timeout / 3
    }

    /// Notes that an agent was heard.
    pub fn touch(&self, node: &NodeName) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.insert(node.clone(), Instant::now());
    }

    fn silent_for(&self, node: &NodeName, since: Instant) -> Duration {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.get(node).copied().unwrap_or(since).max(since).elapsed()
    }

    /// Proposes that silent nodes are down, whenever this member leads, until `stop`. Every node has a full timeout from
    /// when it began to lead, and before that the time to find it, if another one may have led.
    pub async fn run(self, stop: CancellationToken, raft: Handle) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = raft.leads() => {}
            }
            let others = raft.state().members.len() > 1;
            let grace = if others { TAKE_OVER_PATIENCE } else { Duration::ZERO };
            let (start, term) = (Instant::now() + grace, raft.term());
            while raft.is_leader() && raft.term() == term {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(CHECK_EVERY) => {}
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.look(&raft, start, term) => {}
                }
            }
        }
    }

    async fn look(&self, raft: &Handle, start: Instant, term: u64) {
        let state = raft.state();
        for (name, node) in &state.nodes {
            let silent = self.silent_for(name, start);
            if node.state != NodeState::Ready || silent < self.timeout {
                continue;
            }
            // Whoever leads meanwhile has heard of others.
            if !raft.is_leader() || raft.term() != term {
                return;
            }
            let why = format!("its agent was not heard of for {} ms", silent.as_millis());
            let body = Body::SetNodeState { node: name.clone(), state: NodeState::Down, why };
            if let Err(error) =
                raft.propose_as_leader(Command { now_ms: raft.now_ms(), request: None, body }).await
            {
                tracing::warn!(%error, node = %name, "a lost node was not recorded yet");
            }
        }
    }
}
