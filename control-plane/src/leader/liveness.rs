//! Which agents are heard of: kept in memory, only transitions are proposed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cluster::Command;
use cluster::command::Body;
use cluster::feature::REPLICAS;
use model::name::NodeName;
use model::node::NodeState;
use tokio_util::sync::CancellationToken;

use crate::raft::Handle;

/// How long agents may take to leave a leader that is gone and to find the new one: five seconds until they miss its
/// signs of life, and some for their tries.
const TAKE_OVER_PATIENCE: Duration = Duration::from_secs(10);
/// How often an agent speaks within the time after which it is lost.
const INTERVALS: u32 = 3;
/// Nodes that one command says are lost: with the longest names, what a command has room for.
const LOST_MAX: usize = 3_000;
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
        self.timeout / INTERVALS
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
        let ready = state.nodes.iter().filter(|(_, node)| node.state == NodeState::Ready);
        let silent = ready.map(|(name, _)| (name, self.silent_for(name, start)));
        let lost: Vec<(NodeName, Duration)> =
            lost(silent, self.timeout).into_iter().map(|(name, silent)| (name.clone(), silent)).collect();
        let why = |silent: Duration| format!("its agent was not heard of for {} ms", silent.as_millis());
        // Those of one command are lost at one time: whether a zone is cut off is seen before anything is moved.
        let bodies: Vec<Body> = if state.level() < REPLICAS {
            let alone = |(node, silent)| Body::SetNodeState { node, state: NodeState::Down, why: why(silent) };
            lost.into_iter().map(alone).collect()
        } else {
            let part = |part: &[(NodeName, Duration)]| Body::LoseNodes {
                nodes: part.iter().map(|(name, _)| name.clone()).collect(),
                why: why(part.iter().map(|(_, silent)| *silent).min().unwrap_or_default()),
            };
            lost.chunks(LOST_MAX).map(part).collect()
        };
        for body in bodies {
            // Whoever leads meanwhile has heard of others.
            if !raft.is_leader() || raft.term() != term {
                return;
            }
            if let Err(error) =
                raft.propose_as_leader(Command { now_ms: raft.now_ms(), request: None, body }).await
            {
                tracing::warn!(%error, "lost nodes were not recorded yet");
            }
        }
    }
}

/// The nodes that are lost, of all that should be heard of, each with how long it has been silent.
///
/// Nodes that stop together have been heard of last within one interval of each other. So as long as another one is late,
/// nobody is lost yet; but not for longer than it takes until that is sure.
fn lost<'a>(
    silent: impl Iterator<Item = (&'a NodeName, Duration)>,
    timeout: Duration,
) -> Vec<(&'a NodeName, Duration)> {
    let (mut lost, mut is_another_late) = (Vec::new(), false);
    for (name, silent) in silent {
        if silent >= timeout {
            lost.push((name, silent));
        } else {
            is_another_late |= silent >= timeout / 2;
        }
    }
    let longest = lost.iter().map(|(_, silent)| *silent).max();
    let is_sure = longest.is_some_and(|longest| longest >= timeout + timeout / INTERVALS + CHECK_EVERY);
    if is_another_late && !is_sure {
        lost.clear();
    }
    lost
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn nodes_that_stop_together_are_lost_together() {
        let name = |name: &str| name.parse::<NodeName>().unwrap();
        let (first, second, third) = (name("n1"), name("n2"), name("n3"));
        let lost = |a, b, c| {
            let silent = [(&first, a), (&second, b), (&third, c)];
            let silent = silent.map(|(name, silent)| (name, Duration::from_millis(silent)));
            let lost = lost(silent.into_iter(), Duration::from_millis(900));
            lost.into_iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>()
        };
        assert!(lost(899, 10, 0).is_empty());
        assert_eq!(lost(900, 310, 0), ["n1"], "the others are not late");
        assert!(lost(900, 640, 0).is_empty(), "n2 may have stopped with it");
        assert_eq!(lost(1_150, 910, 20), ["n1", "n2"]);
        assert_eq!(lost(1_290, 440, 20), ["n1"], "n2 was heard of again");
        assert_eq!(lost(1_300, 640, 20), ["n1"], "n2 has not stopped with it");
    }
}
