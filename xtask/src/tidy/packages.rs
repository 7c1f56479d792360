//! The packages of others: their licences, their sources, the ones we do without, and second versions of one.
//!
//! `deny.toml` is the list, in the form of cargo-deny, which also knows advisories and other platforms. What is
//! checked here needs no tool but cargo: the packages that are built for x86-64 Linux, and those of the guests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use super::Finding;
use super::licence;

/// What is read of `deny.toml`.
#[derive(Debug, Deserialize)]
struct Deny {
    licenses: Licences,
    bans: Bans,
}

#[derive(Debug, Deserialize)]
struct Licences {
    allow: Vec<String>,
    #[serde(default)]
    exceptions: Vec<Exception>,
}

#[derive(Debug, Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    package: String,
    allow: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Bans {
    deny: Vec<Named>,
    skip: Vec<Named>,
}

#[derive(Debug, Deserialize)]
struct Named {
    /// `name`, or `name@version`.
    #[serde(rename = "crate")]
    package: String,
    reason: String,
}

/// A package as `cargo tree` shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    name: String,
    version: String,
    licence: String,
    /// Where a package comes from that is not from crates.io: a folder or a repository.
    elsewhere: Option<String>,
}

/// Every workspace against `deny.toml`.
pub fn check(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let text = fs::read_to_string(root.join("deny.toml")).context("read deny.toml")?;
    let deny: Deny = toml::from_str(&text).context("read deny.toml")?;
    let ours = packages(root, "x86_64-unknown-linux-gnu")?;
    let guests = packages(&root.join("examples"), "wasm32-unknown-unknown")?;
    let fuzz = packages(&root.join("fuzz"), "x86_64-unknown-linux-gnu")?;

    let mut findings = duplicates(&ours, &deny.bans.skip);
    for package in &(&(&ours | &guests) | &fuzz) {
        findings.extend(check_package(package, &deny, root));
    }
    Ok(findings)
}

/// What is built for one target, tests and what builds it included; the same on every machine.
fn packages(folder: &Path, target: &str) -> anyhow::Result<BTreeSet<Package>> {
    let output = Command::new("cargo")
        .current_dir(folder)
        .args(["tree", "--workspace", "--locked", "--quiet", "--prefix", "none", "--format", "{p}|{l}"])
        .args(["--target", target])
        .output()
        .context("run cargo tree")?;
    ensure!(output.status.success(), "cargo tree failed:\n{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    text.lines().filter(|line| !line.is_empty()).map(read_line).collect()
}

/// `name v1.2.3 (folder or repository) (proc-macro)|licence (*)`, the parts in brackets where they apply.
fn read_line(line: &str) -> anyhow::Result<Package> {
    let strange = || format!("cargo tree says {line:?}");
    let (package, licence) = line.split_once('|').with_context(strange)?;
    let mut parts = package.splitn(3, ' ');
    let (name, version) = parts.next().zip(parts.next()).with_context(strange)?;
    let marks = parts.next().unwrap_or_default();
    let elsewhere = marks
        .split(['(', ')'])
        .map(str::trim)
        .find(|mark| !["", "*", "proc-macro"].contains(mark))
        .map(str::to_owned);
    Ok(Package {
        name: name.to_owned(),
        version: version.trim_start_matches('v').to_owned(),
        licence: licence.trim_end_matches("(*)").trim().to_owned(),
        elsewhere,
    })
}

fn check_package(package: &Package, deny: &Deny, root: &Path) -> Vec<Finding> {
    let Package { name, version, licence, elsewhere } = package;
    let place = format!("package {name} {version}");
    let mut findings = Vec::new();
    if let Some(banned) = deny.bans.deny.iter().find(|banned| banned.package == *name) {
        findings.push(Finding::new(&place, "is banned by deny.toml", &banned.reason));
    }
    if let Some(elsewhere) = elsewhere
        && !Path::new(elsewhere).starts_with(root)
    {
        findings.push(Finding::new(&place, "is not from crates.io", "take the published package"));
    }
    let exceptions = deny.licenses.exceptions.iter().filter(|exception| exception.package == *name);
    let allowed: Vec<&String> =
        deny.licenses.allow.iter().chain(exceptions.flat_map(|exception| &exception.allow)).collect();
    match licence::is_allowed(licence, &|name| allowed.iter().any(|allowed| *allowed == name)) {
        Some(true) => {}
        Some(false) => findings.push(Finding::new(
            &place,
            format!("deny.toml does not allow `{licence}`"),
            "take another package, or allow the licence there with its reason",
        )),
        None => findings.push(Finding::new(
            &place,
            format!("its licence cannot be read: `{licence}`"),
            "take another package, or teach xtask/src/tidy/licence.rs to read it",
        )),
    }
    findings
}

/// Second versions of a package that `deny.toml` does not skip, and skips of what is not there.
fn duplicates(packages: &BTreeSet<Package>, skip: &[Named]) -> Vec<Finding> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in packages {
        versions.entry(&package.name).or_default().insert(&package.version);
    }
    let mut findings = Vec::new();
    for named in skip {
        let place = format!("deny.toml: skip of {}", named.package);
        let there = named.package.split_once('@').is_some_and(|(name, version)| {
            versions.get(name).is_some_and(|versions| versions.len() > 1 && versions.contains(version))
        });
        if !there {
            findings.push(Finding::new(&place, "is not the second version of anything", "remove the line"));
        }
        if named.reason.trim().is_empty() {
            findings.push(Finding::new(&place, "has no reason", "say who brings the version in"));
        }
    }
    let is_skipped =
        |name: &str, version: &str| skip.iter().any(|skip| skip.package == format!("{name}@{version}"));
    for (name, versions) in versions {
        let left: Vec<&str> = versions.iter().copied().filter(|version| !is_skipped(name, version)).collect();
        if left.len() > 1 {
            findings.push(Finding::new(
                format!("package {name}"),
                format!("is built in the versions {}", left.join(", ")),
                "bring its users to one version, or skip the older ones in deny.toml, saying who brings them in",
            ));
        }
    }
    findings
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::path::Path;

    use super::{Deny, Package, check_package, duplicates, read_line};

    const DENY: &str = r#"
        [licenses]
        allow = ["MIT"]
        exceptions = [{ crate = "imbl", allow = ["MPL-2.0"] }]
        [bans]
        deny = [{ crate = "openssl", reason = "rustls" }]
        skip = [{ crate = "rand@0.8.0", reason = "a test" }]
    "#;

    fn package(name: &str, version: &str, licence: &str) -> Package {
        Package { name: name.into(), version: version.into(), licence: licence.into(), elsewhere: None }
    }

    #[test]
    fn lines_of_cargo_tree_are_read() {
        assert_eq!(read_line("a v1.0.0|MIT (*)").unwrap(), package("a", "1.0.0", "MIT"));
        assert_eq!(read_line("a v1.0.0 (proc-macro)|MIT").unwrap(), package("a", "1.0.0", "MIT"));
        let ours = read_line("a v1.0.0 (/tree/a)|MIT").unwrap();
        assert_eq!(ours.elsewhere.as_deref(), Some("/tree/a"));
        assert!(read_line("nothing").is_err());
    }

    #[test]
    fn licences_bans_and_sources_are_checked() {
        let deny: Deny = toml::from_str(DENY).unwrap();
        let count = |package: &Package| check_package(package, &deny, Path::new("/tree")).len();
        assert_eq!(count(&package("a", "1.0.0", "MIT")), 0);
        assert_eq!(count(&package("a", "1.0.0", "GPL-3.0")), 1);
        assert_eq!(count(&package("a", "1.0.0", "MPL-2.0")), 1);
        assert_eq!(count(&package("imbl", "1.0.0", "MPL-2.0")), 0);
        assert_eq!(count(&package("openssl", "1.0.0", "MIT")), 1);
        let from =
            |elsewhere: &str| Package { elsewhere: Some(elsewhere.into()), ..package("a", "1.0.0", "MIT") };
        assert_eq!(count(&from("/tree/a")), 0);
        assert_eq!(count(&from("https://example.com/a#1234")), 1);
    }

    #[test]
    fn a_second_version_is_skipped_with_a_reason_or_found() {
        let deny: Deny = toml::from_str(DENY).unwrap();
        let all = |packages: &[(&str, &str)]| {
            let packages = packages.iter().map(|(name, version)| package(name, version, "MIT")).collect();
            let found = duplicates(&packages, &deny.bans.skip);
            found.into_iter().map(|finding| finding.place).collect::<Vec<_>>()
        };
        assert!(all(&[("rand", "0.8.0"), ("rand", "0.9.0")]).is_empty());
        assert_eq!(all(&[("rand", "0.8.0")]), ["deny.toml: skip of rand@0.8.0"]);
        assert_eq!(all(&[("rand", "0.8.0"), ("rand", "0.9.0"), ("rand", "0.10.0")]), ["package rand"]);
    }
}
