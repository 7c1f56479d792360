//! The one place where the control plane reads the wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970, for the proposer of a command. The state never goes back behind the last one.
pub fn now_ms() -> u64 {
    milliseconds(SystemTime::now())
}

/// A time in milliseconds since 1970.
pub fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
