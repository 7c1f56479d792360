//! What versions of the control plane can do together.
//!
//! A cluster has the level that all its members have said that they know. A command of a higher level is not proposed,
//! and `apply` does nothing of a higher level: members of two versions come to the same state. A level is never lowered.

use std::collections::BTreeMap;

use model::condition::Condition;
use model::graph::{GraphSpec, Settings};
use model::linked::{LinkedComponent, LinkedGraph};
use model::name::ComponentName;
use model::placement::{ATTRIBUTES, Requirements, Wishes};
use model::policy::{Action, PolicySpec};

use crate::command::Body;
use crate::state::State;

/// The level that this version knows.
///
/// 1: everything before there were levels. 2: artifacts are let go of; requests that say when they were made are refused
/// once they may have been forgotten. 3: graphs are moved; nodes are cordoned, drained, labelled and removed.
/// 4: components run on several nodes, and are checked before they take over; nodes are lost together.
/// 5: revisions take over by steps; nodes are tainted, and graphs wish things of their nodes.
/// 6: versions of policies take over by steps; what is asked of nodes may be more than values of labels; components run on
/// each node, and are scaled by their calls; what serves is checked again, or stops once its node is cut off;
/// namespaces have quotas.
/// 7: instances are kept for components, by priority. 8: quotas bound what is kept.
pub const FEATURE_LEVEL: u32 = 8;
/// That of a member that does not say.
pub const FIRST_LEVEL: u32 = 1;
/// From this level on artifacts are let go of.
pub const FORGETS_ARTIFACTS: u32 = 2;
/// From this level on graphs are moved.
pub const MOVES: u32 = 3;
/// From this level on components run on several nodes, and nodes are lost together.
pub const REPLICAS: u32 = 4;
/// From this level on revisions take over by steps.
pub const ROLLOUTS: u32 = 5;
/// From this level on nodes are tainted, and graphs wish things of their nodes.
pub const WISHES: u32 = 5;
/// From this level on versions of policies take over by steps.
pub const POLICY_STEPS: u32 = 6;
/// From this level on what is asked of nodes may be more than values of labels.
pub const CONDITIONS: u32 = 6;
/// From this level on components run on each node.
pub const EACH_NODE: u32 = 6;
/// From this level on components are scaled by their calls.
pub const SCALING: u32 = 6;
/// From this level on what serves is checked again.
pub const RECHECKS: u32 = 6;
/// From this level on graphs stop serving on nodes that are cut off.
pub const ISOLATION: u32 = 6;
/// From this level on instances are kept for components.
pub const RESERVES: u32 = 7;
/// From this level on namespaces have quotas.
pub const QUOTAS: u32 = 6;
/// From this level on quotas bound what is kept for components.
pub const RESERVE_QUOTAS: u32 = 8;
/// From this level on it counts when a request was made.
pub(crate) const AGES_REQUESTS: u32 = 2;

/// What serde puts where a member has not said.
pub(crate) const fn first() -> u32 {
    FIRST_LEVEL
}

impl Body {
    /// The level that every member must know to apply it.
    pub fn level(&self) -> u32 {
        match self {
            // The highest first: a command may need several.
            // Those of earlier levels would not keep it.
            Self::Deploy(deploy)
                if !deploy.spec.reserves.is_default() || !deploy.linked.reserves.is_default() =>
            {
                RESERVES
            }
            Self::Relink(relink) if !relink.linked.reserves.is_default() => RESERVES,
            Self::OpenCandidate(open) if !open.linked.reserves.is_default() => RESERVES,
            Self::Deploy(deploy) if has_more_settings(&deploy.linked, &deploy.spec) => RECHECKS,
            Self::Relink(relink)
                if relink.linked.components.values().any(|found| says_more(&found.settings)) =>
            {
                RECHECKS
            }
            Self::RecordReport(report) if report.graphs.iter().any(|graph| graph.failing.is_some()) => RECHECKS,
            Self::ForgetArtifacts(_) => FORGETS_ARTIFACTS,
            Self::AdmitNode { .. } | Self::LabelNode(_) | Self::RemoveNode(_) | Self::Leave(_) => MOVES,
            Self::Deploy(deploy) if !deploy.spec.each_node.is_empty() => EACH_NODE,
            Self::Deploy(deploy) if !deploy.linked.each_node.is_empty() => EACH_NODE,
            // Members of earlier levels could not even read it.
            Self::Deploy(deploy) if is_of_conditions(&deploy.spec.require, &deploy.spec.wishes) => CONDITIONS,
            Self::Deploy(deploy) if has_conditions(&deploy.linked) => CONDITIONS,
            Self::Relink(relink) if has_conditions(&relink.linked) => CONDITIONS,
            Self::PutPolicy(policy) if policy_has_conditions(&policy.spec) => CONDITIONS,
            Self::Scale(_) => SCALING,
            // Those of earlier levels would keep nothing of it.
            Self::Deploy(deploy) if !deploy.spec.scaling.is_empty() || !deploy.linked.scaling.is_empty() => {
                SCALING
            }
            Self::Relink(relink) if !relink.linked.scaling.is_empty() => SCALING,
            Self::ChangeRollout(_) => ROLLOUTS,
            Self::OpenCandidate(_) | Self::ChangePolicyRollout(_) => POLICY_STEPS,
            // Those of earlier levels would not keep what is said of steps.
            Self::PutPolicy(put) if put.spec.rollout.is_some() => POLICY_STEPS,
            // Those of earlier levels would not keep what is said of steps.
            Self::Deploy(deploy) if deploy.spec.rollout.is_some() => ROLLOUTS,
            Self::TaintNode(_) => WISHES,
            Self::SetQuota(set) if set.quota.bounds_reserves() => RESERVE_QUOTAS,
            Self::SetQuota(_) => QUOTAS,
            // Nor what is said of wishes, which the revision has even where the linked graph has none.
            Self::Deploy(deploy) if !deploy.spec.wishes.is_empty() || !deploy.linked.wishes.is_empty() => {
                WISHES
            }
            Self::Relink(relink) if !relink.linked.wishes.is_empty() => WISHES,
            Self::LoseNodes { .. } => REPLICAS,
            Self::Deploy(deploy) if needs_replicas(&deploy.linked) => REPLICAS,
            Self::InitCluster { level, .. } | Self::RaiseFeatureLevel { level } => *level,
            _ => FIRST_LEVEL,
        }
    }
}

fn has_conditions(linked: &LinkedGraph) -> bool {
    is_of_conditions(&linked.require, &linked.wishes)
}

fn policy_has_conditions(policy: &PolicySpec) -> bool {
    match &policy.action {
        Action::Interpose(components) => {
            components.iter().flat_map(|component| &component.require).any(is_newer)
        }
        Action::Deny(_) => false,
    }
}

fn is_of_conditions(
    require: &BTreeMap<ComponentName, Requirements>,
    wishes: &BTreeMap<ComponentName, Wishes>,
) -> bool {
    let required = require.values().flatten();
    let wished = wishes.values().flat_map(|wishes| wishes.prefer.iter().chain(&wishes.avoid));
    required.chain(wished).any(is_newer)
}

/// Whether members of earlier levels would read a condition wrongly: also a plain value of an attribute, which no node has as
/// a label, so that they would place elsewhere than others.
fn is_newer((name, condition): (&String, &Condition)) -> bool {
    condition.is_expression() || name.starts_with(ATTRIBUTES)
}

/// Whether a revision says of its checks or of isolation what earlier versions would leave out.
fn has_more_settings(linked: &LinkedGraph, spec: &GraphSpec) -> bool {
    linked.components.values().any(|found| says_more(&found.settings))
        || spec.components.values().any(|found| says_more(&found.settings))
}

fn says_more(settings: &Settings) -> bool {
    !settings.check_terms.are_default() || !settings.on_isolation.serves()
}

/// Whether a graph has what earlier versions would leave out.
fn needs_replicas(linked: &LinkedGraph) -> bool {
    let is_checked = |component: &LinkedComponent| component.settings.check.is_some();
    !linked.replicas.is_empty() || linked.components.values().any(is_checked)
}

impl State {
    /// The level of the cluster.
    pub fn level(&self) -> u32 {
        self.feature_level.max(FIRST_LEVEL)
    }

    /// The level that it can be raised to, for a leader that knows `own`: what all members have said that they know.
    pub fn level_to_raise_to(&self, own: u32) -> Option<u32> {
        let known = self.members.values().map(|record| record.level).min().unwrap_or(own);
        Some(known.min(own)).filter(|level| *level > self.level())
    }
}
