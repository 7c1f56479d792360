//! `policy.yaml`: from text to a [`PolicySpec`].

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::str::FromStr;

use model::graph::{Artifact, Settings};
use model::interface::InterfacePattern;
use model::name::{NameError, PolicyName};
use model::policy::{Action, Exception, Interposed, Mode, OnFailure, Order, Phase, PolicySpec, Selector};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::diagnostic::{Diagnostic, Findings};
use crate::document::{self, Placed, Refused, Rules, Why, shorten};
use crate::manifest::condition::ConditionValue;
use crate::manifest::rollout::{self, rollout};
use crate::manifest::shape::{LimitsEntry, RolloutEntry};
use crate::manifest::value::place;

/// The components one policy puts on a link.
const INTERPOSED_MAX: usize = 8;

/// The longest reason of a `deny`, which is shown wherever the link is refused.
const DENY_MAX_BYTES: usize = 256;

const REQUIRE: &str = "a policy runs beside its caller, or where `placement.require` says";

const REFUSED: &[Refused] = &[
    not_yet("match.to", "select by `interface` and by who imports"),
    not_yet("interpose.*.run", "a policy runs beside its caller"),
    not_yet("interpose.*.secrets", ""),
    not_yet("interpose.*.placement.prefer", REQUIRE),
    not_yet("interpose.*.placement.avoid", REQUIRE),
    not_yet("interpose.*.placement.tolerate", "a policy's component is not kept off by taints"),
    not_yet("interpose.*.placement.with", "without `placement.require`, a policy runs beside its caller"),
    Refused { path: "interpose.*.outbound", why: Why::Renamed("egress") },
    Refused { path: "interpose.*.source", why: Why::Renamed("component") },
    not_yet("when", "select by labels"),
];

const fn not_yet(path: &'static str, help: &'static str) -> Refused {
    Refused { path, why: Why::NotYet(help) }
}

/// A policy: puts components of the platform on every link that matches, or forbids the link.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(title = "policy.yaml")]
pub struct PolicyFile {
    /// The version of this format: 1.
    #[schemars(extend("const" = 1))]
    pub version: Placed<u32>,
    /// The policy's name, unique in the cluster.
    pub policy: Placed<String>,
    /// Which links; every part must match.
    #[serde(rename = "match")]
    pub selector: MatchEntry,
    /// The components to put on the link, the first next to the caller.
    #[serde(default)]
    pub interpose: Vec<Placed<InterposeEntry>>,
    /// In place of `interpose`: the link is forbidden, with this reason.
    pub deny: Option<Placed<String>>,
    /// The place in the chain.
    #[serde(default)]
    pub order: OrderEntry,
    /// Whether a graph is refused if the policy cannot stand on its link, whatever `on-failure` says.
    pub mandatory: Option<Placed<bool>>,
    /// `closed`: a graph is refused if the policy cannot stand on its link. `open`: the link stays as it is.
    #[schemars(extend("enum" = ["closed", "open"]))]
    pub on_failure: Option<Placed<String>>,
    /// `enforce`, `audit` (shown in plans, without effect) or `off`.
    #[schemars(extend("enum" = ["enforce", "audit", "off"]))]
    pub mode: Option<Placed<String>>,
    /// How a new version takes over from the one in force: by steps. Each graph that it concerns is linked with it, beside
    /// what the graph is, and that answers the share of its requests; a version that does worse on one of them, or does not
    /// come up there, is given up for all. What is said here of revisions goes for versions. If it is left out, a new version is
    /// in force at once, losing no request.
    pub rollout: Option<RolloutEntry>,
}

/// Which links.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MatchEntry {
    /// `ns:pkg/interface@version` or `ns:pkg/*`.
    pub interface: Placed<String>,
    /// Who imports.
    #[serde(default)]
    pub from: FromEntry,
    /// Importers that are left alone: `namespace/graph` or `namespace/graph/component`.
    #[serde(default)]
    pub except: Vec<Placed<String>>,
}

/// Who imports.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FromEntry {
    /// Labels of the component or its graph; every pair must be there.
    #[serde(default)]
    pub labels: BTreeMap<String, Placed<String>>,
    /// Namespaces; all if left out.
    #[serde(default)]
    pub namespaces: Vec<Placed<String>>,
    /// Graphs; all if left out.
    #[serde(default)]
    pub graphs: Vec<Placed<String>>,
}

/// A component of the platform.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct InterposeEntry {
    /// The wasm file, relative to the policy's file. It exports and imports the matched interface.
    pub component: Placed<String>,
    /// Read by the component through `wasi:config/store`.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
    /// Read by the component through `fermyon:spin/variables`.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// Where its HTTP requests may go.
    #[serde(default)]
    pub egress: Vec<Placed<String>>,
    /// How much it may use.
    #[serde(default)]
    pub limits: LimitsEntry,
    /// Where it may run; beside its caller if nothing is required.
    #[serde(default)]
    pub placement: PlacementEntry,
}

/// Where a policy's component may run.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PlacementEntry {
    /// What its node must be like: labels, each with its value or a condition, as in `zone: {in: [eu-1, eu-2]}`. Every node
    /// has by itself the label `node`, its name, and the attributes `weft.version`, `weft.cpus` and `weft.memory`.
    #[serde(default)]
    pub require: BTreeMap<String, Placed<ConditionValue>>,
}

/// The place in the chain.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct OrderEntry {
    /// `authn`, `authz`, `inspect` or `observe`, from the caller on; `inspect` if left out.
    #[schemars(extend("enum" = ["authn", "authz", "inspect", "observe"]))]
    pub phase: Option<Placed<String>>,
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
    let rules = Rules {
        schema: &crate::schema::POLICY,
        refused: &[REFUSED, rollout::REFUSED],
        read_only: &["generation", "status", "uid"],
        components: &[],
    };
    let mut findings = Findings::default();
    match document::read::<PolicyFile>(bytes, &rules, &mut findings) {
        Some(file) => check(file, findings),
        None => Err(findings.into_diagnostics()),
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

fn check(file: PolicyFile, mut findings: Findings) -> Result<PolicyManifest, Vec<Diagnostic>> {
    findings.format_version(&file.version);
    let name = findings.read::<PolicyName>("name", "policy", &file.policy);
    let selector = selector(&mut findings, file.selector);
    let mut sources = Vec::new();
    let action = action(&mut findings, &file.policy, file.deny.as_ref(), file.interpose, &mut sources);
    let phases = [
        ("authn", Phase::Authn),
        ("authz", Phase::Authz),
        ("inspect", Phase::Inspect),
        ("observe", Phase::Observe),
    ];
    let phase = findings.choice("order.phase", file.order.phase.as_ref(), &phases, Phase::Inspect);
    let order = Order { phase, priority: file.order.priority };
    let ways = [("closed", OnFailure::Closed), ("open", OnFailure::Open)];
    let on_failure = findings.choice("on-failure", file.on_failure.as_ref(), &ways, OnFailure::Closed);
    let modes = [("enforce", Mode::Enforce), ("audit", Mode::Audit), ("off", Mode::Off)];
    let mode = findings.choice("mode", file.mode.as_ref(), &modes, Mode::Enforce);
    let mandatory = file.mandatory.as_ref().is_some_and(|mandatory| mandatory.value);
    if mandatory && on_failure == OnFailure::Open {
        let message = "a mandatory policy cannot be open on failure";
        let diagnostic = Diagnostic::error("policy_open_mandatory", "on-failure", message);
        findings.push(diagnostic.at(file.on_failure.as_ref().and_then(place), "write `closed`"));
    }
    let rollout = file.rollout.as_ref().map(|entry| rollout(&mut findings, entry));
    match (name, selector, action) {
        (Some(name), Some(selector), Some(action)) if findings.is_empty() => Ok(PolicyManifest {
            spec: PolicySpec { name, selector, action, order, mandatory, on_failure, mode, rollout },
            sources,
        }),
        _ => Err(findings.into_diagnostics()),
    }
}

fn action(
    findings: &mut Findings,
    policy: &Placed<String>,
    deny: Option<&Placed<String>>,
    interpose: Vec<Placed<InterposeEntry>>,
    sources: &mut Vec<PolicySource>,
) -> Option<Action> {
    match (deny, interpose.is_empty()) {
        (Some(reason), true) => {
            let is_sentence = (1..=DENY_MAX_BYTES).contains(&reason.value.len());
            if !reason.is_stand_in && (!is_sentence || reason.value.chars().any(char::is_control)) {
                let message = format!("`deny` says why, in 1 to {DENY_MAX_BYTES} bytes on one line");
                findings.push(Diagnostic::error("policy_action", "deny", message).at(place(reason), "here"));
            }
            Some(Action::Deny(reason.value.clone()))
        }
        (None, false) => Some(Action::Interpose(interposed(findings, interpose, sources))),
        (Some(_), false) | (None, true) => {
            let message = "a policy has either `interpose` or `deny`";
            let at = deny.or(Some(policy)).and_then(place);
            findings.push(Diagnostic::error("policy_action", "interpose", message).at(at, "this policy"));
            None
        }
    }
}

fn selector(findings: &mut Findings, entry: MatchEntry) -> Option<Selector> {
    let interface = findings.read::<InterfacePattern>("interface", "match.interface", &entry.interface);
    let namespaces = names(findings, "match.from.namespaces", &entry.from.namespaces);
    let graphs = names(findings, "match.from.graphs", &entry.from.graphs);
    let labels = findings.labels("match.from.labels", entry.from.labels);
    let except = entry.except.iter().enumerate();
    let except = except.filter_map(|(index, text)| exception(findings, index, text)).collect();
    Some(Selector { interface: interface?, namespaces, graphs, labels, except })
}

fn names<T: FromStr<Err = NameError> + Ord>(
    findings: &mut Findings,
    field: &str,
    texts: &[Placed<String>],
) -> BTreeSet<T> {
    let texts = texts.iter().enumerate();
    texts.filter_map(|(index, text)| findings.read("name", &format!("{field}.{index}"), text)).collect()
}

fn exception(findings: &mut Findings, index: usize, text: &Placed<String>) -> Option<Exception> {
    if text.is_stand_in {
        return None;
    }
    let parts: Vec<&str> = text.value.split('/').collect();
    let read = || -> Result<Exception, NameError> {
        match parts[..] {
            [namespace, graph] => {
                Ok(Exception { namespace: namespace.parse()?, graph: graph.parse()?, component: None })
            }
            [namespace, graph, component] => Ok(Exception {
                namespace: namespace.parse()?,
                graph: graph.parse()?,
                component: Some(component.parse()?),
            }),
            _ => Err(NameError::Empty),
        }
    };
    let found = read().ok();
    if found.is_none() {
        let message = "an exception is written `namespace/graph` or `namespace/graph/component`";
        let diagnostic = Diagnostic::error("name", format!("match.except.{index}"), message);
        findings.push(diagnostic.at(place(text), "here"));
    }
    found
}

fn interposed(
    findings: &mut Findings,
    entries: Vec<Placed<InterposeEntry>>,
    sources: &mut Vec<PolicySource>,
) -> Vec<Interposed> {
    if entries.len() > INTERPOSED_MAX {
        let message = format!("a policy puts at most {INTERPOSED_MAX} components on a link");
        let at = entries.get(INTERPOSED_MAX).and_then(place);
        findings.push(Diagnostic::error("policy_action", "interpose", message).at(at, "one too many"));
    }
    let mut components = Vec::new();
    for (index, entry) in entries.into_iter().enumerate() {
        let field = format!("interpose.{index}");
        let at = place(&entry);
        let entry = entry.value;
        let settings: Settings =
            findings.settings(&field, entry.config, entry.variables, &entry.egress, &entry.limits, at);
        let require = findings.conditions(&format!("{field}.placement.require"), entry.placement.require);
        let field = format!("{field}.component");
        let Some(path) = findings.source(&field, &entry.component) else { continue };
        sources.push(PolicySource { path, field, span: place(&entry.component) });
        let artifact = Artifact { digest: model::digest::Digest::from_bytes([0; 32]), size: 0 };
        components.push(Interposed { artifact, settings, require });
    }
    components
}
