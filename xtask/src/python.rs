//! Packages from PyPI, each in an environment of its own below the target folder.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::{command, debian};

const DEBIAN_PACKAGES: [&str; 2] = ["python3", "python3-venv"];

/// What a test of `node-agent` reads our messages with: it shares no code with any protobuf of Rust's. The test looks for
/// `python/protobuf/` in the target folder.
pub const PROTOBUF: Package = Package {
    name: "protobuf",
    version: "6.33.6",
    program: "python",
    says_version: &["-c", "import google.protobuf; print(google.protobuf.__version__)"],
};

/// A package of one version.
#[derive(Debug)]
pub struct Package {
    pub name: &'static str,
    pub version: &'static str,
    /// What shows that it works: a program of the environment, and what makes it say the version.
    pub program: &'static str,
    pub says_version: &'static [&'static str],
}

/// A package, installed.
#[derive(Debug)]
pub struct Environment {
    folder: PathBuf,
}

impl Environment {
    /// Finds the environment of a package, or makes it.
    pub fn open(target_dir: &Path, package: &Package) -> anyhow::Result<Self> {
        let environment = Self { folder: target_dir.join("python").join(package.name) };
        if !environment.has(package) {
            environment.make()?;
            environment.install(package)?;
        }
        Ok(environment)
    }

    /// One that is half made does not, nor one whose Python is gone.
    fn has(&self, package: &Package) -> bool {
        let mut command = self.program(package.program);
        command.args(package.says_version);
        command::output(command).is_ok_and(|said| said.split_whitespace().last() == Some(package.version))
    }

    /// A program of this environment.
    pub fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.folder.join("bin").join(name));
        // Else some look for modules in what this machine's Python has installed.
        command.env("VIRTUAL_ENV", &self.folder);
        command
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
            "there is no Python here for the guests and the tests that need it: {error:#}\n\
             Install Python 3.9 or later with its modules `venv` and `ensurepip`;\non Debian: apt-get install {}",
            DEBIAN_PACKAGES.join(" ")
        )
    }

    fn install(&self, package: &Package) -> anyhow::Result<()> {
        let package = format!("{}=={}", package.name, package.version);
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
}
