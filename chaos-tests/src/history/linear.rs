//! `linearizable`: each key is a register with compare-and-set on its revision. The search of Wing and Gong with Lowe's
//! memory of configurations: an operation takes effect at one moment between its call and its return, and one whose
//! outcome is unknown at any moment after its call, or never.

use std::collections::{BTreeSet, HashSet};

use super::record::{Answer, Ask, History, Operation, Outcome, Refused};
use super::requests::Request;
use super::verdict::{Report, Rule, Undecided};

/// Configurations that the search of one key looks at before it gives up: some seconds and 100 MiB.
pub const SEARCH_MAX: usize = 1_000_000;

/// What an operation does to the register, and what it says that it found.
#[derive(Debug)]
enum Step<'a> {
    /// Writes; the revision that it made, if it said so.
    Put { value: &'a str, expected: Option<u64>, made: Option<u64> },
    /// Deletes.
    Delete { expected: Option<u64> },
    /// Found the key like this.
    Found(Option<Found<'a>>),
    /// Found the key not at this revision.
    NotAt(u64),
}

/// What a read found; a list finds no values.
#[derive(Debug)]
struct Found<'a> {
    revision: u64,
    value: Option<&'a str>,
}

/// An operation of the key.
#[derive(Debug)]
struct Call<'a> {
    lines: Vec<usize>,
    invoked_us: u64,
    /// None if it may take effect at any time, or never.
    returned_us: Option<u64>,
    step: Step<'a>,
}

/// The register: its revision and value, if it is there.
type Register<'a> = Option<(u64, &'a str)>;

impl<'a> Step<'a> {
    /// The register after it; none if it cannot have taken effect here.
    fn apply(&self, register: Register<'a>) -> Option<Register<'a>> {
        let revision = register.map_or(0, |(revision, _)| revision);
        match self {
            Self::Put { value, expected, made } => {
                let fits = expected.is_none_or(|expected| expected == revision)
                    && made.is_none_or(|made| made == revision + 1);
                fits.then_some(Some((revision + 1, *value)))
            }
            Self::Delete { expected } => {
                let fits = register.is_some() && expected.is_none_or(|expected| expected == revision);
                fits.then_some(None)
            }
            Self::Found(found) => {
                let fits = match (found, register) {
                    (None, None) => true,
                    (Some(found), Some((revision, value))) => {
                        found.revision == revision && found.value.is_none_or(|found| found == value)
                    }
                    _ => false,
                };
                fits.then_some(register)
            }
            Self::NotAt(expected) => (*expected != revision).then_some(register),
        }
    }
}

pub(super) fn check(history: &History, requests: &[Request<'_>], search_max: usize, report: &mut Report) {
    let operations = history.operations().map(|(_, operation)| operation);
    let listed = operations.filter_map(|operation| match &operation.outcome {
        Outcome::Ok(answer) => Some(answer.listed.keys()),
        _ => None,
    });
    let named = history.operations().map(|(_, operation)| &operation.key);
    let keys: BTreeSet<&String> = named.chain(listed.flatten()).filter(|key| !key.is_empty()).collect();
    for key in keys {
        match search(&calls(key, history, requests), search_max) {
            Searched::Found => {}
            Searched::None { stuck } => {
                let words = format!(
                    "no order of the operations of {key} explains what they were answered: at best, this one and \
                     what it contradicts are left over"
                );
                report.add(Rule::Linearizable, stuck, words);
            }
            Searched::GaveUp => {
                let words = format!("{key}: no end after {search_max} configurations");
                report.undecided.push(Undecided { rule: Rule::Linearizable, words });
            }
        }
    }
}

/// The operations of a key: requests as one each, and what else was read of it.
fn calls<'a>(key: &str, history: &'a History, requests: &[Request<'a>]) -> Vec<Call<'a>> {
    let effects = requests.iter().filter(|request| request.key == key).filter_map(effect);
    let reads = history.operations().filter_map(|(line, operation)| {
        let step = read(key, operation)?;
        let (invoked_us, returned_us) = (operation.invoked_us, Some(operation.returned_us));
        Some(Call { lines: vec![line], invoked_us, returned_us, step })
    });
    effects.chain(reads).collect()
}

fn effect<'a>(request: &Request<'a>) -> Option<Call<'a>> {
    let done = request.done();
    if !request.may_be_done() {
        return None;
    }
    let step = match request.ask {
        Ask::Put { value, expected } => {
            let made = done.and_then(|(_, _, answer)| answer.revision);
            Step::Put { value, expected: *expected, made }
        }
        Ask::Delete { expected } => Step::Delete { expected: *expected },
        Ask::Get | Ask::List | Ask::Join => return None,
    };
    let returned_us = done.map(|(_, operation, _)| operation.returned_us);
    Some(Call { lines: request.lines(), invoked_us: request.invoked_us, returned_us, step })
}

/// What an operation says that it found of a key.
fn read<'a>(key: &str, operation: &'a Operation) -> Option<Step<'a>> {
    let is_of_key = operation.key == key;
    match (&operation.ask, &operation.outcome) {
        (Ask::List, Outcome::Ok(Answer { listed, .. })) => {
            let found = listed.get(key).map(|revision| Found { revision: *revision, value: None });
            Some(Step::Found(found))
        }
        (Ask::Get, Outcome::Ok(answer)) if is_of_key => {
            let found = answer.revision.map(|revision| Found { revision, value: answer.value.as_deref() });
            Some(Step::Found(found))
        }
        (Ask::Delete { .. }, Outcome::Refused(Refused::NotFound)) if is_of_key => Some(Step::Found(None)),
        (
            Ask::Put { expected: Some(expected), .. } | Ask::Delete { expected: Some(expected) },
            Outcome::Refused(Refused::Conflict),
        ) if is_of_key => Some(Step::NotAt(*expected)),
        _ => None,
    }
}

enum Searched {
    Found,
    /// The lines of the operation that fits nowhere behind the longest order that was found.
    None {
        stuck: Vec<usize>,
    },
    GaveUp,
}

/// A call or a return, in a list from which operations are taken out and put back.
struct Entries {
    /// By entry: the operation, and whether this is its call.
    of: Vec<(usize, bool)>,
    /// By entry and one more, which is the head.
    next: Vec<usize>,
    before: Vec<usize>,
    /// By operation: the entries of its call and of its return.
    places: Vec<(usize, Option<usize>)>,
}

impl Entries {
    fn new(calls: &[Call<'_>]) -> Self {
        let call = |(index, call): (usize, &Call<'_>)| (call.invoked_us, false, index);
        let back = |(index, call): (usize, &Call<'_>)| call.returned_us.map(|at| (at, true, index));
        let mut order: Vec<(u64, bool, usize)> = calls.iter().enumerate().map(call).collect();
        order.extend(calls.iter().enumerate().filter_map(back));
        // At one moment, calls come before returns: they are concurrent.
        order.sort_unstable();
        let of: Vec<(usize, bool)> =
            order.into_iter().map(|(_, is_return, index)| (index, !is_return)).collect();
        let head = of.len();
        let mut places = vec![(head, None); calls.len()];
        for (entry, (index, is_call)) in of.iter().enumerate() {
            match is_call {
                true => places[*index].0 = entry,
                false => places[*index].1 = Some(entry),
            }
        }
        let next = (0..=head).map(|entry| if entry == head { 0 } else { entry + 1 }).collect();
        let before = (0..=head).map(|entry| if entry == 0 { head } else { entry - 1 }).collect();
        Self { of, next, before, places }
    }

    const fn head(&self) -> usize {
        self.of.len()
    }

    fn first(&self) -> usize {
        self.next[self.head()]
    }

    fn unlink(&mut self, entry: usize) {
        let (before, next) = (self.before[entry], self.next[entry]);
        self.next[before] = next;
        self.before[next] = before;
    }

    fn relink(&mut self, entry: usize) {
        let (before, next) = (self.before[entry], self.next[entry]);
        self.next[before] = entry;
        self.before[next] = entry;
    }

    /// Takes an operation out.
    fn lift(&mut self, index: usize) {
        let (call, back) = self.places[index];
        self.unlink(call);
        back.into_iter().for_each(|back| self.unlink(back));
    }

    /// Puts back the operation that was taken out last.
    fn unlift(&mut self, index: usize) {
        let (call, back) = self.places[index];
        back.into_iter().for_each(|back| self.relink(back));
        self.relink(call);
    }
}

/// Which operations have taken effect.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Taken(Vec<u64>);

impl Taken {
    fn none_of(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)])
    }

    fn flip(&mut self, index: usize) {
        self.0[index / 64] ^= 1 << (index % 64);
    }
}

fn search(calls: &[Call<'_>], search_max: usize) -> Searched {
    let mut entries = Entries::new(calls);
    let mut open = calls.iter().filter(|call| call.returned_us.is_some()).count();
    let mut taken = Taken::none_of(calls.len());
    let mut register: Register<'_> = None;
    let mut seen = HashSet::new();
    let mut stack: Vec<(usize, Register<'_>)> = Vec::new();
    let mut stuck: (usize, Vec<usize>) = (0, Vec::new());
    let mut at = entries.first();
    while open > 0 {
        // A return is in the list for each operation that is open, so it ends before the list does.
        let (index, is_call) = entries.of[at];
        if is_call {
            let after = calls[index].step.apply(register).filter(|after| {
                taken.flip(index);
                let is_new = seen.insert((taken.clone(), *after));
                taken.flip(index);
                is_new
            });
            if seen.len() > search_max {
                return Searched::GaveUp;
            }
            let Some(after) = after else {
                at = entries.next[at];
                continue;
            };
            stack.push((index, register));
            taken.flip(index);
            register = after;
            open -= usize::from(calls[index].returned_us.is_some());
            entries.lift(index);
            at = entries.first();
        } else {
            if stuck.1.is_empty() || stack.len() > stuck.0 {
                stuck = (stack.len(), calls[index].lines.clone());
            }
            let Some((index, before)) = stack.pop() else { return Searched::None { stuck: stuck.1 } };
            taken.flip(index);
            register = before;
            open += usize::from(calls[index].returned_us.is_some());
            entries.unlift(index);
            at = entries.next[entries.places[index].0];
        }
    }
    Searched::Found
}
