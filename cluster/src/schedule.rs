//! Which graph goes on which node: reads the state, returns placements, changes nothing.
//!
//! A graph is placed whole on one node. Filter: the node is ready, offers every capability and could hold one
//! instance. Score: fewest graphs, then name. Memory is not reserved: an idle graph holds no instance, and each
//! node bounds what runs at one time by its own pool. A planned state plans to nothing.

use std::collections::BTreeMap;

use model::graph::CapabilitySpec;
use model::name::NodeName;
use model::node::NodeState;

use crate::command::Place;
use crate::state::{GraphRecord, NodeRecord, State};

/// The placements that are wanted and possible now.
pub fn schedule(state: &State) -> Vec<Place> {
    let mut load = graphs_by_node(state);
    let mut places = Vec::new();
    for (key, record) in &state.graphs {
        if record.node.is_some() {
            continue;
        }
        let best = state
            .nodes
            .iter()
            .filter(|(_, node)| refusal(record, node).is_none())
            .min_by_key(|(name, _)| (load.get(*name).copied().unwrap_or(0), *name));
        if let Some((name, _)) = best {
            *load.entry(name.clone()).or_default() += 1;
            places.push(Place {
                key: key.clone(),
                uid: record.uid.clone(),
                generation: record.generation,
                node: name.clone(),
            });
        }
    }
    places
}

/// Why a graph is on no node: one line for each node, or one that says there is none.
pub fn explain(state: &State, record: &GraphRecord) -> Vec<String> {
    if state.nodes.is_empty() {
        return vec!["no node has joined: start a node agent".to_owned()];
    }
    state
        .nodes
        .iter()
        .map(|(name, node)| match refusal(record, node) {
            Some(why) => format!("{name} no: {why}"),
            None => format!("{name} fits: it is placed at the next pass"),
        })
        .collect()
}

fn graphs_by_node(state: &State) -> BTreeMap<NodeName, usize> {
    let mut load = BTreeMap::new();
    for node in state.graphs.values().filter_map(|record| record.node.as_ref()) {
        *load.entry(node.clone()).or_default() += 1;
    }
    load
}

/// Why `node` cannot take the graph, if it cannot.
fn refusal(record: &GraphRecord, node: &NodeRecord) -> Option<String> {
    if node.state != NodeState::Ready {
        return Some(node.state.to_string());
    }
    let offered = &node.description.capabilities;
    let missing = record
        .linked
        .capabilities
        .values()
        .map(CapabilitySpec::type_name)
        .find(|wanted| !offered.iter().any(|offer| offer == wanted));
    if let Some(missing) = missing {
        return Some(format!("offers no {missing}"));
    }
    let capacity = node.description.capacity.memory_bytes;
    let need = record.linked.memory_bytes();
    (need > capacity).then(|| format!("has {} MiB, needs {} MiB", capacity >> 20, need.div_ceil(1 << 20)))
}
