//! What this node offers to guests besides WASI, each interface in its own file.

pub(crate) mod config;
pub(crate) mod logging;
pub mod sqlite;
pub(crate) mod variables;
