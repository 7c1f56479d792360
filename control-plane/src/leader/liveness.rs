//! Which agents are heard of: kept in memory, only transitions are proposed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cluster::command::Body;
use cluster::feature::REPLICAS;
use cluster::{Command, State};
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
    heard: Arc<Mutex<Heard>>,
}

#[derive(Debug, Default)]
struct Heard {
    at: BTreeMap<NodeName, Instant>,
    /// Those of which it is proposed that they are lost, as long as that is not done: it comes whatever they say meanwhile.
    losing: BTreeSet<NodeName>,
}

impl Heard {
    fn silent_for(&self, node: &NodeName, since: Instant) -> Duration {
        self.at.get(node).copied().unwrap_or(since).max(since).elapsed()
    }
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

    /// For how long a node that was heard of may serve what must not serve while it is cut off: a third of the timeout less
    /// than it takes until it counts as lost, for clocks that run differently and for what is late on the node itself.
    pub fn lease(&self) -> Duration {
        self.timeout - self.timeout / INTERVALS
    }

    /// Notes that an agent was heard; says whether that keeps it from being lost.
    pub fn touch(&self, node: &NodeName) -> bool {
        let mut heard = self.heard();
        heard.at.insert(node.clone(), Instant::now());
        !heard.losing.contains(node)
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
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
            // Whatever was proposed before is done by now, or never.
            self.heard().losing.clear();
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
        let lost = self.lost(&state, start);
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
            let names = named(&body);
            match raft.propose_as_leader(Command { now_ms: raft.now_ms(), request: None, body }).await {
                Ok(_) => self.heard().losing.retain(|name| !names.contains(name)),
                Err(error) => tracing::warn!(%error, "lost nodes were not recorded yet"),
            }
        }
    }

    /// Those that are lost, and those of which that may be on its way already, each with how long it has been silent. What is
    /// heard of them from now on keeps none of them.
    fn lost(&self, state: &State, start: Instant) -> Vec<(NodeName, Duration)> {
        let mut heard = self.heard();
        let is_ready = |name: &NodeName| state.is_ready(name);
        heard.losing.retain(is_ready);
        let ready = state.nodes.keys().filter(|name| is_ready(name));
        let silent = ready.map(|name| (name, heard.silent_for(name, start)));
        let fresh: Vec<(NodeName, Duration)> =
            lost(silent, self.timeout).into_iter().map(|(name, silent)| (name.clone(), silent)).collect();
        heard.losing.extend(fresh.iter().map(|(name, _)| name.clone()));
        heard.losing.iter().map(|name| (name.clone(), heard.silent_for(name, start))).collect()
    }
}

/// The nodes that a command says are lost.
fn named(body: &Body) -> BTreeSet<NodeName> {
    match body {
        Body::LoseNodes { nodes, .. } => nodes.iter().cloned().collect(),
        Body::SetNodeState { node, .. } => [node.clone()].into(),
        _ => BTreeSet::new(),
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
    fn what_is_heard_of_a_node_that_is_being_lost_does_not_keep_it() {
        let liveness = Liveness::new(Duration::from_hours(1));
        let impatient = Liveness { timeout: Duration::ZERO, ..liveness.clone() };
        let name: NodeName = "n1".parse().unwrap();
        assert!(liveness.touch(&name));
        let mut state = State::default();
        let record = serde_json::json!({
            "description": {
                "name": "n1", "uid": "u", "api_address": "", "ingress_address": "", "version": "", "labels": {},
                "capabilities": [], "capacity": {"memory_bytes": 0, "cpus": 0, "instances": 0},
            },
            "state": "ready", "joined_at_ms": 0, "changed_at_ms": 0, "accepted": 0, "assigned_at": 0,
        });
        state.nodes.insert(name.clone(), serde_json::from_value(record).unwrap());
        assert_eq!(liveness.lost(&state, Instant::now()).len(), 1);
        assert!(!liveness.touch(&name), "it is proposed");
        assert_eq!(
            liveness.lost(&state, Instant::now() + Duration::from_hours(1)).len(),
            1,
            "and proposed again"
        );
        state.nodes.get_mut(&name).unwrap().state = NodeState::Down;
        assert!(liveness.lost(&state, start).is_empty());
        assert!(liveness.touch(&name), "it is done, and it may come back");
    }

    #[test]
    fn a_lease_ends_before_its_node_can_be_lost() {
        for timeout_ms in [500, 1_000, 1_001, 600_000] {
            let liveness = Liveness::new(Duration::from_millis(timeout_ms));
            let margin = Duration::from_millis(timeout_ms) - liveness.lease();
            assert!(margin >= liveness.heartbeat_interval() && margin >= Duration::from_millis(timeout_ms / 3));
            assert!(liveness.lease() > liveness.heartbeat_interval(), "and is renewed before");
        }
    }

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
