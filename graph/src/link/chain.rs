//! Policies on links: which ones, in which order, and the components they put there.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use model::graph::GraphSpec;
use model::id::GraphKey;
use model::interface::{InterfaceName, InterfacePattern};
use model::linked::{Link, LinkOrigin, LinkedComponent, LinkedGraph, Origin, Target};
use model::name::{ComponentName, GraphName, NamespaceName, PolicyName};
use model::policy::{Action, Interposed, Mode, OnFailure, Phase, PolicySpec, PolicyVersion};

use super::resolve::{compatible, new_link};
use super::{FINDINGS_MAX, Finding, Place, PolicyInForce, Types, builtin, shape};
use crate::interface::Interface;

/// The components of one linked graph, policies' included: a few policies on each link of the largest graph.
const COMPONENTS_MAX: usize = 4 * model::graph::COMPONENTS_MAX;

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
    let mut numbers = BTreeMap::new();
    // The graph's own links only: what a policy adds is not interposed again.
    for position in 0..linked.links.len() {
        if findings.len() >= FINDINGS_MAX {
            break;
        }
        if linked.components.len() > COMPONENTS_MAX {
            let message = format!("with its policies, the graph has more than {COMPONENTS_MAX} components");
            findings.push(Finding::new("graph_too_large", Place::Graph, message));
            break;
        }
        let link = &linked.links[position];
        let caller = link.from.clone();
        let chain = chain(key, spec, policies, link, findings);
        let mut builder =
            Builder { types, linked, numbers: &mut numbers, position, caller: &caller, end: position };
        for policy in chain {
            let outcome = builder.apply(policy);
            let import = &builder.linked.links[position].interface;
            sort_out(policy, outcome, findings, warnings, &caller, import);
        }
    }
    linked.policies = standing(linked);
}

/// The policies that select a link, from the caller on.
fn chain<'p>(
    key: &GraphKey,
    spec: &GraphSpec,
    policies: &'p [PolicyInForce],
    link: &Link,
    findings: &mut Vec<Finding>,
) -> Vec<&'p PolicyInForce> {
    let mut chain: Vec<&PolicyInForce> =
        policies.iter().filter(|policy| mismatch_of(key, spec, &policy.spec, link).is_none()).collect();
    chain.sort_by(|a, b| rank(&a.spec).cmp(&rank(&b.spec)));
    // One that only watches has no place to dispute.
    let acting: Vec<&PolicySpec> =
        chain.iter().map(|policy| &policy.spec).filter(|spec| spec.mode == Mode::Enforce).collect();
    for pair in acting.windows(2) {
        let (a, b) = (pair[0], pair[1]);
        if (a.order.phase, a.order.priority) == (b.order.phase, b.order.priority) {
            let (from, import) = (&link.from, &link.interface);
            let message = format!(
                "policies {} and {} have the same rank on the import {import} of {from}",
                a.name, b.name
            );
            let finding = Finding::new("policy_rank", Place::Component(from.clone()), message);
            findings.push(finding.help("give one of them another priority"));
        }
    }
    chain
}

/// The place in a chain. No two policies have the same, since names are unique.
fn rank(spec: &PolicySpec) -> (Phase, Reverse<i32>, &PolicyName) {
    (spec.order.phase, Reverse(spec.order.priority), &spec.name)
}

/// Why a policy does not select a link, if it does not; in audit it selects, and does nothing.
pub fn mismatch(key: &GraphKey, graph: &GraphSpec, policy: &PolicySpec, link: &Link) -> Option<String> {
    mismatch_of(key, graph, policy, link).map(|found| found.to_string())
}

/// Why a policy does not select a link.
#[derive(Debug, thiserror::Error)]
enum Mismatch<'a> {
    #[error("its mode is off")]
    Off,
    #[error("it is about {0}")]
    Interface(&'a InterfacePattern),
    #[error("it makes an exception of this importer")]
    Excepted,
    #[error("it does not select namespace {0}")]
    Namespace(&'a NamespaceName),
    #[error("it does not select graph {0}")]
    Graph(&'a GraphName),
    #[error("it selects label {0}={1}, which the importer does not have")]
    NoLabel(&'a str, &'a str),
    #[error("it selects label {0}={1}, and the importer has {0}={2}")]
    OtherLabel(&'a str, &'a str, &'a str),
}

fn mismatch_of<'a>(
    key: &'a GraphKey,
    graph: &'a GraphSpec,
    policy: &'a PolicySpec,
    link: &Link,
) -> Option<Mismatch<'a>> {
    let selector = &policy.selector;
    if policy.mode == Mode::Off {
        return Some(Mismatch::Off);
    }
    if !selector.interface.matches(&link.interface) {
        return Some(Mismatch::Interface(&selector.interface));
    }
    let is_meant = |component: &Option<ComponentName>| component.as_ref().is_none_or(|name| *name == link.from);
    let excepted = selector.except.iter().any(|exception| {
        exception.namespace == key.namespace && exception.graph == key.graph && is_meant(&exception.component)
    });
    if excepted {
        return Some(Mismatch::Excepted);
    }
    if !selector.namespaces.is_empty() && !selector.namespaces.contains(&key.namespace) {
        return Some(Mismatch::Namespace(&key.namespace));
    }
    if !selector.graphs.is_empty() && !selector.graphs.contains(&key.graph) {
        return Some(Mismatch::Graph(&key.graph));
    }
    let own = graph.components.get(&link.from).map(|component| &component.labels);
    let label = |name: &str| own.and_then(|own| own.get(name)).or_else(|| graph.labels.get(name));
    let (name, value) = selector.labels.iter().find(|(name, value)| label(name) != Some(value))?;
    Some(match label(name) {
        Some(other) => Mismatch::OtherLabel(name, value, other),
        None => Mismatch::NoLabel(name, value),
    })
}

/// Whether a policy's component may import it beside what it stands on: the node offers it, or nobody has to.
fn is_granted(import: &Interface) -> bool {
    import.is_types_only || builtin::is_offered(&import.name)
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
    caller: &ComponentName,
    import: &InterfaceName,
) {
    let (name, place) = (&policy.spec.name, Place::Component(caller.clone()));
    match outcome {
        Applied::Done => {}
        Applied::Audited => {
            let does = if matches!(policy.spec.action, Action::Deny(_)) { "forbid" } else { "stand on" };
            let message = format!("policy {name} (audit) would {does} the import {import} of {caller}");
            warnings.push(Finding::new("policy_audit", place, message));
        }
        Applied::Denied(why) => {
            let message = format!("policy {name} forbids the import {import} of {caller}: {why}");
            findings.push(Finding::new("policy_denied", place, message));
        }
        Applied::Cannot(why) if policy.spec.on_failure == OnFailure::Open && !policy.spec.mandatory => {
            let message = format!(
                "policy {name} cannot stand on the import {import} of {caller}, and is open on failure: {why}"
            );
            warnings.push(Finding::new("policy_open", place, message));
        }
        Applied::Cannot(why) => {
            let message = format!("policy {name} cannot stand on the import {import} of {caller}: {why}");
            let help = "the platform's policy and this graph do not fit: ask who owns the policy";
            findings.push(Finding::new("policy_unlinkable", place, message).help(help));
        }
    }
}

struct Builder<'a> {
    types: &'a Types,
    linked: &'a mut LinkedGraph,
    /// The next number of each policy behind each caller.
    numbers: &'a mut BTreeMap<(ComponentName, PolicyName), usize>,
    /// The caller's own link.
    position: usize,
    caller: &'a ComponentName,
    /// The last link of the chain so far: the next component goes behind it.
    end: usize,
}

impl Builder<'_> {
    fn apply(&mut self, policy: &PolicyInForce) -> Applied {
        let components = match &policy.spec.action {
            _ if policy.spec.mode == Mode::Audit => return Applied::Audited,
            Action::Deny(why) => return Applied::Denied(why.clone()),
            Action::Interpose(components) => components,
        };
        // All of a policy's components stand, or none.
        let (end, links, last) = (self.end, self.linked.links.len(), self.linked.links[self.end].clone());
        let mut names = Vec::new();
        for component in components {
            match self.insert(policy, component) {
                Ok(name) => names.push(name),
                Err(why) => {
                    self.linked.links.truncate(links);
                    self.linked.links[end] = last;
                    self.linked.components.retain(|name, _| !names.contains(name));
                    self.linked.require.retain(|name, _| !names.contains(name));
                    self.end = end;
                    return Applied::Cannot(why);
                }
            }
        }
        Applied::Done
    }

    /// Puts a component behind the last link of the chain; says what it is called.
    fn insert(&mut self, policy: &PolicyInForce, component: &Interposed) -> Result<ComponentName, String> {
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
        let others = || found.imports.iter().filter(|other| other.name != import.name);
        if let Some(other) = others().find(|other| !is_granted(other)) {
            return Err(format!("its component imports {}, which a node does not grant", other.name));
        }
        let name = self.free_name(&policy.spec)?;
        let place = Place::Component(self.caller.clone());
        compatible(&behind.from, &importer, &name, export, &place).map_err(|finding| explain(&finding))?;
        self.fits_behind(&name, import, &behind.to, &place)?;
        let to = Target::Component { name: name.clone(), export: export.name.clone() };
        if self.end == self.position {
            self.keeps_handles(&importer, &to)?;
        }
        let version = PolicyVersion { name: policy.spec.name.clone(), generation: policy.generation };
        let wiring = LinkOrigin::Policy(version.clone());
        for other in others().filter(|other| builtin::is_offered(&other.name)) {
            self.linked.links.push(new_link(name.clone(), other, Target::Host, LinkOrigin::BuiltIn));
        }
        // What is asked of a link is asked of each of its parts.
        let terms = behind.terms;
        let onward = new_link(name.clone(), import, behind.to, wiring.clone());
        self.linked.links.push(Link { terms: terms.clone(), ..onward });
        let wiring = if self.end == self.position { wiring } else { behind.wiring };
        // A link that ended at the node now ends at a component: its functions have verdicts of their own.
        self.linked.links[self.end] = Link { terms, ..new_link(behind.from, &importer, to, wiring) };
        self.end = self.linked.links.len() - 1;
        let exports = found.exports.iter().map(|export| export.name.clone()).collect();
        let (artifact, settings) = (component.artifact, component.settings.clone());
        let added = LinkedComponent { artifact, origin: Origin::Policy(version), exports, settings };
        self.linked.components.insert(name.clone(), added);
        if !component.require.is_empty() {
            self.linked.require.insert(name.clone(), component.require.clone());
        }
        Ok(name)
    }

    /// Whether the caller's other imports still get along with this one once it comes from `to`: those that share
    /// resources with it.
    fn keeps_handles(&self, import: &Interface, to: &Target) -> Result<(), String> {
        let caller = self.linked.components.get(self.caller);
        let Some(found) = caller.and_then(|caller| self.types.get(&caller.artifact.digest)) else {
            return Ok(());
        };
        for other in &found.imports {
            let carries = import.uses.iter().any(|used| used.same_track(&other.name));
            let is_carried = other.uses.iter().any(|used| used.same_track(&import.name));
            if !carries && !is_carried {
                continue;
            }
            let mut links = self.linked.links_of(self.caller);
            let Some(link) = links.find(|link| link.interface == other.name) else { continue };
            if (carries && !shape::is_same_source(to, &link.to))
                || (is_carried && !shape::is_same_source(&link.to, to))
            {
                return Err(format!(
                    "{} shares resources with {}, which {} gets from {}",
                    import.name, other.name, self.caller, link.to
                ));
            }
        }
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

    fn free_name(&mut self, policy: &PolicySpec) -> Result<ComponentName, String> {
        let next = self.numbers.entry((self.caller.clone(), policy.name.clone())).or_default();
        loop {
            let name = ComponentName::interposed(self.caller, &policy.name, *next);
            let name = name.map_err(|error| error.to_string())?;
            *next += 1;
            if !self.linked.components.contains_key(&name) {
                return Ok(name);
            }
        }
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
        findings.extend(shape::memory("the component", &component.settings, found, Place::Graph));
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
            if !import.name.same_track(&offered.name) && !is_granted(import) {
                let message = format!("the component imports {}, which a node does not grant", import.name);
                findings.push(Finding::new("import_not_granted", Place::Graph, message));
            }
        }
    }
    if findings.is_empty() { Ok(()) } else { Err(findings) }
}
