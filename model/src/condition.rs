//! What a node must be like: one condition on one label, or on an attribute that the node has by itself.
//!
//! A condition that says nothing but a value is stored and sent as that value, as it was before there were others.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::unit::ByteSize;

/// The most values of one condition; as many labels as a node may have.
pub const VALUES_MAX: usize = 64;
/// The most bounds of one range of versions: two are enough for any that is in one piece.
const BOUNDS_MAX: usize = 8;
/// The most numbers of one version.
const PARTS_MAX: usize = 8;

/// A condition on one label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Condition {
    /// The label has this value.
    Is(String),
    /// Something else than one value is asked for.
    Of(Expression),
}

/// A condition that is more than one value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expression {
    /// The label has one of these values.
    In(BTreeSet<String>),
    /// The label has none of these values; a node without the label has none.
    NotIn(BTreeSet<String>),
    /// The label is there, or is not.
    Exists(bool),
    /// The label is a version in this range.
    Version(VersionRange),
    /// The label is a number within these bounds.
    Number(NumberRange),
}

/// Bounds of a number; one at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct NumberRange {
    /// The least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<u64>,
    /// The most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<u64>,
}

/// A text that names a node's number: whole, or with the unit of a size.
pub fn number(text: &str) -> Option<u64> {
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_plain { text.parse().ok() } else { text.parse::<ByteSize>().ok().map(|size| size.0) }
}

impl Condition {
    /// Whether it holds of a node on which the label has this value, or is not there.
    pub fn holds(&self, value: Option<&str>) -> bool {
        match self {
            Self::Is(wanted) => value == Some(wanted),
            Self::Of(expression) => expression.holds(value),
        }
    }

    /// Whether it is more than one value: what members and agents of earlier versions do not know.
    pub const fn is_expression(&self) -> bool {
        matches!(self, Self::Of(_))
    }

    /// Whether no value of one label can meet both. What this does not say of two conditions is found out as well, by
    /// there being no node.
    pub fn contradicts(&self, other: &Self) -> bool {
        let none_is_taken = |mut values: BTreeSet<&str>, by: &Self| {
            values.retain(|value| by.holds(Some(value)));
            values.is_empty()
        };
        if let Some(values) = self.values() {
            return none_is_taken(values, other);
        }
        if let Some(values) = other.values() {
            return none_is_taken(values, self);
        }
        let (Self::Of(one), Self::Of(other)) = (self, other) else { return false };
        match (one, other) {
            (Expression::Exists(false), other) | (other, Expression::Exists(false)) => !other.holds(None),
            (Expression::Number(one), Expression::Number(other)) => {
                let least = one.at_least.max(other.at_least);
                let mosts = [one.at_most, other.at_most];
                least.is_some_and(|least| mosts.into_iter().flatten().any(|most| most < least))
            }
            _ => false,
        }
    }

    /// The values that it takes, if they are few.
    fn values(&self) -> Option<BTreeSet<&str>> {
        match self {
            Self::Is(value) => Some(BTreeSet::from([value.as_str()])),
            Self::Of(Expression::In(values)) => Some(values.iter().map(String::as_str).collect()),
            Self::Of(_) => None,
        }
    }

    /// The condition on this label as people read it: `zone=eu-1`, `zone in eu-1, eu-2`.
    pub fn of(&self, label: &str) -> String {
        match self {
            Self::Is(value) => format!("{label}={value}"),
            Self::Of(expression) => expression.of(label),
        }
    }
}

impl From<String> for Condition {
    fn from(value: String) -> Self {
        Self::Is(value)
    }
}

impl Expression {
    fn holds(&self, value: Option<&str>) -> bool {
        match self {
            Self::In(values) => value.is_some_and(|value| values.contains(value)),
            Self::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Self::Exists(wanted) => value.is_some() == *wanted,
            Self::Version(range) => value.is_some_and(|value| range.holds(value)),
            Self::Number(range) => value.and_then(number).is_some_and(|number| range.holds(number)),
        }
    }

    fn of(&self, label: &str) -> String {
        let joined = |values: &BTreeSet<String>| values.iter().cloned().collect::<Vec<_>>().join(", ");
        match self {
            Self::In(values) => format!("{label} in {}", joined(values)),
            Self::NotIn(values) => format!("{label} not in {}", joined(values)),
            Self::Exists(true) => format!("{label} at all"),
            Self::Exists(false) => format!("no {label}"),
            Self::Version(range) => format!("{label} {range}"),
            Self::Number(NumberRange { at_least, at_most }) => match (at_least, at_most) {
                (Some(least), Some(most)) => format!("{label} from {least} to {most}"),
                (Some(least), None) => format!("{label} at least {least}"),
                (None, Some(most)) => format!("{label} at most {most}"),
                (None, None) => format!("{label} a number"),
            },
        }
    }
}

impl NumberRange {
    fn holds(self, number: u64) -> bool {
        self.at_least.is_none_or(|least| least <= number) && self.at_most.is_none_or(|most| number <= most)
    }
}

/// A range of versions: `>=6.1, <7`.
///
/// A version is numbers with dots between; what follows them (`-13-amd64`) does not count. A bound is compared with as many
/// numbers of a version as it has itself, so that `=6.1` and `<=6.1` take 6.1.9, and `>6.1` does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VersionRange(Vec<Bound>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Bound {
    relation: Relation,
    parts: Vec<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    AtLeast,
    AtMost,
    Above,
    Below,
    Equal,
}

/// The longer ones first: `>` begins `>=`.
const RELATIONS: [(&str, Relation); 5] = [
    (">=", Relation::AtLeast),
    ("<=", Relation::AtMost),
    (">", Relation::Above),
    ("<", Relation::Below),
    ("=", Relation::Equal),
];

/// Why a text is not a range of versions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a range of versions: write bounds with commas between, each `>=`, `>`, `<=`, `<` or `=` and numbers \
     with dots between, as in `>=6.1, <7`"
)]
pub struct VersionRangeError {
    text: String,
}

impl VersionRange {
    /// Whether a version is in it; a text that does not begin with a number is none.
    pub fn holds(&self, version: &str) -> bool {
        let Some(parts) = numbers_of(version) else { return false };
        self.0.iter().all(|bound| bound.holds(&parts))
    }
}

impl Bound {
    fn holds(&self, version: &[u64]) -> bool {
        let written = version.iter().copied().chain(std::iter::repeat(0)).take(self.parts.len());
        let order = written.cmp(self.parts.iter().copied());
        match self.relation {
            Relation::AtLeast => order.is_ge(),
            Relation::AtMost => order.is_le(),
            Relation::Above => order.is_gt(),
            Relation::Below => order.is_lt(),
            Relation::Equal => order.is_eq(),
        }
    }
}

/// The numbers that a version begins with.
fn numbers_of(version: &str) -> Option<Vec<u64>> {
    let end = version.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(version.len());
    let parts = version[..end].split('.').take_while(|part| !part.is_empty());
    let parts: Vec<u64> = parts.take(PARTS_MAX).map(|part| part.parse().unwrap_or(u64::MAX)).collect();
    (!parts.is_empty()).then_some(parts)
}

impl FromStr for VersionRange {
    type Err = VersionRangeError;

    fn from_str(text: &str) -> Result<Self, VersionRangeError> {
        let bound = |text: &str| {
            let (relation, rest) =
                RELATIONS.iter().find_map(|(sign, relation)| Some((*relation, text.strip_prefix(sign)?)))?;
            let parts: Option<Vec<u64>> = rest.trim().split('.').map(plain).collect();
            parts.filter(|parts| parts.len() <= PARTS_MAX).map(|parts| Bound { relation, parts })
        };
        let bounds: Option<Vec<Bound>> = text.split(',').map(|part| bound(part.trim())).collect();
        let wrong = || VersionRangeError { text: text.chars().take(48).collect() };
        bounds.filter(|bounds| bounds.len() <= BOUNDS_MAX).map(Self).ok_or_else(wrong)
    }
}

fn plain(part: &str) -> Option<u64> {
    part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok()).flatten()
}

impl fmt::Display for VersionRange {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |bound: &Bound| {
            let sign = RELATIONS.iter().find(|(_, relation)| *relation == bound.relation);
            let parts: Vec<String> = bound.parts.iter().map(ToString::to_string).collect();
            format!("{}{}", sign.map_or("", |(sign, _)| sign), parts.join("."))
        };
        out.pad(&self.0.iter().map(shown).collect::<Vec<_>>().join(", "))
    }
}

impl TryFrom<String> for VersionRange {
    type Error = VersionRangeError;

    fn try_from(text: String) -> Result<Self, VersionRangeError> {
        text.parse()
    }
}

impl From<VersionRange> for String {
    fn from(range: VersionRange) -> Self {
        range.to_string()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn values(texts: &[&str]) -> BTreeSet<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn one_of(texts: &[&str]) -> Condition {
        Condition::Of(Expression::In(values(texts)))
    }

    fn none_of(texts: &[&str]) -> Condition {
        Condition::Of(Expression::NotIn(values(texts)))
    }

    fn exists(wanted: bool) -> Condition {
        Condition::Of(Expression::Exists(wanted))
    }

    fn version(text: &str) -> Condition {
        Condition::Of(Expression::Version(text.parse().unwrap()))
    }

    fn within(at_least: Option<u64>, at_most: Option<u64>) -> Condition {
        Condition::Of(Expression::Number(NumberRange { at_least, at_most }))
    }

    #[test]
    fn each_condition_says_which_nodes_meet_it() {
        type Values = &'static [Option<&'static str>];
        let rows: &[(Condition, Values, Values)] = &[
            (Condition::Is("a".to_owned()), &[Some("a")], &[Some("b"), Some(""), None]),
            (one_of(&["a", "b"]), &[Some("a"), Some("b")], &[Some("c"), None]),
            (none_of(&["a", "b"]), &[Some("c"), None], &[Some("a"), Some("b")]),
            (exists(true), &[Some("a"), Some("")], &[None]),
            (exists(false), &[None], &[Some("a"), Some("")]),
            (within(Some(8), None), &[Some("8"), Some("99")], &[Some("7"), Some("eight"), Some("-9"), None]),
            (within(Some(8), Some(16)), &[Some("8"), Some("16")], &[Some("17"), Some("7")]),
            (within(Some(1 << 30), None), &[Some("1Gi"), Some("2048Mi")], &[Some("1023Mi"), Some("1")]),
            (version(">=6.1, <7"), &[Some("6.1"), Some("6.12.3-13-amd64")], &[Some("7.0"), Some("6"), None]),
            (version("=6.1"), &[Some("6.1.9"), Some("6.1")], &[Some("6.2"), Some("6.10"), Some("v6.1")]),
            (version(">6.1"), &[Some("6.2"), Some("7")], &[Some("6.1.9"), Some("")]),
            (version("<=6.1"), &[Some("6.1.9"), Some("5.99")], &[Some("6.2")]),
            (version("<99"), &[Some("98.")], &[Some("99999999999999999999999999")]),
        ];
        for (condition, met, unmet) in rows {
            for value in *met {
                assert!(condition.holds(*value), "{} of {value:?}", condition.of("label"));
            }
            for value in *unmet {
                assert!(!condition.holds(*value), "{} of {value:?}", condition.of("label"));
            }
        }
    }

    #[test]
    fn two_conditions_contradict_each_other_where_no_value_meets_both() {
        let is = |value: &str| Condition::Is(value.to_owned());
        let rows = [
            (is("a"), is("a"), false),
            (is("a"), is("b"), true),
            (is("a"), one_of(&["a", "b"]), false),
            (is("c"), one_of(&["a", "b"]), true),
            (one_of(&["a", "b"]), one_of(&["b", "c"]), false),
            (one_of(&["a"]), one_of(&["b"]), true),
            (one_of(&["a", "b"]), none_of(&["a", "b", "c"]), true),
            (none_of(&["a"]), none_of(&["b"]), false),
            (is("a"), exists(false), true),
            (none_of(&["a"]), exists(false), false),
            (exists(true), exists(false), true),
            (version(">=1"), exists(false), true),
            (is("7.1"), version(">=6.1, <7"), true),
            (within(Some(8), None), within(None, Some(7)), true),
            (within(Some(8), None), within(None, Some(8)), false),
            (within(Some(8), Some(9)), within(Some(10), None), true),
        ];
        for (one, other, contradict) in rows {
            assert_eq!(one.contradicts(&other), contradict, "{} and {}", one.of("l"), other.of("l"));
            assert_eq!(other.contradicts(&one), contradict, "{} and {}", other.of("l"), one.of("l"));
        }
    }

    #[test]
    fn a_value_alone_is_stored_as_it_was_before_there_were_conditions() {
        let stored = |condition: &Condition| serde_json::to_string(condition).unwrap();
        let read = |text: &str| serde_json::from_str::<Condition>(text).unwrap();
        assert_eq!(stored(&Condition::Is("eu-1".to_owned())), "\"eu-1\"");
        for condition in [
            Condition::Is("eu-1".to_owned()),
            one_of(&["a", "b"]),
            none_of(&["a"]),
            exists(false),
            version(">=6.1, <7"),
            within(Some(8), None),
        ] {
            assert_eq!(read(&stored(&condition)), condition);
        }
        assert_eq!(stored(&version(">= 6.1,<7")), "{\"version\":\">=6.1, <7\"}");
    }

    #[test]
    fn what_is_no_range_of_versions_is_refused() {
        for text in ["", "6.1", ">=", ">=6.", ">=6.x", ">=6.1,", "~6", ">=6.1 <7", "=>6", ">=1.2.3.4.5.6.7.8.9"]
        {
            assert!(text.parse::<VersionRange>().is_err(), "{text}");
        }
        assert_eq!(" >=6.1 ,<7 ".parse::<VersionRange>().unwrap().to_string(), ">=6.1, <7");
    }
}
