//! The resources of one interface, by name.

use std::sync::Arc;

use wasmtime::Engine;
use wasmtime::component::ResourceType;
use wasmtime::component::types::{ComponentInstance, ComponentItem};

/// The resources that an interface defines, as one component sees it, in the order of their names.
///
/// An index means something at one end only: a component drops what it does not use from an interface that it imports,
/// so the other end may have more of them. What both ends agree on is the name.
#[derive(Debug, Clone)]
pub(crate) struct Resources {
    found: Vec<(Arc<str>, ResourceType)>,
}

impl Resources {
    /// Those that `interface` exports.
    pub(crate) fn of(engine: &Engine, interface: &ComponentInstance) -> Self {
        let mut found: Vec<(Arc<str>, ResourceType)> = interface
            .exports(engine)
            .filter_map(|(name, item)| match item.ty {
                ComponentItem::Resource(resource) => Some((Arc::from(name), resource)),
                _ => None,
            })
            .collect();
        found.sort_by(|(one, _), (other, _)| one.cmp(other));
        Self { found }
    }

    /// Without those that `other` exports too. An interface that `use`s a resource exports it like its own, and only
    /// the interface that it is from says whose it is: wasmtime has both in the order of their definition.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "interfaces that use another's resources are not told apart yet")
    )]
    pub(crate) fn except(mut self, engine: &Engine, other: &ComponentInstance) -> Self {
        let others = Self::of(engine, other);
        self.found.retain(|(_, resource)| others.index(resource).is_none());
        self
    }

    /// Their names, by index.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.found.iter().map(|(name, _)| name.as_ref())
    }

    /// Where a resource stands.
    pub(crate) fn index(&self, resource: &ResourceType) -> Option<usize> {
        self.found.iter().position(|(_, found)| found == resource)
    }

    /// A resource by its place, with its name.
    pub(super) fn find(&self, resource: &ResourceType) -> Option<(usize, Arc<str>)> {
        let index = self.index(resource)?;
        self.found.get(index).map(|(name, _)| (index, name.clone()))
    }
}
