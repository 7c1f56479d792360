//! Guests written in Python: componentize-py, in an environment of its own, puts them and CPython into one component.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use super::debian;
use crate::command;

/// The version of componentize-py, and with it of CPython and its standard library.
pub const VERSION: &str = "0.25.1";
/// The module of a guest that has the classes of its exports.
const MODULE: &str = "app";
const DEBIAN_PACKAGES: [&str; 2] = ["python3", "python3-venv"];

/// componentize-py, installed.
pub struct Environment {
    folder: PathBuf,
}

impl Environment {
    /// Finds the environment below a folder, or makes it.
    pub fn open(below: &Path) -> anyhow::Result<Self> {
        let environment = Self { folder: below.join(format!("componentize-py-{VERSION}")) };
        if !environment.works() {
            environment.make()?;
            environment.install()?;
        }
        Ok(environment)
    }

    /// One that is half made does not, nor one whose Python is gone.
    fn works(&self) -> bool {
        let mut command = self.program("componentize-py");
        command.arg("--version");
        command::output(command).is_ok_and(|version| version.trim().ends_with(VERSION))
    }

    fn program(&self, name: &str) -> Command {
        Command::new(self.folder.join("bin").join(name))
    }

    fn make(&self) -> anyhow::Result<()> {
        let make = || {
            let mut command = Command::new("python3");
            command.args(["-m", "venv", "--clear"]).arg(&self.folder);
            command::output(command)
        };
        if make().is_ok() {
            return Ok(());
        }
        debian::install(&DEBIAN_PACKAGES);
        let Err(error) = make() else { return Ok(()) };
        bail!(
            "there is no way to build the guests in Python here: {error:#}\n\
             Install Python 3.9 or later with its modules `venv` and `ensurepip`;\non Debian: apt-get install {}",
            DEBIAN_PACKAGES.join(" ")
        )
    }

    fn install(&self) -> anyhow::Result<()> {
        let package = format!("componentize-py=={VERSION}");
        let mut pip = self.program("python");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"]);
        pip.arg(&package);
        command::run(pip).with_context(|| {
            format!(
                "{package} could not be installed: it comes from PyPI, or from where pip is told to look \
                 (PIP_INDEX_URL), as a wheel for this system"
            )
        })
    }

    /// Makes a component of the Python files in `sources`, for the world of that name.
    pub fn component(
        &self,
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
        let mut command = self.program("componentize-py");
        command.arg("--quiet").arg("--wit-path").arg(wit).args(["--world", world]);
        // The guest asks for nothing that its world does not name, so what CPython would take of WASI traps instead.
        command.args(["componentize", "--stub-wasi", MODULE, "--python-path"]).arg(&copy);
        command.arg("--output").arg(&output);
        // Else it looks for modules in what this machine's Python has installed.
        command.env("VIRTUAL_ENV", &self.folder);
        let said = command::output(command)?;
        ensure!(output.exists(), "componentize-py made no component: {said}");
        Ok(fs::read(&output)?)
    }
}
