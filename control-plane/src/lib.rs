//! The control plane: keeps the desired state, checks and links graphs, places them on nodes.

pub mod raft;
