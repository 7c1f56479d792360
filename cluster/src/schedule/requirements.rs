//! What the members of a cell require of their node, taken together.

use model::condition::Condition;

use crate::state::NodeRecord;

/// A label or an attribute, and what is required of it.
pub(super) type Required<'a> = (&'a String, &'a Condition);

/// Adds what one more member requires; refuses what contradicts what others do, as far as that can be told without nodes.
pub(super) fn add<'a>(require: &mut Vec<Required<'a>>, added: Required<'a>) -> Result<(), String> {
    let (label, condition) = added;
    let mut of_label = require.iter().filter(|(known, _)| *known == label);
    if let Some((_, known)) = of_label.clone().find(|(_, known)| known.contradicts(condition)) {
        return Err(format!("{} and {} are required of it", known.of(label), condition.of(label)));
    }
    if !of_label.any(|(_, known)| *known == condition) {
        require.push(added);
    }
    Ok(())
}

pub(super) fn are_met(require: &[Required<'_>], node: &NodeRecord) -> bool {
    require.iter().all(|(label, condition)| node.is(label, condition))
}

/// The first thing that is required and that `node` is not.
pub(super) fn lacked(require: &[Required<'_>], node: &NodeRecord) -> Option<String> {
    let (label, condition) = require.iter().find(|(label, condition)| !node.is(label, condition))?;
    Some(match condition {
        Condition::Is(_) => format!("has not the label {}", condition.of(label)),
        Condition::Of(_) => {
            let has = node.attribute(label).map(|value| format!("{label}={value}"));
            format!(
                "has {}, and required is {}",
                has.unwrap_or_else(|| format!("no {label}")),
                condition.of(label)
            )
        }
    })
}
