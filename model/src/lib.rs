//! The nouns of Weft: what people write, what the cluster decides, what a node runs and reports.
//!
//! Constructors refuse what is wrong, so that a value of one of these types never has to be checked again.
//! Nothing here reads a clock, a file, a socket or randomness, and nothing here knows a wire format.

pub mod assignment;
pub mod condition;
pub mod digest;
pub mod egress;
pub mod event;
pub mod graph;
pub mod id;
pub mod interface;
pub mod link;
pub mod linked;
pub mod log;
pub mod name;
pub mod node;
pub mod placement;
pub mod plan;
pub mod policy;
pub mod quota;
pub mod report;
pub mod reserve;
pub mod rollout;
pub mod route;
pub mod routing;
pub mod scale;
pub mod status;
pub mod trace;
pub mod traffic;
pub mod unit;
