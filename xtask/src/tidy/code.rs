//! Rules about one file of Rust.

use std::ops::Range;

use super::Finding;
use super::source::Source;
use super::tree::File;

/// A longer file answers more than one question.
const LINES_MAX: usize = 800;

/// Code that must not be there, and what to write instead.
const FORBIDDEN: [(&str, &str); 4] = [
    ("todo!(", "write it, or refuse it by name with \"not supported yet\" and open an issue"),
    ("unimplemented!(", "write it, or refuse it by name with \"not supported yet\" and open an issue"),
    ("dbg!(", "log with `tracing`, or assert"),
    ("#[ignore]", "write `#[ignore = \"reason\"]`, with how to run it"),
];

/// Names that say nothing about what a thing is.
const EMPTY_WORDS: [&str; 6] = ["manager", "handler", "util", "common", "helper", "base"];
/// What declares a type.
const TYPE_KEYWORDS: [&str; 4] = ["struct", "enum", "trait", "type"];

/// What names of times say that are not waited out in the hope that something has happened: the rhythm of a load, the
/// pause between retries, the random moment of a fault.
const RHYTHMS: [&str; 4] = ["PACE", "RETRY", "moment", "random"];

/// Every rule that a file of Rust breaks.
pub fn check(file: &File) -> Vec<Finding> {
    if file.extension() != "rs" {
        return Vec::new();
    }
    let source = Source::new(&file.text);
    let mut found = Found { file, source: &source, findings: Vec::new() };
    found.size();
    found.opening();
    found.forbidden();
    found.reasons();
    found.names();
    found.queues();
    found.sleeps();
    found.findings
}

struct Found<'a> {
    file: &'a File,
    source: &'a Source,
    findings: Vec<Finding>,
}

impl Found<'_> {
    fn add(&mut self, at: usize, problem: impl Into<String>, instead: &str) {
        let place = format!("{}:{}", self.file.path, self.source.line(at));
        self.findings.push(Finding::new(place, problem, instead));
    }

    fn size(&mut self) {
        let lines = self.file.text.lines().count();
        if lines > LINES_MAX {
            let problem = format!("{lines} lines, and {LINES_MAX} are the most");
            self.add(0, problem, "split it by the questions it answers");
        }
    }

    /// A module opens with why it exists; one that only holds tests is known by its name.
    fn opening(&mut self) {
        if self.file.name() != "tests.rs" && !self.file.text.starts_with("//!") {
            self.add(0, "the module does not say why it exists", "open it with a `//!` sentence");
        }
    }

    fn forbidden(&mut self) {
        for (needle, instead) in FORBIDDEN {
            let places: Vec<usize> = self.source.code.match_indices(needle).map(|(at, _)| at).collect();
            for at in places {
                self.add(at, format!("`{}`", needle.trim_end_matches('(')), instead);
            }
        }
    }

    /// A lint that is let off has its reason beside it.
    fn reasons(&mut self) {
        let code = &self.source.code;
        let mut places = Vec::new();
        for needle in ["[allow(", "[expect("] {
            for (at, _) in code.match_indices(needle) {
                let attribute = &code[at..at + code[at..].find(']').unwrap_or(code.len() - at)];
                if !attribute.contains("reason") {
                    places.push(at);
                }
            }
        }
        for at in places {
            self.add(at, "a lint is let off without a reason", "add `reason = \"…\"`");
        }
    }

    fn names(&mut self) {
        const INSTEAD: &str = "name the thing for what it is or does";
        let stem = self.file.name().trim_end_matches(".rs");
        if stem.split('_').any(is_empty_word) {
            self.add(0, format!("`{stem}` in a file's name says nothing"), INSTEAD);
        }
        let mut places = Vec::new();
        for keyword in TYPE_KEYWORDS {
            for at in self.source.words(keyword) {
                let name: String = self.source.code[at + keyword.len()..]
                    .trim_start()
                    .chars()
                    .take_while(|found| found.is_alphanumeric() || *found == '_')
                    .collect();
                if words_of(&name).iter().any(|word| is_empty_word(word)) {
                    places.push((at, name));
                }
            }
        }
        for (at, name) in places {
            self.add(at, format!("`{name}` has a word in its name that says nothing"), INSTEAD);
        }
    }

    /// Every queue has a bound.
    fn queues(&mut self) {
        let places: Vec<usize> = self.source.words("unbounded_channel").collect();
        for at in places {
            if !self.is_test(at) {
                self.add(at, "a queue without a bound", "`mpsc::channel` with a named constant and its reason");
            }
        }
    }

    /// Tests wait for a condition, never for a time: a pause belongs in a loop that looks.
    fn sleeps(&mut self) {
        let loops = self.source.loops();
        let mut places = Vec::new();
        for word in ["sleep", "sleep_until"] {
            // A test may call something of its own by that name.
            let is_own = self.source.code.contains(&format!("let {word} ="));
            for at in self.source.words(word).filter(|_| !is_own) {
                let Some(arguments) = self.source.code[at + word.len()..].strip_prefix('(') else { continue };
                let argument = arguments.split(';').next().unwrap_or_default();
                let is_look = loops.iter().any(|span| span.contains(&at));
                let is_rhythm = RHYTHMS.iter().any(|rhythm| argument.contains(rhythm));
                if self.is_test(at) && !is_look && !is_rhythm {
                    places.push(at);
                }
            }
        }
        for at in places {
            self.add(
                at,
                "a test waits for a time",
                "look for the condition in a loop with a deadline; the rhythm of a load or of retries and the moment of \
                 a fault are named PACE, RETRY, moment or random",
            );
        }
    }

    fn is_test(&self, at: usize) -> bool {
        let path = &self.file.path;
        path.starts_with("chaos-tests/")
            || path.contains("/tests/")
            || path.ends_with("/tests.rs")
            || self.source.tests().iter().any(|span: &Range<usize>| span.contains(&at))
    }
}

fn is_empty_word(word: &str) -> bool {
    let word = word.to_lowercase();
    let singular = word.strip_suffix('s').unwrap_or(&word);
    EMPTY_WORDS.contains(&singular)
}

/// `NodeManager` has the words `Node` and `Manager`.
fn words_of(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for found in name.chars() {
        match words.last_mut() {
            Some(word) if !found.is_uppercase() => word.push(found),
            _ => words.push(found.to_string()),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::tree::File;

    #[track_caller]
    fn problems(path: &str, text: &str) -> Vec<String> {
        let file = File { path: path.to_owned(), text: text.to_owned() };
        check(&file).into_iter().map(|finding| format!("{} {}", finding.place, finding.problem)).collect()
    }

    #[test]
    fn code_that_must_not_be_there_is_found_but_not_in_text() {
        let found = problems("a/src/b.rs", "//! B.\nfn a() { todo!(); dbg!(1) }\n#[ignore]\nfn b() {}\n");
        assert_eq!(found, ["a/src/b.rs:2 `todo!`", "a/src/b.rs:2 `dbg!`", "a/src/b.rs:3 `#[ignore]`"]);
        let kept = "//! No todo!() here.\n#[ignore = \"slow\"]\nfn a() { say(\"dbg!()\") }\n";
        assert!(problems("a/src/b.rs", kept).is_empty());
    }

    #[test]
    fn files_open_with_their_reason_and_end_in_time() {
        assert_eq!(problems("a/src/b.rs", "fn a() {}").len(), 1);
        assert!(problems("a/src/b/tests.rs", "fn a() {}").is_empty());
        assert_eq!(problems("a/src/b.rs", &format!("//! B.\n{}", "\n".repeat(800))).len(), 1);
    }

    #[test]
    fn names_say_what_a_thing_is() {
        assert_eq!(problems("a/src/node_helpers.rs", "//! B.\n").len(), 1);
        assert_eq!(problems("a/src/b.rs", "//! B.\nstruct NodeManager;\nenum Utils {}\n").len(), 2);
        assert!(problems("a/src/database.rs", "//! B.\nstruct Database;\ntrait Handled {}\n").is_empty());
    }

    #[test]
    fn lints_are_let_off_with_a_reason() {
        assert_eq!(problems("a/src/b.rs", "//! B.\n#[allow(clippy::a)]\nfn a() {}\n").len(), 1);
        assert!(problems("a/src/b.rs", "//! B.\n#[allow(clippy::a, reason = \"it\")]\nfn a() {}\n").is_empty());
    }

    #[test]
    fn queues_are_bounded() {
        let text = "//! B.\nfn a() { unbounded_channel() }\n#[cfg(test)]\nmod tests { fn b() { unbounded_channel() } }\n";
        assert_eq!(problems("a/src/b.rs", text), ["a/src/b.rs:2 a queue without a bound"]);
    }

    #[test]
    fn tests_wait_for_conditions() {
        const SLEEP: &str = "tokio::time::sleep(Duration::from_secs(1)).await;";
        let waits = format!("//! B.\nfn restarts() {{ {SLEEP} }}\n");
        assert_eq!(problems("a/tests/b.rs", &waits).len(), 1);
        assert!(problems("a/src/b.rs", &waits).is_empty());
        let inside = format!("//! B.\n#[cfg(test)]\nmod tests {{ fn b() {{ {SLEEP} }} }}\n");
        assert_eq!(problems("a/src/b.rs", &inside).len(), 1);
        let looks = format!("//! B.\nfn b() {{ loop {{ if c() {{ return }} {SLEEP} }} }}\n");
        assert!(problems("a/tests/b.rs", &looks).is_empty());
        let own = "//! B.\nfn b() { let sleep = |d| ask(d); sleep(1) }\n";
        assert!(problems("a/tests/b.rs", own).is_empty());
        let pace = "//! B.\nfn load() { sleep(PACE) }\n";
        assert!(problems("chaos-tests/src/b.rs", pace).is_empty());
    }
}
