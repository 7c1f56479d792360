//! `cargo xtask deploy`: what `deploy/` holds, checked as far as that goes without a container engine and without
//! installing anything but systemd's tools.
//!
//! Files are read as people wrote them; systemd and our own programs are asked what they think of them. What cannot be
//! asked here is said to be skipped, and `WEFT_DEPLOY_REQUIRED` makes that an error.

mod compose;
mod dockerfile;
mod invocation;
mod program;
mod readme;
mod systemd;
mod unit;

use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use cargo_metadata::MetadataCommand;

use crate::command;
use crate::tidy::Finding;
use crate::tidy::tree::{self, File};
use dockerfile::Tree;
use invocation::{Invocation, Program};
use program::Built;
use systemd::Systemd;
use unit::Unit;

/// Makes a skip an error.
const REQUIRED: &str = "WEFT_DEPLOY_REQUIRED";
/// How a person is told to use all this.
const README_PATH: &str = "deploy/README.md";
/// The compiler that everybody here has.
const TOOLCHAIN_PATH: &str = "rust-toolchain.toml";

/// Whether nothing may be skipped.
fn is_required() -> bool {
    std::env::var_os(REQUIRED).is_some()
}

/// Installs what is asked here, as far as that goes.
pub fn install_tools() {
    systemd::install();
}

/// Checks everything and reports all that is wrong in one go.
pub fn run(root: &Path, target_dir: &Path) -> anyhow::Result<()> {
    install_tools();
    let files = tree::read(root, target_dir).context("read the tree")?;
    let mut found = Found::default();
    found.units(&files)?;
    found.containers(root, &files)?;
    found.invocations.extend(readme::invocations(file(&files, README_PATH)?));
    found.programs(root, target_dir)?;
    found.report()
}

fn file<'a>(files: &'a [File], path: &str) -> anyhow::Result<&'a File> {
    files.iter().find(|file| file.path == path).with_context(|| format!("there is no {path}"))
}

/// What is known so far.
#[derive(Debug, Default)]
struct Found {
    findings: Vec<Finding>,
    invocations: Vec<Invocation>,
    skipped: Vec<String>,
    checked: Vec<String>,
}

impl Found {
    fn units(&mut self, files: &[File]) -> anyhow::Result<()> {
        let scratch = tempfile::tempdir()?;
        let systemd = Systemd::find(scratch.path());
        let users = file(files, unit::USERS)?;
        let units: Vec<&File> = files
            .iter()
            .filter(|file| file.path.starts_with(unit::FOLDER) && file.extension() == "service")
            .collect();
        ensure!(!units.is_empty(), "there are no units in {}", unit::FOLDER);
        for file in &units {
            let unit = Unit::read(file);
            self.findings.extend(unit::check_users(&unit, &users.text));
            match unit::invocations(&unit, files) {
                Err(finding) => self.findings.push(finding),
                Ok(invocations) => {
                    if let (Ok(systemd), Some(invocation)) = (&systemd, invocations.first()) {
                        self.findings.extend(systemd.verify(file)?);
                        self.findings.extend(systemd.judge(file, invocation.program)?);
                    }
                    self.invocations.extend(invocations);
                }
            }
        }
        match systemd {
            Ok(systemd) => {
                self.findings.extend(systemd.verify_users(users)?);
                self.checked.push(format!("{} units by systemd-analyze verify and security", units.len()));
            }
            Err(why) => self.skipped.push(format!("what systemd thinks of the units: {why}")),
        }
        Ok(())
    }

    fn containers(&mut self, root: &Path, files: &[File]) -> anyhow::Result<()> {
        let toolchain: toml::Table = file(files, TOOLCHAIN_PATH)?.text.parse().context("read the toolchain")?;
        let toolchain = toolchain.get("toolchain").and_then(|table| table.get("channel"));
        let toolchain =
            toolchain.and_then(toml::Value::as_str).context("rust-toolchain.toml names no channel")?;
        let workspace = MetadataCommand::new().current_dir(root).no_deps().exec()?;
        let members: Vec<String> = workspace.packages.iter().map(|package| package.name.to_string()).collect();
        let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        let ignore = &file(files, dockerfile::IGNORE_PATH)?.text;
        let dockerfile = match dockerfile::read(file(files, dockerfile::PATH)?) {
            Ok(dockerfile) => dockerfile,
            Err(finding) => {
                self.findings.push(finding);
                return Ok(());
            }
        };
        self.findings.extend(dockerfile.check(&Tree { toolchain, members: &members, paths: &paths, ignore }));
        self.invocations.extend(dockerfile.invocations());
        self.checked.push("the Dockerfile against the tree".to_owned());
        let (findings, invocations) = compose::check(
            file(files, compose::PATH)?,
            file(files, compose::INIT_PATH)?,
            file(files, compose::SCHEMA_PATH)?,
            &dockerfile,
        )?;
        self.findings.extend(findings);
        self.checked
            .push(format!("{} services against the schema of Compose and each other", invocations.len()));
        self.invocations.extend(invocations);
        Ok(())
    }

    fn programs(&mut self, root: &Path, target_dir: &Path) -> anyhow::Result<()> {
        for program in Program::ALL {
            let invocations: Vec<&Invocation> =
                self.invocations.iter().filter(|invocation| invocation.program == program).collect();
            let name = program.name();
            match Built::find(root, target_dir, program) {
                Err(why) => {
                    self.skipped.push(format!("{} command lines of {name}: {why}", invocations.len()));
                }
                Ok(built) => {
                    for invocation in &invocations {
                        self.findings.extend(built.check(invocation)?);
                    }
                    self.checked.push(format!("{} command lines by {name} itself", invocations.len()));
                }
            }
        }
        Ok(())
    }

    fn report(&self) -> anyhow::Result<()> {
        for checked in &self.checked {
            command::say(&format!("checked {checked}"));
        }
        for skipped in &self.skipped {
            command::say(&format!("SKIPPED {skipped}"));
        }
        for finding in &self.findings {
            command::say(&finding.to_string());
        }
        match self.findings.len() {
            0 => {}
            1 => bail!("one mistake in deploy/, see above"),
            many => bail!("{many} mistakes in deploy/, see above"),
        }
        ensure!(self.skipped.is_empty() || !is_required(), "nothing may be skipped here: {REQUIRED} is set");
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::Found;
    use crate::tidy::Finding;

    #[test]
    fn a_mistake_is_an_error() {
        let finding = Finding::new("a", "b", "c");
        let found = Found { findings: vec![finding], ..Found::default() };
        assert_eq!(found.report().unwrap_err().to_string(), "one mistake in deploy/, see above");
        assert!(Found::default().report().is_ok());
    }
}
