//! A policy: a rule of the platform that puts components between importers and an interface.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::graph::{Artifact, Settings};
use crate::id::Generation;
use crate::interface::InterfacePattern;
use crate::name::{ComponentName, GraphName, NamespaceName, PolicyName};
use crate::placement::Requirements;
use crate::rollout::RolloutSpec;

/// One immutable version of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicySpec {
    /// Its name, unique in the cluster.
    pub name: PolicyName,
    /// Which links it stands on.
    pub selector: Selector,
    /// What it does to them.
    pub action: Action,
    /// Its place in the chain.
    pub order: Order,
    /// Whether a link on which it cannot stand is refused even if `on_failure` were open.
    pub mandatory: bool,
    /// What happens to a link on which it cannot stand.
    pub on_failure: OnFailure,
    /// Whether it acts, only reports, or rests.
    pub mode: Mode,
    /// How its versions take over; at once if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutSpec>,
}

/// Which links a policy stands on: every part must match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selector {
    /// The interface of the link.
    pub interface: InterfacePattern,
    /// Namespaces of the importing graph; empty matches all.
    pub namespaces: BTreeSet<NamespaceName>,
    /// Names of the importing graph; empty matches all.
    pub graphs: BTreeSet<GraphName>,
    /// Labels of the importing component, which has its graph's labels too; every pair must be there.
    pub labels: BTreeMap<String, String>,
    /// Importers that are left alone.
    pub except: Vec<Exception>,
}

/// An importer that a policy leaves alone: `namespace/graph` or `namespace/graph/component`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exception {
    /// The importer's namespace.
    pub namespace: NamespaceName,
    /// The importer's graph.
    pub graph: GraphName,
    /// The importing component; `None` is all of the graph's.
    pub component: Option<ComponentName>,
}

/// What a policy does to a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Put these components on the link, the first next to the caller.
    Interpose(Vec<Interposed>),
    /// Refuse the link, with this reason.
    Deny(String),
}

/// A component that a policy puts on links.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interposed {
    /// Its bytes.
    pub artifact: Artifact,
    /// Its own settings: nothing of the caller's.
    pub settings: Settings,
    /// What it asks of its node; empty: it runs beside its caller.
    #[serde(default)]
    pub require: Requirements,
}

/// The place in a chain: by phase, then higher priority first, then name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The phase.
    pub phase: Phase,
    /// Higher is nearer to the caller within a phase.
    pub priority: i32,
}

/// The phases of a chain, from the caller on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Who is calling.
    Authn,
    /// Whether they may.
    Authz,
    /// What crosses, and in what form.
    Inspect,
    /// What is seen of it.
    Observe,
}

impl fmt::Display for Phase {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Authn => "authn",
            Self::Authz => "authz",
            Self::Inspect => "inspect",
            Self::Observe => "observe",
        })
    }
}

/// What happens to a link on which a policy's component cannot stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// The graph is refused.
    #[default]
    Closed,
    /// The link stays without the policy, with a warning.
    Open,
}

/// Whether a policy acts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// It acts.
    #[default]
    Enforce,
    /// It is shown in plans, and does nothing.
    Audit,
    /// It rests.
    Off,
}

impl fmt::Display for Mode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Enforce => "enforce",
            Self::Audit => "audit",
            Self::Off => "off",
        })
    }
}

/// One version of a policy, as named in a linked graph.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PolicyVersion {
    /// The policy.
    pub name: PolicyName,
    /// The generation that is in force.
    pub generation: Generation,
}
