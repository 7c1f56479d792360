//! `log-order`: every acknowledged write has a place of its own, every read one that it may share, and both agree with
//! real time. In O(n log n).

use std::collections::BTreeMap;

use super::record::{Ask, History, Outcome};
use super::requests::Request;
use super::verdict::{Report, Rule};

/// A write or a read that has a place.
struct Placed {
    line: usize,
    invoked_us: u64,
    returned_us: u64,
    position: u64,
    is_write: bool,
}

pub(super) fn check(history: &History, requests: &[Request<'_>], report: &mut Report) {
    let mut placed: Vec<Placed> = writes(requests).chain(reads(history)).collect();
    distinct(&placed, report);
    placed.sort_by_key(|placed| placed.invoked_us);
    let mut by_return: Vec<&Placed> = placed.iter().collect();
    by_return.sort_by_key(|placed| placed.returned_us);
    let mut returned = by_return.into_iter().peekable();
    // The latest place of all that had returned before.
    let mut latest: Option<&Placed> = None;
    for next in &placed {
        while let Some(before) = returned.next_if(|before| before.returned_us < next.invoked_us) {
            if latest.is_none_or(|latest| before.position > latest.position) {
                latest = Some(before);
            }
        }
        let Some(latest) = latest else { continue };
        // A write makes a new state; a read may be of the one that is known.
        let is_later = next.position > latest.position || (!next.is_write && next.position == latest.position);
        if !is_later {
            report.add(Rule::LogOrder, [latest.line, next.line], words(latest, next));
        }
    }
}

fn writes(requests: &[Request<'_>]) -> impl Iterator<Item = Placed> {
    requests.iter().filter(|request| !matches!(request.ask, Ask::Join)).filter_map(|request| {
        let (line, operation, answer) = request.done()?;
        Some(Placed {
            line,
            invoked_us: request.invoked_us,
            returned_us: operation.returned_us,
            position: answer.position?,
            is_write: true,
        })
    })
}

fn reads(history: &History) -> impl Iterator<Item = Placed> {
    history.operations().filter_map(|(line, operation)| match (&operation.ask, &operation.outcome) {
        (Ask::Get | Ask::List, Outcome::Ok(answer)) => Some(Placed {
            line,
            invoked_us: operation.invoked_us,
            returned_us: operation.returned_us,
            position: answer.position?,
            is_write: false,
        }),
        _ => None,
    })
}

fn distinct(placed: &[Placed], report: &mut Report) {
    let mut lines: BTreeMap<u64, usize> = BTreeMap::new();
    for write in placed.iter().filter(|placed| placed.is_write) {
        if let Some(other) = lines.insert(write.position, write.line) {
            let words = format!("two acknowledged writes have made the state {}", write.position);
            report.add(Rule::LogOrder, [other, write.line], words);
        }
    }
}

fn words(before: &Placed, next: &Placed) -> String {
    let said =
        |placed: &Placed| if placed.is_write { "a write was acknowledged" } else { "a read was answered" };
    format!(
        "{} in state {}, and {} in state {}, though it was asked for {} us later",
        said(before),
        before.position,
        said(next),
        next.position,
        next.invoked_us - before.returned_us
    )
}
