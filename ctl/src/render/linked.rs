//! A linked graph as a drawing: a tree for the terminal, DOT for Graphviz, Mermaid for Markdown.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use model::id::GraphKey;
use model::linked::{Link, LinkedComponent, LinkedGraph, Origin, Target};
use model::name::{ComponentName, NodeName};
use model::placement::Placement;
use model::route::HttpRoute;

/// A branch of the tree: a line, and what hangs below it.
struct Branch {
    line: String,
    below: Vec<Branch>,
}

/// The graph as a tree: ways in, components with their links as they go through policies, capabilities.
pub fn tree(key: &GraphKey, graph: &LinkedGraph, placed: Option<&Placement>, is_wide: bool) -> String {
    let leaf = |line: String| Branch { line, below: Vec::new() };
    let mut branches: Vec<Branch> =
        graph.ingress.iter().map(|route| leaf(format!("{} -> {}", entry(route), route.to))).collect();
    let own = graph.components.iter().filter(|(_, component)| component.origin == Origin::Graph);
    let parted = placed.filter(|placed| placed.is_parted());
    branches.extend(own.map(|(name, component)| component_branch(graph, name, component, parted, is_wide)));
    branches.extend(graph.capabilities.iter().map(|(name, c)| {
        let on = parted.map(|placed| format!("  on {}", placed.shown(name))).unwrap_or_default();
        leaf(format!("{name}  ({}){on}", c.type_name()))
    }));
    let mut text = format!("{key}\n");
    draw(&branches, "", &mut text);
    text
}

fn component_branch(
    graph: &LinkedGraph,
    name: &ComponentName,
    component: &LinkedComponent,
    parted: Option<&Placement>,
    is_wide: bool,
) -> Branch {
    let mut below = Vec::new();
    let mut built_in = BTreeSet::new();
    for link in graph.links_of(name) {
        if link.to == Target::Host {
            built_in.insert(if is_wide {
                link.interface.to_string()
            } else {
                format!("{}:{}", link.interface.namespace, link.interface.package)
            });
            continue;
        }
        let way = graph::plan::way(graph, link);
        let onward = way.strip_prefix(&link.from.to_string()).unwrap_or(&way);
        let distance =
            parted.map(|placed| format!("  ({})", distance(graph, link, placed))).unwrap_or_default();
        below.push(Branch { line: format!("{}{onward}{distance}", link.interface), below: Vec::new() });
    }
    if !built_in.is_empty() {
        let names: Vec<String> = built_in.into_iter().collect();
        below.push(Branch { line: format!("node: {}", names.join(", ")), below: Vec::new() });
    }
    let on = parted.map(|placed| format!("  on {}", placed.shown(name))).unwrap_or_default();
    let scaled = graph.scaling.get(name).map(|scaling| format!("  ({scaling})")).unwrap_or_default();
    let reserved = graph.reserves.instances.get(name);
    let reserved = reserved
        .map(|count| format!("  ({count} reserved, priority {})", graph.reserves.priority))
        .unwrap_or_default();
    Branch { line: format!("{name}  {}{on}{scaled}{reserved}", component.artifact.digest.short()), below }
}

/// How far a link goes, by way of the policies on it: `fused`, or `remote: n1 -> n2+n3 -> n4` where its members are on these.
pub fn distance(graph: &LinkedGraph, link: &Link, placed: &Placement) -> String {
    let chain = graph::plan::chain(graph, link);
    let ends = chain.iter().filter_map(|link| link.to.member());
    if !chain.iter().any(|link| placed.is_remote(link)) {
        return "fused".to_owned();
    }
    let nodes = |member| placed.nodes_of(member).map(NodeName::as_str).collect::<Vec<_>>().join("+");
    let steps: Vec<String> = std::iter::once(&link.from).chain(ends).map(nodes).collect();
    format!("remote: {}", steps.join(" -> "))
}

fn draw(branches: &[Branch], indent: &str, text: &mut String) {
    for (position, branch) in branches.iter().enumerate() {
        let is_last = position + 1 == branches.len();
        let (corner, under) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{indent}{corner}{}", branch.line);
        draw(&branch.below, &format!("{indent}{under}"), text);
    }
}

fn entry(route: &HttpRoute) -> String {
    let host = route.host.as_ref().map_or("*", |host| host.as_str());
    format!("http {host}{}", route.path)
}

/// One box of a drawing.
struct Shape {
    id: String,
    label: Vec<String>,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Entry,
    Component,
    Policy,
    Capability,
}

/// One arrow of a drawing.
struct Arrow {
    from: String,
    to: String,
    label: String,
}

/// Boxes and arrows as linked: what policies put in is drawn where it stands, built-ins of the node are left out.
fn drawing(graph: &LinkedGraph) -> (Vec<Shape>, Vec<Arrow>) {
    let mut shapes = Vec::new();
    let mut arrows = Vec::new();
    for (number, route) in graph.ingress.iter().enumerate() {
        let id = format!("entry{number}");
        arrows.push(Arrow { from: id.clone(), to: box_id(&route.to), label: "wasi:http".to_owned() });
        shapes.push(Shape { id, label: vec![entry(route)], kind: Kind::Entry });
    }
    for (name, component) in &graph.components {
        let (label, kind) = match &component.origin {
            Origin::Graph => (vec![name.to_string()], Kind::Component),
            Origin::Policy(version) => (
                vec![name.to_string(), format!("policy {}@{}", version.name, version.generation)],
                Kind::Policy,
            ),
        };
        shapes.push(Shape { id: box_id(name), label, kind });
    }
    for (name, capability) in &graph.capabilities {
        let label = vec![name.to_string(), capability.type_name().to_owned()];
        shapes.push(Shape { id: box_id(name), label, kind: Kind::Capability });
    }
    for link in &graph.links {
        let to = match &link.to {
            Target::Component { name, .. } | Target::Capability { name } => box_id(name),
            Target::Host => continue,
        };
        arrows.push(Arrow { from: box_id(&link.from), to, label: link.interface.to_string() });
    }
    (shapes, arrows)
}

/// Names have letters, digits and hyphens; both languages want identifiers.
fn box_id(name: &ComponentName) -> String {
    format!("c_{}", name.as_str().replace('-', "_"))
}

/// The graph for Graphviz.
pub fn dot(key: &GraphKey, graph: &LinkedGraph) -> String {
    let (shapes, arrows) = drawing(graph);
    let mut text =
        format!("digraph \"{key}\" {{\n  rankdir=LR;\n  node [shape=box, fontname=\"sans-serif\"];\n");
    for Shape { id, label, kind } in shapes {
        let style = match kind {
            Kind::Entry => ", shape=plaintext",
            Kind::Component => "",
            Kind::Policy => ", style=\"rounded,dashed\"",
            Kind::Capability => ", shape=cylinder",
        };
        let _ = writeln!(text, "  {id} [label=\"{}\"{style}];", label.join("\\n"));
    }
    for Arrow { from, to, label } in arrows {
        let _ = writeln!(text, "  {from} -> {to} [label=\"{label}\"];");
    }
    text.push_str("}\n");
    text
}

/// The graph for Markdown.
pub fn mermaid(graph: &LinkedGraph) -> String {
    let (shapes, arrows) = drawing(graph);
    let mut text = "flowchart LR\n".to_owned();
    for Shape { id, label, kind } in shapes {
        let label = label.join("<br>");
        let _ = match kind {
            Kind::Entry => writeln!(text, "  {id}>\"{label}\"]"),
            Kind::Component => writeln!(text, "  {id}[\"{label}\"]"),
            Kind::Policy => writeln!(text, "  {id}([\"{label}\"])"),
            Kind::Capability => writeln!(text, "  {id}[(\"{label}\")]"),
        };
    }
    for Arrow { from, to, label } in arrows {
        let _ = writeln!(text, "  {from} -->|\"{label}\"| {to}");
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::testing::customers;

    fn key() -> GraphKey {
        "sales/crm".parse().unwrap()
    }

    #[test]
    fn a_tree_shows_links_through_their_policies() {
        insta::assert_snapshot!(tree(&key(), &customers(), None, false));
        let wide = tree(&key(), &customers(), None, true);
        assert!(wide.contains("node: wasi:http/types@0.2.0, wasi:io/streams@0.2.0"), "{wide}");
    }

    #[test]
    fn a_tree_of_a_graph_on_several_nodes_shows_how_far_each_link_goes() {
        let mut placed = Placement::whole("n1".parse().unwrap());
        assert!(!tree(&key(), &customers(), Some(&placed), false).contains("fused"));
        placed.away.insert("crm-db".parse().unwrap(), "n3".parse().unwrap());
        insta::assert_snapshot!(tree(&key(), &customers(), Some(&placed), false));
    }

    #[test]
    fn a_drawing_shows_each_component_where_it_stands() {
        insta::assert_snapshot!("dot", dot(&key(), &customers()));
        insta::assert_snapshot!("mermaid", mermaid(&customers()));
    }
}
