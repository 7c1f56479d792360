//! One file a command: its arguments, and what it does with them.

pub mod access;
pub mod check;
pub mod cluster;
pub mod completions;
pub mod component;
pub mod delete;
pub mod deploy;
pub mod dev;
pub mod diff;
pub mod events;
pub mod explain;
pub mod graph;
pub mod history;
pub mod invoke;
pub mod list;
pub mod logs;
pub mod member;
pub mod node;
pub mod plan;
pub mod policy;
pub mod rebalance;
pub mod rollback;
pub mod schema;
pub mod status;
pub mod version;
pub mod why;
