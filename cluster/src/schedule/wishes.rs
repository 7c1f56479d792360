//! What the members of a cell wish of a node, and the taints that keep them off it.
//!
//! Both are about what is new to a node: nothing that is placed is moved for a wish or a taint.

use model::linked::{LinkedGraph, Origin};
use model::name::ComponentName;
use model::node::Labels;
use model::placement::Requirements;

use super::{Cell, refusal};
use crate::state::NodeRecord;

/// In how many respects a node is what the cell prefers, less those in which it is what it avoids.
pub(super) fn met(cell: &Cell<'_>, node: &NodeRecord) -> i64 {
    let count = |conditions: &Requirements| {
        conditions.iter().filter(|(label, condition)| node.is(label, condition)).map(|_| 1).sum::<i64>()
    };
    cell.wishes.iter().map(|wishes| count(&wishes.prefer) - count(&wishes.avoid)).sum()
}

/// A taint that keeps the cell off the node, and the first member that does not tolerate it.
///
/// What is there already stays, and components of policies go with their callers: neither is asked.
pub(super) fn repelled(linked: &LinkedGraph, cell: &Cell<'_>, node: &NodeRecord) -> Option<String> {
    node.taints.iter().find_map(|(taint, value)| {
        let tolerates = |member: &ComponentName| {
            linked.wishes.get(member).is_some_and(|wishes| wishes.tolerates(taint, value))
        };
        let is_there = |member| cell.now.is_some_and(|now| now.runs_on(member, &node.description.name));
        let is_asked = |member| is_of_owner(linked, member) && !is_there(member);
        let first = cell.members.iter().find(|member| is_asked(member) && !tolerates(member))?;
        Some(format!("is tainted {taint}={value}, which {first} does not tolerate"))
    })
}

/// Whether a node would take the cell if it were not for its taints.
pub(super) fn keep_off_alone(linked: &LinkedGraph, cell: &Cell<'_>, node: &NodeRecord) -> bool {
    repelled(linked, cell, node).is_some() && {
        let untainted = NodeRecord { taints: Labels::new(), ..node.clone() };
        refusal(linked, cell, &untainted).is_none()
    }
}

fn is_of_owner(linked: &LinkedGraph, member: &ComponentName) -> bool {
    linked.components.get(member).is_none_or(|component| component.origin == Origin::Graph)
}
