//! Makes one component of a slice, so that a call between its members is a call inside one instance.
//!
//! What differs between members although it has one name (settings, logs, databases, standard output, outgoing HTTP)
//! becomes a *slot*: an import of the fused component under a name of its own, filled for its member alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::interface::InterfaceName;
use model::linked::LinkedGraph;
use model::name::ComponentName;
use wac_graph::types::{
    DefinedType, Interface, InterfaceId, ItemKind, Package, Type, Types, ValueType, WorldId,
};
use wac_graph::{CompositionGraph, EncodeOptions, NodeId, PackageId};

use crate::host::remote::There;
use crate::host::slice::{Instance, Provider, Slice};

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

impl Behind {
    /// Whose resources there are behind it.
    fn place(&self) -> Option<&ComponentName> {
        match self {
            Self::Host => None,
            Self::Capability(name) | Self::Remote(There { to: name, .. }) => Some(name),
        }
    }
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
        let mut slots = self.slots_of(package, index, instance)?;
        for (interface, provider) in &instance.imports {
            let name = interface.to_string();
            let argument = match (provider, slots.remove(interface)) {
                (_, Some((import, id, slot))) => self.slot(import, id, slot)?,
                (Provider::Instance { index, export }, None) => self
                    .graph
                    .alias_instance_export(nodes[*index], &export.to_string())
                    .map_err(|error| wrong(component, format!("find `{export}`"), error))?,
                (_, None) => continue,
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
        let package = self.read(component, &name, bytes.to_vec())?;
        let package =
            self.graph.register_package(package).map_err(|error| wrong(component, "be read", error))?;
        self.packages.insert(digest, package);
        Ok(package)
    }

    /// Reads a component, with types of its own each time.
    fn read(&mut self, component: &ComponentName, name: &str, bytes: Vec<u8>) -> Result<Package, FuseError> {
        Package::from_bytes(name, None, bytes, self.graph.types_mut())
            .map_err(|error| wrong(component, "be read", error))
    }

    /// The slots of an instance, by what it imports, each with the name of its import and its interface.
    fn slots_of(
        &mut self,
        package: PackageId,
        consumer: usize,
        instance: &Instance,
    ) -> Result<BTreeMap<InterfaceName, (String, InterfaceId, Slot)>, FuseError> {
        let Instance { component, imports } = instance;
        let mut slots = BTreeMap::new();
        for (number, (interface, provider)) in imports.iter().enumerate() {
            let behind = match provider {
                Provider::Host if PER_MEMBER.contains(&interface.path().as_str()) => Behind::Host,
                Provider::Capability(name) => Behind::Capability(name.clone()),
                Provider::Remote(there) => Behind::Remote(there.clone()),
                Provider::Instance { .. } | Provider::Host => continue,
            };
            // Of the form of an interface's, which is its id too where it needs one: engines do not take imports yet that say
            // `implements`.
            let import = format!("weft:slots/m{consumer}-i{number}-{}", interface.interface);
            let slot = Slot { component: component.clone(), interface: interface.clone(), behind, consumer };
            slots.insert(interface.clone(), (import, slot));
        }
        let world = self.graph[package].ty();
        let found = self.interfaces(world, instance)?;
        // All but what the node offers to everybody.
        let is_apart = |(name, provider): &&(InterfaceName, Provider)| {
            slots.contains_key(name) || matches!(provider, Provider::Instance { .. })
        };
        let apart: Vec<InterfaceId> =
            imports.iter().filter(is_apart).filter_map(|(name, _)| found.get(name).copied()).collect();
        let types = self.graph.types();
        let shares = |id: &InterfaceId| types[*id].uses.values().any(|used| apart.contains(&used.interface));
        if !slots.keys().filter_map(|name| found.get(name)).any(shares) {
            let anonymous = slots.into_iter().filter_map(|(name, (import, slot))| {
                let found = &self.graph.types()[*found.get(&name)?];
                let interface =
                    Interface { id: None, uses: found.uses.clone(), exports: found.exports.clone() };
                Some((name, (import, self.graph.types_mut().add_interface(interface), slot)))
            });
            return Ok(anonymous.collect());
        }
        // A copy of the types for this instance alone: interfaces that share resources go on sharing them, and those of two
        // instances are two.
        let read = &self.graph[package];
        let (name, bytes) = (read.name().to_owned(), read.bytes().to_vec());
        let world = self.read(component, &name, bytes)?.ty();
        let found = self.interfaces(world, instance)?;
        for (name, (import, slot)) in &slots {
            let Some(id) = found.get(name) else { continue };
            self.graph.types_mut()[*id].id = Some(import.clone());
            let others = imports.iter().filter_map(|(other, provider)| {
                let foreign = match (slots.get(other), provider) {
                    (Some((_, other)), _) if other.behind.place() != slot.behind.place() => Foreign::Import,
                    (None, Provider::Instance { .. }) => Foreign::Inside,
                    _ => return None,
                };
                Some((*found.get(other)?, foreign))
            });
            let others: Vec<(InterfaceId, Foreign)> = others.collect();
            self.part((*id, slot), &others)?;
        }
        let copied = slots.into_iter().filter_map(|(name, (import, slot))| {
            let id = *found.get(&name)?;
            Some((name, (import, id, slot)))
        });
        Ok(copied.collect())
    }

    /// What an instance imports, in the types of its component.
    fn interfaces(
        &self,
        world: WorldId,
        Instance { component, imports }: &Instance,
    ) -> Result<BTreeMap<InterfaceName, InterfaceId>, FuseError> {
        let types = &self.graph.types()[world].imports;
        imports
            .iter()
            .map(|(name, _)| match types.get(&name.to_string()) {
                Some(ItemKind::Instance(id)) => Ok((name.clone(), *id)),
                _ => Err(wrong(component, format!("import `{name}`"), "it is not an imported interface")),
            })
            .collect()
    }

    /// An import cannot name types of what is inside the slice: it has them written out. The control plane refuses what would
    /// carry resources from one provider to another; a node does not trust that.
    fn part(
        &mut self,
        (slot, of): (InterfaceId, &Slot),
        others: &[(InterfaceId, Foreign)],
    ) -> Result<(), FuseError> {
        let types = self.graph.types();
        let interface = &types[slot];
        let mut used = interface.uses.clone();
        used.retain(|_, used| others.iter().any(|(id, _)| *id == used.interface));
        for name in used.keys() {
            if interface.exports.get(name).is_some_and(|item| has_resources(types, *item)) {
                let message = format!("`{name}` is a resource, or holds one, of another provider");
                return Err(wrong(&of.component, format!("import `{}`", of.interface), message));
            }
        }
        used.retain(|_, used| others.contains(&(used.interface, Foreign::Inside)));
        self.graph.types_mut()[slot].uses.retain(|name, _| !used.contains_key(name));
        Ok(())
    }

    /// Imports a slot.
    fn slot(&mut self, import: String, interface: InterfaceId, slot: Slot) -> Result<NodeId, FuseError> {
        let node = self
            .graph
            .import(&import, ItemKind::Instance(interface))
            .map_err(|error| wrong(&slot.component, format!("import `{}`", slot.interface), error))?;
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

/// What another interface is of an instance whose slot names types of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Foreign {
    /// An import of another provider.
    Import,
    /// From a member of the slice.
    Inside,
}

/// Whether a type is a resource or has one in it.
fn has_resources(types: &Types, item: ItemKind) -> bool {
    let ItemKind::Type(ty) = item else { return false };
    let mut left = vec![match ty {
        Type::Resource(_) => return true,
        Type::Value(ty) => ty,
        Type::Func(_) | Type::Interface(_) | Type::World(_) | Type::Module(_) => return false,
    }];
    let mut seen = Vec::new();
    while let Some(ty) = left.pop() {
        let id = match ty {
            ValueType::Primitive(_) => continue,
            ValueType::Own(_) | ValueType::Borrow(_) => return true,
            ValueType::Defined(id) if seen.contains(&id) => continue,
            ValueType::Defined(id) => id,
        };
        seen.push(id);
        match &types[id] {
            DefinedType::Tuple(items) => left.extend(items),
            DefinedType::List(of)
            | DefinedType::FixedSizeList(of, _)
            | DefinedType::Option(of)
            | DefinedType::Alias(of) => left.push(*of),
            DefinedType::Map(key, value) => left.extend([*key, *value]),
            DefinedType::Result { ok, err } => left.extend([ok, err].into_iter().flatten()),
            DefinedType::Variant(variant) => left.extend(variant.cases.values().flatten()),
            DefinedType::Record(record) => left.extend(record.fields.values()),
            DefinedType::Flags(_) | DefinedType::Enum(_) => {}
            DefinedType::Stream(of) | DefinedType::Future(of) => left.extend(*of),
        }
    }
    false
}
