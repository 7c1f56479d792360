//! Consensus and what it keeps on disk. Only this folder names openraft and sled.
//!
//! [`Handle`] is the front door: propose a command, read the state, follow its changes.

mod codec;
mod compaction;
pub mod disk;
mod handle;
mod leadership;
mod log_store;
mod membership;
mod peers;
mod service;
mod state_machine;
mod types;
mod wire;

pub use compaction::LOG_MAX_BYTES;
pub use handle::{
    Committed, Handle, LOG_FOLDER, OpenError, ProposeError, RaftConfig, ReadError, Start, check_size, encode,
};
pub use membership::{ChangeError, Membership, TransferError};
pub use peers::{Peers, Road};
pub use service::Consensus;
