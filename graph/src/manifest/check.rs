//! What the shape cannot say: names, references, units and bounds. Every mistake is reported.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::ops::Range;
use std::str::FromStr;
use std::time::Duration;

use model::digest::Digest;
use model::egress::EgressRule;
use model::graph::{
    COMPONENTS_MAX, CapabilitySpec, DEADLINE_MAX, GraphSpec, LINKS_MAX, Limits, LinkSpec, MEMORY_MAX,
    MEMORY_MIN, Settings, Wiring,
};
use model::id::GraphKey;
use model::interface::InterfacePattern;
use model::name::{ComponentName, GraphName, NamespaceName};
use model::route::{Host, HttpRoute, PathPrefix};
use model::unit::{ByteSize, parse_duration};
use serde_saphyr::Spanned;

use super::shape::{
    CapabilityEntry, ComponentEntry, GraphFile, HttpEntry, IngressEntry, LimitsEntry, LinkEntry,
};
use super::{Manifest, Source, SourceKind, unresolved};
use crate::diagnostic::{Diagnostic, nearest};
use crate::document::{self, Later, shorten};

/// The bytes that all labels of one object may have.
const LABELS_MAX_BYTES: usize = 4 << 10;
/// The entries and bytes of one component's config or variables.
const CONFIG_MAX_BYTES: usize = 32 << 10;
/// The origins of one component.
const EGRESS_MAX: usize = 64;

const ONE_NODE: &str = "this version runs a whole graph on one node";

pub(super) const LATER: &[Later] = &[
    Later { path: "rollout", help: "a new revision replaces the old one at once, losing no request" },
    Later { path: "expose", help: "links between graphs come later" },
    Later { path: "ingress.*.grpc", help: "use `http`" },
    Later { path: "ingress.*.cron", help: "call the component from a scheduler over HTTP" },
    Later { path: "ingress.*.call", help: "call the component from a scheduler over HTTP" },
    Later { path: "components.*.secrets", help: "" },
    Later { path: "components.*.env", help: "use `config` or `variables`" },
    Later { path: "components.*.build", help: "build the component before you deploy" },
    Later { path: "components.*.scale", help: "instances are made per request; there is nothing to scale yet" },
    Later {
        path: "components.*.replicas",
        help: "instances are made per request; there is nothing to scale yet",
    },
    Later { path: "components.*.placement", help: ONE_NODE },
    Later { path: "components.*.health", help: "a graph is ready when a first instance of it was made" },
    Later { path: "components.*.outbound", help: "the field is called `egress`" },
    Later { path: "capabilities.*.volume", help: "a database is kept by namespace, graph and capability" },
    Later { path: "capabilities.*.placement", help: ONE_NODE },
    Later { path: "links.*.locality", help: ONE_NODE },
    Later { path: "links.*.timeout", help: "use the caller's `limits.deadline`" },
    Later { path: "links.*.retry", help: ONE_NODE },
    Later { path: "links.*.stream", help: ONE_NODE },
    Later { path: "links.*.on-loss", help: ONE_NODE },
    Later { path: "links.*.name", help: "a component imports an interface once" },
    Later { path: "dev", help: "" },
];

pub(super) const READ_ONLY: &[&str] = &["graph_uid", "graph-uid", "uid", "generation", "revision", "status"];

/// Collects mistakes while values are read.
pub(crate) struct Findings {
    pub(crate) found: Vec<Diagnostic>,
}

impl Findings {
    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        self.found.push(diagnostic);
    }

    /// Reads a text into a type, or reports why not.
    pub(crate) fn read<T>(&mut self, reason: &'static str, field: &str, text: &Spanned<String>) -> Option<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        match text.value.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.push(Diagnostic::error(reason, field, error.to_string()).at(place(text), "here"));
                None
            }
        }
    }

    /// Reads a name that is the key of a map.
    pub(crate) fn key<T>(&mut self, field: &str, text: &str, at: Option<Range<usize>>) -> Option<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                let message = format!("`{}` is not a name: {error}", shorten(text));
                self.push(Diagnostic::error("name", field, message).at(at, "under this name"));
                None
            }
        }
    }

    pub(crate) fn labels(
        &mut self,
        field: &str,
        labels: BTreeMap<String, Spanned<String>>,
    ) -> BTreeMap<String, String> {
        let bytes: usize = labels.iter().map(|(key, value)| key.len() + value.value.len()).sum();
        if bytes > LABELS_MAX_BYTES {
            let message = format!("labels have at most {LABELS_MAX_BYTES} bytes together, these have {bytes}");
            self.push(
                Diagnostic::error("labels", field, message).at(labels.values().next().and_then(place), ""),
            );
        }
        labels.into_iter().map(|(key, value)| (key, value.value)).collect()
    }

    pub(crate) fn settings(
        &mut self,
        field: &str,
        config: BTreeMap<String, String>,
        variables: BTreeMap<String, String>,
        egress: &[Spanned<String>],
        limits: &LimitsEntry,
    ) -> Settings {
        for (name, values) in [("config", &config), ("variables", &variables)] {
            let bytes: usize = values.iter().map(|(key, value)| key.len() + value.len()).sum();
            if bytes > CONFIG_MAX_BYTES {
                let message = format!("`{name}` has at most {CONFIG_MAX_BYTES} bytes, this one has {bytes}");
                self.push(Diagnostic::error("config_too_large", format!("{field}.{name}"), message));
            }
        }
        let rules = egress
            .iter()
            .enumerate()
            .filter_map(|(index, rule)| {
                self.read::<EgressRule>("egress_rule", &format!("{field}.egress.{index}"), rule)
            })
            .collect();
        if egress.len() > EGRESS_MAX {
            let message = format!("`egress` has at most {EGRESS_MAX} origins, this one has {}", egress.len());
            self.push(Diagnostic::error("egress_rule", format!("{field}.egress"), message));
        }
        Settings { config, variables, egress: rules, limits: self.limits(field, limits) }
    }

    fn limits(&mut self, field: &str, entry: &LimitsEntry) -> Limits {
        let mut limits = Limits::default();
        if let Some(text) = &entry.memory {
            let field = format!("{field}.limits.memory");
            if let Some(memory) = self.read::<ByteSize>("memory_limit", &field, text) {
                if memory < MEMORY_MIN || memory > MEMORY_MAX {
                    let message = format!("memory is between {MEMORY_MIN} and {MEMORY_MAX}");
                    self.push(
                        Diagnostic::error("memory_limit", field, message).at(place(text), "out of bounds"),
                    );
                }
                limits.memory = memory;
            }
        }
        if let Some(text) = &entry.deadline {
            let field = format!("{field}.limits.deadline");
            match parse_duration(&text.value) {
                Ok(deadline) if deadline >= Duration::from_millis(1) && deadline <= DEADLINE_MAX => {
                    limits.deadline = deadline;
                }
                Ok(_) => {
                    let message = "a deadline is between 1ms and 10m";
                    self.push(Diagnostic::error("deadline", field, message).at(place(text), "out of bounds"));
                }
                Err(error) => {
                    self.push(Diagnostic::error("deadline", field, error.to_string()).at(place(text), "here"));
                }
            }
        }
        limits
    }

    /// A path of a file, relative to the manifest; everything else is refused by name.
    pub(crate) fn source(&mut self, field: &str, text: &Spanned<String>) -> Option<String> {
        let value = &text.value;
        let refused = if value.starts_with("oci://") && !value.contains('@') && !value.contains("@sha256:") {
            Some((
                "not_supported_yet",
                "`oci://` sources are not supported yet",
                "pull the file and name its path",
            ))
        } else if value.starts_with("oci://") && value.split('/').nth(2).is_some_and(|host| host.contains('@'))
        {
            Some(("source_address", "a source carries no user or password", "use the registry's own login"))
        } else if value.starts_with("oci://") {
            Some((
                "not_supported_yet",
                "`oci://` sources are not supported yet",
                "pull the file and name its path",
            ))
        } else if value.contains("://") {
            Some(("source_scheme", "a source is a path relative to the manifest", "as in ./build/app.wasm"))
        } else if value.is_empty() || value.contains('\0') || value.len() > 1024 {
            Some(("source_address", "a source is a path relative to the manifest", "as in ./build/app.wasm"))
        } else if value.starts_with('/') {
            Some(("source_address", "an absolute path is another file on every machine", "write it relative"))
        } else {
            None
        };
        match refused {
            Some((reason, message, help)) => {
                self.push(Diagnostic::error(reason, field, message).at(place(text), "this source").help(help));
                None
            }
            None => Some(value.clone()),
        }
    }
}

pub(crate) fn place<T>(value: &Spanned<T>) -> Option<Range<usize>> {
    document::span(&value.referenced)
}

/// Checks all of a file; `found` is what its fields alone have shown.
pub(super) fn check(file: GraphFile, found: Vec<Diagnostic>) -> Result<Manifest, Vec<Diagnostic>> {
    let mut findings = Findings { found };
    let mut reading = Reading { sources: Vec::new(), places: BTreeMap::new() };
    if file.version.value != 1 {
        let message = format!("this version reads format 1, not {}", file.version.value);
        findings
            .push(Diagnostic::error("format_version", "version", message).at(place(&file.version), "write 1"));
    }
    reading.places.extend(place(&file.graph).map(|at| ("graph".to_owned(), at)));
    let graph = findings.read::<GraphName>("name", "graph", &file.graph);
    let namespace = match &file.namespace {
        Some(text) => findings.read("name", "namespace", text),
        None => Some(NamespaceName::default_namespace()),
    };
    too_many(&mut findings, file.components.len() + file.capabilities.len(), file.links.len());
    let wiring = wiring(&mut findings, file.wiring.as_ref());
    let names: BTreeSet<String> = file.components.keys().chain(file.capabilities.keys()).cloned().collect();
    let ingress = reading.ingress(&mut findings, file.ingress, &names);
    let links = reading.links(&mut findings, file.links, &names);
    let labels = findings.labels("labels", file.labels);
    if file.components.is_empty() {
        findings.push(Diagnostic::error("no_components", "components", "a graph has at least one component"));
    }
    let mut components = BTreeMap::new();
    for (name, entry) in file.components {
        if file.capabilities.contains_key(&name) {
            let message = format!("`{}` is both a component and a capability", shorten(&name));
            findings.push(
                Diagnostic::error("duplicate_component", format!("components.{name}"), message)
                    .at(place(&entry), "also a capability"),
            );
        }
        components.extend(reading.component(&mut findings, &name, entry));
    }
    let mut capabilities = BTreeMap::new();
    for (name, entry) in file.capabilities {
        capabilities.extend(reading.capability(&mut findings, &name, &entry));
    }
    match (graph, namespace) {
        (Some(graph), Some(namespace)) if findings.found.is_empty() => Ok(Manifest {
            key: GraphKey::new(namespace, graph),
            spec: GraphSpec { labels, wiring, ingress, components, capabilities, links },
            sources: reading.sources,
            places: reading.places,
        }),
        _ => {
            findings.found.sort_by_key(|diagnostic| diagnostic.span.as_ref().map_or(0, |span| span.start));
            Err(findings.found)
        }
    }
}

fn too_many(findings: &mut Findings, components: usize, links: usize) {
    for (what, count, most) in
        [("components and capabilities", components, COMPONENTS_MAX), ("links", links, LINKS_MAX)]
    {
        if count > most {
            let message = format!("a graph has at most {most} {what}, this one has {count}");
            findings.push(Diagnostic::error("graph_too_large", "graph", message));
        }
    }
}

fn wiring(findings: &mut Findings, text: Option<&Spanned<String>>) -> Wiring {
    match text.map(|text| (text, text.value.as_str())) {
        None | Some((_, "inferred")) => Wiring::Inferred,
        Some((_, "explicit")) => Wiring::Explicit,
        Some((text, _)) => {
            let message = "`wiring` is `inferred` or `explicit`";
            findings.push(Diagnostic::error("unknown_value", "wiring", message).at(place(text), "here"));
            Wiring::Inferred
        }
    }
}

struct Reading {
    sources: Vec<Source>,
    places: BTreeMap<String, Range<usize>>,
}

impl Reading {
    fn reference(
        &self,
        findings: &mut Findings,
        field: &str,
        text: &Spanned<String>,
        names: &BTreeSet<String>,
    ) -> Option<ComponentName> {
        if text.value.contains('/') {
            let message = "links to other graphs are not supported yet";
            findings
                .push(Diagnostic::error("not_supported_yet", field, message).at(place(text), "another graph"));
            return None;
        }
        let name = findings.read::<ComponentName>("name", field, text)?;
        if !names.contains(&text.value) {
            let message = format!("no component or capability named `{name}`");
            let mut diagnostic =
                Diagnostic::error("unknown_component", field, message).at(place(text), "used here");
            if let Some(near) = nearest(&text.value, names.iter().map(String::as_str)) {
                diagnostic = diagnostic.help(format!("did you mean `{near}`?"));
            }
            findings.push(diagnostic);
            return None;
        }
        Some(name)
    }

    fn ingress(
        &mut self,
        findings: &mut Findings,
        entries: Vec<Spanned<IngressEntry>>,
        names: &BTreeSet<String>,
    ) -> Vec<HttpRoute> {
        let mut routes: Vec<HttpRoute> = Vec::new();
        for (index, entry) in entries.into_iter().enumerate() {
            let field = format!("ingress.{index}");
            let at = place(&entry.value.to).or_else(|| place(&entry));
            self.places.extend(at.clone().map(|at| (field.clone(), at)));
            let to = self.reference(findings, &format!("{field}.to"), &entry.value.to, names);
            let http = entry.value.http.unwrap_or_default();
            let Some(route) = route(findings, &field, &http, to) else { continue };
            if routes.iter().any(|other| other.host == route.host && other.path == route.path) {
                let message = "two routes take the same host and path";
                findings.push(Diagnostic::error("duplicate_route", field, message).at(at, "the second one"));
                continue;
            }
            routes.push(route);
        }
        routes
    }

    fn links(
        &mut self,
        findings: &mut Findings,
        entries: Vec<Spanned<LinkEntry>>,
        names: &BTreeSet<String>,
    ) -> Vec<LinkSpec> {
        let mut links = Vec::new();
        for (index, entry) in entries.into_iter().enumerate() {
            let field = format!("links.{index}");
            self.places.extend(place(&entry.value.interface).map(|at| (field.clone(), at)));
            let from = self.reference(findings, &format!("{field}.from"), &entry.value.from, names);
            let to = self.reference(findings, &format!("{field}.to"), &entry.value.to, names);
            let interface = findings.read::<InterfacePattern>(
                "interface",
                &format!("{field}.interface"),
                &entry.value.interface,
            );
            if let (Some(from), Some(interface), Some(to)) = (from, interface, to) {
                links.push(LinkSpec { from, interface, to });
            }
        }
        links
    }

    fn component(
        &mut self,
        findings: &mut Findings,
        name: &str,
        entry: Spanned<ComponentEntry>,
    ) -> Option<(ComponentName, model::graph::ComponentSpec)> {
        let field = format!("components.{name}");
        let at = place(&entry.value.source);
        let owner = findings.key::<ComponentName>(&field, name, at.clone());
        self.places.extend(at.clone().map(|at| (field.clone(), at)));
        let entry = entry.value;
        let source_field = format!("{field}.source");
        let path = findings.source(&source_field, &entry.source);
        if let Some(digest) = &entry.digest {
            findings.read::<Digest>("digest", &format!("{field}.digest"), digest);
        }
        let labels = findings.labels(&format!("{field}.labels"), entry.labels);
        let settings = findings.settings(&field, entry.config, entry.variables, &entry.egress, &entry.limits);
        let owner = owner?;
        let source = Source {
            path: path?,
            kind: SourceKind::Component,
            field: source_field,
            span: at,
            owner: owner.clone(),
        };
        self.sources.push(source);
        Some((owner, unresolved(labels, settings)))
    }

    fn capability(
        &mut self,
        findings: &mut Findings,
        name: &str,
        entry: &Spanned<CapabilityEntry>,
    ) -> Option<(ComponentName, CapabilitySpec)> {
        let field = format!("capabilities.{name}");
        let at = place(&entry.value.kind);
        let owner = findings.key::<ComponentName>(&field, name, at.clone());
        self.places.extend(at.clone().map(|at| (field.clone(), at)));
        let entry = &entry.value;
        if entry.kind.value != "sqlite" {
            let message = format!("there is no capability type `{}`", shorten(&entry.kind.value));
            let diagnostic = Diagnostic::error("unknown_capability", format!("{field}.type"), message);
            findings.push(diagnostic.at(at, "here").help("types: sqlite"));
            return None;
        }
        let database = entry.database.as_ref().map_or("default", |text| text.value.as_str());
        if database.is_empty() || database.len() > 63 || database.chars().any(char::is_control) {
            let message = "a database's name has 1 to 63 characters";
            findings.push(
                Diagnostic::error("name", format!("{field}.database"), message)
                    .at(entry.database.as_ref().and_then(place), "here"),
            );
        }
        let owner = owner?;
        if let Some(seed) = &entry.seed {
            let field = format!("{field}.seed");
            let path = findings.source(&field, seed)?;
            let source =
                Source { path, kind: SourceKind::Script, field, span: place(seed), owner: owner.clone() };
            self.sources.push(source);
        }
        Some((owner, CapabilitySpec::Sqlite { database: database.to_owned(), seed: None }))
    }
}

fn route(
    findings: &mut Findings,
    field: &str,
    http: &HttpEntry,
    to: Option<ComponentName>,
) -> Option<HttpRoute> {
    let host = match &http.host {
        Some(text) => Some(findings.read::<Host>("route", &format!("{field}.http.host"), text)?),
        None => None,
    };
    let path = match &http.path {
        Some(text) => findings.read::<PathPrefix>("route", &format!("{field}.http.path"), text)?,
        None => PathPrefix::root(),
    };
    Some(HttpRoute { host, path, to: to? })
}
