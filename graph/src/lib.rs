//! From manifest text and wasm bytes to a linked graph. Pure: text and bytes in, values and diagnostics out.
//!
//! [`manifest`] and [`policy_manifest`] read YAML; [`interface`] reads a component's types from its bytes; [`link`]
//! resolves every import against the graph, its capabilities, the node and the policies; [`plan`] compares two linked
//! graphs. No file, clock, socket or randomness is named here.

pub mod diagnostic;
mod document;
pub mod interface;
pub mod link;
pub mod manifest;
pub mod plan;
pub mod policy_manifest;
pub mod schema;
