//! What must hold of a linked graph as a whole: no cycles, bounded instances, resources that fit together.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use model::condition::Condition;
use model::graph::{Check, Settings};
use model::interface::InterfaceName;
use model::linked::{Link, LinkedGraph, Origin, Target, Verdict};
use model::name::ComponentName;
use model::placement::Locality;

use super::{Finding, Place, Types};
use crate::interface::ComponentType;

/// Instances below one root: a provider instance is private to its consumer instance, so that a graph of diamonds
/// doubles with each layer.
pub const INSTANCES_MAX: usize = 256;

pub(super) fn check(linked: &LinkedGraph, types: &Types, findings: &mut Vec<Finding>) {
    let links = Links::of(linked);
    let mut below: BTreeMap<&ComponentName, usize> = BTreeMap::new();
    for name in linked.components.keys() {
        if let Err(finding) = count(&links, name, &mut below, &mut Vec::new()) {
            findings.push(finding);
            return;
        }
    }
    let roots: BTreeSet<&ComponentName> = linked.ingress.iter().map(|route| &route.to).collect();
    for root in roots {
        let instances = below.get(root).copied().unwrap_or(0);
        if instances > INSTANCES_MAX {
            let message =
                format!("{root} needs {instances} instances per request, at most {INSTANCES_MAX} fit");
            findings.push(Finding::new("graph_too_large", Place::Component(root.clone()), message));
        }
    }
    for link in &linked.links {
        findings.extend(parted(linked, link));
    }
    findings.extend(held(linked));
    for (name, component) in &linked.components {
        if let Some(found) = types.get(&component.artifact.digest) {
            shared_resources(&links, found, name, findings);
            let (what, place) = match &component.origin {
                Origin::Graph => (format!("component {name}"), Place::Component(name.clone())),
                Origin::Policy(version) => (format!("the component of policy {}", version.name), Place::Graph),
            };
            findings.extend(memory(&what, &component.settings, found, place));
            findings.extend(component.settings.check.as_ref().and_then(|check| unchecked(name, check, found)));
        }
    }
}

/// The links by the component they start at.
struct Links<'a>(BTreeMap<&'a ComponentName, Vec<&'a Link>>);

impl<'a> Links<'a> {
    fn of(linked: &'a LinkedGraph) -> Self {
        let mut links: BTreeMap<&ComponentName, Vec<&Link>> = BTreeMap::new();
        for link in &linked.links {
            links.entry(&link.from).or_default().push(link);
        }
        Self(links)
    }

    fn from(&self, name: &ComponentName) -> &[&'a Link] {
        self.0.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// An instance of a provider serves all links of its consumer to it.
    fn providers(&self, name: &ComponentName) -> BTreeSet<&'a ComponentName> {
        let provider = |link: &&'a Link| match &link.to {
            Target::Component { name, .. } => Some(name),
            Target::Capability { .. } | Target::Host => None,
        };
        self.from(name).iter().filter_map(provider).collect()
    }
}

/// Instances below `name`, itself included; refuses a circle. The path holds each component once, so that the graph's
/// size bounds the depth.
fn count<'a>(
    links: &Links<'a>,
    name: &'a ComponentName,
    below: &mut BTreeMap<&'a ComponentName, usize>,
    path: &mut Vec<&'a ComponentName>,
) -> Result<usize, Finding> {
    if let Some(known) = below.get(name) {
        return Ok(*known);
    }
    if let Some(start) = path.iter().position(|step| *step == name) {
        let mut steps: Vec<&str> = path[start..].iter().map(|step| step.as_str()).collect();
        steps.push(name.as_str());
        let message = format!("components call each other in a circle: {}", steps.join(" -> "));
        return Err(Finding::new("cycle", Place::Component(name.clone()), message));
    }
    path.push(name);
    let mut instances = 1_usize;
    for provider in links.providers(name) {
        instances = instances.saturating_add(count(links, provider, below, path)?);
    }
    path.pop();
    below.insert(name, instances);
    Ok(instances)
}

/// The ends of a link that cannot be carried must not ask for nodes of their own.
fn parted(linked: &LinkedGraph, link: &Link) -> Option<Finding> {
    let (Target::Component { name: to, .. } | Target::Capability { name: to }) = &link.to else { return None };
    let why = link.functions.iter().find_map(|function| match &function.verdict {
        Verdict::LocalOnly { why } => {
            Some(format!("{} of {} cannot cross to another ({why})", function.name, link.interface))
        }
        Verdict::Remotable | Verdict::RemotableWithLease { .. } => None,
    });
    let why = match link.terms.locality {
        Locality::SameNode => why.unwrap_or_else(|| "their link says so".to_owned()),
        Locality::Any => why?,
    };
    let (here, there) = (linked.require.get(&link.from)?, linked.require.get(to)?);
    let is_against =
        |(label, one): &(&String, &Condition)| there.get(*label).is_some_and(|other| one.contradicts(other));
    let (label, one) = here.iter().find(is_against)?;
    let message = format!(
        "{} and {to} must be on one node, because {why}, but {} requires {} and {to} requires {}",
        link.from,
        link.from,
        one.of(label),
        there.get(label)?.of(label),
    );
    let finding = Finding::new("local_only", Place::Component(link.from.clone()), message);
    Some(finding.help("let both require the same node, or change the function's types"))
}

/// What should run on several nodes must not have to be where data are: those are on one.
fn held(linked: &LinkedGraph) -> Vec<Finding> {
    if !linked.is_spread() {
        return Vec::new();
    }
    let mut beside: BTreeMap<&ComponentName, Vec<&ComponentName>> = BTreeMap::new();
    for link in linked.links.iter().filter(|link| linked.joins(link)) {
        let Some(to) = link.to.member() else { continue };
        beside.entry(&link.from).or_default().push(to);
        beside.entry(to).or_default().push(&link.from);
    }
    // From each capability to all that must be with it; each member is met once.
    let mut held: BTreeMap<&ComponentName, &ComponentName> = BTreeMap::new();
    for capability in linked.capabilities.keys() {
        let mut ahead = vec![capability];
        while let Some(member) = ahead.pop() {
            if let Entry::Vacant(place) = held.entry(member) {
                place.insert(capability);
                ahead.extend(beside.get(member).into_iter().flatten());
            }
        }
    }
    let finding = |(name, nodes, field): (&ComponentName, String, &str)| {
        let capability = held.get(name)?;
        let message = format!(
            "{name} should run on {nodes} and must be on one node with {capability}, which keeps its data on one"
        );
        let finding = Finding::new("local_only", Place::Component(name.clone()), message);
        Some(finding.help(format!("leave `{field}` out, or let the link between them go to another node")))
    };
    let replicated =
        linked.replicas.iter().map(|(name, count)| (name, format!("{count} nodes"), "scale.replicas"));
    let on_each = linked.each_node.iter().map(|name| (name, "each node".to_owned(), "scale.each-node"));
    let several = linked.scaling.iter().filter(|(_, scaling)| scaling.max() > 1);
    let scaled = several.map(|(name, scaling)| (name, format!("up to {} nodes", scaling.max()), "scale"));
    replicated.chain(on_each).chain(scaled).filter_map(finding).collect()
}

/// A component must have what it is checked by.
fn unchecked(name: &ComponentName, check: &Check, found: &ComponentType) -> Option<Finding> {
    let why = match check {
        Check::Http(_) if found.exports.iter().any(|export| export.name.is_http_handler()) => return None,
        Check::Http(_) => "it does not export wasi:http/incoming-handler@0.2".to_owned(),
        Check::Call { interface, function } => {
            let exports = found.exports.iter().filter(|export| interface.matches(&export.name));
            let mut functions = exports.filter_map(|export| export.function(function)).peekable();
            match functions.peek() {
                None => format!("it exports no {interface} with a function {function}"),
                Some(found) if found.is_async => format!("{function} is async"),
                Some(found) if !found.parameters.is_empty() => format!("{function} has parameters"),
                Some(_) => return None,
            }
        }
    };
    let message = format!("{name} cannot be checked by {check}: {why}");
    Some(Finding::new("unknown_export", Place::Component(name.clone()), message))
}

/// An instance that begins with more memory than it may have could never be made.
pub(super) fn memory(what: &str, settings: &Settings, found: &ComponentType, place: Place) -> Option<Finding> {
    let (needed, granted) = (found.memory_at_start, settings.limits.memory);
    (needed > granted).then(|| {
        let message = format!("{what} starts with {needed} of memory, and its limit is {granted}");
        Finding::new("memory_limit", place, message).help(format!("set `limits.memory` to {needed} or more"))
    })
}

/// A function that carries a resource of another interface needs both interfaces from the same place: a handle means
/// nothing to another provider.
fn shared_resources(
    links: &Links<'_>,
    found: &ComponentType,
    name: &ComponentName,
    findings: &mut Vec<Finding>,
) {
    let target = |interface: &InterfaceName| {
        links.from(name).iter().find(|link| link.interface.same_track(interface)).map(|link| &link.to)
    };
    for import in &found.imports {
        for used in &import.uses {
            let (Some(here), Some(there)) = (target(&import.name), target(used)) else { continue };
            if !is_same_source(here, there) {
                let message = format!(
                    "{name} gets {} from {here} and {used} from {there}, but the first carries resources of the second",
                    import.name
                );
                let finding = Finding::new("interface_mismatch", Place::Component(name.clone()), message);
                findings.push(finding.help("link both to the same provider"));
            }
        }
    }
}

/// Whether an interface from `here` may carry resources of one from `there`.
pub(super) fn is_same_source(here: &Target, there: &Target) -> bool {
    match (here, there) {
        (Target::Component { name: a, .. }, Target::Component { name: b, .. })
        | (Target::Capability { name: a }, Target::Capability { name: b }) => a == b,
        // A provider passes the host's own resources on.
        (_, Target::Host) => true,
        _ => false,
    }
}
