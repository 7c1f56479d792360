//! Which agents are heard of: kept in memory, only transitions are proposed.
//!
//! Between ready and down a node is *suspect*: whoever leads knows it and nobody else does, so that it costs no entry of the
//! log. Nothing follows from it but that such a node gets nothing new where another one takes it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cluster::command::Body;
use cluster::feature::REPLICAS;
use cluster::state::NodeRecord;
use cluster::{Command, State};
use model::name::NodeName;
use model::node::{NodeDescription, NodeState};
use tokio_util::sync::CancellationToken;

use crate::raft::Handle;

/// How long agents may take to leave a leader that is gone and to find the new one: five seconds until they miss its
/// signs of life, and some for their tries.
const TAKE_OVER_PATIENCE: Duration = Duration::from_secs(10);
/// How often an agent speaks within the time after which it is lost.
const INTERVALS: u32 = 3;
/// A node is suspect once it is silent for this part of the timeout: a sign of life is lost, and the next one is not there
/// yet. One that was late alone is not.
const SUSPECT_PART: u32 = 2;
/// Nodes that one command says are lost: with the longest names, what a command has room for.
const LOST_MAX: usize = 3_000;
/// How often deadlines are looked at.
const CHECK_EVERY: Duration = Duration::from_millis(100);

/// When each agent was last heard of; a cheap handle.
#[derive(Debug, Clone)]
pub struct Liveness {
    timeout: Duration,
    book: Arc<Mutex<Book>>,
}

/// What is remembered of agents: an entry for each node that registered here, of which the state bounds the number.
#[derive(Debug, Default)]
struct Book {
    /// From when on silence counts; none while this member does not lead.
    since: Option<Instant>,
    /// When each was last heard of, since this member leads.
    heard: BTreeMap<NodeName, Instant>,
    /// Those of which it is proposed that they are lost, as long as that is not done: it comes whatever they say meanwhile.
    /// Each with what it was then.
    losing: BTreeMap<NodeName, Losing>,
    /// When the last certificate ends that each has shown or was given here, milliseconds since 1970.
    certificates: BTreeMap<NodeName, u64>,
}

/// What a node was when it was proposed that it is lost.
#[derive(Debug)]
struct Losing {
    changed_at_ms: u64,
    description: NodeDescription,
}

impl Losing {
    fn of(node: &NodeRecord) -> Self {
        Self { changed_at_ms: node.changed_at_ms, description: node.description.clone() }
    }

    /// Whether that is not done yet. A node that is ready again was lost meanwhile, though nobody was told that it was done; one
    /// that says something else of itself may only have connected before that comes.
    fn is_open(&self, node: &NodeRecord) -> bool {
        let came_back = node.changed_at_ms != self.changed_at_ms && node.description == self.description;
        node.state == NodeState::Ready && !came_back
    }
}

impl Book {
    fn silent_for(&self, node: &NodeName, since: Instant) -> Duration {
        self.heard.get(node).copied().unwrap_or(since).max(since).elapsed()
    }
}

/// What whoever leads knows of a node beside what the state says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signs {
    /// How long ago its agent was last heard of, if it was.
    pub silent: Option<Duration>,
    /// Whether it is ready, and silent for longer than it should be.
    pub is_suspect: bool,
    /// When its certificate ends, milliseconds since 1970, as far as that is known.
    pub certificate_expires_ms: Option<u64>,
}

impl Liveness {
    /// Agents that are silent for longer than `timeout` are lost.
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, book: Arc::default() }
    }

    /// How often an agent must speak: three times within the timeout.
    pub fn heartbeat_interval(&self) -> Duration {
        self.timeout / INTERVALS
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For how long a node that was heard of may serve what must not serve while it is cut off: a third of the timeout less
    /// than it takes until it counts as lost, for clocks that run differently and for what is late on the node itself.
    pub fn lease(&self) -> Duration {
        self.timeout - self.timeout / INTERVALS
    }

    /// Notes that an agent was heard; says whether that keeps it from being lost.
    pub fn touch(&self, node: &NodeName) -> bool {
        let mut book = self.book();
        book.heard.insert(node.clone(), Instant::now());
        !book.losing.contains_key(node)
    }

    /// Notes when a certificate of a node ends; of several it is the last that counts.
    pub fn certified(&self, node: &NodeName, expires_ms: u64) {
        let mut book = self.book();
        let known = book.certificates.entry(node.clone()).or_default();
        *known = expires_ms.max(*known);
    }

    /// What is known of these nodes; of none that it is suspect, unless this member leads.
    pub fn signs<'a>(
        &self,
        nodes: impl Iterator<Item = (&'a NodeName, &'a NodeRecord)>,
    ) -> BTreeMap<NodeName, Signs> {
        let book = self.book();
        let suspect_after = self.timeout / SUSPECT_PART;
        let is_late =
            |name: &NodeName| book.since.is_some_and(|since| book.silent_for(name, since) >= suspect_after);
        let of = |name: &NodeName, node: &NodeRecord| Signs {
            silent: book.heard.get(name).map(Instant::elapsed),
            is_suspect: node.state == NodeState::Ready && is_late(name),
            certificate_expires_ms: book.certificates.get(name).copied(),
        };
        nodes.map(|(name, node)| (name.clone(), of(name, node))).collect()
    }

    /// The nodes that are suspect.
    pub fn suspects(&self, state: &State) -> BTreeSet<NodeName> {
        let signs = self.signs(state.nodes.iter()).into_iter();
        signs.filter(|(_, signs)| signs.is_suspect).map(|(name, _)| name).collect()
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
            self.begin(start);
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
            self.book().since = None;
        }
    }

    /// Forgets what was heard while another one may have led meanwhile.
    fn begin(&self, start: Instant) {
        let mut book = self.book();
        book.since = Some(start);
        book.heard.clear();
        // Whatever was proposed before is done by now, or never.
        book.losing.clear();
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
                Ok(_) => self.book().losing.retain(|name, _| !names.contains(name)),
                Err(error) => tracing::warn!(%error, "lost nodes were not recorded yet"),
            }
        }
    }

    /// Those that are lost, and those of which that may be on its way already, each with how long it has been silent. What is
    /// heard of them from now on keeps none of them.
    fn lost(&self, state: &State, start: Instant) -> Vec<(NodeName, Duration)> {
        let mut book = self.book();
        book.losing.retain(|name, losing| state.nodes.get(name).is_some_and(|node| losing.is_open(node)));
        let ready = state.nodes.keys().filter(|name| state.is_ready(name));
        let silent = ready.map(|name| (name, book.silent_for(name, start)));
        let fresh: Vec<&NodeName> = lost(silent, self.timeout).into_iter().map(|(name, _)| name).collect();
        let fresh = fresh.into_iter().filter_map(|name| Some((name, state.nodes.get(name)?)));
        for (name, node) in fresh {
            book.losing.entry(name.clone()).or_insert_with(|| Losing::of(node));
        }
        book.losing.keys().map(|name| (name.clone(), book.silent_for(name, start))).collect()
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
            is_another_late |= silent >= timeout / SUSPECT_PART;
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
    use model::node::{AGENT_LEVEL, Capacity};

    /// So long that no pause of the test's machine counts.
    const TIMEOUT: Duration = Duration::from_secs(600);

    /// A state of one node.
    fn state_of(name: &NodeName) -> State {
        let description = NodeDescription {
            name: name.clone(),
            uid: "u".to_owned().try_into().unwrap(),
            api_address: "127.0.0.1:1".to_owned(),
            ingress_address: "127.0.0.1:2".to_owned(),
            version: "0.1.0".to_owned(),
            labels: BTreeMap::new(),
            capabilities: Vec::new(),
            capacity: Capacity { memory_bytes: 1, cpus: 1, instances: 1 },
            level: AGENT_LEVEL,
        };
        let mut state = State::default();
        state.apply(&Command { now_ms: 1, request: None, body: Body::RegisterNode(description) });
        state
    }

    #[test]
    fn a_node_is_suspect_before_it_is_down_as_who_leads_knows() {
        let name: NodeName = "n1".parse().unwrap();
        let (liveness, mut state) = (Liveness::new(TIMEOUT), state_of(&name));
        let signs = |state: &State| liveness.signs(state.nodes.iter()).remove(&name).unwrap();
        assert_eq!(signs(&state), Signs::default(), "who does not lead knows nothing");
        let ago = |part: u32| Instant::now().checked_sub(TIMEOUT / part).unwrap();
        liveness.begin(ago(4));
        assert!(liveness.suspects(&state).is_empty());
        liveness.begin(ago(2));
        assert_eq!(liveness.suspects(&state), BTreeSet::from([name.clone()]), "it was not heard of at all");
        liveness.touch(&name);
        let heard = signs(&state);
        assert!(!heard.is_suspect && heard.silent.is_some_and(|silent| silent < TIMEOUT / 4), "{heard:?}");
        // Whoever leads again has not heard anything meanwhile.
        liveness.begin(ago(2));
        assert_eq!(signs(&state), Signs { is_suspect: true, ..Signs::default() });
        liveness.certified(&name, 7_000);
        liveness.certified(&name, 5_000);
        assert_eq!(signs(&state).certificate_expires_ms, Some(7_000));
        let body = Body::SetNodeState { node: name.clone(), state: NodeState::Down, why: String::new() };
        state.apply(&Command { now_ms: 2, request: None, body });
        assert!(!signs(&state).is_suspect, "it is down");
    }

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
        assert!(liveness.lost(&state, Instant::now()).is_empty());
        assert_eq!(impatient.lost(&state, Instant::now()).len(), 1);
        assert!(!liveness.touch(&name), "it is proposed");
        assert_eq!(liveness.lost(&state, Instant::now()).len(), 1, "and proposed again");
        // It connects anew before that comes.
        let node = state.nodes.get_mut(&name).unwrap();
        (node.changed_at_ms, node.description.version) = (1, "0.2.0".to_owned());
        assert_eq!(liveness.lost(&state, Instant::now()).len(), 1);
        assert!(!liveness.touch(&name), "it comes all the same");
        // It came, and who proposed it was not told: the node is back before that is seen.
        let node = state.nodes.get_mut(&name).unwrap();
        (node.changed_at_ms, node.description.version) = (2, String::new());
        assert!(liveness.lost(&state, Instant::now()).is_empty(), "it is not lost once more");
        assert!(liveness.touch(&name));
        assert_eq!(impatient.lost(&state, Instant::now()).len(), 1);
        state.nodes.get_mut(&name).unwrap().state = NodeState::Down;
        assert!(liveness.lost(&state, Instant::now()).is_empty());
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
