//! What would change between two linked graphs.

use std::collections::BTreeMap;
use std::fmt::Debug;

use model::id::{GraphKey, RevisionNumber};
use model::linked::{Link, LinkOrigin, LinkedGraph, Origin, Target};
use model::plan::{Change, ChangeKind, Plan};

use crate::link::Linked;

/// The plan that leads from `base` to `next`; `id` names its inputs.
pub fn plan(id: String, key: GraphKey, base: Option<(RevisionNumber, &LinkedGraph)>, next: &Linked) -> Plan {
    let empty = LinkedGraph::default();
    let before = base.map_or(&empty, |(_, linked)| linked);
    let changes = changes(before, &next.graph);
    let warnings = next.warnings.iter().map(|warning| warning.message.clone()).collect();
    Plan { id, key, base: base.map(|(number, _)| number), changes, linked: next.graph.clone(), warnings }
}

/// The lines from one linked graph to another.
pub fn changes(before: &LinkedGraph, after: &LinkedGraph) -> Vec<Change> {
    let mut changes = Vec::new();
    let component = |graph: &LinkedGraph| -> BTreeMap<String, (String, String)> {
        graph
            .components
            .iter()
            .map(|(name, component)| {
                let origin = match &component.origin {
                    Origin::Graph => String::new(),
                    Origin::Policy(version) => format!(" (policy {})", version.name),
                };
                let shown = format!("{}{origin}", component.artifact.digest.short());
                (format!("component {name}"), (shown, format!("{:?}", component.settings)))
            })
            .collect()
    };
    compare(&component(before), &component(after), &mut changes);
    let capability = |graph: &LinkedGraph| shown(graph.capabilities.iter(), |c| c.type_name().to_owned());
    compare(&capability(before), &capability(after), &mut changes);
    compare(&links(before), &links(after), &mut changes);
    let routes = |graph: &LinkedGraph| -> BTreeMap<String, (String, String)> {
        graph
            .ingress
            .iter()
            .map(|route| {
                let host = route.host.as_ref().map_or("*", |host| host.as_str());
                (format!("ingress {host}{}", route.path), (route.to.to_string(), String::new()))
            })
            .collect()
    };
    compare(&routes(before), &routes(after), &mut changes);
    changes
}

fn shown<'a, K: ToString + 'a, V: Debug + 'a>(
    entries: impl Iterator<Item = (&'a K, &'a V)>,
    show: impl Fn(&V) -> String,
) -> BTreeMap<String, (String, String)> {
    entries
        .map(|(name, value)| (format!("capability {}", name.to_string()), (show(value), format!("{value:?}"))))
        .collect()
}

/// The graph's own links, each with the chain that stands on it.
fn links(graph: &LinkedGraph) -> BTreeMap<String, (String, String)> {
    graph
        .links
        .iter()
        .filter(|link| link.to != Target::Host && is_own(graph, link))
        .map(|link| (format!("link {} {}", link.from, link.interface), (way(graph, link), String::new())))
        .collect()
}

/// Whether a link starts at a component of the graph's owner.
pub fn is_own(graph: &LinkedGraph, link: &Link) -> bool {
    graph.components.get(&link.from).is_some_and(|component| component.origin == Origin::Graph)
}

/// The way of a link as people read it: `app -> [pii-firewall] -> crm-db`.
pub fn way(graph: &LinkedGraph, link: &Link) -> String {
    let mut text = link.from.to_string();
    let mut link = link;
    loop {
        text.push_str(" -> ");
        let next = match &link.to {
            Target::Component { name, .. } => graph.components.get(name).map(|component| (name, component)),
            Target::Capability { .. } | Target::Host => None,
        };
        let Some((name, Origin::Policy(version))) = next.map(|(name, component)| (name, &component.origin))
        else {
            text.push_str(&link.to.to_string());
            return text;
        };
        text.push_str(&format!("[{}]", version.name));
        let onward = graph.links_of(name).find(|onward| {
            onward.interface.same_track(&link.interface) && matches!(onward.wiring, LinkOrigin::Policy(_))
        });
        match onward {
            Some(onward) => link = onward,
            None => return text,
        }
    }
}

fn compare(
    before: &BTreeMap<String, (String, String)>,
    after: &BTreeMap<String, (String, String)>,
    changes: &mut Vec<Change>,
) {
    let change = |kind, subject: &str, detail: String| Change { kind, subject: subject.to_owned(), detail };
    for (subject, (shown, hidden)) in after {
        match before.get(subject) {
            None => changes.push(change(ChangeKind::Add, subject, shown.clone())),
            Some((old, old_hidden)) if old != shown => {
                let _ = old_hidden;
                changes.push(change(ChangeKind::Change, subject, format!("{old} => {shown}")));
            }
            Some((_, old_hidden)) if old_hidden != hidden => {
                changes.push(change(ChangeKind::Change, subject, "settings".to_owned()));
            }
            Some(_) => {}
        }
    }
    for (subject, (shown, _)) in before.iter().filter(|(subject, _)| !after.contains_key(*subject)) {
        changes.push(change(ChangeKind::Remove, subject, shown.clone()));
    }
}
