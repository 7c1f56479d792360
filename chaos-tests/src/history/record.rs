//! The lines of a history.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "kebab-case")]
pub enum Line {
    /// What a client asked and was answered.
    Operation(Operation),
    /// What a watcher was told.
    Watched(Watched),
    /// What a member keeps at the end.
    Kept(Kept),
}

/// What a client asked once, and what came of it. A request that is repeated is several of them with one id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    /// Who asked: one thing after the other.
    pub client: u64,
    /// Which member was asked.
    pub member: u64,
    /// What it is about; empty for what is about all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// What was asked.
    pub ask: Ask,
    /// The id of the request, of whatever has an effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// When, in microseconds of the history's clock.
    pub invoked_us: u64,
    /// When it was answered, or given up.
    pub returned_us: u64,
    /// What came of it.
    pub outcome: Outcome,
}

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ask {
    /// Makes a new revision of the key.
    Put {
        /// Never written by another request.
        value: String,
        /// Refused at another revision; 0 stands for absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expected: Option<u64>,
    },
    /// Takes the key away; it begins at revision 1 again.
    Delete {
        /// Refused at another revision.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expected: Option<u64>,
    },
    /// Reads the key.
    Get,
    /// Reads the revisions of all keys.
    List,
    /// Becomes a member, and is given an id.
    Join,
}

/// What came of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was done.
    Ok(Answer),
    /// It was not done, and will not be.
    Refused(Refused),
    /// It may have been done, or may still be.
    Unknown,
}

/// What the answer carried; a read of what is not there has neither revision nor value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The revision of the state: which one a write made, or the one that a read is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// The revision of the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// Its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The revisions of all keys that there are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub listed: BTreeMap<String, u64>,
    /// The id that was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
}

/// Why an operation was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refused {
    /// The key is not at the expected revision.
    Conflict,
    /// There is no such key.
    NotFound,
    /// A reason that says nothing of the key.
    Other,
}

/// What a watcher was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watched {
    /// Who watches.
    pub watcher: u64,
    /// Its how many-th stream: a stream that broke is resumed by the next.
    pub stream: u64,
    /// When, in microseconds of the history's clock.
    pub at_us: u64,
    /// What.
    pub seen: Seen,
}

/// One thing that a watcher is told; the first of each stream is its beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Seen {
    /// A stream begins.
    Began {
        /// Which member was asked.
        member: u64,
        /// Only what came later than this revision of the state was asked for.
        after: u64,
        /// Only what is about this key was asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
    },
    /// Something happened.
    Event {
        /// The revision of the state that it brought; it may have brought other events too.
        position: u64,
        /// What it is about.
        key: String,
        /// What.
        change: Change,
    },
    /// Everything up to this revision of the state was told.
    Bookmark {
        /// That revision.
        position: u64,
    },
}

/// What happened to a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Change {
    /// It has this revision.
    Put {
        /// The revision of the key.
        revision: u64,
    },
    /// It is gone.
    Deleted,
    /// Something that no client asked for.
    Other {
        /// In words.
        what: String,
    },
}

/// What a member keeps of a key at the end, when nothing is asked any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// Which member.
    pub member: u64,
    /// The key.
    pub key: String,
    /// Its kept revisions, oldest first, the current one last; none if it is absent.
    pub revisions: Vec<KeptRevision>,
}

/// One kept revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptRevision {
    /// Its number.
    pub revision: u64,
    /// Its value.
    pub value: String,
    /// When it was made, as the state has it, in milliseconds since 1970.
    #[serde(default)]
    pub made_ms: u64,
}

/// Why lines are no history.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// A line cannot be read.
    #[error("line {line}")]
    Line {
        /// Which, from 1 on.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// An operation that contradicts itself.
    #[error("line {line}: {what}")]
    Wrong {
        /// Which, from 1 on.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
}

/// A history, in the order in which its lines were written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    lines: Vec<Line>,
}

impl History {
    /// Of these lines; refuses what the rules could not tell apart.
    pub fn new(lines: Vec<Line>) -> Result<Self, HistoryError> {
        let mut values: BTreeMap<&str, &str> = BTreeMap::new();
        let mut streams = BTreeSet::new();
        for (index, line) in lines.iter().enumerate() {
            let wrong = |what: &str| HistoryError::Wrong { line: index + 1, what: what.to_owned() };
            match line {
                Line::Operation(operation) => {
                    check_operation(operation, &mut values).map_err(|what| wrong(&what))?;
                }
                Line::Watched(watched) => {
                    let is_new = streams.insert((watched.watcher, watched.stream));
                    if is_new != matches!(watched.seen, Seen::Began { .. }) {
                        return Err(wrong("a stream begins once, before anything is told on it"));
                    }
                }
                Line::Kept(_) => {}
            }
        }
        Ok(Self { lines })
    }

    /// Reads JSON lines.
    pub fn parse(text: &str) -> Result<Self, HistoryError> {
        let read = |(index, line): (usize, &str)| {
            serde_json::from_str(line).map_err(|source| HistoryError::Line { line: index + 1, source })
        };
        Self::new(text.lines().enumerate().map(read).collect::<Result<_, _>>()?)
    }

    /// As JSON lines.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for line in &self.lines {
            let line = serde_json::to_string(line).expect("a line is numbers and text");
            writeln!(text, "{line}").expect("a string takes everything");
        }
        text
    }

    /// Its lines.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Its lines, for a history that is made from them.
    pub fn into_lines(self) -> Vec<Line> {
        self.lines
    }

    /// The operations, each with the number of its line, from 1 on.
    pub fn operations(&self) -> impl Iterator<Item = (usize, &Operation)> {
        self.numbered().filter_map(|(number, line)| match line {
            Line::Operation(operation) => Some((number, operation)),
            _ => None,
        })
    }

    /// What was told to watchers, each with the number of its line, from 1 on.
    pub fn watched(&self) -> impl Iterator<Item = (usize, &Watched)> {
        self.numbered().filter_map(|(number, line)| match line {
            Line::Watched(watched) => Some((number, watched)),
            _ => None,
        })
    }

    /// What is kept at the end, each with the number of its line, from 1 on.
    pub fn kept(&self) -> impl Iterator<Item = (usize, &Kept)> {
        self.numbered().filter_map(|(number, line)| match line {
            Line::Kept(kept) => Some((number, kept)),
            _ => None,
        })
    }

    fn numbered(&self) -> impl Iterator<Item = (usize, &Line)> {
        self.lines.iter().enumerate().map(|(index, line)| (index + 1, line))
    }
}

fn check_operation<'a>(
    operation: &'a Operation,
    values: &mut BTreeMap<&'a str, &'a str>,
) -> Result<(), String> {
    if operation.returned_us < operation.invoked_us {
        return Err("it returned before it was invoked".to_owned());
    }
    let has_effect = matches!(operation.ask, Ask::Put { .. } | Ask::Delete { .. } | Ask::Join);
    if has_effect != operation.request.is_some() {
        return Err("whatever has an effect has the id of a request, and nothing else has".to_owned());
    }
    if let (Ask::Put { value, .. }, Some(request)) = (&operation.ask, &operation.request)
        && values.insert(value, request).is_some_and(|before| before != request)
    {
        return Err(format!("the value {value} is written by another request too"));
    }
    if let (Ask::Put { .. }, Outcome::Ok(answer)) = (&operation.ask, &operation.outcome)
        && answer.revision.is_none()
    {
        return Err("a write that was done has a revision".to_owned());
    }
    Ok(())
}
