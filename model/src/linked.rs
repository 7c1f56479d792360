//! A linked graph: a revision and the policies, with every import resolved to what satisfies it.
//!
//! This is the value that plans show, that is replicated, and that a node runs. It leaves the node no choices.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::graph::{Artifact, CapabilitySpec, Settings};
use crate::interface::InterfaceName;
use crate::name::ComponentName;
use crate::placement::{LinkTerms, Locality, Requirements, Wishes};
use crate::policy::PolicyVersion;
use crate::reserve::Reserves;
use crate::route::HttpRoute;
use crate::scale::Scaling;

/// A graph whose every import is resolved.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LinkedGraph {
    /// How requests reach it.
    pub ingress: Vec<HttpRoute>,
    /// The graph's own components, and those that policies put in.
    pub components: BTreeMap<ComponentName, LinkedComponent>,
    /// The capabilities that links reach.
    pub capabilities: BTreeMap<ComponentName, CapabilitySpec>,
    /// One for each import of each component, sorted by component and interface.
    pub links: Vec<Link>,
    /// The policies that stand on some link, by name.
    pub policies: Vec<PolicyVersion>,
    /// What members ask of their node; those that ask for nothing are left out.
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
    /// What is kept for components on each of their nodes.
    #[serde(default, skip_serializing_if = "Reserves::is_default")]
    pub reserves: Reserves,
}

/// A component of a linked graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkedComponent {
    /// Its bytes.
    pub artifact: Artifact,
    /// Who put it there.
    pub origin: Origin,
    /// The interfaces it exports.
    pub exports: Vec<InterfaceName>,
    /// What it may know and use.
    pub settings: Settings,
}

/// Who put a component into a linked graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The graph's owner.
    Graph,
    /// A policy of the platform.
    Policy(PolicyVersion),
}

/// One import of one component, and what satisfies it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The importing component.
    pub from: ComponentName,
    /// The import, as that component names it.
    pub interface: InterfaceName,
    /// What satisfies it.
    pub to: Target,
    /// How the link came to be.
    pub wiring: LinkOrigin,
    /// A verdict for each function that the importer uses, sorted by name.
    pub functions: Vec<Function>,
    /// What its owner asks of it.
    #[serde(default)]
    pub terms: LinkTerms,
}

impl Link {
    /// Whether its ends must be on one node: because its owner says so, or because a function cannot be carried.
    pub fn is_local(&self) -> bool {
        self.terms.locality == Locality::SameNode
            || self.functions.iter().any(|function| matches!(function.verdict, Verdict::LocalOnly { .. }))
    }
}

/// What satisfies an import.
///
/// An instance of a provider component is private to its consumer instance: all links of one consumer instance to
/// the same provider share one provider instance, and no one else does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// An export of a component.
    Component {
        /// The provider.
        name: ComponentName,
        /// The export, as the provider names it.
        export: InterfaceName,
    },
    /// A capability of the node's host.
    Capability {
        /// The capability in the graph.
        name: ComponentName,
    },
    /// The node's own host: clocks, random, io, stdio, config, variables, logging, outgoing HTTP within `egress`.
    Host,
}

impl Target {
    /// The component or capability of the graph; none for the node's host.
    pub const fn member(&self) -> Option<&ComponentName> {
        match self {
            Self::Component { name, .. } | Self::Capability { name } => Some(name),
            Self::Host => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Component { name, .. } | Self::Capability { name } => name.fmt(out),
            Self::Host => out.pad("node"),
        }
    }
}

/// How a link came to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkOrigin {
    /// Written in the manifest.
    Explicit,
    /// The one provider there was.
    Inferred,
    /// Made by a policy.
    Policy(PolicyVersion),
    /// A built-in of the node.
    BuiltIn,
}

/// One function of a link and how far it can go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Function {
    /// As WIT names it: `execute`, `[method]connection.execute`.
    pub name: String,
    /// Whether its two ends may be on two nodes.
    pub verdict: Verdict,
}

/// Whether the two ends of a function may be on two nodes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Verdict {
    /// Its values can be carried.
    Remotable,
    /// It carries handles, which a lease keeps alive at the provider.
    RemotableWithLease {
        /// Which types make it so.
        why: String,
    },
    /// Both ends must be on one node.
    LocalOnly {
        /// Which types make it so.
        why: String,
    },
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remotable => out.write_str("remotable"),
            Self::RemotableWithLease { why } => write!(out, "remotable with a lease ({why})"),
            Self::LocalOnly { why } => write!(out, "local only ({why})"),
        }
    }
}

impl LinkedGraph {
    /// The components and the capabilities.
    pub fn members(&self) -> impl Iterator<Item = &ComponentName> {
        self.components.keys().chain(self.capabilities.keys())
    }

    /// Whether a component should run on more than one node.
    pub fn is_spread(&self) -> bool {
        !self.replicas.is_empty() || !self.each_node.is_empty() || !self.scaling.is_empty()
    }

    /// The links of one component, in their order.
    pub fn links_of<'a>(&'a self, component: &'a ComponentName) -> impl Iterator<Item = &'a Link> {
        self.links.iter().filter(move |link| link.from == *component)
    }

    /// Whether the ends of a link must be on one node: because it is local, or because a policy's component that asks
    /// for nothing is where its caller is.
    pub fn joins(&self, link: &Link) -> bool {
        let follows = |to: &ComponentName| {
            let component = self.components.get(to);
            component.is_some_and(|component| matches!(component.origin, Origin::Policy(_)))
                && !self.require.contains_key(to)
        };
        link.to.member().is_some_and(|to| link.is_local() || follows(to))
    }

    /// Whether what of it is on a node stops serving there once the node is cut off: one of the members there asks for it.
    pub fn stops_in_isolation(&self, is_there: impl Fn(&ComponentName) -> bool) -> bool {
        self.components.iter().any(|(name, found)| !found.settings.on_isolation.serves() && is_there(name))
    }

    /// Every artifact that is needed to run this graph.
    pub fn artifacts(&self) -> impl Iterator<Item = Artifact> {
        self.artifacts_of(|_| true)
    }

    /// The artifacts of the members that `is_wanted`.
    pub fn artifacts_of(&self, is_wanted: impl Fn(&ComponentName) -> bool) -> impl Iterator<Item = Artifact> {
        let seed = |capability: &CapabilitySpec| match capability {
            CapabilitySpec::Sqlite { seed, .. } => *seed,
        };
        let components = self.components.iter().map(|(name, component)| (name, Some(component.artifact)));
        let seeds = self.capabilities.iter().map(move |(name, capability)| (name, seed(capability)));
        components.chain(seeds).filter(move |(name, _)| is_wanted(name)).filter_map(|(_, artifact)| artifact)
    }

    /// The memory that one instance of each of these components may use together, in bytes.
    pub fn memory_bytes(&self, is_counted: impl Fn(&ComponentName) -> bool) -> u64 {
        self.components
            .iter()
            .filter(|(name, _)| is_counted(name))
            .map(|(_, component)| component.settings.limits.memory.0)
            .fold(0, u64::saturating_add)
    }
}
