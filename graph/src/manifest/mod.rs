//! `graph.yaml`: from text to a [`GraphSpec`].
//!
//! [`parse`] checks all that the text alone can tell; [`Manifest::resolve`] puts digests in place of sources.

mod check;
pub(crate) mod condition;
pub(crate) mod rollout;
mod scale;
pub(crate) mod shape;
pub(crate) mod value;

use std::collections::BTreeMap;
use std::ops::Range;

use model::digest::Digest;
use model::graph::{Artifact, CapabilitySpec, ComponentSpec, GraphSpec};
use model::id::GraphKey;
use model::name::ComponentName;

use crate::diagnostic::{Diagnostic, Findings, Place};
use crate::document::{self, Rules};

/// A checked manifest whose sources are still names of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    key: GraphKey,
    /// Artifacts are filled in by [`Manifest::resolve`].
    spec: GraphSpec,
    sources: Vec<Source>,
    places: BTreeMap<String, Range<usize>>,
}

/// A file that a manifest names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// As written; relative to the manifest's folder.
    pub path: String,
    /// What it is for.
    pub kind: SourceKind,
    /// The path in the document.
    pub field: String,
    /// Bytes of the document.
    pub span: Option<Range<usize>>,
    /// Whose it is.
    pub owner: ComponentName,
    /// What it must have, if the manifest says so.
    pub digest: Option<Digest>,
}

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// A wasm component.
    Component,
    /// A script that seeds a database.
    Script,
}

/// Reads a manifest, or says everything that is wrong with it.
pub fn parse(bytes: &[u8]) -> Result<Manifest, Vec<Diagnostic>> {
    let rules = Rules {
        schema: &crate::schema::GRAPH,
        refused: &[check::REFUSED, rollout::REFUSED],
        read_only: check::READ_ONLY,
        components: &["components", "capabilities"],
    };
    let mut findings = Findings::default();
    match document::read::<shape::GraphFile>(bytes, &rules, &mut findings) {
        Some(file) => check::check(file, findings),
        None => Err(findings.into_diagnostics()),
    }
}

impl Manifest {
    /// The graph's full name.
    pub const fn key(&self) -> &GraphKey {
        &self.key
    }

    /// The files that must be there before the manifest can be resolved.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// The spec, with each source's artifact.
    pub fn resolve(&self, artifacts: &BTreeMap<String, Artifact>) -> Result<GraphSpec, Vec<Diagnostic>> {
        let mut spec = self.spec.clone();
        let mut refused = Vec::new();
        for source in &self.sources {
            let Some(artifact) = artifacts.get(&source.path) else {
                let message = format!("no artifact was given for `{}`", document::shorten(&source.path));
                let diagnostic = Diagnostic::error("missing_artifact", source.field.clone(), message);
                refused.push(diagnostic.at(source.span.clone(), "this source"));
                continue;
            };
            if let Some(wanted) = source.digest.filter(|wanted| *wanted != artifact.digest) {
                let message = format!("the file has {}, and the manifest wants {wanted}", artifact.digest);
                let diagnostic = Diagnostic::error("digest_mismatch", source.field.clone(), message);
                refused.push(diagnostic.at(source.span.clone(), "another file than was meant"));
            }
            match source.kind {
                SourceKind::Component => {
                    if let Some(component) = spec.components.get_mut(&source.owner) {
                        component.artifact = *artifact;
                    }
                }
                SourceKind::Script => {
                    if let Some(CapabilitySpec::Sqlite { seed, .. }) = spec.capabilities.get_mut(&source.owner)
                    {
                        *seed = Some(*artifact);
                    }
                }
            }
        }
        if refused.is_empty() { Ok(spec) } else { Err(refused) }
    }

    /// The bytes of the document that a place covers.
    pub fn locate(&self, place: &Place) -> Option<Range<usize>> {
        self.places.get(&self.field(place)).cloned()
    }

    /// The path in the document of a place.
    pub fn field(&self, place: &Place) -> String {
        match place {
            Place::Graph => "graph".to_owned(),
            Place::Component(name) => format!("components.{name}"),
            Place::Capability(name) => format!("capabilities.{name}"),
            Place::Link(index) => format!("links.{index}"),
            Place::Ingress(index) => format!("ingress.{index}"),
        }
    }
}

/// A component without its artifact yet.
fn unresolved(labels: BTreeMap<String, String>, settings: model::graph::Settings) -> ComponentSpec {
    let artifact = Artifact { digest: Digest::from_bytes([0; 32]), size: 0 };
    ComponentSpec { artifact, labels, settings }
}
