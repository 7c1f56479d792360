//! A slice: the tree of instances that one call of a root component needs.
//!
//! A provider instance is private to its consumer instance, and all links of one consumer instance to the same
//! provider share one provider instance; so the part of a linked graph below a root unfolds to a tree.

use std::collections::BTreeMap;

use model::interface::InterfaceName;
use model::linked::{LinkedGraph, Target};
use model::name::ComponentName;

use crate::host::engine::SLICE_INSTANCES_MAX;

/// A tree of instances, in the order in which they can be made: providers first, the root last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) instances: Vec<Instance>,
}

/// One instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Instance {
    /// The component it is of.
    pub(crate) component: ComponentName,
    /// What satisfies each of its imports.
    pub(crate) imports: Vec<(InterfaceName, Provider)>,
}

/// What satisfies an import of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Provider {
    /// An export of an earlier instance.
    Instance {
        /// Its place in the slice.
        index: usize,
        /// The export.
        export: InterfaceName,
    },
    /// A capability of the graph.
    Capability(ComponentName),
    /// The node's host.
    Host,
}

/// Why a slice cannot be made of a linked graph. The control plane refuses such graphs; a node does not trust that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SliceError {
    /// A link leads to a component that the graph does not have.
    #[error("component `{0}` is not in the graph")]
    Missing(ComponentName),
    /// Components import each other in a circle.
    #[error("component `{0}` imports itself by way of others")]
    Cycle(ComponentName),
    /// It unfolds too far.
    #[error("a call of component `{root}` needs more than {SLICE_INSTANCES_MAX} instances")]
    TooLarge { root: ComponentName },
}

/// The slice below `root`.
pub(crate) fn slice(linked: &LinkedGraph, root: &ComponentName) -> Result<Slice, SliceError> {
    let mut unfolding = Unfolding { linked, root, path: Vec::new(), instances: Vec::new() };
    unfolding.add(root)?;
    Ok(Slice { instances: unfolding.instances })
}

struct Unfolding<'a> {
    linked: &'a LinkedGraph,
    root: &'a ComponentName,
    /// From the root to the component being added.
    path: Vec<&'a ComponentName>,
    instances: Vec<Instance>,
}

impl<'a> Unfolding<'a> {
    fn add(&mut self, name: &'a ComponentName) -> Result<usize, SliceError> {
        if !self.linked.components.contains_key(name) {
            return Err(SliceError::Missing(name.clone()));
        }
        if self.path.contains(&name) {
            return Err(SliceError::Cycle(name.clone()));
        }
        self.path.push(name);
        let mut providers: BTreeMap<&ComponentName, usize> = BTreeMap::new();
        let mut imports = Vec::new();
        for link in self.linked.links.iter().filter(|link| link.from == *name) {
            let provider = match &link.to {
                Target::Component { name: to, export } => {
                    let index = match providers.get(to) {
                        Some(index) => *index,
                        None => self.add(to)?,
                    };
                    providers.insert(to, index);
                    Provider::Instance { index, export: export.clone() }
                }
                Target::Capability { name } => Provider::Capability(name.clone()),
                Target::Host => Provider::Host,
            };
            imports.push((link.interface.clone(), provider));
        }
        self.path.pop();
        if self.instances.len() >= SLICE_INSTANCES_MAX as usize {
            return Err(SliceError::TooLarge { root: self.root.clone() });
        }
        self.instances.push(Instance { component: name.clone(), imports });
        Ok(self.instances.len() - 1)
    }
}
