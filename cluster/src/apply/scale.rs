//! On how many nodes components run that are scaled by their calls. Where these are is placed by the next pass of the
//! scheduler; the generation of the graph changes with that.

use model::name::ComponentName;

use super::graph::subject;
use crate::command::{Rescale, Scale};
use crate::outcome::{Outcome, Refusal};
use crate::scaling::{replicas, sentence};
use crate::state::{GraphRecord, State};

pub(super) fn scale(state: &mut State, scale: &Scale) -> Result<Outcome, Refusal> {
    let found = state.graphs.get(&scale.key).filter(|record| is_as_decided(record, scale));
    let Some(mut record) = found.cloned() else {
        return Err(Refusal::Stale { what: format!("graph {}", scale.key) });
    };
    state.advance();
    for (member, change) in &scale.changes {
        set(&mut record, member, change.to);
        if let Some(scaling) = record.linked.scaling.get(member) {
            let reason = if change.to > change.from { "scaled_up" } else { "scaled_down" };
            let message = sentence(member, scaling, change.from, change.to, change.calls);
            state.event(subject(&scale.key), reason, message);
        }
    }
    state.graphs.insert(scale.key.clone(), record);
    // What answers a share of the requests may come to answer all of them.
    if let Some(mut candidate) = state.graphs.get(&scale.key.candidate()).cloned() {
        for (member, change) in &scale.changes {
            set(&mut candidate, member, change.to);
        }
        state.graphs.insert(scale.key.candidate(), candidate);
    }
    Ok(state.done())
}

/// Whether a graph is as it was when this was decided, and can be scaled so.
fn is_as_decided(record: &GraphRecord, scale: &Scale) -> bool {
    let is_fresh = |(member, change): (&ComponentName, &Rescale)| {
        let scaling = record.linked.scaling.get(member);
        change.to != change.from
            && scaling.is_some_and(|scaling| scaling.within(change.to) == change.to)
            && replicas(&record.linked, &record.scaled, member) == change.from
    };
    record.uid == scale.uid
        && record.generation == scale.generation
        && !scale.changes.is_empty()
        && scale.changes.iter().all(is_fresh)
}

/// Has a component run on so many nodes, within its bounds.
fn set(record: &mut GraphRecord, member: &ComponentName, count: u32) {
    let Some(scaling) = record.linked.scaling.get(member) else { return };
    let count = scaling.within(count);
    if count > scaling.min() {
        record.scaled.insert(member.clone(), count);
    } else {
        record.scaled.remove(member);
    }
}
