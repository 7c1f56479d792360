//! Guests written in Python: componentize-py puts them and CPython into one component.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};

use crate::command;
use crate::python::{Environment, Package};

/// Its version is that of CPython and its standard library, too.
pub const COMPONENTIZE_PY: Package = Package {
    name: "componentize-py",
    version: "0.25.1",
    program: "componentize-py",
    says_version: &["--version"],
};
/// The module of a guest that has the classes of its exports.
const MODULE: &str = "app";

/// Makes a component of the Python files in `sources`, for the world of that name.
pub fn component(
    componentize_py: &Environment,
    sources: &Path,
    wit: &Path,
    world: &str,
    build_dir: &Path,
) -> anyhow::Result<Vec<u8>> {
    // A copy, since Python leaves its bytecode beside what it reads.
    let copy = build_dir.join("python").join(world);
    if copy.exists() {
        fs::remove_dir_all(&copy)?;
    }
    let mut files = Vec::new();
    super::collect(sources, &mut files)?;
    for file in files {
        let to = copy.join(file.strip_prefix(sources)?);
        fs::create_dir_all(to.parent().context("a file has a folder")?)?;
        fs::copy(&file, to)?;
    }
    let output = copy.join("component.wasm");
    let mut command = componentize_py.program(COMPONENTIZE_PY.program);
    command.arg("--quiet").arg("--wit-path").arg(wit).args(["--world", world]);
    // The guest asks for nothing that its world does not name, so what CPython would take of WASI traps instead.
    command.args(["componentize", "--stub-wasi", MODULE, "--python-path"]).arg(&copy);
    command.arg("--output").arg(&output);
    let said = command::output(command)?;
    ensure!(output.exists(), "componentize-py made no component: {said}");
    Ok(fs::read(&output)?)
}
