//! Conditions on nodes, as manifests write them: a value, or what else a label or an attribute of a node must be.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use model::condition::{Condition, Expression, NumberRange, VALUES_MAX, VersionRange, number};
use model::placement::{CPUS_ATTRIBUTE, MEMORY_ATTRIBUTE, Requirements};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::value::place;
use crate::diagnostic::{Diagnostic, Findings};
use crate::document::{Placed, shorten};

const EXAMPLE: &str = "as in `{in: [eu-1, eu-2]}`, `{not: spot}`, `{exists: true}`, `{version: \">=6.1, <7\"}` or `{at-least: 8}`";

/// What is wanted of one label: a value, or a condition.
#[derive(Debug)]
pub enum ConditionValue {
    /// The value.
    Is(String),
    /// The condition.
    Of(Box<ConditionEntry>),
}

/// What is wanted of a label or an attribute of a node, if not one value: one of these.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ConditionEntry {
    /// One of these values.
    #[serde(rename = "in")]
    pub one_of: Option<Placed<Vec<Placed<String>>>>,
    /// Not this value; nodes without the label meet that.
    pub not: Option<Placed<String>>,
    /// None of these values; nodes without the label meet that.
    pub not_in: Option<Placed<Vec<Placed<String>>>>,
    /// Whether the label is there at all.
    pub exists: Option<Placed<bool>>,
    /// A range of versions, `>=6.1, <7`: each bound is compared with as many numbers of the version as it has itself.
    pub version: Option<Placed<String>>,
    /// A number, and no less than this: whole, or with a unit (`8`, `16Gi`). It goes together with `at-most`.
    #[schemars(regex(pattern = "^[0-9]+(Ki|Mi|Gi)?$"))]
    pub at_least: Option<Placed<String>>,
    /// A number, and no more than this.
    #[schemars(regex(pattern = "^[0-9]+(Ki|Mi|Gi)?$"))]
    pub at_most: Option<Placed<String>>,
}

impl<'de> Deserialize<'de> for ConditionValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = ConditionValue;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a text or a condition")
    }

    fn visit_str<E>(self, text: &str) -> Result<ConditionValue, E> {
        Ok(ConditionValue::Is(text.to_owned()))
    }

    /// What stands in for something that is wrong.
    fn visit_unit<E>(self) -> Result<ConditionValue, E> {
        Ok(ConditionValue::Is(String::new()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ConditionValue, A::Error> {
        let entry = ConditionEntry::deserialize(MapAccessDeserializer::new(map))?;
        Ok(ConditionValue::Of(Box::new(entry)))
    }
}

impl JsonSchema for ConditionValue {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ConditionValue".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let condition = generator.subschema_for::<ConditionEntry>();
        json_schema!({"anyOf": [{"type": "string"}, condition]})
    }
}

impl Findings {
    /// Reads conditions by their labels. What is wrong is reported and left out.
    pub(crate) fn conditions(
        &mut self,
        field: &str,
        entries: BTreeMap<String, Placed<ConditionValue>>,
    ) -> Requirements {
        let (mut values, mut conditions) = (BTreeMap::new(), Requirements::new());
        for (label, entry) in entries {
            let (span, is_stand_in) = (entry.span, entry.is_stand_in);
            let mut keep = |value| {
                values.insert(label.clone(), Placed { value, span: span.clone(), is_stand_in });
            };
            match entry.value {
                ConditionValue::Is(value) => {
                    let is_number = label == MEMORY_ATTRIBUTE || label == CPUS_ATTRIBUTE;
                    if is_number && !is_stand_in {
                        // A value is compared as a text, and what a node has is a number of bytes: `16Gi` would never hold.
                        let message = format!("`{label}` is a number: say how much it is at least or at most");
                        let diagnostic =
                            Diagnostic::error("condition", format!("{field}.{}", shorten(&label)), message);
                        let help = format!("write `{{at-least: {}}}`", shorten(&value));
                        self.push(diagnostic.at(Some(span.clone()), "this value").help(help));
                    }
                    keep(value);
                }
                ConditionValue::Of(entry) => {
                    // The name is held against the rules of labels as any other.
                    keep(String::new());
                    let entry = Placed { value: *entry, span: span.clone(), is_stand_in };
                    let found = expression(self, &format!("{field}.{}", shorten(&label)), &entry);
                    conditions.extend(found.map(|found| (label.clone(), Condition::Of(found))));
                }
            }
        }
        for (label, value) in self.labels(field, values) {
            conditions.entry(label).or_insert(Condition::Is(value));
        }
        conditions
    }
}

/// The one condition that an entry has; refuses one that has none, or several.
fn expression(findings: &mut Findings, field: &str, entry: &Placed<ConditionEntry>) -> Option<Expression> {
    let ConditionEntry { one_of, not, not_in, exists, version, at_least, at_most } = &entry.value;
    let is_number = at_least.is_some() || at_most.is_some();
    let is_there =
        [one_of.is_some(), not.is_some(), not_in.is_some(), exists.is_some(), version.is_some(), is_number];
    let count = is_there.into_iter().filter(|is_there| *is_there).count();
    if count != 1 {
        // One without any may have had another, which was refused.
        if count > 1 || findings.is_empty() {
            let message = "a condition is one of `in`, `not`, `not-in`, `exists`, `version`, and `at-least` with `at-most`";
            let diagnostic = Diagnostic::error("condition", field, message);
            findings.push(diagnostic.at(place(entry), "this condition").help(EXAMPLE));
        }
        return None;
    }
    if let Some(values) = one_of {
        return values_of(findings, &format!("{field}.in"), values).map(Expression::In);
    }
    if let Some(values) = not_in {
        return values_of(findings, &format!("{field}.not-in"), values).map(Expression::NotIn);
    }
    if let Some(value) = not {
        return Some(Expression::NotIn([value.value.clone()].into()));
    }
    if let Some(wanted) = exists {
        return Some(Expression::Exists(wanted.value));
    }
    if let Some(range) = version {
        return findings
            .read::<VersionRange>("condition", &format!("{field}.version"), range)
            .map(Expression::Version);
    }
    let least = bound(findings, &format!("{field}.at-least"), at_least.as_ref());
    let most = bound(findings, &format!("{field}.at-most"), at_most.as_ref());
    if least.zip(most).is_some_and(|(least, most)| least > most) {
        let message = "`at-least` is more than `at-most`: no number is both";
        findings.push(Diagnostic::error("condition", field, message).at(place(entry), "this condition"));
    }
    Some(Expression::Number(NumberRange { at_least: least, at_most: most }))
}

fn values_of(
    findings: &mut Findings,
    field: &str,
    values: &Placed<Vec<Placed<String>>>,
) -> Option<BTreeSet<String>> {
    if !(1..=VALUES_MAX).contains(&values.value.len()) && !values.is_stand_in {
        let message = format!("a condition has 1 to {VALUES_MAX} values, not {}", values.value.len());
        findings.push(Diagnostic::error("condition", field, message).at(place(values), "these values"));
        return None;
    }
    Some(values.value.iter().map(|value| value.value.clone()).collect())
}

fn bound(findings: &mut Findings, field: &str, text: Option<&Placed<String>>) -> Option<u64> {
    let text = text.filter(|text| !text.is_stand_in)?;
    let found = number(&text.value);
    if found.is_none() {
        let message = format!("`{}` is not a number: write `8`, or with a unit `16Gi`", shorten(&text.value));
        findings.push(Diagnostic::error("condition", field, message).at(place(text), "here"));
    }
    found
}
