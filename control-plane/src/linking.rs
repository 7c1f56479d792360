//! From manifests to linked graphs with what this member stores: artifacts, their types, the policies of a state.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use cluster::state::{GraphRecord, PolicyRecord, PolicyVersionRecord};
use cluster::{State, schedule};
use graph::diagnostic::{Diagnostic, Place};
use graph::interface::{self, ComponentType};
use graph::link::{self, Finding, Linked, PolicyInForce, Types};
use graph::manifest::{Manifest, SourceKind};
use model::digest::Digest;
use model::graph::{Artifact, GraphSpec};
use model::id::{Generation, GraphKey};
use model::linked::LinkedGraph;
use model::name::PolicyName;
use model::policy::{Action, PolicySpec};
use model::rollout::Phase;
use model::route::HttpRoute;

use crate::artifacts::{ArtifactError, ArtifactStore};

/// Types that are kept; reading one again takes milliseconds.
const TYPES_KEPT: usize = 4_096;

/// Links graphs; a cheap handle.
#[derive(Debug, Clone)]
pub struct Linker {
    artifacts: ArtifactStore,
    types: Arc<Mutex<Types>>,
}

/// A manifest that was checked and linked.
#[derive(Debug, Clone)]
pub struct CheckedGraph {
    /// The graph's full name.
    pub key: GraphKey,
    /// What the manifest says.
    pub spec: GraphSpec,
    /// The graph as linked.
    pub linked: Linked,
}

/// A policy that was checked.
#[derive(Debug, Clone)]
pub struct CheckedPolicy {
    /// What the manifest says.
    pub spec: PolicySpec,
}

/// Why a manifest is refused: everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The mistakes.
    pub diagnostics: Vec<Diagnostic>,
}

impl From<Vec<Diagnostic>> for Refused {
    fn from(diagnostics: Vec<Diagnostic>) -> Self {
        Self { diagnostics }
    }
}

impl Linker {
    /// A linker over stored artifacts.
    pub fn new(artifacts: ArtifactStore) -> Self {
        Self { artifacts, types: Arc::default() }
    }

    /// Checks and links a manifest against the policies of `state`. Reads files: not for async workers.
    pub fn check_graph(
        &self,
        manifest: &str,
        artifacts: &BTreeMap<String, Artifact>,
        state: &State,
    ) -> Result<CheckedGraph, Refused> {
        let manifest = graph::manifest::parse(manifest.as_bytes())?;
        let spec = manifest.resolve(artifacts)?;
        let unread = self.unreadable(&manifest, artifacts);
        if !unread.is_empty() {
            return Err(unread.into());
        }
        let refused = |findings: Vec<Finding>| Refused { diagnostics: locate(&manifest, &findings) };
        let policies = PolicySets::of(state);
        let linked = self.link(manifest.key(), &spec, &policies.in_force).map_err(refused)?;
        let mut impossible = taken_routes(&manifest, &spec, state);
        impossible.extend(unschedulable(manifest.key(), &linked.graph, state));
        if state.policies.values().any(|policy| policy.rollout.is_some()) {
            // It would stand in the way of what takes over, or not have it.
            let next = self.link(manifest.key(), &spec, &policies.next).map_err(refused)?;
            impossible.extend(unschedulable(manifest.key(), &next.graph, state));
        }
        if !impossible.is_empty() {
            return Err(Refused { diagnostics: locate(&manifest, &impossible) });
        }
        Ok(CheckedGraph { key: manifest.key().clone(), spec, linked })
    }

    /// Checks a policy by itself. Reads files: not for async workers.
    pub fn check_policy(
        &self,
        manifest: &str,
        artifacts: &BTreeMap<String, Artifact>,
    ) -> Result<CheckedPolicy, Refused> {
        let manifest = graph::policy_manifest::parse(manifest.as_bytes())?;
        let spec = manifest.resolve(artifacts)?;
        let mut unread = Vec::new();
        for source in manifest.sources() {
            let Some(artifact) = artifacts.get(&source.path) else { continue };
            let read = self.stored(artifact).and_then(|()| self.type_of(&artifact.digest));
            if let Err((reason, message)) = read {
                let diagnostic = Diagnostic::error(reason, source.field.clone(), message);
                unread.push(diagnostic.at(source.span.clone(), "this component"));
            }
        }
        if !unread.is_empty() {
            return Err(unread.into());
        }
        let types = self.types(digests_of(&spec)).map_err(|what| single("missing_artifact", what))?;
        link::check_policy(&spec, &types).map_err(|findings| {
            let show =
                |finding: &Finding| Diagnostic::error(finding.reason, "interpose", finding.message.clone());
            Refused { diagnostics: findings.iter().map(show).collect() }
        })?;
        Ok(CheckedPolicy { spec })
    }

    /// Links a graph with given policies.
    pub fn link(
        &self,
        key: &GraphKey,
        spec: &GraphSpec,
        policies: &[PolicyInForce],
    ) -> Result<Linked, Vec<Finding>> {
        let components = spec.components.values().map(|component| component.artifact.digest);
        let interposed = policies.iter().flat_map(|policy| digests_of(&policy.spec));
        let types = self.types(components.chain(interposed)).map_err(|what| {
            vec![Finding { reason: "missing_artifact", message: what, place: Place::Graph, help: None }]
        })?;
        link::link(key, spec, &types, policies)
    }

    fn types(&self, digests: impl IntoIterator<Item = Digest>) -> Result<Types, String> {
        let mut types = Types::new();
        for digest in digests {
            let found = self.type_of(&digest).map_err(|(_, message)| message)?;
            types.insert(digest, found);
        }
        Ok(types)
    }

    fn type_of(&self, digest: &Digest) -> Result<Arc<ComponentType>, (&'static str, String)> {
        let kept = self.types.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned();
        if let Some(kept) = kept {
            return Ok(kept);
        }
        let bytes = self.artifacts.read(digest).map_err(|error| (reason_of(&error), error.to_string()))?;
        let found = interface::read(&bytes).map_err(|error| (error.reason, error.message))?;
        let found = Arc::new(found);
        let mut types = self.types.lock().unwrap_or_else(PoisonError::into_inner);
        if types.len() >= TYPES_KEPT {
            types.clear();
        }
        types.insert(*digest, found.clone());
        Ok(found)
    }

    /// Refuses an artifact that is not stored, or not with this size: nodes would wait for bytes that never come.
    fn stored(&self, artifact: &Artifact) -> Result<(), (&'static str, String)> {
        let Artifact { digest, size } = artifact;
        match self.artifacts.stat(digest) {
            Ok(stored) if stored == *size => Ok(()),
            Ok(stored) => Err(("artifact_size", format!("artifact {digest} has {stored} bytes, not {size}"))),
            Err(_) => Err(("missing_artifact", format!("artifact {digest} is not stored"))),
        }
    }

    /// The sources whose artifacts are missing or no components, all of them.
    fn unreadable(&self, manifest: &Manifest, artifacts: &BTreeMap<String, Artifact>) -> Vec<Diagnostic> {
        let mut unread = Vec::new();
        for source in manifest.sources() {
            let Some(artifact) = artifacts.get(&source.path) else { continue };
            let problem = self.stored(artifact).and_then(|()| match source.kind {
                SourceKind::Component => self.type_of(&artifact.digest).map(drop),
                SourceKind::Script => Ok(()),
            });
            if let Err((reason, message)) = problem {
                let diagnostic = Diagnostic::error(reason, source.field.clone(), message);
                unread.push(diagnostic.at(source.span.clone(), "this source"));
            }
        }
        unread
    }
}

fn reason_of(error: &ArtifactError) -> &'static str {
    match error {
        ArtifactError::Mismatch { .. } => "digest_mismatch",
        _ => "missing_artifact",
    }
}

fn single(reason: &'static str, message: String) -> Refused {
    Refused { diagnostics: vec![Diagnostic::error(reason, "", message)] }
}

fn digests_of(policy: &PolicySpec) -> Vec<Digest> {
    match &policy.action {
        Action::Interpose(components) => components.iter().map(|component| component.artifact.digest).collect(),
        Action::Deny(_) => Vec::new(),
    }
}

/// The policies that graphs are linked with.
#[derive(Debug, Clone)]
pub struct PolicySets {
    /// Those in force.
    in_force: Vec<PolicyInForce>,
    /// The same once what takes over by steps has done so: what the candidates of a policy are linked with.
    next: Vec<PolicyInForce>,
}

impl PolicySets {
    /// Those of a state.
    pub fn of(state: &State) -> Self {
        Self {
            in_force: versions(state.policies.values().filter_map(PolicyRecord::current)),
            next: versions(state.policies.values().filter_map(PolicyRecord::next)),
        }
    }

    /// Those of a state with one policy replaced, added or (`None`) taken away, for everybody.
    pub fn with(state: &State, name: &PolicyName, replaced: Option<&PolicySpec>) -> Self {
        let generation = Generation(state.revision.0 + 1);
        let mut sets = Self::of(state);
        for policies in [&mut sets.in_force, &mut sets.next] {
            policies.retain(|policy| policy.spec.name != *name);
            policies.extend(replaced.map(|spec| PolicyInForce { generation, spec: spec.clone() }));
        }
        sets
    }

    /// What a graph, or a candidate, is linked with; none where nobody is sent to that any more.
    fn of_graph(&self, state: &State, key: &GraphKey) -> Option<&[PolicyInForce]> {
        let base = key.is_candidate.then(|| state.graphs.get(&key.base())).flatten();
        match base.and_then(|base| base.rollout.as_ref()).filter(|rollout| rollout.policy.is_some()) {
            Some(rollout) if rollout.is_open() => Some(&self.next),
            Some(rollout) if rollout.phase == Phase::Ending => None,
            _ => Some(&self.in_force),
        }
    }
}

fn versions<'a>(records: impl Iterator<Item = &'a PolicyVersionRecord>) -> Vec<PolicyInForce> {
    let version = |record: &PolicyVersionRecord| PolicyInForce {
        generation: record.generation,
        spec: record.spec.clone(),
    };
    records.map(version).collect()
}

/// The routes that lead to other graphs already: whoever came first keeps them, whatever the namespace.
fn taken_routes(manifest: &Manifest, spec: &GraphSpec, state: &State) -> Vec<Finding> {
    let routes = spec.ingress.iter().enumerate();
    let owned =
        routes.filter_map(|(index, route)| Some((index, route, state.route_owner(route, manifest.key())?)));
    let finding = |(index, route, by): (usize, &HttpRoute, &GraphKey)| Finding {
        reason: "route_taken",
        message: format!("{} is taken by graph {by}: a host and path lead to one graph", route.origin()),
        place: Place::Ingress(index),
        help: Some("choose another host or path, or delete that graph".to_owned()),
    };
    owned.map(finding).collect()
}

/// What is required of a node and no node has.
fn unschedulable(key: &GraphKey, linked: &LinkedGraph, state: &State) -> Option<Finding> {
    let why = schedule::unmet(state, linked, state.graphs.get(key))?;
    Some(Finding {
        reason: "unschedulable",
        message: format!("nowhere is what `placement.require` asks for: {}", why.join("; ")),
        place: Place::Graph,
        help: Some("`ctl node list -o wide` shows the labels of the nodes".to_owned()),
    })
}

fn locate(manifest: &Manifest, findings: &[Finding]) -> Vec<Diagnostic> {
    let show = |finding: &Finding| {
        let diagnostic =
            Diagnostic::error(finding.reason, manifest.field(&finding.place), finding.message.clone())
                .at(manifest.locate(&finding.place), "here");
        match &finding.help {
            Some(help) => diagnostic.help(help.clone()),
            None => diagnostic,
        }
    };
    findings.iter().map(show).collect()
}

/// What a change of the policies would do to one graph.
pub struct Effect {
    /// The graph.
    pub key: GraphKey,
    /// The graph as it would be linked, or why it could not be.
    pub linked: Result<LinkedGraph, Vec<String>>,
}

impl Linker {
    /// Links every graph of `state` with these; only those that change, or cannot be linked, are returned.
    pub fn effects(&self, state: &State, policies: &PolicySets) -> Vec<Effect> {
        let graphs = state.graphs.iter();
        let effect = |(key, record)| self.effect(state, key, record, policies.of_graph(state, key)?);
        graphs.filter_map(effect).collect()
    }

    /// What the graphs would be for whom what takes over by steps does so: those that are something else then than they are.
    /// Graphs of which a revision takes over by steps are left out.
    pub fn candidates(&self, state: &State, policies: &PolicySets) -> Vec<Effect> {
        let is_free = |(key, record): &(&GraphKey, &GraphRecord)| !key.is_candidate && record.rollout.is_none();
        let graphs = state.graphs.iter().filter(is_free);
        graphs.filter_map(|(key, record)| self.effect(state, key, record, &policies.next)).collect()
    }

    fn effect(
        &self,
        state: &State,
        key: &GraphKey,
        record: &GraphRecord,
        policies: &[PolicyInForce],
    ) -> Option<Effect> {
        let linked = match self.link(key, &record.running_revision()?.spec, policies) {
            Ok(linked) if linked.graph == record.linked => return None,
            Ok(linked) => match schedule::unmet(state, &linked.graph, Some(record)) {
                Some(why) => Err(why),
                None => Ok(linked.graph),
            },
            Err(findings) => Err(findings.into_iter().map(|finding| finding.message).collect()),
        };
        Some(Effect { key: key.clone(), linked })
    }
}
