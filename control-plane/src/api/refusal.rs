//! Every error of the control plane as a gRPC status: the only such mapping.

use cluster::outcome::Refusal;
use graph::diagnostic::Diagnostic;
use proto::status::{refuse, refuse_for_now, refuse_manifest};
use proto::weft::graph::v1 as wire;
use tonic::{Code, Status};

use crate::artifacts::ArtifactError;
use crate::linking::Refused;
use crate::raft::{ASK_AGAIN, ProposeError, ReadError};
use crate::replicas::ReplicaError;

/// What was proposed and not done.
pub(crate) fn propose(error: &ProposeError) -> Status {
    let (code, reason) = match error {
        ProposeError::TooLarge { .. } => (Code::ResourceExhausted, "command_too_large"),
        ProposeError::Unreadable(_) => (Code::Internal, "unreadable_command"),
        ProposeError::StateFull => (Code::ResourceExhausted, "state_quota"),
        ProposeError::DiskFull => (Code::ResourceExhausted, "disk_full"),
        ProposeError::Overloaded => {
            return refuse_for_now(Code::ResourceExhausted, "overloaded", error.to_string(), ASK_AGAIN);
        }
        ProposeError::Level { .. } => (Code::FailedPrecondition, "feature_level"),
        ProposeError::NotLeader { .. } => (Code::Unavailable, "not_leader"),
        // The client library asks again with the same request id.
        ProposeError::Unknown => (Code::DeadlineExceeded, "unknown_outcome"),
        ProposeError::Stopped(_) => (Code::Unavailable, "member_stopped"),
    };
    refuse(code, reason, error.to_string())
}

pub(super) fn read(error: &ReadError) -> Status {
    refuse(Code::Unavailable, "no_quorum", error.to_string())
}

pub(super) fn outcome(refusal: &Refusal) -> Status {
    let (code, reason) = match refusal {
        Refusal::Stale { .. } => (Code::Aborted, "stale"),
        Refusal::RevisionConflict { .. } => (Code::FailedPrecondition, "generation_conflict"),
        Refusal::NotFound { .. } => (Code::NotFound, "not_found"),
        Refusal::RequestMismatch { .. } => (Code::AlreadyExists, "idempotency_mismatch"),
        Refusal::LevelTooLow { .. } => (Code::FailedPrecondition, "feature_level"),
        Refusal::RequestExpired { .. } => (Code::FailedPrecondition, "request_expired"),
        Refusal::RequestEarly { .. } => (Code::InvalidArgument, "request_early"),
        Refusal::Exhausted { .. } => (Code::ResourceExhausted, "quota"),
        Refusal::PolicyRolloutOpen { .. } => (Code::FailedPrecondition, "policy_rollout_open"),
        Refusal::QuotaExceeded { .. } | Refusal::PriorityExceeded { .. } => {
            (Code::ResourceExhausted, "quota_exceeded")
        }
        Refusal::RouteTaken { .. } => (Code::FailedPrecondition, "route_taken"),
        Refusal::AlreadyInitialised => (Code::FailedPrecondition, "already_initialised"),
        Refusal::TokenRefused { .. } => (Code::PermissionDenied, "token_refused"),
        Refusal::LastVoter { .. } => (Code::FailedPrecondition, "last_voter"),
        Refusal::NodeInUse { .. } => (Code::FailedPrecondition, "node_in_use"),
        Refusal::NodeRevoked { .. } => (Code::PermissionDenied, "node_revoked"),
        Refusal::NodeIdentity { .. } => (Code::FailedPrecondition, "identity_mismatch"),
    };
    refuse(code, reason, refusal.to_string())
}

pub(super) fn artifact(error: &ArtifactError) -> Status {
    let (code, reason) = match error {
        ArtifactError::TooLarge { .. } => (Code::ResourceExhausted, "component_too_large"),
        ArtifactError::Offset { .. } => (Code::FailedPrecondition, "upload_offset"),
        ArtifactError::TooLong { .. } => (Code::InvalidArgument, "upload_too_long"),
        ArtifactError::Mismatch { .. } => (Code::DataLoss, "digest_mismatch"),
        ArtifactError::Size { .. } => (Code::InvalidArgument, "artifact_size"),
        ArtifactError::BeyondEnd { .. } => (Code::OutOfRange, "offset"),
        ArtifactError::TooMany => (Code::ResourceExhausted, "uploads"),
        ArtifactError::Busy(_) => (Code::Aborted, "upload_busy"),
        ArtifactError::Missing(_) => (Code::NotFound, "not_found"),
        ArtifactError::Disk { source, .. } if is_full(source) => (Code::ResourceExhausted, "disk_full"),
        ArtifactError::Disk { .. } => (Code::Internal, "disk"),
    };
    if matches!(error, ArtifactError::Disk { .. }) {
        tracing::error!(error = error as &dyn std::error::Error, "the artifact store failed");
    }
    refuse(code, reason, error.to_string())
}

pub(super) fn replica(error: &ReplicaError) -> Status {
    match error {
        ReplicaError::Store(error) => artifact(error),
        ReplicaError::TooFew { .. } => refuse(Code::Unavailable, "no_quorum", error.to_string()),
        ReplicaError::NoSource { .. } => refuse(Code::Unavailable, "artifact_not_here", error.to_string()),
        ReplicaError::NoMember => refuse(Code::FailedPrecondition, "not_a_member", error.to_string()),
        ReplicaError::Read(error) => read(error),
        ReplicaError::Lost => refuse(Code::Internal, "disk", error.to_string()),
    }
}

fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

/// Reasons that are no mistake of the manifest's text.
const PRECONDITIONS: &[&str] = &[
    "policy_unlinkable",
    "policy_denied",
    "policy_rank",
    "import_not_granted",
    "missing_artifact",
    "route_taken",
];
const TOO_LARGE: &[&str] = &[
    "manifest_too_large",
    "graph_too_large",
    "component_too_large",
    "type_too_large",
    "config_too_large",
    "compile_limit",
    "memory_limit",
];

pub(super) fn manifest(refused: &Refused) -> Status {
    let first = refused.diagnostics.first();
    let reason = first.map_or("invalid", |diagnostic| &*diagnostic.reason);
    // A component may want too much memory; a manifest that asks for it has a mistake.
    let is_written = first.is_some_and(|diagnostic| diagnostic.field.ends_with(".limits.memory"));
    let code = match reason {
        "memory_limit" if is_written => Code::InvalidArgument,
        reason if PRECONDITIONS.contains(&reason) => Code::FailedPrecondition,
        reason if TOO_LARGE.contains(&reason) => Code::ResourceExhausted,
        "digest_mismatch" => Code::DataLoss,
        _ => Code::InvalidArgument,
    };
    let message = match (first, refused.diagnostics.len()) {
        (Some(first), 1) => first.message.clone(),
        (Some(first), count) => format!("{} (and {} more)", first.message, count - 1),
        (None, _) => "refused".to_owned(),
    };
    let diagnostics = refused.diagnostics.iter().map(to_wire).collect();
    refuse_manifest(code, reason, message, wire::Diagnostics { diagnostics })
}

fn to_wire(diagnostic: &Diagnostic) -> wire::Diagnostic {
    let span = diagnostic.span.clone().unwrap_or_default();
    wire::Diagnostic {
        reason: diagnostic.reason.to_string(),
        message: diagnostic.message.clone(),
        field: diagnostic.field.clone(),
        span_start: span.start as u64,
        span_end: span.end as u64,
        has_span: diagnostic.span.is_some(),
        label: diagnostic.label.clone(),
        help: diagnostic.help.clone().unwrap_or_default(),
        warning: diagnostic.is_warning,
    }
}
