//! Refusals on the wire: a gRPC status with a stable reason, and the diagnostics of a manifest.

use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;

use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::weft::graph::v1::Diagnostics;

/// The domain of [`reason`].
pub const DOMAIN: &str = "weft";
/// The key of the diagnostics in the binary metadata of a status.
const DIAGNOSTICS_KEY: &str = "weft-diagnostics-bin";
/// Diagnostics and messages travel as headers, of which a client takes 16 KiB in all; beyond that it sees a broken
/// connection in place of the reason. Diagnostics grow by a third on the way.
const DIAGNOSTICS_MAX_BYTES: usize = 7 << 10;
/// A message travels twice, and each of its bytes may become three.
const MESSAGE_MAX_BYTES: usize = 1 << 10;

/// A status with a stable `reason` that programs can act on. The message is a sentence: a longer text is cut.
pub fn refuse(code: Code, reason: &str, message: impl Into<String>) -> Status {
    Status::with_error_details(code, sentence(message), because(reason))
}

/// The same, of what may be asked again once that time has passed: nothing was done.
pub fn refuse_for_now(code: Code, reason: &str, message: impl Into<String>, again: Duration) -> Status {
    let mut details = because(reason);
    details.set_retry_info(Some(again));
    Status::with_error_details(code, sentence(message), details)
}

/// After how long it may be asked again, if the status says so.
pub fn retry_after(status: &Status) -> Option<Duration> {
    status.get_details_retry_info().and_then(|info| info.retry_delay)
}

fn because(reason: &str) -> ErrorDetails {
    ErrorDetails::with_error_info(reason, DOMAIN, HashMap::<String, String>::new())
}

fn sentence(message: impl Into<String>) -> String {
    let mut message = message.into();
    shorten(&mut message, MESSAGE_MAX_BYTES);
    message
}

fn shorten(text: &mut String, most: usize) {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most - '…'.len_utf8()));
        text.push('…');
    }
}

/// A status with the diagnostics of a manifest; those that do not fit are left out, the first ones stay.
pub fn refuse_manifest(code: Code, reason: &str, message: impl Into<String>, mut found: Diagnostics) -> Status {
    while found.encoded_len() > DIAGNOSTICS_MAX_BYTES && found.diagnostics.len() > 1 {
        found.diagnostics.pop();
    }
    if found.encoded_len() > DIAGNOSTICS_MAX_BYTES
        && let Some(only) = found.diagnostics.first_mut()
    {
        // One that shows two long types: its beginning says which.
        for text in [&mut only.message, &mut only.help, &mut only.label, &mut only.field] {
            shorten(text, DIAGNOSTICS_MAX_BYTES / 5);
        }
    }
    let mut status = refuse(code, reason, message);
    let value = tonic::metadata::MetadataValue::from_bytes(&found.encode_to_vec());
    status.metadata_mut().insert_bin(DIAGNOSTICS_KEY, value);
    status
}

/// The stable reason of a status, if it has one.
pub fn reason(status: &Status) -> Option<String> {
    status.get_details_error_info().map(|info| info.reason)
}

/// The diagnostics of a manifest that a status carries.
pub fn diagnostics(status: &Status) -> Option<Diagnostics> {
    let bytes = status.metadata().get_bin(DIAGNOSTICS_KEY)?.to_bytes().ok()?;
    Diagnostics::decode(bytes).ok()
}

/// Whether whoever asks again would be told the same.
pub fn is_final(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::PermissionDenied | Code::InvalidArgument | Code::FailedPrecondition | Code::Unimplemented
    )
}

/// Whether a call cannot have reached anybody: there was no connection for it.
pub fn is_not_sent(status: &Status) -> bool {
    causes(status).any(|cause| cause.is::<tonic::ConnectError>())
}

/// The innermost cause, which says what happened; the outer ones say where. A status that came over the wire has none.
pub fn deepest(status: &Status) -> String {
    causes(status).last().map_or_else(|| status.message().to_owned(), ToString::to_string)
}

/// What a status that the transport made was made of, the outermost first.
pub fn causes(status: &Status) -> impl Iterator<Item = &(dyn Error + 'static)> {
    let mut next = Error::source(status);
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::weft::graph::v1::Diagnostic;

    /// What HTTP/2 counts of a header list, and what clients take of it.
    const HEADERS_MAX_BYTES: usize = 16 << 10;

    fn size(status: &Status) -> usize {
        let mut headers = http::HeaderMap::new();
        status.add_header(&mut headers).unwrap();
        headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
    }

    fn diagnostic(message: String) -> Diagnostic {
        Diagnostic { reason: "interface_mismatch".to_owned(), message, ..Diagnostic::default() }
    }

    #[test]
    fn a_refusal_for_now_says_when_to_ask_again() {
        let again = Duration::from_millis(250);
        let status = refuse_for_now(Code::ResourceExhausted, "overloaded", "too much at once", again);
        assert_eq!(reason(&status).as_deref(), Some("overloaded"));
        assert_eq!(retry_after(&status), Some(again));
        assert_eq!(retry_after(&refuse(Code::ResourceExhausted, "quota", "no")), None);
    }

    #[test]
    fn a_refusal_fits_into_the_headers_of_any_client() {
        let long = "ü".repeat(100_000);
        let many = Diagnostics { diagnostics: vec![diagnostic("a mistake".repeat(20)); 500] };
        let one = Diagnostics {
            diagnostics: vec![Diagnostic {
                help: long.clone(),
                field: long.clone(),
                ..diagnostic(long.clone())
            }],
        };
        for found in [many, one] {
            let status = refuse_manifest(Code::InvalidArgument, "interface_mismatch", long.clone(), found);
            assert!(size(&status) < HEADERS_MAX_BYTES - 1_000, "{}", size(&status));
            let shown = diagnostics(&status).unwrap();
            assert_eq!(shown.diagnostics[0].reason, "interface_mismatch");
            assert_eq!(reason(&status).as_deref(), Some("interface_mismatch"));
        }
    }
}
