//! `weft.member.v1.Consensus`: what other members say to this one.

use std::sync::Arc;

use cluster::state::MemberId;
use openraft::raft::{AppendEntriesRequest, ReadPolicy, TransferLeaderRequest};
use proto::convert::DecodeError;
use proto::status::refuse;
use proto::weft::member::v1 as proto_wire;
use proto::weft::member::v1::consensus_server::{Consensus as Served, ConsensusServer};
use proto::weft::member::v1::snapshot_part::Part;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tonic::{Code, Request, Response, Status, Streaming};
use trust::{Role, gate};

use super::codec::{self, SNAPSHOT_MAX_BYTES};
use super::handle::Handle;
use super::peers::MESSAGE_MAX_BYTES;
use super::spawn_blocking;
use super::types::{Payload, Snapshot, Vote};
use super::wire;
use crate::api::refusal;
use crate::config::member_address;

/// Snapshots that are received at one time: each is in memory.
const SNAPSHOTS_AT_ONCE: usize = 1;

/// The service of a member.
#[derive(Debug, Clone)]
pub struct Consensus {
    handle: Handle,
    snapshots: Arc<Semaphore>,
}

impl Consensus {
    /// That of the member of `handle`.
    pub fn server(handle: Handle) -> ConsensusServer<Self> {
        let service = Self { handle, snapshots: Arc::new(Semaphore::new(SNAPSHOTS_AT_ONCE)) };
        ConsensusServer::new(service)
            .max_decoding_message_size(MESSAGE_MAX_BYTES)
            .max_encoding_message_size(MESSAGE_MAX_BYTES)
    }

    /// Refuses what is for another member: an address may have been given on.
    fn is_for_me(&self, to: u64) -> Result<(), Status> {
        let me = self.handle.id();
        if to == me {
            return Ok(());
        }
        let message = format!("this is member {me}, and not {to}");
        Err(refuse(Code::FailedPrecondition, "other_member", message))
    }

    /// Refuses members that were taken out. Asked of the leader alone: it knows of all.
    fn is_member<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let caller = gate::caller(request, Role::Member)?;
        let id = caller.as_str().parse().ok().map(MemberId);
        let state = self.handle.state();
        if id.is_some_and(|id| state.members.contains_key(&id)) {
            return Ok(());
        }
        Err(not_a_member(caller.as_str()))
    }

    /// Who calls. Refuses members that are known to have been taken out: those that are not known at all may be newer than
    /// what this one knows, and those that the log still counts on may be needed to take them out.
    fn is_not_removed<T>(&self, request: &Request<T>) -> Result<MemberId, Status> {
        let caller = gate::caller(request, Role::Member)?;
        let id: u64 = caller.as_str().parse().map_err(|_| not_a_member(caller.as_str()))?;
        let state = self.handle.state();
        let is_known = id <= state.last_member && !state.members.is_empty();
        if is_known && !state.members.contains_key(&MemberId(id)) && !self.handle.counts_on(id) {
            return Err(not_a_member(caller.as_str()));
        }
        Ok(MemberId(id))
    }

    /// Refuses a ballot of a term that elections cannot have led to: whoever took it would hold all others up, and the
    /// last term of all could not be followed by another one.
    fn is_near(&self, caller: MemberId, vote: &Vote) -> Result<(), Status> {
        let (ours, theirs) = (self.handle.term(), vote.leader_id.term);
        wire::near(ours, theirs).map_err(|jump| {
            tracing::error!(%caller, ours, theirs, "a member asks in a term that is out of reach: its disk or its program is broken");
            refuse(Code::FailedPrecondition, "term_jump", jump.to_string())
        })
    }
}

fn not_a_member(caller: &str) -> Status {
    refuse(Code::PermissionDenied, "not_a_member", format!("member {caller} is none of this cluster's"))
}

fn stopped(error: impl std::fmt::Display) -> Status {
    refuse(Code::Unavailable, "member_stopped", error.to_string())
}

fn out_of_place(why: &str) -> Status {
    refuse(Code::FailedPrecondition, "snapshot_chunk", format!("a part of a snapshot is out of place: {why}"))
}

fn damaged(why: impl Into<String>) -> Status {
    refuse(Code::DataLoss, "snapshot_damaged", why)
}

/// The bytes of a snapshot that is said to have so many. They take memory as they come, whatever is said.
async fn receive(parts: &mut Streaming<proto_wire::SnapshotPart>, said: u64) -> Result<Vec<u8>, Status> {
    let size = usize::try_from(said).ok().filter(|size| *size <= SNAPSHOT_MAX_BYTES).ok_or_else(|| {
        let message =
            format!("a snapshot has at most {SNAPSHOT_MAX_BYTES} bytes, and this one is said to have {said}");
        refuse(Code::ResourceExhausted, "snapshot_too_large", message)
    })?;
    let mut bytes = Vec::new();
    while let Some(part) = parts.message().await? {
        let part = match part.part {
            Some(Part::Bytes(part)) if !part.is_empty() => part,
            Some(Part::Head(_)) => return Err(out_of_place("a second head came")),
            // One without any would let it go on for ever without coming further.
            Some(Part::Bytes(_)) | None => return Err(DecodeError::missing("bytes").into()),
        };
        if bytes.len() + part.len() > size {
            return Err(damaged(format!("more came than the {size} bytes that were said")));
        }
        bytes.extend_from_slice(&part);
    }
    if bytes.len() != size {
        return Err(damaged(format!("{} bytes came of the {size} that were said", bytes.len())));
    }
    Ok(bytes)
}

/// Reads the whole of a snapshot before consensus has it: one that consensus cannot read stops this member for good.
fn read_snapshot(bytes: Vec<u8>, sha256: &[u8]) -> Result<Snapshot, Status> {
    if Sha256::digest(&bytes).as_slice() != sha256 {
        return Err(damaged("the bytes are not those that were sent, or came in another order"));
    }
    let (meta, _) = codec::decode_snapshot(&bytes).map_err(|error| {
        let message = format!("it is no snapshot that this version reads: {error}");
        refuse(Code::FailedPrecondition, "snapshot_version", message)
    })?;
    Ok(Snapshot { meta, snapshot: Arc::new(bytes) })
}

#[tonic::async_trait]
impl Served for Consensus {
    async fn append(
        &self,
        request: Request<proto_wire::AppendRequest>,
    ) -> Result<Response<proto_wire::AppendResponse>, Status> {
        let caller = self.is_not_removed(&request)?;
        let request = request.into_inner();
        self.is_for_me(request.to)?;
        let vote = wire::vote_from_wire("vote", request.vote)?;
        self.is_near(caller, &vote)?;
        self.handle.peers().clocks.follows(request.clock_ms);
        let previous = request.previous.as_ref().map(wire::log_id_from_wire);
        let rpc = AppendEntriesRequest {
            vote,
            prev_log_id: previous,
            entries: wire::entries_from_wire(previous, &request.entries)?,
            leader_commit: request.committed.as_ref().map(wire::log_id_from_wire),
        };
        let appended = self.handle.raft().append_entries(rpc).await.map_err(stopped)?;
        let is_low_on_disk = self.handle.is_low_on_disk(self.handle.id());
        Ok(Response::new(wire::appended_to_wire(&appended, is_low_on_disk)))
    }

    async fn vote(
        &self,
        request: Request<proto_wire::VoteRequest>,
    ) -> Result<Response<proto_wire::VoteResponse>, Status> {
        let caller = self.is_not_removed(&request)?;
        let request = request.into_inner();
        self.is_for_me(request.to)?;
        let rpc = wire::vote_request_from_wire(&request)?;
        self.is_near(caller, &rpc.vote)?;
        if !request.address.is_empty() {
            let address = member_address(&request.address)
                .map_err(|why| Status::from(DecodeError::malformed("address", why)))?;
            self.handle.peers().hears_from(caller.0, address);
        }
        let raft = self.handle.raft();
        let voted = if request.is_trial { raft.pre_vote(rpc).await } else { raft.vote(rpc).await };
        let mut answer = wire::voted_to_wire(&voted.map_err(stopped)?);
        if let Some((leader, address)) = self.handle.leader().filter(|(leader, _)| *leader != caller.0) {
            (answer.leader, answer.leader_address) = (leader, address);
        }
        Ok(Response::new(answer))
    }

    async fn install(
        &self,
        request: Request<Streaming<proto_wire::SnapshotPart>>,
    ) -> Result<Response<proto_wire::SnapshotResponse>, Status> {
        let caller = self.is_not_removed(&request)?;
        let mut parts = request.into_inner();
        let head = match parts.message().await?.and_then(|part| part.part) {
            Some(Part::Head(head)) => head,
            Some(Part::Bytes(_)) => return Err(out_of_place("bytes came before the head")),
            None => return Err(DecodeError::missing("head").into()),
        };
        self.is_for_me(head.to)?;
        let vote = wire::vote_from_wire("vote", head.vote)?;
        self.is_near(caller, &vote)?;
        let busy = |_| refuse(Code::ResourceExhausted, "snapshots", "a snapshot is being received already");
        let _turn = self.snapshots.try_acquire().map_err(busy)?;
        let bytes = receive(&mut parts, head.size).await?;
        let read = spawn_blocking(move || read_snapshot(bytes, &head.sha256));
        let snapshot = read.await.map_err(stopped)??;
        let installed = self.handle.raft().install_full_snapshot(vote, snapshot).await.map_err(stopped)?;
        Ok(Response::new(proto_wire::SnapshotResponse { vote: Some(wire::vote_to_wire(&installed.vote)) }))
    }

    async fn lead(
        &self,
        request: Request<proto_wire::LeadRequest>,
    ) -> Result<Response<proto_wire::LeadResponse>, Status> {
        let caller = self.is_not_removed(&request)?;
        let request = request.into_inner();
        self.is_for_me(request.to)?;
        let from = wire::vote_from_wire("from", request.from)?;
        self.is_near(caller, &from)?;
        let last = request.last.as_ref().map(wire::log_id_from_wire);
        let rpc = TransferLeaderRequest::new(from, request.to, last);
        let answer = self.handle.raft().handle_transfer_leader(rpc).await.map_err(stopped)?;
        let why = answer.as_ref().err().map(ToString::to_string).unwrap_or_default();
        Ok(Response::new(proto_wire::LeadResponse { accepted: answer.is_ok(), why }))
    }

    async fn propose(
        &self,
        request: Request<proto_wire::ProposeRequest>,
    ) -> Result<Response<proto_wire::ProposeResponse>, Status> {
        self.is_member(&request)?;
        let request = request.into_inner();
        self.is_for_me(request.to)?;
        let payload = Payload(request.command);
        // What cannot be read would stop every member.
        let command = codec::decode_command(&payload)
            .map_err(|error| DecodeError::malformed("command", error.to_string()))?;
        let proposed = self.handle.propose_here(payload, command.body.takes_room()).await.ended();
        let done = proposed.map_err(|error| refusal::propose(&error))?;
        let outcome = serde_json::to_vec(&done.outcome)
            .map_err(|error| refuse(Code::DeadlineExceeded, "unknown_outcome", error.to_string()))?;
        Ok(Response::new(proto_wire::ProposeResponse { index: done.index, outcome }))
    }

    async fn section(
        &self,
        request: Request<proto_wire::SectionRequest>,
    ) -> Result<Response<proto_wire::SectionResponse>, Status> {
        self.is_member(&request)?;
        let request = request.into_inner();
        self.is_for_me(request.to)?;
        let checksum = self.handle.sections().get(request.index);
        Ok(Response::new(proto_wire::SectionResponse { checksum }))
    }

    async fn read_index(
        &self,
        request: Request<proto_wire::ReadIndexRequest>,
    ) -> Result<Response<proto_wire::ReadIndexResponse>, Status> {
        self.is_member(&request)?;
        self.is_for_me(request.into_inner().to)?;
        let linearizer = self.handle.raft().get_read_linearizer(ReadPolicy::ReadIndex).await;
        let linearizer =
            linearizer.map_err(|error| refuse(Code::Unavailable, "no_quorum", error.to_string()))?;
        let read = wire::log_id_to_wire(linearizer.read_log_id().log_id());
        Ok(Response::new(proto_wire::ReadIndexResponse { read: Some(read) }))
    }
}
