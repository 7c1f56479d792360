//! The section `scale` of a component: on how many nodes it runs, always or as its calls need. Where these are is decided
//! elsewhere.

use std::ops::RangeInclusive;

use model::placement::REPLICAS_MAX;
use model::scale::{CONCURRENCY, DOWN_AFTER, DOWN_AFTER_DEFAULT, Scaling};

use super::rollout::duration;
use super::shape::ScaleEntry;
use super::value::place;
use crate::diagnostic::{Diagnostic, Findings};
use crate::document::Placed;

/// What is said where the fewest nodes are none.
const IDLE: &str =
    "write 1 or more: a node makes an instance for each request, and holds none of what nobody asks for";

/// On how many nodes a component runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// On so many.
    Replicas(u32),
    /// On as many as its calls need.
    Calls(Scaling),
    /// On each node that takes it.
    EachNode,
}

/// Reads the section of the component at `field`; nothing where it says nothing, or what is wrong and reported.
pub(super) fn scale(findings: &mut Findings, field: &str, entry: &ScaleEntry) -> Option<Scale> {
    let field = format!("{field}.scale");
    let down_after = entry.down_after.as_ref();
    let calls =
        [&entry.min, &entry.max, &entry.concurrency].into_iter().find_map(Option::as_ref).and_then(place);
    let calls = calls.or_else(|| down_after.and_then(place));
    if let Some(each) = entry.each_node.as_ref().filter(|each| each.value) {
        if entry.replicas.is_none() && calls.is_none() {
            return Some(Scale::EachNode);
        }
        let message = "a component runs on each node or on so many: leave one of both out";
        findings.push(Diagnostic::error("wrong_type", field, message).at(place(each), "and on so many"));
        return None;
    }
    if let Some(replicas) = &entry.replicas {
        if calls.is_some() {
            let message = format!(
                "`{field}` has either `replicas`, or `max` and `concurrency`: what is scaled has no fixed number"
            );
            let diagnostic = Diagnostic::error("wrong_type", format!("{field}.replicas"), message);
            findings.push(diagnostic.at(place(replicas), "beside the bounds").help("leave one of both out"));
            return None;
        }
        return nodes(findings, &format!("{field}.replicas"), replicas).map(Scale::Replicas);
    }
    let at = calls?;
    let mut missing = |name: &str, example: &str| {
        let message = format!("`{name}` is missing: a component that is scaled has `max` and `concurrency`");
        let diagnostic = Diagnostic::error("missing_field", format!("{field}.{name}"), message);
        findings.push(
            diagnostic.at(Some(at.clone()), format!("needs `{name}`")).help(format!("as in `{example}`")),
        );
    };
    if entry.max.is_none() {
        missing("max", "max: 8");
    }
    if entry.concurrency.is_none() {
        missing("concurrency", "concurrency: 50");
    }
    let min = match &entry.min {
        Some(min) => nodes(findings, &format!("{field}.min"), min),
        None => Some(1),
    };
    let max = entry.max.as_ref().and_then(|max| nodes(findings, &format!("{field}.max"), max));
    let concurrency = entry.concurrency.as_ref();
    let concurrency =
        concurrency.and_then(|concurrency| aimed_at(findings, &format!("{field}.concurrency"), concurrency));
    let down_after = match down_after {
        Some(text) => duration(findings, &format!("{field}.down-after"), text, &DOWN_AFTER, None),
        None => Some(DOWN_AFTER_DEFAULT),
    };
    let (min, max) = (min?, max?);
    match Scaling::new(min, max, concurrency?, down_after?) {
        Ok(scaling) => Some(Scale::Calls(scaling)),
        Err(error) => {
            let diagnostic = Diagnostic::error("out_of_range", format!("{field}.min"), error.to_string());
            findings.push(diagnostic.at(entry.min.as_ref().and_then(place), "more than `max`"));
            None
        }
    }
}

/// A number of nodes that a component can run on.
fn nodes(findings: &mut Findings, field: &str, written: &Placed<u32>) -> Option<u32> {
    let count = written.value;
    if written.is_stand_in {
        return None;
    }
    if (1..=REPLICAS_MAX).contains(&count) {
        return Some(count);
    }
    let message = format!("a component runs on 1 to {REPLICAS_MAX} nodes, not {count}");
    let diagnostic = Diagnostic::error("out_of_range", field, message).at(place(written), "here");
    let is_least = field.ends_with(".min") && count == 0;
    findings.push(if is_least { diagnostic.help(IDLE) } else { diagnostic });
    None
}

/// A number within its bounds.
pub(super) fn bounded(
    findings: &mut Findings,
    field: &str,
    written: &Placed<u32>,
    bounds: &RangeInclusive<u32>,
) -> Option<u32> {
    let message = || format!("`{field}` is {} to {}, not {}", bounds.start(), bounds.end(), written.value);
    within(findings, field, written, bounds, message)
}

fn aimed_at(findings: &mut Findings, field: &str, written: &Placed<u32>) -> Option<u32> {
    let (least, most) = (CONCURRENCY.start(), CONCURRENCY.end());
    let message =
        || format!("{least} to {most} calls under way are aimed at on each node, not {}", written.value);
    within(findings, field, written, &CONCURRENCY, message)
}

/// A number within its bounds, or the message of one that is not.
pub(super) fn within(
    findings: &mut Findings,
    field: &str,
    written: &Placed<u32>,
    bounds: &RangeInclusive<u32>,
    message: impl FnOnce() -> String,
) -> Option<u32> {
    if written.is_stand_in || bounds.contains(&written.value) {
        return (!written.is_stand_in).then_some(written.value);
    }
    findings.push(Diagnostic::error("out_of_range", field, message()).at(place(written), "here"));
    None
}
