//! The tests of this crate as data: text or bytes in, expected text out.
//!
//! `UPDATE=1 cargo test -p graph` writes the expected files anew; read the difference before you commit it.
//!
//! Rows are those of the list of bad inputs: 1–33 manifests, 34–53 components.
//!
//! | rows | where |
//! |---|---|
//! | 1–14, 22–26, 28, 33 | `manifests/`, one input each and what is said of it |
//! | 10 `replicas` | refused by name (`not-supported-yet.yaml`); the same texts where a number is wanted in `10-*` |
//! | 15 | `manifests/15-*` |
//! | 16–21 | `linking/`, where components have interfaces |
//! | 22 after inference | `linking.rs` |
//! | 27 secrets | refused by name (`not-supported-yet.yaml`), until there are secrets |
//! | 29 constraints | `manifests/placement.yaml`, some refused by name; the scheduler's reasons for each node in `cluster`, `schedule` |
//! | 30 quota | `cluster`, `apply`: graphs, policies, nodes, artifacts |
//! | 31 stale revision, 32 request ids | `cluster`, `apply` |
//! | 34–45, 53 | `components.rs` |
//! | 46 | `linking/46-*` |
//! | 47–50 | the node agent runs them |
//! | 51 | the digest of the bytes: the control plane's store; `digest:` in a manifest: `manifests.rs` |
//! | 52 signatures | not made yet |
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests read their data and watch the clock"
)]

mod chains;
mod components;
mod hostile;
mod linking;
mod manifests;
mod properties;
mod rendering;
mod schemas;
mod support;
