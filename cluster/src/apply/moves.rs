//! Where graphs are: placed, moved, and let go of where they were.
//!
//! A graph that is moved answers where it was until it answers where it is going; then nobody new is sent to the old place,
//! and once every node knows that, it is let go of.

use std::collections::BTreeSet;

use model::id::GraphKey;
use model::name::NodeName;
use model::placement::Placement;
use model::report::GraphReport;

use super::graph::subject;
use crate::command::{Leave, Place};
use crate::feature::{MOVES, REPLICAS};
use crate::outcome::{Outcome, Refusal};
use crate::state::{GraphRecord, Leaving, State};

/// Nodes that an event names of those that a graph on each node has got or lost.
const NODES_SHOWN: usize = 5;

/// Applies the parts whose preconditions hold; the next pass of the scheduler plans the others again.
pub(super) fn place(state: &mut State, places: &[Place]) -> Result<Outcome, Refusal> {
    let fresh: Vec<&Place> = places.iter().filter(|place| is_fresh(state, place)).collect();
    if fresh.is_empty() {
        return Err(Refusal::Stale { what: "every graph or node of the placement".to_owned() });
    }
    state.advance();
    let at = state.revision;
    for place in fresh {
        let Some(mut record) = state.graphs.get(&place.key).cloned() else { continue };
        let left = record.nodes();
        record.leaving = leaving(state, &record, &place.placement).map(Box::new);
        let before = record.placement.replace(place.placement.clone());
        let gain = |node: &NodeName| gains(&record, before.as_ref(), &place.placement, node);
        let gaining: Vec<NodeName> =
            place.placement.nodes().into_iter().filter(|node| gain(node)).cloned().collect();
        let keeps = state.level() >= REPLICAS && before.is_some();
        // The others go on answering until they have linked it again.
        let stays = |(node, _): &(&NodeName, &GraphReport)| {
            keeps && place.placement.is_on(node) && !gaining.contains(node)
        };
        record.observed =
            record.observed.iter().filter(stays).map(|(node, seen)| (node.clone(), seen.clone())).collect();
        // Where a capability was first placed, it was made.
        let kept = std::mem::take(&mut record.data);
        let first = |name| kept.get(name).unwrap_or_else(|| place.placement.first_node_of(name)).clone();
        record.data = record.linked.capabilities.keys().map(|name| (name.clone(), first(name))).collect();
        if before.is_some() {
            // Other links are remote than before: the nodes link their parts again.
            record.generation = at.into();
        }
        if state.level() >= REPLICAS {
            let generation = record.generation;
            record.gained = record
                .gained
                .iter()
                .filter(|(node, _)| place.placement.is_on(node))
                .map(|(node, at)| (node.clone(), *at))
                .collect();
            record.gained.extend(gaining.into_iter().map(|node| (node, generation)));
        }
        let came = record.nodes();
        state.graphs.insert(place.key.clone(), record);
        touch(state, &left);
        touch(state, &came);
        let is_on_each = state.graphs.get(&place.key).is_some_and(|record| !record.linked.each_node.is_empty());
        let message = if is_on_each {
            counted(before.as_ref(), &place.placement)
        } else {
            placed(before.as_ref(), &place.placement)
        };
        state.event(subject(&place.key), "placed", message);
    }
    Ok(state.done())
}

/// Whether a node gets a member that it did not have.
fn gains(record: &GraphRecord, before: Option<&Placement>, now: &Placement, node: &NodeName) -> bool {
    let mut members = record.linked.members();
    members.any(|member| now.runs_on(member, node) && before.is_none_or(|before| !before.runs_on(member, node)))
}

fn placed(before: Option<&Placement>, now: &Placement) -> String {
    let on = if now.nodes().len() == 1 { "on node" } else { "on nodes" };
    match before {
        None => format!("{on} {now}"),
        Some(before) => format!("{on} {now}, and no more as before: {before}"),
    }
}

/// The same of a graph that may be on more nodes than anybody reads the names of.
fn counted(before: Option<&Placement>, now: &Placement) -> String {
    let none = BTreeSet::new();
    let (was, is) = (before.map_or(none, Placement::nodes), now.nodes());
    let named = |nodes: Vec<&&NodeName>, what: &str| {
        let shown: Vec<&str> = nodes.iter().take(NODES_SHOWN).map(|name| name.as_str()).collect();
        match nodes.len().saturating_sub(shown.len()) {
            _ if nodes.is_empty() => String::new(),
            0 => format!(", {what} {}", shown.join(", ")),
            more => format!(", {what} {} and {more} more", shown.join(", ")),
        }
    };
    let (new, gone) = (is.difference(&was).collect(), was.difference(&is).collect());
    format!("on {} nodes{}{}", is.len(), named(new, "now also on"), named(gone, "no more on"))
}

/// What goes on answering while a graph starts at `to`: what answers now, as long as one of its nodes is alive and has no
/// part in the new placement.
fn leaving(state: &State, record: &GraphRecord, to: &Placement) -> Option<Leaving> {
    if state.level() < MOVES {
        return None;
    }
    let is_of_use = |leaving: &Leaving| {
        let stays = |name: &NodeName| !to.is_on(name) && state.is_ready(name);
        leaving.answered_ms.is_none() && leaving.placement.nodes().into_iter().any(stays)
    };
    // Where it was going, it does not answer yet.
    if let Some(leaving) = record.leaving.as_deref().filter(|leaving| is_of_use(leaving)) {
        return Some(leaving.clone());
    }
    let placement = record.placement.clone()?;
    let answers = |name: &NodeName| record.observed.get(name).is_some_and(|seen| seen.serving.is_some());
    if !placement.nodes().into_iter().any(answers) {
        return None;
    }
    let now = Leaving {
        placement,
        revision: record.running(),
        generation: record.generation,
        linked: record.linked.clone(),
        answered_ms: None,
    };
    Some(now).filter(is_of_use)
}

/// Notes that a graph that is moved answers where it went, if it does.
pub(super) fn settle(state: &mut State, key: &GraphKey) {
    let is_awaited =
        |record: &&GraphRecord| record.leaving.as_ref().is_some_and(|leaving| leaving.answered_ms.is_none());
    let Some(record) = state.graphs.get(key).filter(is_awaited) else { return };
    let answers =
        |name: &NodeName| record.observed.get(name).is_some_and(|seen| seen.serving == Some(record.generation));
    // Those that are down may come back, and are not waited for where another has all that they have.
    let is_waited_for = |name: &&NodeName| state.level() < REPLICAS || state.is_ready(name);
    let arrived = record.placement.as_ref().is_some_and(|placement| {
        placement.nodes().into_iter().filter(is_waited_for).all(answers)
            && record.linked.members().all(|member| placement.nodes_of(member).any(answers))
    });
    let now_ms = state.now_ms;
    let Some(record) = state.graphs.get_mut(key).filter(|_| arrived) else { return };
    let Some(leaving) = record.leaving.as_mut() else { return };
    leaving.answered_ms = Some(now_ms);
    let message = format!(
        "from {} to {}",
        leaving.placement,
        record.placement.as_ref().map_or_else(String::new, ToString::to_string)
    );
    state.event(subject(key), "moved", message);
}

/// Lets go of where graphs were, as far as they are as they were when that was decided.
pub(super) fn leave(state: &mut State, leaves: &[Leave]) -> Result<Outcome, Refusal> {
    let is_fresh = |leave: &&Leave| {
        let record = state.graphs.get(&leave.key).filter(|record| record.uid == leave.uid);
        let leaving = record.and_then(|record| record.leaving.as_ref());
        leaving.is_some_and(|leaving| leaving.generation == leave.generation)
    };
    let fresh: Vec<&Leave> = leaves.iter().filter(is_fresh).collect();
    if fresh.is_empty() {
        return Err(Refusal::Stale { what: "every graph that was to be let go of".to_owned() });
    }
    state.advance();
    for leave in fresh {
        let Some(record) = state.graphs.get_mut(&leave.key) else { continue };
        let Some(leaving) = record.leaving.take() else { continue };
        let left: BTreeSet<NodeName> = leaving.placement.nodes().into_iter().cloned().collect();
        touch(state, &left);
    }
    Ok(state.done())
}

/// What these nodes should run has changed.
pub(super) fn touch(state: &mut State, nodes: &BTreeSet<NodeName>) {
    for node in nodes {
        state.touch_node(node);
    }
}

fn is_fresh(state: &State, place: &Place) -> bool {
    let Some(record) = state.graphs.get(&place.key) else { return false };
    let is_new = record.uid == place.uid
        && record.generation == place.generation
        && record.placement.as_ref() != Some(&place.placement);
    // A node that has a part already keeps it while it is not heard of; a candidate is another revision of it.
    let base = state.graphs.get(&place.key.base()).filter(|_| place.key.is_candidate);
    let takes = |name: &NodeName| {
        record.is_on(name)
            || base.is_some_and(|base| base.is_on(name))
            || state.nodes.get(name).is_some_and(|node| node.refuses().is_none())
    };
    is_new && place.placement.nodes().into_iter().all(takes)
}
