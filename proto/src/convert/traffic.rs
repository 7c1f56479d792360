//! How requests went.

use model::traffic::{Counts, LATENCIES_MAX};

use super::DecodeError;
use crate::weft::node::v1 as wire;

impl From<Counts> for wire::Counts {
    fn from(counts: Counts) -> Self {
        let mut latencies = counts.latencies;
        let used = latencies.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
        latencies.truncate(used);
        Self { requests: counts.requests, failures: counts.failures, latencies }
    }
}

impl TryFrom<wire::Counts> for Counts {
    type Error = DecodeError;

    fn try_from(counts: wire::Counts) -> Result<Self, DecodeError> {
        if counts.latencies.len() > LATENCIES_MAX {
            let why =
                format!("at most {LATENCIES_MAX} latencies are told apart, not {}", counts.latencies.len());
            return Err(DecodeError::malformed("latencies", why));
        }
        Ok(Self { requests: counts.requests, failures: counts.failures, latencies: counts.latencies })
    }
}
