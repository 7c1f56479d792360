//! The manifests: every version is written once, in the root; what is pure has the same bans.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use cargo_metadata::Metadata;
use toml::{Table, Value};

use super::Finding;
use super::tree::File;

/// Where a manifest lists what it depends on.
const SECTIONS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];
/// What every package takes from the root.
const PACKAGE_KEYS: [&str; 4] = ["version", "edition", "license", "publish"];

/// Folders that are pure, and clippy's bans for them.
const BANS: [&str; 3] = ["model/clippy.toml", "graph/clippy.toml", "cluster/clippy.toml"];

/// The bans of the pure folders are there and the same.
pub fn check_bans(files: &[File]) -> Vec<Finding> {
    let text = |path: &str| files.iter().find(|file| file.path == path).map(|file| file.text.as_str());
    BANS.into_iter()
        .filter(|path| text(path).is_none() || text(path) != text(BANS[0]))
        .map(|path| Finding::new(path, format!("is not the same as {}", BANS[0]), "copy it from there"))
        .collect()
}

/// Every manifest of the workspace.
pub fn check(root: &Path, workspace: &Metadata) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut used = BTreeSet::new();
    for package in &workspace.packages {
        let table = read(package.manifest_path.as_std_path())?;
        let place = format!("{}/Cargo.toml", package.name);
        findings.extend(check_manifest(&place, &table, &mut used));
    }
    findings.extend(check_unused(&read(&root.join("Cargo.toml"))?, &used));
    Ok(findings)
}

fn read(path: &Path) -> anyhow::Result<Table> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    text.parse().with_context(|| format!("read {}", path.display()))
}

fn check_manifest(place: &str, manifest: &Table, used: &mut BTreeSet<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for dependencies in sections(manifest) {
        for (name, value) in dependencies {
            used.insert(name.clone());
            if !is_inherited(value) {
                findings.push(Finding::new(
                    place,
                    format!("`{name}` has a version of its own"),
                    format!("write `{name}.workspace = true`, and the version in the root's [workspace.dependencies]"),
                ));
            }
        }
    }
    let package = manifest.get("package").and_then(Value::as_table);
    for key in PACKAGE_KEYS {
        if !package.and_then(|package| package.get(key)).is_some_and(is_inherited) {
            findings.push(Finding::new(
                place,
                format!("`{key}` is not the workspace's"),
                format!("write `{key}.workspace = true`"),
            ));
        }
    }
    if !manifest.get("lints").is_some_and(is_inherited) {
        findings.push(Finding::new(
            place,
            "the lints of the workspace are not on",
            "write `[lints]` with `workspace = true`",
        ));
    }
    findings
}

/// The tables of dependencies, those of single targets too.
fn sections(manifest: &Table) -> Vec<&Table> {
    let targets = manifest.get("target").and_then(Value::as_table);
    let per_target = targets.into_iter().flat_map(Table::values).filter_map(Value::as_table);
    std::iter::once(manifest)
        .chain(per_target)
        .flat_map(|table| SECTIONS.iter().filter_map(move |section| table.get(*section)))
        .filter_map(Value::as_table)
        .collect()
}

fn is_inherited(value: &Value) -> bool {
    value.get("workspace").and_then(Value::as_bool) == Some(true)
}

fn check_unused(root: &Table, used: &BTreeSet<String>) -> Vec<Finding> {
    let listed =
        root.get("workspace").and_then(|workspace| workspace.get("dependencies")).and_then(Value::as_table);
    listed
        .into_iter()
        .flat_map(Table::keys)
        .filter(|name| !used.contains(*name))
        .map(|name| Finding::new("Cargo.toml", format!("nobody uses `{name}`"), "remove its line"))
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeSet;

    use super::{BANS, check_bans, check_manifest, check_unused};
    use crate::tidy::tree::File;

    #[test]
    fn what_is_pure_has_the_same_bans() {
        let files = |texts: [&str; 3]| -> Vec<File> {
            BANS.into_iter()
                .zip(texts)
                .map(|(path, text)| File { path: path.into(), text: text.into() })
                .collect()
        };
        assert_eq!(check_bans(&files(["a", "a", "a"])), []);
        assert_eq!(check_bans(&files(["a", "b", "a"])).len(), 1);
        assert_eq!(check_bans(&[]).len(), 3);
    }

    #[test]
    fn versions_are_written_once() {
        let good = "[package]\nversion.workspace = true\nedition.workspace = true\nlicense.workspace = true\n\
                    publish.workspace = true\n[lints]\nworkspace = true\n[dependencies]\na.workspace = true\n";
        let mut used = BTreeSet::new();
        assert_eq!(check_manifest("x", &good.parse().unwrap(), &mut used), []);
        let bad =
            format!("{good}b = \"1\"\n[target.'cfg(unix)'.dev-dependencies]\nc = {{ version = \"1\" }}\n");
        let findings = check_manifest("x", &bad.parse().unwrap(), &mut used);
        let problems: Vec<&str> = findings.iter().map(|finding| finding.problem.as_str()).collect();
        assert_eq!(problems, ["`b` has a version of its own", "`c` has a version of its own"]);
        assert_eq!(check_manifest("x", &"[package]".parse().unwrap(), &mut used).len(), 5);
    }

    #[test]
    fn a_version_that_nobody_uses_is_found() {
        let root = "[workspace.dependencies]\na = \"1\"\nb = \"1\"\n".parse().unwrap();
        let findings = check_unused(&root, &BTreeSet::from(["a".to_owned()]));
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].problem, "nobody uses `b`");
    }
}
