//! What clients and watchers saw of a control plane, and whether a correct one could have shown it.
//!
//! A [`History`] is a file of JSON lines: operations with their times on one monotonic clock, what watchers were told,
//! and what every member keeps at the end. [`check`] is pure and judges it by named rules:
//!
//! - `log-order`: acknowledged writes and reads have places in one order, which agrees with real time;
//! - `linearizable`: each key is a register with compare-and-set on its revision, by a search;
//! - `watch-*`: etcd's words for watches, and that what is told has happened;
//! - `acked-present` and `converged`: what is kept at the end is what was acknowledged, at every member;
//! - `at-most-once` and `ids-once`: a request has one effect and one answer, an id is given once.
//!
//! A rule that comes to no end within its budget is undecided, which is no pass. The corpus in `chaos-tests/histories/`
//! and the mutations in `chaos-tests/tests/history_checker.rs` hold the rules to their names.

pub mod generate;
mod linear;
mod once;
mod order;
mod presence;
mod record;
mod requests;
mod verdict;
mod watch;

pub use linear::SEARCH_MAX;
pub use record::{
    Answer, Ask, Change, History, HistoryError, Kept, KeptRevision, Line, Operation, Outcome, Refused, Seen,
    Watched,
};
pub use verdict::{Finding, Report, Rule, Undecided};

use requests::requests;

/// Judges a history by every rule.
pub fn check(history: &History) -> Report {
    check_within(history, SEARCH_MAX)
}

/// The same, where the search of one key may look at so many configurations.
pub fn check_within(history: &History, search_max: usize) -> Report {
    let requests = requests(history);
    let mut report = Report::default();
    order::check(history, &requests, &mut report);
    linear::check(history, &requests, search_max, &mut report);
    watch::check(history, &requests, &mut report);
    presence::check(history, &requests, &mut report);
    once::check(history, &requests, &mut report);
    report
}
