//! The provider of each import: an explicit link, else the one exporter, else the one capability, else the node.

use std::collections::{BTreeMap, BTreeSet};

use model::graph::{GraphSpec, LINKS_MAX, Wiring};
use model::interface::InterfaceName;
use model::linked::{Function, Link, LinkOrigin, LinkedComponent, LinkedGraph, Origin, Target, Verdict};
use model::name::ComponentName;
use model::placement::LinkTerms;
use model::reserve::Reserves;

use super::verdict::verdict;
use super::{FINDINGS_MAX, Finding, Place, Types, builtin};
use crate::interface::types::difference;
use crate::interface::{ComponentType, Interface};

pub(super) fn resolve(spec: &GraphSpec, types: &Types, findings: &mut Vec<Finding>) -> LinkedGraph {
    let mut linked = LinkedGraph { ingress: spec.ingress.clone(), ..LinkedGraph::default() };
    let graph = Graph::new(spec, types);
    let mut used = BTreeSet::new();
    for (name, component) in &spec.components {
        if findings.len() >= FINDINGS_MAX {
            return linked;
        }
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
                Ok(Some((to, wiring))) => {
                    let terms = graph.terms(name, import);
                    linked.links.push(Link { terms, ..new_link(name.clone(), import, to, wiring) });
                }
                Ok(None) => {}
                Err(finding) => findings.push(finding),
            }
        }
    }
    let edges = linked.links.iter().filter(|link| link.to != Target::Host).count();
    if edges > LINKS_MAX {
        let message = format!("a graph has at most {LINKS_MAX} links, this one has {edges}");
        findings.push(Finding::new("graph_too_large", Place::Graph, message));
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
    let is_there =
        |name: &ComponentName| linked.components.contains_key(name) || linked.capabilities.contains_key(name);
    let (mut require, mut wishes) = (spec.require.clone(), spec.wishes.clone());
    require.retain(|name, _| is_there(name));
    wishes.retain(|name, _| is_there(name));
    (linked.require, linked.wishes) = (require, wishes);
    linked.replicas = spec.replicas.clone();
    linked.replicas.retain(|name, _| linked.components.contains_key(name));
    linked.each_node = spec.each_node.clone();
    linked.each_node.retain(|name| linked.components.contains_key(name));
    linked.scaling = spec.scaling.clone();
    linked.scaling.retain(|name, _| linked.components.contains_key(name));
    linked.reserves = spec.reserves.clone();
    linked.reserves.instances.retain(|name, _| linked.components.contains_key(name));
    if linked.reserves.is_empty() {
        linked.reserves = Reserves::default();
    }
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
                // Judged again once all links are there, if it carries resources of other interfaces.
                verdict(&import.name, function, &[])
            },
        })
        .collect();
    functions.sort();
    Link { from, interface: import.name.clone(), to, wiring, functions, terms: LinkTerms::default() }
}

/// A graph with its ways of being asked.
struct Graph<'a> {
    spec: &'a GraphSpec,
    types: &'a Types,
    /// The links that are written out, by where they start.
    links: BTreeMap<&'a ComponentName, Vec<usize>>,
    /// Who offers an interface, by its name without the version; components first.
    offers: BTreeMap<Path<'a>, Vec<Offer<'a>>>,
}

/// Namespace, package, interface.
type Path<'a> = (&'a str, &'a str, &'a str);

fn path(name: &InterfaceName) -> Path<'_> {
    (&name.namespace, &name.package, &name.interface)
}

#[derive(Clone, Copy)]
struct Offer<'a> {
    by: &'a ComponentName,
    interface: &'a InterfaceName,
    is_capability: bool,
}

impl<'a> Graph<'a> {
    fn new(spec: &'a GraphSpec, types: &'a Types) -> Self {
        let mut graph = Self { spec, types, links: BTreeMap::new(), offers: BTreeMap::new() };
        for (index, link) in spec.links.iter().enumerate() {
            graph.links.entry(&link.from).or_default().push(index);
        }
        for by in spec.components.keys() {
            for export in graph.type_of(by).into_iter().flat_map(|found| &found.exports) {
                let offer = Offer { by, interface: &export.name, is_capability: false };
                graph.offers.entry(path(&export.name)).or_default().push(offer);
            }
        }
        for (by, capability) in &spec.capabilities {
            if let Some(offered) = builtin::capability_interface(capability) {
                let offer = Offer { by, interface: &offered.name, is_capability: true };
                graph.offers.entry(path(&offered.name)).or_default().push(offer);
            }
        }
        graph
    }

    fn type_of(&self, name: &ComponentName) -> Option<&'a ComponentType> {
        let component = self.spec.components.get(name)?;
        self.types.get(&component.artifact.digest).map(|found| &**found)
    }

    /// Who else offers this interface, on whatever track.
    fn others(&self, from: &ComponentName, import: &InterfaceName) -> Vec<Offer<'a>> {
        let offers = self.offers.get(&path(import)).map(Vec::as_slice).unwrap_or_default();
        offers.iter().copied().filter(|offer| offer.by != from).collect()
    }

    /// What is asked of a link that is written out.
    fn terms(&self, from: &ComponentName, import: &Interface) -> LinkTerms {
        let links = self.links.get(from).map(Vec::as_slice).unwrap_or_default();
        let mut written = links.iter().filter_map(|at| self.spec.links.get(*at));
        written
            .find(|link| link.interface.matches(&import.name))
            .map(|link| link.terms.clone())
            .unwrap_or_default()
    }

    fn provider(
        &self,
        from: &ComponentName,
        import: &Interface,
        used: &mut BTreeSet<usize>,
    ) -> Result<Option<(Target, LinkOrigin)>, Finding> {
        let links = self.links.get(from).map(Vec::as_slice).unwrap_or_default();
        let explicit: Vec<usize> =
            links.iter().copied().filter(|at| self.spec.links[*at].interface.matches(&import.name)).collect();
        used.extend(&explicit);
        match explicit[..] {
            [index] => {
                let to = &self.spec.links[index].to;
                let target = self.target(from, import, to, &Place::Link(index))?;
                self.on_loss(index, import)?;
                self.idempotent(index, import)?;
                Ok(Some((target, LinkOrigin::Explicit)))
            }
            [_, second, ..] => {
                let message = format!("two links satisfy the import {} of {from}", import.name);
                Err(Finding::new("ambiguous_import", Place::Link(second), message).help("keep one of them"))
            }
            // What means the same everywhere needs no provider.
            [] if import.is_types_only => Ok(self.inferred(from, import).ok()),
            [] => self.inferred(from, import).map(Some),
        }
    }

    /// The error that stands for a lost call must be one that some function can answer with.
    fn on_loss(&self, index: usize, import: &Interface) -> Result<(), Finding> {
        let Some(case) = self.spec.links.get(index).and_then(|link| link.terms.on_loss.as_ref()) else {
            return Ok(());
        };
        if import.functions.iter().any(|function| function.can_fail_with(case)) {
            return Ok(());
        }
        let message = format!("no function of {} can answer with the error `{case}`", import.name);
        let finding = Finding::new("on_loss", Place::Link(index), message);
        Err(finding.help("name a case of a function's error type that holds nothing or a string"))
    }

    /// A request whose body has gone cannot be sent again.
    fn idempotent(&self, index: usize, import: &Interface) -> Result<(), Finding> {
        let is_asked = self.spec.links.get(index).is_some_and(|link| link.terms.idempotent);
        if !is_asked || !import.name.is_http_handler() {
            return Ok(());
        }
        let message = format!("a call of {} is an HTTP request, which is not made again", import.name);
        let finding = Finding::new("not_repeatable", Place::Link(index), message);
        Err(finding.help("leave `idempotent` out: clients are told what was lost, and may ask again"))
    }

    fn inferred(&self, from: &ComponentName, import: &Interface) -> Result<(Target, LinkOrigin), Finding> {
        let place = Place::Component(from.clone());
        if self.spec.wiring == Wiring::Inferred {
            let candidates = self.candidates(from, &import.name);
            match &candidates[..] {
                [] => {}
                [one] => return self.target(from, import, one, &place).map(|to| (to, LinkOrigin::Inferred)),
                several => {
                    let message =
                        format!("the import {} of {from} could be satisfied by {}", import.name, list(several));
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
    fn candidates(&self, from: &ComponentName, import: &InterfaceName) -> Vec<&'a ComponentName> {
        let mut fit = self.others(from, import);
        fit.retain(|offer| offer.interface.same_track(import));
        if fit.iter().any(|offer| !offer.is_capability) {
            fit.retain(|offer| !offer.is_capability);
        }
        fit.into_iter().map(|offer| offer.by).collect()
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
        if self.spec.components.contains_key(to) && self.type_of(to).is_none() {
            let message = format!("the interface of component {to} is not known");
            return Err(Finding::new("missing_artifact", place.clone(), message));
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
        let offers = self.offers(to);
        if let Some(other) = offers.iter().find(|offer| offer.path() == import.path()) {
            let message = format!("{from} imports {import}, {to} offers {other}: another semver track");
            return Finding::new("interface_version", place.clone(), message);
        }
        let message = format!("{to} does not export {import}");
        Finding::new("unknown_export", place.clone(), message).help(format!("it exports: {}", list(&offers)))
    }

    /// What a component exports or a capability offers.
    fn offers(&self, name: &ComponentName) -> Vec<&'a InterfaceName> {
        let capability = self.spec.capabilities.get(name).and_then(builtin::capability_interface);
        let exports = self.type_of(name).into_iter().flat_map(|found| &found.exports);
        exports.chain(capability).map(|interface| &interface.name).collect()
    }

    fn unsatisfied(&self, from: &ComponentName, import: &InterfaceName) -> Finding {
        let place = Place::Component(from.clone());
        let others = self.others(from, import);
        if let Some(offer) = others.iter().find(|offer| offer.interface.same_track(import)) {
            // Only explicit wiring leaves a provider that fits unused.
            let message = format!("no link satisfies the import {import} of {from}, and wiring is explicit");
            let help = format!("write a link: {{from: {from}, interface: \"{import}\", to: {}}}", offer.by);
            return Finding::new("unsatisfied_import", place, message).help(help);
        }
        if let Some(Offer { by, interface, .. }) = others.first() {
            let message = format!("{from} imports {import}, but {by} offers {interface}: another semver track");
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
            if findings.len() >= FINDINGS_MAX {
                return;
            }
            if self.spec.capabilities.contains_key(&link.from) {
                let message = format!("{} is a capability: it imports nothing", link.from);
                findings.push(Finding::new("unknown_import", Place::Link(index), message));
                continue;
            }
            // A component whose interface is not known is reported as such.
            let Some(found) = self.type_of(&link.from) else { continue };
            let names: Vec<&InterfaceName> = found.imports.iter().map(|import| &import.name).collect();
            let message = format!("{} does not import {}", link.from, link.interface);
            let help = format!("it imports: {}", list(&names));
            findings.push(Finding::new("unknown_import", Place::Link(index), message).help(help));
        }
    }

    fn ingress(&self, findings: &mut Vec<Finding>) {
        for (index, route) in self.spec.ingress.iter().enumerate() {
            let handles = self
                .type_of(&route.to)
                .is_some_and(|found| found.exports.iter().any(|export| export.name.is_http_handler()));
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
            // On one track, a later version has what an earlier one has, and more.
            let reason = if export.name.version < import.name.version {
                "interface_version"
            } else {
                "interface_mismatch"
            };
            let finding = Finding::new(reason, place.clone(), message);
            return Err(if export.name == import.name {
                finding
            } else {
                finding.help(format!("{from} imports {}, {to} offers {}", import.name, export.name))
            });
        };
        if let Some(found) = difference(wanted, offered) {
            let at =
                if found.path.is_empty() { String::new() } else { format!(", at {}", found.path.join(", ")) };
            let message =
                format!("{} of {} has another type in {from} than in {to}{at}", wanted.name, import.name);
            let help = format!("{from} has {}\n{to} has {}", bounded(&found.wanted), bounded(&found.offered));
            return Err(Finding::new("interface_mismatch", place.clone(), message).help(help));
        }
    }
    Ok(())
}

/// The first of several things, and how many more there are.
fn list(things: &[impl ToString]) -> String {
    const SHOWN: usize = 8;
    let mut shown: Vec<String> = things.iter().take(SHOWN).map(ToString::to_string).collect();
    if things.len() > SHOWN {
        shown.push(format!("and {} more", things.len() - SHOWN));
    }
    if shown.is_empty() { "nothing".to_owned() } else { shown.join(", ") }
}

/// A type as text, cut where it would fill the screen.
fn bounded(text: &str) -> String {
    const SHOWN_CHARS: usize = 400;
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
