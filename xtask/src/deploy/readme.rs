//! The command lines that `deploy/README.md` asks people to type.

use std::collections::BTreeMap;

use super::invocation::{Invocation, Program};
use crate::tidy::tree::File;

/// What stands before a command.
const BEFORE: [&str; 1] = ["sudo"];
/// What ends one.
const ENDS: [&str; 5] = [">", "|", "&&", ";", "#"];

/// Every use of one of our programs in a block of code, by its line.
pub fn invocations(file: &File) -> Vec<Invocation> {
    let mut found = Vec::new();
    let mut is_code = false;
    for (index, line) in file.text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if is_code {
            let words: Vec<&str> = line.split_whitespace().collect();
            for command in words.split(|word| ENDS.contains(word)) {
                found.extend(read(command, &format!("{}:{}", file.path, index + 1)));
            }
        }
    }
    found
}

/// One command, if it is of our programs.
fn read(words: &[&str], place: &str) -> Option<Invocation> {
    let is_before = |word: &&str| BEFORE.contains(word);
    let words: Vec<&str> = words.iter().copied().skip_while(is_before).collect();
    let invocation = |program, words: &[&str], variables| Invocation {
        place: place.to_owned(),
        program,
        arguments: words.iter().map(|word| (*word).to_owned()).collect(),
        variables,
        is_whole: false,
    };
    match words.as_slice() {
        // What ctl is told for all lines that follow.
        ["export", assignments @ ..] => {
            let variables: BTreeMap<String, String> = assignments
                .iter()
                .filter_map(|word| word.split_once('='))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            Some(invocation(Program::Ctl, &[], variables))
        }
        ["docker", "compose", rest @ ..] => {
            // The service is the first word behind `run` that is no flag; here it has the name of its program.
            let run = rest.iter().position(|word| *word == "run")?;
            let service = run + rest[run..].iter().position(|word| Program::named(word).is_some())?;
            Some(invocation(Program::named(rest[service])?, &rest[service + 1..], BTreeMap::new()))
        }
        [program, rest @ ..] => Some(invocation(Program::named(program)?, rest, BTreeMap::new())),
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::invocations;
    use crate::deploy::invocation::Program;
    use crate::tidy::tree::File;

    #[test]
    fn commands_are_found_in_code_and_nowhere_else() {
        let text = "ctl is a program.\n```\nexport CTL_ADDR=https://a:1\nctl member token > t  # good once\n\
                    sudo control-plane --init\ndocker compose run --rm -T ctl node token n1 > n1.token\n\
                    sudo install target/release/ctl /usr/bin/\n```\nctl again\n";
        let found = invocations(&File { path: "R.md".to_owned(), text: text.to_owned() });
        let lines: Vec<String> = found
            .iter()
            .map(|found| format!("{} {} {}", found.place, found.program.name(), found.arguments.join(" ")))
            .collect();
        let expected = [
            "R.md:3 ctl ",
            "R.md:4 ctl member token",
            "R.md:5 control-plane --init",
            "R.md:6 ctl node token n1",
        ];
        assert_eq!(lines, expected);
        assert_eq!(found[0].variables["CTL_ADDR"], "https://a:1");
        assert!(found.iter().all(|found| found.program != Program::NodeAgent));
    }
}
