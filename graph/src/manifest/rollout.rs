//! The section `rollout`: how a new revision of a graph, or a new version of a policy, takes over from the one before. What
//! it says stands in bounds and in order; what becomes of a revision by it is decided elsewhere.

use std::ops::RangeInclusive;
use std::time::Duration;

use model::rollout::{
    DEADLINE_DEFAULT, HOLD_MAX, MAX_ERRORS_DEFAULT, MAX_LATENCY_PERCENT, OnFailure, RolloutSpec, STEPS_MAX,
    Share, Step,
};
use model::unit::{format_duration, parse_duration};

use super::shape::{RolloutEntry, StepEntry};
use super::value::place;
use crate::diagnostic::{Diagnostic, Findings};
use crate::document::{Placed, Refused, Why};

/// What a step says in place of a time.
const UNTIL_PROMOTED: &str = "until-promoted";
/// How long a step may take. One of no time would be none.
const HOLD: RangeInclusive<Duration> = Duration::from_millis(1)..=HOLD_MAX;
/// How long a revision may take until it answers. No component is fetched and compiled much faster.
const DEADLINE: RangeInclusive<Duration> = Duration::from_secs(1)..=HOLD_MAX;

const STEPS: &str = "write `steps`; a first one with `share: 0%` has all of it up before anybody gets to it";

/// What others call what is here, or do otherwise.
pub(crate) const REFUSED: &[Refused] = &[
    Refused { path: "rollout.strategy", why: Why::NotYet(STEPS) },
    Refused { path: "rollout.canary", why: Why::NotYet(STEPS) },
    Refused { path: "rollout.blue-green", why: Why::NotYet(STEPS) },
    Refused { path: "rollout.auto-revert", why: Why::Renamed("on-failure") },
    Refused { path: "rollout.steps.*.weight", why: Why::Renamed("share") },
    Refused { path: "rollout.steps.*.pause", why: Why::Renamed("hold") },
];

/// Reads the section. What is wrong is reported, and something else is in its place.
pub(crate) fn rollout(findings: &mut Findings, entry: &RolloutEntry) -> RolloutSpec {
    let steps = steps(findings, &entry.steps);
    let max_errors = entry.max_errors.as_ref();
    let max_errors = max_errors.and_then(|text| share(findings, "rollout.max-errors", text));
    let max_latency = entry.max_latency.as_ref();
    let max_latency_percent = max_latency.and_then(|text| latency(findings, "rollout.max-latency", text));
    let deadline = entry.deadline.as_ref();
    let deadline = deadline.and_then(|text| duration(findings, "rollout.deadline", text, &DEADLINE, None));
    let words = [("revert", OnFailure::Revert), ("pause", OnFailure::Pause)];
    let written = entry.on_failure.as_ref();
    let on_failure = findings.choice("rollout.on-failure", written, &words, OnFailure::default());
    RolloutSpec {
        steps,
        max_errors: max_errors.unwrap_or(MAX_ERRORS_DEFAULT),
        max_latency_percent,
        deadline: deadline.unwrap_or(DEADLINE_DEFAULT),
        on_failure,
    }
}

fn steps(findings: &mut Findings, entries: &Placed<Vec<StepEntry>>) -> Vec<Step> {
    let count = entries.value.len();
    if !(1..=STEPS_MAX).contains(&count) && !entries.is_stand_in {
        let (at, label) = match entries.value.get(STEPS_MAX) {
            Some(first_over) => (place(&first_over.share), "one too many"),
            None => (place(entries), "none here"),
        };
        let message = format!("a rollout has 1 to {STEPS_MAX} steps, not {count}");
        findings.push(Diagnostic::error("out_of_range", "rollout.steps", message).at(at, label));
    }
    let mut steps = Vec::new();
    let mut before: Option<Share> = None;
    for (index, entry) in entries.value.iter().take(STEPS_MAX).enumerate() {
        let field = format!("rollout.steps.{index}");
        let share_field = format!("{field}.share");
        let share = share(findings, &share_field, &entry.share);
        if let (Some(share), Some(before)) = (share, before)
            && share < before
        {
            let message =
                format!("a share does not fall from one step to the next, and {share} is less than {before}");
            let diagnostic = Diagnostic::error("out_of_range", share_field, message);
            findings.push(diagnostic.at(place(&entry.share), "less than the step before"));
        }
        before = share.or(before);
        let hold = hold(findings, &format!("{field}.hold"), &entry.hold);
        steps.extend(share.map(|share| Step { share, hold }));
    }
    steps
}

/// How long a step takes; nothing where it waits for somebody.
fn hold(findings: &mut Findings, field: &str, text: &Placed<String>) -> Option<Duration> {
    if text.value == UNTIL_PROMOTED {
        return None;
    }
    let other = format!("or write `{UNTIL_PROMOTED}`: the step takes until somebody promotes what takes over");
    duration(findings, field, text, &HOLD, Some(other))
}

/// Reads a time between bounds; what is wrong is reported.
pub(super) fn duration(
    findings: &mut Findings,
    field: &str,
    text: &Placed<String>,
    bounds: &RangeInclusive<Duration>,
    help: Option<String>,
) -> Option<Duration> {
    if text.is_stand_in {
        return None;
    }
    let diagnostic = match parse_duration(&text.value) {
        Ok(found) if bounds.contains(&found) => return Some(found),
        Ok(_) => {
            let (least, most) = (format_duration(*bounds.start()), format_duration(*bounds.end()));
            let message = format!("`{field}` is between {least} and {most}");
            Diagnostic::error("out_of_range", field, message).at(place(text), "out of bounds")
        }
        Err(error) => Diagnostic::error("wrong_type", field, error.to_string()).at(place(text), "here"),
    };
    findings.push(match help {
        Some(help) => diagnostic.help(help),
        None => diagnostic,
    });
    None
}

fn share(findings: &mut Findings, field: &str, text: &Placed<String>) -> Option<Share> {
    findings.read(percentage_reason(text), field, text)
}

/// A latency in percent of another one.
fn latency(findings: &mut Findings, field: &str, text: &Placed<String>) -> Option<u32> {
    let digits = text.value.strip_suffix('%').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let percent = digits.and_then(|digits| digits.parse().ok());
    let percent = percent.filter(|percent| MAX_LATENCY_PERCENT.contains(percent));
    if percent.is_none() && !text.is_stand_in {
        let (least, most) = (MAX_LATENCY_PERCENT.start(), MAX_LATENCY_PERCENT.end());
        let message = format!("`{field}` is between `{least}%` and `{most}%`, in whole percent");
        findings.push(Diagnostic::error(percentage_reason(text), field, message).at(place(text), "here"));
    }
    percent
}

/// The reason of a percentage that cannot be used: a number of percent is out of bounds, all else is none.
fn percentage_reason(text: &Placed<String>) -> &'static str {
    let is_percentage = text.value.strip_suffix('%').is_some_and(|number| number.parse::<f64>().is_ok());
    if is_percentage { "out_of_range" } else { "wrong_type" }
}
