//! How many calls are under way of components that are scaled by them, as the agents tell whoever leads.
//!
//! Kept in memory: each agent says with each heartbeat what it had under way since the last one, so that another leader knows
//! as much a moment later.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cluster::State;
use cluster::state::GraphRecord;
use model::id::GraphKey;
use model::name::{ComponentName, NodeName};
use model::scale::Calls;
use model::status::GraphStatus;

/// Heartbeats within which a node must have told: what is older says nothing of what is under way now. One that is late or
/// lost is no reason yet.
const TOLD_WITHIN: u32 = 3;

/// What the agents have told; a cheap handle.
#[derive(Debug, Clone)]
pub struct CallsBook {
    book: Arc<Mutex<Book>>,
    /// For how long counts what was told.
    fresh_for: Duration,
}

type Book = BTreeMap<(GraphKey, ComponentName), BTreeMap<NodeName, Told>>;

/// What one agent said last of one component.
#[derive(Debug, Clone, Copy)]
struct Told {
    calls: Calls,
    at: Instant,
    /// When it said something before: that is where what it says now begins. None of what it says first.
    since: Option<Instant>,
}

/// What all nodes of a component have under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reading {
    /// As far as it is known.
    pub calls: Calls,
    /// Whether every one of them has said it, is heard of and passes its checks: what is asked of one that fails is little,
    /// and may come to the others at any moment.
    pub is_whole: bool,
    /// On how many nodes of the graph itself it fails, while others are asked.
    pub failing: u32,
}

impl CallsBook {
    /// One that knows nothing yet; agents tell as often as that.
    pub fn new(heartbeat_interval: Duration) -> Self {
        Self { book: Arc::default(), fresh_for: heartbeat_interval * TOLD_WITHIN }
    }

    /// Notes what an agent had under way since it last said so; of what is not scaled in `state`, or not there, nothing.
    pub fn note(&self, state: &State, node: &NodeName, key: GraphKey, component: ComponentName, calls: Calls) {
        let is_scaled = |record: &GraphRecord| {
            record.linked.scaling.contains_key(&component)
                && record.placement.as_ref().is_some_and(|placement| placement.runs_on(&component, node))
        };
        if !state.graphs.get(&key).is_some_and(is_scaled) {
            return;
        }
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let told = book.entry((key, component)).or_default();
        let since = told.get(node).map(|told| told.at);
        told.insert(node.clone(), Told { calls, at: Instant::now(), since });
    }

    /// What is under way of a component on the nodes where it is placed, its candidate's included; of a time that begins not
    /// before `since`, if that is said.
    pub fn read(
        &self,
        state: &State,
        key: &GraphKey,
        component: &ComponentName,
        since: Option<Instant>,
    ) -> Reading {
        let is_of_use = |told: &&Told| {
            told.at.elapsed() <= self.fresh_for
                && told.since.is_some_and(|begun| since.is_none_or(|since| begun >= since))
        };
        let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reading = Reading { calls: Calls::default(), is_whole: true, failing: 0 };
        for (key, is_candidate) in [(key.clone(), false), (key.candidate(), true)] {
            let Some(record) =
                state.graphs.get(&key).filter(|record| record.linked.scaling.contains_key(component))
            else {
                continue;
            };
            let told = book.get(&(key, component.clone()));
            let mut nodes =
                record.placement.iter().flat_map(|placement| placement.nodes_of(component)).peekable();
            reading.is_whole &= nodes.peek().is_some();
            let (mut failing, mut passes) = (0, false);
            for node in nodes {
                if !state.is_ready(node) {
                    reading.is_whole = false;
                    continue;
                }
                match record.failing_on(node) {
                    Some(_) => failing += 1,
                    None => passes = true,
                }
                let told = told.and_then(|told| told.get(node));
                match told.filter(is_of_use) {
                    Some(told) => reading.calls = reading.calls.and(told.calls),
                    None => reading.is_whole = false,
                }
            }
            reading.is_whole &= failing == 0;
            // Where all fail, all are asked.
            if passes && !is_candidate {
                reading.failing = failing;
            }
        }
        reading
    }

    /// Adds to the status of a graph what all of its nodes have said last, where they have.
    pub fn tell(&self, state: &State, status: &mut GraphStatus) {
        for scale in &mut status.scales {
            let reading = self.read(state, &status.key, &scale.name, None);
            scale.calls = reading.is_whole.then_some(reading.calls);
        }
    }

    /// Forgets what is not scaled, and what nodes said that have no part of it any more.
    pub fn keep(&self, state: &State) {
        self.book.lock().unwrap_or_else(PoisonError::into_inner).retain(|(key, component), told| {
            let record = state.graphs.get(key).filter(|record| record.linked.scaling.contains_key(component));
            let placement = record.and_then(|record| record.placement.as_ref());
            told.retain(|node, _| placement.is_some_and(|placement| placement.runs_on(component, node)));
            !told.is_empty()
        });
    }

    /// Forgets all of it: another member leads.
    pub fn clear(&self) {
        self.book.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use cluster::Command;
    use cluster::command::Body;
    use model::id::{Generation, Uid};
    use model::linked::LinkedGraph;
    use model::node::{AGENT_LEVEL, Capacity, NodeDescription, NodeState};
    use model::placement::Placement;
    use model::report::{GraphReport, Progress};
    use model::scale::{DOWN_AFTER_DEFAULT, Scaling};

    use super::*;

    /// A graph that is scaled and is on these nodes.
    fn graph(nodes: [&str; 2]) -> GraphRecord {
        let app: ComponentName = "app".parse().unwrap();
        let scaling = [(app.clone(), Scaling::new(1, 4, 10, DOWN_AFTER_DEFAULT).unwrap())].into();
        let linked = LinkedGraph { scaling, ..LinkedGraph::default() };
        let [home, other] = nodes.map(|node| node.parse::<NodeName>().unwrap());
        let mut placement = Placement::whole(home);
        placement.more.insert(app, [other].into());
        GraphRecord { placement: Some(placement), ..GraphRecord::new(Uid::new("u").unwrap(), 0, linked) }
    }

    fn node(name: &str) -> NodeDescription {
        NodeDescription {
            name: name.parse().unwrap(),
            uid: Uid::new(name).unwrap(),
            api_address: format!("{name}:1"),
            ingress_address: format!("{name}:2"),
            version: String::new(),
            labels: BTreeMap::new(),
            capabilities: Vec::new(),
            capacity: Capacity { memory_bytes: 8 << 30, cpus: 1, instances: 1_000 },
            level: AGENT_LEVEL,
        }
    }

    /// A state with nodes that are heard of.
    fn with_nodes() -> State {
        let mut state = State::default();
        for name in ["n1", "n2", "n3", "n4"] {
            state.apply(&Command { now_ms: 1, request: None, body: Body::RegisterNode(node(name)) });
        }
        state
    }

    #[test]
    fn what_is_old_or_of_nodes_that_are_lost_or_fail_is_not_whole() {
        let (key, app): (GraphKey, ComponentName) = ("shop/web".parse().unwrap(), "app".parse().unwrap());
        let [n1, n2] = ["n1", "n2"].map(|name| name.parse::<NodeName>().unwrap());
        let mut state = with_nodes();
        state.graphs.insert(key.clone(), graph(["n1", "n2"]));
        let book = CallsBook::new(Duration::from_secs(100));
        for node in [&n1, &n1, &n2, &n2] {
            book.note(&state, node, key.clone(), app.clone(), Calls::from_thousandths(1_000));
        }
        let read = |book: &CallsBook, state: &State| {
            let reading = book.read(state, &key, &app, None);
            (reading.calls.thousandths(), reading.is_whole, reading.failing)
        };
        assert_eq!(read(&book, &state), (2_000, true, 0));
        let old = CallsBook { fresh_for: Duration::ZERO, ..book.clone() };
        assert_eq!(read(&old, &state), (0, false, 0));
        let mut fails = |node: &NodeName| {
            let seen = GraphReport {
                key: key.clone(),
                uid: Uid::new("u").unwrap(),
                serving: Some(Generation(1)),
                desired: Generation(1),
                progress: Progress::Serving,
                failing: Some("it answered 500".to_owned()),
            };
            state.graphs.get_mut(&key).unwrap().observed.insert(node.clone(), seen);
            state.clone()
        };
        assert_eq!(read(&book, &fails(&n1)), (2_000, false, 1));
        assert_eq!(read(&book, &fails(&n2)), (2_000, false, 0), "where all fail, all are asked");
        state.nodes.get_mut(&n2).unwrap().state = NodeState::Down;
        assert_eq!(read(&book, &state), (1_000, false, 0));
    }

    #[test]
    fn what_is_known_is_whole_once_every_node_has_said_what_begins_late_enough() {
        let (key, app): (GraphKey, ComponentName) = ("shop/web".parse().unwrap(), "app".parse().unwrap());
        let mut state = with_nodes();
        state.graphs.insert(key.clone(), graph(["n1", "n2"]));
        let book = CallsBook::new(Duration::from_secs(100));
        let note = |state: &State, node: &str, key: &GraphKey, thousandths| {
            let calls = Calls::from_thousandths(thousandths);
            book.note(state, &node.parse().unwrap(), key.clone(), app.clone(), calls);
        };
        let read = |state: &State, since| {
            let reading = book.read(state, &key, &app, since);
            (reading.calls.thousandths(), reading.is_whole)
        };
        note(&state, "n1", &key, 500);
        assert_eq!(read(&state, None), (0, false), "it is not known when that began");
        note(&state, "n1", &key, 2_000);
        note(&state, "n3", &key, 9_000);
        assert_eq!(read(&state, None), (2_000, false), "n3 has nothing of it, and n2 has said nothing");
        note(&state, "n2", &key, 0);
        note(&state, "n2", &key, 1_500);
        assert_eq!(read(&state, None), (3_500, true));
        let now = Instant::now();
        note(&state, "n1", &key, 100);
        assert_eq!(read(&state, Some(now)), (0, false), "that began before");
        note(&state, "n1", &key, 200);
        assert_eq!(read(&state, Some(now)), (200, false));

        // What its candidate answers is asked of both later.
        state.graphs.insert(key.candidate(), graph(["n1", "n2"]));
        assert_eq!(read(&state, None), (1_700, false));
        for node in ["n1", "n1", "n2", "n2"] {
            note(&state, node, &key.candidate(), 10_000);
        }
        assert_eq!(read(&state, None), (21_700, true));

        state.graphs.insert(key.clone(), graph(["n1", "n4"]));
        state.graphs.remove(&key.candidate());
        book.keep(&state);
        assert_eq!(read(&state, None), (200, false), "n4 has said nothing");
        book.clear();
        assert_eq!(read(&state, None), (0, false));
    }
}
