//! `acked-present`: what is kept at the end is what was acknowledged, or may have been done, and nothing else;
//! `converged`: every member keeps the same.

use std::collections::BTreeMap;

use super::record::{Ask, History, Kept};
use super::requests::Request;
use super::verdict::{Report, Rule};

pub(super) fn check(history: &History, requests: &[Request<'_>], report: &mut Report) {
    let mut first: BTreeMap<&str, (usize, &Kept)> = BTreeMap::new();
    for (line, kept) in history.kept() {
        let (other, before) = *first.entry(&kept.key).or_insert((line, kept));
        if before.revisions != kept.revisions {
            let words =
                format!("members {} and {} keep not the same of {}", before.member, kept.member, kept.key);
            report.add(Rule::Converged, [other, line], words);
        }
        let of_key: Vec<&Request<'_>> = requests.iter().filter(|request| request.key == kept.key).collect();
        acknowledged_is_kept(line, kept, &of_key, report);
        kept_was_asked(line, kept, &of_key, report);
    }
}

/// Every acknowledged write is kept, unless it is too old or may have been deleted since.
fn acknowledged_is_kept(line: usize, kept: &Kept, requests: &[&Request<'_>], report: &mut Report) {
    let oldest = kept.revisions.first().map_or(u64::MAX, |revision| revision.revision);
    for request in requests {
        let (Ask::Put { value, .. }, Some((done, _, answer))) = (request.ask, request.done()) else { continue };
        let number = answer.revision.unwrap_or_default();
        let found = kept.revisions.iter().find(|revision| revision.revision == number);
        if found.is_some_and(|found| found.value == *value) {
            continue;
        }
        let is_deleted = requests.iter().any(|other| may_delete_after(other, request));
        let is_too_old = !kept.revisions.is_empty() && number < oldest;
        if !is_deleted && !is_too_old {
            let words = format!(
                "revision {number} of {} with the value {value} was acknowledged, nobody may have deleted it, and \
                 member {} keeps {}",
                kept.key,
                kept.member,
                found.map_or_else(|| "no such revision".to_owned(), |found| format!("{} there", found.value))
            );
            report.add(Rule::AckedPresent, [done, line], words);
        }
    }
}

/// Whether a request may have deleted what another one had put.
fn may_delete_after(request: &Request<'_>, put: &Request<'_>) -> bool {
    let Ask::Delete { .. } = request.ask else { return false };
    request.may_be_done()
        && request.done().is_none_or(|(_, operation, _)| operation.returned_us >= put.invoked_us)
}

/// Everything that is kept was asked for, was not refused, and came after the last acknowledged deletion.
fn kept_was_asked(line: usize, kept: &Kept, requests: &[&Request<'_>], report: &mut Report) {
    let deletes: Vec<_> = requests
        .iter()
        .filter(|request| matches!(request.ask, Ask::Delete { .. }))
        .filter_map(|request| request.done().map(|(done, operation, _)| (done, request, operation)))
        .collect();
    let mut before: Option<u64> = None;
    for revision in &kept.revisions {
        let (number, value) = (revision.revision, &revision.value);
        if before.replace(number).is_some_and(|before| before + 1 != number) {
            let words = format!("the kept revisions of {} are no sequence at {number}", kept.key);
            report.add(Rule::AckedPresent, [line], words);
        }
        let wrote =
            |request: &&&Request<'_>| matches!(request.ask, Ask::Put { value: wrote, .. } if wrote == value);
        let Some(request) = requests.iter().find(wrote).filter(|request| request.may_be_done()) else {
            let words = format!("member {} keeps {value}, which nobody wrote or was refused", kept.member);
            report.add(Rule::AckedPresent, [line], words);
            continue;
        };
        let Some((done, operation, _)) = request.done() else { continue };
        let deleted = deletes.iter().find(|(_, delete, _)| operation.returned_us < delete.invoked_us);
        if let Some((delete, ..)) = deleted {
            let words = format!(
                "{value} was acknowledged, {} was deleted after that, and member {} keeps it",
                kept.key, kept.member
            );
            report.add(Rule::AckedPresent, [done, *delete, line], words);
        }
    }
}
