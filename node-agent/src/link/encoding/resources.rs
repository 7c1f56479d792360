//! The resources that the functions of one interface carry.

use std::sync::Arc;

use model::interface::InterfaceName;
use model::link::HostResource;
use wasmtime::Engine;
use wasmtime::component::ResourceType;
use wasmtime::component::types::{Component, ComponentInstance, ComponentItem};

use super::Kind;

/// The resources of one interface, as one component sees it: those that it defines, in the order of their names, and
/// the host's.
///
/// An index means something at one end only: a component drops what it does not use from an interface that it imports,
/// so the other end may have more of them. What both ends agree on is the name.
#[derive(Debug, Clone)]
pub(crate) struct Resources {
    found: Vec<(Arc<str>, ResourceType)>,
    host: HostResources,
}

/// What a component imports of the host's resources that cross a link.
#[derive(Debug, Clone, Default)]
pub(crate) struct HostResources(Vec<(HostResource, ResourceType)>);

impl HostResources {
    /// Those among the imports of a component.
    pub(crate) fn of(engine: &Engine, component: &Component) -> Self {
        let mut found = Vec::new();
        for (name, item) in component.imports(engine) {
            let (ComponentItem::ComponentInstance(instance), Ok(interface)) =
                (&item.ty, name.parse::<InterfaceName>())
            else {
                continue;
            };
            for resource in HostResource::ALL.into_iter().filter(|resource| resource.is_of(&interface)) {
                if let Some(item) = instance.get_export(engine, resource.path().1)
                    && let ComponentItem::Resource(ty) = item.ty
                {
                    found.push((resource, ty));
                }
            }
        }
        Self(found)
    }

    fn find(&self, resource: &ResourceType) -> Option<HostResource> {
        self.0.iter().find(|(_, ty)| ty == resource).map(|(found, _)| *found)
    }
}

impl Resources {
    /// Those that `interface` exports. One that `use`s a resource exports it like its own: those of `host` are told from
    /// them.
    pub(crate) fn of(engine: &Engine, interface: &ComponentInstance, host: &HostResources) -> Self {
        let mut found: Vec<(Arc<str>, ResourceType)> = interface
            .exports(engine)
            .filter_map(|(name, item)| match item.ty {
                ComponentItem::Resource(resource) if host.find(&resource).is_none() => {
                    Some((Arc::from(name), resource))
                }
                _ => None,
            })
            .collect();
        found.sort_by(|(one, _), (other, _)| one.cmp(other));
        Self { found, host: host.clone() }
    }

    /// The names of those that the interface defines, by index.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.found.iter().map(|(name, _)| name.as_ref())
    }

    /// What a resource is, with its name.
    pub(super) fn find(&self, resource: &ResourceType) -> Option<(Kind, Arc<str>)> {
        if let Some(found) = self.host.find(resource) {
            let (interface, name) = found.path();
            return Some((Kind::Host(found), format!("{interface}/{name}").into()));
        }
        let index = self.found.iter().position(|(_, found)| found == resource)?;
        self.found.get(index).map(|(name, _)| (Kind::Interface(index), name.clone()))
    }
}
