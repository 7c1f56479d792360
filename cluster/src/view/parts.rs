//! What is on one node, graph by graph: what people ask before they drain it, and after it is lost.

use model::id::{Generation, GraphKey, RevisionNumber};
use model::linked::LinkedGraph;
use model::name::{ComponentName, NodeName};
use model::placement::Placement;
use model::report::{Failure, Progress};
use model::reserve::{Priority, Reserve};

use crate::schedule;
use crate::state::{GraphRecord, State};

/// What is on a node of one graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The graph, or a candidate.
    pub key: GraphKey,
    /// The revision that it should run.
    pub revision: RevisionNumber,
    /// The generation of that.
    pub generation: Generation,
    /// How far it is.
    pub state: PartState,
    /// The components and capabilities that are there.
    pub members: Vec<ComponentName>,
    /// The capabilities that have their data there, and do not move.
    pub data: Vec<ComponentName>,
    /// What is reserved for it there, and with which priority.
    pub reserve: (Reserve, Priority),
}

/// How far a node is with what it has of a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartState {
    /// The node has not said anything of this generation yet.
    Waiting,
    /// What it says.
    Said(Progress),
    /// It goes on answering until the graph answers where it goes.
    Leaving,
    /// Nothing of the graph runs there, and its data are there.
    DataAlone,
}

impl PartState {
    /// The word shown to people.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Said(progress) => progress.word(),
            Self::Leaving => "leaving",
            Self::DataAlone => "data",
        }
    }

    /// Why it failed, or is tried again.
    pub const fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Said(Progress::Failed(failure) | Progress::Retrying(failure)) => Some(failure),
            _ => None,
        }
    }
}

/// What is on a node, sorted by graph: what is placed there, what leaves it, and what has its data there.
pub fn parts(state: &State, node: &NodeName) -> Vec<Part> {
    state.graphs.iter().filter_map(|(key, record)| part(key, record, node)).collect()
}

fn part(key: &GraphKey, record: &GraphRecord, node: &NodeName) -> Option<Part> {
    let has_data = record.data.iter().filter(|(_, at)| *at == node);
    let data: Vec<ComponentName> = has_data.map(|(name, _)| name.clone()).collect();
    let of = |revision, generation, state, members| Part {
        key: key.clone(),
        revision,
        generation,
        state,
        members,
        data: data.clone(),
        reserve: (schedule::reserved(key, record, node), record.linked.reserves.priority),
    };
    if let Some(placement) = record.placement.as_ref().filter(|placement| placement.is_on(node)) {
        let seen = record.observed.get(node).filter(|seen| seen.desired == record.generation);
        let state = seen.map_or(PartState::Waiting, |seen| PartState::Said(seen.progress.clone()));
        let members = members_on(&record.linked, placement, node);
        return Some(of(record.running(), record.generation, state, members));
    }
    if let Some(leaving) = record.leaving.as_ref().filter(|leaving| leaving.placement.is_on(node)) {
        let members = members_on(&leaving.linked, &leaving.placement, node);
        return Some(of(leaving.revision, leaving.generation, PartState::Leaving, members));
    }
    let is_kept = !data.is_empty();
    is_kept.then(|| of(record.running(), record.generation, PartState::DataAlone, Vec::new()))
}

fn members_on(linked: &LinkedGraph, placement: &Placement, node: &NodeName) -> Vec<ComponentName> {
    linked.members().filter(|member| placement.runs_on(member, node)).cloned().collect()
}
