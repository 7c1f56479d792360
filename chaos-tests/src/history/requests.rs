//! Requests: the attempts under one id, taken together.

use std::collections::BTreeMap;

use super::record::{Answer, Ask, History, Operation, Outcome};

/// All attempts of one request.
#[derive(Debug)]
pub(super) struct Request<'a> {
    /// Its id.
    pub id: &'a str,
    /// What it is about.
    pub key: &'a str,
    /// What it asks.
    pub ask: &'a Ask,
    /// When it was first invoked.
    pub invoked_us: u64,
    /// The attempts, with the numbers of their lines.
    pub attempts: Vec<(usize, &'a Operation)>,
}

impl<'a> Request<'a> {
    /// The first answer that says it was done, and its line.
    pub fn done(&self) -> Option<(usize, &'a Operation, &'a Answer)> {
        self.answers().min_by_key(|(_, operation, _)| operation.returned_us)
    }

    /// Every answer that says it was done.
    pub fn answers(&self) -> impl Iterator<Item = (usize, &'a Operation, &'a Answer)> {
        self.attempts.iter().filter_map(|(line, operation)| match &operation.outcome {
            Outcome::Ok(answer) => Some((*line, *operation, answer)),
            _ => None,
        })
    }

    /// Whether it may have had an effect.
    pub fn may_be_done(&self) -> bool {
        self.attempts.iter().any(|(_, operation)| !matches!(operation.outcome, Outcome::Refused(_)))
    }

    /// The lines of its attempts.
    pub fn lines(&self) -> Vec<usize> {
        self.attempts.iter().map(|(line, _)| *line).collect()
    }
}

/// The requests of a history, by their first lines.
pub(super) fn requests(history: &History) -> Vec<Request<'_>> {
    let mut by_id: BTreeMap<&str, Request<'_>> = BTreeMap::new();
    for (line, operation) in history.operations() {
        let Some(id) = &operation.request else { continue };
        let request = by_id.entry(id).or_insert_with(|| Request {
            id,
            key: &operation.key,
            ask: &operation.ask,
            invoked_us: operation.invoked_us,
            attempts: Vec::new(),
        });
        request.invoked_us = request.invoked_us.min(operation.invoked_us);
        request.attempts.push((line, operation));
    }
    let mut requests: Vec<_> = by_id.into_values().collect();
    requests.sort_by_key(|request| request.attempts[0].0);
    requests
}
