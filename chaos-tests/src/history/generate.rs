//! Correct histories: a sequential model of the control plane behind clients that run at random.

use std::collections::{BTreeMap, VecDeque};

use super::record::{
    Answer, Ask, Change, History, Kept, KeptRevision, Line, Operation, Outcome, Refused, Seen, Watched,
};
use crate::seed::Choices;

/// Revisions of a key that the model keeps.
const KEPT_MAX: usize = 10;
/// The longest operation, and the longest pause between two of a client, in microseconds.
const LONGEST_US: u64 = 4_000;
/// One operation of so many is given up before its answer.
const UNKNOWN_ONE_OF: u64 = 20;
/// One change of so many has another event beside it.
const BESIDE_ONE_OF: u64 = 8;
/// One event of so many is the last of its stream.
const BREAK_ONE_OF: u64 = 10;
/// A bookmark comes after one event of so many.
const BOOKMARK_ONE_OF: u64 = 6;
/// How long after it happened something is told, at most, in microseconds.
const TOLD_WITHIN_US: u64 = 2_000;

/// How large a history is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Operations, of all clients together.
    pub operations: u64,
    /// Clients, each of which asks one thing after the other.
    pub clients: u64,
    /// Keys.
    pub keys: u64,
    /// Watchers of all keys.
    pub watchers: u64,
}

/// An operation before it has an answer.
struct Planned {
    operation: Operation,
    /// When it takes effect, if it does.
    effect_us: Option<u64>,
}

/// The whole control plane: what a single honest process would do.
#[derive(Default)]
struct Model {
    position: u64,
    keys: BTreeMap<String, Vec<KeptRevision>>,
    answers: BTreeMap<String, Answer>,
    /// What happened, with its time.
    events: Vec<(u64, u64, String, Change)>,
    ids: u64,
}

/// A history that a correct control plane may have shown.
pub fn correct(size: Size, choices: &mut Choices) -> History {
    let mut planned = plan(size, choices);
    let mut order: Vec<usize> =
        (0..planned.len()).filter(|index| planned[*index].effect_us.is_some()).collect();
    order.sort_by_key(|index| (planned[*index].effect_us, *index));
    let mut model = Model::default();
    for index in order {
        let Planned { operation, effect_us } = &mut planned[index];
        let outcome = model.apply(operation, effect_us.unwrap_or_default(), choices);
        // One that was given up does not learn what became of it.
        if operation.outcome != Outcome::Unknown {
            operation.outcome = outcome;
        }
    }
    let end = planned.iter().map(|planned| planned.operation.returned_us).max().unwrap_or_default();
    let end = end.max(model.events.last().map_or(0, |(_, at, ..)| *at));
    let mut lines: Vec<Line> = planned.into_iter().map(|planned| Line::Operation(planned.operation)).collect();
    lines.extend(model.last_reads(size, end));
    for watcher in 0..size.watchers {
        lines.extend(model.watch(watcher, choices));
    }
    lines.extend(model.kept(size));
    History::new(lines).expect("what is generated is a history")
}

fn key(number: u64) -> String {
    format!("k{number}")
}

fn plan(size: Size, choices: &mut Choices) -> Vec<Planned> {
    let mut clocks = vec![0; usize::try_from(size.clients).expect("a small number")];
    let mut again: Vec<VecDeque<Operation>> = clocks.iter().map(|_| VecDeque::new()).collect();
    let mut all = Vec::new();
    for number in 0..size.operations {
        let client = choices.below(size.clients);
        let slot = usize::try_from(client).expect("a small number");
        let invoked_us = clocks[slot] + 1 + choices.below(LONGEST_US);
        let returned_us = invoked_us + 2 + choices.below(LONGEST_US);
        clocks[slot] = returned_us;
        let mut operation = again[slot].pop_front().unwrap_or_else(|| ask(number, client, size, choices));
        operation.member = 1 + choices.below(3);
        (operation.invoked_us, operation.returned_us) = (invoked_us, returned_us);
        operation.outcome = Outcome::Ok(Answer::default());
        let mut effect_us = Some(invoked_us + 1 + choices.below(returned_us - invoked_us - 1));
        if choices.below(UNKNOWN_ONE_OF) == 0 {
            operation.outcome = Outcome::Unknown;
            // It may take effect long after it was given up.
            effect_us = (choices.below(2) == 0).then(|| invoked_us + 1 + choices.below(4 * LONGEST_US));
        }
        // What has an effect is repeated now and then, whatever became of it.
        if operation.request.is_some() && choices.below(4) == 0 {
            again[slot].push_back(operation.clone());
        }
        all.push(Planned { operation, effect_us });
    }
    all
}

fn ask(number: u64, client: u64, size: Size, choices: &mut Choices) -> Operation {
    let expected = |choices: &mut Choices| (choices.below(2) == 0).then(|| choices.below(4));
    let ask = match choices.below(20) {
        0..8 => Ask::Put { value: format!("v{number}"), expected: expected(choices) },
        8..11 => Ask::Delete { expected: expected(choices) },
        11..17 => Ask::Get,
        17..19 => Ask::List,
        _ => Ask::Join,
    };
    let request = matches!(ask, Ask::Put { .. } | Ask::Delete { .. } | Ask::Join).then(|| format!("r{number}"));
    let key = if matches!(ask, Ask::List | Ask::Join) { String::new() } else { key(choices.below(size.keys)) };
    let outcome = Outcome::Unknown;
    Operation { client, member: 1, key, ask, request, invoked_us: 0, returned_us: 0, outcome }
}

impl Model {
    fn apply(&mut self, operation: &Operation, at_us: u64, choices: &mut Choices) -> Outcome {
        if let Some(known) = operation.request.as_ref().and_then(|id| self.answers.get(id)) {
            return Outcome::Ok(known.clone());
        }
        let found = self.keys.get(&operation.key).and_then(|revisions| revisions.last());
        let current = found.map_or(0, |found| found.revision);
        let answer = match &operation.ask {
            Ask::Put { expected, .. } if expected.is_some_and(|expected| expected != current) => {
                return Outcome::Refused(Refused::Conflict);
            }
            Ask::Put { value, .. } => {
                let revision = current + 1;
                let revisions = self.keys.entry(operation.key.clone()).or_default();
                revisions.push(KeptRevision { revision, value: value.clone(), made_ms: at_us });
                if revisions.len() > KEPT_MAX {
                    revisions.remove(0);
                }
                self.changed(operation, at_us, Change::Put { revision }, choices);
                Answer { position: Some(self.position), revision: Some(revision), ..Answer::default() }
            }
            Ask::Delete { .. } if found.is_none() => return Outcome::Refused(Refused::NotFound),
            Ask::Delete { expected } if expected.is_some_and(|expected| expected != current) => {
                return Outcome::Refused(Refused::Conflict);
            }
            Ask::Delete { .. } => {
                self.keys.remove(&operation.key);
                self.changed(operation, at_us, Change::Deleted, choices);
                Answer::default()
            }
            Ask::Get => {
                let (revision, value) = (found.map(|f| f.revision), found.map(|f| f.value.clone()));
                let position = found.map(|_| self.position);
                return Outcome::Ok(Answer { position, revision, value, ..Answer::default() });
            }
            Ask::List => {
                let last = |revisions: &Vec<KeptRevision>| revisions.last().map_or(0, |last| last.revision);
                let listed = self.keys.iter().map(|(key, revisions)| (key.clone(), last(revisions))).collect();
                return Outcome::Ok(Answer { position: Some(self.position), listed, ..Answer::default() });
            }
            Ask::Join => {
                self.ids += 1;
                self.position += 1;
                Answer { id: Some(self.ids), ..Answer::default() }
            }
        };
        self.answers.extend(operation.request.clone().map(|id| (id, answer.clone())));
        Outcome::Ok(answer)
    }

    fn changed(&mut self, operation: &Operation, at_us: u64, change: Change, choices: &mut Choices) {
        self.position += 1 + choices.below(2);
        self.events.push((self.position, at_us, operation.key.clone(), change));
        if choices.below(BESIDE_ONE_OF) == 0 {
            let beside = Change::Other { what: "placed".to_owned() };
            self.events.push((self.position, at_us, operation.key.clone(), beside));
        }
    }

    /// Reads of each key when all is over.
    fn last_reads(&self, size: Size, end: u64) -> Vec<Line> {
        let read = |number: u64| {
            let key = key(number);
            let found = self.keys.get(&key).and_then(|revisions| revisions.last());
            let answer = Answer {
                position: found.map(|_| self.position),
                revision: found.map(|found| found.revision),
                value: found.map(|found| found.value.clone()),
                ..Answer::default()
            };
            let (invoked_us, returned_us) = (end + 1 + 2 * number, end + 2 + 2 * number);
            let (ask, outcome) = (Ask::Get, Outcome::Ok(answer));
            let client = size.clients;
            Line::Operation(Operation {
                client,
                member: 1,
                key,
                ask,
                request: None,
                invoked_us,
                returned_us,
                outcome,
            })
        };
        (0..size.keys).map(read).collect()
    }

    /// What a watcher of everything is told, on streams that break between two states.
    fn watch(&self, watcher: u64, choices: &mut Choices) -> Vec<Line> {
        let (mut stream, mut now, mut last) = (0, 0, 0);
        let mut lines = Vec::new();
        let line = |stream, at_us, seen| Line::Watched(Watched { watcher, stream, at_us, seen });
        lines.push(line(stream, now, Seen::Began { member: 1, after: 0, key: None }));
        for (position, at, key, change) in &self.events {
            if *position != last {
                if last > 0 && choices.below(BOOKMARK_ONE_OF) == 0 {
                    lines.push(line(stream, now, Seen::Bookmark { position: last }));
                }
                if last > 0 && choices.below(BREAK_ONE_OF) == 0 {
                    stream += 1;
                    let member = 1 + choices.below(3);
                    lines.push(line(stream, now, Seen::Began { member, after: last, key: None }));
                }
            }
            now = now.max(*at) + choices.below(TOLD_WITHIN_US);
            last = *position;
            let seen = Seen::Event { position: last, key: key.clone(), change: change.clone() };
            lines.push(line(stream, now, seen));
        }
        lines
    }

    fn kept(&self, size: Size) -> Vec<Line> {
        let members = (1..=3).flat_map(|member| (0..size.keys).map(move |number| (member, key(number))));
        let kept = |(member, key): (u64, String)| {
            let revisions = self.keys.get(&key).cloned().unwrap_or_default();
            Line::Kept(Kept { member, key, revisions })
        };
        members.map(kept).collect()
    }
}
