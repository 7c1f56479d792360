//! The status of a graph.

use model::id::{Generation, RevisionNumber, StateRevision};
use model::linked::Origin;
use model::placement::Placement;
use model::report::Failure;
use model::rollout::{PolicyRolloutStatus, RolloutStatus};
use model::scale::Calls;
use model::status::{ComponentStatus, GraphState, GraphStatus, ScaleStatus};

use super::{DecodeError, each, parse, read, required};
use crate::weft::graph::v1 as wire;
use crate::weft::graph::v1::graph_status::State;

impl From<GraphStatus> for wire::GraphStatus {
    fn from(status: GraphStatus) -> Self {
        let number = |generation: Option<Generation>| generation.unwrap_or_default().0;
        let state = match status.state {
            GraphState::Pending { why } => State::Pending(wire::Pending { why }),
            GraphState::Starting { phase, serving } => {
                State::Starting(wire::Starting { phase, serving_generation: number(serving) })
            }
            GraphState::Serving => State::Serving(wire::Serving {}),
            GraphState::Failed { failure, serving } => State::Failed(wire::Failed {
                reason: failure.reason,
                message: failure.message,
                serving_generation: number(serving),
            }),
            GraphState::Unknown { why } => State::Unknown(wire::Unknown { why }),
        };
        Self {
            graph: status.key.into(),
            uid: status.uid.into(),
            revision: status.revision.0,
            generation: status.generation.0,
            state_revision: status.state_revision.0,
            deployed_at_ms: status.deployed_at_ms,
            state: Some(state),
            placement: status.placement.map(Into::into),
            ingress_address: status.ingress_address.unwrap_or_default(),
            ingress: status.ingress.into_iter().map(Into::into).collect(),
            components: status.components.into_iter().map(Into::into).collect(),
            rollout: status.rollout.map(Into::into),
            reverted: status.reverted.map(Into::into),
            policy_rollout: status.policy_rollout.map(Into::into),
            scales: status.scales.into_iter().map(Into::into).collect(),
            failing: status.failing.into_iter().map(|(node, why)| (node.into(), why)).collect(),
            unkept: status.unkept.into_iter().map(|(node, why)| (node.into(), why)).collect(),
        }
    }
}

impl TryFrom<wire::GraphStatus> for GraphStatus {
    type Error = DecodeError;

    fn try_from(status: wire::GraphStatus) -> Result<Self, DecodeError> {
        let serving = |number: u64| (number != 0).then_some(Generation(number));
        let state = match required("state", status.state)? {
            State::Pending(pending) => GraphState::Pending { why: pending.why },
            State::Starting(starting) => {
                GraphState::Starting { phase: starting.phase, serving: serving(starting.serving_generation) }
            }
            State::Serving(_) => GraphState::Serving,
            State::Failed(failed) => GraphState::Failed {
                failure: Failure { reason: failed.reason, message: failed.message },
                serving: serving(failed.serving_generation),
            },
            State::Unknown(unknown) => GraphState::Unknown { why: unknown.why },
        };
        let placement = status.placement.map(Placement::try_from).transpose();
        let rollout = status.rollout.map(RolloutStatus::try_from).transpose();
        let policy_rollout = status.policy_rollout.map(PolicyRolloutStatus::try_from).transpose();
        let unkept = status.unkept.into_iter().map(|(node, why)| Ok((read("unkept", node)?, why)));
        let failing = status.failing.into_iter().map(|(node, why)| Ok((read("failing", node)?, why)));
        Ok(Self {
            key: parse("graph", &status.graph)?,
            uid: read("uid", status.uid)?,
            revision: RevisionNumber(status.revision),
            generation: Generation(status.generation),
            state_revision: StateRevision(status.state_revision),
            deployed_at_ms: status.deployed_at_ms,
            state,
            placement: placement.map_err(|error| error.under("placement"))?,
            ingress_address: (!status.ingress_address.is_empty()).then_some(status.ingress_address),
            ingress: each("ingress", status.ingress)?,
            components: each("components", status.components)?,
            rollout: rollout.map_err(|error| error.under("rollout"))?,
            reverted: status.reverted.map(Into::into),
            policy_rollout: policy_rollout.map_err(|error| error.under("policy_rollout"))?,
            scales: each("scales", status.scales)?,
            failing: failing.collect::<Result<_, DecodeError>>()?,
            unkept: unkept.collect::<Result<_, DecodeError>>()?,
        })
    }
}

impl From<ScaleStatus> for wire::ScaleStatus {
    fn from(status: ScaleStatus) -> Self {
        Self {
            name: status.name.into(),
            replicas: status.replicas,
            scaling: Some(status.scaling.into()),
            calls_thousandths: status.calls.map(Calls::thousandths),
        }
    }
}

impl TryFrom<wire::ScaleStatus> for ScaleStatus {
    type Error = DecodeError;

    fn try_from(status: wire::ScaleStatus) -> Result<Self, DecodeError> {
        Ok(Self {
            name: read("name", status.name)?,
            replicas: status.replicas,
            scaling: required("scaling", status.scaling)?.try_into()?,
            calls: status.calls_thousandths.map(Calls::from_thousandths),
        })
    }
}

impl From<ComponentStatus> for wire::ComponentStatus {
    fn from(status: ComponentStatus) -> Self {
        Self {
            name: status.name.into(),
            policy: match status.origin {
                Origin::Graph => None,
                Origin::Policy(version) => Some(version.into()),
            },
            artifact: status.artifact,
            nodes: status.nodes,
            serving: status.serving,
        }
    }
}

impl TryFrom<wire::ComponentStatus> for ComponentStatus {
    type Error = DecodeError;

    fn try_from(status: wire::ComponentStatus) -> Result<Self, DecodeError> {
        Ok(Self {
            name: read("name", status.name)?,
            origin: match status.policy {
                None => Origin::Graph,
                Some(version) => Origin::Policy(version.try_into()?),
            },
            artifact: status.artifact,
            nodes: status.nodes,
            serving: status.serving,
        })
    }
}
