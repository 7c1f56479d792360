//! Who may join: tokens, the nodes that joined by them, and those whose identity is worth nothing any more.

use model::id::{GraphKey, Uid};
use model::name::{ComponentName, NodeName};
use model::node::NodeState;
use model::placement::Placement;

use super::graph::subject as graph_subject;
use super::moves::touch;
use super::node::{subject, tell_peers};
use crate::command::{CreateToken, Enrol, RemoveNode};
use crate::outcome::{Outcome, Refusal};
use crate::schedule;
use crate::state::{
    EnrolmentRecord, GraphRecord, NODES_MAX, REVOKED_MAX, RevokedRecord, State, TOKENS_MAX, TokenRecord,
    TokenUse,
};

pub(super) fn create_token(state: &mut State, create: &CreateToken) -> Result<Outcome, Refusal> {
    if state.tokens.values().filter(|token| token.expires_ms > state.now_ms).count() >= TOKENS_MAX {
        return Err(Refusal::Exhausted { what: "join tokens".to_owned(), bound: TOKENS_MAX as u64 });
    }
    if !state.enrolled.contains_key(&create.node) && state.enrolled.len() >= NODES_MAX {
        return Err(Refusal::Exhausted { what: "nodes".to_owned(), bound: NODES_MAX as u64 });
    }
    forget(state);
    state.advance();
    let record = TokenRecord { node: create.node.clone(), expires_ms: create.expires_ms, used: None };
    state.tokens.insert(create.digest.clone(), record);
    let message = format!("a join token was made, good until {} ms since 1970", create.expires_ms);
    state.event(subject(&create.node), "token", message);
    Ok(state.done())
}

pub(super) fn enrol(state: &mut State, enrol: &Enrol) -> Result<Outcome, Refusal> {
    let refused = Refusal::TokenRefused { who: format!("node {}", enrol.node) };
    let Some(token) = state.tokens.get(&enrol.token).cloned() else { return Err(refused) };
    if token.node != enrol.node || token.expires_ms <= state.now_ms {
        return Err(refused);
    }
    if let Some(used) = &token.used {
        // The answer to whoever used it may have been lost: the same key is told again, and nobody else.
        return if used.key == enrol.key { Ok(state.done()) } else { Err(refused) };
    }
    let is_taken = |record: &EnrolmentRecord| record.uid == enrol.uid;
    if state.revoked.contains_key(&enrol.uid) || state.enrolled.values().any(is_taken) {
        return Err(Refusal::NodeIdentity { name: enrol.node.to_string(), known: enrol.uid.to_string() });
    }
    if state.enrolled.contains_key(&enrol.node) {
        room_for_revoked(state)?;
    }
    forget(state);
    state.advance();
    let used = TokenUse { key: enrol.key.clone(), uid: enrol.uid.clone() };
    let used = TokenRecord { used: Some(used), ..token };
    state.tokens.insert(enrol.token.clone(), used);
    let record = EnrolmentRecord { uid: enrol.uid.clone(), enrolled_at_ms: state.now_ms };
    // Whoever joined under the name before is another machine, or this one without its data: it is not both.
    if let Some(before) = state.enrolled.insert(enrol.node.clone(), record) {
        disown(state, &enrol.node, before.uid, enrol.revoked_until_ms);
    }
    if let Some(node) = state.nodes.get_mut(&enrol.node) {
        node.description.uid = enrol.uid.clone();
        node.state = NodeState::Down;
        node.changed_at_ms = state.now_ms;
        // Its links are granted to the new identity from now on.
        tell_peers(state, &enrol.node);
    }
    state.event(subject(&enrol.node), "enrolled", format!("with the identity {}", enrol.uid));
    Ok(state.done())
}

pub(super) fn revoke(state: &mut State, node: &NodeName, until_ms: u64) -> Result<Outcome, Refusal> {
    if !state.enrolled.contains_key(node) {
        return Err(Refusal::NotFound { what: format!("node {node} that has joined") });
    }
    room_for_revoked(state)?;
    forget(state);
    state.advance();
    if let Some(before) = state.enrolled.remove(node) {
        disown(state, node, before.uid, until_ms);
    }
    if let Some(record) = state.nodes.get_mut(node) {
        record.state = NodeState::Down;
        record.changed_at_ms = state.now_ms;
    }
    let message = "its identity was revoked: it joins again only by a new token".to_owned();
    state.event(subject(node), "revoked", message);
    Ok(state.done())
}

/// Takes a node out for good. What can be moved has to be moved before; what cannot, because its data are there, begins anew
/// elsewhere if whoever asks gives them up.
pub(super) fn remove(state: &mut State, remove: &RemoveNode) -> Result<Outcome, Refusal> {
    let RemoveNode { node, until_ms, loses_data } = remove;
    if !state.nodes.contains_key(node) && !state.enrolled.contains_key(node) {
        return Err(Refusal::NotFound { what: format!("node {node}") });
    }
    let with_data = |record: &GraphRecord| record.data.values().any(|at| at == node);
    let on_it: Vec<GraphKey> = state
        .graphs
        .iter()
        .filter(|(_, record)| record.nodes().contains(node) || with_data(record))
        .map(|(key, _)| key.clone())
        .collect();
    let (left, on_it): (Vec<GraphKey>, Vec<GraphKey>) = on_it.into_iter().partition(|key| {
        let goes_on = |record: &GraphRecord| !with_data(record) && placed_without(record, node).is_some();
        !state.is_ready(node) && state.graphs.get(key).is_some_and(goes_on)
    });
    let stays =
        |key: &&GraphKey| !loses_data || state.graphs.get(*key).is_some_and(|record| !with_data(record));
    if let Some(key) = on_it.iter().find(stays) {
        let has_data = state.graphs.get(key).is_some_and(with_data);
        return Err(Refusal::NodeInUse { node: node.clone(), key: key.clone(), has_data });
    }
    room_for_revoked(state)?;
    forget(state);
    let at = state.advance();
    for key in left {
        let Some(record) = state.graphs.get_mut(&key) else { continue };
        let nodes = record.nodes();
        record.placement = placed_without(record, node);
        record.generation = at.into();
        record.observed.remove(node);
        record.gained.remove(node);
        touch(state, &nodes);
    }
    for key in on_it {
        let Some(record) = state.graphs.get_mut(&key) else { continue };
        let left = record.nodes();
        (record.placement, record.leaving) = (None, None);
        record.generation = at.into();
        record.observed = imbl::OrdMap::new();
        let kept = record.data.iter().filter(|(_, at)| *at != node);
        record.data = kept.map(|(capability, at)| (capability.clone(), at.clone())).collect();
        touch(state, &left);
        state.event(
            graph_subject(&key),
            "data_given_up",
            format!("what it had on node {node}, which was removed"),
        );
    }
    state.nodes.remove(node);
    if let Some(before) = state.enrolled.remove(node) {
        disown(state, node, before.uid, *until_ms);
    }
    state.event(subject(node), "removed", "it joins again only by a new token".to_owned());
    Ok(state.done())
}

/// Where a graph is without a node that has nothing of it but what runs on each node, which is waited for there as long as the
/// node is known.
fn placed_without(record: &GraphRecord, node: &NodeName) -> Option<Placement> {
    let mut placement = record.placement.clone()?;
    let is_left = record.leaving.as_ref().is_some_and(|leaving| leaving.placement.is_on(node));
    if is_left || !schedule::has_each_node_part_alone(&record.linked, &placement, node) {
        return None;
    }
    let Placement { home, away, more } = &mut placement;
    if *home == *node {
        // Another node that has all that is at home.
        let at_home = |member: &&ComponentName| !away.contains_key(*member);
        let others: Option<Vec<_>> =
            record.linked.members().filter(at_home).map(|member| more.get(member)).collect();
        let others = others?;
        let has_all = |other: &&NodeName| others.iter().all(|nodes| nodes.contains(*other));
        *home = others.first()?.iter().find(has_all)?.clone();
    }
    for (member, first) in away.iter_mut().filter(|(_, first)| **first == *node) {
        *first = more.get(member)?.first()?.clone();
    }
    away.retain(|_, first| *first != *home);
    for (member, nodes) in more.iter_mut() {
        nodes.remove(node);
        nodes.remove(away.get(member).unwrap_or(home));
    }
    more.retain(|_, nodes| !nodes.is_empty());
    Some(placement)
}

/// From now on nobody believes in `uid`; all agents are told.
fn disown(state: &mut State, node: &NodeName, uid: Uid, until_ms: u64) {
    state.revoked.insert(uid, RevokedRecord { node: node.clone(), until_ms });
    let nodes: Vec<NodeName> = state.nodes.keys().cloned().collect();
    for node in &nodes {
        state.touch_node(node);
    }
}

fn room_for_revoked(state: &State) -> Result<(), Refusal> {
    if state.revoked.values().filter(|record| record.until_ms > state.now_ms).count() >= REVOKED_MAX {
        return Err(Refusal::Exhausted { what: "revoked identities".to_owned(), bound: REVOKED_MAX as u64 });
    }
    Ok(())
}

/// Lets go of tokens that nobody can use, and of identities that no certificate is good for any more.
fn forget(state: &mut State) {
    let now_ms = state.now_ms;
    let tokens = state.tokens.iter().filter(|(_, token)| token.expires_ms <= now_ms);
    for digest in tokens.map(|(digest, _)| digest.clone()).collect::<Vec<_>>() {
        state.tokens.remove(&digest);
    }
    let revoked = state.revoked.iter().filter(|(_, record)| record.until_ms <= now_ms);
    for uid in revoked.map(|(uid, _)| uid.clone()).collect::<Vec<_>>() {
        state.revoked.remove(&uid);
    }
}
