//! Links between components that do not share a store: on two nodes, or on one with different limits.

#[cfg_attr(
    not(test),
    expect(dead_code, unused_imports, reason = "what carries calls between nodes is the next part of this module")
)]
pub(crate) mod encoding;
