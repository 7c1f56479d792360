//! Many runs of a control plane in one thread, each from a seed: the product's members over a network, disks and time that
//! are simulated, with faults, clients, and an oracle that sees everything.
//!
//! The product under test is all of `raft` but the way a connection is made, the bytes of a disk and the thread that
//! writes them: these three ask [`Process::current`] whether they are part of a simulation.

mod chance;
mod disk;
mod faults;
mod machine;
mod network;
mod oracle;
mod plants;
mod runtime;
mod scenario;
mod tests;
mod watch;
mod workload;
mod world;

pub use disk::disk;
pub use machine::Machine;
pub use network::Transport;
pub use runtime::{Process, Runtime, spawn_blocking};
