//! `weft.member.v1.Members`: who is of the control plane, and how that changes.

use std::time::Duration;

use cluster::command::{Body, EnrolMember};
use cluster::feature::FIRST_LEVEL;
use cluster::outcome::Refusal;
use cluster::state::{MemberId, MemberRecord};
use proto::convert::{DecodeError, parse};
use proto::status::refuse;
use proto::weft::member::v1 as wire;
use tonic::{Code, Request, Response, Status};
use trust::JoinToken;

use super::enrolment::{checked_digest, checked_lifetime};
use super::mutation::{known, once, propose, tag};
use super::{Context, not_leader, refusal};
use crate::config::member_address;
use crate::raft::{Membership, TransferError};

/// How long a change of the members may take until it is in force.
const CHANGE_PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether it is.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The service.
#[derive(Debug, Clone)]
pub struct Members {
    context: Context,
}

impl Members {
    /// The service over `context`.
    pub fn new(context: Context) -> Self {
        Self { context }
    }

    /// Waits until the log's membership is as `wanted` says.
    async fn in_force(&self, wanted: impl Fn(&Membership) -> bool, what: String) -> Result<(), Status> {
        let waited = tokio::time::timeout(CHANGE_PATIENCE, async {
            loop {
                // Between two memberships a quorum of both is needed: that is not what was asked for.
                let membership = self.context.raft.membership();
                if membership.is_decided && !membership.is_joint && wanted(&membership) {
                    return;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
        waited.await.map_err(|_| {
            let message = format!("{what} is decided, and not in force yet: ask again");
            refuse(Code::DeadlineExceeded, "unknown_outcome", message)
        })
    }
}

fn show(id: MemberId, record: &MemberRecord, membership: &Membership, is_low_on_disk: bool) -> wire::Member {
    let status = membership.members.get(&id.0);
    let matched = status.and_then(|status| status.matched);
    wire::Member {
        id: id.0,
        address: record.address.clone(),
        role: match status {
            None => "joining",
            Some(status) if status.is_voter => "voter",
            Some(_) => "learner",
        }
        .to_owned(),
        joined_at_ms: record.joined_at_ms,
        matched,
        last: matched.map(|_| membership.last),
        feature_level: record.level,
        is_low_on_disk,
    }
}

#[tonic::async_trait]
impl wire::members_server::Members for Members {
    async fn list(&self, _: Request<wire::ListRequest>) -> Result<Response<wire::ListResponse>, Status> {
        let state = self.context.raft.read().await.map_err(|error| refusal::read(&error))?;
        let membership = self.context.raft.membership();
        let shown = |(id, record): (&MemberId, &MemberRecord)| {
            show(*id, record, &membership, self.context.raft.is_low_on_disk(id.0))
        };
        let members = state.members.iter().map(shown).collect();
        Ok(Response::new(wire::ListResponse {
            members,
            asked: self.context.raft.id(),
            leader: membership.leader.unwrap_or_default(),
            term: membership.term,
            feature_level: state.level(),
        }))
    }

    async fn create_token(
        &self,
        request: Request<wire::CreateTokenRequest>,
    ) -> Result<Response<wire::CreateTokenResponse>, Status> {
        let mut request = request.into_inner();
        let id = std::mem::take(&mut request.request_id);
        let tag = tag(&id, &request)?;
        let digest = checked_digest(&request.digest)?;
        checked_lifetime(request.lifetime_ms)?;
        let expires_ms = self.context.raft.now_ms().saturating_add(request.lifetime_ms);
        let body = Body::CreateMemberToken { digest: digest.clone(), expires_ms };
        once(&self.context, tag, body).await?;
        let state = self.context.raft.state();
        // A repeated request is told what the first one came to.
        let expires_ms = state.member_tokens.get(&digest).map_or(0, |token| token.expires_ms);
        Ok(Response::new(wire::CreateTokenResponse { expires_ms }))
    }

    async fn join(&self, request: Request<wire::JoinRequest>) -> Result<Response<wire::JoinResponse>, Status> {
        let request = request.into_inner();
        let token: JoinToken = parse("token", &request.token)?;
        let key = checked_digest(&request.key)?;
        let wrong = |why: String| Status::from(DecodeError::malformed("address", why));
        let address = member_address(&request.address).map_err(wrong)?;
        let refused = || refusal::outcome(&Refusal::TokenRefused { who: "a member".to_owned() });
        let digest = token.digest();
        let state = self.context.raft.read().await.map_err(|error| refusal::read(&error))?;
        // Guesses are not worth a line of the log.
        if !state.member_tokens.contains_key(&digest) {
            return Err(refused());
        }
        let level = request.feature_level.max(FIRST_LEVEL);
        let enrol = EnrolMember { token: digest.clone(), key, address, level };
        let enrolled = propose(&self.context, None, Body::EnrolMember(enrol)).await?;
        enrolled.map_err(|refused| refusal::outcome(&refused))?;
        let state = self.context.raft.state();
        let used = state.member_tokens.get(&digest).and_then(|token| token.used.as_ref());
        // Whoever joined by a token that is used up may have been taken out since.
        let member = used.map(|used| used.member).filter(|member| state.members.contains_key(member));
        let member = member.ok_or_else(refused)?;
        tracing::info!(%member, "a member joined");
        let authority = self.context.credentials.authority_pem().to_string();
        Ok(Response::new(wire::JoinResponse { member: member.0, authority }))
    }

    async fn promote(
        &self,
        request: Request<wire::PromoteRequest>,
    ) -> Result<Response<wire::PromoteResponse>, Status> {
        let mut request = request.into_inner();
        let id = std::mem::take(&mut request.request_id);
        let tag = tag(&id, &request)?;
        let member = MemberId(request.member);
        let state = self.context.raft.read().await.map_err(|error| refusal::read(&error))?;
        // The leader alone knows how far the others are.
        if !self.context.raft.is_leader() {
            return Err(not_leader(&self.context));
        }
        if known(&state, &tag)?.is_none() {
            if state.members.contains_key(&member) && !self.context.raft.is_caught_up(member) {
                let message = format!("member {member} has not caught up yet: ask again in a moment");
                return Err(refuse(Code::FailedPrecondition, "not_caught_up", message));
            }
            let promoted = propose(&self.context, Some(tag), Body::PromoteMember { member }).await?;
            promoted.map_err(|refused| refusal::outcome(&refused))?;
        }
        let votes =
            |membership: &Membership| membership.members.get(&member.0).is_some_and(|status| status.is_voter);
        self.in_force(votes, format!("the vote of member {member}")).await?;
        Ok(Response::new(wire::PromoteResponse {}))
    }

    async fn remove(
        &self,
        request: Request<wire::RemoveRequest>,
    ) -> Result<Response<wire::RemoveResponse>, Status> {
        let mut request = request.into_inner();
        let id = std::mem::take(&mut request.request_id);
        let tag = tag(&id, &request)?;
        let member = MemberId(request.member);
        once(&self.context, tag, Body::RemoveMember { member }).await?;
        let is_gone = |membership: &Membership| !membership.members.contains_key(&member.0);
        self.in_force(is_gone, format!("that member {member} goes")).await?;
        Ok(Response::new(wire::RemoveResponse {}))
    }

    async fn transfer(
        &self,
        request: Request<wire::TransferRequest>,
    ) -> Result<Response<wire::TransferResponse>, Status> {
        let to = Some(request.into_inner().member).filter(|member| *member != 0);
        if !self.context.raft.is_leader() {
            return Err(not_leader(&self.context));
        }
        let leader = self.context.raft.transfer(to).await.map_err(|error| {
            let (code, reason) = match &error {
                TransferError::Nobody | TransferError::NoVoter(_) => {
                    (Code::FailedPrecondition, "no_other_voter")
                }
                TransferError::NotYet { .. } => (Code::DeadlineExceeded, "unknown_outcome"),
                TransferError::Stopped(_) => (Code::Unavailable, "member_stopped"),
            };
            refuse(code, reason, error.to_string())
        })?;
        Ok(Response::new(wire::TransferResponse { leader }))
    }
}
