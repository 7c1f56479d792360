//! What would change between two linked graphs.

use std::collections::BTreeMap;

use model::graph::CapabilitySpec;
use model::id::{GraphKey, RevisionNumber};
use model::linked::{Link, LinkOrigin, LinkedComponent, LinkedGraph, Origin, Target};
use model::name::ComponentName;
use model::plan::{Change, ChangeKind, Plan, Takeover};
use model::route::HttpRoute;

use crate::link::Linked;

/// The plan that leads from `base` to `next`; `id` names its inputs.
pub fn plan(id: String, key: GraphKey, base: Option<(RevisionNumber, &LinkedGraph)>, next: &Linked) -> Plan {
    let empty = LinkedGraph::default();
    let before = base.map_or(&empty, |(_, linked)| linked);
    let changes = changes(before, &next.graph);
    let warnings = next.warnings.iter().map(|warning| warning.message.clone()).collect();
    Plan {
        id,
        key,
        base: base.map(|(number, _)| number),
        changes,
        linked: next.graph.clone(),
        placement: None,
        warnings,
        placed: None,
        takeover: Takeover::default(),
        moves: Vec::new(),
    }
}

/// The lines from one linked graph to another; none if they are the same, but for the order of the routes.
pub fn changes(before: &LinkedGraph, after: &LinkedGraph) -> Vec<Change> {
    let mut changes = Vec::new();
    for objects in [components, capabilities, links, routes] {
        compare(&objects(before), &objects(after), &mut changes);
    }
    changes
}

/// Objects of a graph by what people call them.
type Objects = BTreeMap<String, Object>;

/// One object: what is shown of it, and what is behind that.
#[derive(Default, PartialEq, Eq)]
struct Object {
    shown: String,
    /// Each part that may change without being shown, and its value.
    hidden: Vec<(&'static str, String)>,
}

fn components(graph: &LinkedGraph) -> Objects {
    let object = |name: &ComponentName, component: &LinkedComponent| {
        let (origin, version) = match &component.origin {
            Origin::Graph => (String::new(), String::new()),
            Origin::Policy(version) => (format!(" (policy {})", version.name), version.generation.to_string()),
        };
        let hidden = vec![
            ("policy version", version),
            ("artifact", format!("{:?}", component.artifact)),
            ("exports", format!("{:?}", component.exports)),
            ("settings", format!("{:?}", component.settings)),
            ("placement", format!("{:?}", graph.require.get(name))),
            (
                "scale",
                format!(
                    "{:?} {}",
                    (graph.replicas.get(name), graph.scaling.get(name)),
                    graph.each_node.contains(name)
                ),
            ),
            ("reserved", format!("{:?}", graph.reserves.instances.get(name).map(|_| graph.reserves.priority))),
        ];
        let reserved = graph.reserves.instances.get(name);
        let reserved = reserved.map(|count| format!(", {count} reserved")).unwrap_or_default();
        let scaling = graph.scaling.get(name).map(|scaling| format!(", on {scaling}")).unwrap_or_default();
        Object { shown: format!("{}{origin}{scaling}{reserved}", component.artifact.digest.short()), hidden }
    };
    graph
        .components
        .iter()
        .map(|(name, component)| (format!("component {name}"), object(name, component)))
        .collect()
}

fn capabilities(graph: &LinkedGraph) -> Objects {
    let object = |name: &ComponentName, spec: &CapabilitySpec| {
        let placement = ("placement", format!("{:?}", graph.require.get(name)));
        let hidden = vec![("settings", format!("{spec:?}")), placement];
        Object { shown: spec.type_name().to_owned(), hidden }
    };
    graph.capabilities.iter().map(|(name, spec)| (format!("capability {name}"), object(name, spec))).collect()
}

/// The graph's own links, each with the chain that stands on it; those to the node only where a chain does.
fn links(graph: &LinkedGraph) -> Objects {
    let object = |link: &Link| {
        let chain = chain(graph, link);
        let wiring = ("wiring", format!("{:?}", chain.iter().map(|link| &link.wiring).collect::<Vec<_>>()));
        let functions =
            ("functions", format!("{:?}", chain.iter().map(|link| &link.functions).collect::<Vec<_>>()));
        let ends = (
            "exports",
            format!("{:?}", chain.iter().map(|link| (&link.interface, &link.to)).collect::<Vec<_>>()),
        );
        let terms = ("terms", format!("{:?}", link.terms));
        Object { shown: way(graph, link), hidden: vec![wiring, functions, ends, terms] }
    };
    let own = graph.links.iter().filter(|link| link.to != Target::Host && is_own(graph, link));
    own.map(|link| (format!("link {} {}", link.from, link.interface), object(link))).collect()
}

fn routes(graph: &LinkedGraph) -> Objects {
    let object = |route: &HttpRoute| Object { shown: route.to.to_string(), hidden: Vec::new() };
    graph.ingress.iter().map(|route| (format!("ingress {}", route.origin()), object(route))).collect()
}

/// Whether a link starts at a component of the graph's owner.
pub fn is_own(graph: &LinkedGraph, link: &Link) -> bool {
    graph.components.get(&link.from).is_some_and(|component| component.origin == Origin::Graph)
}

/// The way of a link as people read it: `app -> [pii-firewall] -> crm-db`.
pub fn way(graph: &LinkedGraph, link: &Link) -> String {
    let mut text = link.from.to_string();
    for link in chain(graph, link) {
        let policy = match &link.to {
            Target::Component { name, .. } => {
                graph.components.get(name).and_then(|component| match &component.origin {
                    Origin::Policy(version) => Some(&version.name),
                    Origin::Graph => None,
                })
            }
            Target::Capability { .. } | Target::Host => None,
        };
        match policy {
            Some(policy) => text.push_str(&format!(" -> [{policy}]")),
            None => text.push_str(&format!(" -> {}", link.to)),
        }
    }
    text
}

/// A link and those behind it, as far as policies' components go.
pub fn chain<'a>(graph: &'a LinkedGraph, link: &'a Link) -> Vec<&'a Link> {
    let mut chain = vec![link];
    // A chain has each component once: the bound is for graphs that the linker has not made.
    while chain.len() <= graph.components.len() {
        let Some(Target::Component { name, .. }) = chain.last().map(|last| &last.to) else { break };
        let is_policy = graph.components.get(name).is_some_and(|component| component.origin != Origin::Graph);
        let mut onward = graph.links_of(name).filter(|onward| {
            onward.interface.same_track(&link.interface) && matches!(onward.wiring, LinkOrigin::Policy(_))
        });
        match onward.next().filter(|_| is_policy) {
            Some(next) => chain.push(next),
            None => break,
        }
    }
    chain
}

fn compare(before: &Objects, after: &Objects, changes: &mut Vec<Change>) {
    let change = |kind, subject: &str, detail: String| Change { kind, subject: subject.to_owned(), detail };
    for (subject, object) in after {
        match before.get(subject) {
            None => changes.push(change(ChangeKind::Add, subject, object.shown.clone())),
            Some(old) if old.shown != object.shown => {
                changes.push(change(ChangeKind::Change, subject, format!("{} => {}", old.shown, object.shown)));
            }
            Some(old) if old != object => {
                changes.push(change(ChangeKind::Change, subject, different(old, object).join(", ")));
            }
            Some(_) => {}
        }
    }
    for (subject, object) in before.iter().filter(|(subject, _)| !after.contains_key(*subject)) {
        changes.push(change(ChangeKind::Remove, subject, object.shown.clone()));
    }
}

/// The names of the hidden parts that differ.
fn different(old: &Object, new: &Object) -> Vec<&'static str> {
    let pairs = old.hidden.iter().zip(&new.hidden);
    pairs.filter(|(old, new)| old != new).map(|((name, _), _)| *name).collect()
}
