//! Which part of a graph goes on which node: reads the state, returns placements, changes nothing.
//!
//! A graph goes whole to one node, its home, but for the members that require labels the home does not have.
//! *Cells* are the members that must be together: both ends of a link that cannot be carried, and a policy's component
//! without requirements with its caller. Filter: the node is ready, has the labels, offers the capabilities and could
//! hold one instance. Score of a home: the cells with requirements that it meets, then fewest graphs, then name.
//! Memory is not reserved: an idle graph holds no instance, and each node bounds what runs at one time by its own pool.
//! What is placed stays as long as its labels fit; a planned state plans to nothing.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use model::linked::{LinkedGraph, Origin};
use model::name::{ComponentName, NodeName};
use model::node::NodeState;
use model::placement::{Placement, Requirements};

use crate::command::Place;
use crate::state::{GraphRecord, NodeRecord, State};

/// The placements that are wanted and possible now.
pub fn schedule(state: &State) -> Vec<Place> {
    let mut load = graphs_by_node(state);
    let mut places = Vec::new();
    for (key, record) in &state.graphs {
        if settled(&record.linked, Some(record)).is_some() {
            continue;
        }
        let Ok(placement) = place(state, &record.linked, Some(record), &load) else { continue };
        if record.placement.as_ref() == Some(&placement) {
            continue;
        }
        for node in placement.nodes().into_iter().filter(|node| !record.is_on(node)) {
            *load.entry(node.clone()).or_default() += 1;
        }
        places.push(Place {
            key: key.clone(),
            uid: record.uid.clone(),
            generation: record.generation,
            placement,
        });
    }
    places
}

/// Why a graph is on no node: lines about the nodes, or one that says there is none.
pub fn explain(state: &State, record: &GraphRecord) -> Vec<String> {
    match preview(state, &record.linked, Some(record)) {
        Err(why) => why,
        Ok(placement) => {
            let linked = &record.linked;
            let all = linked.components.keys().chain(linked.capabilities.keys()).collect();
            let whole = Cell { members: all, require: Requirements::new() };
            let line = |(name, node): (&NodeName, &NodeRecord)| match refusal(linked, &whole, node)
                .filter(|_| !placement.is_on(name))
            {
                Some(why) => format!("{name} no: {why}"),
                None => format!("{name} fits: it is placed at the next pass"),
            };
            state.nodes.iter().map(line).collect()
        }
    }
}

/// Where a graph that is placed like `record` would go, or a line for each node that hinders it.
pub fn preview(
    state: &State,
    linked: &LinkedGraph,
    record: Option<&GraphRecord>,
) -> Result<Placement, Vec<String>> {
    match settled(linked, record) {
        Some(placement) => Ok(placement.clone()),
        None => place(state, linked, record, &graphs_by_node(state)),
    }
}

/// Where a graph is that is whole on one node and requires nothing: it stays, and need not be looked at further. Most
/// graphs are like that, and each pass goes over all of them.
fn settled<'a>(linked: &LinkedGraph, record: Option<&'a GraphRecord>) -> Option<&'a Placement> {
    let placement = record?.placement.as_ref()?;
    (linked.require.is_empty() && placement.away.is_empty()).then_some(placement)
}

/// What a graph that is placed like `record` requires and no node of the cluster has, whether it is ready or not; none
/// where no node has joined yet.
pub fn unmet(state: &State, linked: &LinkedGraph, record: Option<&GraphRecord>) -> Option<Vec<String>> {
    if linked.require.is_empty() || state.nodes.is_empty() {
        return None;
    }
    let cells = match cells(linked) {
        Ok(cells) => cells,
        Err(why) => return Some(why),
    };
    if let Some(why) = cells.iter().find_map(|cell| stuck(state, record, cell)) {
        return Some(vec![why]);
    }
    let has = |cell: &Cell<'_>| {
        let mut nodes = state.nodes.values();
        nodes.any(|node| node.description.meets(&cell.require) && offers(linked, cell, node).is_none())
    };
    let bound = cells.iter().find(|cell| !cell.require.is_empty() && !has(cell))?;
    Some(refusals(state, linked, bound))
}

type Load = BTreeMap<NodeName, usize>;

fn graphs_by_node(state: &State) -> Load {
    let mut load = Load::new();
    for node in state.graphs.values().filter_map(|record| record.placement.as_ref()).flat_map(Placement::nodes)
    {
        *load.entry(node.clone()).or_default() += 1;
    }
    load
}

/// Members that must be on one node, and what they require of it together.
#[derive(Debug, Default)]
struct Cell<'a> {
    members: BTreeSet<&'a ComponentName>,
    require: Requirements,
}

/// Where everything of a graph goes, or why it cannot go anywhere.
fn place(
    state: &State,
    linked: &LinkedGraph,
    record: Option<&GraphRecord>,
    load: &Load,
) -> Result<Placement, Vec<String>> {
    if state.nodes.is_empty() {
        return Err(vec!["no node has joined: start a node agent".to_owned()]);
    }
    let cells = cells(linked)?;
    let is_bound = |cell: &Cell<'_>| !cell.require.is_empty() || data_of(record, cell).is_some();
    let (bound, free): (Vec<Cell<'_>>, Vec<Cell<'_>>) = cells.into_iter().partition(is_bound);
    let free = Cell {
        members: free.into_iter().flat_map(|cell| cell.members).collect(),
        require: Requirements::new(),
    };
    let home = match record.and_then(|record| record.placement.as_ref()) {
        Some(placement) => placement.home.clone(),
        None => home(state, linked, &free, &bound, load)?,
    };
    let mut away = BTreeMap::new();
    if let Some(why) = bound.iter().find_map(|cell| stuck(state, record, cell)) {
        return Err(vec![why]);
    }
    for cell in &bound {
        let node = node_of(state, linked, record, cell, &home, load)?;
        if node != home {
            away.extend(cell.members.iter().map(|member| ((*member).clone(), node.clone())));
        }
    }
    Ok(Placement { home, away })
}

/// The best home: one that takes what is free, and meets most of what is bound.
fn home(
    state: &State,
    linked: &LinkedGraph,
    free: &Cell<'_>,
    bound: &[Cell<'_>],
    load: &Load,
) -> Result<NodeName, Vec<String>> {
    let met = |node: &NodeRecord| bound.iter().filter(|cell| refusal(linked, cell, node).is_none()).count();
    let takes = |node: &NodeRecord| {
        // With nothing free, the home is just where most of the rest is.
        let has_part = !free.members.is_empty() || bound.is_empty() || met(node) > 0;
        refusal(linked, free, node).is_none() && has_part
    };
    let best = state
        .nodes
        .iter()
        .filter(|(_, node)| takes(node))
        .min_by_key(|(name, node)| (Reverse(met(node)), load.get(*name).copied().unwrap_or(0), *name));
    match (best, bound.first()) {
        (Some((name, _)), _) => Ok(name.clone()),
        (None, Some(cell)) if free.members.is_empty() => Err(refusals(state, linked, cell)),
        (None, _) => Err(refusals(state, linked, free)),
    }
}

/// The node of a cell that requires something: where it is, else the home, else the best that fits.
fn node_of(
    state: &State,
    linked: &LinkedGraph,
    record: Option<&GraphRecord>,
    cell: &Cell<'_>,
    home: &NodeName,
    load: &Load,
) -> Result<NodeName, Vec<String>> {
    let meets = |name: &NodeName| {
        state
            .nodes
            .get(name)
            .is_some_and(|node| node.description.meets(&cell.require) && offers(linked, cell, node).is_none())
    };
    if let Some((_, node)) = data_of(record, cell) {
        return Ok(node.clone());
    }
    let first = cell.members.iter().next();
    let now = first.and_then(|member| Some(record?.placement.as_ref()?.node_of(member)));
    if let Some(now) = now.filter(|now| meets(now)) {
        return Ok(now.clone());
    }
    let fits = state.nodes.iter().filter(|(_, node)| refusal(linked, cell, node).is_none());
    let best =
        fits.min_by_key(|(name, _)| (*name != home, load.get(*name).copied().unwrap_or(0), (*name).clone()));
    best.map(|(name, _)| name.clone()).ok_or_else(|| refusals(state, linked, cell))
}

/// Why a cell cannot go where it is required: a capability has its data where it is, and does not take them along.
fn stuck(state: &State, record: Option<&GraphRecord>, cell: &Cell<'_>) -> Option<String> {
    let (capability, name) = data_of(record, cell)?;
    let lacked = lacked(&cell.require, state.nodes.get(name)?)?;
    Some(format!("{capability} has its data on {name}, which {lacked}, and does not move"))
}

/// A capability of the cell that has data, and the node where it has them.
fn data_of<'a>(record: Option<&'a GraphRecord>, cell: &Cell<'a>) -> Option<(&'a ComponentName, &'a NodeName)> {
    let data = &record?.data;
    cell.members.iter().find_map(|member| Some((*member, data.get(*member)?)))
}

/// The first label that is required and that `node` does not have.
fn lacked(require: &Requirements, node: &NodeRecord) -> Option<String> {
    let (label, value) = require.iter().find(|(label, value)| {
        let one = Requirements::from([((*label).clone(), (*value).clone())]);
        !node.description.meets(&one)
    })?;
    Some(format!("has not the label {label}={value}"))
}

/// The cells of a graph; refuses one whose members require different values of one label.
fn cells(linked: &LinkedGraph) -> Result<Vec<Cell<'_>>, Vec<String>> {
    let members: Vec<&ComponentName> = linked.components.keys().chain(linked.capabilities.keys()).collect();
    // Each member's cell, by the least member of it.
    let mut cell_of: BTreeMap<&ComponentName, &ComponentName> =
        members.iter().map(|name| (*name, *name)).collect();
    for link in &linked.links {
        let Some(to) = link.to.member() else { continue };
        let follows = linked.components.get(to).is_some_and(|c| matches!(c.origin, Origin::Policy(_)))
            && !linked.require.contains_key(to);
        if !link.is_local() && !follows {
            continue;
        }
        let (Some(a), Some(b)) = (cell_of.get(&link.from).copied(), cell_of.get(to).copied()) else { continue };
        let (low, high) = (a.min(b), a.max(b));
        cell_of.values_mut().filter(|cell| **cell == high).for_each(|cell| *cell = low);
    }
    let mut cells: BTreeMap<&ComponentName, Cell<'_>> = BTreeMap::new();
    for (member, cell) in cell_of {
        let cell = cells.entry(cell).or_default();
        cell.members.insert(member);
        for (label, value) in linked.require.get(member).into_iter().flatten() {
            let known = cell.require.insert(label.clone(), value.clone());
            if let Some(known) = known.filter(|known| known != value) {
                return Err(vec![format!(
                    "{} must be on one node, but {label}={known} and {label}={value} are required of it",
                    names(cell)
                )]);
            }
        }
    }
    Ok(cells.into_values().collect())
}

fn names(cell: &Cell<'_>) -> String {
    cell.members.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ")
}

/// A line for each node: why it cannot take this cell.
fn refusals(state: &State, linked: &LinkedGraph, cell: &Cell<'_>) -> Vec<String> {
    let whose = if cell.require.is_empty() { String::new() } else { format!("{}: ", names(cell)) };
    let line = |(name, node): (&NodeName, &NodeRecord)| {
        let why = refusal(linked, cell, node).unwrap_or_else(|| "fits, with too little else".to_owned());
        format!("{whose}{name} no: {why}")
    };
    state.nodes.iter().map(line).collect()
}

/// Why `node` cannot take the cell, if it cannot.
fn refusal(linked: &LinkedGraph, cell: &Cell<'_>, node: &NodeRecord) -> Option<String> {
    if node.state != NodeState::Ready {
        return Some(node.state.to_string());
    }
    if let Some(lacked) = lacked(&cell.require, node) {
        return Some(lacked);
    }
    if let Some(missing) = offers(linked, cell, node) {
        return Some(format!("offers no {missing}"));
    }
    let capacity = node.description.capacity.memory_bytes;
    let need = linked.memory_bytes(|name| cell.members.contains(name));
    (need > capacity).then(|| format!("has {} MiB, needs {} MiB", capacity >> 20, need.div_ceil(1 << 20)))
}

/// The first capability of the cell that `node` does not offer.
fn offers(linked: &LinkedGraph, cell: &Cell<'_>, node: &NodeRecord) -> Option<&'static str> {
    let offered = &node.description.capabilities;
    let wanted = linked.capabilities.iter().filter(|(name, _)| cell.members.contains(name));
    wanted.map(|(_, spec)| spec.type_name()).find(|wanted| !offered.iter().any(|offer| offer == wanted))
}
