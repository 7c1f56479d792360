//! Checks and links with nothing but files: what the control plane would do with them, as far as files tell.

use std::collections::BTreeMap;
use std::sync::Arc;

use graph::diagnostic::Diagnostic;
use graph::interface;
use graph::link::{self, Finding, Linked, PolicyInForce, Types};
use graph::manifest::{Manifest, SourceKind};
use graph::policy_manifest::PolicyManifest;
use model::graph::Artifact;
use model::id::Generation;

use crate::manifest::{self, Document, SourceFiles};

/// A policy that was checked with its components.
#[derive(Debug, Clone)]
pub struct CheckedPolicy {
    /// As if it were in force.
    pub policy: PolicyInForce,
    /// The types of its components.
    pub types: Types,
}

/// Checks a policy and its components.
pub fn check_policy(document: &Document, manifest: &PolicyManifest) -> Result<CheckedPolicy, Vec<Diagnostic>> {
    let places = manifest::policy_sources(manifest);
    let (files, mut found) = document.try_sources(&places);
    let mut types = Types::new();
    for place in &places {
        let Some(file) = files.get(&place.path) else { continue };
        match interface::read(&file.bytes) {
            Ok(component) => drop(types.insert(file.artifact.digest, Arc::new(component))),
            Err(problem) => found.push(
                Diagnostic::error(problem.reason, place.field.clone(), problem.message)
                    .at(place.span.clone(), "this component"),
            ),
        }
    }
    if !found.is_empty() {
        return Err(found);
    }
    let spec = manifest.resolve(&artifacts(&files))?;
    link::check_policy(&spec, &types).map_err(|findings| {
        let show = |finding: &Finding| {
            let shown = Diagnostic::error(finding.reason, "interpose", finding.message.clone())
                .at(places.first().and_then(|place| place.span.clone()), "here");
            with_help(shown, finding)
        };
        findings.iter().map(show).collect::<Vec<_>>()
    })?;
    Ok(CheckedPolicy { policy: PolicyInForce { generation: Generation(0), spec }, types })
}

/// Checks a graph and links it with policies.
pub fn link_graph(
    document: &Document,
    manifest: &Manifest,
    policies: &[CheckedPolicy],
) -> Result<Linked, Vec<Diagnostic>> {
    let (files, mut found) = document.try_sources(&manifest::graph_sources(manifest));
    let mut types: Types = policies.iter().flat_map(|policy| policy.types.clone()).collect();
    for source in manifest.sources().iter().filter(|source| source.kind == SourceKind::Component) {
        let Some(file) = files.get(&source.path) else { continue };
        match interface::read(&file.bytes) {
            Ok(component) => drop(types.insert(file.artifact.digest, Arc::new(component))),
            Err(problem) => found.push(
                Diagnostic::error(problem.reason, source.field.clone(), problem.message)
                    .at(source.span.clone(), "this source"),
            ),
        }
    }
    if !found.is_empty() {
        return Err(found);
    }
    let spec = manifest.resolve(&artifacts(&files))?;
    let in_force: Vec<PolicyInForce> = policies.iter().map(|checked| checked.policy.clone()).collect();
    link::link(manifest.key(), &spec, &types, &in_force)
        .map_err(|findings| findings.iter().map(|finding| locate(manifest, finding)).collect())
}

/// A finding where the manifest says it.
pub fn locate(manifest: &Manifest, finding: &Finding) -> Diagnostic {
    let shown = Diagnostic::error(finding.reason, manifest.field(&finding.place), finding.message.clone())
        .at(manifest.locate(&finding.place), "here");
    with_help(shown, finding)
}

fn with_help(diagnostic: Diagnostic, finding: &Finding) -> Diagnostic {
    match &finding.help {
        Some(help) => diagnostic.help(help.clone()),
        None => diagnostic,
    }
}

fn artifacts(files: &SourceFiles) -> BTreeMap<String, Artifact> {
    files.iter().map(|(path, file)| (path.clone(), file.artifact)).collect()
}
