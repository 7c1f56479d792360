//! `cargo xtask ci`: what CI runs, step by step, each with its time. It never writes to the tree.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::tidy::tree;
use crate::{command, demo, deploy, guests, test, tidy};

/// A step: its name, and what it does.
type Step<'a> = (&'a str, &'a dyn Fn() -> anyhow::Result<()>);

/// Runs every step up to the first that fails.
pub fn run(root: &Path, target_dir: &Path) -> anyhow::Result<()> {
    let before = tree::read(root, target_dir)?;
    let steps: [Step<'_>; 8] = [
        ("format", &|| format(root)),
        ("tidy", &|| tidy::run(root, target_dir)),
        ("guests", &|| guests::run(root, target_dir)),
        ("clippy", &|| command::run(clippy(root))),
        ("documentation", &|| command::run(documentation(root))),
        ("tests", &|| test::run(root, target_dir, &test::Arguments::all())),
        // Behind the tests, which build the programs that it asks.
        ("deploy", &|| deploy::run(root, target_dir)),
        ("demo", &|| demo::run(root, target_dir, &demo::Arguments::once())),
    ];
    let mut times = Vec::new();
    for (index, (name, step)) in steps.iter().enumerate() {
        command::say(&format!("\n=== {name} ({} of {})", index + 1, steps.len()));
        let start = Instant::now();
        let done = step();
        let time = start.elapsed();
        let end = if done.is_ok() { "passed" } else { "failed" };
        command::say(&format!("=== {name} {end} after {}", shown(time)));
        done.with_context(|| format!("the step `{name}` failed"))?;
        times.push((*name, time));
    }
    let changed = changes(&before, &tree::read(root, target_dir)?);
    ensure!(changed.is_empty(), "the steps wrote to the tree: {}", changed.join(", "));
    command::say("");
    for (name, time) in &times {
        command::say(&format!("{name:14} {:>9}", shown(*time)));
    }
    command::say(&format!("{:14} {:>9}", "all passed", shown(times.iter().map(|(_, time)| *time).sum())));
    Ok(())
}

fn format(root: &Path) -> anyhow::Result<()> {
    for folder in [root, &root.join("examples"), &root.join("fuzz")] {
        command::run(command::cargo(folder, &["fmt", "--all", "--check"]))?;
    }
    Ok(())
}

fn clippy(root: &Path) -> Command {
    command::cargo(root, &["clippy", "--workspace", "--all-targets", "--locked", "--", "--deny", "warnings"])
}

/// With the examples, so that dependencies have the features they were checked with by clippy, and are not checked
/// anew; without the programs, which have the names of their libraries.
fn documentation(root: &Path) -> Command {
    let arguments = ["doc", "--workspace", "--no-deps", "--lib", "--examples", "--locked"];
    let mut command = command::cargo(root, &arguments);
    command.env("RUSTDOCFLAGS", "--deny warnings");
    command
}

/// Files that are not what they were.
fn changes(before: &[tree::File], after: &[tree::File]) -> Vec<String> {
    let differs = |files: &[tree::File], file: &tree::File| {
        !files.iter().any(|other| other.path == file.path && other.text == file.text)
    };
    let mut changed: Vec<String> = before
        .iter()
        .filter(|file| differs(after, file))
        .chain(after.iter().filter(|file| differs(before, file)))
        .map(|file| file.path.clone())
        .collect();
    changed.sort();
    changed.dedup();
    changed
}

fn shown(time: Duration) -> String {
    match time.as_secs() {
        0..60 => format!("{:.1} s", time.as_secs_f64()),
        seconds => format!("{} m {:02} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{changes, shown};
    use crate::tidy::tree::File;

    fn files(all: &[(&str, &str)]) -> Vec<File> {
        all.iter().map(|(path, text)| File { path: (*path).to_owned(), text: (*text).to_owned() }).collect()
    }

    #[test]
    fn files_that_come_go_or_change_are_named() {
        let before = files(&[("a", "1"), ("b", "1"), ("c", "1")]);
        let after = files(&[("a", "1"), ("b", "2"), ("d", "1")]);
        assert_eq!(changes(&before, &after), ["b", "c", "d"]);
        assert!(changes(&before, &before).is_empty());
    }

    #[test]
    fn times_are_readable() {
        assert_eq!(shown(Duration::from_millis(1_250)), "1.2 s");
        assert_eq!(shown(Duration::from_secs(605)), "10 m 05 s");
    }
}
