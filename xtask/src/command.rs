//! Commands that a task runs: shown as they would be typed, with their output passed through.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

/// `cargo` in a folder.
pub fn cargo(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(folder).args(arguments);
    command
}

/// Shows a command and runs it; anything but success is an error.
pub fn run(mut command: Command) -> anyhow::Result<()> {
    let line = line(&command);
    say(&format!("$ {line}"));
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("run `{line}`"))?;
    ensure!(status.success(), "`{line}` failed: {status}");
    Ok(())
}

/// Runs a command without a word and returns what it prints; anything but success is an error that holds what it said.
pub fn output(mut command: Command) -> anyhow::Result<String> {
    let line = line(&command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("run `{line}`"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{line}` failed: {}\n{said}", output.status);
    String::from_utf8(output.stdout).with_context(|| format!("`{line}` does not print text"))
}

/// A command as people would type it: programs without their folders.
pub fn line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    let words: Vec<_> =
        std::iter::once(name).chain(command.get_args()).map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

/// A line of progress.
#[expect(clippy::print_stderr, reason = "progress of a developer's tool")]
pub fn say(line: &str) {
    eprintln!("{line}");
}
