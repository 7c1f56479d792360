//! The replicated cluster as a plain value.
//!
//! [`State::apply`] changes it by one [`Command`] at a time; [`schedule()`] reads it and proposes placements;
//! [`view`] shows it to people and nodes; [`check()`] lists the invariants it breaks. Everything is synchronous, total
//! and silent: no clock, randomness, I/O or logging. Time and ids come in with the command, so that each member
//! of the control plane reaches the same state.

mod apply;
pub mod check;
pub mod command;
pub mod feature;
pub mod member;
pub mod outcome;
pub mod quota;
pub mod rollout;
pub mod scaling;
pub mod schedule;
pub mod state;
pub mod view;

pub use apply::REVISIONS_SKIPPED;
pub use check::check;
pub use command::Command;
pub use feature::FEATURE_LEVEL;
pub use outcome::Outcome;
pub use schedule::schedule;
pub use state::State;
