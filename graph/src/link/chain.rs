//! Policies on links: which ones, in which order, and the components they put there.

use std::collections::BTreeMap;

use model::graph::GraphSpec;
use model::id::GraphKey;
use model::linked::{LinkOrigin, LinkedComponent, LinkedGraph, Origin, Target};
use model::name::ComponentName;
use model::policy::{Action, Interposed, Mode, OnFailure, PolicySpec, PolicyVersion};

use super::resolve::{compatible, new_link};
use super::{Finding, Place, PolicyInForce, Types, builtin};
use crate::interface::Interface;

/// Puts the policies on the links that they match.
pub(super) fn interpose(
    key: &GraphKey,
    spec: &GraphSpec,
    types: &Types,
    policies: &[PolicyInForce],
    linked: &mut LinkedGraph,
    findings: &mut Vec<Finding>,
    warnings: &mut Vec<Finding>,
) {
    // The graph's own links only: what a policy adds is not interposed again.
    for position in 0..linked.links.len() {
        let link = &linked.links[position];
        let caller = link.from.clone();
        let place = Place::Component(caller.clone());
        let mut chain: Vec<&PolicyInForce> =
            policies.iter().filter(|policy| matches(key, spec, &policy.spec, link)).collect();
        chain.sort_by(|a, b| rank(&a.spec).cmp(&rank(&b.spec)));
        for pair in chain.windows(2) {
            let (a, b) = (&pair[0].spec, &pair[1].spec);
            if (a.order.phase, a.order.priority) == (b.order.phase, b.order.priority) {
                let message =
                    format!("policies {} and {} have the same rank on {caller} -> {}", a.name, b.name, link.to);
                findings.push(
                    Finding::new("policy_rank", place.clone(), message).help("give one another priority"),
                );
            }
        }
        let mut builder = Builder { types, linked, position, caller: &caller, end: position };
        for policy in chain {
            let outcome = builder.apply(policy, &place);
            sort_out(policy, outcome, findings, warnings, &place, &caller);
        }
    }
    linked.policies = standing(linked);
}

fn rank(spec: &PolicySpec) -> (model::policy::Phase, std::cmp::Reverse<i32>, &model::name::PolicyName) {
    (spec.order.phase, std::cmp::Reverse(spec.order.priority), &spec.name)
}

fn matches(key: &GraphKey, graph: &GraphSpec, policy: &PolicySpec, link: &model::linked::Link) -> bool {
    let selector = &policy.selector;
    let excepted = selector.except.iter().any(|exception| {
        exception.namespace == key.namespace
            && exception.graph == key.graph
            && exception.component.as_ref().is_none_or(|component| *component == link.from)
    });
    let own = graph.components.get(&link.from).map(|component| &component.labels);
    let label = |name: &str| own.and_then(|own| own.get(name)).or_else(|| graph.labels.get(name));
    policy.mode != Mode::Off
        && !excepted
        && selector.interface.matches(&link.interface)
        && (selector.namespaces.is_empty() || selector.namespaces.contains(&key.namespace))
        && (selector.graphs.is_empty() || selector.graphs.contains(&key.graph))
        && selector.labels.iter().all(|(name, value)| label(name) == Some(value))
}

/// The policies that stand on some link.
fn standing(linked: &LinkedGraph) -> Vec<PolicyVersion> {
    let mut found: BTreeMap<_, _> = BTreeMap::new();
    for component in linked.components.values() {
        if let Origin::Policy(version) = &component.origin {
            found.insert(version.name.clone(), version.clone());
        }
    }
    found.into_values().collect()
}

enum Applied {
    Done,
    Audited,
    Denied(String),
    Cannot(String),
}

fn sort_out(
    policy: &PolicyInForce,
    outcome: Applied,
    findings: &mut Vec<Finding>,
    warnings: &mut Vec<Finding>,
    place: &Place,
    caller: &ComponentName,
) {
    let name = &policy.spec.name;
    match outcome {
        Applied::Done => {}
        Applied::Audited => {
            let message = format!("policy {name} (audit) would stand on an import of {caller}");
            warnings.push(Finding::new("policy_audit", place.clone(), message));
        }
        Applied::Denied(why) => {
            let message = format!("policy {name} forbids an import of {caller}: {why}");
            findings.push(Finding::new("policy_denied", place.clone(), message));
        }
        Applied::Cannot(why) if policy.spec.on_failure == OnFailure::Open && !policy.spec.mandatory => {
            let message =
                format!("policy {name} cannot stand on an import of {caller}, and is open on failure: {why}");
            warnings.push(Finding::new("policy_open", place.clone(), message));
        }
        Applied::Cannot(why) => {
            let message = format!("policy {name} cannot stand on an import of {caller}: {why}");
            let help = "the platform's policy and this graph do not fit: ask who owns the policy";
            findings.push(Finding::new("policy_unlinkable", place.clone(), message).help(help));
        }
    }
}

struct Builder<'a> {
    types: &'a Types,
    linked: &'a mut LinkedGraph,
    /// The caller's own link.
    position: usize,
    caller: &'a ComponentName,
    /// The last link of the chain so far: the next component goes behind it.
    end: usize,
}

impl Builder<'_> {
    fn apply(&mut self, policy: &PolicyInForce, place: &Place) -> Applied {
        let components = match &policy.spec.action {
            Action::Deny(_) if policy.spec.mode == Mode::Audit => return Applied::Audited,
            Action::Deny(why) => return Applied::Denied(why.clone()),
            Action::Interpose(_) if policy.spec.mode == Mode::Audit => return Applied::Audited,
            Action::Interpose(components) => components,
        };
        // All of a policy's components stand, or none.
        let (before, links, end) = (self.linked.components.clone(), self.linked.links.clone(), self.end);
        for component in components {
            if let Err(why) = self.insert(policy, component, place) {
                (self.linked.components, self.linked.links, self.end) = (before, links, end);
                return Applied::Cannot(why);
            }
        }
        Applied::Done
    }

    fn insert(&mut self, policy: &PolicyInForce, component: &Interposed, place: &Place) -> Result<(), String> {
        let found = self.types.get(&component.artifact.digest).ok_or("its component is not stored")?.clone();
        let behind = self.linked.links[self.end].clone();
        let importer = self.import_of(self.end).ok_or("the type of the import is not known")?;
        let export = found
            .export_on_track(&behind.interface)
            .ok_or_else(|| format!("its component does not export {}", behind.interface))?;
        let import = found
            .imports
            .iter()
            .find(|import| import.name.same_track(&behind.interface))
            .ok_or_else(|| format!("its component does not import {}", behind.interface))?;
        let name = self.free_name(&policy.spec)?;
        compatible(&behind.from, &importer, &name, export, place).map_err(|finding| explain(&finding))?;
        self.fits_behind(&name, import, &behind.to, place)?;
        let version = PolicyVersion { name: policy.spec.name.clone(), generation: policy.generation };
        for other in found.imports.iter().filter(|other| other.name != import.name) {
            if !builtin::is_offered(&other.name) {
                return Err(format!("its component imports {}, which a node does not grant", other.name));
            }
            self.linked.links.push(new_link(name.clone(), other, Target::Host, LinkOrigin::BuiltIn));
        }
        let wiring = LinkOrigin::Policy(version.clone());
        self.linked.links.push(new_link(name.clone(), import, behind.to.clone(), wiring.clone()));
        let new_end = self.linked.links.len() - 1;
        let first = &mut self.linked.links[self.end];
        first.to = Target::Component { name: name.clone(), export: export.name.clone() };
        if self.end == self.position {
            first.wiring = wiring;
            // A link that ended at the node now ends at a component: its functions have verdicts of their own.
            first.functions =
                new_link(self.caller.clone(), &importer, first.to.clone(), first.wiring.clone()).functions;
        }
        self.end = new_end;
        let exports = found.exports.iter().map(|export| export.name.clone()).collect();
        let settings = component.settings.clone();
        let artifact = component.artifact;
        let origin = Origin::Policy(version);
        self.linked.components.insert(name, LinkedComponent { artifact, origin, exports, settings });
        Ok(())
    }

    fn import_of(&self, link: usize) -> Option<Interface> {
        let link = &self.linked.links[link];
        let component = self.linked.components.get(&link.from)?;
        let found = self.types.get(&component.artifact.digest)?;
        found.imports.iter().find(|import| import.name == link.interface).cloned()
    }

    /// Whether what was behind the link before has what the policy's component wants of it.
    fn fits_behind(
        &self,
        name: &ComponentName,
        import: &Interface,
        target: &Target,
        place: &Place,
    ) -> Result<(), String> {
        let (to, export) = match target {
            Target::Host if builtin::is_offered(&import.name) => return Ok(()),
            Target::Host => return Err(format!("a node does not offer {}", import.name)),
            Target::Capability { name } => {
                let spec = self.linked.capabilities.get(name);
                (name, spec.and_then(builtin::capability_interface).cloned())
            }
            Target::Component { name, export } => {
                let component = self.linked.components.get(name);
                let found = component.and_then(|component| self.types.get(&component.artifact.digest));
                (name, found.and_then(|found| found.exports.iter().find(|e| e.name == *export).cloned()))
            }
        };
        let export = export.ok_or_else(|| format!("{to} does not offer {}", import.name))?;
        compatible(name, import, to, &export, place).map_err(|finding| explain(&finding))
    }

    fn free_name(&self, policy: &PolicySpec) -> Result<ComponentName, String> {
        for nth in 0.. {
            let name =
                ComponentName::interposed(self.caller, &policy.name, nth).map_err(|error| error.to_string())?;
            if !self.linked.components.contains_key(&name) {
                return Ok(name);
            }
        }
        Err("no name is free".to_owned())
    }
}

fn explain(finding: &Finding) -> String {
    match &finding.help {
        Some(help) => format!("{} ({})", finding.message, help.replace('\n', "; ")),
        None => finding.message.clone(),
    }
}

/// Whether a policy's components can stand on any link at all: they export and import an interface that it matches, and
/// need nothing else but what a node grants.
pub fn check_policy(spec: &PolicySpec, types: &Types) -> Result<(), Vec<Finding>> {
    let Action::Interpose(components) = &spec.action else { return Ok(()) };
    let mut findings = Vec::new();
    for component in components {
        let Some(found) = types.get(&component.artifact.digest) else {
            findings.push(Finding::new("missing_artifact", Place::Graph, "its component is not stored"));
            continue;
        };
        let offered = found.exports.iter().find(|export| {
            spec.selector.interface.matches(&export.name)
                && found.imports.iter().any(|import| import.name.same_track(&export.name))
        });
        let Some(offered) = offered else {
            let message = format!("the component does not both export and import {}", spec.selector.interface);
            findings.push(Finding::new("policy_unlinkable", Place::Graph, message));
            continue;
        };
        for import in &found.imports {
            if !import.name.same_track(&offered.name) && !builtin::is_offered(&import.name) {
                let message = format!("the component imports {}, which a node does not grant", import.name);
                findings.push(Finding::new("import_not_granted", Place::Graph, message));
            }
        }
    }
    if findings.is_empty() { Ok(()) } else { Err(findings) }
}
