//! Why a call has no answer, as the caller can act on it.

use std::error::Error;

use graph::diagnostic::Diagnostic;
use model::id::RequestId;
use proto::convert::DecodeError;
use proto::status::is_not_sent;
use proto::weft::graph::v1 as wire;
use tonic::{Code, Status};

use crate::credentials::CredentialsError;

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The control plane refuses it.
    #[error("{message}")]
    Refused {
        /// A stable word.
        reason: Option<String>,
        /// A sentence.
        message: String,
        /// What is wrong with the manifest, if the call carried one.
        diagnostics: Vec<Diagnostic>,
        /// The gRPC code.
        code: Code,
    },
    /// Nobody answers, or nobody who leads.
    #[error("the control plane at {address} does not answer: {message}")]
    Unreachable {
        /// Whom we asked.
        address: String,
        /// What was tried.
        message: String,
        /// Set for a mutation that may have been applied.
        request: Option<RequestId>,
    },
    /// A mutation may or may not be applied.
    #[error("whether it was applied is not known: {message}")]
    Unknown {
        /// Why.
        message: String,
        /// Under which id it can be repeated.
        request: RequestId,
    },
    /// There is nothing to show the control plane.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The answer cannot be read.
    #[error("the answer cannot be read: {0}")]
    Answer(#[from] DecodeError),
}

impl CallError {
    pub(super) fn refused(status: Status) -> Self {
        let found = proto::status::diagnostics(&status).unwrap_or_default();
        Self::Refused {
            reason: proto::status::reason(&status).or_else(|| word(status.code()).map(str::to_owned)),
            message: match status.message() {
                "" => status.code().description().to_owned(),
                message => message.to_owned(),
            },
            diagnostics: found.diagnostics.into_iter().map(read_diagnostic).collect(),
            code: status.code(),
        }
    }

    /// Whether something that was asked for is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { code: Code::NotFound, .. })
    }
}

/// A word for refusals that carry none.
fn word(code: Code) -> Option<&'static str> {
    match code {
        Code::Unimplemented => Some("not_supported_by_server"),
        Code::Internal => Some("internal"),
        _ => None,
    }
}

fn read_diagnostic(found: wire::Diagnostic) -> Diagnostic {
    let bounds = |start: u64, end: u64| Some(usize::try_from(start).ok()?..usize::try_from(end).ok()?);
    Diagnostic {
        reason: found.reason.into(),
        is_warning: found.warning,
        message: found.message,
        field: found.field,
        span: if found.has_span { bounds(found.span_start, found.span_end) } else { None },
        label: found.label,
        help: (!found.help.is_empty()).then_some(found.help),
    }
}

/// What to do about a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Asking again has the same answer.
    Refused,
    /// Nothing was sent.
    NotSent,
    /// It was not applied, and may be if it is asked again.
    NotReady,
    /// It may have been applied: the answer was lost, or the control plane does not know either.
    Lost,
}

/// What a status means.
pub(super) fn kind(status: &Status) -> Kind {
    match proto::status::reason(status).as_deref() {
        // Committed, and not in force everywhere yet: asking again with the same id goes on from there.
        Some("unknown_outcome" | "relink_pending" | "deadline_passed") => return Kind::Lost,
        Some("not_leader" | "no_quorum" | "member_stopped") => return Kind::NotReady,
        // It says when to ask again, which is after less than what is waited before that.
        Some("overloaded") => return Kind::NotReady,
        Some(_) => return Kind::Refused,
        None => {}
    }
    if is_not_sent(status) {
        return Kind::NotSent;
    }
    // A status that the transport made has a cause; one that came over the wire has none.
    let is_local = Error::source(status).is_some();
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Kind::Lost,
        Code::Unknown | Code::Internal if is_local => Kind::Lost,
        _ => Kind::Refused,
    }
}

#[cfg(test)]
mod tests {
    use proto::status::refuse;

    use super::*;

    #[test]
    fn only_what_may_have_been_applied_counts_as_lost() {
        let connect = || Status::from_error(Box::new(tonic::ConnectError("refused".into())));
        let cases = [
            (refuse(Code::InvalidArgument, "unknown_field", ""), Kind::Refused),
            (refuse(Code::ResourceExhausted, "overloaded", ""), Kind::NotReady),
            (refuse(Code::ResourceExhausted, "disk_full", ""), Kind::Refused),
            (refuse(Code::Unavailable, "not_leader", ""), Kind::NotReady),
            (refuse(Code::Unavailable, "agent_unreachable", ""), Kind::Refused),
            (refuse(Code::DeadlineExceeded, "unknown_outcome", ""), Kind::Lost),
            (connect(), Kind::NotSent),
            (Status::unavailable("the connection is gone"), Kind::Lost),
            (Status::from_error("broken pipe".into()), Kind::Lost),
            (Status::unknown("a server's own words"), Kind::Refused),
            (Status::unimplemented(""), Kind::Refused),
        ];
        for (status, expected) in cases {
            assert_eq!(kind(&status), expected, "{status:?}");
        }
        assert_eq!(proto::status::deepest(&connect()), "refused");
    }
}
