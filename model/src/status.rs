//! What people are told of a graph: derived from desired and observed, never stored.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{Generation, GraphKey, RevisionNumber, StateRevision, Uid};
use crate::linked::Origin;
use crate::name::{ComponentName, NodeName};
use crate::placement::Placement;
use crate::report::Failure;
use crate::rollout::{PolicyRolloutStatus, Reverted, RolloutStatus};
use crate::route::HttpRoute;
use crate::scale::{Calls, Scaling};

/// One graph at one revision of the state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphStatus {
    /// Its full name.
    pub key: GraphKey,
    /// Its identity.
    pub uid: Uid,
    /// The revision that answers, or is to: the one before while another takes over by steps.
    pub revision: RevisionNumber,
    /// The current generation: revision and policies.
    pub generation: Generation,
    /// The state this was read from.
    pub state_revision: StateRevision,
    /// When the current revision was deployed, milliseconds since 1970.
    pub deployed_at_ms: u64,
    /// Where it stands.
    pub state: GraphState,
    /// Which part of it is placed where.
    pub placement: Option<Placement>,
    /// Where the ingress of its first route's node listens, `host:port`.
    pub ingress_address: Option<String>,
    /// How requests reach it.
    pub ingress: Vec<HttpRoute>,
    /// Its components, policies' included.
    pub components: Vec<ComponentStatus>,
    /// Those that are scaled by what is asked of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scales: Vec<ScaleStatus>,
    /// The revision that takes over by steps, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
    /// The last one that was given up, until the next deploy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverted: Option<Reverted>,
    /// The version of a policy that takes over by steps on it, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_rollout: Option<PolicyRolloutStatus>,
    /// The nodes on which it serves and fails, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failing: BTreeMap<NodeName, String>,
    /// The nodes that do not keep all that is reserved for it there, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unkept: BTreeMap<NodeName, String>,
}

impl GraphStatus {
    /// Whether something of it is counted, which only the member that leads knows.
    pub fn is_counted(&self) -> bool {
        self.rollout.is_some() || !self.scales.is_empty()
    }

    /// Takes over what another member has counted of the same.
    pub fn take_counts(&mut self, other: Self) {
        for scale in &mut self.scales {
            let known = other.scales.iter().find(|known| known.name == scale.name);
            scale.calls = scale.calls.or(known.and_then(|known| known.calls));
        }
        if let (Some(rollout), Some(known)) = (&mut self.rollout, other.rollout) {
            let is_same = (rollout.generation, rollout.step) == (known.generation, known.step);
            rollout.traffic = rollout.traffic.or(known.traffic.filter(|_| is_same));
        }
    }
}

/// Where a graph stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum GraphState {
    /// No node has it.
    Pending {
        /// Why, node by node.
        why: Vec<String>,
    },
    /// A node works on the current generation.
    Starting {
        /// `fetching`, `compiling`, `starting`, or what is waited for.
        phase: String,
        /// The generation that answers meanwhile.
        serving: Option<Generation>,
    },
    /// The current generation answers where it was placed.
    Serving,
    /// The current generation will not serve as it is.
    Failed {
        /// Why.
        failure: Failure,
        /// The generation that answers instead.
        serving: Option<Generation>,
    },
    /// Its node is not heard of: what it runs may still serve.
    Unknown {
        /// What is known.
        why: String,
    },
}

impl GraphState {
    /// The word shown to people.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Pending { .. } => "pending",
            Self::Starting { .. } => "starting",
            Self::Serving => "serving",
            Self::Failed { .. } => "failed",
            Self::Unknown { .. } => "unknown",
        }
    }
}

/// One component of a graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentStatus {
    /// Its name in the linked graph.
    pub name: ComponentName,
    /// Who put it there.
    pub origin: Origin,
    /// The short digest of its artifact.
    pub artifact: String,
    /// On how many nodes it is.
    #[serde(default)]
    pub nodes: u32,
    /// How many of these are heard of and answer as the current generation wants it.
    #[serde(default)]
    pub serving: u32,
}

/// A component that is scaled by what is asked of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScaleStatus {
    /// Which.
    pub name: ComponentName,
    /// On how many nodes it should run now.
    pub replicas: u32,
    /// How it is scaled.
    pub scaling: Scaling,
    /// What all its nodes have said they have under way of it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<Calls>,
}

impl fmt::Display for ScaleStatus {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (min, max) = (self.scaling.min(), self.scaling.max());
        write!(out, "{} of {min}-{max}", self.replicas)?;
        match self.calls {
            Some(calls) => write!(out, ", {calls} calls under way"),
            None => Ok(()),
        }
    }
}
