//! Passes over the states of a cluster, one after the other.

use std::collections::BTreeSet;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use model::id::GraphKey;
use model::name::NodeName;

use super::load::{Counts, Load};
use super::reserved::{Placed, Reservations, is_crowded, place, reserves};
use super::{Lost, missing, place_candidate, settled, suspects};
use crate::command::Place;
use crate::state::{GraphRecord, NodeRecord, State};

/// Plans what one without a past would plan. As long as the nodes are the same, it looks only at the graphs that have changed
/// since its last pass, and at those that were not settled then.
#[derive(Default)]
pub struct Planner {
    last: Option<Last>,
}

/// What the last pass saw.
struct Last {
    level: u32,
    nodes: OrdMap<NodeName, NodeRecord>,
    graphs: OrdMap<GraphKey, GraphRecord>,
    lost: BTreeSet<NodeName>,
    counts: Counts,
    /// The graphs that have not all that they ask for, and those that others can crowd out.
    open: BTreeSet<GraphKey>,
}

type Graphs<'a> = Vec<(&'a GraphKey, &'a GraphRecord)>;

impl Planner {
    /// The placements that are wanted and possible at a time, milliseconds since 1970; with nothing new on nodes that are
    /// suspect where others take it: what was placed on one that is lost a moment later would be placed twice. What is there
    /// stays.
    pub fn plan(&mut self, state: &State, now_ms: u64, suspects: &BTreeSet<NodeName>) -> Vec<Place> {
        let lost = Lost::at(state, now_ms);
        let (counts, graphs) = match self.last.take().filter(|last| last.has_nodes_of(&lost)) {
            Some(last) => last.followed_by(state),
            None => (Counts::of(state), state.graphs.iter().collect()),
        };
        // All graphs that reserve something are looked at.
        let kept = Reservations::of(graphs.iter().copied());
        let mut load = Load { counts, kept };
        let (places, open) = pass(&lost, suspects, &graphs, &mut load);
        // What is planned is only placed once it is committed.
        let mut counts = load.counts;
        for place in &places {
            let before = state.graphs.get(&place.key).and_then(|record| record.placement.as_ref());
            counts.remove(&place.placement, before);
        }
        self.last = Some(Last {
            level: state.level(),
            nodes: state.nodes.clone(),
            graphs: state.graphs.clone(),
            lost: lost.nodes.into_iter().cloned().collect(),
            counts,
            open,
        });
        places
    }
}

impl Last {
    /// Whether all that was settled on its nodes is so still where its graph has not changed.
    fn has_nodes_of(&self, lost: &Lost<'_>) -> bool {
        let is_same = |change: DiffItem<'_, '_, NodeName, NodeRecord>| match change {
            DiffItem::Update { old, new } => takes_the_same(old.1, new.1),
            DiffItem::Add(..) | DiffItem::Remove(..) => false,
        };
        self.level == lost.state.level()
            && self.lost.iter().eq(lost.nodes.iter().copied())
            && self.nodes.diff(&lost.state.nodes).all(is_same)
    }

    /// How much is on each node in a later state, and the graphs of that to look at.
    fn followed_by(self, state: &State) -> (Counts, Graphs<'_>) {
        let Self { graphs: before, mut counts, open, .. } = self;
        let mut graphs: Graphs<'_> = open.iter().filter_map(|key| state.graphs.get_key_value(key)).collect();
        for change in before.diff(&state.graphs) {
            let (old, new) = match change {
                DiffItem::Add(key, record) => (None, Some((key, record))),
                DiffItem::Update { old: (_, old), new } => (Some(old), Some(new)),
                DiffItem::Remove(_, old) => (Some(old), None),
            };
            let was = old.and_then(|record| record.placement.as_ref());
            let is = new.and_then(|(_, record)| record.placement.as_ref());
            was.into_iter().for_each(|placement| counts.remove(placement, is));
            is.into_iter().for_each(|placement| counts.add(placement, was));
            graphs.extend(new);
        }
        graphs.sort_by_key(|(key, _)| *key);
        graphs.dedup_by_key(|(key, _)| *key);
        (counts, graphs)
    }
}

/// Whether two records of a node are the same to what is placed.
fn takes_the_same(a: &NodeRecord, b: &NodeRecord) -> bool {
    let NodeRecord {
        description,
        state,
        joined_at_ms: _,
        changed_at_ms: _,
        accepted: _,
        assigned_at: _,
        admission,
        labels,
        taints,
        stays_until_ms,
    } = a;
    *description == b.description
        && *state == b.state
        && *admission == b.admission
        && *labels == b.labels
        && *taints == b.taints
        && *stays_until_ms == b.stays_until_ms
}

/// What of these graphs is to be placed, and which of them must be looked at again in a state with the same nodes.
fn pass<'a>(
    lost: &Lost<'a>,
    suspects: &BTreeSet<NodeName>,
    graphs: &[(&'a GraphKey, &'a GraphRecord)],
    load: &mut Load<'a>,
) -> (Vec<Place>, BTreeSet<GraphKey>) {
    let (state, now_ms) = (lost.state, lost.now_ms);
    let cautious = (!suspects.is_empty()).then(|| suspects::cordoned(state, suspects));
    let cautious = cautious.as_ref().map(|state| Lost::at(state, now_ms));
    let (mut places, mut open): (Vec<Place>, BTreeSet<GraphKey>) = Default::default();
    for &(key, record) in graphs {
        let stays = settled(lost, &record.linked, Some(record)).is_some();
        if !stays || reserves(key, &record.linked) {
            open.insert(key.clone());
        }
        if stays && (key.is_candidate || !is_crowded(load, state, &record.linked, Placed::new(key, record))) {
            continue;
        }
        // Its graph came just before it, and may go elsewhere in this pass.
        let base = places.last().filter(|place| place.key == key.base()).map(|place| &place.placement);
        let place_at = |lost: &Lost<'_>| match key.is_candidate {
            true => place_candidate(lost, key, record, base, load),
            false => place(lost, &record.linked, Some(record), Placed::new(key, record), load),
        };
        let apart = cautious.as_ref().and_then(|lost| {
            let placement = place_at(lost).ok()?;
            // What runs on each node is not missing on one that is suspect.
            let is_whole = missing(lost.state, &record.linked, Some(record), &placement).is_none();
            is_whole.then_some(placement)
        });
        let Some(placement) = apart.or_else(|| place_at(lost).ok()) else { continue };
        if record.placement.as_ref() == Some(&placement) {
            continue;
        }
        load.place(state, (key, record), &placement);
        places.push(Place {
            key: key.clone(),
            uid: record.uid.clone(),
            generation: record.generation,
            placement,
        });
    }
    (places, open)
}
