//! `ctl access`: everything a component may reach, and what it is denied. What is not listed does not exist for it.

use std::fmt::Write as _;

use clap::Args;
use model::egress::EgressRule;
use model::graph::Settings;
use model::id::GraphKey;
use model::interface::InterfaceName;
use model::linked::{Link, LinkedGraph, Target};
use model::name::ComponentName;
use proto::convert::required;
use serde_json::{Value, json};

use super::policy::chain::{Standing, chain, describe};
use crate::cli::Format;
use crate::client::CallError;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::lookup;
use crate::reference::{ComponentReference, short};
use crate::render::table::Table;
use crate::session::Session;

/// Packages of WASI that reach outside, and that no node grants.
const NEVER_GRANTED: [&str; 2] = ["wasi:filesystem", "wasi:sockets"];

/// Arguments of `access`.
#[derive(Debug, Args)]
pub struct AccessArguments {
    /// The component, `[namespace/]graph/component`.
    #[arg(value_name = "GRAPH/COMPONENT")]
    pub component: ComponentReference,
    /// Ask about one host, `api.example.com[:port]` or a whole origin; ends with 1 if it is denied.
    #[arg(long, value_name = "HOST")]
    pub can: Option<String>,
}

/// What one component may reach.
struct Access<'a> {
    key: &'a GraphKey,
    name: &'a ComponentName,
    linked: &'a LinkedGraph,
    settings: &'a Settings,
}

/// Shows, or answers.
pub async fn run(arguments: AccessArguments, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let found = lookup::component(&session.client, &session.namespace, &arguments.component).await?;
    let Some(name) = &found.component else {
        let message = format!("{} is a graph: name one of its components, `graph/component`", found.key);
        return Err(Failure::Usage(message));
    };
    let linked = required("linked", found.graph.linked.clone()).map_err(CallError::Answer)?;
    let linked = LinkedGraph::try_from(linked).map_err(CallError::Answer)?;
    let Some(component) = linked.components.get(name) else {
        return Err(Failure::refused(format!("graph {} has no component {name}", found.key)));
    };
    let access = Access { key: &found.key, name, linked: &linked, settings: &component.settings };
    if let Some(host) = &arguments.can {
        return answer(&access, host, session);
    }
    match session.format {
        Format::Json | Format::Yaml => session.write_value(&access.value())?,
        Format::Name => {
            for link in access.links() {
                session.terminal.data_line(&link.interface.to_string())?;
            }
        }
        Format::Table | Format::Wide => {
            let text = access.text(session.format == Format::Wide, session.terminal.look().width);
            session.terminal.data(&text)?;
        }
    }
    Ok(Exit::Done)
}

fn answer(access: &Access<'_>, host: &str, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let asked = origins(host)?;
    let verdict = access.can(&asked);
    let text = verdict.sentence(access, host);
    match session.format {
        Format::Json | Format::Yaml => {
            let value = json!({"host": host, "allowed": verdict.is_allowed(), "why": text});
            session.write_value(&value)?;
        }
        Format::Name => session.terminal.data_line(if verdict.is_allowed() { "yes" } else { "no" })?,
        Format::Table | Format::Wide => session.terminal.data_line(&text)?,
    }
    Ok(if verdict.is_allowed() { Exit::Done } else { Exit::Failed })
}

/// What a host on the command line stands for: one origin, or without a scheme both that could be meant.
fn origins(host: &str) -> Result<Vec<EgressRule>, Failure> {
    let texts = if host.contains("://") {
        vec![host.to_owned()]
    } else {
        vec![format!("https://{host}"), format!("http://{host}")]
    };
    let read =
        |text: String| text.parse::<EgressRule>().map_err(|error| Failure::Usage(format!("`{host}`: {error}")));
    texts.into_iter().map(read).collect()
}

/// Whether a host can be reached.
enum CanReach {
    /// By these rules.
    Yes(Vec<String>),
    /// The rules are there, but the component has no door for HTTP.
    NoDoor,
    /// Its requests go to another component, whose rules count.
    Elsewhere(String),
    /// No rule names it; these could be meant.
    NoRule(Vec<String>),
}

impl CanReach {
    const fn is_allowed(&self) -> bool {
        matches!(self, Self::Yes(_))
    }

    fn sentence(&self, access: &Access<'_>, host: &str) -> String {
        let name = format!("{}/{}", short(access.key), access.name);
        match self {
            Self::Yes(rules) => format!("yes: {name} may send requests to {}", rules.join(" and ")),
            Self::NoDoor => {
                format!("no: {name} does not import wasi:http/outgoing-handler, so it sends no requests")
            }
            Self::Elsewhere(to) => {
                format!("no: the requests of {name} go to {to}, and no further by themselves")
            }
            Self::NoRule(rules) if rules.is_empty() => {
                format!("no: the `egress` of {name} is empty, so that every request is refused")
            }
            Self::NoRule(rules) => {
                format!("no: {host} is not in the `egress` of {name}, which has {}", rules.join(", "))
            }
        }
    }
}

fn is_outgoing_http(name: &InterfaceName) -> bool {
    (name.namespace.as_str(), name.package.as_str(), name.interface.as_str())
        == ("wasi", "http", "outgoing-handler")
}

impl<'a> Access<'a> {
    fn links(&self) -> impl Iterator<Item = &'a Link> {
        self.linked.links_of(self.name)
    }

    fn egress(&self) -> Vec<String> {
        self.settings.egress.iter().map(ToString::to_string).collect()
    }

    /// The import through which it sends HTTP requests.
    fn door(&self) -> Option<&'a Link> {
        self.links().find(|link| is_outgoing_http(&link.interface))
    }

    fn can(&self, asked: &[EgressRule]) -> CanReach {
        let Some(door) = self.door() else { return CanReach::NoDoor };
        if let Target::Component { name, .. } = chain(self.linked, door).1 {
            return CanReach::Elsewhere(name.to_string());
        }
        let allows = |rule: &&EgressRule| asked.iter().any(|origin| rule == &origin);
        let rules: Vec<String> = self.settings.egress.iter().filter(allows).map(ToString::to_string).collect();
        if rules.is_empty() { CanReach::NoRule(self.egress()) } else { CanReach::Yes(rules) }
    }

    /// What is denied, in sentences.
    fn denied(&self) -> Vec<String> {
        let mut out = Vec::new();
        out.push(match (self.door(), self.settings.egress.is_empty()) {
            (None, _) => "outgoing HTTP: it does not import wasi:http/outgoing-handler".to_owned(),
            (Some(_), true) => "outgoing HTTP: its `egress` is empty".to_owned(),
            (Some(_), false) => "outgoing HTTP to everything else".to_owned(),
        });
        let offered = |package: &str| {
            self.links()
                .any(|link| format!("{}:{}", link.interface.namespace, link.interface.package) == package)
        };
        let absent: Vec<&str> = NEVER_GRANTED.into_iter().filter(|package| !offered(package)).collect();
        if !absent.is_empty() {
            out.push(format!("{}: no node grants them", absent.join(", ")));
        }
        out.push("everything that is not listed: a component has no other way out".to_owned());
        out
    }

    fn text(&self, is_wide: bool, width: Option<u16>) -> String {
        let mut out = format!("{}/{} may reach\n", short(self.key), self.name);
        let mut table = Table::new(["INTERFACE", "THROUGH", "TO"]);
        let (host, linked): (Vec<&Link>, Vec<&Link>) = self.links().partition(|link| link.to == Target::Host);
        for link in &linked {
            let (standing, target) = chain(self.linked, link);
            table.row([link.interface.to_string(), policies(&standing), describe(self.linked, target)]);
        }
        if is_wide {
            for link in &host {
                table.row([link.interface.to_string(), String::new(), "node".to_owned()]);
            }
        }
        if !table.is_empty() {
            out.push_str(&table.render(width));
        }
        // Writing to a String cannot fail.
        if !is_wide && !host.is_empty() {
            let _ = writeln!(out, "of the node: {}", packages(&host).join(", "));
        }
        for rule in self.egress() {
            let unused = if self.door().is_some() { "" } else { ", if it imported wasi:http/outgoing-handler" };
            let _ = writeln!(out, "HTTP requests to {rule}{unused}");
        }
        for (policy, rule) in self.egress_of_policies() {
            let _ = writeln!(out, "through {policy}: HTTP requests to {rule}");
        }
        let known = [("config", self.settings.config.len()), ("variables", self.settings.variables.len())];
        for (what, count) in known.into_iter().filter(|(_, count)| *count > 0) {
            let plural = if count == 1 { "y" } else { "ies" };
            let _ = writeln!(out, "{count} entr{plural} of its own `{what}`");
        }
        out.push_str("denied\n");
        for line in self.denied() {
            let _ = writeln!(out, "  {line}");
        }
        out
    }

    /// What the policies' components on its links may reach by themselves.
    fn egress_of_policies(&self) -> Vec<(String, String)> {
        let mut out = Vec::new();
        for standing in self.links().flat_map(|link| chain(self.linked, link).0) {
            let Some(component) = self.linked.components.get(&standing.component) else { continue };
            let rules = component.settings.egress.iter();
            out.extend(rules.map(|rule| (format!("policy {}", standing.policy.name), rule.to_string())));
        }
        out.sort();
        out.dedup();
        out
    }

    fn value(&self) -> Value {
        let link = |link: &Link| {
            let (standing, target) = chain(self.linked, link);
            let policies: Vec<Value> = standing
                .iter()
                .map(|one| {
                    let generation = one.policy.generation.to_string();
                    json!({"policy": one.policy.name.to_string(), "generation": generation, "component": one.component.to_string()})
                })
                .collect();
            let kind = match target {
                Target::Component { .. } => "component",
                Target::Capability { .. } => "capability",
                Target::Host => "node",
            };
            json!({
                "interface": link.interface.to_string(),
                "policies": policies,
                "to": {"kind": kind, "name": target.to_string()},
            })
        };
        json!({
            "graph": self.key.to_string(),
            "component": self.name.to_string(),
            "links": self.links().map(link).collect::<Vec<_>>(),
            "egress": self.egress(),
            "denied": self.denied(),
        })
    }
}

fn policies(standing: &[Standing]) -> String {
    let names: Vec<String> =
        standing.iter().map(|one| format!("{}@{}", one.policy.name, one.policy.generation)).collect();
    names.join(" > ")
}

fn packages(links: &[&Link]) -> Vec<String> {
    let mut names: Vec<String> =
        links.iter().map(|link| format!("{}:{}", link.interface.namespace, link.interface.package)).collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use model::digest::Digest;
    use model::graph::{Artifact, CapabilitySpec};
    use model::id::Generation;
    use model::linked::{LinkOrigin, LinkedComponent, Origin};
    use model::policy::PolicyVersion;

    use super::*;

    fn name(text: &str) -> ComponentName {
        ComponentName::try_from(text.to_owned()).unwrap()
    }

    fn linked() -> LinkedGraph {
        let version = PolicyVersion { name: "pii".parse().unwrap(), generation: Generation(8) };
        let component = |origin: Origin, egress: &[&str]| LinkedComponent {
            artifact: Artifact { digest: Digest::from_bytes([0; 32]), size: 1 },
            origin,
            exports: Vec::new(),
            settings: Settings {
                egress: egress.iter().map(|rule| rule.parse().unwrap()).collect(),
                config: [("a".to_owned(), "b".to_owned())].into(),
                ..Settings::default()
            },
        };
        let link = |from: &str, interface: &str, to: Target, wiring: LinkOrigin| Link {
            from: name(from),
            interface: interface.parse().unwrap(),
            to,
            wiring,
            functions: Vec::new(),
            terms: model::placement::LinkTerms::default(),
        };
        let sqlite = "fermyon:spin/sqlite@2.0.0";
        let proxy = Target::Component { name: name("app--pii"), export: sqlite.parse().unwrap() };
        let database = CapabilitySpec::Sqlite { database: "default".to_owned(), seed: None };
        LinkedGraph {
            components: [
                (name("app"), component(Origin::Graph, &["https://api.example.com"])),
                (name("app--pii"), component(Origin::Policy(version.clone()), &["https://audit.example.com"])),
                (name("quiet"), component(Origin::Graph, &["https://api.example.com"])),
            ]
            .into(),
            capabilities: [(name("db"), database)].into(),
            links: vec![
                link("app", sqlite, proxy, LinkOrigin::Policy(version.clone())),
                link("app", "wasi:http/outgoing-handler@0.2.0", Target::Host, LinkOrigin::BuiltIn),
                link("app", "wasi:io/streams@0.2.0", Target::Host, LinkOrigin::BuiltIn),
                link("app--pii", sqlite, Target::Capability { name: name("db") }, LinkOrigin::Policy(version)),
            ],
            ..LinkedGraph::default()
        }
    }

    fn with<T>(component: &str, ask: impl FnOnce(&Access<'_>) -> T) -> T {
        let (linked, key, name) = (linked(), "default/crm".parse().unwrap(), name(component));
        let settings = linked.components[&name].settings.clone();
        ask(&Access { key: &key, name: &name, linked: &linked, settings: &settings })
    }

    #[test]
    fn everything_within_reach_is_listed_and_nothing_else_is_granted() {
        insta::assert_snapshot!(with("app", |access| access.text(false, None)), @r#"
        crm/app may reach
        INTERFACE                  THROUGH  TO
        fermyon:spin/sqlite@2.0.0  pii@8    db (sqlite "default")
        of the node: wasi:http, wasi:io
        HTTP requests to https://api.example.com
        through policy pii: HTTP requests to https://audit.example.com
        1 entry of its own `config`
        denied
          outgoing HTTP to everything else
          wasi:filesystem, wasi:sockets: no node grants them
          everything that is not listed: a component has no other way out
        "#);
        insta::assert_snapshot!(with("quiet", |access| access.text(true, None)), @"
        crm/quiet may reach
        HTTP requests to https://api.example.com, if it imported wasi:http/outgoing-handler
        1 entry of its own `config`
        denied
          outgoing HTTP: it does not import wasi:http/outgoing-handler
          wasi:filesystem, wasi:sockets: no node grants them
          everything that is not listed: a component has no other way out
        ");
    }

    #[test]
    fn a_host_is_reached_only_by_a_rule_and_a_door() {
        let ask = |component: &str, host: &str| {
            with(component, |access| access.can(&origins(host).unwrap()).sentence(access, host))
        };
        assert!(
            ask("app", "api.example.com")
                .starts_with("yes: crm/app may send requests to https://api.example.com")
        );
        assert!(ask("app", "https://api.example.com").starts_with("yes"));
        for denied in ["http://api.example.com", "api.example.com:8443", "audit.example.com", "10.0.0.1"] {
            assert!(ask("app", denied).starts_with("no"), "{denied}");
        }
        assert!(ask("quiet", "api.example.com").contains("does not import wasi:http/outgoing-handler"));
        for wrong in ["https://a/b", "", "*.example.com"] {
            assert!(matches!(origins(wrong), Err(Failure::Usage(_))), "{wrong:?}");
        }
    }

    #[test]
    fn programs_read_the_same() {
        let value = with("app", |access| access.value());
        assert_eq!(value["links"][0]["policies"][0]["policy"], "pii");
        assert_eq!(value["links"][0]["to"]["name"], "db");
        assert_eq!(value["egress"][0], "https://api.example.com");
    }
}
