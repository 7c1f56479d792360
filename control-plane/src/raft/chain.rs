//! Checksums over what was applied and what came of it, in sections of the log that members compare.
//!
//! A section is known to a member that has applied all of it: one that began in its middle, from a snapshot, knows the
//! next.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use cluster::Outcome;
use tokio::sync::watch;

/// Entries of a section.
#[cfg(not(test))]
pub const SECTION_ENTRIES: u64 = 1_000;
/// Few enough for a test to make some.
#[cfg(test)]
pub const SECTION_ENTRIES: u64 = 50;
/// Sections that are kept for members that ask later: those that lag.
const SECTIONS_MAX: usize = 64;

/// The sections that are known; a cheap handle.
#[derive(Debug, Clone)]
pub struct Sections {
    known: Arc<Mutex<BTreeMap<u64, u32>>>,
    last: watch::Sender<Option<u64>>,
}

impl Default for Sections {
    fn default() -> Self {
        Self { known: Arc::default(), last: watch::Sender::new(None) }
    }
}

impl Sections {
    /// The checksum of the section that ends with this entry.
    pub fn get(&self, index: u64) -> Option<u32> {
        // Single calls, which leave a map that is sound.
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&index).copied()
    }

    /// The last entry of the last section, and wakes with each further one.
    pub fn follow(&self) -> watch::Receiver<Option<u64>> {
        self.last.subscribe()
    }

    fn add(&self, index: u64, checksum: u32) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(index, checksum);
        while known.len() > SECTIONS_MAX {
            known.pop_first();
        }
        drop(known);
        self.last.send_replace(Some(index));
    }
}

/// The section under way.
#[derive(Debug)]
pub struct Chain {
    /// `None` in the middle of a section whose beginning was not seen.
    checksum: Option<u32>,
    sections: Sections,
}

impl Chain {
    /// One of a log from its first entry on, or from the middle.
    pub fn new(is_from_the_first: bool) -> Self {
        Self { checksum: is_from_the_first.then_some(0), sections: Sections::default() }
    }

    /// The sections.
    pub fn sections(&self) -> Sections {
        self.sections.clone()
    }

    /// Takes an entry that was applied.
    pub fn take(&mut self, index: u64, command: &[u8], outcome: Option<&Outcome>) {
        if index % SECTION_ENTRIES == 1 {
            self.checksum = Some(0);
        }
        if let Some(checksum) = self.checksum {
            let checksum = crc32c::crc32c_append(checksum, &index.to_be_bytes());
            let checksum = crc32c::crc32c_append(checksum, command);
            // It was read from JSON, or is about to become that.
            let outcome = outcome.map(|outcome| serde_json::to_vec(outcome).unwrap_or_default());
            self.checksum = Some(crc32c::crc32c_append(checksum, &outcome.unwrap_or_default()));
        }
        if index.is_multiple_of(SECTION_ENTRIES)
            && let Some(checksum) = self.checksum.take()
        {
            self.sections.add(index, checksum);
        }
    }

    /// Another state was put in the place of the one that was: what stood before it is not known.
    pub fn forget(&mut self) {
        self.checksum = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(from: u64, to: u64, changed: Option<u64>) -> Sections {
        let mut chain = Chain::new(from == 0);
        for index in from..=to {
            let command: &[u8] = if changed == Some(index) { b"another" } else { b"command" };
            chain.take(index, command, None);
        }
        chain.sections()
    }

    #[test]
    fn equal_sections_have_equal_checksums_wherever_a_member_began() {
        let ends = [SECTION_ENTRIES, 2 * SECTION_ENTRIES, 3 * SECTION_ENTRIES];
        let all = taken(0, ends[2], None);
        assert!(ends.iter().all(|end| all.get(*end).is_some()));
        assert_eq!(*all.follow().borrow(), Some(ends[2]));
        let late = taken(SECTION_ENTRIES / 2, ends[2], None);
        assert_eq!(late.get(ends[0]), None, "it has not seen all of it");
        assert_eq!((late.get(ends[1]), late.get(ends[2])), (all.get(ends[1]), all.get(ends[2])));
        let other = taken(0, ends[2], Some(SECTION_ENTRIES + 7));
        assert_eq!((other.get(ends[0]), other.get(ends[2])), (all.get(ends[0]), all.get(ends[2])));
        assert_ne!(other.get(ends[1]), all.get(ends[1]));
    }

    #[test]
    fn few_sections_are_kept() {
        let count = SECTIONS_MAX as u64 + 3;
        let all = taken(0, count * SECTION_ENTRIES, None);
        assert_eq!(all.known.lock().unwrap_or_else(PoisonError::into_inner).len(), SECTIONS_MAX);
        assert_eq!(all.get(SECTION_ENTRIES), None);
        assert!(all.get(count * SECTION_ENTRIES).is_some());
    }

    #[test]
    fn a_state_that_is_put_in_place_ends_a_section() {
        let mut chain = Chain::new(true);
        chain.take(1, b"", None);
        chain.forget();
        (2..=2 * SECTION_ENTRIES).for_each(|index| chain.take(index, b"", None));
        assert_eq!(chain.sections().get(SECTION_ENTRIES), None);
        assert!(chain.sections().get(2 * SECTION_ENTRIES).is_some());
    }
}
