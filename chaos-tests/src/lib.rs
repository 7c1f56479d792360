//! Tests with the real binaries over real sockets: this is their harness, the properties are in `tests/`.
//!
//! A [`cluster::Cluster`] is a control plane and one or more node agents as child processes in a folder of their own,
//! which can be killed and started again: on this machine, or each on a host of a [`network`] that is bad. [`api`] and [`ctl`] ask it for things as clients do, [`traffic`] asks its
//! graphs; a [`workload`] does so under a schedule of [`faults`], and its [`history`] is judged. Waits are on conditions
//! with deadlines, random choices come from a printed [`seed`]. A failed test leaves its folder and says where it is.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is the report")]

pub mod api;
pub mod built;
pub mod bundle;
pub mod cluster;
pub mod ctl;
pub mod faults;
pub mod hardware;
pub mod history;
pub mod http;
pub mod journal;
pub mod network;
pub mod origin;
pub mod peer;
mod place;
pub mod process;
pub mod road;
pub mod seed;
pub mod traffic;
pub mod wait;
pub mod workload;

/// Says something that helps with a failure; the test runner shows it then.
#[expect(clippy::print_stderr, reason = "the output of tests")]
pub fn say(line: &str) {
    eprintln!("{line}");
}
