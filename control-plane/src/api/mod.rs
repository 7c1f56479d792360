//! The gRPC API. Handlers decode, propose or read, and encode; what is decided is decided elsewhere.

pub mod artifacts;
pub mod events;
pub mod graphs;
pub mod logs;
mod mutation;
pub mod nodes;
pub mod policies;
mod refusal;

use crate::artifacts::ArtifactStore;
use crate::leader::liveness::Liveness;
use crate::leader::relink::Relinker;
use crate::linking::Linker;
use crate::raft::Handle;

/// What handlers work with; a cheap handle.
#[derive(Debug, Clone)]
pub struct Context {
    /// Consensus.
    pub raft: Handle,
    /// Stored artifacts.
    pub artifacts: ArtifactStore,
    /// Checks and links.
    pub linker: Linker,
    /// Links again.
    pub relinker: Relinker,
    /// Who is heard of.
    pub liveness: Liveness,
}
