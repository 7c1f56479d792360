//! Who is of the log's membership: made what the state says, one change after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cluster::State;
use cluster::state::{MemberId, MemberRecord};
use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::impls::BasicNode;
use tonic::transport::Channel;

use super::handle::Handle;
use super::peers::Road;

/// Entries that a learner may be behind when it gets a vote: what it takes a moment to fetch.
const BEHIND_MAX: u64 = 200;
/// How long one change may take: it needs a quorum, of the new members too.
const CHANGE_PATIENCE: Duration = Duration::from_secs(10);
/// How long another member may take to lead.
const TRANSFER_PATIENCE: Duration = Duration::from_secs(5);

/// A member as consensus sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// Whether it has a vote.
    pub is_voter: bool,
    /// The last place of the log that it has for certain, where the leader is asked.
    pub matched: Option<u64>,
}

/// The log's membership, as one member knows it.
#[derive(Debug, Clone, Default)]
pub struct Membership {
    /// Its members.
    pub members: BTreeMap<u64, MemberStatus>,
    /// Who leads.
    pub leader: Option<u64>,
    /// The term.
    pub term: u64,
    /// The last place of this member's log.
    pub last: u64,
    /// Whether it is between two memberships, and a quorum of both is needed.
    pub is_joint: bool,
    /// Whether a quorum has it: one that is not decided may be taken back by the next leader.
    pub is_decided: bool,
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// Consensus refuses, or there is no quorum.
    #[error("the members were not changed: {0}")]
    Refused(String),
    /// No answer in time.
    #[error("no answer within {} s: it is unknown whether the members were changed", CHANGE_PATIENCE.as_secs())]
    Unknown,
    /// It leads, and another one should before it is taken out.
    #[error("this member is to be taken out, and leads")]
    Leads(#[source] TransferError),
}

/// Why nobody else leads.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// There is nobody who could.
    #[error("no other member has a vote")]
    Nobody,
    /// The one that should has no vote.
    #[error("member {0} has no vote")]
    NoVoter(u64),
    /// It did not come to lead.
    #[error("member {to} did not come to lead within {} s", TRANSFER_PATIENCE.as_secs())]
    NotYet {
        /// Who should.
        to: u64,
    },
    /// Consensus.
    #[error("consensus has stopped: {0}")]
    Stopped(String),
}

impl Handle {
    /// The log's membership.
    pub fn membership(&self) -> Membership {
        let metrics = self.raft().metrics();
        let metrics = metrics.borrow_watched().clone();
        let config = metrics.membership_config.membership();
        let voters: BTreeSet<u64> = config.voter_ids().collect();
        let matched = |id: &u64| {
            let matched = metrics.replication.as_ref().and_then(|members| members.get(id).cloned());
            matched.map(|log_id| log_id.map_or(0, |log_id| log_id.index))
        };
        let members = config
            .nodes()
            .map(|(id, _)| (*id, MemberStatus { is_voter: voters.contains(id), matched: matched(id) }));
        Membership {
            members: members.collect(),
            leader: metrics.current_leader,
            term: metrics.current_term,
            last: metrics.last_log_index.unwrap_or_default(),
            is_joint: config.get_joint_config().len() > 1,
            is_decided: metrics.last_applied >= *metrics.membership_config.log_id(),
        }
    }

    /// Whether the log, as this member has it, has that member.
    pub(super) fn counts_on(&self, member: u64) -> bool {
        let metrics = self.raft().metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.membership().get_node(&member).is_some()
    }

    /// Who leads, and where it is reached, as this member knows.
    pub(super) fn leader(&self) -> Option<(u64, String)> {
        let (leader, address) = {
            let metrics = self.raft().metrics();
            let metrics = metrics.borrow_watched();
            let leader = metrics.current_leader.filter(|leader| *leader != self.id())?;
            (leader, metrics.membership_config.membership().get_node(&leader)?.addr.clone())
        };
        Some((leader, self.peers().address(leader, address)))
    }

    /// The connection to whoever leads, if that is another member.
    pub fn leader_channel(&self) -> Option<Channel> {
        let (_, address) = self.leader()?;
        self.peers().channel(&address, Road::Calls)
    }

    /// Whether a member has nearly all of the log, as the leader knows.
    pub fn is_caught_up(&self, member: MemberId) -> bool {
        let membership = self.membership();
        let matched = membership.members.get(&member.0).and_then(|status| status.matched);
        matched.is_some_and(|matched| matched + BEHIND_MAX >= membership.last)
    }

    /// Makes the first change by which the log's membership becomes what the state says; whether there was one. For the
    /// leader.
    pub async fn follow_members(&self, state: &State) -> Result<bool, ChangeError> {
        let Some(change) = self.next_change(state) else { return Ok(false) };
        // Whoever leads without a vote counts on others for what it has to say, until another one is elected.
        if matches!(&change, ChangeMembers::RemoveVoters(gone) if gone.contains(&self.id())) {
            self.transfer(None).await.map_err(ChangeError::Leads)?;
            return Ok(true);
        }
        tracing::info!(?change, "the members of consensus change");
        let changed = tokio::time::timeout(CHANGE_PATIENCE, self.raft().change_membership(change, false)).await;
        match changed {
            Ok(Ok(_)) => Ok(true),
            Ok(Err(error)) => Err(ChangeError::Refused(error.to_string())),
            Err(_) => Err(ChangeError::Unknown),
        }
    }

    fn next_change(&self, state: &State) -> Option<ChangeMembers<u64, BasicNode>> {
        // One that began before there were records of members.
        if state.members.is_empty() {
            return None;
        }
        let metrics = self.raft().metrics();
        let config = metrics.borrow_watched().membership_config.clone();
        let config = config.membership();
        if config.get_joint_config().len() > 1 {
            // A change that its leader did not finish: as it was meant, without another.
            return Some(ChangeMembers::AddVoterIds(BTreeSet::new()));
        }
        let voters: BTreeSet<u64> = config.voter_ids().collect();
        let known: BTreeMap<u64, BasicNode> = config.nodes().map(|(id, node)| (*id, node.clone())).collect();
        let node = |record: &MemberRecord| BasicNode { addr: record.address.clone() };
        for (MemberId(id), record) in &state.members {
            match known.get(id) {
                None => return Some(ChangeMembers::AddNodes(BTreeMap::from([(*id, node(record))]))),
                // Whoever is at the address refuses what is for another member, so nobody gets a second log.
                Some(known) if known.addr != record.address => {
                    return Some(ChangeMembers::SetNodes(BTreeMap::from([(*id, node(record))])));
                }
                Some(_) => {}
            }
        }
        let new_voter = state.members.iter().find(|(member, record)| {
            record.is_voter && !voters.contains(&member.0) && self.is_caught_up(**member)
        });
        if let Some((MemberId(id), _)) = new_voter {
            return Some(ChangeMembers::AddVoterIds(BTreeSet::from([*id])));
        }
        let gone = known.keys().copied().find(|id| !state.members.contains_key(&MemberId(*id)))?;
        Some(if voters.contains(&gone) {
            ChangeMembers::RemoveVoters(BTreeSet::from([gone]))
        } else {
            ChangeMembers::RemoveNodes(BTreeSet::from([gone]))
        })
    }

    /// The other voter that should lead rather than any other: fit, and with most of the log. For the leader.
    pub(super) fn best_other(&self) -> Option<u64> {
        let membership = self.membership();
        let others = membership.members.iter().filter(|(id, status)| **id != self.id() && status.is_voter);
        others.max_by_key(|(id, status)| (self.is_fit(**id), status.matched)).map(|(id, _)| *id)
    }

    /// Lets another member lead, `to` or the one that has most of the log; who leads then. For the leader.
    pub async fn transfer(&self, to: Option<u64>) -> Result<u64, TransferError> {
        let to = match to {
            Some(to) if to == self.id() => return Ok(to),
            Some(to) => match self.membership().members.get(&to) {
                Some(status) if status.is_voter => to,
                _ => return Err(TransferError::NoVoter(to)),
            },
            None => self.best_other().ok_or(TransferError::Nobody)?,
        };
        let stopped = |error: &dyn std::fmt::Display| TransferError::Stopped(error.to_string());
        self.raft().trigger().transfer_leader(to).await.map_err(|error| stopped(&error))?;
        let leads = self.raft().wait(Some(TRANSFER_PATIENCE));
        let leads = leads.metrics(|metrics| metrics.current_leader == Some(to), "another leader").await;
        leads.map(|_| to).map_err(|_| TransferError::NotYet { to })
    }
}
