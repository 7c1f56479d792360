//! Whether a node can take a cell, and why not.

use model::linked::LinkedGraph;
use model::name::{ComponentName, NodeName};
use model::node::{KNOWS_ISOLATION, KNOWS_REPLICAS, NodeState};

use super::{Cell, requirements, reserved, wishes};
use crate::state::{NodeRecord, State};

/// The members of a cell, in words.
pub(super) fn names(cell: &Cell<'_>) -> String {
    cell.members.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ")
}

/// A line for each node: why it cannot take this cell.
pub(super) fn refusals(state: &State, linked: &LinkedGraph, cell: &Cell<'_>) -> Vec<String> {
    let whose = if cell.require.is_empty() { String::new() } else { format!("{}: ", names(cell)) };
    let line = |(name, node): (&NodeName, &NodeRecord)| {
        let why = refusal(linked, cell, node).unwrap_or_else(|| "fits, with too little else".to_owned());
        format!("{whose}{name} no: {why}")
    };
    state.nodes.iter().map(line).collect()
}

/// Why `node` cannot take the cell, if it cannot.
pub(super) fn refusal(linked: &LinkedGraph, cell: &Cell<'_>, node: &NodeRecord) -> Option<String> {
    if let Some(why) = node.refuses() {
        return Some(why.to_owned());
    }
    if let Some(lacked) = requirements::lacked(&cell.require, node) {
        return Some(lacked);
    }
    if let Some(why) = wishes::repelled(linked, cell, node) {
        return Some(why);
    }
    if node.description.level < KNOWS_REPLICAS && needs_level(linked, cell) {
        return Some("its agent is of an earlier version, which knows no replicas and no checks".to_owned());
    }
    if serves_alone(linked, |member| cell.members.contains(member), node) {
        return Some("its agent is of an earlier version, which goes on serving when it is cut off".to_owned());
    }
    if let Some(missing) = offers(linked, cell, node) {
        return Some(format!("offers no {missing}"));
    }
    if let Some(lacked) = reserved::lacked(linked, cell, node) {
        return Some(lacked);
    }
    let capacity = node.description.capacity.memory_bytes;
    let need = linked.memory_bytes(|name| cell.members.contains(name));
    (need > capacity).then(|| format!("has {} MiB, needs {} MiB", capacity >> 20, need.div_ceil(1 << 20)))
}

/// Whether agents of earlier versions would leave out what is asked for the cell.
fn needs_level(linked: &LinkedGraph, cell: &Cell<'_>) -> bool {
    let is_checked = |name: &&ComponentName| {
        linked.components.get(*name).is_some_and(|found| found.settings.check.is_some())
    };
    cell.is_on_several() || cell.members.iter().any(is_checked)
}

/// Whether what is there of the cell can stay on `node`: it has the labels, offers the capabilities, and its agent stops what
/// must stop.
pub(super) fn meets(linked: &LinkedGraph, cell: &Cell<'_>, node: &NodeRecord) -> bool {
    requirements::are_met(&cell.require, node)
        && offers(linked, cell, node).is_none()
        && !serves_alone(linked, |member| cell.members.contains(member), node)
}

/// Whether the agent of `node` would go on serving what must stop there once it is cut off. Of one that is not heard of it is
/// not asked: it may serve already, and as long as nothing is moved off it nothing is placed elsewhere.
pub(super) fn serves_alone(
    linked: &LinkedGraph,
    is_there: impl Fn(&ComponentName) -> bool,
    node: &NodeRecord,
) -> bool {
    node.state == NodeState::Ready
        && node.description.level < KNOWS_ISOLATION
        && linked.stops_in_isolation(is_there)
}

/// The first capability of the cell that `node` does not offer.
fn offers(linked: &LinkedGraph, cell: &Cell<'_>, node: &NodeRecord) -> Option<&'static str> {
    let offered = &node.description.capabilities;
    let wanted = linked.capabilities.iter().filter(|(name, _)| cell.members.contains(name));
    wanted.map(|(_, spec)| spec.type_name()).find(|wanted| !offered.iter().any(|offer| offer == wanted))
}
