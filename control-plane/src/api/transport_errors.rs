//! Gives errors that are found before a service is called their own code and a stable reason.
//!
//! tonic answers a message above the limit with `OUT_OF_RANGE` and one that is no protobuf with `INTERNAL`, and neither
//! has a reason that a program could act on. Nor has what the gate refuses, which knows nothing of reasons.

use http::{HeaderMap, Response};
use proto::status::refuse;
use tonic::{Code, Status};
use trust::gate::REFUSAL;

/// How tonic begins the message of a request that is too large.
const TOO_LARGE: &str = "Error, decoded message length too large";
/// How tonic begins the message of a request that cannot be decoded.
const MALFORMED: &str = "failed to decode Protobuf message";
/// How tonic begins the message of a request whose frames are wrong.
const MISFRAMED: &str = "protocol error: received message with";
/// How tonic begins the message of a request that is compressed: nothing is unpacked here.
const COMPRESSED: &str = "Content is compressed with";

/// Replaces the status of an answer that is one of these errors.
pub fn name<B>(mut answer: Response<B>) -> Response<B> {
    if let Some(named) = Status::from_header_map(answer.headers()).and_then(named) {
        let mut headers = HeaderMap::new();
        // A status that cannot be written stays as it was.
        if named.add_header(&mut headers).is_ok() {
            answer.headers_mut().extend(headers);
        }
    }
    answer
}

/// The status of an error in the middle of a stream of requests.
pub(super) fn in_stream(status: Status) -> Status {
    named(status.clone()).unwrap_or(status)
}

fn named(status: Status) -> Option<Status> {
    let message = status.message();
    match status.code() {
        Code::OutOfRange if message.starts_with(TOO_LARGE) => {
            Some(refuse(Code::ResourceExhausted, "message_too_large", message))
        }
        Code::Internal if message.starts_with(MALFORMED) || message.starts_with(MISFRAMED) => {
            Some(refuse(Code::InvalidArgument, "malformed", message))
        }
        code @ Code::Unimplemented if message.starts_with(COMPRESSED) => {
            Some(refuse(code, "message_compressed", message))
        }
        code @ (Code::PermissionDenied | Code::Unauthenticated) if message == REFUSAL => {
            Some(refuse(code, "not_permitted", message))
        }
        _ => None,
    }
}
