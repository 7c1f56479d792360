//! The cluster as a value: what each command does to it, and what no sequence of commands can do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]
#![allow(clippy::disallowed_types, reason = "a seed comes from the clock")]

mod bounds;
mod conditions;
mod each_node;
mod enrolment;
mod graphs;
mod members;
mod moves;
mod nodes;
mod oracle;
mod policies;
mod policy_rollouts;
mod quotas;
mod random;
mod recovery;
mod replicas;
mod requests;
mod reserves;
mod rollouts;
mod scaling;
mod schedule;
mod scheduling;
mod support;
mod suspects;
mod views;
