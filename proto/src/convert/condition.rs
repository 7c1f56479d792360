//! What is asked of nodes: values of labels by themselves, as earlier versions read them, and all else beside them.

use std::collections::{BTreeMap, BTreeSet};

use model::condition::{Condition, Expression, NumberRange};
use model::placement::Requirements;

use super::{DecodeError, parse, required};
use crate::weft::graph::v1 as wire;

/// Values of labels, and all other conditions.
pub(super) fn parted(conditions: Requirements) -> (BTreeMap<String, String>, Vec<wire::Condition>) {
    let (mut labels, mut others) = (BTreeMap::new(), Vec::new());
    for (label, condition) in conditions {
        match condition {
            Condition::Is(value) => {
                labels.insert(label, value);
            }
            Condition::Of(expression) => {
                others.push(wire::Condition { label, kind: Some(expression.into()) });
            }
        }
    }
    (labels, others)
}

/// The same from the wire.
pub(super) fn joined(
    field: &str,
    labels: BTreeMap<String, String>,
    conditions: Vec<wire::Condition>,
) -> Result<Requirements, DecodeError> {
    let mut all: Requirements =
        labels.into_iter().map(|(label, value)| (label, Condition::Is(value))).collect();
    for condition in conditions {
        let kind = required("kind", condition.kind).map_err(|error| error.under(field))?;
        let expression = Expression::try_from(kind).map_err(|error| error.under(field))?;
        all.insert(condition.label, Condition::Of(expression));
    }
    Ok(all)
}

impl From<Expression> for wire::condition::Kind {
    fn from(expression: Expression) -> Self {
        let values = |values: BTreeSet<String>| wire::Values { values: values.into_iter().collect() };
        match expression {
            Expression::In(all) => Self::OneOf(values(all)),
            Expression::NotIn(all) => Self::NoneOf(values(all)),
            Expression::Exists(wanted) => Self::Exists(wanted),
            Expression::Version(range) => Self::Version(range.into()),
            Expression::Number(NumberRange { at_least, at_most }) => {
                Self::Number(wire::NumberRange { at_least, at_most })
            }
        }
    }
}

impl TryFrom<wire::condition::Kind> for Expression {
    type Error = DecodeError;

    fn try_from(kind: wire::condition::Kind) -> Result<Self, DecodeError> {
        Ok(match kind {
            wire::condition::Kind::OneOf(values) => Self::In(values.values.into_iter().collect()),
            wire::condition::Kind::NoneOf(values) => Self::NotIn(values.values.into_iter().collect()),
            wire::condition::Kind::Exists(wanted) => Self::Exists(wanted),
            wire::condition::Kind::Version(text) => Self::Version(parse("version", &text)?),
            wire::condition::Kind::Number(wire::NumberRange { at_least, at_most }) => {
                Self::Number(NumberRange { at_least, at_most })
            }
        })
    }
}
