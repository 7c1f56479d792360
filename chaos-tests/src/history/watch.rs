//! `watch-*`: etcd's words for watches. What happened is what any watcher was told, and what acknowledged writes say that
//! they made; each stream is held against all of that.

use std::collections::{BTreeMap, BTreeSet};

use super::record::{Ask, Change, History, Seen, Watched};
use super::requests::Request;
use super::verdict::{Report, Rule};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Happened<'a> {
    position: u64,
    key: &'a str,
    change: Change,
}

/// What happened, and a line that says so.
type Truth<'a> = BTreeMap<Happened<'a>, usize>;

pub(super) fn check(history: &History, requests: &[Request<'_>], report: &mut Report) {
    let truth = truth(history, requests);
    has_happened(history, requests, &truth, report);
    let mut streams: BTreeMap<(u64, u64), Vec<(usize, &Watched)>> = BTreeMap::new();
    for (line, watched) in history.watched() {
        streams.entry((watched.watcher, watched.stream)).or_default().push((line, watched));
    }
    for ((watcher, stream), lines) in &streams {
        // A history has no stream that does not begin.
        let Some(((line, Watched { seen: Seen::Began { after, key, .. }, .. }), rest)) = lines.split_first()
        else {
            continue;
        };
        let is_watched = |happened: &Happened<'_>| key.as_ref().is_none_or(|key| key == happened.key);
        let truth = truth.iter().filter(|(happened, _)| is_watched(happened) && happened.position > *after);
        let truth = truth.map(|(happened, line)| (happened.clone(), *line)).collect();
        let resumed = streams.get(&(*watcher, stream + 1)).and_then(|lines| match &lines.first()?.1.seen {
            Seen::Began { after, .. } => Some(*after),
            _ => None,
        });
        Stream { began: *line, after: *after, resumed, truth, report }.check(rest);
    }
}

fn truth<'a>(history: &'a History, requests: &[Request<'a>]) -> Truth<'a> {
    let mut truth = Truth::new();
    for request in requests {
        let (Ask::Put { .. }, Some((line, _, answer))) = (request.ask, request.done()) else { continue };
        if let (Some(position), Some(revision)) = (answer.position, answer.revision) {
            let happened = Happened { position, key: request.key, change: Change::Put { revision } };
            truth.entry(happened).or_insert(line);
        }
    }
    for (line, watched) in history.watched() {
        if let Some(happened) = event(watched) {
            truth.entry(happened).or_insert(line);
        }
    }
    truth
}

fn event(watched: &Watched) -> Option<Happened<'_>> {
    match &watched.seen {
        Seen::Event { position, key, change } => {
            Some(Happened { position: *position, key, change: change.clone() })
        }
        Seen::Began { .. } | Seen::Bookmark { .. } => None,
    }
}

/// `watch-true`: no two accounts of one change, none before it was asked for, and no more than were asked for.
fn has_happened(history: &History, requests: &[Request<'_>], truth: &Truth<'_>, report: &mut Report) {
    let mut accounts: BTreeMap<(u64, &str), (&Happened<'_>, usize)> = BTreeMap::new();
    for (happened, line) in truth {
        if matches!(happened.change, Change::Other { .. }) {
            continue;
        }
        if let Some((other, before)) = accounts.insert((happened.position, happened.key), (happened, *line)) {
            let words = format!(
                "state {} brought {} {:?}, and {:?} too",
                happened.position, happened.key, other.change, happened.change
            );
            report.add(Rule::WatchTrue, [before, *line], words);
        }
    }
    let mut asked: BTreeMap<(u64, &str), &Request<'_>> = BTreeMap::new();
    for request in requests {
        if let Some(position) = request.done().and_then(|(_, _, answer)| answer.position) {
            asked.insert((position, request.key), request);
        }
    }
    for (line, watched) in history.watched() {
        let Some(happened) = event(watched) else { continue };
        if let Some(request) = asked.get(&(happened.position, happened.key))
            && watched.at_us < request.invoked_us
        {
            let words = format!("request {} was told of before it was asked", request.id);
            report.add(Rule::WatchTrue, [line, request.attempts[0].0], words);
        }
    }
    nobody_asked(requests, truth, report);
}

/// Changes beyond those that were acknowledged are of requests whose outcome is unknown, each of at most one.
fn nobody_asked(requests: &[Request<'_>], truth: &Truth<'_>, report: &mut Report) {
    let keys: BTreeSet<&str> = truth.keys().map(|happened| happened.key).collect();
    for key in keys {
        for is_put in [true, false] {
            let wanted = |change: &Change| match change {
                Change::Put { .. } => is_put,
                Change::Deleted => !is_put,
                Change::Other { .. } => false,
            };
            let told = truth.iter().filter(|(happened, _)| happened.key == key && wanted(&happened.change));
            let lines: Vec<usize> = told.map(|(_, line)| *line).collect();
            let asked = requests.iter().filter(|request| request.key == key && request.may_be_done());
            let asked = asked.filter(|request| matches!(request.ask, Ask::Put { .. }) == is_put).count();
            if lines.len() > asked {
                let what = if is_put { "put" } else { "deleted" };
                let words =
                    format!("{key} was {what} {} times, and {asked} requests may have done it", lines.len());
                report.add(Rule::WatchTrue, lines, words);
            }
        }
    }
}

struct Stream<'a, 'r> {
    began: usize,
    after: u64,
    /// What its watcher takes for told when it resumes by the next stream.
    resumed: Option<u64>,
    /// What has to be told on it, as far as it comes.
    truth: Truth<'a>,
    report: &'r mut Report,
}

impl Stream<'_, '_> {
    fn check(mut self, lines: &[(usize, &Watched)]) {
        let mut told: BTreeMap<Happened<'_>, usize> = BTreeMap::new();
        let (mut last, mut last_line, mut bookmark) = (self.after, self.began, None);
        for (line, watched) in lines {
            let position = match &watched.seen {
                Seen::Began { .. } => continue,
                Seen::Bookmark { position } => {
                    self.before_bookmark(&told, *position, *line);
                    bookmark = bookmark.max(Some((*position, *line)));
                    continue;
                }
                Seen::Event { position, .. } => *position,
            };
            let Some(happened) = event(watched) else { continue };
            if let Some((marked, at)) = bookmark.filter(|(marked, _)| position <= *marked) {
                let words = format!("state {position} was told behind the bookmark of state {marked}");
                self.report.add(Rule::WatchBookmarkable, [at, *line], words);
            }
            if position <= self.after {
                let words =
                    format!("state {position} was told to a watcher that asked for more than {}", self.after);
                self.report.add(Rule::WatchResumable, [self.began, *line], words);
            } else if let Some(before) = told.insert(happened, *line) {
                let words = format!("the same change of state {position} was told twice");
                self.report.add(Rule::WatchUnique, [before, *line], words);
            } else if position < last {
                let words = format!("state {position} was told behind state {last}");
                self.report.add(Rule::WatchOrdered, [last_line, *line], words);
            }
            if position >= last {
                (last, last_line) = (position, *line);
            }
        }
        self.nothing_is_missing(&told, last, last_line);
    }

    /// Everything before the last that was told must have been told, and of that state too what is not asked for again.
    fn nothing_is_missing(&mut self, told: &BTreeMap<Happened<'_>, usize>, last: u64, last_line: usize) {
        let first = told.keys().map(|happened| happened.position).min().unwrap_or(last);
        let positions: BTreeSet<u64> = told.keys().map(|happened| happened.position).collect();
        for (happened, line) in &self.truth {
            let is_asked_again = self.resumed.is_none_or(|after| happened.position > after);
            if told.contains_key(happened) || (happened.position >= last && is_asked_again) {
                continue;
            }
            let (position, key) = (happened.position, happened.key);
            let (rule, words) = if positions.contains(&position) {
                (Rule::WatchAtomic, format!("of state {position}, what became of {key} was left out"))
            } else if self.after > 0 && position < first {
                let words = format!("resumed behind state {}, and state {position} was left out", self.after);
                (Rule::WatchResumable, words)
            } else {
                (Rule::WatchReliable, format!("state {position}, of {key}, was left out"))
            };
            self.report.add(rule, [self.began, *line, last_line], words);
        }
    }

    /// A bookmark says that everything up to it was told.
    fn before_bookmark(&mut self, told: &BTreeMap<Happened<'_>, usize>, marked: u64, line: usize) {
        for (happened, known) in &self.truth {
            if happened.position <= marked && !told.contains_key(happened) {
                let words = format!("the bookmark of state {marked} came before state {}", happened.position);
                self.report.add(Rule::WatchBookmarkable, [*known, line], words);
            }
        }
    }
}
