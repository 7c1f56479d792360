//! Ids of requests: UUIDs of which no two are alike, without asking the system for randomness each time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Gives out ids. Its first half is random and the same for the agent's life; the other half counts from a random
/// start, so that ids of two lives, or of two nodes, do not meet.
pub(crate) struct RequestIds {
    life: u64,
    next: AtomicU64,
}

impl RequestIds {
    pub(crate) fn new() -> Self {
        let (life, start) = uuid::Uuid::new_v4().as_u64_pair();
        Self { life, next: AtomicU64::new(start) }
    }

    pub(crate) fn next(&self) -> Arc<str> {
        // Which number goes to which request does not matter, only that none goes to two.
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut text = uuid::Uuid::encode_buffer();
        Arc::from(&*uuid::Uuid::from_u64_pair(self.life, number).hyphenated().encode_lower(&mut text))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_uuids_of_which_no_two_are_alike() {
        let lives = [RequestIds::new(), RequestIds::new()];
        let ids: Vec<Arc<str>> = lives.iter().flat_map(|life| (0..1_000).map(|_| life.next())).collect();
        assert!(ids.iter().all(|id| uuid::Uuid::parse_str(id).is_ok()));
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
    }
}
