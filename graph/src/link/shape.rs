//! What must hold of a linked graph as a whole: no cycles, bounded instances, resources that fit together.

use std::collections::{BTreeMap, BTreeSet};

use model::interface::InterfaceName;
use model::linked::{LinkedGraph, Target};
use model::name::ComponentName;

use super::{Finding, Place, Types};

/// Instances below one root: a provider instance is private to its consumer instance, so that a graph of diamonds
/// doubles with each layer.
pub const INSTANCES_MAX: usize = 256;

pub(super) fn check(linked: &LinkedGraph, types: &Types, findings: &mut Vec<Finding>) {
    let mut below: BTreeMap<ComponentName, usize> = BTreeMap::new();
    for name in linked.components.keys() {
        let mut path = Vec::new();
        if let Err(finding) = count(linked, name, &mut below, &mut path) {
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
    for name in linked.components.keys() {
        shared_resources(linked, types, name, findings);
    }
}

fn providers<'a>(linked: &'a LinkedGraph, name: &'a ComponentName) -> BTreeSet<&'a ComponentName> {
    linked
        .links_of(name)
        .filter_map(|link| match &link.to {
            Target::Component { name, .. } => Some(name),
            Target::Capability { .. } | Target::Host => None,
        })
        .collect()
}

fn count(
    linked: &LinkedGraph,
    name: &ComponentName,
    below: &mut BTreeMap<ComponentName, usize>,
    path: &mut Vec<ComponentName>,
) -> Result<usize, Finding> {
    if let Some(known) = below.get(name) {
        return Ok(*known);
    }
    if let Some(start) = path.iter().position(|step| step == name) {
        let mut steps: Vec<&str> = path[start..].iter().map(|step| step.as_str()).collect();
        steps.push(name.as_str());
        let message = format!("components call each other in a circle: {}", steps.join(" -> "));
        return Err(Finding::new("cycle", Place::Component(name.clone()), message));
    }
    path.push(name.clone());
    let mut instances = 1_usize;
    for provider in providers(linked, name) {
        instances = instances.saturating_add(count(linked, provider, below, path)?);
    }
    path.pop();
    below.insert(name.clone(), instances);
    Ok(instances)
}

/// A function that carries a resource of another interface needs both interfaces from the same place: a handle means
/// nothing to another provider.
fn shared_resources(linked: &LinkedGraph, types: &Types, name: &ComponentName, findings: &mut Vec<Finding>) {
    let Some(found) = linked.components.get(name).and_then(|c| types.get(&c.artifact.digest)) else { return };
    let target = |interface: &InterfaceName| {
        linked.links_of(name).find(|link| link.interface.same_track(interface)).map(|link| &link.to)
    };
    for import in &found.imports {
        for used in &import.uses {
            let (Some(here), Some(there)) = (target(&import.name), target(used)) else { continue };
            let fits = match (here, there) {
                (Target::Component { name: a, .. }, Target::Component { name: b, .. })
                | (Target::Capability { name: a }, Target::Capability { name: b }) => a == b,
                // A provider passes the host's own resources on.
                (_, Target::Host) => true,
                _ => false,
            };
            if !fits {
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
