//! The members of the control plane as they should be.

use crate::command::EnrolMember;
use crate::outcome::{Outcome, Refusal};
use crate::state::{
    FIRST_MEMBER, MEMBERS_MAX, MemberId, MemberRecord, MemberTokenRecord, MemberTokenUse, State, TOKENS_MAX,
    VOTERS_MAX,
};

fn subject(member: MemberId) -> String {
    format!("member/{member}")
}

fn unknown(member: MemberId) -> Refusal {
    Refusal::NotFound { what: format!("member {member}") }
}

pub(super) fn create_token(state: &mut State, digest: &str, expires_ms: u64) -> Result<Outcome, Refusal> {
    let now_ms = state.now_ms;
    if state.member_tokens.values().filter(|token| token.expires_ms > now_ms).count() >= TOKENS_MAX {
        return Err(Refusal::Exhausted { what: "join tokens".to_owned(), bound: TOKENS_MAX as u64 });
    }
    if state.members.len() >= MEMBERS_MAX {
        return Err(Refusal::Exhausted { what: "members".to_owned(), bound: MEMBERS_MAX as u64 });
    }
    state.advance();
    let ended = state.member_tokens.iter().filter(|(_, token)| token.expires_ms <= now_ms);
    for digest in ended.map(|(digest, _)| digest.clone()).collect::<Vec<_>>() {
        state.member_tokens.remove(&digest);
    }
    state.member_tokens.insert(digest.to_owned(), MemberTokenRecord { expires_ms, used: None });
    let message = format!("a join token for a member was made, good until {expires_ms} ms since 1970");
    state.event("cluster".to_owned(), "token", message);
    Ok(state.done())
}

pub(super) fn enrol(state: &mut State, enrol: &EnrolMember) -> Result<Outcome, Refusal> {
    let refused = Refusal::TokenRefused { who: "a member".to_owned() };
    let token = state.member_tokens.get(&enrol.token).cloned();
    let Some(token) = token.filter(|token| token.expires_ms > state.now_ms) else { return Err(refused) };
    if let Some(used) = &token.used {
        // The answer may have been lost: who used it is told again, and nobody else.
        return if used.key == enrol.key { Ok(state.done()) } else { Err(refused) };
    }
    // The first one has not said yet where others reach it.
    if state.members.is_empty() {
        let what = "member that another one could reach: start the first one with --advertise host:port";
        return Err(Refusal::NotFound { what: what.to_owned() });
    }
    if state.members.len() >= MEMBERS_MAX {
        return Err(Refusal::Exhausted { what: "members".to_owned(), bound: MEMBERS_MAX as u64 });
    }
    if enrol.level < state.level() {
        let member = "that joins".to_owned();
        return Err(Refusal::LevelTooLow { member, known: enrol.level, needed: state.level() });
    }
    state.advance();
    state.last_member = state.last_member.max(FIRST_MEMBER.0) + 1;
    let member = MemberId(state.last_member);
    let used = Some(MemberTokenUse { key: enrol.key.clone(), member });
    state.member_tokens.insert(enrol.token.clone(), MemberTokenRecord { used, ..token });
    let record = MemberRecord {
        address: enrol.address.clone(),
        joined_at_ms: state.now_ms,
        is_voter: false,
        level: enrol.level,
    };
    state.members.insert(member, record);
    state.event(subject(member), "joined", format!("it learns, and is reached at {}", enrol.address));
    Ok(state.done())
}

pub(super) fn announce(
    state: &mut State,
    member: MemberId,
    address: &str,
    level: u32,
) -> Result<Outcome, Refusal> {
    if level < state.level() {
        let (member, needed) = (member.to_string(), state.level());
        return Err(Refusal::LevelTooLow { member, known: level, needed });
    }
    let now_ms = state.now_ms;
    let record = match state.members.get(&member) {
        Some(record) if record.address == address && record.level == level => return Ok(state.done()),
        Some(record) => MemberRecord { address: address.to_owned(), level, ..record.clone() },
        // Nobody let the first one join.
        None if member == FIRST_MEMBER && state.members.is_empty() => {
            MemberRecord { address: address.to_owned(), joined_at_ms: now_ms, is_voter: true, level }
        }
        None => return Err(unknown(member)),
    };
    state.advance();
    state.last_member = state.last_member.max(member.0);
    state.members.insert(member, record);
    state.event(subject(member), "announced", format!("it is reached at {address}"));
    Ok(state.done())
}

pub(super) fn promote(state: &mut State, member: MemberId) -> Result<Outcome, Refusal> {
    let record = state.members.get(&member).cloned().ok_or_else(|| unknown(member))?;
    if record.is_voter {
        return Ok(state.done());
    }
    if state.members.values().filter(|record| record.is_voter).count() >= VOTERS_MAX {
        return Err(Refusal::Exhausted { what: "members that vote".to_owned(), bound: VOTERS_MAX as u64 });
    }
    state.advance();
    state.members.insert(member, MemberRecord { is_voter: true, ..record });
    state.event(subject(member), "promoted", "it gets a vote".to_owned());
    Ok(state.done())
}

pub(super) fn remove(state: &mut State, member: MemberId) -> Result<Outcome, Refusal> {
    let record = state.members.get(&member).cloned().ok_or_else(|| unknown(member))?;
    let is_other = |(id, other): &(&MemberId, &MemberRecord)| **id != member && other.is_voter;
    if record.is_voter && !state.members.iter().any(|entry| is_other(&entry)) {
        return Err(Refusal::LastVoter { member: member.0 });
    }
    state.advance();
    state.members.remove(&member);
    state.event(subject(member), "removed", "its id is never used again".to_owned());
    Ok(state.done())
}

pub(super) fn raise_level(state: &mut State, level: u32) -> Result<Outcome, Refusal> {
    if level <= state.level() {
        return Ok(state.done());
    }
    if let Some((member, record)) = state.members.iter().find(|(_, record)| record.level < level) {
        return Err(Refusal::LevelTooLow { member: member.to_string(), known: record.level, needed: level });
    }
    state.advance();
    state.feature_level = level;
    let message = format!("all members know feature level {level}, which is used from now on");
    state.event("cluster".to_owned(), "raised", message);
    Ok(state.done())
}
