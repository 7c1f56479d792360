//! A graph as its owner wrote it, checked and with every source resolved to a digest.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::egress::EgressRule;
use crate::interface::InterfacePattern;
use crate::name::ComponentName;
use crate::placement::{LinkTerms, Requirements, Wishes};
use crate::reserve::Reserves;
use crate::rollout::RolloutSpec;
use crate::route::{HttpRoute, PathPrefix};
use crate::scale::Scaling;
use crate::unit::ByteSize;

/// The most components and capabilities of one graph.
pub const COMPONENTS_MAX: usize = 1_000;
/// The most links of one graph.
pub const LINKS_MAX: usize = 5_000;
/// The most bytes of one component's artifact.
pub const ARTIFACT_MAX: ByteSize = ByteSize::mebibytes(64);
/// The most memory of one component: what the agents' pooling allocator reserves for a linear memory.
pub const MEMORY_MAX: ByteSize = ByteSize::mebibytes(128);
/// The least memory that is of use to a guest: one wasm page.
pub const MEMORY_MIN: ByteSize = ByteSize(64 << 10);
/// The memory of a component that names no limit.
pub const MEMORY_DEFAULT: ByteSize = ByteSize::mebibytes(64);
/// The longest deadline of one call.
pub const DEADLINE_MAX: Duration = Duration::from_secs(600);
/// The deadline of a component that names none.
pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(10);

/// How often a component may be checked that serves: more often costs more than it tells, and more seldom tells nobody.
pub const CHECK_EVERY: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(1);
/// Failures in a row after which a component that serves may be said to fail.
pub const CHECK_FAILURES: RangeInclusive<u32> = 1..=100;
/// Those of a check that does not say: fewer happen when one connection is lost.
pub const CHECK_FAILURES_DEFAULT: u32 = 3;
/// How long one check may be given.
pub const CHECK_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(60);
/// How long one check has that does not say.
pub const CHECK_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// What a sqlite capability offers, `fermyon:spin/sqlite@2.0.0`, in WIT.
pub const SQLITE_WIT: &str = include_str!("../wit/sqlite.wit");

/// One immutable version of a graph, as deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphSpec {
    /// What policies select on.
    pub labels: BTreeMap<String, String>,
    /// Whether imports without an explicit link are linked by inference.
    pub wiring: Wiring,
    /// How requests reach the graph.
    pub ingress: Vec<HttpRoute>,
    /// The components by name.
    pub components: BTreeMap<ComponentName, ComponentSpec>,
    /// The capabilities by name; names are distinct from the components'.
    pub capabilities: BTreeMap<ComponentName, CapabilitySpec>,
    /// The links written out.
    pub links: Vec<LinkSpec>,
    /// What components and capabilities ask of their node; those that ask for nothing are left out.
    #[serde(default)]
    pub require: BTreeMap<ComponentName, Requirements>,
    /// On how many nodes components should run; those that should run on one are left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub replicas: BTreeMap<ComponentName, u32>,
    /// The components that run on each node that takes them, now and later.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub each_node: BTreeSet<ComponentName>,
    /// Components that are scaled by what is asked of them; none of these is in `replicas`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scaling: BTreeMap<ComponentName, Scaling>,
    /// What components and capabilities wish of their node; those that wish nothing are left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub wishes: BTreeMap<ComponentName, Wishes>,
    /// What is kept for its components on each of their nodes.
    #[serde(default, skip_serializing_if = "Reserves::is_default")]
    pub reserves: Reserves,
    /// How its revisions take over; at once if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutSpec>,
}

/// Whether links may be inferred.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wiring {
    /// An import with one possible provider is linked to it.
    #[default]
    Inferred,
    /// Every import that is not a node built-in needs a link.
    Explicit,
}

/// A wasm artifact in a graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentSpec {
    /// Its bytes.
    pub artifact: Artifact,
    /// What policies select on, besides the graph's labels.
    pub labels: BTreeMap<String, String>,
    /// What it may know, and how much it may use.
    pub settings: Settings,
}

/// Bytes by content address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Artifact {
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// Length in bytes.
    pub size: u64,
}

/// What one component may know and use; everything is empty or bounded unless granted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Settings {
    /// Read through `wasi:config/store`.
    pub config: BTreeMap<String, String>,
    /// Read through `fermyon:spin/variables`.
    pub variables: BTreeMap<String, String>,
    /// Where outgoing HTTP may go.
    pub egress: Vec<EgressRule>,
    /// Memory and time.
    pub limits: Limits,
    /// How it is found out that it answers, before it takes over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Check>,
    /// How long the check may take, and whether it is made again while the component serves.
    #[serde(default, skip_serializing_if = "CheckTerms::are_default")]
    pub check_terms: CheckTerms,
    /// What becomes of it on a node that is cut off from the control plane.
    #[serde(default, skip_serializing_if = "OnIsolation::serves")]
    pub on_isolation: OnIsolation,
}

/// What becomes of a component on a node that is cut off from the control plane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnIsolation {
    /// It goes on serving. It may be placed on another node meanwhile, and serve there too.
    #[default]
    Serve,
    /// Its graph stops serving on the node, before it can be placed on another.
    Stop,
}

impl OnIsolation {
    /// Whether it goes on.
    pub const fn serves(&self) -> bool {
        matches!(self, Self::Serve)
    }
}

/// How it is found out that a component answers: on each node, by a first instance, before anybody else is answered by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// A GET of this path, which must be answered with a status from 200 to 399, body and all.
    Http(PathPrefix),
    /// A call of a function without parameters, which must return neither an error nor `false`.
    Call {
        /// An export of the component.
        interface: InterfacePattern,
        /// The function, as WIT names it.
        function: String,
    },
}

impl fmt::Display for Check {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(path) => write!(out, "GET {path}"),
            Self::Call { interface, function } => write!(out, "{interface}#{function}"),
        }
    }
}

/// How long a check may take, and whether it is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckTerms {
    /// How long one may take; the component's own deadline ends it earlier.
    pub timeout: Duration,
    /// How often it is made while the component serves; never if left out.
    pub every: Option<Duration>,
    /// After so many failures in a row the component fails on its node; one that passes ends that.
    pub failures: u32,
}

impl CheckTerms {
    /// Whether they are those of a check that says nothing of them.
    pub fn are_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for CheckTerms {
    fn default() -> Self {
        Self { timeout: CHECK_TIMEOUT_DEFAULT, every: None, failures: CHECK_FAILURES_DEFAULT }
    }
}

/// Bounds of one instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The most linear memory of one instance.
    pub memory: ByteSize,
    /// The longest one call may take.
    pub deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: MEMORY_DEFAULT, deadline: DEADLINE_DEFAULT }
    }
}

/// What a node's host offers to a graph, placed and linked like a component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum CapabilitySpec {
    /// A SQLite database on the node's disk, offered as `fermyon:spin/sqlite@2.0.0`.
    Sqlite {
        /// The name a guest opens; every other name answers `access-denied`.
        database: String,
        /// A script that is run once, when the database is created.
        seed: Option<Artifact>,
    },
}

impl CapabilitySpec {
    /// The word of the manifest: `sqlite`.
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Sqlite { .. } => "sqlite",
        }
    }
}

/// A link as written: imports of `from` that `interface` names are satisfied by `to`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkSpec {
    /// The importing component.
    pub from: ComponentName,
    /// Which of its imports.
    pub interface: InterfacePattern,
    /// A component or a capability.
    pub to: ComponentName,
    /// What its owner asks of it.
    #[serde(default)]
    pub terms: LinkTerms,
}
