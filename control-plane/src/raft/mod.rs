//! Consensus and what it keeps on disk. Only this folder names openraft and sled.
//!
//! [`Handle`] is the front door: propose a command, read the state, follow its changes.

mod chain;
mod clocks;
mod codec;
mod compaction;
pub mod disk;
mod divergence;
pub mod fitness;
mod handle;
mod leadership;
mod log_store;
mod membership;
mod offline;
mod peers;
mod room;
mod service;
#[cfg(test)]
mod simulation;
mod state_machine;
mod types;
mod wire;

pub use codec::{decode_state, encode_state};
pub use compaction::LOG_MAX_BYTES;
pub use handle::{
    Committed, ELECTION_TIMEOUT, Handle, LOG_FOLDER, OpenError, ProposeError, RaftConfig, ReadError, Start,
    check_size, encode,
};
pub use membership::{ChangeError, Membership, TransferError};
pub use offline::Offline;
pub use peers::{Peers, Road};
pub use room::{ASK_AGAIN, Room, STATE_QUOTA_MAX};
pub use service::Consensus;

// What a simulation has in place of what the system gives. All else of this folder is the same there.
#[cfg(test)]
use simulation::{Machine, Runtime, Transport, spawn_blocking};
#[cfg(not(test))]
use {
    state_machine::StateMachine as Machine, tokio::task::spawn_blocking,
    tonic::transport::Channel as Transport, types::TokioRuntime as Runtime,
};
