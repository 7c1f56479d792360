//! Events.

use model::event::Event;
use model::id::StateRevision;

use crate::weft::event::v1 as wire;

impl From<Event> for wire::Event {
    fn from(event: Event) -> Self {
        Self {
            revision: event.revision.0,
            time_ms: event.time_ms,
            subject: event.subject,
            reason: event.reason,
            message: event.message,
            bookmark: false,
        }
    }
}

impl From<wire::Event> for Event {
    fn from(event: wire::Event) -> Self {
        Self {
            revision: StateRevision(event.revision),
            time_ms: event.time_ms,
            subject: event.subject,
            reason: event.reason,
            message: event.message,
        }
    }
}
