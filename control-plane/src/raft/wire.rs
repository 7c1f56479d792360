//! What members say to each other, as messages and as openraft has it.

use openraft::raft::{AppendEntriesResponse, VoteRequest, VoteResponse};
use proto::convert::DecodeError;
use proto::weft::member::v1 as wire;

use super::clocks::own_ms;
use super::codec;
use super::types::{Entry, LeaderId, LogId, TypeConfig, Vote};

pub fn log_id_to_wire(id: &LogId) -> wire::LogId {
    wire::LogId { term: id.leader_id.term, member: id.leader_id.node_id, index: id.index }
}

pub fn log_id_from_wire(id: &wire::LogId) -> LogId {
    LogId::new(LeaderId { term: id.term, node_id: id.member }, id.index)
}

pub fn vote_to_wire(vote: &Vote) -> wire::Ballot {
    let id = &vote.leader_id;
    wire::Ballot { term: id.term, member: id.node_id, committed: vote.committed }
}

pub fn vote_from_wire(field: &str, vote: Option<wire::Ballot>) -> Result<Vote, DecodeError> {
    let vote = vote.ok_or_else(|| DecodeError::missing(field))?;
    let leader_id = LeaderId { term: vote.term, node_id: vote.member };
    Ok(Vote { leader_id, committed: vote.committed })
}

pub fn entries_from_wire(entries: &[Vec<u8>]) -> Result<Vec<Entry>, DecodeError> {
    let entry = |bytes: &Vec<u8>| {
        codec::decode_entry(bytes).map_err(|error| DecodeError::malformed("entries", error.to_string()))
    };
    entries.iter().map(entry).collect()
}

pub fn appended_to_wire(
    response: &AppendEntriesResponse<TypeConfig>,
    is_low_on_disk: bool,
) -> wire::AppendResponse {
    use wire::append_response::Result as Appended;
    let result = match response {
        AppendEntriesResponse::Success => Appended::Success(true),
        AppendEntriesResponse::Conflict => Appended::Conflict(true),
        AppendEntriesResponse::HigherVote(vote) => Appended::Higher(vote_to_wire(vote)),
        AppendEntriesResponse::PartialSuccess(Some(last)) => Appended::Partial(log_id_to_wire(last)),
        // Nothing of it: as if it had not been sent.
        AppendEntriesResponse::PartialSuccess(None) => Appended::Conflict(true),
    };
    wire::AppendResponse { result: Some(result), is_low_on_disk, clock_ms: own_ms() }
}

pub fn appended_from_wire(
    response: wire::AppendResponse,
) -> Result<AppendEntriesResponse<TypeConfig>, DecodeError> {
    use wire::append_response::Result as Appended;
    Ok(match response.result.ok_or_else(|| DecodeError::missing("result"))? {
        Appended::Success(_) => AppendEntriesResponse::Success,
        Appended::Conflict(_) => AppendEntriesResponse::Conflict,
        Appended::Higher(vote) => AppendEntriesResponse::HigherVote(vote_from_wire("higher", Some(vote))?),
        Appended::Partial(last) => AppendEntriesResponse::PartialSuccess(Some(log_id_from_wire(&last))),
    })
}

pub fn vote_request_to_wire(to: u64, request: &VoteRequest<TypeConfig>, is_trial: bool) -> wire::VoteRequest {
    wire::VoteRequest {
        to,
        vote: Some(vote_to_wire(&request.vote)),
        last: request.last_log_id.as_ref().map(log_id_to_wire),
        leadership_transfer: request.leadership_transfer,
        is_trial,
        address: String::new(),
    }
}

pub fn vote_request_from_wire(request: &wire::VoteRequest) -> Result<VoteRequest<TypeConfig>, DecodeError> {
    let vote = vote_from_wire("vote", request.vote)?;
    let mut asked = VoteRequest::new(vote, request.last.as_ref().map(log_id_from_wire));
    asked.leadership_transfer = request.leadership_transfer;
    Ok(asked)
}

pub fn voted_to_wire(response: &VoteResponse<TypeConfig>) -> wire::VoteResponse {
    wire::VoteResponse {
        vote: Some(vote_to_wire(&response.vote)),
        granted: response.vote_granted,
        last: response.last_log_id.as_ref().map(log_id_to_wire),
    }
}

pub fn voted_from_wire(response: &wire::VoteResponse) -> Result<VoteResponse<TypeConfig>, DecodeError> {
    let vote = vote_from_wire("vote", response.vote)?;
    Ok(VoteResponse::new(vote, response.last.as_ref().map(log_id_from_wire), response.granted))
}
