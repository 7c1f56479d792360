//! The programs of Weft, built.

use std::path::{Path, PathBuf};

use crate::command;

/// The folder in which cargo puts what it builds by default.
pub fn folder(target_dir: &Path) -> PathBuf {
    target_dir.join("debug")
}

/// Builds every program and the bench's baselines, and says where they are.
///
/// The whole workspace with its examples, and not three packages: cargo chooses the features of shared crates by what
/// is built together, and the examples bring in those of the tests. Anything less builds wasmtime and Cranelift once
/// for the demo, and once more for the tests.
pub fn build(root: &Path, target_dir: &Path) -> anyhow::Result<PathBuf> {
    command::run(command::cargo(root, &["build", "--workspace", "--bins", "--examples", "--locked"]))?;
    Ok(folder(target_dir))
}
