//! `cargo xtask test`: every test, after its own set-up.

use std::path::Path;

use clap::Args;

use crate::python::{Environment, PROTOBUF};
use crate::{binaries, command, deploy, guests};

/// What to run.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Passed on to `cargo test`: names of tests, `-- --nocapture`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    passed_on: Vec<String>,
}

/// Builds what tests need, and runs them.
pub fn run(root: &Path, target_dir: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    guests::run(root, target_dir)?;
    binaries::build(root, target_dir)?;
    Environment::open(target_dir, &PROTOBUF)?;
    deploy::install_tools();
    let passed_on: Vec<&str> = arguments.passed_on.iter().map(String::as_str).collect();
    // What is pure in the guests is tested as code of this machine.
    let mut guests = command::cargo(&root.join("examples"), &["test", "--package", "pii-proxy", "--locked"]);
    guests.args(&passed_on).env("CARGO_TARGET_DIR", target_dir.join("guests-build"));
    command::run(guests)?;
    let mut tests = command::cargo(root, &["test", "--workspace", "--locked", "--no-fail-fast"]);
    tests.args(&passed_on);
    command::run(tests)
}

impl Arguments {
    /// Every test.
    pub const fn all() -> Self {
        Self { passed_on: Vec::new() }
    }
}
