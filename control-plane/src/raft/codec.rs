//! What the log, the values and the snapshot look like as bytes: protobuf of our own, nothing of openraft's.
//!
//! A command is an envelope with a level and a body. The body is the JSON of [`cluster::Command`], compressed when it
//! is large: one type is its schema, and a dump of the log can be read by people.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _, Write};

use cluster::{Command, FEATURE_LEVEL, State};
use openraft::impls::BasicNode;
use prost::Message;

use super::types::{
    Entry, EntryPayload, LeaderId, LogId, Membership, Payload, SnapshotMeta, StoredMembership, Vote,
};

/// Bodies above this are compressed.
const COMPRESS_ABOVE_BYTES: usize = 4 << 10;
/// No command is longer when unpacked: a graph has at most 1 MiB of manifest, and its linked form. It holds for what is
/// written as for what is read: an entry that could be committed and not read would stop every member for good.
pub const UNPACKED_MAX_BYTES: usize = 16 << 20;
/// No state is longer when unpacked: the quota on live bytes with room for the form.
const STATE_MAX_BYTES: u64 = 4 << 30;
/// No snapshot is longer.
pub const SNAPSHOT_MAX_BYTES: usize = 4 << 30;
const ZSTD_LEVEL: i32 = 3;

#[derive(Clone, PartialEq, Message)]
struct WireLogId {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    node: u64,
    #[prost(uint64, tag = "3")]
    index: u64,
}

#[derive(Clone, PartialEq, Message)]
struct WireVote {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    node: u64,
    #[prost(bool, tag = "3")]
    committed: bool,
}

#[derive(Clone, PartialEq, Message)]
struct WireMembership {
    #[prost(message, repeated, tag = "1")]
    configs: Vec<WireVoters>,
    #[prost(btree_map = "uint64, string", tag = "2")]
    addresses: BTreeMap<u64, String>,
}

#[derive(Clone, PartialEq, Message)]
struct WireVoters {
    #[prost(uint64, repeated, tag = "1")]
    ids: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct WireEntry {
    #[prost(message, optional, tag = "1")]
    id: Option<WireLogId>,
    #[prost(bytes = "vec", optional, tag = "2")]
    command: Option<Vec<u8>>,
    #[prost(message, optional, tag = "3")]
    membership: Option<WireMembership>,
}

#[derive(Clone, PartialEq, Message)]
struct WireEnvelope {
    #[prost(uint32, tag = "1")]
    feature_level: u32,
    #[prost(bool, tag = "2")]
    compressed: bool,
    #[prost(bytes = "vec", tag = "3")]
    body: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct WireSnapshot {
    #[prost(uint32, tag = "1")]
    feature_level: u32,
    #[prost(message, optional, tag = "2")]
    last: Option<WireLogId>,
    #[prost(message, optional, tag = "3")]
    membership_at: Option<WireLogId>,
    #[prost(message, optional, tag = "4")]
    membership: Option<WireMembership>,
    #[prost(bytes = "vec", tag = "5")]
    state: Vec<u8>,
}

fn wrong(what: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_string())
}

fn log_id_to_wire(id: &LogId) -> WireLogId {
    WireLogId { term: id.leader_id.term, node: id.leader_id.node_id, index: id.index }
}

fn log_id_from_wire(id: &WireLogId) -> LogId {
    LogId::new(LeaderId { term: id.term, node_id: id.node }, id.index)
}

pub fn encode_log_id(id: &LogId) -> Vec<u8> {
    log_id_to_wire(id).encode_to_vec()
}

pub fn decode_log_id(bytes: &[u8]) -> io::Result<LogId> {
    WireLogId::decode(bytes).map(|id| log_id_from_wire(&id)).map_err(wrong)
}

pub fn encode_vote(vote: &Vote) -> Vec<u8> {
    let id = &vote.leader_id;
    WireVote { term: id.term, node: id.node_id, committed: vote.committed }.encode_to_vec()
}

pub fn decode_vote(bytes: &[u8]) -> io::Result<Vote> {
    let vote = WireVote::decode(bytes).map_err(wrong)?;
    let leader_id = LeaderId { term: vote.term, node_id: vote.node };
    Ok(Vote { leader_id, committed: vote.committed })
}

fn membership_to_wire(membership: &Membership) -> WireMembership {
    WireMembership {
        configs: membership
            .get_joint_config()
            .iter()
            .map(|ids| WireVoters { ids: ids.iter().copied().collect() })
            .collect(),
        addresses: membership.nodes().map(|(id, node)| (*id, node.addr.clone())).collect(),
    }
}

fn membership_from_wire(membership: WireMembership) -> io::Result<Membership> {
    let configs: Vec<BTreeSet<u64>> =
        membership.configs.into_iter().map(|voters| voters.ids.into_iter().collect()).collect();
    let nodes: BTreeMap<u64, BasicNode> =
        membership.addresses.into_iter().map(|(id, addr)| (id, BasicNode { addr })).collect();
    Membership::new(configs, nodes).map_err(wrong)
}

pub fn encode_entry(entry: &Entry) -> Vec<u8> {
    let (command, membership) = match &entry.payload {
        EntryPayload::Blank => (None, None),
        EntryPayload::Normal(payload) => (Some(payload.0.clone()), None),
        EntryPayload::Membership(membership) => (None, Some(membership_to_wire(membership))),
    };
    WireEntry { id: Some(log_id_to_wire(&entry.log_id)), command, membership }.encode_to_vec()
}

pub fn decode_entry(bytes: &[u8]) -> io::Result<Entry> {
    let entry = WireEntry::decode(bytes).map_err(wrong)?;
    let id = entry.id.ok_or_else(|| wrong("an entry has no id"))?;
    let payload = match (entry.command, entry.membership) {
        (None, None) => EntryPayload::Blank,
        (Some(command), None) => EntryPayload::Normal(Payload(command)),
        (None, Some(membership)) => EntryPayload::Membership(membership_from_wire(membership)?),
        (Some(_), Some(_)) => return Err(wrong("an entry is both a command and a membership")),
    };
    Ok(Entry { log_id: log_id_from_wire(&id), payload })
}

/// Why a command cannot be an entry.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It has more than [`UNPACKED_MAX_BYTES`].
    #[error("more than {UNPACKED_MAX_BYTES} bytes")]
    TooLong,
    /// It would not be read as what was written.
    #[error("it cannot be read back")]
    Unreadable(#[source] io::Error),
}

/// Encodes a command, and makes sure that it can be read.
pub fn encode_command(command: &Command) -> Result<Payload, CommandError> {
    let mut text = Bounded(Vec::new());
    serde_json::to_writer(&mut text, command).map_err(|error| match error.classify() {
        serde_json::error::Category::Io => CommandError::TooLong,
        _ => CommandError::Unreadable(wrong(error)),
    })?;
    let text = text.0;
    let read: Result<Command, _> = serde_json::from_slice(&text);
    if let Some(error) = read.err() {
        return Err(CommandError::Unreadable(wrong(error)));
    }
    let compressed = text.len() > COMPRESS_ABOVE_BYTES;
    let packed = if compressed { zstd::encode_all(&text[..], ZSTD_LEVEL) } else { Ok(text) };
    let body = packed.map_err(CommandError::Unreadable)?;
    let feature_level = command.body.level();
    Ok(Payload(WireEnvelope { feature_level, compressed, body }.encode_to_vec()))
}

/// Takes [`UNPACKED_MAX_BYTES`] and refuses more, before there is memory for it.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > UNPACKED_MAX_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An error here stops the member: a command that it cannot read must not be skipped.
pub fn decode_command(payload: &Payload) -> io::Result<Command> {
    let envelope = WireEnvelope::decode(&payload.0[..]).map_err(wrong)?;
    if envelope.feature_level > FEATURE_LEVEL {
        return Err(wrong(format!(
            "a command needs feature level {}, this version knows {FEATURE_LEVEL}: upgrade this member",
            envelope.feature_level
        )));
    }
    let body =
        if envelope.compressed { unpack(&envelope.body, UNPACKED_MAX_BYTES as u64)? } else { envelope.body };
    serde_json::from_slice(&body).map_err(wrong)
}

fn unpack(bytes: &[u8], limit: u64) -> io::Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    zstd::Decoder::new(bytes)?.take(limit + 1).read_to_end(&mut unpacked)?;
    if unpacked.len() as u64 > limit {
        return Err(wrong(format!("more than {limit} bytes when unpacked")));
    }
    Ok(unpacked)
}

pub fn encode_snapshot(meta: &SnapshotMeta, state: &State) -> io::Result<Vec<u8>> {
    let mut packed = zstd::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
    serde_json::to_writer(&mut packed, state).map_err(wrong)?;
    let snapshot = WireSnapshot {
        feature_level: state.level(),
        last: meta.last_log_id.as_ref().map(log_id_to_wire),
        membership_at: meta.last_membership.log_id().as_ref().map(log_id_to_wire),
        membership: Some(membership_to_wire(meta.last_membership.membership())),
        state: packed.finish()?,
    };
    Ok(snapshot.encode_to_vec())
}

pub fn decode_snapshot(bytes: &[u8]) -> io::Result<(SnapshotMeta, State)> {
    let snapshot = read_snapshot(bytes)?;
    let state = serde_json::from_slice(&unpack(&snapshot.state, STATE_MAX_BYTES)?).map_err(wrong)?;
    Ok((meta_of(snapshot)?, state))
}

/// A state alone, as a backup has it: a snapshot of no log.
pub fn encode_state(state: &State) -> io::Result<Vec<u8>> {
    encode_snapshot(&SnapshotMeta::default(), state)
}

/// The state of a backup.
pub fn decode_state(bytes: &[u8]) -> io::Result<State> {
    decode_snapshot(bytes).map(|(_, state)| state)
}

fn read_snapshot(bytes: &[u8]) -> io::Result<WireSnapshot> {
    let snapshot = WireSnapshot::decode(bytes).map_err(wrong)?;
    if snapshot.feature_level > FEATURE_LEVEL {
        return Err(wrong(format!(
            "the snapshot has format {}, this version reads {FEATURE_LEVEL}: upgrade this member",
            snapshot.feature_level
        )));
    }
    Ok(snapshot)
}

fn meta_of(snapshot: WireSnapshot) -> io::Result<SnapshotMeta> {
    let membership = membership_from_wire(snapshot.membership.unwrap_or_default())?;
    let membership_at = snapshot.membership_at.as_ref().map(log_id_from_wire);
    Ok(SnapshotMeta {
        last_log_id: snapshot.last.as_ref().map(log_id_from_wire),
        last_membership: StoredMembership::new(membership_at, membership),
    })
}
