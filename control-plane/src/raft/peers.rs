//! The way to other members.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures::{StreamExt as _, stream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::impls::BasicNode;
use openraft::network::{RPCOption, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, OptionalSend};
use proto::status::{deepest, is_not_sent};
use proto::weft::member::v1 as proto_wire;
use proto::weft::member::v1::consensus_client::ConsensusClient;
use sha2::{Digest as _, Sha256};
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};
use trust::{Expect, Keyring, connector};

use super::Transport;
use super::clocks::Clocks;
use super::codec;
use super::types::{Entry, Snapshot, SnapshotBytes, TypeConfig, Vote};
use super::wire;
use crate::config::member_address;

/// The most bytes of entries in one message, but for a single one that is longer.
const APPEND_MAX_BYTES: usize = 2 << 20;
/// The largest message between members, but for snapshots, which go in parts.
pub const MESSAGE_MAX_BYTES: usize = 8 << 20;
/// Bytes of a part of a snapshot.
const PART_BYTES: usize = 256 << 10;
/// How long a message of entries may take until they are on the other member's disk.
const APPEND_PATIENCE: Duration = Duration::from_secs(5);
/// How long a snapshot may take: 4 GiB over a slow road.
const SNAPSHOT_PATIENCE: Duration = Duration::from_mins(30);
/// A member that does not take a connection for so long is as good as gone.
const CONNECT_PATIENCE: Duration = Duration::from_secs(1);
/// A connection whose peer does not answer is closed after these two.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_PATIENCE: Duration = Duration::from_secs(2);

/// The way to other members; a cheap handle.
#[derive(Debug, Clone, Default)]
pub struct Peers {
    /// Unknown until this member knows who it is.
    keyring: Arc<OnceLock<Keyring>>,
    channels: Arc<Mutex<BTreeMap<(String, Road), Channel>>>,
    /// Where this member is reached, once it knows.
    own_address: Arc<OnceLock<String>>,
    /// What time it is.
    pub(super) clocks: Clocks,
    /// What is known of others.
    known: Arc<Mutex<BTreeMap<u64, Known>>>,
}

/// What is known of a member beside what consensus keeps of it.
#[derive(Debug, Default)]
struct Known {
    /// Where it is, as the state says.
    recorded: Option<String>,
    /// Where it is, as it has said itself since.
    heard: Option<String>,
    /// Whether it has said that its disk has little room.
    is_low_on_disk: bool,
}

/// What goes over a connection: heartbeats have one of their own, so that nothing large delays them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Road {
    /// Heartbeats and votes.
    Beats,
    /// Entries and snapshots.
    Entries,
    /// What members ask the leader for others.
    Calls,
    /// The bytes of artifacts.
    Artifacts,
}

impl Peers {
    /// From now on members are reached as who the keyring says.
    pub fn identify(&self, keyring: Keyring) {
        // The same each time: a member is one for as long as it runs.
        let _ = self.keyring.set(keyring);
    }

    /// Where others reach this member.
    pub fn listens_at(&self, address: String) {
        // The same each time.
        let _ = self.own_address.set(address);
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<u64, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps where members are, as the state says.
    pub fn learn(&self, members: impl Iterator<Item = (u64, String)>) {
        let mut known = self.known();
        for (member, address) in members {
            let known = known.entry(member).or_default();
            // What it has said itself is newer than what the state has said all along.
            if known.recorded.as_ref() != Some(&address) {
                (known.recorded, known.heard) = (Some(address), None);
            }
        }
    }

    /// Keeps where a member says that it is.
    pub(super) fn hears_from(&self, member: u64, address: String) {
        let mut known = self.known();
        known.entry(member).or_default().heard = Some(address);
    }

    /// Where a member is, if nothing better is known than `address`.
    pub fn address(&self, member: u64, address: String) -> String {
        let known = self.known();
        let known = known.get(&member).and_then(|known| known.heard.as_ref().or(known.recorded.as_ref()));
        known.cloned().unwrap_or(address)
    }

    /// Whether a member has said last that its disk has little room.
    pub(super) fn is_low_on_disk(&self, member: u64) -> bool {
        let known = self.known();
        known.get(&member).is_some_and(|known| known.is_low_on_disk)
    }

    fn hears_of_disk(&self, member: u64, is_low: bool) {
        let mut known = self.known();
        known.entry(member).or_default().is_low_on_disk = is_low;
    }

    /// A client of the member at an address; none as long as this member does not know who it is.
    pub(super) fn client(&self, address: &str, road: Road) -> Option<ConsensusClient<Transport>> {
        #[cfg(test)]
        let transport = Transport::find(self, address, road)?;
        #[cfg(not(test))]
        let transport = self.channel(address, road)?;
        let client = ConsensusClient::new(transport);
        Some(client.max_decoding_message_size(MESSAGE_MAX_BYTES).max_encoding_message_size(MESSAGE_MAX_BYTES))
    }

    /// The connection to the member at an address, made when it is first used.
    pub fn channel(&self, address: &str, road: Road) -> Option<Channel> {
        let keyring = self.keyring.get()?;
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        // One entry for each address that a member ever had while this one runs.
        let key = (address.to_owned(), road);
        if let Some(channel) = channels.get(&key) {
            return Some(channel.clone());
        }
        let endpoint = Endpoint::from_shared(format!("http://{address}")).ok()?;
        let channel = endpoint
            .connect_timeout(CONNECT_PATIENCE)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_PATIENCE)
            .keep_alive_while_idle(true)
            .connect_with_connector_lazy(connector(keyring.clone(), Expect::Member));
        channels.insert(key, channel.clone());
        Some(channel)
    }
}

/// One member, as consensus reaches it.
#[derive(Debug)]
pub struct Peer {
    peers: Peers,
    me: u64,
    id: u64,
    address: String,
}

/// Makes the way to members.
#[derive(Debug)]
pub struct Roads {
    /// How they are reached.
    pub peers: Peers,
    /// This member.
    pub me: u64,
}

impl RaftNetworkFactory<TypeConfig> for Roads {
    type Network = Peer;

    async fn new_client(&mut self, id: u64, node: &BasicNode) -> Peer {
        Peer { peers: self.peers.clone(), me: self.me, id, address: node.addr.clone() }
    }
}

impl Peer {
    /// Where it is now.
    fn address(&self) -> String {
        self.peers.address(self.id, self.address.clone())
    }

    fn error(&self, why: impl std::fmt::Display) -> AnyError {
        AnyError::error(format!("member {} at {}: {why}", self.id, self.address()))
    }

    fn unreachable(&self, why: impl std::fmt::Display) -> Unreachable<TypeConfig> {
        Unreachable::new(&self.error(why))
    }

    fn failed(&self, why: impl std::fmt::Display) -> NetworkError<TypeConfig> {
        NetworkError::new(&self.error(why))
    }

    /// One call, in the time that consensus has for it.
    async fn call<T, F>(
        &self,
        road: Road,
        action: RPCTypes,
        patience: Duration,
        call: impl FnOnce(ConsensusClient<Transport>) -> F,
    ) -> Result<T, RPCError<TypeConfig>>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let client = self.peers.client(&self.address(), road);
        let client = client.ok_or_else(|| self.unreachable("this member does not know who it is yet"))?;
        match tokio::time::timeout(patience, call(client)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) if is_not_sent(&status) => Err(self.unreachable(deepest(&status)).into()),
            Ok(Err(status)) => Err(self.failed(deepest(&status)).into()),
            Err(_) => Err(Timeout { action, id: self.me, target: self.id, timeout: patience }.into()),
        }
    }

    async fn ask_for_vote(
        &self,
        rpc: VoteRequest<TypeConfig>,
        is_trial: bool,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let mut request = wire::vote_request_to_wire(self.id, &rpc, is_trial);
        request.address = self.peers.own_address.get().cloned().unwrap_or_default();
        let voted = self
            .call(Road::Beats, RPCTypes::Vote, option.hard_ttl(), |mut client| async move {
                client.vote(request).await
            })
            .await?;
        let answer = wire::voted_from_wire(&voted).map_err(|error| self.failed(error))?;
        self.near(&rpc.vote, &answer.vote)?;
        if voted.leader != self.me
            && let Ok(address) = member_address(&voted.leader_address)
        {
            self.peers.hears_from(voted.leader, address);
        }
        Ok(answer)
    }

    /// Refuses an answer of a term that elections cannot have led to: consensus would take the term for its own.
    fn near(&self, ours: &Vote, theirs: &Vote) -> Result<(), NetworkError<TypeConfig>> {
        wire::near(ours.leader_id.term, theirs.leader_id.term).map_err(|jump| {
            tracing::error!(member = self.id, %jump, "a member answers in a term that is out of reach: its disk or its program is broken");
            self.failed(jump)
        })
    }
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = SnapshotBytes;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        // Consensus gives both the time of a heartbeat, in which a large message does not come over a slow road.
        let (road, patience) = match rpc.entries.is_empty() {
            true => (Road::Beats, option.hard_ttl()),
            false => (Road::Entries, APPEND_PATIENCE),
        };
        let (entries, left_off) = fitting(&rpc.entries);
        let request = proto_wire::AppendRequest {
            to: self.id,
            vote: Some(wire::vote_to_wire(&rpc.vote)),
            previous: rpc.prev_log_id.as_ref().map(wire::log_id_to_wire),
            entries,
            committed: rpc.leader_commit.as_ref().map(wire::log_id_to_wire),
            clock_ms: self.peers.clocks.now_ms(true),
        };
        let appended =
            self.call(road, RPCTypes::AppendEntries, patience, |mut client| async move {
                client.append(request).await
            })
            .await?;
        self.peers.hears_of_disk(self.id, appended.is_low_on_disk);
        self.peers.clocks.hears(self.id, appended.clock_ms);
        let appended =
            wire::appended_from_wire(appended).map_err(|error| RPCError::from(self.failed(error)))?;
        if let AppendEntriesResponse::HigherVote(vote) = &appended {
            self.near(&rpc.vote, vote)?;
        }
        Ok(match (appended, left_off) {
            (AppendEntriesResponse::Success, Some(last)) => {
                AppendEntriesResponse::PartialSuccess(Some(last.log_id))
            }
            (appended, _) => appended,
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_for_vote(rpc, false, option).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_for_vote(rpc, true, option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        use proto_wire::snapshot_part::Part;
        let bytes = snapshot.snapshot;
        let head = proto_wire::SnapshotHead {
            to: self.id,
            vote: Some(wire::vote_to_wire(&vote)),
            size: bytes.len() as u64,
            sha256: Sha256::digest(&bytes[..]).to_vec(),
        };
        let head = proto_wire::SnapshotPart { part: Some(Part::Head(head)) };
        let parts = stream::unfold((bytes, 0_usize), |(bytes, at)| async move {
            let part = bytes.get(at..(at + PART_BYTES).min(bytes.len())).filter(|part| !part.is_empty())?;
            let (part, next) = (part.to_vec(), at + part.len());
            Some((proto_wire::SnapshotPart { part: Some(Part::Bytes(part)) }, (bytes, next)))
        });
        let parts = stream::iter([head]).chain(parts);
        let sending =
            self.call(Road::Entries, RPCTypes::InstallSnapshot, SNAPSHOT_PATIENCE, |mut client| async move {
                client.install(parts).await
            });
        let answer = tokio::select! {
            // An answer that is there is not passed over.
            biased;
            answer = sending => answer?,
            closed = cancel => return Err(closed.into()),
        };
        let answered = wire::vote_from_wire("vote", answer.vote).map_err(|error| self.failed(error))?;
        self.near(&vote, &answered)?;
        Ok(SnapshotResponse::new(answered))
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        // Consensus tells all others. Whoever is asked to lead stands for election, so that only the one that should is.
        if *request.to_node_id() != self.id {
            return Ok(Ok(()));
        }
        let lead = proto_wire::LeadRequest {
            to: self.id,
            from: Some(wire::vote_to_wire(request.from_leader())),
            last: request.last_log_id().map(wire::log_id_to_wire),
        };
        let answer = self
            .call(Road::Beats, RPCTypes::TransferLeader, option.hard_ttl(), |mut client| async move {
                client.lead(lead).await
            })
            .await?;
        if answer.accepted { Ok(Ok(())) } else { Err(self.failed(answer.why).into()) }
    }
}

/// As many entries as fit into a message, and the last of them if not all do.
fn fitting(entries: &[Entry]) -> (Vec<Vec<u8>>, Option<&Entry>) {
    let mut encoded = Vec::with_capacity(entries.len());
    let mut bytes = 0;
    for entry in entries {
        let next = codec::encode_entry(entry);
        bytes += next.len();
        if bytes > APPEND_MAX_BYTES && !encoded.is_empty() {
            break;
        }
        encoded.push(next);
    }
    let left_off = encoded.len() < entries.len();
    let last = encoded.len().checked_sub(1).and_then(|last| entries.get(last)).filter(|_| left_off);
    (encoded, last)
}

#[cfg(test)]
mod tests;
