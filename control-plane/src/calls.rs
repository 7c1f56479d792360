//! How many calls are under way of components that are scaled by them, as the agents tell whoever leads.
//!
//! Kept in memory: each agent says with each heartbeat what it had under way since the last one, so that another leader knows
//! as much a moment later.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use cluster::State;
use cluster::state::GraphRecord;
use model::id::GraphKey;
use model::name::{ComponentName, NodeName};
use model::scale::Calls;
use model::status::GraphStatus;

/// What the agents have told; a cheap handle.
#[derive(Debug, Clone, Default)]
pub struct CallsBook(Arc<Mutex<Book>>);

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
    /// Whether every one of them has said it.
    pub is_whole: bool,
}

impl CallsBook {
    /// Notes what an agent had under way since it last said so; of what is not scaled in `state`, or not there, nothing.
    pub fn note(&self, state: &State, node: &NodeName, key: GraphKey, component: ComponentName, calls: Calls) {
        let is_scaled = |record: &GraphRecord| {
            record.linked.scaling.contains_key(&component)
                && record.placement.as_ref().is_some_and(|placement| placement.runs_on(&component, node))
        };
        if !state.graphs.get(&key).is_some_and(is_scaled) {
            return;
        }
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
        let is_of_use = |told: &&Told| told.since.is_some_and(|begun| since.is_none_or(|since| begun >= since));
        let book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reading = Reading { calls: Calls::default(), is_whole: true };
        for key in [key.clone(), key.candidate()] {
            let Some(record) =
                state.graphs.get(&key).filter(|record| record.linked.scaling.contains_key(component))
            else {
                continue;
            };
            let told = book.get(&(key, component.clone()));
            let mut nodes =
                record.placement.iter().flat_map(|placement| placement.nodes_of(component)).peekable();
            reading.is_whole &= nodes.peek().is_some();
            for node in nodes {
                let told = told.and_then(|told| told.get(node));
                match told.filter(is_of_use) {
                    Some(told) => reading.calls = reading.calls.and(told.calls),
                    None => reading.is_whole = false,
                }
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
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(key, component), told| {
            let record = state.graphs.get(key).filter(|record| record.linked.scaling.contains_key(component));
            let placement = record.and_then(|record| record.placement.as_ref());
            told.retain(|node, _| placement.is_some_and(|placement| placement.runs_on(component, node)));
            !told.is_empty()
        });
    }

    /// Forgets all of it: another member leads.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use model::id::Uid;
    use model::linked::LinkedGraph;
    use model::placement::Placement;
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

    #[test]
    fn what_is_known_is_whole_once_every_node_has_said_what_begins_late_enough() {
        let (key, app): (GraphKey, ComponentName) = ("shop/web".parse().unwrap(), "app".parse().unwrap());
        let mut state = State::default();
        state.graphs.insert(key.clone(), graph(["n1", "n2"]));
        let book = CallsBook::default();
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
