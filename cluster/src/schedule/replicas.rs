//! On how many nodes components should run: asked by who counts that, and not by where they go.

use std::collections::BTreeMap;

use model::linked::LinkedGraph;
use model::name::ComponentName;
use model::placement::EACH_NODE_MAX;

/// On how many nodes components may come to run, where that is more than one, in a cluster of so many: all of a cell on as many
/// as the one that asks for most. What is scaled by its calls counts as often as it may be there, and what runs on each node
/// as often as there are nodes, up to as many as it can be on: all nodes count, whether they take it or not.
pub(crate) fn replicas(linked: &LinkedGraph, nodes: usize) -> BTreeMap<&ComponentName, u64> {
    if !linked.is_spread() {
        return BTreeMap::new();
    }
    let nodes = u64::try_from(nodes.clamp(1, EACH_NODE_MAX)).unwrap_or(u64::MAX);
    let fixed = linked.replicas.iter().map(|(name, replicas)| (name, u64::from(*replicas)));
    let scaled = linked.scaling.iter().map(|(name, scaling)| (name, u64::from(scaling.max())));
    let on_each = linked.each_node.iter().map(|name| (name, nodes));
    let mut asked: BTreeMap<&ComponentName, u64> = fixed.chain(scaled).chain(on_each).collect();
    // One that can be nowhere has no cells.
    for cell in super::cells(linked, None, None).unwrap_or_default() {
        let most = cell.members.iter().filter_map(|member| asked.get(*member)).max().copied();
        let members = cell.members.iter().filter(|_| most.is_some());
        asked.extend(members.map(|member| (*member, most.unwrap_or(1))));
    }
    asked
}
