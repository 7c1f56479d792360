//! What a node's own host offers to every component, and what its capabilities offer.

use std::sync::LazyLock;

use model::graph::{CapabilitySpec, SQLITE_WIT};
use model::interface::{InterfaceName, Track};

use crate::interface::Interface;

/// The interfaces of the node's host: package and interface, on the track `@0.2`.
const WASI: &[(&str, &[&str])] = &[
    (
        "cli",
        &[
            "environment",
            "exit",
            "stdin",
            "stdout",
            "stderr",
            "terminal-input",
            "terminal-output",
            "terminal-stdin",
            "terminal-stdout",
            "terminal-stderr",
        ],
    ),
    ("clocks", &["monotonic-clock", "wall-clock"]),
    ("random", &["random", "insecure", "insecure-seed"]),
    ("io", &["error", "poll", "streams"]),
    ("http", &["types", "outgoing-handler"]),
];

/// Drafts, which match exactly.
const DRAFTS: &[&str] =
    &["wasi:config/store@0.2.0-draft", "wasi:logging/logging@0.1.0-draft", "fermyon:spin/variables@2.0.0"];

/// Whether the node's host satisfies this import.
pub fn is_offered(name: &InterfaceName) -> bool {
    let wasi = name.namespace == "wasi"
        && name.track() == Track::Minor(2)
        && WASI.iter().any(|(package, interfaces)| {
            *package == name.package && interfaces.contains(&name.interface.as_str())
        });
    wasi || DRAFTS.contains(&name.to_string().as_str())
}

/// Whether this is an interface of WASI that a node does not grant.
pub fn is_known_wasi(name: &InterfaceName) -> bool {
    name.namespace == "wasi"
}

/// `fermyon:spin/sqlite@2.0.0`, as every provider of it must have it.
static SQLITE: LazyLock<Option<Interface>> = LazyLock::new(|| {
    let mut resolve = wit_parser::Resolve::default();
    let package = resolve.push_str("sqlite.wit", SQLITE_WIT).ok()?;
    crate::interface::interface_of_package(&resolve, package, "sqlite")
});

/// The interface that a capability offers.
pub fn capability_interface(capability: &CapabilitySpec) -> Option<&'static Interface> {
    match capability {
        CapabilitySpec::Sqlite { .. } => SQLITE.as_ref(),
    }
}
