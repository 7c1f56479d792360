//! How much each node has.

use std::collections::{BTreeMap, BTreeSet};

use model::id::GraphKey;
use model::name::NodeName;
use model::placement::Placement;

use super::reserved::{Reservations, reserves};
use super::zone_of;
use crate::state::{GraphRecord, State};

/// How many graphs have a part on each node, and what is kept there for them.
pub(super) struct Load<'a> {
    pub(super) counts: Counts,
    pub(super) kept: Reservations<'a>,
}

/// How many graphs have a part on each node, and the nodes by that.
pub(super) struct Counts {
    by_node: BTreeMap<NodeName, usize>,
    pub(super) in_order: BTreeSet<(usize, NodeName)>,
    /// The zones of the nodes that get work.
    pub(super) zones: BTreeSet<String>,
}

impl<'a> Load<'a> {
    pub(super) fn of(state: &'a State) -> Self {
        Self { counts: Counts::of(state), kept: Reservations::of(&state.graphs) }
    }

    /// A graph is placed so from now on, and goes on where it was until it answers there.
    pub(super) fn place(
        &mut self,
        state: &'a State,
        (key, record): (&'a GraphKey, &'a GraphRecord),
        placement: &Placement,
    ) {
        self.counts.add(placement, record.placement.as_ref());
        if !reserves(key, &record.linked) {
            return;
        }
        for node in record.placement.iter().flat_map(Placement::nodes) {
            self.kept.forget(node, &record.uid);
        }
        for node in placement.nodes() {
            if let Some((name, _)) = state.nodes.get_key_value(node) {
                self.kept.keep(name, (key, &record.uid), &record.linked, placement);
            }
        }
    }
}

impl Counts {
    pub(super) fn of(state: &State) -> Self {
        let mut by_node: BTreeMap<&NodeName, usize> = state.nodes.keys().map(|name| (name, 0)).collect();
        let mut count = |node: &NodeName| {
            if let Some(count) = by_node.get_mut(node) {
                *count += 1;
            }
        };
        for placement in state.graphs.values().filter_map(|record| record.placement.as_ref()) {
            if placement.is_parted() {
                placement.nodes().into_iter().for_each(&mut count);
            } else {
                count(&placement.home);
            }
        }
        let open = state.nodes.values().filter(|node| node.refuses().is_none());
        Self {
            in_order: by_node.iter().map(|(name, count)| (*count, (*name).clone())).collect(),
            by_node: by_node.into_iter().map(|(name, count)| (name.clone(), count)).collect(),
            zones: open.map(|node| zone_of(node).to_owned()).collect(),
        }
    }

    pub(super) fn on(&self, node: &NodeName) -> usize {
        self.by_node.get(node).copied().unwrap_or_default()
    }

    /// A graph has a part on the nodes of `placement`, too, besides those of another one.
    pub(super) fn add(&mut self, placement: &Placement, besides: Option<&Placement>) {
        beyond(placement, besides).for_each(|node| self.add_to(node));
    }

    /// A graph has no part any more on the nodes of `placement`, but for those of another one.
    pub(super) fn remove(&mut self, placement: &Placement, besides: Option<&Placement>) {
        beyond(placement, besides).for_each(|node| self.take_from(node));
    }

    pub(super) fn add_to(&mut self, node: &NodeName) {
        self.change(node, |count| count + 1);
    }

    pub(super) fn take_from(&mut self, node: &NodeName) {
        self.change(node, |count| count.saturating_sub(1));
    }

    fn change(&mut self, node: &NodeName, change: impl FnOnce(usize) -> usize) {
        let Some(count) = self.by_node.get_mut(node) else { return };
        let before = std::mem::replace(count, change(*count));
        // One that gets nothing is not in order.
        if let Some((_, name)) = self.in_order.take(&(before, node.clone())) {
            self.in_order.insert((*count, name));
        }
    }
}

/// The nodes of a placement that another one has not.
fn beyond<'a>(placement: &'a Placement, other: Option<&Placement>) -> impl Iterator<Item = &'a NodeName> {
    let is_new = move |node: &&NodeName| other.is_none_or(|other| !other.is_on(node));
    placement.nodes().into_iter().filter(is_new)
}
