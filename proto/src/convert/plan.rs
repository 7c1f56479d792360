//! Plans.

use model::id::RevisionNumber;
use model::plan::{Change, ChangeKind, Move, Plan, Takeover};

use super::{DecodeError, each, parse, required};
use crate::weft::graph::v1 as wire;

impl From<Plan> for wire::Plan {
    fn from(plan: Plan) -> Self {
        Self {
            id: plan.id,
            graph: plan.key.into(),
            base_revision: plan.base.unwrap_or_default().0,
            changes: plan.changes.into_iter().map(Into::into).collect(),
            linked: Some(plan.linked.into()),
            warnings: plan.warnings,
            placement: plan.placement.map(Into::into),
            placed: plan.placed.map(Into::into),
            takeover: takeover(plan.takeover),
            moves: plan.moves.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<wire::Plan> for Plan {
    type Error = DecodeError;

    fn try_from(plan: wire::Plan) -> Result<Self, DecodeError> {
        Ok(Self {
            id: plan.id,
            key: parse("graph", &plan.graph)?,
            base: (plan.base_revision != 0).then_some(RevisionNumber(plan.base_revision)),
            changes: each("changes", plan.changes)?,
            linked: required("linked", plan.linked)?
                .try_into()
                .map_err(|error: DecodeError| error.under("linked"))?,
            warnings: plan.warnings,
            placement: plan
                .placement
                .map(TryInto::try_into)
                .transpose()
                .map_err(|error: DecodeError| error.under("placement"))?,
            placed: plan
                .placed
                .map(TryInto::try_into)
                .transpose()
                .map_err(|error: DecodeError| error.under("placed"))?,
            takeover: plan.takeover.map(TryInto::try_into).transpose()?.unwrap_or_default(),
            moves: each("moves", plan.moves)?,
        })
    }
}

fn takeover(takeover: Takeover) -> Option<wire::Takeover> {
    let kind = match takeover {
        Takeover::Unsaid => return None,
        Takeover::AtOnce { why } => wire::takeover::Kind::AtOnce(why),
        Takeover::Steps(steps) => {
            let steps = steps.into_iter().map(Into::into).collect();
            wire::takeover::Kind::Steps(wire::takeover::Steps { steps })
        }
        Takeover::Refused { why } => wire::takeover::Kind::Refused(why),
    };
    Some(wire::Takeover { kind: Some(kind) })
}

impl TryFrom<wire::Takeover> for Takeover {
    type Error = DecodeError;

    fn try_from(takeover: wire::Takeover) -> Result<Self, DecodeError> {
        Ok(match required("takeover.kind", takeover.kind)? {
            wire::takeover::Kind::AtOnce(why) => Self::AtOnce { why },
            wire::takeover::Kind::Steps(steps) => Self::Steps(each("takeover.steps", steps.steps)?),
            wire::takeover::Kind::Refused(why) => Self::Refused { why },
        })
    }
}

impl From<Move> for wire::PlannedMove {
    fn from(planned: Move) -> Self {
        let (from, to) = (planned.from.map(Into::into), Some(planned.to.into()));
        Self { graph: planned.key.into(), from, to }
    }
}

impl TryFrom<wire::PlannedMove> for Move {
    type Error = DecodeError;

    fn try_from(planned: wire::PlannedMove) -> Result<Self, DecodeError> {
        let from = planned.from.map(TryInto::try_into).transpose();
        let to: Result<_, DecodeError> = required("to", planned.to)?.try_into();
        Ok(Self {
            key: parse("graph", &planned.graph)?,
            from: from.map_err(|error: DecodeError| error.under("from"))?,
            to: to.map_err(|error| error.under("to"))?,
        })
    }
}

impl From<Change> for wire::Change {
    fn from(change: Change) -> Self {
        let kind = match change.kind {
            ChangeKind::Add => wire::ChangeKind::Add,
            ChangeKind::Change => wire::ChangeKind::Change,
            ChangeKind::Remove => wire::ChangeKind::Remove,
        };
        Self { kind: kind.into(), subject: change.subject, detail: change.detail }
    }
}

impl TryFrom<wire::Change> for Change {
    type Error = DecodeError;

    fn try_from(change: wire::Change) -> Result<Self, DecodeError> {
        let kind = match wire::ChangeKind::try_from(change.kind) {
            Ok(wire::ChangeKind::Add) => ChangeKind::Add,
            Ok(wire::ChangeKind::Change) => ChangeKind::Change,
            Ok(wire::ChangeKind::Remove) => ChangeKind::Remove,
            Ok(wire::ChangeKind::Unspecified) | Err(_) => return Err(DecodeError::unknown("kind")),
        };
        Ok(Self { kind, subject: change.subject, detail: change.detail })
    }
}
