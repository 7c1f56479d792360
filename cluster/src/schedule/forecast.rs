//! What a deploy would come to, found out by doing it to a copy of the state.

use crate::command::{Body, Command, Place};
use crate::outcome::Outcome;
use crate::state::State;

use super::schedule;

/// Placements that are told of: more are no plan that anybody reads.
pub const FORECAST_MAX: usize = 100;

/// Everything that the pass after a deploy would place or move, of all graphs; nothing where the deploy would be refused.
pub fn forecast(state: &State, deploy: Body, now_ms: u64) -> Vec<Place> {
    let mut then = state.clone();
    let outcome = then.apply(&Command { now_ms, request: None, body: deploy });
    if matches!(outcome, Outcome::Refused(_)) {
        return Vec::new();
    }
    let mut places = schedule(&then, now_ms);
    places.truncate(FORECAST_MAX);
    places
}
