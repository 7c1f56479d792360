//! The API over a real socket: what clients, pipelines and agents are promised, and what they are refused.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod artifacts;
mod bad_input;
mod deploys;
mod disk;
mod enrolment;
mod events;
mod kills;
mod limits;
mod member;
mod namespaces;
mod nodes;
mod once;
mod parts;
mod policies;
mod process;
mod rollouts;
mod stranger;
