//! The node agent: makes one node match its assignment, and runs the components of its graphs.
//!
//! [`agent`] joins the parts. [`enrolment`] gives the node its identity, and [`audit`] keeps
//! what was refused. [`control`] is the half that takes orders: [`session`] brings assignments and routes, [`ledger`] and
//! [`route_book`] keep them, [`artifacts`] pulls what they need, [`reconciler`] works towards them with [`reconcile`]'s
//! plans. [`host`] is the half that runs components, [`ingress`] brings their requests, or has another node answer them
//! over [`http_road`]. [`lease`] ends what must not be served once the node is cut off. [`roads`] lead to other agents, and
//! [`traces`] tells a collector of all.

pub mod agent;
pub mod api;
pub mod artifacts;
pub mod audit;
pub mod backoff;
pub mod calls;
mod checked_file;
mod checkup;
mod choice;
pub mod config;
pub mod control;
pub mod control_plane;
pub mod data_dir;
mod durable;
pub mod enrolment;
mod health;
pub mod host;
pub mod http_road;
pub mod ingress;
pub mod lease;
pub mod ledger;
mod link;
pub mod logs;
pub mod reconcile;
pub mod reconciler;
pub mod report;
pub mod roads;
pub mod route_book;
pub mod runner;
pub mod session;
pub mod told;
pub mod traces;
pub mod traffic;
