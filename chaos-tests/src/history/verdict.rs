//! What the checker says.

use std::collections::BTreeSet;
use std::fmt;

/// A rule that every history of a correct control plane keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Acknowledged writes have places of their own, and what is read and written later in real time is later there.
    LogOrder,
    /// Each key behaves as one register.
    Linearizable,
    /// A stream goes forward.
    WatchOrdered,
    /// Nothing is told twice on a stream.
    WatchUnique,
    /// What one revision brought is told whole.
    WatchAtomic,
    /// Nothing is left out on a stream.
    WatchReliable,
    /// A stream that resumes neither repeats nor leaves out.
    WatchResumable,
    /// Behind a bookmark nothing comes that was to be told before it.
    WatchBookmarkable,
    /// What is told has happened, and is the same for all.
    WatchTrue,
    /// What is kept at the end is what was acknowledged, and nothing that nobody asked for.
    AckedPresent,
    /// All members keep the same.
    Converged,
    /// A request has one effect and one answer.
    AtMostOnce,
    /// No id is given to two.
    IdsOnce,
}

impl Rule {
    /// All rules.
    pub const ALL: [Self; 13] = [
        Self::LogOrder,
        Self::Linearizable,
        Self::WatchOrdered,
        Self::WatchUnique,
        Self::WatchAtomic,
        Self::WatchReliable,
        Self::WatchResumable,
        Self::WatchBookmarkable,
        Self::WatchTrue,
        Self::AckedPresent,
        Self::Converged,
        Self::AtMostOnce,
        Self::IdsOnce,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LogOrder => "log-order",
            Self::Linearizable => "linearizable",
            Self::WatchOrdered => "watch-ordered",
            Self::WatchUnique => "watch-unique",
            Self::WatchAtomic => "watch-atomic",
            Self::WatchReliable => "watch-reliable",
            Self::WatchResumable => "watch-resumable",
            Self::WatchBookmarkable => "watch-bookmarkable",
            Self::WatchTrue => "watch-true",
            Self::AckedPresent => "acked-present",
            Self::Converged => "converged",
            Self::AtMostOnce => "at-most-once",
            Self::IdsOnce => "ids-once",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// A rule that is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which.
    pub rule: Rule,
    /// The lines of the history that show it, from 1 on.
    pub lines: Vec<usize>,
    /// How, in words.
    pub words: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {} (lines {:?})", self.rule, self.words, self.lines)
    }
}

/// A rule that came to no end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undecided {
    /// Which.
    pub rule: Rule,
    /// Why, in words.
    pub words: String,
}

impl fmt::Display for Undecided {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: undecided: {}", self.rule, self.words)
    }
}

/// What all rules say of a history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// What is broken.
    pub findings: Vec<Finding>,
    /// What is not known.
    pub undecided: Vec<Undecided>,
}

impl Report {
    /// Whether every rule was decided, and none is broken.
    pub fn is_pass(&self) -> bool {
        self.findings.is_empty() && self.undecided.is_empty()
    }

    /// The rules that are broken.
    pub fn broken(&self) -> BTreeSet<Rule> {
        self.findings.iter().map(|finding| finding.rule).collect()
    }

    pub(super) fn add(&mut self, rule: Rule, lines: impl Into<Vec<usize>>, words: String) {
        let mut lines = lines.into();
        lines.sort_unstable();
        lines.dedup();
        self.findings.push(Finding { rule, lines, words });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_pass() {
            return out.write_str("pass");
        }
        self.findings.iter().try_for_each(|finding| writeln!(out, "{finding}"))?;
        self.undecided.iter().try_for_each(|undecided| writeln!(out, "{undecided}"))
    }
}
