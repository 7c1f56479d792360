//! `at-most-once`: a request has one effect, and all its answers say the same; `ids-once`: no id is given to two.

use std::collections::BTreeMap;

use super::record::{Ask, History, Outcome, Refused};
use super::requests::Request;
use super::verdict::{Report, Rule};

pub(super) fn check(history: &History, requests: &[Request<'_>], report: &mut Report) {
    for request in requests {
        answers_agree(request, report);
    }
    ids(requests, report);
    effects(history, report);
}

fn answers_agree(request: &Request<'_>, report: &mut Report) {
    let Some((first, done, expected)) = request.done() else { return };
    for (line, operation) in &request.attempts {
        let is_refused = matches!(operation.outcome, Outcome::Refused(Refused::Conflict | Refused::NotFound));
        if is_refused && operation.invoked_us > done.returned_us {
            let words = format!("request {} was done, and refused when it was repeated", request.id);
            report.add(Rule::AtMostOnce, [first, *line], words);
        }
    }
    for (line, _, answer) in request.answers() {
        if answer != expected {
            let words = format!("request {} was answered {expected:?}, and repeated {answer:?}", request.id);
            report.add(Rule::AtMostOnce, [first, line], words);
        }
    }
}

fn ids(requests: &[Request<'_>], report: &mut Report) {
    let mut given: BTreeMap<u64, (usize, &str)> = BTreeMap::new();
    for request in requests.iter().filter(|request| matches!(request.ask, Ask::Join)) {
        let Some((line, _, answer)) = request.done() else { continue };
        let Some(id) = answer.id else { continue };
        if let Some((other, before)) = given.insert(id, (line, request.id)) {
            let words = format!("id {id} was given to request {before} and to {}", request.id);
            report.add(Rule::IdsOnce, [other, line], words);
        }
    }
}

/// A value, which one request writes, is seen at one revision of its key.
fn effects(history: &History, report: &mut Report) {
    let gets =
        history.operations().filter_map(|(line, operation)| match (&operation.ask, &operation.outcome) {
            (Ask::Get, Outcome::Ok(answer)) => Some((line, answer.value.as_deref()?, answer.revision?)),
            _ => None,
        });
    let kept = history.kept().flat_map(|(line, kept)| {
        kept.revisions.iter().map(move |revision| (line, revision.value.as_str(), revision.revision))
    });
    let mut seen: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
    let mut told = std::collections::BTreeSet::new();
    for (line, value, revision) in gets.chain(kept) {
        let (other, first) = *seen.entry(value).or_insert((line, revision));
        if first != revision && told.insert(value) {
            let words = format!("the value {value} of one request is revision {first} and revision {revision}");
            report.add(Rule::AtMostOnce, [other, line], words);
        }
    }
}
