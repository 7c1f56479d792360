//! Linking: every import of every component gets exactly one provider, and the policies stand where they must.
//!
//! A pure function of the graph, the types of its components and the policies in force. It runs at plan time and again
//! at commit, so that nothing about a link is decided later.

pub mod builtin;
mod chain;
mod resolve;
mod shape;
mod verdict;

use std::collections::BTreeMap;
use std::sync::Arc;

use model::digest::Digest;
use model::graph::GraphSpec;
use model::id::{Generation, GraphKey};
use model::linked::LinkedGraph;
use model::policy::PolicySpec;

pub use crate::diagnostic::Place;
use crate::interface::ComponentType;
pub use chain::{check_policy, mismatch};
pub use verdict::verdict;

/// The types of artifacts by digest.
pub type Types = BTreeMap<Digest, Arc<ComponentType>>;

/// A policy and the version of it that is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyInForce {
    /// The version.
    pub generation: Generation,
    /// What it says.
    pub spec: PolicySpec,
}

/// Something wrong, or doubtful, about a graph as linked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// A stable word: `unsatisfied_import`.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
    /// What it is about.
    pub place: Place,
    /// What to do.
    pub help: Option<String>,
}

impl Finding {
    fn new(reason: &'static str, place: Place, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), place, help: None }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// The findings of one graph that are looked for: more would only bury the first ones.
const FINDINGS_MAX: usize = 100;

/// A graph as linked, and what is allowed in it but worth a thought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linked {
    /// The graph.
    pub graph: LinkedGraph,
    /// The doubts.
    pub warnings: Vec<Finding>,
}

/// Links a graph, or says everything that hinders it.
pub fn link(
    key: &GraphKey,
    spec: &GraphSpec,
    types: &Types,
    policies: &[PolicyInForce],
) -> Result<Linked, Vec<Finding>> {
    let mut findings = Vec::new();
    let mut linked = resolve::resolve(spec, types, &mut findings);
    let mut warnings = Vec::new();
    chain::interpose(key, spec, types, policies, &mut linked, &mut findings, &mut warnings);
    linked.links.sort_by(|a, b| (&a.from, &a.interface).cmp(&(&b.from, &b.interface)));
    verdict::judge_handles(&mut linked, types);
    verdict::bound_sessions(&mut linked.links);
    verdict::keep_instances_whole(&mut linked.links);
    shape::check(&linked, types, &mut findings);
    let unreached = spec.capabilities.keys().filter(|name| !linked.capabilities.contains_key(*name));
    warnings.extend(unreached.map(|name| {
        let message = format!("no import is linked to the capability {name}: it is not made");
        Finding::new("unused_capability", Place::Capability(name.clone()), message)
            .help("remove it, or write a link to it")
    }));
    if findings.is_empty() { Ok(Linked { graph: linked, warnings }) } else { Err(findings) }
}
