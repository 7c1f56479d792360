//! A member's disks without consensus, for whoever has the data directory to itself.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use cluster::State;
use cluster::state::MemberId;
use openraft::impls::BasicNode;
use openraft::storage::RaftLogStorage as _;
#[cfg(test)]
use openraft::storage::RaftStateMachine as _;

use super::Machine;
use super::codec;
use super::handle::{OpenError, RaftConfig, open_storage};
use super::log_store::LogStore;
use super::types::{EntryPayload, LeaderId, LogId, Membership, SnapshotMeta, StoredMembership, Vote};

/// The disks of one member.
pub struct Offline {
    member: u64,
    log: LogStore,
    machine: Machine,
}

impl Offline {
    /// Opens them, or makes them where that is how the member may start.
    pub async fn open(config: RaftConfig) -> Result<Self, OpenError> {
        let member = config.node_id;
        let opened = tokio::task::spawn_blocking(move || open_storage(&config)).await;
        let (log, machine, ..) = opened.map_err(|error| OpenError::Start(error.to_string()))??;
        Ok(Self { member, log, machine })
    }

    /// The state with every entry of the log in it, known to be decided or not: a quorum may have had an entry without
    /// this member having heard that it had.
    pub fn state(&self) -> io::Result<State> {
        let mut state = self.machine.state().clone();
        let from = self.machine.applied().map_or(0, |applied| applied.index + 1);
        for entry in self.log.entries(from..) {
            if let EntryPayload::Normal(payload) = &entry.payload {
                state.apply(&codec::decode_command(payload)?);
            }
        }
        Ok(state)
    }

    /// Makes `state` what the member begins with, and the member the only one there is. Cut off at any point, the
    /// member has either what it had, or this.
    pub async fn go_on_with(mut self, state: &State) -> io::Result<()> {
        let me = self.member;
        let first = LogId::new(LeaderId { term: 1, node_id: me }, 1);
        let last = self.log.last().max(self.machine.applied()).unwrap_or(first);
        if !self.log.has_vote() {
            self.log.save_vote(&Vote { leader_id: last.leader_id, committed: false }).await?;
        }
        let addr = state.members.get(&MemberId(me)).map(|record| record.address.clone()).unwrap_or_default();
        let nodes = BTreeMap::from([(me, BasicNode { addr })]);
        let alone = Membership::new(vec![BTreeSet::from([me])], nodes).map_err(io::Error::other)?;
        let meta =
            SnapshotMeta { last_log_id: Some(last), last_membership: StoredMembership::new(Some(last), alone) };
        self.machine.replace(meta, state.clone()).await?;
        // What stands behind a snapshot is not read again: whether this is done or not changes nothing.
        self.log.purge(last).await
    }

    /// Puts another state in the place of the one that the member has come to, as if it were that.
    #[cfg(test)]
    pub async fn pretend(mut self, state: &State) -> io::Result<()> {
        let last = self.log.last();
        let (_, membership) = self.machine.applied_state().await?;
        let entries = self.log.entries(..);
        let changed = entries.iter().rev().find_map(|entry| match &entry.payload {
            EntryPayload::Membership(changed) => {
                Some(StoredMembership::new(Some(entry.log_id), changed.clone()))
            }
            EntryPayload::Blank | EntryPayload::Normal(_) => None,
        });
        let last_membership = changed.unwrap_or(membership);
        let meta = SnapshotMeta { last_log_id: last, last_membership };
        self.machine.replace(meta, state.clone()).await
    }
}
