//! What happened, with reasons, in the order of the log.

use serde::{Deserialize, Serialize};

use crate::id::StateRevision;

/// One thing that happened to one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The revision of the state that this event belongs to.
    pub revision: StateRevision,
    /// When it was proposed, milliseconds since 1970.
    pub time_ms: u64,
    /// What it is about: `graph/sales/crm`, `policy/pii-firewall`, `node/n1`.
    pub subject: String,
    /// A stable word: `deployed`, `placed`, `serving`, `failed`.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}
