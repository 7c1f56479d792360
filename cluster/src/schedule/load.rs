//! How much each node has.

use std::collections::{BTreeMap, BTreeSet};

use model::id::GraphKey;
use model::name::NodeName;
use model::placement::Placement;

use super::reserved::Reservations;
use super::zone_of;
use crate::state::{GraphRecord, State};

/// How many graphs have a part on each node, the nodes by that, and what is kept there for them.
pub(super) struct Load<'a> {
    by_node: BTreeMap<&'a NodeName, usize>,
    pub(super) in_order: BTreeSet<(usize, &'a NodeName)>,
    /// The zones of the nodes that get work.
    pub(super) zones: BTreeSet<&'a str>,
    pub(super) kept: Reservations<'a>,
}

impl<'a> Load<'a> {
    pub(super) fn of(state: &'a State) -> Self {
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
        let in_order = by_node.iter().map(|(name, count)| (*count, *name)).collect();
        let open = state.nodes.values().filter(|node| node.refuses().is_none());
        Self { by_node, in_order, zones: open.map(zone_of).collect(), kept: Reservations::of(state) }
    }

    pub(super) fn on(&self, node: &NodeName) -> usize {
        self.by_node.get(node).copied().unwrap_or_default()
    }

    /// A graph is placed so from now on.
    pub(super) fn place(&mut self, (key, record): (&'a GraphKey, &'a GraphRecord), placement: &Placement) {
        for node in placement.nodes().into_iter().filter(|node| !record.is_on(node)) {
            self.add(node);
        }
        if key.is_candidate || record.linked.reserves.is_empty() {
            return;
        }
        for node in record.placement.iter().flat_map(Placement::nodes) {
            self.kept.forget(node, &record.uid);
        }
        for node in placement.nodes() {
            if let Some((&name, _)) = self.by_node.get_key_value(node) {
                self.kept.keep(name, (key, &record.uid), &record.linked, placement);
            }
        }
    }

    pub(super) fn add(&mut self, node: &NodeName) {
        self.change(node, |count| count + 1);
    }

    pub(super) fn take(&mut self, node: &NodeName) {
        self.change(node, |count| count.saturating_sub(1));
    }

    fn change(&mut self, node: &NodeName, change: impl FnOnce(usize) -> usize) {
        let Some((&name, &before)) = self.by_node.get_key_value(node) else { return };
        let now = change(before);
        // One that gets nothing is not in order.
        if self.in_order.remove(&(before, name)) {
            self.in_order.insert((now, name));
        }
        self.by_node.insert(name, now);
    }
}
