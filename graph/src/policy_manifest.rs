//! `policy.yaml`: from text to a [`PolicySpec`].

use std::collections::BTreeMap;
use std::ops::Range;

use model::graph::{Artifact, Settings};
use model::interface::InterfacePattern;
use model::name::PolicyName;
use model::policy::{Action, Exception, Interposed, Mode, OnFailure, Order, Phase, PolicySpec, Selector};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::diagnostic::Diagnostic;
use crate::document::{self, Later, Node, shorten};
use crate::manifest::check::{Findings, place};
use crate::manifest::shape::LimitsEntry;

/// The components one policy puts on a link.
const INTERPOSED_MAX: usize = 8;

const LATER: &[Later] = &[
    Later { path: "match.to", help: "select by `interface` and by who imports" },
    Later { path: "interpose.*.run", help: "a policy runs beside its caller" },
    Later { path: "interpose.*.secrets", help: "" },
    Later { path: "rollout", help: "a policy is in force at once, losing no request" },
    Later { path: "when", help: "select by labels" },
];

/// A policy: puts components of the platform on every link that matches, or forbids the link.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PolicyFile {
    /// The version of this format: 1.
    #[schemars(with = "u32")]
    pub version: Spanned<u32>,
    /// The policy's name, unique in the cluster.
    #[schemars(with = "String")]
    pub policy: Spanned<String>,
    /// Which links; every part must match.
    #[serde(rename = "match")]
    pub selector: MatchEntry,
    /// The components to put on the link, the first next to the caller.
    #[serde(default)]
    #[schemars(with = "Vec<InterposeEntry>")]
    pub interpose: Vec<Spanned<InterposeEntry>>,
    /// In place of `interpose`: the link is forbidden, with this reason.
    pub deny: Option<String>,
    /// The place in the chain.
    #[serde(default)]
    pub order: OrderEntry,
    /// Whether a graph is refused if the policy cannot stand on its link, whatever `on-failure` says.
    #[schemars(with = "Option<bool>")]
    pub mandatory: Option<Spanned<bool>>,
    /// `closed`: a graph is refused if the policy cannot stand on its link. `open`: the link stays as it is.
    #[schemars(with = "Option<String>")]
    pub on_failure: Option<Spanned<String>>,
    /// `enforce`, `audit` (shown in plans, without effect) or `off`.
    #[schemars(with = "Option<String>")]
    pub mode: Option<Spanned<String>>,
}

/// Which links.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct MatchEntry {
    /// `ns:pkg/interface@version` or `ns:pkg/*`.
    #[schemars(with = "String")]
    pub interface: Spanned<String>,
    /// Who imports.
    #[serde(default)]
    pub from: FromEntry,
    /// Importers that are left alone: `namespace/graph` or `namespace/graph/component`.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub except: Vec<Spanned<String>>,
}

/// Who imports.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct FromEntry {
    /// Labels of the component or its graph; every pair must be there.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub labels: BTreeMap<String, Spanned<String>>,
    /// Namespaces; all if left out.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub namespaces: Vec<Spanned<String>>,
    /// Graphs; all if left out.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub graphs: Vec<Spanned<String>>,
}

/// A component of the platform.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct InterposeEntry {
    /// The wasm file, relative to the policy's file. It exports and imports the matched interface.
    #[schemars(with = "String")]
    pub component: Spanned<String>,
    /// Read by the component through `wasi:config/store`.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
    /// Read by the component through `fermyon:spin/variables`.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// Where its HTTP requests may go.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub egress: Vec<Spanned<String>>,
    /// How much it may use.
    #[serde(default)]
    pub limits: LimitsEntry,
}

/// The place in the chain.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct OrderEntry {
    /// `authn`, `authz`, `inspect` or `observe`, from the caller on; `inspect` if left out.
    #[schemars(with = "Option<String>")]
    pub phase: Option<Spanned<String>>,
    /// Higher is nearer to the caller within a phase; 0 if left out.
    #[serde(default)]
    pub priority: i32,
}

/// A checked policy whose sources are still names of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyManifest {
    spec: PolicySpec,
    sources: Vec<PolicySource>,
}

/// A file that a policy names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicySource {
    /// As written; relative to the policy's file.
    pub path: String,
    /// The path in the document.
    pub field: String,
    /// Bytes of the document.
    pub span: Option<Range<usize>>,
}

/// Reads a policy, or says everything that is wrong with it.
pub fn parse(bytes: &[u8]) -> Result<PolicyManifest, Vec<Diagnostic>> {
    let text = document::read_text(bytes).map_err(|diagnostic| vec![diagnostic])?;
    let tree: Spanned<Node> = document::read(text).map_err(|diagnostic| vec![diagnostic])?;
    let mut found =
        document::check_fields(&tree, &crate::schema::policy_schema(), LATER, &["generation", "status"]);
    match document::read::<PolicyFile>(text) {
        Ok(file) => check(file, found),
        Err(diagnostic) => {
            found.push(diagnostic);
            Err(found)
        }
    }
}

impl PolicyManifest {
    /// The policy's name.
    pub const fn name(&self) -> &PolicyName {
        &self.spec.name
    }

    /// The files that must be there before the policy can be resolved.
    pub fn sources(&self) -> &[PolicySource] {
        &self.sources
    }

    /// The spec, with each source's artifact.
    pub fn resolve(&self, artifacts: &BTreeMap<String, Artifact>) -> Result<PolicySpec, Vec<Diagnostic>> {
        let mut spec = self.spec.clone();
        let mut missing = Vec::new();
        if let Action::Interpose(components) = &mut spec.action {
            for (source, component) in self.sources.iter().zip(components) {
                match artifacts.get(&source.path) {
                    Some(artifact) => component.artifact = *artifact,
                    None => {
                        let message = format!("no artifact was given for `{}`", shorten(&source.path));
                        let diagnostic = Diagnostic::error("missing_artifact", source.field.clone(), message);
                        missing.push(diagnostic.at(source.span.clone(), "this component"));
                    }
                }
            }
        }
        if missing.is_empty() { Ok(spec) } else { Err(missing) }
    }
}

fn check(file: PolicyFile, found: Vec<Diagnostic>) -> Result<PolicyManifest, Vec<Diagnostic>> {
    let mut findings = Findings { found };
    if file.version.value != 1 {
        let message = format!("this version reads format 1, not {}", file.version.value);
        findings
            .push(Diagnostic::error("format_version", "version", message).at(place(&file.version), "write 1"));
    }
    let name = findings.read::<PolicyName>("name", "policy", &file.policy);
    let selector = selector(&mut findings, file.selector);
    let mut sources = Vec::new();
    let action = match (file.deny, file.interpose.is_empty()) {
        (Some(reason), true) => Action::Deny(reason),
        (None, false) => Action::Interpose(interposed(&mut findings, file.interpose, &mut sources)),
        (Some(_), false) | (None, true) => {
            let message = "a policy has either `interpose` or `deny`";
            findings.push(
                Diagnostic::error("policy_action", "interpose", message).at(place(&file.policy), "this policy"),
            );
            Action::Deny(String::new())
        }
    };
    let order = Order { phase: phase(&mut findings, file.order.phase.as_ref()), priority: file.order.priority };
    let on_failure = choice(
        &mut findings,
        "on-failure",
        file.on_failure.as_ref(),
        &[("closed", OnFailure::Closed), ("open", OnFailure::Open)],
    );
    let mode = choice(
        &mut findings,
        "mode",
        file.mode.as_ref(),
        &[("enforce", Mode::Enforce), ("audit", Mode::Audit), ("off", Mode::Off)],
    );
    let mandatory = file.mandatory.as_ref().is_some_and(|mandatory| mandatory.value);
    if mandatory && on_failure == OnFailure::Open {
        let message = "a mandatory policy cannot be open on failure";
        let at = file.on_failure.as_ref().and_then(place);
        findings
            .push(Diagnostic::error("policy_open_mandatory", "on-failure", message).at(at, "write `closed`"));
    }
    match (name, selector) {
        (Some(name), Some(selector)) if findings.found.is_empty() => Ok(PolicyManifest {
            spec: PolicySpec { name, selector, action, order, mandatory, on_failure, mode },
            sources,
        }),
        _ => Err(findings.found),
    }
}

fn choice<T: Copy + Default>(
    findings: &mut Findings,
    field: &str,
    text: Option<&Spanned<String>>,
    options: &[(&str, T)],
) -> T {
    let Some(text) = text else { return T::default() };
    if let Some((_, value)) = options.iter().find(|(word, _)| *word == text.value) {
        return *value;
    }
    let words: Vec<&str> = options.iter().map(|(word, _)| *word).collect();
    let message = format!("`{field}` is one of: {}", words.join(", "));
    findings.push(Diagnostic::error("unknown_value", field, message).at(place(text), "here"));
    T::default()
}

fn phase(findings: &mut Findings, text: Option<&Spanned<String>>) -> Phase {
    #[derive(Clone, Copy)]
    struct Chosen(Phase);
    impl Default for Chosen {
        fn default() -> Self {
            Self(Phase::Inspect)
        }
    }
    let options = [
        ("authn", Chosen(Phase::Authn)),
        ("authz", Chosen(Phase::Authz)),
        ("inspect", Chosen(Phase::Inspect)),
        ("observe", Chosen(Phase::Observe)),
    ];
    choice(findings, "order.phase", text, &options).0
}

fn selector(findings: &mut Findings, entry: MatchEntry) -> Option<Selector> {
    let interface = findings.read::<InterfacePattern>("interface", "match.interface", &entry.interface);
    let namespaces = entry.from.namespaces.iter();
    let namespaces =
        namespaces.filter_map(|text| findings.read("name", "match.from.namespaces", text)).collect();
    let graphs = entry.from.graphs.iter();
    let graphs = graphs.filter_map(|text| findings.read("name", "match.from.graphs", text)).collect();
    let labels = findings.labels("match.from.labels", entry.from.labels);
    let except = entry.except.iter().filter_map(|text| exception(findings, text)).collect();
    Some(Selector { interface: interface?, namespaces, graphs, labels, except })
}

fn exception(findings: &mut Findings, text: &Spanned<String>) -> Option<Exception> {
    let parts: Vec<&str> = text.value.split('/').collect();
    let read = || -> Result<Exception, model::name::NameError> {
        match parts[..] {
            [namespace, graph] => {
                Ok(Exception { namespace: namespace.parse()?, graph: graph.parse()?, component: None })
            }
            [namespace, graph, component] => Ok(Exception {
                namespace: namespace.parse()?,
                graph: graph.parse()?,
                component: Some(component.parse()?),
            }),
            _ => Err(model::name::NameError::Empty),
        }
    };
    read()
        .map_err(|_| {
            let message = "an exception is written `namespace/graph` or `namespace/graph/component`";
            findings.push(Diagnostic::error("name", "match.except", message).at(place(text), "here"));
        })
        .ok()
}

fn interposed(
    findings: &mut Findings,
    entries: Vec<Spanned<InterposeEntry>>,
    sources: &mut Vec<PolicySource>,
) -> Vec<Interposed> {
    if entries.len() > INTERPOSED_MAX {
        let message = format!("a policy puts at most {INTERPOSED_MAX} components on a link");
        findings.push(Diagnostic::error("policy_action", "interpose", message));
    }
    let mut components = Vec::new();
    for (index, entry) in entries.into_iter().enumerate() {
        let field = format!("interpose.{index}");
        let entry = entry.value;
        let settings: Settings =
            findings.settings(&field, entry.config, entry.variables, &entry.egress, &entry.limits);
        let field = format!("{field}.component");
        let Some(path) = findings.source(&field, &entry.component) else { continue };
        sources.push(PolicySource { path, field, span: place(&entry.component) });
        let artifact = Artifact { digest: model::digest::Digest::from_bytes([0; 32]), size: 0 };
        components.push(Interposed { artifact, settings });
    }
    components
}
