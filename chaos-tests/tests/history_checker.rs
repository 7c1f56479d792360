//! The checker of histories: what is legal passes, and what is not is rejected under the name of its rule.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::ptr_arg, reason = "tests; mutations have one type")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use chaos_tests::history::generate::{Size, correct};
use chaos_tests::history::{
    Answer, Ask, Change, History, Kept, KeptRevision, Line, Operation, Outcome, Refused, Rule, SEARCH_MAX,
    Seen, Watched, check, check_within,
};
use chaos_tests::say;
use chaos_tests::seed::Choices;

/// A kind of mutation has to be applied so often.
const TIMES_EACH: usize = 25;
/// Histories that are made for that, at most: each kind is possible in most of them.
const HISTORIES_MAX: usize = 20 * TIMES_EACH;
/// Configurations that 1,000 operations by 8 clients may take to judge: a search that looks at each a few times, and does not
/// grow with all orders there are.
const FEW: usize = 100_000;
const SIZE: Size = Size { operations: 120, clients: 5, keys: 3, watchers: 2 };

fn corpus(folder: &str) -> Vec<(PathBuf, History)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("histories").join(folder);
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        let history = History::parse(&text).unwrap_or_else(|error| panic!("{}: {error:?}", path.display()));
        (path, history)
    };
    paths.into_iter().map(read).collect()
}

#[test]
fn legal_histories_pass() {
    let corpus = corpus("legal");
    assert!(corpus.len() >= 8, "the corpus is there");
    for (path, history) in corpus {
        let report = check(&history);
        assert!(report.is_pass(), "{}:\n{report}", path.display());
    }
}

#[test]
fn illegal_histories_are_rejected_by_the_rule_they_are_named_for() {
    let mut by_rule: Vec<Rule> = Vec::new();
    for (path, history) in corpus("illegal") {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let rule = Rule::ALL.into_iter().find(|rule| name.split('.').next() == Some(rule.name()));
        let rule = rule.unwrap_or_else(|| panic!("{name} is named for no rule"));
        let report = check(&history);
        assert!(report.broken().contains(&rule), "{}:\n{report}", path.display());
        for finding in report.findings.iter().filter(|finding| finding.rule == rule) {
            assert!(!finding.words.is_empty() && !finding.lines.is_empty(), "{finding:?}");
            assert!(finding.lines.iter().all(|line| *line <= history.lines().len()), "{finding:?}");
        }
        by_rule.push(rule);
    }
    for rule in Rule::ALL {
        let count = by_rule.iter().filter(|named| **named == rule).count();
        assert!(count >= 2, "{count} illegal histories for {rule}");
    }
}

#[test]
fn what_is_no_history_is_refused_with_its_line() {
    let get = r#"{"line":"operation","client":1,"member":1,"key":"a","ask":"get","invoked_us":1,"returned_us":2,"outcome":{"ok":{}}}"#;
    let put = r#"{"line":"operation","client":1,"member":1,"key":"a","ask":{"put":{"value":"v"}},"request":"r","invoked_us":1,"returned_us":2,"outcome":"unknown"}"#;
    for (broken, says) in [
        ("nonsense".to_owned(), "line 2"),
        (get.replace("client", "clinet"), "line 2"),
        (get.replace(r#""invoked_us":1"#, r#""invoked_us":3"#), "line 2: it returned before it was invoked"),
        (get.replace(r#""ask""#, r#""request":"r","ask""#), "line 2: whatever has an effect"),
        (put.replace(r#""request":"r","#, ""), "line 2: whatever has an effect"),
        (format!("{put}\n{}", put.replace(r#""r""#, r#""s""#)), "line 3: the value v is written by another"),
        (put.replace(r#""unknown""#, r#"{"ok":{}}"#), "line 2: a write that was done has a revision"),
        (
            r#"{"line":"watched","watcher":1,"stream":0,"at_us":1,"seen":{"bookmark":{"position":1}}}"#
                .to_owned(),
            "line 2: a stream begins once",
        ),
    ] {
        let error = History::parse(&format!("{get}\n{broken}\n")).expect_err(&broken).to_string();
        assert!(error.starts_with(says), "{broken}: {error}");
    }
}

#[test]
fn what_is_written_is_read_again() {
    let history = correct(SIZE, &mut Choices::new());
    assert_eq!(History::parse(&history.to_text()).unwrap(), history);
}

#[test]
fn a_thousand_operations_are_judged_by_few_configurations() {
    let mut choices = Choices::new();
    for keys in [1, 4] {
        let history = correct(Size { operations: 1_000, clients: 8, keys, watchers: 4 }, &mut choices);
        let began = Instant::now();
        let report = check_within(&history, FEW);
        say(&format!("1,000 operations of 8 clients on {keys} keys: {:?}", began.elapsed()));
        assert!(report.is_pass(), "{report}");
    }
}

#[test]
fn a_search_that_gives_up_is_no_pass() {
    let history = correct(Size { operations: 200, clients: 8, keys: 1, watchers: 0 }, &mut Choices::new());
    assert!(check_within(&history, SEARCH_MAX).is_pass());
    let report = check_within(&history, 10);
    assert!(!report.is_pass() && report.findings.is_empty(), "{report}");
    assert_eq!(report.undecided[0].rule, Rule::Linearizable);
}

/// A kind of mutation: changes the lines at one random place, if it finds one, and says which rule must see it.
type Mutation = fn(&mut Vec<Line>, &mut Choices) -> Option<Rule>;

const MUTATIONS: [(&str, Mutation); 16] = [
    ("two writes swap their places", swapped_places),
    ("a read of an older state", older_state),
    ("a read of an older value", older_value),
    ("a refused write took effect", refused_with_effect),
    ("a read finds nothing where something is", untrue_absence),
    ("an acknowledged write is not kept", dropped),
    ("a request took effect twice", doubled),
    ("a repeated answer differs", other_answer),
    ("a member keeps something else", diverged),
    ("an id is given again", reused_id),
    ("an event is left out", missed_event),
    ("an event comes twice", doubled_event),
    ("two events change places", swapped_events),
    ("a resumed stream repeats", repeated_event),
    ("an event tells what was not", untrue_event),
    ("a bookmark comes too early", early_bookmark),
];

#[test]
fn correct_histories_pass_and_each_mutation_is_seen_by_its_rule() {
    let mut choices = Choices::new();
    let mut applied = vec![0; MUTATIONS.len()];
    let mut seen = BTreeSet::new();
    for number in 0..HISTORIES_MAX {
        let history = correct(SIZE, &mut choices);
        let report = check(&history);
        assert!(report.is_pass(), "history {number}:\n{report}\n{}", history.to_text());
        for (index, (name, mutate)) in MUTATIONS.iter().enumerate() {
            if applied[index] >= TIMES_EACH {
                continue;
            }
            let mut lines = history.lines().to_vec();
            let Some(rule) = mutate(&mut lines, &mut choices) else { continue };
            let mutated = History::new(lines).unwrap();
            let report = check(&mutated);
            assert!(
                report.broken().contains(&rule),
                "history {number}, {name}: {rule} did not see it, but:\n{report}\n{}",
                mutated.to_text()
            );
            seen.insert(rule);
            applied[index] += 1;
        }
        if applied.iter().all(|times| *times >= TIMES_EACH) {
            break;
        }
    }
    assert!(applied.iter().all(|times| *times >= TIMES_EACH), "{applied:?}");
    assert_eq!(seen, BTreeSet::from(Rule::ALL), "each rule has seen something");
}

/// Of the lines that fit, one at random.
fn pick<T>(all: &[T], choices: &mut Choices) -> Option<usize> {
    (!all.is_empty()).then(|| usize::try_from(choices.below(all.len() as u64)).unwrap())
}

fn operation(line: &Line) -> Option<&Operation> {
    match line {
        Line::Operation(operation) => Some(operation),
        _ => None,
    }
}

fn operation_mut(line: &mut Line) -> &mut Operation {
    match line {
        Line::Operation(operation) => operation,
        other => panic!("no operation: {other:?}"),
    }
}

fn answer_mut(line: &mut Line) -> &mut Answer {
    match &mut operation_mut(line).outcome {
        Outcome::Ok(answer) => answer,
        other => panic!("no answer: {other:?}"),
    }
}

fn answer(operation: &Operation) -> Option<&Answer> {
    match &operation.outcome {
        Outcome::Ok(answer) => Some(answer),
        _ => None,
    }
}

/// The lines of acknowledged puts whose requests were asked once.
fn single_puts(lines: &[Line]) -> Vec<usize> {
    let attempts = |id: &Option<String>| {
        lines.iter().filter_map(operation).filter(|operation| operation.request == *id).count()
    };
    let fits = |line: &Line| {
        operation(line).is_some_and(|operation| {
            matches!(operation.ask, Ask::Put { .. })
                && answer(operation).is_some()
                && attempts(&operation.request) == 1
        })
    };
    (0..lines.len()).filter(|index| fits(&lines[*index])).collect()
}

fn value_of(line: &Line) -> &str {
    match &operation(line).unwrap().ask {
        Ask::Put { value, .. } => value,
        other => panic!("no put: {other:?}"),
    }
}

fn swapped_places(lines: &mut Vec<Line>, choices: &mut Choices) -> Option<Rule> {
    let puts = single_puts(lines);
    let one = puts[pick(&puts, choices)?];
    let returned = operation(&lines[one])?.returned_us;
    let later = puts.into_iter().filter(|put| operation(&lines[*put]).unwrap().invoked_us > returned);
    let later: Vec<usize> = later.collect();
    let other = later[pick(&later, choices)?];
    let (first, second) =
        (answer(operation(&lines[one])?)?.position, answer(operation(&lines[other])?)?.position);
    answer_mut(&mut lines[one]).position = second;
    answer_mut(&mut lines[other]).position = first;
    Some(Rule::LogOrder)
}

/// The lines of reads of something that is there.
fn gets(lines: &[Line]) -> Vec<usize> {
    let fits = |line: &Line| {
        operation(line).is_some_and(|operation| {
            operation.ask == Ask::Get && answer(operation).is_some_and(|answer| answer.revision.is_some())
        })
    };
    (0..lines.len()).filter(|index| fits(&lines[*index])).collect()
}

fn older_state(lines: &mut Vec<Line>, choices: &mut Choices) -> Option<Rule> {
    let gets = gets(lines);
    let read = gets[pick(&gets, choices)?];
    let invoked = operation(&lines[read])?.invoked_us;
    let puts = single_puts(lines);
    let before = puts.into_iter().filter(|put| operation(&lines[*put]).unwrap().returned_us < invoked);
    let latest = before.filter_map(|put| answer(operation(&lines[put])?)?.position).max()?;
    answer_mut(&mut lines[read]).position = Some(latest - 1);
    Some(Rule::LogOrder)
}

fn older_value(lines: &mut Vec<Line>, choices: &mut Choices) -> Option<Rule> {
    let gets = gets(lines);
    let read = gets[pick(&gets, choices)?];
    let Operation { key, invoked_us, .. } = operation(&lines[read])?.clone();
    let puts: Vec<usize> = single_puts(lines)
        .into_iter()
        .filter(|put| operation(&lines[*put]).is_some_and(|put| put.key == key && put.returned_us < invoked_us))
        .collect();
    // One that another one has replaced, which began after it and was acknowledged before the read.
    let is_replaced = |put: &usize| {
        let returned = operation(&lines[*put]).unwrap().returned_us;
        puts.iter().any(|other| operation(&lines[*other]).unwrap().invoked_us > returned)
    };
    let old: Vec<usize> = puts.iter().copied().filter(is_replaced).collect();
    let old = old[pick(&old, choices)?];
    let (value, revision) = (value_of(&lines[old]).to_owned(), answer(operation(&lines[old])?)?.revision);
    let answer = answer_mut(&mut lines[read]);
    (answer.value, answer.revision) = (Some(value), revision);
    Some(Rule::Linearizable)
}

fn refused_with_effect(lines: &mut Vec<Line>, choices: &mut Choices) -> Option<Rule> {
    let is_read = |put: &usize| {
        let value = value_of(&lines[*put]);
        lines
            .iter()
            .filter_map(operation)
            .filter_map(answer)
            .any(|answer| answer.value.as_deref() == Some(value))
    };
    let puts: Vec<usize> = single_puts(lines).into_iter().filter(is_read).collect();
    let put = puts[pick(&puts, choices)?];
    operation_mut(&mut lines[put]).outcome = Outcome::Refused(Refused::Other);
    Some(Rule::Linearizable)
}

fn untrue_absence(lines: &mut Vec<Line>, choices: &mut Choices) -> Option<Rule> {
    // The last reads stand alone: nothing is asked beside them.
    let last = lines.iter().filter_map(operation).map(|operation| operation.client).max()?;
    let gets: Vec<usize> =
        gets(lines).into_iter().filter(|get| operation(&lines[*get]).unwrap().client == last).collect();
    let read = gets[pick(&gets, choices)?];
    // What may not have been written need not be there, and a deletion in doubt may have been done just before the read.
    let Operation { key, outcome: Outcome::Ok(found), .. } = operation(&lines[read])?.clone() else {
        return None;
    };
    if !single_puts(lines).into_iter().any(|put| Some(value_of(&lines[put])) == found.value.as_deref()) {
        return None;
    }
    let may_be_gone = lines.iter().filter_map(operation).any(|operation| {
        matches!(operation.ask, Ask::Delete { .. })
            && operation.outcome == Outcome::Unknown
            && operation.key == key
    });
    if may_be_gone {
        return None;
    }
    *answer_mut(&mut lines[read]) = Answer::default();
    Some(Rule::Linearizable)
}

fn kept_mut(lines: &mut [Line]) -> impl Iterator<Item = &mut Kept> {
    lines.iter_mut().filter_map(|line| match line {
        Line::Kept(kept) => Some(kept),
        _ => None,
    })
}

/// A kept key, and the number of members that keep it.
fn kept_key(lines: &[Line], choices: &mut Choices) -> Option<String> {
    let kept: Vec<&String> = lines
        .iter()
        .filter_map(|line| match line {
            Line::Kept(kept) if !kept.revisions.is_empty() => Some(&kept.key),
            _ => None,
        })
        .collect();
    pick(&kept, choices).map(|index| kept[index].clone())
}

fn dropped(lines: &mut Vec<Line>, choices: &mut Choices) -> Option<Rule> {
    let key = kept_key(lines, choices)?;
    let last = kept_mut(lines).find(|kept| kept.key == key)?.revisions.last()?.value.clone();
    let puts = single_puts(lines);
    let put = puts.into_iter().find(|put| value_of(&lines[*put]) == last)?;
    let invoked = operation(&lines[put])?.invoked_us;
    let may_be_gone = lines.iter().filter_map(operation).any(|operation| {
        let refused = matches!(operation.outcome, Outcome::Refused(_));
        let is_before = answer(operation).is_some() && operation.returned_us < invoked;
        matches!(operation.ask, Ask::Delete { .. }) && operation.key == key && !refused && !is_before
    });
    if may_be_gone {
        return None;
    }
    for kept in kept_mut(lines).filter(|kept| kept.key == key) {
        kept.revisions.pop();
    }
    Some(Rule::AckedPresent)
}

fn doubled(lines: &mut Vec<Line>, choices: &mut Choices) -> Option<Rule> {
    let key = kept_key(lines, choices)?;
    for kept in kept_mut(lines).filter(|kept| kept.key == key) {
        let last = kept.revisions.last()?.clone();
        kept.revisions.push(KeptRevision { revision: last.revision + 1, ..last });
    }
    Some(Rule::AtMostOnce)
}

fn other_answer(lines: &mut Vec<Line>, choices: &mut Choices) -> Option<Rule> {
    let put = |line: &Line| {
        operation(line)
            .is_some_and(|operation| matches!(operation.ask, Ask::Put { .. }) && answer(operation).is_some())
    };
    let id = |index: usize| operation(&lines[index]).unwrap().request.clone();
    let puts: Vec<usize> = (0..lines.len()).filter(|index| put(&lines[*index])).collect();
    let repeated: Vec<usize> = puts
        .iter()
        .copied()
        .filter(|one| puts.iter().any(|other| other != one && id(*other) == id(*one)))
        .collect();
    let one = repeated[pick(&repeated, choices)?];
    let answer = answer_mut(&mut lines[one]);
    answer.revision = answer.revision.map(|revision| revision + 1);
    Some(Rule::AtMostOnce)
}

fn diverged(lines: &mut Vec<Line>, choices: &mut Choices) -> Option<Rule> {
    let key = kept_key(lines, choices)?;
    let kept = kept_mut(lines).filter(|kept| kept.key == key).nth(1)?;
    kept.revisions.last_mut()?.made_ms += 1;
    Some(Rule::Converged)
}

fn reused_id(lines: &mut Vec<Line>, choices: &mut Choices) -> Option<Rule> {
    let joins: Vec<&Operation> = lines.iter().filter_map(operation).filter(|o| o.ask == Ask::Join).collect();
    // Asked once each: the first answer of a request is the one that counts.
    let is_single = |o: &Operation| {
        answer(o).is_some() && joins.iter().filter(|other| other.request == o.request).count() == 1
    };
    let fits = |line: &Line| operation(line).is_some_and(|o| o.ask == Ask::Join && is_single(o));
    let singles: Vec<usize> = (0..lines.len()).filter(|index| fits(&lines[*index])).collect();
    let one = singles[pick(&singles, choices)?];
    let other = singles.into_iter().find(|other| *other != one)?;
    let id = answer(operation(&lines[other])?)?.id;
    answer_mut(&mut lines[one]).id = id;
    Some(Rule::IdsOnce)
}

fn watched(line: &Line) -> Option<&Watched> {
    match line {
        Line::Watched(watched) => Some(watched),
        _ => None,
    }
}

fn position(line: &Line) -> Option<u64> {
    match watched(line)?.seen {
        Seen::Event { position, .. } => Some(position),
        _ => None,
    }
}

fn events(lines: &[Line]) -> Vec<usize> {
    (0..lines.len()).filter(|index| position(&lines[*index]).is_some()).collect()
}

fn is_beside(line: &Line) -> bool {
    matches!(watched(line), Some(Watched { seen: Seen::Event { change: Change::Other { .. }, .. }, .. }))
}

fn missed_event(lines: &mut Vec<Line>, choices: &mut Choices) -> Option<Rule> {
    let events = events(lines);
    let one = events[pick(&events, choices)?];
    let of_stream = |line: &Line| watched(line).map(|watched| (watched.watcher, watched.stream));
    let stream: Vec<usize> =
        events.into_iter().filter(|e| of_stream(&lines[*e]) == of_stream(&lines[one])).collect();
    let place = position(&lines[one])?;
    // Behind the last one, nobody knows that it is missing yet.
    if !stream.iter().any(|other| position(&lines[*other]).unwrap() > place) {
        return None;
    }
    let has_other = stream.iter().any(|other| *other != one && position(&lines[*other]) == Some(place));
    let is_first = stream.iter().all(|other| *other == one || position(&lines[*other]).unwrap() > place);
    let is_resumed = watched(&lines[one])?.stream > 0;
    lines.remove(one);
    Some(match (has_other, is_first && is_resumed) {
        (true, _) => Rule::WatchAtomic,
        (false, true) => Rule::WatchResumable,
        (false, false) => Rule::WatchReliable,
    })
}

fn doubled_event(lines: &mut Vec<Line>, choices: &mut Choices) -> Option<Rule> {
    let events = events(lines);
    let one = events[pick(&events, choices)?];
    let event = lines[one].clone();
    lines.insert(one + 1, event);
    Some(Rule::WatchUnique)
}

fn swapped_events(lines: &mut Vec<Line>, choices: &mut Choices) -> Option<Rule> {
    let swap = |index: &usize| {
        let pair = lines.get(*index).and_then(position).zip(lines.get(index + 1).and_then(position));
        pair.is_some_and(|(one, other)| one != other)
            && !is_beside(&lines[*index])
            && !is_beside(&lines[index + 1])
    };
    let pairs: Vec<usize> = events(lines).into_iter().filter(swap).collect();
    let one = pairs[pick(&pairs, choices)?];
    lines.swap(one, one + 1);
    Some(Rule::WatchOrdered)
}

fn repeated_event(lines: &mut Vec<Line>, choices: &mut Choices) -> Option<Rule> {
    let begins = |index: &usize| match lines.get(*index).and_then(watched) {
        Some(Watched { seen: Seen::Began { after, .. }, .. }) => *after > 0,
        _ => false,
    };
    let begins: Vec<usize> = (0..lines.len()).filter(begins).collect();
    let begin = begins[pick(&begins, choices)?];
    let before = (0..begin).rev().find(|index| position(&lines[*index]).is_some())?;
    let (mut event, stream) = (lines[before].clone(), watched(&lines[begin])?.stream);
    if let Line::Watched(watched) = &mut event {
        watched.stream = stream;
    }
    lines.insert(begin + 1, event);
    Some(Rule::WatchResumable)
}

fn untrue_event(lines: &mut Vec<Line>, choices: &mut Choices) -> Option<Rule> {
    let events: Vec<usize> = events(lines).into_iter().filter(|event| !is_beside(&lines[*event])).collect();
    let one = events[pick(&events, choices)?];
    if let Line::Watched(Watched { seen: Seen::Event { change, .. }, .. }) = &mut lines[one] {
        *change = match change {
            Change::Put { revision } => Change::Put { revision: *revision + 1 },
            Change::Deleted | Change::Other { .. } => Change::Put { revision: 1 },
        };
    }
    Some(Rule::WatchTrue)
}

fn early_bookmark(lines: &mut Vec<Line>, choices: &mut Choices) -> Option<Rule> {
    let next = |index: usize| lines.get(index + 1).and_then(position);
    let is_bookmark = |line: &Line| matches!(watched(line), Some(Watched { seen: Seen::Bookmark { .. }, .. }));
    let marks: Vec<usize> =
        (0..lines.len()).filter(|index| is_bookmark(&lines[*index]) && next(*index).is_some()).collect();
    let one = marks[pick(&marks, choices)?];
    let early = next(one)?;
    if let Line::Watched(Watched { seen: Seen::Bookmark { position }, .. }) = &mut lines[one] {
        *position = early;
    }
    Some(Rule::WatchBookmarkable)
}
