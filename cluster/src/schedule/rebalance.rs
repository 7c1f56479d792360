//! Moves on request, so that nodes that came or came back carry as many graphs as the others.

use std::collections::BTreeMap;

use model::id::GraphKey;
use model::name::NodeName;
use model::placement::Placement;

use super::{Cell, Load, refusal};
use crate::command::Place;
use crate::feature::MOVES;
use crate::state::{GraphRecord, State};

/// Moves that are planned at one time: as many as one command has room for.
pub const REBALANCE_MAX: usize = 500;

/// The moves after which no two nodes that get work differ by more than one graph, or as many of them as are made at one
/// time. Graphs that require labels or wish things of their nodes, run on several nodes, have data, do not serve as they should
/// or change their revision by steps stay where they are, and none goes to a node that is tainted.
pub fn rebalance(state: &State) -> Vec<Place> {
    if state.level() < MOVES {
        return Vec::new();
    }
    let mut load = Load::of(state);
    load.in_order.retain(|(_, name)| state.nodes.get(*name).is_some_and(|node| node.refuses().is_none()));
    let mut movable: BTreeMap<&NodeName, Vec<(&GraphKey, &GraphRecord)>> = BTreeMap::new();
    for (key, record) in state.graphs.iter().filter(|(key, record)| !key.is_candidate && may_move(record)) {
        let Some(placement) = &record.placement else { continue };
        movable.entry(&placement.home).or_default().push((key, record));
    }
    let mut places = Vec::new();
    while places.len() < REBALANCE_MAX {
        let Some(place) = next(state, &load, &mut movable) else { break };
        if let Some(from) = state.graphs.get(&place.key).and_then(|record| record.placement.as_ref()) {
            load.take(&from.home);
        }
        load.add(&place.placement.home);
        places.push(place);
    }
    places
}

fn may_move(record: &GraphRecord) -> bool {
    let linked = &record.linked;
    let Some(placement) = &record.placement else { return false };
    let serves =
        record.observed.get(&placement.home).is_some_and(|seen| seen.serving == Some(record.generation));
    let is_single = !linked.is_spread() && placement.more.is_empty() && placement.away.is_empty();
    let has_data = !record.data.is_empty() || !linked.capabilities.is_empty();
    let is_free = is_single && linked.require.is_empty() && linked.wishes.is_empty() && !has_data;
    is_free && serves && record.leaving.is_none() && record.rollout.is_none()
}

/// The move of a graph from the node with most graphs, of which one can be moved, to the one with fewest that takes it.
fn next(
    state: &State,
    load: &Load<'_>,
    movable: &mut BTreeMap<&NodeName, Vec<(&GraphKey, &GraphRecord)>>,
) -> Option<Place> {
    for (most, from) in load.in_order.iter().rev() {
        let Some(graphs) = movable.get_mut(*from) else { continue };
        for (fewest, to) in &load.in_order {
            if fewest + 1 >= *most {
                break;
            }
            let node = state.nodes.get(*to)?;
            let fits = |(_, record): &(&GraphKey, &GraphRecord)| {
                refusal(&record.linked, &Cell::whole(&record.linked), node).is_none()
            };
            let Some(at) = graphs.iter().position(fits) else { continue };
            let (key, record) = graphs.remove(at);
            return Some(Place {
                key: key.clone(),
                uid: record.uid.clone(),
                generation: record.generation,
                placement: Placement::whole((*to).clone()),
            });
        }
    }
    None
}
