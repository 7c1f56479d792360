//! What all mutations share: a request id, applied once, and a bounded number of tries when the state moves under them.

use cluster::command::{Body, RequestTag};
use cluster::outcome::Refusal;
use cluster::{Command, Outcome, State};
use model::id::RequestId;
use prost::{Message, Name};
use proto::convert::{DecodeError, read};
use sha2::{Digest as _, Sha256};
use tonic::Status;

use super::{Context, refusal};

/// How often a mutation is decided again when the state it was decided from has changed.
pub(super) const TRIES_MAX: usize = 5;

/// The tag of a request: its id, and a digest of what it asks for: its type, and everything in it but the id.
pub(super) fn tag<M: Message + Name>(request_id: &str, request_without_id: &M) -> Result<RequestTag, Status> {
    if request_id.is_empty() {
        return Err(DecodeError::missing("request_id").into());
    }
    let id: RequestId = read("request_id", request_id.to_owned())?;
    let mut hash = Sha256::new();
    hash.update(M::full_name());
    hash.update([0]);
    hash.update(request_without_id.encode_to_vec());
    Ok(RequestTag { id, fingerprint: hex::encode(&hash.finalize()[..16]) })
}

/// What became of this request, if it was applied before.
pub(super) fn known(state: &State, tag: &RequestTag) -> Result<Option<Outcome>, Status> {
    match state.known(tag) {
        Some(Outcome::Refused(refused)) => Err(refusal::outcome(&refused)),
        other => Ok(other),
    }
}

/// Proposes; `Ok(Err(..))` is a refusal that the caller may act on.
pub(super) async fn propose(
    context: &Context,
    request: Option<RequestTag>,
    body: Body,
) -> Result<Result<Outcome, Refusal>, Status> {
    let command = Command { now_ms: context.raft.now_ms(), request, body };
    let committed = context.raft.propose(command).await.map_err(|error| refusal::propose(&error))?;
    Ok(match committed.outcome {
        Outcome::Refused(refused) => Err(refused),
        outcome => Ok(outcome),
    })
}

/// Makes a change that was asked for under a tag, unless it was made before.
pub(super) async fn once(context: &Context, tag: RequestTag, body: Body) -> Result<(), Status> {
    let state = context.raft.read().await.map_err(|error| refusal::read(&error))?;
    if known(&state, &tag)?.is_none() {
        propose(context, Some(tag), body).await?.map_err(|refused| refusal::outcome(&refused))?;
    }
    Ok(())
}

/// Runs work that reads files away from the async workers.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Status> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| proto::status::refuse(tonic::Code::Internal, "internal", error.to_string()))
}
