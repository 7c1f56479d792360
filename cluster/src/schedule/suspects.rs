//! Nodes that are not heard of at this moment, and not yet given up: who leads knows them, and the state does not.

use std::collections::BTreeSet;

use model::name::NodeName;
use model::node::Admission;

use crate::state::State;

/// The state as it is if these nodes get nothing new.
pub(super) fn cordoned(state: &State, nodes: &BTreeSet<NodeName>) -> State {
    let mut state = state.clone();
    for name in nodes {
        if let Some(node) = state.nodes.get_mut(name).filter(|node| node.admission == Admission::Open) {
            node.admission = Admission::Cordoned;
        }
    }
    state
}
