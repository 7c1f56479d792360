//! Plans.

use model::id::RevisionNumber;
use model::plan::{Change, ChangeKind, Plan};

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
