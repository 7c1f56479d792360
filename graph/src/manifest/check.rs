//! What the shape cannot say: names, references, units and bounds. Every mistake is reported.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use model::graph::{
    CHECK_EVERY, CHECK_FAILURES, CHECK_TIMEOUT, CHECK_TIMEOUT_DEFAULT, COMPONENTS_MAX, CapabilitySpec, Check,
    CheckTerms, ComponentSpec, GraphSpec, LINKS_MAX, LinkSpec, OnIsolation, Settings, Wiring,
};
use model::id::GraphKey;
use model::interface::InterfacePattern;
use model::name::{ComponentName, GraphName, NamespaceName};
use model::placement::{LinkTerms, Locality, Requirements, Wishes};
use model::reserve::{PRIORITIES, Priority, RESERVED, Reserves};
use model::route::{Host, HttpRoute, PathPrefix};
use model::scale::Scaling;

use super::rollout::{duration, rollout};
use super::scale::{Scale, bounded, scale, within};
use super::shape::{
    CapabilityEntry, ComponentEntry, GraphFile, HealthEntry, HttpEntry, IngressEntry, LinkEntry,
    PlacementEntry, ScaleEntry,
};
use super::value::place;
use super::{Manifest, Source, SourceKind, unresolved};
use crate::diagnostic::{Diagnostic, Findings, nearest};
use crate::document::{Placed, Refused, Why, shorten};

/// The routes of one graph; each is compared with each.
const ROUTES_MAX: usize = 256;
/// The longest name of a database, as a guest opens it.
const DATABASE_MAX_BYTES: usize = 63;
/// What is known of capabilities and not made yet.
const LATER_CAPABILITIES: &[&str] = &["keyvalue", "blobstore", "messaging"];

const REQUIRE: &str = "use `placement.require` with the labels of a node";
const LINKS: &str =
    "a link goes to another node where `placement.require` says so, and a lost one traps its caller";

const BY_REQUEST: &str = "a node makes an instance for each request; `scale.replicas` says on how many nodes";
const IDLE: &str = "a node makes an instance for each request, and holds none of what nobody asks for";
const SCHEDULER: &str = "call the component from a scheduler over HTTP";

pub(super) const REFUSED: &[Refused] = &[
    not_yet("expose", "links between graphs come later"),
    not_yet("ingress.*.grpc", "use `http`"),
    not_yet("ingress.*.cron", SCHEDULER),
    not_yet("ingress.*.call", SCHEDULER),
    not_yet("components.*.secrets", ""),
    not_yet("components.*.env", "use `config` or `variables`"),
    not_yet("components.*.build", "build the component before you deploy"),
    renamed("components.*.scale.target-concurrency", "concurrency"),
    not_yet("components.*.scale.idle-to-zero", IDLE),
    renamed("components.*.replicas", "scale.replicas"),
    renamed("components.*.daemon", "scale.each-node"),
    not_yet("components.*.placement.spread", "replicas are in as many zones as there are, by the label `zone`"),
    not_yet("components.*.placement.near", REQUIRE),
    not_yet("components.*.placement.apart", REQUIRE),
    not_yet("components.*.placement.with", REQUIRE),
    not_yet("components.*.limits.instances-per-node", BY_REQUEST),
    renamed("components.*.outbound", "egress"),
    not_yet("capabilities.*.volume", "a database is kept by namespace, graph and capability"),
    not_yet("capabilities.*.placement.near", REQUIRE),
    not_yet("capabilities.*.placement.with", REQUIRE),
    not_yet("links.*.retry", LINKS),
    not_yet("links.*.stream", LINKS),
    not_yet("links.*.name", "a component imports an interface once"),
    not_yet("dev", ""),
];

const fn not_yet(path: &'static str, help: &'static str) -> Refused {
    Refused { path, why: Why::NotYet(help) }
}

const fn renamed(path: &'static str, name: &'static str) -> Refused {
    Refused { path, why: Why::Renamed(name) }
}

pub(super) const READ_ONLY: &[&str] = &["graph_uid", "graph-uid", "uid", "generation", "revision", "status"];

/// Checks all of a file; `findings` has what its fields alone have shown.
pub(super) fn check(file: GraphFile, mut findings: Findings) -> Result<Manifest, Vec<Diagnostic>> {
    if !fits(&mut findings, &file) {
        return Err(findings.into_diagnostics());
    }
    let mut reading = Reading::default();
    findings.format_version(&file.version);
    reading.places.extend(place(&file.graph).map(|at| ("graph".to_owned(), at)));
    let graph = findings.read::<GraphName>("name", "graph", &file.graph);
    let namespace = match &file.namespace {
        Some(text) => findings.read("name", "namespace", text),
        None => Some(NamespaceName::default_namespace()),
    };
    let options = [("inferred", Wiring::Inferred), ("explicit", Wiring::Explicit)];
    let wiring = findings.choice("wiring", file.wiring.as_ref(), &options, Wiring::Inferred);
    let names: BTreeSet<String> =
        file.components.value.keys().chain(file.capabilities.keys()).cloned().collect();
    let ingress = reading.ingress(&mut findings, file.ingress, &names);
    let links = reading.links(&mut findings, file.links, &names);
    let labels = findings.labels("labels", file.labels);
    let rollout = file.rollout.as_ref().map(|entry| rollout(&mut findings, entry));
    let priority = file.priority.as_ref();
    let priority = priority.and_then(|priority| bounded(&mut findings, "priority", priority, &PRIORITIES));
    let priority = priority.and_then(|priority| Priority::new(priority).ok()).unwrap_or_default();
    if file.components.value.is_empty() && !file.components.is_stand_in {
        let diagnostic = Diagnostic::error("no_components", "components", "a graph has at least one component");
        findings.push(diagnostic.at(place(&file.components), "none here"));
    }
    let mut components = BTreeMap::new();
    for (name, entry) in file.components.value {
        if file.capabilities.contains_key(&name) {
            let message = format!("`{}` is both a component and a capability", shorten(&name));
            let field = format!("components.{}", shorten(&name));
            let diagnostic = Diagnostic::error("duplicate_component", field, message);
            findings.push(diagnostic.at(place(&entry), "also a capability"));
        }
        components.extend(reading.component(&mut findings, &name, entry));
    }
    let mut capabilities = BTreeMap::new();
    for (name, entry) in file.capabilities {
        capabilities.extend(reading.capability(&mut findings, &name, entry));
    }
    match (graph, namespace) {
        (Some(graph), Some(namespace)) if findings.is_empty() => Ok(Manifest {
            key: GraphKey::new(namespace, graph),
            spec: GraphSpec {
                labels,
                wiring,
                ingress,
                components,
                capabilities,
                links,
                require: reading.require,
                replicas: reading.replicas,
                each_node: reading.each_node,
                scaling: reading.scaling,
                wishes: reading.wishes,
                // A priority is about nothing else.
                reserves: if reading.reserved.is_empty() {
                    Reserves::default()
                } else {
                    Reserves { priority, instances: reading.reserved }
                },
                rollout,
            },
            sources: reading.sources,
            places: reading.places,
        }),
        _ => Err(findings.into_diagnostics()),
    }
}

/// Whether the graph is small enough to look at the rest of it.
fn fits(findings: &mut Findings, file: &GraphFile) -> bool {
    let components = file.components.value.len() + file.capabilities.len();
    let counts = [
        ("components and capabilities", components, COMPONENTS_MAX, "components"),
        ("links", file.links.len(), LINKS_MAX, "links"),
        ("routes", file.ingress.len(), ROUTES_MAX, "ingress"),
    ];
    let too_many = counts.into_iter().filter(|(_, count, most, _)| count > most);
    let mut fits = true;
    for (what, count, most, field) in too_many {
        let message = format!("a graph has at most {most} {what}, this one has {count}");
        findings
            .push(Diagnostic::error("graph_too_large", field, message).at(place(&file.graph), "this graph"));
        fits = false;
    }
    fits
}

#[derive(Default)]
struct Reading {
    sources: Vec<Source>,
    places: BTreeMap<String, Range<usize>>,
    require: BTreeMap<ComponentName, Requirements>,
    replicas: BTreeMap<ComponentName, u32>,
    each_node: BTreeSet<ComponentName>,
    scaling: BTreeMap<ComponentName, Scaling>,
    wishes: BTreeMap<ComponentName, Wishes>,
    reserved: BTreeMap<ComponentName, u32>,
}

impl Reading {
    fn scale(
        &mut self,
        findings: &mut Findings,
        field: &str,
        entry: &ScaleEntry,
        owner: Option<&ComponentName>,
    ) {
        let scale = scale(findings, field, entry);
        let reserved = entry.reserved.as_ref();
        let reserved = reserved
            .and_then(|reserved| bounded(findings, &format!("{field}.scale.reserved"), reserved, &RESERVED));
        if let (Some(owner), Some(reserved)) = (owner, reserved) {
            self.reserved.insert(owner.clone(), reserved);
        }
        let Some(owner) = owner.cloned() else { return };
        match scale {
            Some(Scale::Calls(scaling)) => drop(self.scaling.insert(owner, scaling)),
            Some(Scale::EachNode) => drop(self.each_node.insert(owner)),
            Some(Scale::Replicas(replicas)) if replicas > 1 => drop(self.replicas.insert(owner, replicas)),
            Some(Scale::Replicas(_)) | None => {}
        }
    }

    fn placement(
        &mut self,
        findings: &mut Findings,
        field: &str,
        entry: PlacementEntry,
        owner: Option<&ComponentName>,
    ) {
        let field = format!("{field}.placement");
        let require = findings.conditions(&format!("{field}.require"), entry.require);
        let wishes = Wishes {
            prefer: findings.conditions(&format!("{field}.prefer"), entry.prefer),
            avoid: findings.conditions(&format!("{field}.avoid"), entry.avoid),
            tolerate: findings.labels(&format!("{field}.tolerate"), entry.tolerate),
        };
        let Some(owner) = owner else { return };
        if !require.is_empty() {
            self.require.insert(owner.clone(), require);
        }
        if !wishes.is_empty() {
            self.wishes.insert(owner.clone(), wishes);
        }
    }

    fn reference(
        &self,
        findings: &mut Findings,
        field: &str,
        text: &Placed<String>,
        names: &BTreeSet<String>,
    ) -> Option<ComponentName> {
        if text.value.contains('/') && !text.is_stand_in {
            let message = "links to other graphs are not supported yet";
            let diagnostic = Diagnostic::error("not_supported_yet", field, message);
            findings.push(diagnostic.at(place(text), "another graph"));
            return None;
        }
        let name = findings.read::<ComponentName>("name", field, text)?;
        if !names.contains(&text.value) {
            let message = format!("no component or capability named `{name}`");
            let diagnostic = Diagnostic::error("unknown_component", field, message);
            let mut diagnostic = diagnostic.at(place(text), "used here");
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
        entries: Vec<Placed<IngressEntry>>,
        names: &BTreeSet<String>,
    ) -> Vec<HttpRoute> {
        let mut routes: Vec<HttpRoute> = Vec::new();
        for (index, entry) in entries.into_iter().enumerate() {
            let field = format!("ingress.{index}");
            let at = place(&entry.value.to);
            self.places.extend(at.clone().map(|at| (field.clone(), at)));
            let to = self.reference(findings, &format!("{field}.to"), &entry.value.to, names);
            // Without `http`, it may be another kind of ingress, which was refused.
            let is_known = entry.value.http.is_some() || findings.is_empty();
            let http = entry.value.http.unwrap_or_default();
            let Some(route) = route(findings, &field, &http, to) else { continue };
            if is_known && routes.iter().any(|other| other.host == route.host && other.path == route.path) {
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
        entries: Vec<Placed<LinkEntry>>,
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
            // What is on one node is fused to one instance.
            let words = [
                ("any", Locality::Any),
                ("same-node", Locality::SameNode),
                ("same-instance", Locality::SameNode),
            ];
            let written = entry.value.locality.as_ref();
            let locality = findings.choice(&format!("{field}.locality"), written, &words, Locality::Any);
            let timeout = entry.value.timeout.as_ref();
            let timeout = timeout.and_then(|text| findings.deadline(&format!("{field}.timeout"), text));
            let on_loss = entry.value.on_loss.map(|entry| entry.error).filter(|error| !error.is_stand_in);
            let (on_loss, idempotent) = (on_loss.map(|error| error.value), entry.value.idempotent);
            let terms = LinkTerms { locality, timeout, on_loss, idempotent };
            if let (Some(from), Some(interface), Some(to)) = (from, interface, to) {
                links.push(LinkSpec { from, interface, to, terms });
            }
        }
        links
    }

    fn component(
        &mut self,
        findings: &mut Findings,
        name: &str,
        entry: Placed<ComponentEntry>,
    ) -> Option<(ComponentName, ComponentSpec)> {
        let field = format!("components.{}", shorten(name));
        let named = place(&entry);
        let owner = findings.key::<ComponentName>(&field, name, named.clone());
        let entry = entry.value;
        let span = place(&entry.source);
        self.places.extend(span.clone().map(|span| (field.clone(), span)));
        let source_field = format!("{field}.source");
        let path = findings.source(&source_field, &entry.source);
        let digest = entry.digest.as_ref();
        let digest = digest.and_then(|digest| findings.read("digest", &format!("{field}.digest"), digest));
        let labels = findings.labels(&format!("{field}.labels"), entry.labels);
        let (config, variables) = (entry.config, entry.variables);
        let settings = findings.settings(&field, config, variables, &entry.egress, &entry.limits, named);
        let check = entry.health.as_ref().and_then(|health| check_of(findings, &field, health));
        let terms = entry.health.as_ref().map(|health| check_terms(findings, &field, &health.value));
        let words = [("serve", OnIsolation::Serve), ("stop", OnIsolation::Stop)];
        let written = entry.on_isolation.as_ref();
        let on_isolation =
            findings.choice(&format!("{field}.on-isolation"), written, &words, OnIsolation::Serve);
        let check_terms = terms.unwrap_or_default();
        let settings = Settings { check, check_terms, on_isolation, ..settings };
        self.scale(findings, &field, &entry.scale, owner.as_ref());
        self.placement(findings, &field, entry.placement, owner.as_ref());
        let (owner, path, kind) = (owner?, path?, SourceKind::Component);
        self.sources.push(Source { path, kind, field: source_field, span, owner: owner.clone(), digest });
        Some((owner, unresolved(labels, settings)))
    }

    fn capability(
        &mut self,
        findings: &mut Findings,
        name: &str,
        entry: Placed<CapabilityEntry>,
    ) -> Option<(ComponentName, CapabilitySpec)> {
        let field = format!("capabilities.{}", shorten(name));
        let owner = findings.key::<ComponentName>(&field, name, place(&entry));
        let entry = entry.value;
        self.placement(findings, &field, entry.placement, owner.as_ref());
        self.places.extend(place(&entry.kind).map(|at| (field.clone(), at)));
        if !is_capability(findings, &format!("{field}.type"), &entry.kind) {
            return None;
        }
        let database = entry.database.as_ref().map_or("default", |text| text.value.as_str());
        let is_name = (1..=DATABASE_MAX_BYTES).contains(&database.len());
        if (!is_name || database.chars().any(char::is_control))
            && entry.database.as_ref().is_none_or(|text| !text.is_stand_in)
        {
            let message =
                format!("a database's name has 1 to {DATABASE_MAX_BYTES} bytes, and no control characters");
            let diagnostic = Diagnostic::error("name", format!("{field}.database"), message);
            findings.push(diagnostic.at(entry.database.as_ref().and_then(place), "here"));
        }
        let owner = owner?;
        if let Some(seed) = &entry.seed {
            let field = format!("{field}.seed");
            let path = findings.source(&field, seed)?;
            let (kind, span) = (SourceKind::Script, place(seed));
            self.sources.push(Source { path, kind, field, span, owner: owner.clone(), digest: None });
        }
        Some((owner, CapabilitySpec::Sqlite { database: database.to_owned(), seed: None }))
    }
}

/// How a component is checked; refuses one that is checked in no way, or in two.
fn check_of(findings: &mut Findings, field: &str, health: &Placed<HealthEntry>) -> Option<Check> {
    match (&health.value.http, &health.value.call) {
        (Some(path), None) => {
            let path = findings.read::<PathPrefix>("route", &format!("{field}.health.http"), path)?;
            Some(Check::Http(path))
        }
        (None, Some(call)) => {
            let field = format!("{field}.health.call");
            let (interface, function) = call.value.split_once('#').unwrap_or((&call.value, ""));
            match interface.parse::<InterfacePattern>() {
                Ok(interface) if !function.is_empty() => {
                    Some(Check::Call { interface, function: function.to_owned() })
                }
                _ if call.is_stand_in => None,
                _ => {
                    let message = "a check by a call is written `ns:pkg/interface#function`";
                    findings.push(Diagnostic::error("interface", field, message).at(place(call), "here"));
                    None
                }
            }
        }
        (None, None) | (Some(_), Some(_)) => {
            let message = "a check is either a `call` or an `http` path";
            let diagnostic = Diagnostic::error("wrong_type", format!("{field}.health"), message);
            findings.push(diagnostic.at(place(health), "this check"));
            None
        }
    }
}

/// How long a check may take, and how often it is made again. What is wrong is reported, and something else is in its place.
fn check_terms(findings: &mut Findings, field: &str, health: &HealthEntry) -> CheckTerms {
    let field = format!("{field}.health");
    let HealthEntry { every, failures, timeout, .. } = health;
    let mut read = |name: &str, text: &Option<Placed<String>>, bounds| {
        duration(findings, &format!("{field}.{name}"), text.as_ref()?, bounds, None)
    };
    let timeout = read("timeout", timeout, &CHECK_TIMEOUT).unwrap_or(CHECK_TIMEOUT_DEFAULT);
    let often = read("every", every, &CHECK_EVERY);
    let Some(written) = failures.as_ref().filter(|written| !written.is_stand_in) else {
        return CheckTerms { timeout, every: often, ..CheckTerms::default() };
    };
    let (least, most) = (CHECK_FAILURES.start(), CHECK_FAILURES.end());
    let message =
        || format!("a component fails after {least} to {most} failures in a row, not {}", written.value);
    let bounded = within(findings, &format!("{field}.failures"), written, &CHECK_FAILURES, message);
    if bounded.is_some() && every.is_none() {
        let message =
            "before a revision takes over, one failure is enough: `failures` counts those of what serves";
        let diagnostic = Diagnostic::error("wrong_type", format!("{field}.failures"), message);
        let diagnostic = diagnostic.at(place(written), "without `every`");
        findings.push(diagnostic.help("say by `every` how often it is asked while it serves"));
    }
    CheckTerms { timeout, every: often, failures: written.value }
}

fn is_capability(findings: &mut Findings, field: &str, kind: &Placed<String>) -> bool {
    if kind.is_stand_in || kind.value == "sqlite" {
        return !kind.is_stand_in;
    }
    let shown = shorten(&kind.value);
    let diagnostic = if LATER_CAPABILITIES.contains(&kind.value.as_str()) {
        Diagnostic::error("not_supported_yet", field, format!("capability type `{shown}` is not supported yet"))
    } else {
        Diagnostic::error("unknown_capability", field, format!("there is no capability type `{shown}`"))
    };
    findings.push(diagnostic.at(place(kind), "this type").help("types: sqlite"));
    false
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
