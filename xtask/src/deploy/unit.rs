//! Unit files of systemd and their environment files, as far as they say how our programs are started.

use std::collections::BTreeMap;

use super::invocation::{Invocation, Program};
use crate::tidy::Finding;
use crate::tidy::tree::File;

/// Where the files are.
pub const FOLDER: &str = "deploy/systemd/";
/// The file that makes the users.
pub const USERS: &str = "deploy/systemd/weft.sysusers.conf";

/// A unit: every `key=value` in its order.
#[derive(Debug)]
pub struct Unit<'a> {
    path: &'a str,
    settings: Vec<(&'a str, &'a str)>,
}

impl<'a> Unit<'a> {
    /// Reads a file. What systemd thinks of it is asked of systemd.
    pub fn read(file: &'a File) -> Self {
        let settings = file
            .text
            .lines()
            .filter(|line| !line.starts_with(['#', ';', '[']))
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.trim(), value.trim()));
        Self { path: &file.path, settings: settings.collect() }
    }

    /// The values of a key.
    pub fn values<'k>(&'k self, key: &'k str) -> impl Iterator<Item = &'a str> + 'k {
        self.settings.iter().filter(move |(found, _)| *found == key).map(|(_, value)| *value)
    }

    fn name(&self) -> &'a str {
        self.path.rsplit('/').next().unwrap_or(self.path)
    }

    /// The specifier of credentials is the only one in use here.
    fn expand(&self, value: &str) -> String {
        value.replace("%d", &format!("/run/credentials/{}", self.name()))
    }
}

/// The users that there are, and those that units run as.
pub fn check_users(unit: &Unit<'_>, users: &str) -> Vec<Finding> {
    let made: Vec<&str> = users
        .lines()
        .filter_map(|line| line.strip_prefix("u "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let mut findings = Vec::new();
    for key in ["User", "Group"] {
        match unit.values(key).last() {
            None | Some("" | "root" | "0") => {
                findings.push(Finding::new(unit.path, format!("has no {key}="), "give it a user of its own"));
            }
            Some(user) if !made.contains(&user) => findings.push(Finding::new(
                unit.path,
                format!("runs with {key}={user}, which nothing makes"),
                format!("add it to {USERS}"),
            )),
            Some(_) => {}
        }
    }
    findings
}

/// How a unit starts its program: once with each example of its environment file, and each line there that is a
/// suggestion by itself.
pub fn invocations(unit: &Unit<'_>, files: &[File]) -> Result<Vec<Invocation>, Finding> {
    let wrong = |problem: String, instead: &str| Finding::new(unit.path, problem, instead);
    let line = unit.values("ExecStart").last().unwrap_or_default();
    let mut words = line.split_whitespace();
    let program = words.next().and_then(Program::at);
    let program =
        program.ok_or_else(|| wrong(format!("starts no program of ours: `{line}`"), "name its path"))?;
    let words: Vec<&str> = words.collect();
    let stem = unit
        .values("EnvironmentFile")
        .last()
        .and_then(|path| path.rsplit('/').next()?.strip_suffix(".env"))
        .ok_or_else(|| wrong("has no EnvironmentFile=".to_owned(), "read settings from a file in /etc/weft"))?;
    let mut invocations = Vec::new();
    for file in files.iter().filter(|file| is_example(file, stem)) {
        let mut variables = BTreeMap::new();
        for (name, value) in unit.values("Environment").filter_map(|value| value.split_once('=')) {
            variables.insert(name.to_owned(), unit.expand(value));
        }
        for (name, value) in file.text.lines().filter_map(assignment) {
            variables.insert(name.to_owned(), value.to_owned());
        }
        let invocation = |variables, is_whole| with_words(program, &words, &file.path, variables, is_whole);
        invocations.push(invocation(variables, true));
        for (name, value) in file.text.lines().filter_map(|line| assignment(line.strip_prefix('#')?)) {
            invocations.push(invocation(BTreeMap::from([(name.to_owned(), value.to_owned())]), false));
        }
    }
    if invocations.is_empty() {
        let instead = format!("write {FOLDER}{stem}.env");
        return Err(wrong(format!("there is no example of its environment file {stem}.env"), &instead));
    }
    Ok(invocations)
}

/// `control-plane.first.env` is an example of `control-plane.env`.
fn is_example(file: &File, stem: &str) -> bool {
    let name = file.path.strip_prefix(FOLDER).and_then(|name| name.strip_suffix(".env"));
    name.and_then(|name| name.strip_prefix(stem)).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// `NAME=value`; a sentence of a comment is none.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once('=')?;
    let is_name =
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    is_name.then_some((name, value))
}

/// A word `$NAME` stands for the words of that variable, or for none; the program does not read such a variable.
fn with_words(
    program: Program,
    words: &[&str],
    place: &str,
    mut variables: BTreeMap<String, String>,
    is_whole: bool,
) -> Invocation {
    let mut arguments = Vec::new();
    for word in words {
        match word.strip_prefix('$') {
            None => arguments.push((*word).to_owned()),
            Some(name) => {
                let value = variables.remove(name).unwrap_or_default();
                arguments.extend(value.split_whitespace().map(str::to_owned));
            }
        }
    }
    Invocation { place: place.to_owned(), program, arguments, variables, is_whole }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::{Unit, check_users, invocations};
    use crate::deploy::invocation::Program;
    use crate::tidy::tree::File;

    const UNIT: &str = "[Service]\nUser=weft\nGroup=weft\nEnvironmentFile=/etc/weft/node-agent.env\n\
                        Environment=WEFT_JOIN_TOKEN_FILE=%d/join-token\nExecStart=/usr/bin/node-agent $WEFT_FLAGS --x\n";

    fn file(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_unit_starts_its_program_as_its_environment_file_says() {
        let unit = file("deploy/systemd/a.service", UNIT);
        let text = "# A = b is a sentence.\nWEFT_FLAGS=--one --two\nWEFT_NODE_NAME=n1\n#WEFT_MEMORY=4Gi\n";
        let files =
            [file("deploy/systemd/node-agent.east.env", text), file("deploy/systemd/other.env", "A=b\n")];
        let found = invocations(&Unit::read(&unit), &files).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].program, found[0].is_whole), (Program::NodeAgent, true));
        assert_eq!(found[0].arguments, ["--one", "--two", "--x"]);
        assert_eq!(found[0].variables["WEFT_JOIN_TOKEN_FILE"], "/run/credentials/a.service/join-token");
        assert!(!found[0].variables.contains_key("WEFT_FLAGS"));
        assert_eq!((found[1].variables["WEFT_MEMORY"].as_str(), found[1].is_whole), ("4Gi", false));
    }

    #[test]
    fn a_unit_without_program_or_example_is_refused() {
        let unit = file("a.service", &UNIT.replace("node-agent $", "node-agnet $"));
        assert!(invocations(&Unit::read(&unit), &[]).unwrap_err().problem.contains("node-agnet"));
        let unit = file("a.service", UNIT);
        assert!(invocations(&Unit::read(&unit), &[]).unwrap_err().problem.contains("no example"));
    }

    #[test]
    fn units_run_as_users_that_are_made() {
        let unit = file("a.service", UNIT);
        assert_eq!(check_users(&Unit::read(&unit), "u weft - \"Weft\"\n"), []);
        assert_eq!(check_users(&Unit::read(&unit), "# u weft\n").len(), 2);
        let root = file("a.service", "User=root\n");
        assert_eq!(check_users(&Unit::read(&root), "u weft -\n").len(), 2);
    }
}
