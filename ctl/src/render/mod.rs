//! How values become text. Pure: no stream, clock or socket is touched here.

pub mod linked;
pub mod message;
pub mod plan;
pub mod policy_rollout;
pub mod rollout;
pub mod status;
pub mod table;
pub mod time;
