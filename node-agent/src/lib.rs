//! The node agent: makes one node match its assignment, and runs the components of its graphs.
//!
//! [`agent`] joins the parts. [`control`] is the half that takes orders: [`session`] brings assignments, [`ledger`]
//! keeps them, [`artifacts`] pulls what they need, [`reconciler`] works towards them with [`reconcile`]'s plans.
//! [`host`] is the half that runs components, [`ingress`] brings their requests.

pub mod agent;
pub mod api;
pub mod artifacts;
pub mod assigned;
pub mod backoff;
pub mod config;
pub mod control;
pub mod control_plane;
mod durable;
pub mod host;
pub mod identity;
pub mod ingress;
pub mod ledger;
mod link;
pub mod logs;
pub mod reconcile;
pub mod reconciler;
pub mod report;
pub mod runner;
pub mod session;
