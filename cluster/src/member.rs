//! Who a member of the control plane is.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The member that a cluster begins with.
pub const FIRST_MEMBER: MemberId = MemberId(1);

/// A member of the control plane: never used again for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MemberId(pub u64);

impl fmt::Display for MemberId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}
