//! Makes one component of a slice, so that a call between its members is a call inside one instance.
//!
//! What differs between members although it has one name (settings, logs, databases, standard output, outgoing HTTP)
//! becomes a *slot*: an import of the fused component under a name of its own, filled for its member alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::interface::InterfaceName;
use model::linked::LinkedGraph;
use model::name::ComponentName;
use wac_graph::types::{Interface, ItemKind, Package};
use wac_graph::{CompositionGraph, EncodeOptions, NodeId, PackageId};

use crate::host::remote::There;
use crate::host::slice::{Provider, Slice};

/// A slice as one component. Its exports are the root's.
pub(crate) struct Fused {
    pub(crate) bytes: Vec<u8>,
    /// By the name of the import.
    pub(crate) slots: BTreeMap<String, Slot>,
}

/// An import that belongs to one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slot {
    /// The member's component.
    pub(crate) component: ComponentName,
    /// What it imports.
    pub(crate) interface: InterfaceName,
    /// What is behind it.
    pub(crate) behind: Behind,
    /// The member's place in the slice.
    pub(crate) consumer: usize,
}

impl Slot {
    /// The capability behind it, if that is what it has.
    pub(crate) fn capability(&self) -> Option<&ComponentName> {
        match &self.behind {
            Behind::Capability(name) => Some(name),
            Behind::Host | Behind::Remote(_) => None,
        }
    }
}

/// What is behind a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Behind {
    /// The node's own host.
    Host,
    /// A capability on this node.
    Capability(ComponentName),
    /// A member on another node.
    Remote(There),
}

/// Why a slice cannot be fused.
#[derive(Debug, thiserror::Error)]
#[error("component `{component}` cannot be fused: it cannot {step}: {message}")]
pub(crate) struct FuseError {
    component: ComponentName,
    step: String,
    message: String,
}

/// Interfaces of the host that answer each member otherwise.
const PER_MEMBER: [&str; 6] = [
    "fermyon:spin/variables",
    "wasi:cli/stderr",
    "wasi:cli/stdout",
    "wasi:config/store",
    "wasi:http/outgoing-handler",
    "wasi:logging/logging",
];

/// Fuses `slice`, whose components have these bytes.
pub(crate) fn fuse(
    linked: &LinkedGraph,
    slice: &Slice,
    artifacts: &BTreeMap<ComponentName, Arc<[u8]>>,
) -> Result<Fused, FuseError> {
    let mut fusing =
        Fusing { graph: CompositionGraph::new(), packages: BTreeMap::new(), slots: BTreeMap::new() };
    let mut nodes = Vec::new();
    for index in 0..slice.instances.len() {
        let node = fusing.add(linked, slice, artifacts, &nodes, index)?;
        nodes.push(node);
    }
    fusing.export_root(slice, &nodes)?;
    let options = EncodeOptions { define_components: true, validate: true, processor: None };
    let bytes = fusing
        .graph
        .encode(options)
        .map_err(|error| wrong(&slice.instances[nodes.len() - 1].component, "be encoded", error))?;
    Ok(Fused { bytes, slots: fusing.slots })
}

fn wrong(component: &ComponentName, step: impl Into<String>, error: impl std::fmt::Display) -> FuseError {
    FuseError { component: component.clone(), step: step.into(), message: format!("{error:#}") }
}

struct Fusing {
    graph: CompositionGraph,
    packages: BTreeMap<model::digest::Digest, PackageId>,
    slots: BTreeMap<String, Slot>,
}

impl Fusing {
    fn add(
        &mut self,
        linked: &LinkedGraph,
        slice: &Slice,
        artifacts: &BTreeMap<ComponentName, Arc<[u8]>>,
        nodes: &[NodeId],
        index: usize,
    ) -> Result<NodeId, FuseError> {
        let instance = &slice.instances[index];
        let component = &instance.component;
        let package = self.package(linked, component, artifacts)?;
        let node = self.graph.instantiate(package);
        for (interface, provider) in &instance.imports {
            let name = interface.to_string();
            let argument = match provider {
                Provider::Instance { index, export } => self
                    .graph
                    .alias_instance_export(nodes[*index], &export.to_string())
                    .map_err(|error| wrong(component, format!("find `{export}`"), error))?,
                Provider::Host if !PER_MEMBER.contains(&interface.path().as_str()) => continue,
                Provider::Host => self.slot(package, index, component, interface, Behind::Host)?,
                Provider::Capability(name) => {
                    self.slot(package, index, component, interface, Behind::Capability(name.clone()))?
                }
                Provider::Remote(there) => {
                    self.slot(package, index, component, interface, Behind::Remote(there.clone()))?
                }
            };
            self.graph
                .set_instantiation_argument(node, &name, argument)
                .map_err(|error| wrong(component, format!("be linked to `{name}`"), error))?;
        }
        Ok(node)
    }

    fn package(
        &mut self,
        linked: &LinkedGraph,
        component: &ComponentName,
        artifacts: &BTreeMap<ComponentName, Arc<[u8]>>,
    ) -> Result<PackageId, FuseError> {
        let (Some(spec), Some(bytes)) = (linked.components.get(component), artifacts.get(component)) else {
            return Err(wrong(component, "be read", "its artifact is missing"));
        };
        let digest = spec.artifact.digest;
        if let Some(package) = self.packages.get(&digest) {
            return Ok(*package);
        }
        let name = format!("weft:artifact-{}", digest.short());
        let package = Package::from_bytes(&name, None, bytes.to_vec(), self.graph.types_mut())
            .map_err(|error| wrong(component, "be read", error))?;
        let package =
            self.graph.register_package(package).map_err(|error| wrong(component, "be read", error))?;
        self.packages.insert(digest, package);
        Ok(package)
    }

    /// Imports the interface of a slot under a name of its own.
    fn slot(
        &mut self,
        package: PackageId,
        consumer: usize,
        component: &ComponentName,
        interface: &InterfaceName,
        behind: Behind,
    ) -> Result<NodeId, FuseError> {
        let slot = Slot { component: component.clone(), interface: interface.clone(), behind, consumer };
        let world = self.graph[package].ty();
        let name = slot.interface.to_string();
        let Some(ItemKind::Instance(id)) = self.graph.types()[world].imports.get(&name).copied() else {
            return Err(wrong(&slot.component, format!("import `{name}`"), "it is not an imported interface"));
        };
        // Without an id: with one, the import would say `implements`, which engines do not take yet.
        let found = &self.graph.types()[id];
        let anonymous = Interface { id: None, uses: found.uses.clone(), exports: found.exports.clone() };
        let id = self.graph.types_mut().add_interface(anonymous);
        let import = format!("m{consumer}-{}-{}", slot.interface.package, slot.interface.interface);
        let node = self
            .graph
            .import(&import, ItemKind::Instance(id))
            .map_err(|error| wrong(&slot.component, format!("import `{name}`"), error))?;
        self.slots.insert(import, slot);
        Ok(node)
    }

    fn export_root(&mut self, slice: &Slice, nodes: &[NodeId]) -> Result<(), FuseError> {
        let (Some(root), Some(node)) = (slice.instances.last(), nodes.last()) else { return Ok(()) };
        let world = self.graph[*node].package().map(|package| self.graph[package].ty());
        let Some(world) = world else { return Ok(()) };
        let exports: Vec<String> = self.graph.types()[world].exports.keys().cloned().collect();
        for export in exports {
            let alias = self
                .graph
                .alias_instance_export(*node, &export)
                .map_err(|error| wrong(&root.component, format!("export `{export}`"), error))?;
            self.graph
                .export(alias, &export)
                .map_err(|error| wrong(&root.component, format!("export `{export}`"), error))?;
        }
        Ok(())
    }
}
