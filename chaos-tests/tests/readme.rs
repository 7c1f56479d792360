//! The README's sessions are what happens: each of its commands is run, in its order, and answers what stands there.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::Path;

use chaos_tests::cluster::Cluster;
use chaos_tests::ctl::Ctl;

/// A command and the lines that stand below it.
struct Step<'a> {
    command: &'a str,
    lines: Vec<&'a str>,
}

/// The commands of all blocks: lines that begin with `$ `.
fn steps(readme: &str) -> Vec<Step<'_>> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    let mut is_session = false;
    for line in readme.lines() {
        if line.starts_with("```") {
            is_session = false;
        } else if let Some(command) = line.strip_prefix("$ ") {
            is_session = true;
            steps.push(Step { command, lines: Vec::new() });
        } else if is_session {
            steps.last_mut().unwrap().lines.push(line);
        }
    }
    steps
}

/// A line without what differs from run to run: sizes, generations, ports, durations, digests.
fn stable(line: &str) -> String {
    let mut out = String::new();
    for word in line.split_inclusive(' ') {
        let is_digest = word.trim().len() == 12 && word.trim().bytes().all(|byte| byte.is_ascii_hexdigit());
        let mut was_number = false;
        for char in word.chars() {
            let is_number = is_digest || char.is_ascii_digit() || (was_number && char == '.');
            if !is_number {
                out.push(char);
            } else if !was_number {
                out.push('0');
            }
            was_number = is_number;
        }
    }
    out.trim_end().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_command_answers_what_stands_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let steps = steps(&readme);
    assert!(steps.len() >= 5, "the README has {} commands", steps.len());
    let cluster = Cluster::start().await;
    let ctl = Ctl::new(&cluster).in_folder(root.to_owned());
    for Step { command, lines } in steps {
        let words: Vec<&str> = command.split(' ').collect();
        let found = match &words[..] {
            ["ctl", arguments @ ..] => {
                let ended = ctl.run(arguments).await;
                assert_eq!(ended.code, 0, "{command}: {}", ended.stderr);
                ended.stderr + &ended.stdout
            }
            ["curl", url] => {
                let url: http::Uri = url.parse().unwrap();
                cluster.client(url.host().unwrap()).get(url.path()).await.body
            }
            _ => panic!("{command}: this test knows how to run `ctl` and `curl`"),
        };
        // More may be said where the machine is slow; what is no terminal is told the time in front.
        let mut rest = found.lines().map(stable);
        for line in lines {
            let expected = stable(line);
            let is_said = |other: String| other.split_once("Z ").map_or(&*other, |(_, said)| said) == expected;
            assert!(rest.any(is_said), "{command}: not answered: {line}\n---\n{found}");
        }
    }
}
