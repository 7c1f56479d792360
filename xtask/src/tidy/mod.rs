//! `cargo xtask tidy`: the rules of this tree that no compiler knows, each a failing check that names what to do
//! instead.
//!
//! Rules read the tree, the manifests and what `cargo` says of them, and return findings; only [`run`] prints.

mod arrows;
mod code;
mod documents;
mod licence;
mod manifests;
mod modules;
mod packages;
mod planted;
mod source;
mod text;
pub mod tree;

use std::fmt;
use std::path::Path;

use anyhow::{Context as _, bail};
use cargo_metadata::{Metadata, MetadataCommand};

use crate::command;

/// A rule that is broken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Where: a path below the repository, with a line if there is one, or a package.
    pub place: String,
    /// What is wrong.
    pub problem: String,
    /// What to do instead.
    pub instead: String,
}

impl Finding {
    /// What a rule has found.
    pub fn new(place: impl Into<String>, problem: impl Into<String>, instead: impl Into<String>) -> Self {
        Self { place: place.into(), problem: problem.into(), instead: instead.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}\n    instead: {}", self.place, self.problem, self.instead)
    }
}

/// Checks every rule and reports all that are broken in one go.
pub fn run(root: &Path, target_dir: &Path) -> anyhow::Result<()> {
    let workspace = metadata(root)?;
    let guests = metadata(&root.join("examples"))?;
    let fuzz = metadata(&root.join("fuzz"))?;
    let files = tree::read(root, target_dir).context("read the tree")?;

    let mut findings = arrows::check(&workspace);
    findings.extend(arrows::check_owned_names(&files));
    findings.extend(manifests::check(root, &workspace)?);
    findings.extend(manifests::check_bans(&files));
    findings.extend(modules::check(&files, root, &[&workspace, &guests, &fuzz]));
    findings.extend(files.iter().flat_map(code::check));
    findings.extend(files.iter().flat_map(text::check));
    findings.extend(planted::check(&files));
    findings.extend(documents::check(root, &files, &workspace));
    // What is found otherwise is shown all the same.
    findings.extend(packages::check(root).unwrap_or_else(|error| {
        let instead = "mend that first; `cargo build` brings the lock file up to date";
        vec![Finding::new("packages", format!("cannot be checked: {error:#}"), instead)]
    }));
    findings.sort();

    for finding in &findings {
        command::say(&finding.to_string());
    }
    match findings.len() {
        0 => {
            command::say(&format!("{} files, and every rule holds", files.len()));
            Ok(())
        }
        1 => bail!("one rule of this tree is broken, see above"),
        many => bail!("{many} rules of this tree are broken, see above"),
    }
}

/// The packages of a workspace, without those they depend on.
fn metadata(folder: &Path) -> anyhow::Result<Metadata> {
    MetadataCommand::new()
        .current_dir(folder)
        .no_deps()
        .exec()
        .with_context(|| format!("read the packages of {}", folder.display()))
}
