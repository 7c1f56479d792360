//! The provider of each import: an explicit link, else the one exporter, else the one capability, else the node.

use std::collections::BTreeSet;

use model::graph::{GraphSpec, Wiring};
use model::interface::InterfaceName;
use model::linked::{Function, Link, LinkOrigin, LinkedComponent, LinkedGraph, Origin, Target, Verdict};
use model::name::ComponentName;

use super::verdict::verdict;
use super::{Finding, Place, Types, builtin};
use crate::interface::types::difference;
use crate::interface::{ComponentType, Interface};

pub(super) fn resolve(spec: &GraphSpec, types: &Types, findings: &mut Vec<Finding>) -> LinkedGraph {
    let mut linked = LinkedGraph { ingress: spec.ingress.clone(), ..LinkedGraph::default() };
    let graph = Graph { spec, types };
    let mut used = BTreeSet::new();
    for (name, component) in &spec.components {
        let Some(component_type) = types.get(&component.artifact.digest) else {
            let message = format!("the interface of component {name} is not known");
            findings.push(Finding::new("missing_artifact", Place::Component(name.clone()), message));
            continue;
        };
        linked.components.insert(
            name.clone(),
            LinkedComponent {
                artifact: component.artifact,
                origin: Origin::Graph,
                exports: component_type.exports.iter().map(|export| export.name.clone()).collect(),
                settings: component.settings.clone(),
            },
        );
        for import in &component_type.imports {
            match graph.provider(name, import, &mut used) {
                Ok((to, wiring)) => linked.links.push(new_link(name.clone(), import, to, wiring)),
                Err(finding) => findings.push(finding),
            }
        }
    }
    graph.unused_links(&used, findings);
    graph.ingress(findings);
    let reached = |name: &ComponentName| {
        linked.links.iter().any(|link| matches!(&link.to, Target::Capability { name: to } if to == name))
    };
    linked.capabilities = spec
        .capabilities
        .iter()
        .filter(|(name, _)| reached(name))
        .map(|(name, capability)| (name.clone(), capability.clone()))
        .collect();
    linked
}

/// A link with the verdicts of the functions that the importer uses.
pub(super) fn new_link(from: ComponentName, import: &Interface, to: Target, wiring: LinkOrigin) -> Link {
    let is_host = to == Target::Host;
    let mut functions: Vec<Function> = import
        .functions
        .iter()
        .map(|function| Function {
            name: function.name.clone(),
            verdict: if is_host {
                Verdict::LocalOnly { why: "served by the node's own host".to_owned() }
            } else {
                verdict(function)
            },
        })
        .collect();
    functions.sort();
    Link { from, interface: import.name.clone(), to, wiring, functions }
}

struct Graph<'a> {
    spec: &'a GraphSpec,
    types: &'a Types,
}

impl Graph<'_> {
    fn type_of(&self, name: &ComponentName) -> Option<&ComponentType> {
        let component = self.spec.components.get(name)?;
        self.types.get(&component.artifact.digest).map(|found| &**found)
    }

    fn provider(
        &self,
        from: &ComponentName,
        import: &Interface,
        used: &mut BTreeSet<usize>,
    ) -> Result<(Target, LinkOrigin), Finding> {
        let explicit: Vec<usize> = (0..self.spec.links.len())
            .filter(|index| {
                let link = &self.spec.links[*index];
                link.from == *from && link.interface.matches(&import.name)
            })
            .collect();
        used.extend(&explicit);
        match explicit[..] {
            [index] => {
                let to = &self.spec.links[index].to;
                self.target(from, import, to, &Place::Link(index)).map(|target| (target, LinkOrigin::Explicit))
            }
            [_, second, ..] => {
                let message = format!("two links satisfy the import {} of {from}", import.name);
                Err(Finding::new("ambiguous_import", Place::Link(second), message).help("keep one of them"))
            }
            [] => self.inferred(from, import),
        }
    }

    fn inferred(&self, from: &ComponentName, import: &Interface) -> Result<(Target, LinkOrigin), Finding> {
        let place = Place::Component(from.clone());
        if self.spec.wiring == Wiring::Inferred {
            let candidates = self.candidates(from, &import.name);
            match &candidates[..] {
                [] => {}
                [one] => return self.target(from, import, one, &place).map(|to| (to, LinkOrigin::Inferred)),
                several => {
                    let names: Vec<&str> = several.iter().map(|name| name.as_str()).collect();
                    let message = format!(
                        "the import {} of {from} could be satisfied by {}",
                        import.name,
                        names.join(", ")
                    );
                    let help = format!("write a link: {{from: {from}, interface: \"{}\", to: …}}", import.name);
                    return Err(Finding::new("ambiguous_import", place, message).help(help));
                }
            }
        }
        if builtin::is_offered(&import.name) {
            return Ok((Target::Host, LinkOrigin::BuiltIn));
        }
        Err(self.unsatisfied(from, &import.name))
    }

    /// Exporters on the import's track, and if there is none, capabilities that offer it.
    fn candidates(&self, from: &ComponentName, import: &InterfaceName) -> Vec<ComponentName> {
        let exports = |name: &ComponentName| {
            self.type_of(name).is_some_and(|found| found.export_on_track(import).is_some())
        };
        let components: Vec<ComponentName> =
            self.spec.components.keys().filter(|name| *name != from && exports(name)).cloned().collect();
        if !components.is_empty() {
            return components;
        }
        let offers =
            |spec| builtin::capability_interface(spec).is_some_and(|found| found.name.same_track(import));
        let capabilities = self.spec.capabilities.iter().filter(|(_, spec)| offers(spec));
        capabilities.map(|(name, _)| name.clone()).collect()
    }

    fn target(
        &self,
        from: &ComponentName,
        import: &Interface,
        to: &ComponentName,
        place: &Place,
    ) -> Result<Target, Finding> {
        if to == from {
            let message = format!("{from} cannot satisfy its own import {}", import.name);
            return Err(Finding::new("cycle", place.clone(), message));
        }
        let (export, target) = if let Some(capability) = self.spec.capabilities.get(to) {
            let offered = builtin::capability_interface(capability).filter(|o| o.name.same_track(&import.name));
            (offered, Target::Capability { name: to.clone() })
        } else {
            let export = self.type_of(to).and_then(|found| found.export_on_track(&import.name));
            let name = export.map_or_else(|| import.name.clone(), |export| export.name.clone());
            (export, Target::Component { name: to.clone(), export: name })
        };
        let Some(export) = export else { return Err(self.not_exported(from, &import.name, to, place)) };
        compatible(from, import, to, export, place)?;
        Ok(target)
    }

    fn not_exported(
        &self,
        from: &ComponentName,
        import: &InterfaceName,
        to: &ComponentName,
        place: &Place,
    ) -> Finding {
        let exports: Vec<InterfaceName> = match self.type_of(to) {
            Some(found) => found.exports.iter().map(|export| export.name.clone()).collect(),
            None => Vec::new(),
        };
        if let Some(other) = exports.iter().find(|export| export.path() == import.path()) {
            let message = format!("{from} imports {import}, {to} exports {other}: another semver track");
            return Finding::new("interface_version", place.clone(), message);
        }
        let names: Vec<String> = exports.iter().map(ToString::to_string).collect();
        let message = format!("{to} does not export {import}");
        Finding::new("unknown_export", place.clone(), message).help(format!("it exports: {}", names.join(", ")))
    }

    fn unsatisfied(&self, from: &ComponentName, import: &InterfaceName) -> Finding {
        let place = Place::Component(from.clone());
        let other = self.spec.components.keys().find_map(|name| {
            let found = self.type_of(name)?;
            let export = found.exports.iter().find(|export| export.name.path() == import.path())?;
            Some(format!("{name} exports {}", export.name))
        });
        if let Some(other) = other {
            let message = format!("{from} imports {import}, but {other}: another semver track");
            return Finding::new("interface_version", place, message);
        }
        if builtin::is_known_wasi(import) {
            let message = format!("{from} imports {import}, which a node does not grant");
            return Finding::new("import_not_granted", place, message)
                .help("build the component without it, or link the import to a component that offers it");
        }
        let message = format!("nothing satisfies the import {import} of {from}");
        let help = format!("add a component or a capability that offers {import}, or a link to one");
        Finding::new("unsatisfied_import", place, message).help(help)
    }

    fn unused_links(&self, used: &BTreeSet<usize>, findings: &mut Vec<Finding>) {
        for (index, link) in self.spec.links.iter().enumerate().filter(|(index, _)| !used.contains(index)) {
            let Some(found) = self.type_of(&link.from) else {
                let message = format!("{} is a capability: it imports nothing", link.from);
                findings.push(Finding::new("unknown_import", Place::Link(index), message));
                continue;
            };
            let names: Vec<String> = found.imports.iter().map(|import| import.name.to_string()).collect();
            let message = format!("{} does not import {}", link.from, link.interface);
            let help = format!("it imports: {}", names.join(", "));
            findings.push(Finding::new("unknown_import", Place::Link(index), message).help(help));
        }
    }

    fn ingress(&self, findings: &mut Vec<Finding>) {
        for (index, route) in self.spec.ingress.iter().enumerate() {
            let handles = self
                .type_of(&route.to)
                .is_some_and(|found| found.exports.iter().any(|e| builtin::is_incoming_handler(&e.name)));
            if !handles {
                let message = format!("{} does not export wasi:http/incoming-handler@0.2", route.to);
                findings.push(Finding::new("unknown_export", Place::Ingress(index), message));
            }
        }
    }
}

/// Whether every function that the importer uses is there, with the same type.
pub(super) fn compatible(
    from: &ComponentName,
    import: &Interface,
    to: &ComponentName,
    export: &Interface,
    place: &Place,
) -> Result<(), Finding> {
    for wanted in &import.functions {
        let Some(offered) = export.function(&wanted.name) else {
            let message = format!("{from} uses {} of {}, which {to} does not have", wanted.name, import.name);
            return Err(Finding::new("interface_mismatch", place.clone(), message));
        };
        if let Some(found) = difference(wanted, offered) {
            let at =
                if found.path.is_empty() { String::new() } else { format!(", at {}", found.path.join(", ")) };
            let message =
                format!("{} of {} has another type in {from} than in {to}{at}", wanted.name, import.name);
            let help = format!("{from} has {}\n{to} has {}", found.wanted, found.offered);
            return Err(Finding::new("interface_mismatch", place.clone(), message).help(help));
        }
    }
    Ok(())
}
