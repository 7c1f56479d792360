//! Refusals on the wire: a gRPC status with a stable reason, and the diagnostics of a manifest.

use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::weft::graph::v1::Diagnostics;

/// The domain of [`reason`].
pub const DOMAIN: &str = "weft";
/// The key of the diagnostics in the binary metadata of a status.
const DIAGNOSTICS_KEY: &str = "weft-diagnostics-bin";
/// Diagnostics travel as metadata: stay below the usual bound of 16 KiB for a header list.
const DIAGNOSTICS_MAX_BYTES: usize = 8 << 10;

/// A status with a stable `reason` that programs can act on.
pub fn refuse(code: Code, reason: &str, message: impl Into<String>) -> Status {
    let details = ErrorDetails::with_error_info(reason, DOMAIN, std::collections::HashMap::<String, String>::new());
    Status::with_error_details(code, message, details)
}

/// A status with the diagnostics of a manifest; those that do not fit are left out, the first ones stay.
pub fn refuse_manifest(code: Code, reason: &str, message: impl Into<String>, mut found: Diagnostics) -> Status {
    while found.encoded_len() > DIAGNOSTICS_MAX_BYTES && found.diagnostics.len() > 1 {
        found.diagnostics.pop();
    }
    let mut status = refuse(code, reason, message);
    if found.encoded_len() <= DIAGNOSTICS_MAX_BYTES {
        let value = tonic::metadata::MetadataValue::from_bytes(&found.encode_to_vec());
        status.metadata_mut().insert_bin(DIAGNOSTICS_KEY, value);
    }
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
