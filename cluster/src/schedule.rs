//! Which part of a graph goes on which node: reads the state, returns placements, changes nothing.
//!
//! A graph goes whole to one node, its home, but for the members that require what the home is not, and for those that run
//! on several nodes: these have others besides, in as many zones as there are. Where taints alone keep all of the rest off
//! every node, that is parted too.
//! *Cells* are the members that must be together: both ends of a link that cannot be carried, and a policy's component
//! without requirements with its caller. Filter: the node is ready, has the labels and no taint that is not tolerated, offers
//! the capabilities and could hold one instance. Score of a home: the cells with requirements that it meets, then the wishes
//! that it meets, then fewest graphs, then name.
//! An idle graph holds no instance, and each node bounds what runs at one time by its own pool: only what a graph asks to
//! have reserved is counted, and must have room.
//! What is placed stays as long as its labels fit and its nodes are there, whatever it wishes and however they are tainted:
//! it is moved off nodes that are down or drained, but for graphs that have data there. Where most of a zone is lost at one
//! time, it is more likely cut off than gone, and nothing is moved off it. A planned state plans to nothing.

mod each_node;
mod filter;
mod forecast;
mod load;
mod planner;
mod rebalance;
mod replicas;
mod requirements;
mod reserved;
mod suspects;
mod wishes;

use std::cell::OnceCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use model::id::GraphKey;
use model::linked::LinkedGraph;
use model::name::{ComponentName, NodeName};
use model::node::{Admission, KNOWS_CANDIDATES, NodeState};
use model::placement::{Placement, Wishes, ZONE_LABEL};
use model::reserve::Reserve;

use crate::command::Place;
use crate::feature::MOVES;
use crate::scaling::wanted;
use crate::state::{GraphRecord, NodeRecord, State};

use filter::{meets, names, refusal, refusals, serves_alone};
use load::Load;
use requirements::{Required, lacked};
use reserved::{Given, Placed, Room, is_crowded, place};

pub(crate) use each_node::has_each_node_part_alone;
pub use forecast::forecast;
pub use planner::Planner;
pub use rebalance::{REBALANCE_MAX, rebalance};
pub(crate) use replicas::replicas;
pub use reserved::Reservations;
pub(crate) use reserved::reserved;

/// Nodes of a zone that are lost before it counts as cut off.
pub const CUT_OFF_LEAST: usize = 3;
/// How long nothing is moved off nodes that are still down when half of their zone is back, in milliseconds: those of a
/// network that was cut come back one after the other, each after its agent's pause between two tries.
pub const MOVES_RESUME_MS: u64 = 30_000;
/// Nodes that are named, each with its reason, where a component is on fewer nodes than it should be.
const REFUSALS_SHOWN: usize = 5;
/// Why what runs on each node stays on one that is down.
const NOT_REPLACED: &str =
    "what it has runs on each node and is not replaced: it answers there again once the node is back";

/// The zones of which more than half of the nodes are down, and how many of how many; nodes without a zone are one.
pub fn cut_off(state: &State) -> BTreeMap<&str, (usize, usize)> {
    let mut zones: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    // Mostly none is down, and each pass asks.
    let are_down = state.nodes.values().filter(|node| node.state == NodeState::Down);
    if are_down.take(CUT_OFF_LEAST).count() < CUT_OFF_LEAST {
        return zones;
    }
    for node in state.nodes.values() {
        let (down, all) = zones.entry(zone_of(node)).or_default();
        *down += usize::from(node.state == NodeState::Down);
        *all += 1;
    }
    zones.retain(|_, (down, all)| *down >= CUT_OFF_LEAST && *down * 2 > *all);
    zones
}

pub(crate) fn zone_of(node: &NodeRecord) -> &str {
    node.label(ZONE_LABEL).unwrap_or_default()
}

/// What no graph stays on, for as long as one state is looked at.
struct Lost<'a> {
    state: &'a State,
    now_ms: u64,
    cut_off: BTreeMap<&'a str, (usize, usize)>,
    /// Mostly there are none.
    nodes: BTreeSet<&'a NodeName>,
}

impl<'a> Lost<'a> {
    fn at(state: &'a State, now_ms: u64) -> Self {
        let mut lost = Self { state, now_ms, cut_off: cut_off(state), nodes: BTreeSet::new() };
        if state.level() >= MOVES {
            let is_left = |(_, node): &(&NodeName, &NodeRecord)| lost.is_left(node);
            lost.nodes = state.nodes.iter().filter(is_left).map(|(name, _)| name).collect();
        }
        lost
    }

    /// As it was when the state last changed.
    fn of(state: &'a State) -> Self {
        Self::at(state, state.now_ms)
    }

    /// Until when nothing is moved off a node that is down, if it is waited for.
    fn stays_until_ms(&self, node: &NodeRecord) -> Option<u64> {
        node.stays_until_ms.filter(|until_ms| *until_ms > self.now_ms)
    }

    fn is_left(&self, node: &NodeRecord) -> bool {
        match (node.admission, node.state) {
            (Admission::Draining { .. }, _) => true,
            (_, NodeState::Down) => {
                !self.cut_off.contains_key(zone_of(node)) && self.stays_until_ms(node).is_none()
            }
            (_, NodeState::Ready) => false,
        }
    }

    /// The same, with these nodes as well.
    fn and<'b>(&self, nodes: &BTreeSet<&'b NodeName>) -> Lost<'b>
    where
        'a: 'b,
    {
        let nodes = self.nodes.iter().chain(nodes).copied().collect();
        Lost { state: self.state, now_ms: self.now_ms, cut_off: self.cut_off.clone(), nodes }
    }

    /// Whether what is on a node is to be moved off it.
    fn has(&self, name: &NodeName) -> bool {
        self.nodes.contains(name)
    }
}

/// The placements that are wanted and possible at a time, milliseconds since 1970.
pub fn schedule(state: &State, now_ms: u64) -> Vec<Place> {
    Planner::default().plan(state, now_ms, &BTreeSet::new())
}

/// Where a candidate goes: it stays where it is, as graphs do, and where it has to be placed that is where its graph is or goes
/// (`base`), as far as it can, because that is where its artifacts and its data are. Its agents must know what it is.
fn place_candidate(
    lost: &Lost<'_>,
    key: &GraphKey,
    record: &GraphRecord,
    base: Option<&Placement>,
    load: &Load<'_>,
) -> Result<Placement, Vec<String>> {
    let of_state = lost.state.graphs.get(&key.base()).and_then(|graph| graph.placement.as_ref());
    let stays = |own: &&Placement| !lost.has(&own.home) || record.data.values().any(|at| lost.has(at));
    let own = record.placement.as_ref().filter(stays);
    let Some(now) = own.or(base).or(of_state) else {
        return Err(vec![format!("{} has no place yet", key.base())]);
    };
    let beside = GraphRecord { placement: Some(now.clone()), ..record.clone() };
    let placement = match settled(lost, &record.linked, Some(&beside)) {
        Some(placement) => placement.clone(),
        // What is kept for its graph is kept for it.
        None => place_with(lost, &record.linked, Some(&beside), load, None)?,
    };
    let is_too_old = |name: &&&NodeName| {
        lost.state.nodes.get(**name).is_none_or(|node| node.description.level < KNOWS_CANDIDATES)
    };
    let nodes = placement.nodes();
    match nodes.iter().find(is_too_old) {
        None => Ok(placement),
        Some(name) => {
            Err(vec![format!("{name} no: its agent is of an earlier version, which knows no candidates")])
        }
    }
}

/// Why a graph is on no node: lines about the nodes, or one that says there is none.
pub fn explain(state: &State, key: &GraphKey, record: &GraphRecord) -> Vec<String> {
    let placed = if key.is_candidate {
        place_candidate(&Lost::of(state), key, record, None, &Load::of(state))
    } else {
        preview(state, &record.linked, Some(record))
    };
    match placed {
        Err(why) => why,
        Ok(placement) => {
            let linked = &record.linked;
            let load = (!linked.reserves.is_empty()).then(|| Load::of(state));
            let room = load.as_ref().and_then(|load| reserved::room(load, state, linked, Some(record)));
            let whole = Cell { reserve: linked.reserve_together(|_| true), room, ..Cell::whole(linked) };
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
    let lost = Lost::of(state);
    let stays = settled(&lost, linked, record);
    // Mostly nothing is reserved, and what is on the nodes need not be counted.
    if let Some(placement) = stays.filter(|_| linked.reserves.is_empty()) {
        return Ok(placement.clone());
    }
    let (load, placed) = (Load::of(state), Placed::of(state, record));
    match stays.filter(|_| !is_crowded(&load, state, linked, placed)) {
        Some(placement) => Ok(placement.clone()),
        None => place(&lost, linked, record, placed, &load),
    }
}

/// Why a part of a graph stays on a node that is down or drained, if it does.
pub fn stays(state: &State, record: &GraphRecord, name: &NodeName) -> Option<String> {
    let node = state.nodes.get(name)?;
    let lost = Lost::of(state);
    if !lost.has(name) {
        if lost.stays_until_ms(node).is_some() {
            let seconds = MOVES_RESUME_MS / 1_000;
            return Some(format!(
                "its zone was cut off until a moment ago: it is waited for {seconds} s, as the others came back"
            ));
        }
        let (down, all) = lost.cut_off.get(zone_of(node)).filter(|_| node.state == NodeState::Down)?;
        return Some(format!(
            "{down} of {all} nodes of its zone are down, which is more than half: nothing is moved off them, because they \
             may be cut off and go on serving. Remove those that are gone for good"
        ));
    }
    if let Some((capability, at)) = record.data.iter().find(|(_, at)| lost.has(at)) {
        return Some(format!("{capability} has its data on {at} and does not move"));
    }
    let linked = &record.linked;
    let is_drained = matches!(node.admission, Admission::Draining { .. });
    // To place a graph takes long, and what is known of its place is enough: what runs on each node leaves none that is down.
    let now = record.placement.as_ref().filter(|_| !is_drained);
    if now.is_some_and(|now| has_each_node_part_alone(linked, now, name)) {
        return Some(NOT_REPLACED.to_owned());
    }
    let placed = Placed::of(state, Some(record));
    match place(&lost, linked, Some(record), placed, &Load::of(state)) {
        Err(why) => Some(why.join("; ")),
        Ok(placement) if has_each_node_part_alone(linked, &placement, name) => Some(NOT_REPLACED.to_owned()),
        Ok(placement) if placement.is_on(name) => {
            let others = missing_of(state, linked, Some(record), &placement, |node| node == name);
            Some(others.unwrap_or_else(|| "no other node takes it".to_owned()))
        }
        Ok(_) => None,
    }
}

/// Which components are on fewer nodes than they should be, and why; none where all are.
/// `record` is the graph as it is, or as it is before it is linked so.
pub fn missing(
    state: &State,
    linked: &LinkedGraph,
    record: Option<&GraphRecord>,
    placement: &Placement,
) -> Option<String> {
    missing_of(state, linked, record, placement, |_| false)
}

fn missing_of(
    state: &State,
    linked: &LinkedGraph,
    record: Option<&GraphRecord>,
    placement: &Placement,
    is_lost: impl Fn(&NodeName) -> bool,
) -> Option<String> {
    if !linked.is_spread() {
        return None;
    }
    let mut lines = Vec::new();
    let load = OnceCell::new();
    let given = Given::of(linked, placement);
    for cell in cells(linked, record, Some(placement)).ok()? {
        let Some(first) = cell.members.iter().next() else { continue };
        let has: BTreeSet<&NodeName> = placement.nodes_of(first).filter(|node| !is_lost(node)).collect();
        if !cell.each_node && has.len() >= cell.replicas() {
            continue;
        }
        // Mostly all is there, and to count what is reserved takes long.
        let room = (!cell.reserve.is_none()).then(|| load.get_or_init(|| Load::of(state)));
        let room = room.and_then(|load| reserved::room(load, state, linked, record));
        let cell = Cell { room, ..cell };
        let cell = &*cell.beside(&given);
        if cell.each_node {
            lines.extend(each_node::missing(state, linked, cell, &has));
            continue;
        }
        let mut why: Vec<String> = state
            .nodes
            .iter()
            .filter(|(name, _)| !has.contains(*name))
            .filter_map(|(name, node)| Some(format!("{name} no: {}", refusal(linked, cell, node)?)))
            .collect();
        let more = why.len().saturating_sub(REFUSALS_SHOWN);
        why.truncate(REFUSALS_SHOWN);
        if more > 0 {
            why.push(format!("and {more} more"));
        }
        if state.nodes.len() <= has.len() {
            why.push("there are no other nodes".to_owned());
        }
        let (names, count) = (names(cell), has.len());
        lines.push(format!("{names} on {count} of {} nodes: {}", cell.replicas(), why.join("; ")));
    }
    (!lines.is_empty()).then(|| lines.join(". "))
}

/// Where a graph is that has all it asks for: it stays. That is sooner seen than found out by placing it, and a pass may go
/// over all graphs. A graph of which it does not say so is placed, which may come to the same.
fn settled<'a>(
    lost: &Lost<'_>,
    linked: &LinkedGraph,
    record: Option<&'a GraphRecord>,
) -> Option<&'a Placement> {
    let record = record?;
    let placement = record.placement.as_ref()?;
    if !linked.each_node.is_empty() {
        // Each node is asked.
        return None;
    }
    let is_served_alone = |name: &NodeName| {
        let is_there = |member: &ComponentName| placement.runs_on(member, name);
        lost.state.nodes.get(name).is_some_and(|node| serves_alone(linked, is_there, node))
    };
    if linked.stops_in_isolation(|_| true) && placement.nodes().into_iter().any(is_served_alone) {
        return None;
    }
    if !placement.is_parted() {
        if lost.has(&placement.home) {
            return None;
        }
        if linked.require.is_empty() && !linked.is_spread() {
            return record.data.values().all(|node| *node == placement.home).then_some(placement);
        }
    } else if placement.nodes().into_iter().any(|node| lost.has(node)) {
        return None;
    }
    let node = |name: &NodeName| lost.state.nodes.get(name);
    let is_asked_for = placement.away.keys().all(|member| linked.require.contains_key(member))
        && placement.more.keys().all(|member| is_counted(linked, member));
    let are_as_many = linked.replicas.keys().chain(linked.scaling.keys()).all(|member| {
        let count = placement.nodes_of(member).count();
        u32::try_from(count).is_ok_and(|count| count == wanted(linked, Some(record), member))
    });
    let is_met = linked.require.iter().all(|(member, require)| {
        let mut nodes = placement.nodes_of(member);
        nodes.all(|name| node(name).is_some_and(|node| node.meets(require)))
    });
    let is_offered = linked.capabilities.iter().all(|(member, spec)| {
        let offers =
            |node: &NodeRecord| node.description.capabilities.iter().any(|name| name == spec.type_name());
        node(placement.first_node_of(member)).is_some_and(offers)
    });
    let are_together = linked.links.iter().filter(|link| linked.joins(link)).all(|link| {
        link.to.member().is_none_or(|to| placement.nodes_of(&link.from).eq(placement.nodes_of(to)))
    });
    let has_home = linked.members().any(|member| !placement.away.contains_key(member));
    let has_data = record.data.iter().all(|(member, node)| placement.first_node_of(member) == node);
    let stays = has_home && is_asked_for && are_as_many && is_met && is_offered && are_together && has_data;
    stays.then_some(placement)
}

/// Whether a graph says on how many nodes a member runs.
fn is_counted(linked: &LinkedGraph, member: &ComponentName) -> bool {
    linked.replicas.contains_key(member) || linked.scaling.contains_key(member)
}

/// What a graph that is placed like `record` requires and no node of the cluster has, whether it is ready or not; none
/// where no node has joined yet.
pub fn unmet(state: &State, linked: &LinkedGraph, record: Option<&GraphRecord>) -> Option<Vec<String>> {
    if linked.require.is_empty() || state.nodes.is_empty() {
        return None;
    }
    let cells = match cells(linked, record, None) {
        Ok(cells) => cells,
        Err(why) => return Some(why),
    };
    if let Some(why) = cells.iter().find_map(|cell| stuck(state, record, cell)) {
        return Some(vec![why]);
    }
    let has = |cell: &Cell<'_>| {
        let mut nodes = state.nodes.values();
        nodes.any(|node| meets(linked, cell, node))
    };
    let bound = cells.iter().find(|cell| !cell.require.is_empty() && !has(cell))?;
    Some(refusals(state, linked, bound))
}

/// Members that must be on one node, what they require of it together, and on how many nodes all of them should be.
#[derive(Clone, Default)]
struct Cell<'a> {
    members: BTreeSet<&'a ComponentName>,
    require: Vec<Required<'a>>,
    /// Beyond the first.
    more: usize,
    /// Whether it runs on each node that takes it, whatever `more` says.
    each_node: bool,
    /// Of the members by which one node is better than another.
    wishes: Vec<&'a Wishes>,
    /// Where the graph is now: what is on a node already is not kept off it by its taints.
    now: Option<&'a Placement>,
    /// What is reserved for its members on each of its nodes.
    reserve: Reserve,
    /// The room for that, where it is asked for.
    room: Option<Room<'a>>,
}

impl<'a> Cell<'a> {
    /// All of a graph, as if nothing were required of it.
    fn whole(linked: &'a LinkedGraph) -> Self {
        Self { members: linked.members().collect(), ..Self::default() }
    }

    /// These cells as if they were one.
    fn all_of(linked: &LinkedGraph, cells: &[Self], now: Option<&'a Placement>) -> Self {
        Self {
            members: cells.iter().flat_map(|cell| cell.members.iter().copied()).collect(),
            wishes: cells.iter().flat_map(|cell| cell.wishes.iter().copied()).collect(),
            now,
            reserve: linked.reserve_together(|member| cells.iter().any(|cell| cell.members.contains(member))),
            room: cells.iter().find_map(|cell| cell.room),
            ..Self::default()
        }
    }

    const fn replicas(&self) -> usize {
        self.more + 1
    }

    const fn is_on_several(&self) -> bool {
        self.more > 0 || self.each_node
    }
}

/// Where everything of a graph goes, or why it cannot go anywhere. What is reserved for it must have `room`, if it is asked.
fn place_with(
    lost: &Lost<'_>,
    linked: &LinkedGraph,
    record: Option<&GraphRecord>,
    load: &Load<'_>,
    room: Option<Room<'_>>,
) -> Result<Placement, Vec<String>> {
    let state = lost.state;
    if state.nodes.is_empty() {
        return Err(vec!["no node has joined: start a node agent".to_owned()]);
    }
    let now = record.and_then(|record| record.placement.as_ref());
    let mut cells = cells(linked, record, now)?;
    cells.iter_mut().for_each(|cell| cell.room = room);
    let is_bound = |cell: &Cell<'_>| !cell.require.is_empty() || data_of(record, cell).is_some();
    let (mut bound, loose): (Vec<Cell<'_>>, Vec<Cell<'_>>) = cells.into_iter().partition(is_bound);
    let free = Cell::all_of(linked, &loose, now);
    // What was parted because of taints is so until its home takes all of it.
    let is_parted = |now: &&Placement| free.members.iter().any(|member| now.away.contains_key(*member));
    let takes_all =
        |now: &Placement| state.nodes.get(&now.home).is_some_and(|node| refusal(linked, &free, node).is_none());
    if now.filter(is_parted).is_none_or(takes_all) {
        let together = place_cells(lost, linked, record, load, &bound, &loose);
        let Err(why) = together else { return together };
        if loose.len() < 2 || !state.nodes.values().any(|node| wishes::keep_off_alone(linked, &free, node)) {
            return Err(why);
        }
        bound.extend(loose);
        return place_cells(lost, linked, record, load, &bound, &[]).map_err(|_| why);
    }
    bound.extend(loose);
    place_cells(lost, linked, record, load, &bound, &[])
}

/// Where everything of a graph goes of which the bound cells go each where it can, and the loose ones to one home.
fn place_cells(
    lost: &Lost<'_>,
    linked: &LinkedGraph,
    record: Option<&GraphRecord>,
    load: &Load<'_>,
    bound: &[Cell<'_>],
    loose: &[Cell<'_>],
) -> Result<Placement, Vec<String>> {
    let state = lost.state;
    let now = record.and_then(|record| record.placement.as_ref());
    let free = Cell::all_of(linked, loose, now);
    // Without its data it is of no use elsewhere.
    if let Some(now) = now.filter(|_| bound.iter().any(|cell| is_at_lost(lost, record, cell))) {
        return Ok(now.clone());
    }
    let is_there = |member: &ComponentName| free.members.contains(member);
    let stays = |now: &&Placement| {
        let node = state.nodes.get(&now.home);
        !lost.has(&now.home) && !node.is_some_and(|node| serves_alone(linked, is_there, node))
    };
    let home = match now.filter(stays) {
        Some(placement) => placement.home.clone(),
        None => match now.and_then(|now| heir(lost, linked, &free, now, load)) {
            Some(node) => node.clone(),
            None => home(state, linked, &free, bound, load)?,
        },
    };
    if let Some(why) = bound.iter().find_map(|cell| stuck(state, record, cell)) {
        return Err(vec![why]);
    }
    let mut placement = Placement::whole(home.clone());
    let mut given = Given::default();
    given.add(&home, &free);
    for cell in bound {
        let node = node_of(lost, linked, record, &cell.beside(&given), &home, load)?;
        given.add(&node, cell);
        if node != home {
            placement.away.extend(cell.members.iter().map(|member| ((*member).clone(), node.clone())));
        }
    }
    // A home that has nothing would be one that cannot be drained.
    let has_home = linked.members().any(|member| !placement.away.contains_key(member));
    if let Some(node) = placement.away.values().next().filter(|_| !has_home).cloned() {
        placement.away.retain(|_, other| *other != node);
        placement.home = node;
    }
    for cell in bound.iter().chain(loose).filter(|cell| cell.is_on_several()) {
        let Some(member) = cell.members.iter().next() else { continue };
        let first = placement.first_node_of(member).clone();
        let beside = cell.beside(&given);
        let others = if cell.each_node {
            each_node::others(lost, linked, now, &beside, &first)
        } else {
            others(lost, linked, now, &beside, &first, load)
        };
        others.iter().for_each(|node| given.add(node, cell));
        if !others.is_empty() {
            placement.more.extend(cell.members.iter().map(|member| ((*member).clone(), others.clone())));
        }
    }
    // Which of its nodes is the first of a member makes no difference to it.
    let is_same = |now: &&Placement| {
        let nodes =
            |placement: &Placement, member| placement.nodes_of(member).cloned().collect::<BTreeSet<_>>();
        // Where nothing is any more it must not be said to be.
        now.nodes() == placement.nodes()
            && now.away.keys().chain(now.more.keys()).all(|member| has(linked, member))
            && linked.members().all(|member| nodes(now, member) == nodes(&placement, member))
    };
    Ok(now.filter(is_same).cloned().unwrap_or(placement))
}

fn has(linked: &LinkedGraph, member: &ComponentName) -> bool {
    linked.components.contains_key(member) || linked.capabilities.contains_key(member)
}

/// One of the nodes that run a component of a graph whose home is lost, if it takes all of the rest.
fn heir<'a>(
    lost: &Lost<'_>,
    linked: &LinkedGraph,
    free: &Cell<'_>,
    now: &'a Placement,
    load: &Load<'_>,
) -> Option<&'a NodeName> {
    let has_part = now.more.iter().filter(|(member, _)| free.members.contains(member));
    let takes = |name: &&NodeName| {
        !lost.has(name) && lost.state.nodes.get(*name).is_some_and(|node| refusal(linked, free, node).is_none())
    };
    let nodes: BTreeSet<&NodeName> = has_part.flat_map(|(_, nodes)| nodes).filter(takes).collect();
    let wished = |name: &NodeName| lost.state.nodes.get(name).map(|node| wishes::met(free, node));
    nodes.into_iter().min_by_key(|name| (Reverse(wished(name)), load.counts.on(name), *name))
}

/// The nodes of a cell besides its first: those that it has, as far as they fit and it needs as many, and others that
/// fit, in zones with few of them. Where there are too few, it keeps those that are down: they may come back.
fn others(
    lost: &Lost<'_>,
    linked: &LinkedGraph,
    now: Option<&Placement>,
    cell: &Cell<'_>,
    first: &NodeName,
    load: &Load<'_>,
) -> BTreeSet<NodeName> {
    let nodes = &lost.state.nodes;
    let fits = |name: &NodeName| nodes.get(name).is_some_and(|node| meets(linked, cell, node));
    let has = now.zip(cell.members.iter().next()).into_iter().flat_map(|(now, member)| now.nodes_of(member));
    let (mut kept, left): (Vec<&NodeName>, Vec<&NodeName>) =
        has.filter(|name| *name != first && fits(name)).partition(|name| !lost.has(name));
    let mut chosen: BTreeSet<&NodeName> = BTreeSet::new();
    let zone = |name: &NodeName| nodes.get(name).map(zone_of).unwrap_or_default();
    let wished = |name: &NodeName| nodes.get(name).map(|node| wishes::met(cell, node));
    let mut by_zone: BTreeMap<&str, usize> = BTreeMap::from([(zone(first), 1)]);
    while chosen.len() < cell.more {
        let in_zone = |name: &NodeName| by_zone.get(zone(name)).copied().unwrap_or_default();
        let rank = |name: &NodeName| (in_zone(name), Reverse(wished(name)), load.counts.on(name));
        let ranked = kept.iter().map(|name| (rank(name), *name));
        let Some((_, best)) = ranked.min() else { break };
        kept.retain(|name| *name != best);
        chosen.insert(best);
        *by_zone.entry(zone(best)).or_default() += 1;
    }
    while chosen.len() < cell.more {
        let fewest =
            load.counts.zones.iter().map(|zone| by_zone.get(zone.as_str()).copied().unwrap_or_default()).min();
        let mut best: Option<((usize, Reverse<i64>), &NodeName)> = None;
        for (_, name) in &load.counts.in_order {
            let Some(node) = nodes.get(name) else { continue };
            let zone = zone_of(node);
            let count = by_zone.get(zone).copied().unwrap_or_default();
            let rank = (count, Reverse(wishes::met(cell, node)));
            let is_better = best.is_none_or(|(least, _)| rank < least);
            if !is_better || name == first || chosen.contains(name) || refusal(linked, cell, node).is_some() {
                continue;
            }
            best = Some((rank, name));
            // By load: of those in zones with as few that are wished for as much the first is the best.
            if Some(count) == fewest && cell.wishes.is_empty() {
                break;
            }
        }
        let Some((_, name)) = best else { break };
        chosen.insert(name);
        *by_zone.entry(zone(name)).or_default() += 1;
    }
    let is_down = |name: &&&NodeName| {
        nodes.get(**name).is_some_and(|node| node.state == NodeState::Down && node.admission == Admission::Open)
    };
    let missing = cell.more.saturating_sub(chosen.len());
    chosen.extend(left.iter().filter(is_down).take(missing));
    chosen.into_iter().cloned().collect()
}

/// The best home: one that takes what is free, and meets most of what is bound.
fn home(
    state: &State,
    linked: &LinkedGraph,
    free: &Cell<'_>,
    bound: &[Cell<'_>],
    load: &Load<'_>,
) -> Result<NodeName, Vec<String>> {
    let met = |node: &NodeRecord| bound.iter().filter(|cell| refusal(linked, cell, node).is_none()).count();
    let takes = |node: &NodeRecord| {
        // With nothing free, the home is just where most of the rest is.
        let has_part = !free.members.is_empty() || bound.is_empty() || met(node) > 0;
        refusal(linked, free, node).is_none() && has_part
    };
    let is_wishing = std::iter::once(free).chain(bound).any(|cell| !cell.wishes.is_empty());
    // Of everything that would be there.
    let wished = |node: &NodeRecord| {
        let there =
            bound.iter().filter(|cell| !cell.wishes.is_empty() && refusal(linked, cell, node).is_none());
        there.map(|cell| wishes::met(cell, node)).sum::<i64>() + wishes::met(free, node)
    };
    // By load: of those that meet as much the first is the best, and where one meets all, no other is better.
    let mut best: Option<((usize, i64), &NodeName)> = None;
    for (_, name) in &load.counts.in_order {
        let Some(node) = state.nodes.get(name).filter(|node| takes(node)) else { continue };
        let rank = (met(node), if is_wishing { wished(node) } else { 0 });
        if best.is_none_or(|(most, _)| rank > most) {
            best = Some((rank, name));
        }
        if rank.0 == bound.len() && !is_wishing {
            break;
        }
    }
    match (best, bound.first()) {
        (Some((_, name)), _) => Ok(name.clone()),
        (None, Some(cell)) if free.members.is_empty() => Err(refusals(state, linked, cell)),
        (None, _) => Err(refusals(state, linked, free)),
    }
}

/// The node of a cell that requires something: where it is, else the home, else the best that fits, by its wishes first.
fn node_of(
    lost: &Lost<'_>,
    linked: &LinkedGraph,
    record: Option<&GraphRecord>,
    cell: &Cell<'_>,
    home: &NodeName,
    load: &Load<'_>,
) -> Result<NodeName, Vec<String>> {
    let state = lost.state;
    let stays = |name: &NodeName| state.nodes.get(name).is_some_and(|node| meets(linked, cell, node));
    let first = cell.members.iter().next();
    let now = first.and_then(|member| Some(record?.placement.as_ref()?.first_node_of(member)));
    if let Some((capability, node)) = data_of(record, cell) {
        // One that came back to its data, of an earlier revision, is new there.
        let refuses = state.nodes.get(node).and_then(NodeRecord::refuses).filter(|_| now != Some(node));
        return match refuses {
            Some(why) => Err(vec![format!("{capability} has its data on {node}, which is {why}")]),
            None => Ok(node.clone()),
        };
    }
    if let Some(now) = now.filter(|now| stays(now) && !lost.has(now)) {
        return Ok(now.clone());
    }
    let fits =
        |name: &&NodeName| state.nodes.get(*name).is_some_and(|node| refusal(linked, cell, node).is_none());
    let mut by_load = load.counts.in_order.iter().map(|(_, name)| name).filter(fits);
    let wished = |name: &&NodeName| Reverse(state.nodes.get(*name).map(|node| wishes::met(cell, node)));
    let best = match Some(home).filter(fits) {
        Some(home) => Some(home),
        None if cell.wishes.is_empty() => by_load.next(),
        // Of those that are wished for as much, the first.
        None => by_load.min_by_key(wished),
    };
    best.cloned().ok_or_else(|| refusals(state, linked, cell))
}

/// Why a cell cannot go where it is required: a capability has its data where it is, and does not take them along.
fn stuck(state: &State, record: Option<&GraphRecord>, cell: &Cell<'_>) -> Option<String> {
    let (capability, name) = data_of(record, cell)?;
    let lacked = lacked(&cell.require, state.nodes.get(name)?)?;
    Some(format!("{capability} has its data on {name}, which {lacked}, and does not move"))
}

/// Whether a cell has data on a node that it would have to leave.
fn is_at_lost(lost: &Lost<'_>, record: Option<&GraphRecord>, cell: &Cell<'_>) -> bool {
    data_of(record, cell).is_some_and(|(_, name)| lost.has(name))
}

/// A capability of the cell that has data, and the node where it has them.
fn data_of<'a>(record: Option<&'a GraphRecord>, cell: &Cell<'a>) -> Option<(&'a ComponentName, &'a NodeName)> {
    let data = &record?.data;
    cell.members.iter().find_map(|member| Some((*member, data.get(*member)?)))
}

/// The cells of a graph that is where `now` says, and goes on from `record`; refuses one whose members require different
/// values of one label.
fn cells<'a>(
    linked: &'a LinkedGraph,
    record: Option<&GraphRecord>,
    now: Option<&'a Placement>,
) -> Result<Vec<Cell<'a>>, Vec<String>> {
    // Each member's cell, by the least member of it.
    let mut cell_of: BTreeMap<&ComponentName, &ComponentName> =
        linked.members().map(|name| (name, name)).collect();
    for link in linked.links.iter().filter(|link| linked.joins(link)) {
        let Some(to) = link.to.member() else { continue };
        let (Some(a), Some(b)) = (cell_of.get(&link.from).copied(), cell_of.get(to).copied()) else { continue };
        let (low, high) = (a.min(b), a.max(b));
        cell_of.values_mut().filter(|cell| **cell == high).for_each(|cell| *cell = low);
    }
    let mut cells: BTreeMap<&ComponentName, Cell<'_>> = BTreeMap::new();
    for (member, cell) in cell_of {
        let cell = cells.entry(cell).or_insert_with(|| Cell { now, ..Cell::default() });
        cell.members.insert(member);
        cell.wishes.extend(linked.wishes.get(member).filter(|wishes| wishes.ranks()));
        let replicas = wanted(linked, record, member);
        cell.more = cell.more.max(usize::try_from(replicas).unwrap_or(usize::MAX).saturating_sub(1));
        cell.each_node |= linked.each_node.contains(member);
        for required in linked.require.get(member).into_iter().flatten() {
            let added = requirements::add(&mut cell.require, required);
            added.map_err(|why| vec![format!("{} must be on one node, but {why}", names(cell))])?;
        }
    }
    let mut cells: Vec<Cell<'_>> = cells.into_values().collect();
    if !linked.reserves.is_empty() {
        cells
            .iter_mut()
            .for_each(|cell| cell.reserve = linked.reserve_together(|member| cell.members.contains(member)));
    }
    Ok(cells)
}
