//! On how many nodes components should run: asked by who counts that, and not by where they go.

use std::collections::BTreeMap;

use model::linked::LinkedGraph;
use model::name::ComponentName;

/// On how many nodes components should run, where that is more than one: all of a cell on as many as the one that asks for
/// most.
pub(crate) fn replicas(linked: &LinkedGraph) -> BTreeMap<&ComponentName, u64> {
    if linked.replicas.is_empty() {
        return BTreeMap::new();
    }
    let asked = linked.replicas.iter().map(|(name, replicas)| (name, u64::from(*replicas)));
    // One that can be nowhere has no cells.
    let cells = super::cells(linked, None).unwrap_or_default();
    let of_cells = cells.iter().flat_map(|cell| {
        let replicas = u64::try_from(cell.replicas()).unwrap_or(u64::MAX);
        cell.members.iter().map(move |member| (*member, replicas))
    });
    asked.chain(of_cells).collect()
}
