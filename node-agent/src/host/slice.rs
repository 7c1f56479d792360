//! A slice: the tree of instances that one call of a root component needs.
//!
//! A provider instance is private to its consumer instance, and all links of one consumer instance to the same
//! provider share one provider instance; so the part of a linked graph below a root unfolds to a tree.

use std::collections::BTreeMap;

use model::interface::InterfaceName;
use model::linked::{LinkedGraph, Target};
use model::name::ComponentName;

use crate::host::engine::SLICE_INSTANCES_MAX;
use crate::host::remote::{Site, There};

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
    /// A member on other nodes.
    Remote(There),
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

/// The slice below `root`, as far as it is on this node.
pub(crate) fn slice(linked: &LinkedGraph, site: Site<'_>, root: &ComponentName) -> Result<Slice, SliceError> {
    let mut unfolding = Unfolding { linked, site, root, path: Vec::new(), instances: Vec::new() };
    unfolding.add(root)?;
    Ok(Slice { instances: unfolding.instances })
}

struct Unfolding<'a> {
    linked: &'a LinkedGraph,
    site: Site<'a>,
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
            if let Some(to) = link.to.member()
                && !self.site.is_here(to)
            {
                let nodes = self.site.nodes_of(to).cloned().collect();
                let provider = Provider::Remote(There { to: to.clone(), nodes, terms: link.terms.clone() });
                imports.push((link.interface.clone(), provider));
                continue;
            }
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
mod tests {
    use model::digest::Digest;
    use model::graph::{Artifact, Settings};
    use model::linked::{Link, LinkOrigin, LinkedComponent, Origin};
    use model::name::NodeName;
    use model::placement::Placement;

    use super::*;

    /// A graph of links written `from -> to`, each over an interface named for its target.
    fn graph(links: &[(&str, &str)]) -> LinkedGraph {
        let mut linked = LinkedGraph::default();
        for (from, to) in links {
            for name in [from, to] {
                let artifact = Artifact { digest: Digest::from_bytes([0; 32]), size: 1 };
                let component = LinkedComponent {
                    artifact,
                    origin: Origin::Graph,
                    exports: Vec::new(),
                    settings: Settings::default(),
                };
                linked.components.insert(name.parse().unwrap(), component);
            }
            let interface: InterfaceName = format!("test:graph/{to}@1.0.0").parse().unwrap();
            linked.links.push(Link {
                from: from.parse().unwrap(),
                interface: interface.clone(),
                to: Target::Component { name: to.parse().unwrap(), export: interface },
                wiring: LinkOrigin::Explicit,
                functions: Vec::new(),
                terms: model::placement::LinkTerms::default(),
            });
        }
        linked
    }

    fn sliced(linked: &LinkedGraph, root: &str, placement: &Placement) -> Result<Slice, SliceError> {
        slice(linked, Site { placement, node: &"n1".parse().unwrap() }, &root.parse().unwrap())
    }

    fn unfolded(links: &[(&str, &str)], root: &str) -> Result<Vec<String>, SliceError> {
        placed(links, root, &Placement::whole("n1".parse().unwrap()))
    }

    /// `name(indices of its providers)` for each instance, in order.
    fn placed(links: &[(&str, &str)], root: &str, placement: &Placement) -> Result<Vec<String>, SliceError> {
        let slice = sliced(&graph(links), root, placement)?;
        let shown = slice.instances.iter().map(|instance| {
            let providers = instance.imports.iter().map(|(_, provider)| match provider {
                Provider::Instance { index, .. } => index.to_string(),
                Provider::Capability(name) => name.to_string(),
                Provider::Remote(There { to, nodes, .. }) => {
                    format!("{to}@{}", nodes.iter().map(NodeName::as_str).collect::<Vec<_>>().join("+"))
                }
                Provider::Host => "host".to_owned(),
            });
            format!("{}({})", instance.component, providers.collect::<Vec<_>>().join(","))
        });
        Ok(shown.collect())
    }

    #[test]
    fn providers_come_first_and_each_consumer_has_its_own() {
        let links = [("app", "proxy"), ("app", "store"), ("proxy", "store")];
        let expected = ["store()", "proxy(0)", "store()", "app(1,2)"].map(str::to_owned);
        assert_eq!(unfolded(&links, "app").unwrap(), expected);
        assert_eq!(unfolded(&links, "proxy").unwrap(), ["store()", "proxy(0)"].map(str::to_owned));
    }

    #[test]
    fn a_slice_ends_where_another_node_begins() {
        let links = [("app", "proxy"), ("app", "store"), ("proxy", "store")];
        let mut placement = Placement::whole("n1".parse().unwrap());
        placement.away.insert("store".parse().unwrap(), "n2".parse().unwrap());
        let expected = ["proxy(store@n2)", "app(0,store@n2)"].map(str::to_owned);
        assert_eq!(placed(&links, "app", &placement).unwrap(), expected);
    }

    #[test]
    fn a_provider_that_is_here_as_well_is_not_called_elsewhere() {
        let links = [("app", "search"), ("search", "store")];
        let mut placement = Placement::whole("n2".parse().unwrap());
        placement.more.insert("app".parse().unwrap(), ["n1".parse().unwrap(), "n3".parse().unwrap()].into());
        placement.more.insert("store".parse().unwrap(), ["n3".parse().unwrap()].into());
        assert_eq!(placed(&links, "app", &placement).unwrap(), ["app(search@n2)"]);
        assert_eq!(placed(&links, "search", &placement).unwrap(), ["search(store@n2+n3)"]);
        placement.more.insert("search".parse().unwrap(), ["n1".parse().unwrap()].into());
        assert_eq!(placed(&links, "app", &placement).unwrap(), ["search(store@n2+n3)", "app(0)"]);
    }

    #[test]
    fn several_links_to_one_provider_share_one_instance() {
        let mut linked = graph(&[("app", "store")]);
        let mut second = linked.links[0].clone();
        second.interface = "test:graph/other@1.0.0".parse().unwrap();
        linked.links.push(second);
        let slice = sliced(&linked, "app", &Placement::whole("n1".parse().unwrap())).unwrap();
        assert_eq!(slice.instances.len(), 2);
    }

    #[test]
    fn what_cannot_be_unfolded_is_refused() {
        let cycle = [("a", "b"), ("b", "c"), ("c", "a")];
        assert_eq!(unfolded(&cycle, "a"), Err(SliceError::Cycle("a".parse().unwrap())));
        assert_eq!(unfolded(&cycle, "z"), Err(SliceError::Missing("z".parse().unwrap())));
        // Each level doubles: nine of them unfold to 511 instances.
        let names: Vec<String> = (0..9).map(|level| format!("l{level}")).collect();
        let mut links = Vec::new();
        for pair in names.windows(2) {
            let (left, right) = (format!("{}-a", pair[0]), format!("{}-b", pair[0]));
            links.extend([(pair[0].clone(), left.clone()), (pair[0].clone(), right.clone())]);
            links.extend([(left, pair[1].clone()), (right, pair[1].clone())]);
        }
        let links: Vec<(&str, &str)> = links.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
        assert_eq!(unfolded(&links, "l0"), Err(SliceError::TooLarge { root: "l0".parse().unwrap() }));
    }
}
