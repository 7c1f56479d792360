//! What a deploy would come to, found out by doing it to a copy of the state.

use crate::command::{Body, Command, Place};
use crate::outcome::Outcome;
use crate::state::State;

use super::schedule;

/// Placements that are told of: more are no plan that anybody reads.
pub const FORECAST_MAX: usize = 100;

/// Passes after a deploy that are foreseen: what makes room for it goes elsewhere in the next one, and so on.
const PASSES_MAX: usize = 8;

/// Everything that the passes after a deploy would place or move, of all graphs; nothing where the deploy would be refused.
pub fn forecast(state: &State, deploy: Body, now_ms: u64) -> Vec<Place> {
    let mut then = state.clone();
    let outcome = then.apply(&Command { now_ms, request: None, body: deploy });
    if matches!(outcome, Outcome::Refused(_)) {
        return Vec::new();
    }
    let mut foreseen: Vec<Place> = Vec::new();
    for _ in 0..PASSES_MAX {
        let places = schedule(&then, now_ms);
        if places.is_empty() {
            break;
        }
        for place in &places {
            match foreseen.iter_mut().find(|known| known.key == place.key) {
                Some(known) => known.clone_from(place),
                None => foreseen.push(place.clone()),
            }
        }
        // Only what is reserved makes room in further passes.
        if then.graphs.values().all(|record| record.linked.reserves.is_empty()) {
            break;
        }
        then.apply(&Command { now_ms, request: None, body: Body::Place(places) });
    }
    foreseen.truncate(FORECAST_MAX);
    foreseen
}
