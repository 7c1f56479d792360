//! `ctl policy check`: which policies stand on an import, in which order and why, and which do not.

use std::collections::BTreeMap;

use clap::Args;
use graph::link::mismatch;
use model::digest::Digest;
use model::graph::{Artifact, GraphSpec};
use model::id::GraphKey;
use model::interface::InterfacePattern;
use model::linked::{Link, LinkedGraph};
use model::name::ComponentName;
use model::policy::{PolicySpec, Selector};
use proto::convert::required;
use serde_json::json;

use super::chain::{Standing, chain};
use super::versions::Versions;
use super::{list, show};
use crate::cli::Format;
use crate::client::CallError;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::lookup::{self, Found};
use crate::reference::{ComponentReference, short};
use crate::render::table::Table;
use crate::session::Session;

/// Arguments of `policy check`.
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// The importing component, `[namespace/]graph/component`.
    #[arg(value_name = "GRAPH/COMPONENT")]
    pub component: ComponentReference,
    /// One of its imports: `ns:pkg/interface[@version]`, or `ns:pkg/*`.
    #[arg(value_name = "INTERFACE")]
    pub interface: InterfacePattern,
}

/// A policy in force, as far as this version of ctl can read it.
struct Policy {
    name: String,
    generation: u64,
    /// Whether a version of it is in force.
    is_in_force: bool,
    order: String,
    spec: Option<PolicySpec>,
}

/// One import, and what is known of policies on it.
struct Checked {
    link: Link,
    way: String,
    standing: Vec<Standing>,
    /// Policies that do not stand on it, and why.
    others: Vec<(String, String)>,
}

/// Checks.
pub(super) async fn run(arguments: CheckArguments, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let found = lookup::component(&session.client, &session.namespace, &arguments.component).await?;
    let Some(component) = found.component.clone() else {
        let message = format!("{} is a graph: name one of its components, `graph/component`", found.key);
        return Err(Failure::Usage(message));
    };
    let linked = required("linked", found.graph.linked.clone()).map_err(CallError::Answer)?;
    let linked = LinkedGraph::try_from(linked).map_err(CallError::Answer)?;
    let links: Vec<&Link> =
        linked.links_of(&component).filter(|link| arguments.interface.matches(&link.interface)).collect();
    if links.is_empty() {
        return Err(no_import(&linked, &component, &arguments.interface));
    }
    let policies = policies(session).await?;
    let spec = graph_spec(&found);
    let checked: Vec<Checked> = links
        .into_iter()
        .map(|link| {
            let standing = chain(&linked, link).0;
            let others = others(&policies, &standing, &found.key, spec.as_ref(), link);
            Checked { link: link.clone(), way: graph::plan::way(&linked, link), standing, others }
        })
        .collect();
    match session.format {
        Format::Json | Format::Yaml => {
            session.write_value(&value(&found.key, &component, &checked, &policies))?
        }
        Format::Name => {
            for standing in checked.iter().flat_map(|checked| &checked.standing) {
                session.terminal.data_line(standing.policy.name.as_str())?;
            }
        }
        Format::Table | Format::Wide => {
            let text = text(&found.key, &checked, &policies);
            session.terminal.data(&text)?;
        }
    }
    Ok(Exit::Done)
}

fn no_import(linked: &LinkedGraph, component: &ComponentName, interface: &InterfacePattern) -> Failure {
    let imports: Vec<String> = linked.links_of(component).map(|link| link.interface.to_string()).collect();
    let failure = Failure::Refused {
        reason: Some("unknown_import".to_owned()),
        message: format!("{component} does not import {interface}"),
        help: None,
        next: None,
    };
    match graph::diagnostic::nearest(&interface.to_string(), imports.iter().map(String::as_str)) {
        Some(near) => failure.help(format!("did you mean {near}?")),
        None if imports.is_empty() => failure.help("it imports nothing"),
        None => failure.help(format!("it imports {}", imports.join(", "))),
    }
}

/// All policies with what they say.
async fn policies(session: &Session<'_>) -> Result<Vec<Policy>, Failure> {
    let mut policies = Vec::new();
    for summary in list::all(&session.client).await?.policies {
        let in_force = Versions::of_summary(&summary)?.in_force;
        let generation = in_force.map_or(summary.generation, |version| version.0);
        let answer = match show::get(&session.client, &summary.name, generation).await {
            // It was replaced or deleted between the two calls.
            Err(error) if error.is_not_found() => continue,
            answered => answered?,
        };
        policies.push(Policy {
            order: format!("{} {}", summary.phase, summary.priority),
            name: summary.name,
            generation,
            is_in_force: in_force.is_some(),
            spec: policy_spec(&answer.manifest),
        });
    }
    Ok(policies)
}

/// A policy's spec for what it selects: whatever its components are.
fn policy_spec(manifest: &str) -> Option<PolicySpec> {
    let manifest = graph::policy_manifest::parse(manifest.as_bytes()).ok()?;
    let paths = manifest.sources().iter().map(|source| source.path.clone());
    let artifacts: BTreeMap<String, Artifact> = paths.map(|path| (path, any_artifact())).collect();
    manifest.resolve(&artifacts).ok()
}

/// A graph's spec for its labels: whatever its components are.
fn graph_spec(found: &Found) -> Option<GraphSpec> {
    let manifest = graph::manifest::parse(found.graph.manifest.as_bytes()).ok()?;
    let paths = manifest.sources().iter().map(|source| source.path.clone());
    let artifacts: BTreeMap<String, Artifact> = paths.map(|path| (path, any_artifact())).collect();
    manifest.resolve(&artifacts).ok()
}

const fn any_artifact() -> Artifact {
    Artifact { digest: Digest::from_bytes([0; 32]), size: 0 }
}

/// The policies that do not stand on `link`, those that are about its interface first, each with the reason.
fn others(
    policies: &[Policy],
    standing: &[Standing],
    key: &GraphKey,
    graph: Option<&GraphSpec>,
    link: &Link,
) -> Vec<(String, String)> {
    let mut others = Vec::new();
    for policy in
        policies.iter().filter(|policy| !standing.iter().any(|one| one.policy.name.as_str() == policy.name))
    {
        let why = match (&policy.spec, graph) {
            _ if !policy.is_in_force => "no version of it is in force".to_owned(),
            (Some(spec), Some(graph)) => match mismatch(key, graph, spec, link) {
                Some(why) => why,
                None if spec.mode == model::policy::Mode::Audit => "mode audit: it only reports".to_owned(),
                None => "it matches, and does not stand: see `ctl policy plan`".to_owned(),
            },
            _ => "this version of ctl cannot read it or the graph".to_owned(),
        };
        others.push((format!("{}@{}", policy.name, policy.generation), why));
    }
    others
}

/// What a policy selects by, as people read it.
fn selects(selector: &Selector) -> String {
    let mut parts = vec![format!("interface {}", selector.interface)];
    let list = |names: Vec<String>| names.join(" or ");
    if !selector.namespaces.is_empty() {
        parts
            .push(format!("namespace {}", list(selector.namespaces.iter().map(ToString::to_string).collect())));
    }
    if !selector.graphs.is_empty() {
        parts.push(format!("graph {}", list(selector.graphs.iter().map(ToString::to_string).collect())));
    }
    parts.extend(selector.labels.iter().map(|(key, value)| format!("label {key}={value}")));
    parts.join(", ")
}

fn why(policies: &[Policy], standing: &Standing) -> (String, String) {
    let policy = policies.iter().find(|policy| policy.name == standing.policy.name.as_str());
    let selected = policy.and_then(|policy| policy.spec.as_ref()).map(|spec| selects(&spec.selector));
    let order = policy.map(|policy| policy.order.clone()).unwrap_or_default();
    (order, selected.unwrap_or_default())
}

fn text(key: &GraphKey, checked: &[Checked], policies: &[Policy]) -> String {
    let mut out = String::new();
    for one in checked {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&format!("{}: {}  {}\n", short(key), one.way, one.link.interface));
        let mut table = Table::new(["POLICY", "ORDER", "COMPONENT", "SELECTED BY"]);
        for standing in &one.standing {
            let (order, selected) = why(policies, standing);
            let policy = format!("{}@{}", standing.policy.name, standing.policy.generation);
            table.row([policy, order, standing.component.to_string(), selected]);
        }
        if table.is_empty() {
            out.push_str("no policy stands on it\n");
        } else {
            out.push_str(&table.render(None));
        }
        for (policy, why) in &one.others {
            out.push_str(&format!("not {policy}: {why}\n"));
        }
    }
    out
}

fn value(
    key: &GraphKey,
    component: &ComponentName,
    checked: &[Checked],
    policies: &[Policy],
) -> serde_json::Value {
    let standing = |standing: &Standing| {
        let (order, selected) = why(policies, standing);
        json!({
            "policy": standing.policy.name.to_string(),
            "generation": standing.policy.generation.to_string(),
            "component": standing.component.to_string(),
            "order": order,
            "selectedBy": selected,
        })
    };
    let link = |one: &Checked| {
        let others = one.others.iter().map(|(policy, why)| json!({"policy": policy, "why": why}));
        json!({
            "interface": one.link.interface.to_string(),
            "way": one.way,
            "standing": one.standing.iter().map(standing).collect::<Vec<_>>(),
            "others": others.collect::<Vec<_>>(),
        })
    };
    json!({
        "graph": key.to_string(),
        "component": component.to_string(),
        "links": checked.iter().map(link).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use model::id::Generation;
    use model::linked::{LinkOrigin, Target};
    use model::policy::PolicyVersion;

    use super::*;

    fn graph() -> GraphSpec {
        let text = "version: 1\ngraph: crm\nlabels: {data: pii}\ncomponents:\n  app: {source: a.wasm}\n";
        let manifest = graph::manifest::parse(text.as_bytes()).unwrap();
        manifest.resolve(&[("a.wasm".to_owned(), any_artifact())].into()).unwrap()
    }

    fn policy(name: &str, rest: &str) -> Policy {
        let text = format!(
            "version: 1\npolicy: {name}\ninterpose: [{{component: p.wasm}}]\norder: {{priority: 100}}\n{rest}\n"
        );
        let spec = policy_spec(&text);
        assert!(spec.is_some(), "{text}");
        let order = "inspect 100".to_owned();
        Policy { name: name.to_owned(), generation: 8, is_in_force: true, order, spec }
    }

    fn link() -> Link {
        let interface = "fermyon:spin/sqlite@2.0.0";
        Link {
            from: "app".parse().unwrap(),
            interface: interface.parse().unwrap(),
            to: Target::Component {
                name: ComponentName::try_from("app--pii".to_owned()).unwrap(),
                export: interface.parse().unwrap(),
            },
            wiring: LinkOrigin::Inferred,
            functions: Vec::new(),
            terms: model::placement::LinkTerms::default(),
        }
    }

    #[test]
    fn each_policy_that_does_not_stand_says_why() {
        let policies = [
            policy("other-interface", "match: {interface: 'a:b/c@1'}"),
            policy("other-label", "match: {interface: 'fermyon:spin/sqlite@2', from: {labels: {data: none}}}"),
            policy("no-label", "match: {interface: 'fermyon:spin/sqlite@2', from: {labels: {team: a}}}"),
            policy("other-graph", "match: {interface: 'fermyon:spin/*', from: {graphs: [hr]}}"),
            policy("other-namespace", "match: {interface: 'fermyon:spin/*', from: {namespaces: [hr]}}"),
            policy("excepted", "match: {interface: 'fermyon:spin/*', except: [default/crm/app]}"),
            policy("off", "mode: off\nmatch: {interface: 'fermyon:spin/*'}"),
            policy("audit", "mode: audit\nmatch: {interface: 'fermyon:spin/*'}"),
            Policy { is_in_force: false, ..policy("first", "match: {interface: 'fermyon:spin/*'}") },
        ];
        let found = others(&policies, &[], &"default/crm".parse().unwrap(), Some(&graph()), &link());
        let lines: Vec<String> = found.into_iter().map(|(policy, why)| format!("{policy}: {why}")).collect();
        insta::assert_snapshot!(lines.join("\n"), @"
        other-interface@8: it is about a:b/c@1
        other-label@8: it selects label data=none, and the importer has data=pii
        no-label@8: it selects label team=a, which the importer does not have
        other-graph@8: it does not select graph crm
        other-namespace@8: it does not select namespace default
        excepted@8: it makes an exception of this importer
        off@8: its mode is off
        audit@8: mode audit: it only reports
        first@8: no version of it is in force
        ");
    }

    #[test]
    fn a_chain_is_shown_with_its_reasons() {
        let policies =
            [policy("pii", "match: {interface: 'fermyon:spin/sqlite@2', from: {labels: {data: pii}}}")];
        let version = PolicyVersion { name: "pii".parse().unwrap(), generation: Generation(8) };
        let component = ComponentName::try_from("app--pii".to_owned()).unwrap();
        let checked = [Checked {
            link: link(),
            way: "app -> [pii] -> db".to_owned(),
            standing: vec![Standing { policy: version, component: component.clone() }],
            others: vec![("off@9".to_owned(), "its mode is off".to_owned())],
        }];
        let key: GraphKey = "default/crm".parse().unwrap();
        insta::assert_snapshot!(text(&key, &checked, &policies), @"
        crm: app -> [pii] -> db  fermyon:spin/sqlite@2.0.0
        POLICY  ORDER        COMPONENT  SELECTED BY
        pii@8   inspect 100  app--pii   interface fermyon:spin/sqlite@2, label data=pii
        not off@9: its mode is off
        ");
        let value = value(&key, &component, &checked, &policies);
        assert_eq!(value["links"][0]["standing"][0]["policy"], "pii");
        assert_eq!(value["links"][0]["others"][0]["policy"], "off@9");
    }
}
