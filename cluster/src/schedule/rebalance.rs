//! Moves on request, so that nodes that came or came back carry as many graphs as the others.

use std::collections::{BTreeMap, BTreeSet};

use model::id::GraphKey;
use model::linked::LinkedGraph;
use model::name::NodeName;
use model::placement::Placement;

use super::load::Counts;
use super::{Cell, refusal, requirements, zone_of};
use crate::command::Place;
use crate::feature::MOVES;
use crate::state::{GraphRecord, NodeRecord, State};

/// Moves that are planned at one time: as many as one command has room for.
pub const REBALANCE_MAX: usize = 500;

/// Graphs that may be moved, by the nodes that they are on.
type Movable<'a> = BTreeMap<&'a NodeName, Vec<(&'a GraphKey, &'a GraphRecord)>>;

/// The moves after which no two nodes that get work differ by more than one graph, or as many of them as are made at one
/// time. What a graph has on one node goes to another that takes it, at most once, and to no zone with as many of its nodes as
/// the one that it leaves. Graphs that wish things of their nodes or reserve something there, run on each, have data, do not
/// serve as they should or change their revision by steps stay where they are, and none goes to a node that is tainted, or that
/// is not heard of at this moment (`suspects`). A node of which no graph can go to one with fewer gives none after that either,
/// though one may have fewer by a later move: to ask all of its graphs again after each move would take too long.
pub fn rebalance(state: &State, suspects: &BTreeSet<NodeName>) -> Vec<Place> {
    if state.level() < MOVES {
        return Vec::new();
    }
    let mut counts = Counts::of(state);
    counts.in_order.retain(|(_, name)| state.nodes.get(name).is_some_and(|node| node.refuses().is_none()));
    let mut movable = Movable::new();
    for (key, record) in state.graphs.iter().filter(|(key, record)| !key.is_candidate && may_move(record)) {
        for node in record.placement.iter().flat_map(Placement::nodes) {
            movable.entry(node).or_default().push((key, record));
        }
    }
    let mut moved: BTreeSet<&GraphKey> = BTreeSet::new();
    let mut places = Vec::new();
    while places.len() < REBALANCE_MAX {
        let found = next(state, suspects, &counts, &mut movable, &moved);
        let Some((key, record, from, to)) = found else { break };
        let Some(placement) = &record.placement else { break };
        moved.insert(key);
        counts.take_from(from);
        counts.add_to(to);
        places.push(Place {
            key: key.clone(),
            uid: record.uid.clone(),
            generation: record.generation,
            placement: moved_to(placement, from, to),
        });
    }
    places
}

fn may_move(record: &GraphRecord) -> bool {
    let linked = &record.linked;
    let Some(placement) = &record.placement else { return false };
    let serves =
        |node: &NodeName| record.observed.get(node).is_some_and(|seen| seen.serving == Some(record.generation));
    let has_data = !record.data.is_empty() || !linked.capabilities.is_empty();
    let is_free = linked.wishes.is_empty() && linked.each_node.is_empty() && linked.reserves.is_empty();
    let rests = record.leaving.is_none() && record.rollout.is_none();
    is_free && !has_data && rests && placement.nodes().into_iter().all(serves)
}

/// The move of what a graph has on the node with most graphs, of which one can be moved, to the one with fewest that takes it.
fn next<'a>(
    state: &'a State,
    suspects: &BTreeSet<NodeName>,
    counts: &Counts,
    movable: &mut Movable<'a>,
    moved: &BTreeSet<&GraphKey>,
) -> Option<(&'a GraphKey, &'a GraphRecord, &'a NodeName, &'a NodeName)> {
    for (most, from) in counts.in_order.iter().rev() {
        let Some(graphs) = movable.get_mut(from) else { continue };
        graphs.retain(|(key, _)| !moved.contains(key));
        for (fewest, to) in counts.in_order.iter().filter(|(_, to)| !suspects.contains(to)) {
            if fewest + 1 >= *most {
                break;
            }
            let ((from, leaves), (to, takes)) =
                (state.nodes.get_key_value(from)?, state.nodes.get_key_value(to)?);
            let fits = |(_, record): &(&GraphKey, &GraphRecord)| may_go(state, record, leaves, takes);
            let Some(at) = graphs.iter().position(fits) else { continue };
            let (key, record) = graphs.remove(at);
            return Some((key, record, from, to));
        }
        movable.remove(from);
    }
    None
}

/// Whether what a graph has on one node can be on another one in its place.
fn may_go(state: &State, record: &GraphRecord, from: &NodeRecord, to: &NodeRecord) -> bool {
    let Some(placement) = record.placement.as_ref().filter(|now| !now.is_on(&to.description.name)) else {
        return false;
    };
    let linked = &record.linked;
    let Some(part) = part(linked, placement, &from.description.name) else { return false };
    let zone = |name: &NodeName| state.nodes.get(name).map(zone_of);
    let keeps_spread = zone_of(from) == zone_of(to)
        || part.members.iter().all(|member| {
            let count = |of| placement.nodes_of(member).filter(|name| zone(name) == Some(of)).count();
            count(zone_of(to)) < count(zone_of(from))
        });
    keeps_spread && refusal(linked, &part, to).is_none()
}

/// All that a graph has on a node, with what is required of that.
fn part<'a>(linked: &'a LinkedGraph, placement: &Placement, node: &NodeName) -> Option<Cell<'a>> {
    let mut part = Cell { more: usize::from(placement.is_parted()), ..Cell::default() };
    for member in linked.members().filter(|member| placement.runs_on(member, node)) {
        part.members.insert(member);
        for required in linked.require.get(member).into_iter().flatten() {
            requirements::add(&mut part.require, required).ok()?;
        }
    }
    Some(part)
}

/// The same placement with one node in place of another, on which it has nothing yet.
fn moved_to(placement: &Placement, from: &NodeName, to: &NodeName) -> Placement {
    let other = |node: &NodeName| if node == from { to.clone() } else { node.clone() };
    let more = placement.more.iter();
    Placement {
        home: other(&placement.home),
        away: placement.away.iter().map(|(member, node)| (member.clone(), other(node))).collect(),
        more: more.map(|(member, nodes)| (member.clone(), nodes.iter().map(other).collect())).collect(),
    }
}
