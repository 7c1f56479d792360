//! What the graphs of a namespace use, and whether a deploy would use more than they may.
//!
//! Counted is what owners ask for: their components, each on as many nodes as it may come to run on. What policies put in is not
//! counted, because who deploys knows nothing of it, and neither is a candidate beside its graph: one of the two goes. All is
//! counted over the graphs of one namespace, and only where that has a quota or somebody asks.

use model::id::GraphKey;
use model::linked::{LinkedGraph, Origin};
use model::name::{GraphName, NamespaceName};
use model::quota::{Measure, Usage};
use model::reserve::Priority;
use model::unit::ByteSize;

use crate::outcome::Refusal;
use crate::schedule;
use crate::state::{GraphRecord, State};

/// No name is before this one.
const LEAST_NAME: &str = "0";

/// What one graph uses as it is linked, in a cluster of so many nodes.
pub fn of_linked(linked: &LinkedGraph, nodes: usize) -> Usage {
    let replicas = schedule::replicas(linked, nodes);
    let own = linked.components.iter().filter(|(_, component)| component.origin == Origin::Graph);
    let uses = own.map(|(name, component)| {
        let replicas = replicas.get(name).copied().unwrap_or(1);
        let memory = component.settings.limits.memory.0.saturating_mul(replicas);
        let reserved = linked.reserves.instances.get(name).copied().unwrap_or_default();
        let reserved = u64::from(reserved).saturating_mul(replicas);
        Usage { graphs: 0, replicas, memory: ByteSize(memory), reserved }
    });
    uses.fold(Usage { graphs: 1, ..Usage::default() }, Usage::and)
}

/// What each graph of a namespace uses. While a revision takes over by steps that is what the larger of the two uses.
pub fn by_graph<'a>(
    state: &'a State,
    namespace: &'a NamespaceName,
) -> impl Iterator<Item = (&'a GraphKey, Usage)> {
    let first = GraphName::new(LEAST_NAME).ok().map(|least| GraphKey::new(namespace.clone(), least));
    let from = first.into_iter().flat_map(|first| state.graphs.range(first..));
    let in_it = from.take_while(move |(key, _)| key.namespace == *namespace);
    in_it.filter(|(key, _)| !key.is_candidate).map(|(key, record)| (key, of_record(state, key, record)))
}

/// What each graph of the cluster uses.
pub fn of_all(state: &State) -> impl Iterator<Item = (&GraphKey, Usage)> {
    let graphs = state.graphs.iter().filter(|(key, _)| !key.is_candidate);
    graphs.map(|(key, record)| (key, of_record(state, key, record)))
}

fn of_record(state: &State, key: &GraphKey, record: &GraphRecord) -> Usage {
    let each = counted(state, key, record).map(|record| of_linked(&record.linked, state.nodes.len()));
    each.fold(Usage::default(), Usage::or)
}

/// A graph, and what takes over from it by steps: one of the two goes.
fn counted<'a>(
    state: &'a State,
    key: &GraphKey,
    record: &'a GraphRecord,
) -> impl Iterator<Item = &'a GraphRecord> {
    let candidate = record.open_rollout().and_then(|_| state.graphs.get(&key.candidate()));
    std::iter::once(record).chain(candidate)
}

/// What all graphs of a namespace use.
pub fn used(state: &State, namespace: &NamespaceName) -> Usage {
    by_graph(state, namespace).fold(Usage::default(), |all, (_, usage)| all.and(usage))
}

/// Refuses a deploy by which a namespace would use more than it may. What does not make it use more is not refused: a
/// quota may have been lowered.
pub fn check(state: &State, key: &GraphKey, linked: &LinkedGraph) -> Result<(), Refusal> {
    let Some(record) = state.namespaces.get(&key.namespace) else { return Ok(()) };
    let base = key.base();
    check_priority(state, &base, linked, record.quota.priority)?;
    let now = state.graphs.get(&base).map(|record| of_record(state, &base, record)).unwrap_or_default();
    let wanted = of_linked(linked, state.nodes.len());
    // Mostly it uses no more than before: all of a namespace is counted only for what does.
    let grows = |measure| record.quota.bound(measure).is_some() && wanted.of(measure) > now.of(measure);
    if !Measure::ALL.into_iter().any(grows) {
        return Ok(());
    }
    let others = by_graph(state, &key.namespace).filter(|(other, _)| **other != base);
    let others = others.fold(Usage::default(), |all, (_, usage)| all.and(usage));
    for measure in Measure::ALL {
        let Some(bound) = record.quota.bound(measure) else { continue };
        let (asks, has, others) = (wanted.of(measure), now.of(measure), others.of(measure));
        if asks > has && others.saturating_add(asks) > bound {
            return Err(Refusal::QuotaExceeded {
                namespace: key.namespace.clone(),
                measure: measure.word().to_owned(),
                bound: measure.shown(bound),
                others: measure.shown(others),
                key: key.clone(),
                asks: measure.shown(asks),
                has: measure.shown(has),
            });
        }
    }
    Ok(())
}

/// A priority is about what is reserved alone: that of a graph without it is nobody's concern. Above the bound neither the
/// priority grows nor what is reserved with it: one of what it is and what takes over from it has all of that already.
fn check_priority(
    state: &State,
    key: &GraphKey,
    linked: &LinkedGraph,
    bound: Option<Priority>,
) -> Result<(), Refusal> {
    let priority_of = |linked: &LinkedGraph| (!linked.reserves.is_empty()).then_some(linked.reserves.priority);
    let (Some(bound), Some(asks)) = (bound, priority_of(linked)) else { return Ok(()) };
    let mut known = state.graphs.get(key).into_iter().flat_map(|record| counted(state, key, record));
    // In all, and in what these instances take with all that they call.
    let amount = |linked: &LinkedGraph| {
        (of_linked(linked, state.nodes.len()).reserved, linked.reserve_together(|_| true))
    };
    let (wanted, taken) = amount(linked);
    let has_it = |known: &GraphRecord| {
        let (known_wanted, known_taken) = amount(&known.linked);
        priority_of(&known.linked) >= Some(asks) && known_wanted >= wanted && known_taken.holds(taken)
    };
    if asks <= bound || known.any(has_it) {
        return Ok(());
    }
    Err(Refusal::PriorityExceeded { namespace: key.namespace.clone(), bound, key: key.clone(), asks })
}
