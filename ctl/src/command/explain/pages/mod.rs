//! A page for every stable reason: what it means, and what to do.
//!
//! Reasons are words that programs act on, so a page is found by the exact word. A test reads the sources of the
//! crates that give reasons, so that none is without a page and no page is without a reason.

mod cluster;
mod ctl;
mod event;
mod linking;
mod manifest;
mod node;

#[cfg(test)]
mod sources;

/// What is known of one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Page {
    /// The stable word.
    pub(super) reason: &'static str,
    /// What it says of the world.
    pub(super) means: &'static str,
    /// What to do about it.
    pub(super) remedy: &'static str,
}

/// The pages by where their reasons come from, in the order of a graph's life.
pub(super) const GROUPS: [(&str, &[Page]); 6] = [
    ("in a manifest", manifest::PAGES),
    ("in components and links", linking::PAGES),
    ("from the control plane", cluster::PAGES),
    ("from a node", node::PAGES),
    ("from ctl itself", ctl::PAGES),
    ("of events, and states", event::PAGES),
];

/// All pages.
pub(super) fn all() -> impl Iterator<Item = &'static Page> {
    GROUPS.iter().flat_map(|(_, pages)| pages.iter())
}

/// The page of a reason.
pub(super) fn find(reason: &str) -> Option<&'static Page> {
    all().find(|page| page.reason == reason)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn pages_are_sorted_and_each_reason_has_one() {
        let mut seen = BTreeSet::new();
        for (group, pages) in GROUPS {
            assert!(pages.is_sorted_by_key(|page| page.reason), "{group} is not sorted");
            for page in pages {
                assert!(seen.insert(page.reason), "{} has two pages", page.reason);
                assert!(page.means.ends_with('.') && page.remedy.ends_with('.'), "{}", page.reason);
            }
        }
    }

    #[test]
    fn every_reason_in_the_sources_has_a_page() {
        let without: Vec<String> = sources::reasons()
            .into_iter()
            .filter(|(reason, _)| find(reason).is_none())
            .map(|(reason, file)| format!("{reason} ({file})"))
            .collect();
        assert!(without.is_empty(), "reasons without a page; add one beside this file: {}", without.join(", "));
    }

    #[test]
    fn every_page_is_of_a_word_in_the_sources() {
        let text = sources::text();
        let dead: Vec<&str> =
            all().map(|page| page.reason).filter(|reason| !text.contains(&format!("\"{reason}\""))).collect();
        assert!(dead.is_empty(), "pages of reasons that nothing gives: {}", dead.join(", "));
    }
}
