//! The invariants of the state, as a list of those that are broken.

use crate::state::{EVENTS_MAX, HISTORY_MAX, REQUESTS_MAX, State};

/// Every broken invariant, as sentences; empty for a sound state.
pub fn check(state: &State) -> Vec<String> {
    let mut broken = Vec::new();
    let mut must = |holds: bool, sentence: String| {
        if !holds {
            broken.push(sentence);
        }
    };
    for (key, record) in &state.graphs {
        let numbers: Vec<u64> = record.revisions.iter().map(|r| r.number.0).collect();
        must(!numbers.is_empty(), format!("{key} has no revision"));
        must(numbers.len() <= HISTORY_MAX, format!("{key} keeps {} revisions", numbers.len()));
        must(
            numbers.windows(2).all(|pair| pair[1] == pair[0] + 1),
            format!("the revisions of {key} are not consecutive: {numbers:?}"),
        );
        must(
            record.generation.0 > 0 && record.generation.0 <= state.revision.0,
            format!("generation {} of {key} is not a state that was", record.generation),
        );
        if let Some(node) = &record.node {
            must(state.nodes.contains_key(node), format!("{key} is on node {node}, which is not known"));
        }
        for route in &record.linked.ingress {
            if let Some(by) = state.route_owner(route, key) {
                must(false, format!("{} leads to {key} and to {by}", route.origin()));
            }
        }
        for artifact in record.linked.artifacts() {
            must(
                state.artifacts.contains_key(&artifact.digest),
                format!("{key} needs artifact {}, which is not stored", artifact.digest),
            );
        }
        if let Some(seen) = &record.observed {
            must(seen.uid == record.uid, format!("what is observed of {key} is of another graph"));
        }
    }
    for (name, policy) in &state.policies {
        must(policy.current().is_some(), format!("policy {name} has no version"));
    }
    must(
        state.requests.len() == state.request_ages.len() && state.requests.len() <= REQUESTS_MAX,
        format!("{} requests, {} ages", state.requests.len(), state.request_ages.len()),
    );
    must(state.events.len() <= EVENTS_MAX, format!("{} events", state.events.len()));
    must(
        state.graphs_at <= state.revision && state.policies_at <= state.revision,
        "a change is later than the state".to_owned(),
    );
    broken
}
