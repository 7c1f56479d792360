//! Whether this member leads a quorum, and where the others are: followed for all who ask.

use std::sync::Arc;
use std::time::Duration;

use cluster::State;
use openraft::Instant as _;
use openraft::Raft;
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::sync::watch;

use super::Machine;
use super::peers::Peers;
use super::types::TypeConfig;

/// How often it is looked whether that time is over.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Runs until consensus stops. A leader that a quorum has not confirmed for `patience` is none.
pub async fn follow(
    raft: Raft<TypeConfig, Machine>,
    states: watch::Receiver<Arc<State>>,
    peers: Peers,
    leading: watch::Sender<bool>,
    patience: Duration,
) {
    let mut known: Option<Arc<State>> = None;
    loop {
        let state = states.borrow().clone();
        if known.as_ref().is_none_or(|known| !Arc::ptr_eq(known, &state)) {
            let members = state.members.iter().map(|(member, record)| (member.0, record.address.clone()));
            peers.learn(members);
            known = Some(state);
        }
        let now = leads(&raft, patience);
        leading.send_if_modified(|before| std::mem::replace(before, now) != now);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn leads(raft: &Raft<TypeConfig, Machine>, patience: Duration) -> bool {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    if !metrics.state.is_leader() || metrics.running_state.is_err() {
        return false;
    }
    let mut voters = metrics.membership_config.membership().voter_ids();
    let is_alone = voters.next() == Some(metrics.id) && voters.next().is_none();
    is_alone || metrics.last_quorum_acked.as_ref().is_some_and(|acked| acked.elapsed() < patience)
}
