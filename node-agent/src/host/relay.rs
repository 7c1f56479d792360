//! A capability as a component: what lets a link from another node call what this node's host offers.
//!
//! The host's functions belong to a store and are called by guests only. So a small guest stands in front of them: it
//! exports the interface that it imports and passes every call on. Arguments and results stay where they are in its
//! memory; only handles are its own.

use std::sync::{Arc, OnceLock};

use model::digest::Digest;
use model::graph::{Artifact, CapabilitySpec, DEADLINE_MAX, Limits, MEMORY_MAX, SQLITE_WIT, Settings};
use model::interface::InterfaceName;
use model::linked::{Link, LinkOrigin, LinkedComponent, LinkedGraph, Origin, Target};
use model::name::ComponentName;
use sha2::{Digest as _, Sha256};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The interface, as the relay names it.
const SQLITE: &str = "fermyon:spin/sqlite@2.0.0";
/// What the relay imports and exports.
const WORLD: &str = "package weft:relay;
world sqlite { import fermyon:spin/sqlite@2.0.0; export fermyon:spin/sqlite@2.0.0; }";

/// A relay: its bytes and their digest.
pub(crate) struct Relay {
    pub(crate) bytes: Arc<[u8]>,
    digest: Digest,
    interface: InterfaceName,
}

/// The relay in front of a capability.
pub(crate) fn relay(spec: &CapabilitySpec) -> Result<&'static Relay, String> {
    static SQLITE_RELAY: OnceLock<Result<Relay, String>> = OnceLock::new();
    match spec {
        CapabilitySpec::Sqlite { .. } => {
            SQLITE_RELAY.get_or_init(|| sqlite().map_err(|error| format!("{error:#}"))).as_ref()
        }
    }
    .map_err(Clone::clone)
}

impl Relay {
    /// A graph of the relay and the capability behind it, both called `name`.
    pub(crate) fn graph(&self, name: &ComponentName, spec: &CapabilitySpec) -> LinkedGraph {
        let limits = Limits { memory: MEMORY_MAX, deadline: DEADLINE_MAX };
        let component = LinkedComponent {
            artifact: Artifact { digest: self.digest, size: self.bytes.len() as u64 },
            origin: Origin::Graph,
            exports: vec![self.interface.clone()],
            settings: Settings { limits, ..Settings::default() },
        };
        let link = Link {
            from: name.clone(),
            interface: self.interface.clone(),
            to: Target::Capability { name: name.clone() },
            wiring: LinkOrigin::BuiltIn,
            functions: Vec::new(),
            terms: model::placement::LinkTerms::default(),
        };
        LinkedGraph {
            components: [(name.clone(), component)].into(),
            capabilities: [(name.clone(), spec.clone())].into(),
            links: vec![link],
            ..LinkedGraph::default()
        }
    }

    pub(crate) fn digest(&self) -> &Digest {
        &self.digest
    }
}

fn sqlite() -> anyhow::Result<Relay> {
    let mut resolve = Resolve::default();
    resolve.push_str("sqlite.wit", SQLITE_WIT)?;
    let package = resolve.push_str("relay.wit", WORLD)?;
    let world = resolve.select_world(&[package], None)?;
    let mut module = wat::parse_str(include_str!("relay/sqlite.wat"))?;
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    let bytes = ComponentEncoder::default().validate(true).module(&module)?.encode()?;
    let digest = Digest::from_bytes(Sha256::digest(&bytes).into());
    Ok(Relay { bytes: bytes.into(), digest, interface: SQLITE.parse()? })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_relay_is_a_component_and_always_the_same() {
        let spec = CapabilitySpec::Sqlite { database: "default".to_owned(), seed: None };
        let relay = relay(&spec).unwrap();
        assert_eq!(relay.digest, super::relay(&spec).unwrap().digest);
        let name: ComponentName = "db".parse().unwrap();
        let graph = relay.graph(&name, &spec);
        assert_eq!(graph.links_of(&name).count(), 1);
    }
}
