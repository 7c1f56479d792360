//! The resources that the functions of links carry.

use std::sync::Arc;

use model::interface::InterfaceName;
use model::link::HostResource;
use wasmtime::Engine;
use wasmtime::component::ResourceType;
use wasmtime::component::types::{Component, ComponentInstance, ComponentItem};

use super::Kind;

/// The resources of one component's links: those of its providers or its own, whichever end it is, and the host's.
///
/// Interfaces share them: what one defines another `use`s. An index means something at one end only: a component drops
/// what it does not use from an interface that it imports, so the other end may have more of them. What both ends agree
/// on is the name.
#[derive(Debug, Clone, Default)]
pub(crate) struct LinkResources {
    found: Vec<Found>,
    host: HostResources,
}

/// One of them.
#[derive(Debug, Clone)]
struct Found {
    ty: ResourceType,
    /// The interfaces that have it, and its names there. One of them defines it. Among imports that is the first, since
    /// the others must be able to name it; among exports it need not be.
    of: Vec<(InterfaceName, Arc<str>)>,
}

/// Of so many interfaces that export a resource, each is taken for the one that defines it where a consumer does.
const OWNERS_MAX: usize = 8;

/// The resources of one interface.
#[derive(Debug, Clone)]
pub(crate) struct Resources<'a> {
    interface: &'a InterfaceName,
    /// Which of its interfaces is taken for the one that defines a resource.
    owner: usize,
    /// By the names that the interface has for them, with the index among all.
    named: Vec<(Arc<str>, usize)>,
    all: &'a LinkResources,
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

impl LinkResources {
    /// Those that `interfaces` export, in their order. One that `use`s a resource exports it like its own: those of `host`
    /// are told from them.
    pub(crate) fn of<'i>(
        engine: &Engine,
        interfaces: impl IntoIterator<Item = (&'i InterfaceName, &'i ComponentInstance)>,
        host: HostResources,
    ) -> Self {
        let mut all = Self { found: Vec::new(), host };
        for (interface, instance) in interfaces {
            for (name, ty) in resources(engine, instance) {
                if all.host.find(&ty).is_some() {
                    continue;
                }
                let of = (interface.clone(), name);
                match all.position(&ty).and_then(|index| all.found.get_mut(index)) {
                    Some(found) => found.of.push(of),
                    None => all.found.push(Found { ty, of: vec![of] }),
                }
            }
        }
        all
    }

    /// How many ways there are to name them: by each interface that may define them.
    pub(crate) fn owners(&self) -> usize {
        self.found.iter().map(|found| found.of.len()).max().unwrap_or(1).clamp(1, OWNERS_MAX)
    }

    /// Those of one of the interfaces, by one of the ways to name them; the first is that of importers.
    pub(crate) fn seen_by<'a>(
        &'a self,
        engine: &Engine,
        (interface, instance): (&'a InterfaceName, &ComponentInstance),
        owner: usize,
    ) -> Resources<'a> {
        let found = resources(engine, instance).into_iter();
        let named = found.filter_map(|(name, resource)| Some((name, self.position(&resource)?))).collect();
        Resources { interface, owner, named, all: self }
    }

    fn position(&self, resource: &ResourceType) -> Option<usize> {
        self.found.iter().position(|found| found.ty == *resource)
    }
}

/// What an interface exports, in the order of the names.
fn resources(engine: &Engine, interface: &ComponentInstance) -> Vec<(Arc<str>, ResourceType)> {
    let mut found: Vec<(Arc<str>, ResourceType)> = interface
        .exports(engine)
        .filter_map(|(name, item)| match item.ty {
            ComponentItem::Resource(resource) => Some((Arc::from(name), resource)),
            _ => None,
        })
        .collect();
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    found
}

impl Resources<'_> {
    /// The names of those that are not the host's, each with its index.
    pub(crate) fn names(&self) -> impl Iterator<Item = (&str, usize)> {
        self.named.iter().map(|(name, index)| (name.as_ref(), *index))
    }

    /// What a resource is, with the name that both ends know it by: one of another interface has that before it, otherwise than
    /// one of the host.
    pub(super) fn find(&self, resource: &ResourceType) -> Option<(Kind, Arc<str>)> {
        if let Some(found) = self.all.host.find(resource) {
            let (interface, name) = found.path();
            return Some((Kind::Host(found), format!("{interface}/{name}").into()));
        }
        let index = self.all.position(resource)?;
        let Found { of, .. } = self.all.found.get(index)?;
        let (interface, name) = of.get(self.owner).or(of.last())?;
        let name = match interface == self.interface {
            true => name.clone(),
            false => format!("{}#{name}", interface.path()).into(),
        };
        Some((Kind::Provider(index), name))
    }
}
