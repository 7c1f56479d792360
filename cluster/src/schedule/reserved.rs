//! Instances that are kept for graphs on their nodes: where there is room for them, and whose come first.
//!
//! What is kept for those of a lower priority counts as room where nothing else is left: such a graph goes elsewhere in the
//! next pass or, where no node has room, stays without all that is reserved for it. Nothing that serves is stopped for what
//! is reserved. On each node it is kept by priority, then by name: agents do it in the same order.
//! Candidates use what is kept for their graphs.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use model::id::{GraphKey, Uid};
use model::linked::LinkedGraph;
use model::name::{ComponentName, NodeName};
use model::node::{KNOWS_RESERVES, NodeState};
use model::placement::Placement;
use model::reserve::{Priority, Reserve};

use super::load::Load;
use super::{Cell, Lost, names, place_with};
use crate::state::{GraphRecord, NodeRecord, State};

const OLD_AGENT: &str = "its agent is of an earlier version, which reserves nothing";

/// What is kept on each node for the graphs that reserve something; mostly there are none.
#[derive(Clone, Default)]
pub struct Reservations<'a>(BTreeMap<&'a NodeName, Vec<Share<'a>>>);

/// What one graph has on one node.
#[derive(Clone, Copy)]
struct Share<'a> {
    key: &'a GraphKey,
    uid: &'a Uid,
    priority: Priority,
    reserve: Reserve,
}

/// The room that a graph has on nodes.
#[derive(Clone, Copy)]
pub(super) struct Room<'a> {
    kept: &'a Reservations<'a>,
    /// The graph, which makes room for itself.
    uid: Option<&'a Uid>,
    /// What is kept with a lower priority is room.
    floor: Option<Priority>,
    /// What its other cells get in the same pass.
    given: Option<&'a Given<'a>>,
}

/// The members of a graph that are on a node, or come to it in the same pass.
#[derive(Default)]
pub(super) struct Given<'a>(BTreeMap<NodeName, BTreeSet<&'a ComponentName>>);

/// Why a node has not room for what is reserved there.
enum Lack {
    /// Its agent keeps nothing.
    Agent,
    /// So much is left of so much.
    Room { left: Reserve, all: Reserve },
}

impl<'a> Reservations<'a> {
    /// All there are of these graphs.
    pub fn of(graphs: impl IntoIterator<Item = (&'a GraphKey, &'a GraphRecord)>) -> Self {
        let mut kept = Self::default();
        for (key, record) in graphs.into_iter().filter(|(key, record)| reserves(key, &record.linked)) {
            let Some(placement) = &record.placement else { continue };
            for name in placement.nodes() {
                kept.keep(name, (key, &record.uid), &record.linked, placement);
            }
        }
        kept
    }

    /// What of a graph is not kept for it though it is reserved when it is placed so, by node: how much is, and why no more.
    pub fn unkept(
        &self,
        state: &State,
        key: &GraphKey,
        linked: &LinkedGraph,
        placement: &Placement,
    ) -> BTreeMap<NodeName, String> {
        if !reserves(key, linked) {
            return BTreeMap::new();
        }
        let priority = linked.reserves.priority;
        let why = |name: &NodeName| {
            let (left, all) = match self.lack_of(state.nodes.get(name)?, key, linked, placement)? {
                Lack::Agent => return Some(format!("nothing: {OLD_AGENT}")),
                Lack::Room { left, all } => (left, all),
            };
            let need = linked.reserve_on(placement, name);
            let most = self.0.get(name).into_iter().flatten().filter(|share| share.is_before(key, priority));
            let most = most.max_by_key(|share| (share.reserve.instances, share.reserve.memory_bytes));
            let why = match most {
                None => format!("no more than {all} can be"),
                Some(Share { key, priority, .. }) => format!(
                    "others come first in the {all} that can be, most of all those of {key} with priority {priority}"
                ),
            };
            Some(format!("{} of the {need} reserved there with priority {priority}: {why}", left.least(need)))
        };
        placement.nodes().into_iter().filter_map(|name| Some((name.clone(), why(name)?))).collect()
    }

    /// Why a node does not keep all that a graph reserves there when it is placed so: the rest is of what comes first.
    fn lack_of(
        &self,
        node: &NodeRecord,
        key: &GraphKey,
        linked: &LinkedGraph,
        placement: &Placement,
    ) -> Option<Lack> {
        let (name, priority) = (&node.description.name, linked.reserves.priority);
        let first = self.on(name, |share| share.is_before(key, priority));
        lack(node, first, linked.reserve_on(placement, name))
    }

    /// Keeps what a graph reserves on one of its nodes.
    pub(super) fn keep(
        &mut self,
        name: &'a NodeName,
        (key, uid): (&'a GraphKey, &'a Uid),
        linked: &LinkedGraph,
        placement: &Placement,
    ) {
        let reserve = linked.reserve_on(placement, name);
        if !reserve.is_none() {
            let share = Share { key, uid, priority: linked.reserves.priority, reserve };
            self.0.entry(name).or_default().push(share);
        }
    }

    /// Keeps nothing for a graph on a node any more.
    pub(super) fn forget(&mut self, name: &NodeName, uid: &Uid) {
        if let Some(shares) = self.0.get_mut(name) {
            shares.retain(|share| share.uid != uid);
        }
    }

    /// What is kept on a node for all that `counts`.
    fn on(&self, name: &NodeName, counts: impl Fn(&Share<'_>) -> bool) -> Reserve {
        let shares = self.0.get(name).into_iter().flatten().filter(|share| counts(share));
        shares.fold(Reserve::default(), |all, share| all.and(share.reserve))
    }

    /// The same for all graphs but this one with this priority or a higher one.
    fn of_others(&self, name: &NodeName, uid: Option<&Uid>, floor: Option<Priority>) -> Reserve {
        let is_above = |share: &Share<'_>| floor.is_none_or(|floor| share.priority >= floor);
        self.on(name, |share| Some(share.uid) != uid && is_above(share))
    }

    /// The priorities below `priority` that something is kept with, each once.
    fn below(&self, priority: Priority) -> BTreeSet<Priority> {
        let all = self.0.values().flatten().map(|share| share.priority);
        all.filter(|other| *other < priority).collect()
    }
}

impl Share<'_> {
    /// Whether it is kept before what a graph reserves with a priority.
    fn is_before(&self, key: &GraphKey, priority: Priority) -> bool {
        self.key != key && (self.priority > priority || self.priority == priority && self.key < key)
    }
}

impl<'a> Given<'a> {
    /// All that is on each node.
    pub(super) fn of(linked: &'a LinkedGraph, placement: &Placement) -> Self {
        let mut given = Self::default();
        if linked.reserves.is_empty() {
            return given;
        }
        for member in linked.members() {
            for node in placement.nodes_of(member) {
                given.0.entry(node.clone()).or_default().insert(member);
            }
        }
        given
    }

    /// A cell comes to a node, too.
    pub(super) fn add(&mut self, name: &NodeName, cell: &Cell<'a>) {
        if cell.room.is_some() {
            self.0.entry(name.clone()).or_default().extend(&cell.members);
        }
    }
}

impl<'a> Cell<'a> {
    /// The same, beside what others of its graph get.
    pub(super) fn beside<'b>(&'b self, given: &'b Given<'b>) -> Cow<'b, Cell<'b>> {
        match self.room {
            Some(room) if !self.reserve.is_none() => {
                Cow::Owned(Cell { room: Some(Room { given: Some(given), ..room }), ..self.clone() })
            }
            _ => Cow::Borrowed(self),
        }
    }
}

/// Whether something is kept for a graph. What is kept for a graph is kept for its candidate.
pub(super) fn reserves(key: &GraphKey, linked: &LinkedGraph) -> bool {
    !key.is_candidate && !linked.reserves.is_empty()
}

/// What is reserved for a graph on a node, if it is there.
pub(crate) fn reserved(key: &GraphKey, record: &GraphRecord, name: &NodeName) -> Reserve {
    let placement = record.placement.as_ref().filter(|_| reserves(key, &record.linked));
    placement.map(|now| record.linked.reserve_on(now, name)).unwrap_or_default()
}

fn lack(node: &NodeRecord, others: Reserve, need: Reserve) -> Option<Lack> {
    if need.is_none() {
        return None;
    }
    if node.description.level < KNOWS_RESERVES {
        return Some(Lack::Agent);
    }
    let all = Reserve::of_node(node.description.capacity);
    let left = all.less(others);
    (!left.holds(need)).then_some(Lack::Room { left, all })
}

/// Why a node has not room for what is reserved of a cell, with what else of its graph is there, if it has not.
pub(super) fn lacked(linked: &LinkedGraph, cell: &Cell<'_>, node: &NodeRecord) -> Option<String> {
    let room = cell.room.filter(|_| !cell.reserve.is_none())?;
    let name = &node.description.name;
    let need = match room.given.and_then(|given| given.0.get(name)) {
        Some(given) => {
            linked.reserve_together(|member| cell.members.contains(member) || given.contains(member))
        }
        None => cell.reserve,
    };
    let others = room.kept.of_others(name, room.uid, room.floor);
    Some(match lack(node, others, need)? {
        Lack::Agent => OLD_AGENT.to_owned(),
        Lack::Room { left, all } => {
            let names = names(cell);
            format!("has room for {left} of the {need} reserved for {names}: at most {all} are reserved there")
        }
    })
}

/// The room for what is reserved for a graph, where what is kept with a lower priority than its own makes room; none where
/// nothing is reserved for it.
pub(super) fn room<'a>(
    load: &'a Load<'a>,
    state: &'a State,
    linked: &LinkedGraph,
    record: Option<&'a GraphRecord>,
) -> Option<Room<'a>> {
    let uid = record.map(|record| &record.uid);
    let is_candidate = || {
        let mut candidates = state.graphs.iter().filter(|(key, _)| key.is_candidate);
        uid.is_some() && candidates.any(|(_, other)| Some(&other.uid) == uid)
    };
    if linked.reserves.is_empty() || is_candidate() {
        return None;
    }
    Some(Room { kept: &load.kept, uid, floor: Some(linked.reserves.priority), given: None })
}

/// A graph that is placed.
#[derive(Clone, Copy)]
pub(super) struct Placed<'a> {
    key: &'a GraphKey,
    record: &'a GraphRecord,
    now: &'a Placement,
}

impl<'a> Placed<'a> {
    pub(super) fn new(key: &'a GraphKey, record: &'a GraphRecord) -> Option<Self> {
        Some(Self { key, record, now: record.placement.as_ref()? })
    }

    /// A graph of the state by its record, if it is placed: all are gone through.
    pub(super) fn of(state: &'a State, record: Option<&'a GraphRecord>) -> Option<Self> {
        let (record, now) = (record?, record?.placement.as_ref()?);
        let (key, _) = state.graphs.iter().find(|(_, other)| other.uid == record.uid)?;
        Some(Self { key, record, now })
    }

    /// The nodes that do not keep what is reserved for it, linked so, because of what comes first. Those that are not heard of
    /// are waited for, what has data does not move, and neither does a graph whose revision is changed by steps.
    fn crowded(self, load: &Load<'_>, state: &State, linked: &LinkedGraph) -> BTreeSet<&'a NodeName> {
        if linked.reserves.is_empty() || self.record.rollout.is_some() {
            return BTreeSet::new();
        }
        let is_crowded = |name: &&NodeName| {
            let node = state.nodes.get(*name).filter(|node| node.state == NodeState::Ready);
            node.is_some_and(|node| load.kept.lack_of(node, self.key, linked, self.now).is_some())
                && self.record.data.values().all(|with_data| with_data != *name)
        };
        self.now.nodes().into_iter().filter(is_crowded).collect()
    }
}

/// Whether a graph should go elsewhere, linked so, if another node has room.
pub(super) fn is_crowded(
    load: &Load<'_>,
    state: &State,
    linked: &LinkedGraph,
    placed: Option<Placed<'_>>,
) -> bool {
    placed.is_some_and(|placed| !placed.crowded(load, state, linked).is_empty())
}

/// Where everything of a graph goes that is no candidate: off nodes that are crowded, if others have room; and where nobody
/// has any, to where what is kept with the lowest priority makes room. One that is placed and finds no room at all is placed
/// as if nothing were reserved for it.
pub(super) fn place(
    lost: &Lost<'_>,
    linked: &LinkedGraph,
    record: Option<&GraphRecord>,
    placed: Option<Placed<'_>>,
    load: &Load<'_>,
) -> Result<Placement, Vec<String>> {
    if linked.reserves.is_empty() {
        return place_with(lost, linked, record, load, None);
    }
    if let Some(placed) = placed {
        let crowded = placed.crowded(load, lost.state, linked);
        // Off all of these nodes or, if there are not as many others, off one.
        let each = crowded.iter().filter(|_| crowded.len() > 1).map(|name| BTreeSet::from([*name]));
        for left in (!crowded.is_empty()).then(|| crowded.clone()).into_iter().chain(each) {
            let elsewhere = place_by_floors(&lost.and(&left), linked, record, load);
            // Nothing is on fewer nodes for that, and fewer of them are crowded: it comes to rest.
            let is_better = |now: &Placement| {
                let count = |of: &Placement, member| of.nodes_of(member).count();
                linked.members().all(|member| count(now, member) >= count(placed.now, member))
                    && Placed { now, ..placed }.crowded(load, lost.state, linked).len() < crowded.len()
            };
            if let Some(elsewhere) = elsewhere.ok().filter(is_better) {
                return Ok(elsewhere);
            }
        }
    }
    let found = place_by_floors(lost, linked, record, load);
    let Some(placed) = placed else { return found };
    // What serves is not stopped: it is nowhere on fewer nodes for want of room.
    let without = place_with(lost, linked, record, load, None)?;
    let count = |of: &Placement, member| of.nodes_of(member).filter(|name| !lost.has(name)).count();
    let keeps = |found: &Placement| {
        linked.members().all(|member| {
            let now = placed.now.nodes_of(member).count();
            count(found, member) >= now.min(count(&without, member))
        })
    };
    Ok(found.ok().filter(keeps).unwrap_or(without))
}

/// The same where a graph has room, and on as many nodes as it can have by that.
fn place_by_floors(
    lost: &Lost<'_>,
    linked: &LinkedGraph,
    record: Option<&GraphRecord>,
    load: &Load<'_>,
) -> Result<Placement, Vec<String>> {
    let uid = record.map(|record| &record.uid);
    let with = |floor| {
        let room = Room { kept: &load.kept, uid, floor, given: None };
        place_with(lost, linked, record, load, Some(room))
    };
    let count = |placement: &Placement| {
        linked.members().map(|member| placement.nodes_of(member).count()).sum::<usize>()
    };
    // Where all that yields is room there is most of it: a graph that has none then has none at all.
    let most = with(Some(linked.reserves.priority))?;
    let below = load.kept.below(linked.reserves.priority);
    let floors = below.into_iter().filter_map(|below| Priority::new(below.get() + 1).ok());
    for floor in std::iter::once(None).chain(floors.map(Some)) {
        if let Some(found) = with(floor).ok().filter(|found| count(found) >= count(&most)) {
            return Ok(found);
        }
    }
    Ok(most)
}
