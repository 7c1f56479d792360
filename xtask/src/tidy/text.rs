//! Rules about any file of text.

use super::Finding;
use super::tree::File;

/// Paths of somebody's machine, in two parts so that this file does not have them.
const MACHINES: [[&str; 2]; 4] = [["/ro", "ot/"], ["/ho", "me/"], ["/wo", "rk/"], ["/Us", "ers/"]];
/// Files as others wrote them.
const COPIES: [&str; 2] = ["LICENSE", "Cargo.lock"];
/// What programs print, kept as they print it.
const PRINTED: [&str; 5] = ["expect", "snap", "stderr", "stdout", "trycmd"];
/// What a merge leaves where it could not decide.
const CONFLICTS: [&str; 2] = ["<<<<<<< ", ">>>>>>> "];

/// Every rule that a file of text breaks.
pub fn check(file: &File) -> Vec<Finding> {
    if COPIES.contains(&file.name()) {
        return Vec::new();
    }
    // What tests are fed with may be as bad as they like.
    let is_fed = file.path.contains("/tests/") && file.extension() != "rs";
    let is_printed = is_fed || PRINTED.contains(&file.extension());
    let mut findings = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        let place = || format!("{}:{}", file.path, index + 1);
        if !is_printed && line.ends_with([' ', '\t']) {
            findings.push(Finding::new(place(), "space at the end of the line", "remove it"));
        }
        if !is_printed && line.ends_with('\r') {
            findings.push(Finding::new(
                place(),
                "the line ends with a carriage return",
                "end it with a line feed",
            ));
        }
        if !is_printed && CONFLICTS.iter().any(|mark| line.starts_with(mark)) {
            findings.push(Finding::new(place(), "a merge is not done", "choose one side"));
        }
        if let Some(machine) = MACHINES.map(|parts| parts.concat()).iter().find(|path| names_path(line, path)) {
            findings.push(Finding::new(
                place(),
                format!("`{machine}…` is a path of one machine"),
                "write it from the repository, or from what the environment says",
            ));
        }
    }
    if !is_printed && !file.text.is_empty() && (!file.text.ends_with('\n') || file.text.ends_with("\n\n")) {
        findings.push(Finding::new(&file.path, "does not end with one line feed", "end it with one"));
    }
    findings
}

/// Whether a path begins there: not in the middle of a longer one, nor of an address.
fn names_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        !line[..at].ends_with(|before: char| before.is_alphanumeric() || ['.', '-', '_', '}'].contains(&before))
    })
}

#[cfg(test)]
mod tests {
    use super::{MACHINES, check};
    use crate::tidy::tree::File;

    #[track_caller]
    fn count(path: &str, text: &str) -> usize {
        check(&File { path: path.to_owned(), text: text.to_owned() }).len()
    }

    #[test]
    fn lines_are_clean() {
        assert_eq!(count("a.md", "one\ntwo\n"), 0);
        assert_eq!(count("a.md", "one \ntwo\t\n"), 2);
        assert_eq!(count("a.snap", "one \n"), 0);
        assert_eq!(count("a/tests/b/c.yaml", "one \r\n\n"), 0);
        assert_eq!(count("a.md", "one"), 1);
        assert_eq!(count("a.md", "one\n\n"), 1);
        assert_eq!(count("a.md", &format!("{}a\n", "<<<<<<< ".trim_start())), 1);
    }

    #[test]
    fn paths_of_machines_are_found() {
        for machine in MACHINES.map(|parts| parts.concat()) {
            assert_eq!(count("a.md", &format!("see {machine}x\n")), 1);
            assert_eq!(count("a.md", &format!("see https://example.com{machine}x\n")), 0);
        }
    }
}
