//! What members say to each other, as messages and as openraft has it.

use openraft::raft::{AppendEntriesResponse, VoteRequest, VoteResponse};
use proto::convert::DecodeError;
use proto::weft::member::v1 as wire;

use super::clocks::own_ms;
use super::codec;
use super::types::{Entry, LeaderId, LogId, TypeConfig, Vote};

/// How far a term may be above this member's. Elections take a tenth of a second at least: it takes a dozen years to come
/// so far.
pub const TERM_JUMP_MAX: u64 = 1 << 32;

/// A term that elections cannot have led to.
#[derive(Debug, thiserror::Error)]
#[error("term {theirs} is more than {TERM_JUMP_MAX} above {ours}")]
pub struct TermJump {
    ours: u64,
    theirs: u64,
}

/// Refuses a term that is too far above this member's.
pub const fn near(ours: u64, theirs: u64) -> Result<(), TermJump> {
    if theirs <= ours.saturating_add(TERM_JUMP_MAX) { Ok(()) } else { Err(TermJump { ours, theirs }) }
}

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

/// Entries, each of which comes right behind the one before, the first behind `previous`: consensus writes down what it is
/// given, and no member starts again from a log with a hole.
pub fn entries_from_wire(previous: Option<LogId>, entries: &[Vec<u8>]) -> Result<Vec<Entry>, DecodeError> {
    let wrong = |why: String| DecodeError::malformed("entries", why);
    let mut before = previous;
    let mut read = Vec::with_capacity(entries.len());
    for bytes in entries {
        let entry = codec::decode_entry(bytes).map_err(|error| wrong(error.to_string()))?;
        let expected = before.map_or(0, |before| before.index.saturating_add(1));
        if entry.log_id.index != expected {
            return Err(wrong(format!("entry {expected} was expected, and {} came", entry.log_id.index)));
        }
        if before.is_some_and(|before| entry.log_id.leader_id < before.leader_id) {
            return Err(wrong(format!("the term goes down at entry {expected}")));
        }
        before = Some(entry.log_id);
        read.push(entry);
    }
    Ok(read)
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
        leader: 0,
        leader_address: String::new(),
    }
}

pub fn voted_from_wire(response: &wire::VoteResponse) -> Result<VoteResponse<TypeConfig>, DecodeError> {
    let vote = vote_from_wire("vote", response.vote)?;
    Ok(VoteResponse::new(vote, response.last.as_ref().map(log_id_from_wire), response.granted))
}
