//! Finds every reason in the sources of the crates that give them: a scan of text, for a test only.
//!
//! It knows the calls and fields that carry a reason. A reason that is passed in a new way is missed; the lower bound
//! and the samples below notice when a way it knows has gone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const CRATES: [&str; 7] = ["model", "graph", "proto", "cluster", "control-plane", "node-agent", "ctl"];

/// Calls that carry a reason, and which argument it is.
const CALLS: [(&str, usize); 7] = [
    ("Diagnostic::error", 0),
    ("Finding::new", 0),
    ("single", 0),
    ("findings.read", 0),
    ("self.read", 0),
    ("state.event", 1),
    ("refuse", 0),
];

fn is_word(text: &str) -> bool {
    text.split('_').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase()))
}

/// The word of a text that is one string literal of a reason's form.
fn word(text: &str) -> Option<&str> {
    text.trim().strip_prefix('"')?.strip_suffix('"').filter(|inner| is_word(inner))
}

/// All string literals of a text that have a reason's form.
fn words(text: &str) -> impl Iterator<Item = &str> {
    // Every second piece between quotes is inside them; escaped quotes only shift prose, which has no reason's form.
    let pieces: Vec<&str> = text.split('"').collect();
    // What is searched for in a message is no reason.
    let is_reason = |pair: &&[&str]| is_word(pair[1]) && !pair[0].ends_with("contains(");
    let found: Vec<&str> = pieces.windows(2).step_by(2).filter(is_reason).map(|pair| pair[1]).collect();
    found.into_iter()
}

/// The text in front of the first of `ends` that is in no bracket and no literal, or of the bracket that closes an
/// outer one; and how long that is.
fn until<'a>(text: &'a str, ends: &[char]) -> &'a str {
    let (mut depth, mut quoted, mut skip_to) = (0_usize, false, 0);
    for (at, c) in text.char_indices() {
        if at < skip_to {
            continue;
        }
        match c {
            '\\' if quoted => skip_to = at + 2,
            '"' => quoted = !quoted,
            _ if quoted => {}
            // A character, not a lifetime.
            '\'' => {
                let mut next = text[at + 1..].char_indices();
                if let (Some((_, _)), Some((end, '\''))) = (next.next(), next.next()) {
                    skip_to = at + 1 + end + 1;
                }
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => return &text[..at],
            ')' | ']' | '}' => depth -= 1,
            _ if depth == 0 && ends.contains(&c) => return &text[..at],
            _ => {}
        }
    }
    text
}

/// The arguments of a call, from behind its opening bracket on.
fn arguments(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        let argument = until(rest, &[',']);
        found.push(argument);
        match rest[argument.len()..].strip_prefix(',') {
            Some(behind) => rest = behind,
            None => return found,
        }
    }
}

/// Every place where `needle` begins a word of its own, as the text behind it.
fn behind<'a>(text: &'a str, needle: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(needle).filter_map(move |(at, _)| {
        let before = text[..at].chars().next_back();
        let is_part = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
        (!is_part).then(|| &text[at + needle.len()..])
    })
}

/// Takes a turbofish off.
fn without_types(text: &str) -> &str {
    let Some(rest) = text.strip_prefix("::<") else { return text };
    rest.find(">(").map_or(text, |at| &rest[at + 1..])
}

fn scan(text: &str, mut found: impl FnMut(&str)) {
    for (call, position) in CALLS {
        for rest in behind(text, call) {
            let Some(rest) = without_types(rest).strip_prefix('(') else { continue };
            let arguments = arguments(rest);
            // A status is refused with a code in front of the reason.
            let shift = usize::from(call == "refuse" && arguments[0].contains("Code::"));
            arguments
                .get(position + shift)
                .and_then(|argument| word(argument))
                .into_iter()
                .for_each(&mut found);
        }
    }
    for rest in behind(text, "reason: ") {
        let rest = rest.strip_prefix("Some(").unwrap_or(rest);
        let literal = rest.strip_prefix('"').and_then(|rest| rest.split_once('"'));
        literal.into_iter().for_each(|(reason, _)| found(reason));
    }
    // `let (code, reason) = match error { … };`, and functions that only choose a reason.
    for rest in behind(text, "let ") {
        let pattern = rest.split('=').next().unwrap_or_default();
        if pattern.contains("reason") || pattern.trim() == "event" {
            words(until(&rest[pattern.len()..], &[';'])).for_each(&mut found);
        }
    }
    for rest in behind(text, "const ") {
        // `const ALIAS: (&str, &str) = ("yaml_alias", "…");`
        let value =
            rest.split_once(": (&str, &str) = (").filter(|(name, _)| !name.contains(char::is_whitespace));
        value.and_then(|(_, value)| word(until(value, &[',']))).into_iter().for_each(&mut found);
    }
    for function in ["fn refused_source(", "fn breach_of("] {
        for rest in behind(text, function) {
            words(rest.split_once('{').map_or("", |(_, body)| until(body, &[]))).for_each(&mut found);
        }
    }
    for function in ["fn reason(", "fn reason_of(", "fn word(code"] {
        for rest in behind(text, function) {
            let body = rest.split_once('{').map_or("", |(_, body)| until(body, &[]));
            // What is searched for is no reason.
            let arms = body.split("=>").skip(1).map(|arm| arm.split('\n').next().unwrap_or_default());
            arms.flat_map(words).for_each(&mut found);
        }
    }
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap_or_else(|error| panic!("{}: {error}", folder.display())).path();
        if path.is_dir() {
            // The pages themselves give no reason.
            if !path.ends_with("command/explain") {
                files(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && path.file_stem().is_some_and(|stem| stem != "tests")
        {
            found.push(path);
        }
    }
}

/// The sources without their tests.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut paths = Vec::new();
    for name in CRATES {
        files(&root.join(name).join("src"), &mut paths);
    }
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let product = text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
        (path.strip_prefix(&root).unwrap_or(&path).display().to_string(), product)
    };
    paths.into_iter().map(read).collect()
}

/// All sources as one text.
pub(super) fn text() -> String {
    sources().into_iter().map(|(_, text)| text).collect()
}

/// Every reason, and a file that gives it.
pub(super) fn reasons() -> BTreeMap<String, String> {
    let mut reasons = BTreeMap::new();
    for (file, text) in sources() {
        scan(&text, |reason| {
            reasons.insert(reason.to_owned(), file.clone());
        });
    }
    reasons
}

#[test]
fn each_way_of_giving_a_reason_is_found() {
    let found = reasons();
    for sample in [
        "unknown_component",       // Diagnostic::error
        "unsatisfied_import",      // Finding::new
        "egress_rule",             // self.read::<T>
        "core_module",             // refuse(reason, …)
        "plan_stale",              // refuse(Code, reason, …)
        "idempotency_mismatch",    // let (code, reason) = match
        "artifact_io",             // fn reason
        "digest_mismatch",         // fn reason_of
        "yaml_alias",              // const
        "source_scheme",           // fn refused_source
        "not_supported_by_server", // fn word(code
        "compile_failed",          // let reason = match
        "unknown_enum",            // reason: "…"
        "relinked",                // state.event
        "retrying",                // let event = match
        "not_callable",            // let (make, reason): … = match
    ] {
        assert!(found.contains_key(sample), "{sample} was not found");
    }
    assert!(found.len() > 90, "only {} reasons were found", found.len());
}
