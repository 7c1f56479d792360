//! What runs on each node that takes it: a node that joins gets it, one that is drained loses it, and one that is lost keeps
//! it for when it is back, as nothing elsewhere could stand in for it.

use std::collections::BTreeSet;

use model::linked::LinkedGraph;
use model::name::{ComponentName, NodeName};
use model::node::Admission;
use model::placement::{EACH_NODE_MAX, Placement};

use super::{Cell, Lost, cells, meets, names, refusal};
use crate::state::{NodeRecord, State};

/// All nodes of a cell besides its first: those that have it as long as they are what it requires and are not drained, and
/// all others that take it. Where there are too many, those that have it go first, and then it goes by name.
pub(super) fn others(
    lost: &Lost<'_>,
    linked: &LinkedGraph,
    now: Option<&Placement>,
    cell: &Cell<'_>,
    first: &NodeName,
) -> BTreeSet<NodeName> {
    let member = now.zip(cell.members.iter().next());
    let has: BTreeSet<&NodeName> = member.into_iter().flat_map(|(now, member)| now.nodes_of(member)).collect();
    let stays =
        |node: &NodeRecord| meets(linked, cell, node) && !matches!(node.admission, Admission::Draining { .. });
    let nodes = || lost.state.nodes.iter().filter(|(name, _)| *name != first);
    let kept = nodes().filter(|(name, node)| has.contains(name) && stays(node));
    let new = nodes().filter(|(name, node)| !has.contains(name) && refusal(linked, cell, node).is_none());
    kept.chain(new).map(|(name, _)| name.clone()).take(EACH_NODE_MAX - 1).collect()
}

/// Where more nodes take a cell than it is on; of one that is on as many as it can be, nothing is missing.
pub(super) fn missing(
    state: &State,
    linked: &LinkedGraph,
    cell: &Cell<'_>,
    has: &BTreeSet<&NodeName>,
) -> Option<String> {
    if has.len() >= EACH_NODE_MAX {
        return None;
    }
    let takes =
        |(name, node): &(&NodeName, &NodeRecord)| !has.contains(*name) && refusal(linked, cell, node).is_none();
    let (count, more) = (has.len(), state.nodes.iter().filter(takes).count());
    let all = count + more;
    (more > 0).then(|| {
        format!(
            "{} on {count} of {all} nodes that take it, of which at most {EACH_NODE_MAX} get it",
            names(cell)
        )
    })
}

/// Whether a member runs on each node, because it should or because it must be with one that should.
fn is_on_each(linked: &LinkedGraph, member: &ComponentName) -> bool {
    linked.each_node.contains(member)
        || !linked.each_node.is_empty()
            && cells(linked, None, None)
                .is_ok_and(|cells| cells.iter().any(|cell| cell.each_node && cell.members.contains(member)))
}

/// Whether a node has a part of a graph, and nothing but what runs on each node.
pub(crate) fn has_each_node_part_alone(linked: &LinkedGraph, placement: &Placement, node: &NodeName) -> bool {
    if linked.each_node.is_empty() || !placement.is_on(node) {
        return false;
    }
    let mut here = linked.members().filter(|member| placement.runs_on(member, node));
    here.all(|member| is_on_each(linked, member))
}
