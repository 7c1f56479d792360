//! The types openraft is made of here.

use std::fmt;

use cluster::Outcome;

/// An encoded command, as the log carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload(pub Vec<u8>);

impl fmt::Display for Payload {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "command of {} bytes", self.0.len())
    }
}

/// What became of an entry; `None` for entries that carry no command.
pub type Applied = Option<Outcome>;

/// What consensus runs on.
#[allow(deprecated, reason = "the crate that it comes from has no other use here")]
pub type TokioRuntime = openraft::TokioRuntime;

openraft::declare_raft_types!(
    pub TypeConfig:
        D = Payload,
        R = Applied,
        NodeId = u64,
        Node = openraft::impls::BasicNode,
        AsyncRuntime = super::Runtime,
);

pub type LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, u64>;
pub type LogId = openraft::LogId<LeaderId>;
pub type Vote = openraft::impls::Vote<LeaderId>;
pub type Membership = openraft::Membership<u64, openraft::impls::BasicNode>;
pub type StoredMembership = openraft::StoredMembership<LeaderId, u64, openraft::impls::BasicNode>;
pub type EntryPayload = openraft::EntryPayload<Payload, u64, openraft::impls::BasicNode>;
pub type Entry = openraft::impls::Entry<LeaderId, EntryPayload>;
pub type SnapshotMeta = openraft::storage::SnapshotMeta<LeaderId, u64, openraft::impls::BasicNode>;
/// The bytes of a snapshot, shared: they are read while they are written to disk.
pub type SnapshotBytes = std::sync::Arc<Vec<u8>>;
pub type Snapshot = openraft::storage::Snapshot<LeaderId, u64, openraft::impls::BasicNode, SnapshotBytes>;
