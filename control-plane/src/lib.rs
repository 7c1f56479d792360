//! The control plane: keeps the desired state, checks and links graphs, places them on nodes.

pub mod api;
pub mod artifacts;
pub mod calls;
pub mod clock;
pub mod config;
pub mod credentials;
pub mod durable;
pub mod joining;
pub mod leader;
pub mod linking;
pub mod maintenance;
pub mod planted;
pub mod raft;
pub mod replicas;
pub mod routing;
pub mod server;
pub mod traffic;
