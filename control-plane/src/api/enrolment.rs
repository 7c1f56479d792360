//! `weft.trust.v1.Enrolment`: how a node comes to its identity, keeps it and loses it.

use std::time::Duration;

use cluster::State;
use cluster::command::{Body, CreateToken, Enrol};
use cluster::outcome::Refusal;
use model::id::Uid;
use model::name::NodeName;
use proto::convert::{DecodeError, parse};
use proto::status::refuse;
use proto::weft::trust::v1 as wire;
use tonic::{Code, Request, Response, Status};
use trust::authority::{IssueError, SKEW, request_key};
use trust::{JoinToken, Role, gate};

use super::mutation::{once, propose, tag};
use super::{Context, refusal};
use crate::clock;
use crate::credentials::{Credentials, CredentialsError};

/// How long a token may be good: whoever has it can be the node.
const TOKEN_LIFETIME_MAX: Duration = Duration::from_hours(24);
const DIGEST_BYTES: usize = 32;

/// The service.
#[derive(Debug, Clone)]
pub struct Enrolment {
    context: Context,
}

impl Enrolment {
    /// The service over `context`.
    pub fn new(context: Context) -> Self {
        Self { context }
    }

    fn credentials(&self) -> &Credentials {
        &self.context.credentials
    }

    /// A certificate for the identity of a node, with what vouches for it.
    fn certify(&self, request: &[u8], node: &NodeName, uid: Uid) -> Result<(Vec<u8>, Vec<Vec<u8>>), Status> {
        let now = self.context.raft.now();
        match self.credentials().certify(request, uid, now) {
            Ok(certificate) => {
                let ends = now + self.credentials().lifetime();
                self.context.liveness.certified(node, clock::milliseconds(ends));
                Ok((certificate, self.credentials().authorities()))
            }
            Err(CredentialsError::Issue(error)) => Err(not_a_request(&error)),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "a certificate was not made");
                Err(refuse(Code::Internal, "internal", "the certificate could not be made"))
            }
        }
    }
}

/// Until when the certificates that there are of a node may be shown.
pub(super) fn revoked_until_ms(context: &Context) -> u64 {
    let longest = context.credentials.lifetime() + SKEW;
    context.raft.now_ms().saturating_add(u64::try_from(longest.as_millis()).unwrap_or(u64::MAX))
}

/// A SHA-256 in hex.
pub(super) fn checked_digest(text: &str) -> Result<String, Status> {
    if hex::decode(text).is_ok_and(|bytes| bytes.len() == DIGEST_BYTES) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(DecodeError::malformed("digest", "64 hex digits were expected").into())
    }
}

/// How long a token may be good.
pub(super) fn checked_lifetime(lifetime_ms: u64) -> Result<(), Status> {
    let lifetime = Duration::from_millis(lifetime_ms);
    if lifetime.is_zero() || lifetime > TOKEN_LIFETIME_MAX {
        let hours = TOKEN_LIFETIME_MAX.as_secs() / 3600;
        let message = format!("more than nothing and at most {hours} hours were expected");
        return Err(DecodeError::malformed("lifetime_ms", message).into());
    }
    Ok(())
}

fn not_a_request(error: &IssueError) -> Status {
    DecodeError::malformed("certificate_request", error).into()
}

/// Who holds this identity, if it is one of a node that has joined.
pub(super) fn node_of<'a>(state: &'a State, uid: &Uid) -> Option<&'a NodeName> {
    state.enrolled.iter().find(|(_, record)| record.uid == *uid).map(|(name, _)| name)
}

#[tonic::async_trait]
impl wire::enrolment_server::Enrolment for Enrolment {
    async fn create_token(
        &self,
        request: Request<wire::CreateTokenRequest>,
    ) -> Result<Response<wire::CreateTokenResponse>, Status> {
        let mut request = request.into_inner();
        let id = std::mem::take(&mut request.request_id);
        let tag = tag(&id, &request)?;
        let node: NodeName = parse("node", &request.node)?;
        let digest = checked_digest(&request.digest)?;
        checked_lifetime(request.lifetime_ms)?;
        let expires_ms = self.context.raft.now_ms().saturating_add(request.lifetime_ms);
        let body = Body::CreateToken(CreateToken { digest: digest.clone(), node, expires_ms });
        once(&self.context, tag, body).await?;
        let state = self.context.raft.state();
        // A repeated request is told what the first one came to.
        let expires_ms = state.tokens.get(&digest).map_or(0, |token| token.expires_ms);
        Ok(Response::new(wire::CreateTokenResponse { expires_ms }))
    }

    async fn join(&self, request: Request<wire::JoinRequest>) -> Result<Response<wire::JoinResponse>, Status> {
        let request = request.into_inner();
        let node: NodeName = parse("node", &request.node)?;
        let token: JoinToken = parse("token", &request.token)?;
        let key = request_key(&request.certificate_request).map_err(|error| not_a_request(&error))?;
        let refused = || Refusal::TokenRefused { who: format!("node {node}") };
        let digest = token.digest();
        let state = self.context.raft.read().await.map_err(|error| refusal::read(&error))?;
        // Guesses are not worth a line of the log.
        if !state.tokens.contains_key(&digest) {
            return Err(refusal::outcome(&refused()));
        }
        let enrol = Enrol {
            token: digest.clone(),
            node: node.clone(),
            uid: Uid::new(uuid::Uuid::new_v4().to_string())
                .map_err(|error| Status::internal(error.to_string()))?,
            key,
            revoked_until_ms: revoked_until_ms(&self.context),
        };
        let enrolled = propose(&self.context, None, Body::Enrol(enrol)).await?;
        enrolled.map_err(|refused| refusal::outcome(&refused))?;
        let state = self.context.raft.state();
        let used = state.tokens.get(&digest).and_then(|token| token.used.as_ref());
        // Whoever joined by a token that is used up may have been revoked since.
        let uid = used.map(|used| used.uid.clone()).filter(|uid| node_of(&state, uid) == Some(&node));
        let uid = uid.ok_or_else(|| refusal::outcome(&refused()))?;
        tracing::info!(%node, %uid, "a node joined");
        let (certificate, authorities) = self.certify(&request.certificate_request, &node, uid)?;
        Ok(Response::new(wire::JoinResponse { certificate, authorities }))
    }

    async fn renew(
        &self,
        request: Request<wire::RenewRequest>,
    ) -> Result<Response<wire::RenewResponse>, Status> {
        let uid = gate::caller(&request, Role::Node)?;
        let state = self.context.raft.read().await.map_err(|error| refusal::read(&error))?;
        let Some(node) = node_of(&state, &uid) else {
            return Err(refusal::outcome(&Refusal::NodeRevoked { name: uid.to_string() }));
        };
        let request = request.into_inner();
        let (certificate, authorities) = self.certify(&request.certificate_request, node, uid)?;
        Ok(Response::new(wire::RenewResponse { certificate, authorities }))
    }

    async fn revoke(
        &self,
        request: Request<wire::RevokeRequest>,
    ) -> Result<Response<wire::RevokeResponse>, Status> {
        let mut request = request.into_inner();
        let id = std::mem::take(&mut request.request_id);
        let tag = tag(&id, &request)?;
        let node: NodeName = parse("node", &request.node)?;
        let body = Body::RevokeNode { node, until_ms: revoked_until_ms(&self.context) };
        once(&self.context, tag, body).await?;
        Ok(Response::new(wire::RevokeResponse {}))
    }
}
