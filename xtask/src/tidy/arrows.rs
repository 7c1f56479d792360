//! Which folder may depend on which, and which crates are one folder's alone.
//!
//! The table is the map in `ARCHITECTURE.md`: arrows point down only. A folder that is pure lists every crate it may
//! use, tests included, so that a clock, a socket or randomness cannot come in unnoticed.

use cargo_metadata::{DependencyKind, Metadata, Package};

use super::Finding;
use super::source::Source;
use super::tree::File;

struct Folder {
    name: &'static str,
    /// Our own crates it may depend on.
    ours: &'static [&'static str],
    /// Everything else it may depend on; `None` where it is free to choose.
    others: Option<&'static [&'static str]>,
}

const FOLDERS: [Folder; 10] = [
    Folder { name: "model", ours: &[], others: Some(&["bytes", "semver", "serde", "thiserror"]) },
    Folder {
        name: "graph",
        ours: &["model"],
        others: Some(&[
            "miette",
            "schemars",
            "semver",
            "serde",
            "serde-saphyr",
            "serde_json",
            "thiserror",
            "wasmparser",
            "wit-parser",
        ]),
    },
    Folder { name: "cluster", ours: &["model"], others: Some(&["imbl", "serde", "thiserror"]) },
    Folder {
        name: "proto",
        ours: &["model"],
        others: Some(&[
            "bytes",
            "http",
            "prost",
            "prost-types",
            "protox",
            "sha2",
            "thiserror",
            "tonic",
            "tonic-prost",
            "tonic-prost-build",
            "tonic-types",
        ]),
    },
    Folder {
        name: "trust",
        ours: &["model"],
        others: Some(&[
            "futures",
            "getrandom",
            "hex",
            "http",
            "hyper-util",
            "prost",
            "prost-types",
            "rcgen",
            "rustls",
            "sha2",
            "thiserror",
            "tokio",
            "tokio-rustls",
            "tokio-util",
            "tonic",
            "tonic-health",
            "tower",
            "tracing",
            "x509-parser",
            "zeroize",
        ]),
    },
    Folder { name: "control-plane", ours: &["cluster", "graph", "model", "proto", "trust"], others: None },
    Folder { name: "node-agent", ours: &["model", "proto", "trust"], others: None },
    Folder { name: "ctl", ours: &["graph", "model", "proto", "trust"], others: None },
    Folder {
        name: "chaos-tests",
        ours: &["cluster", "control-plane", "ctl", "graph", "model", "node-agent", "proto", "trust"],
        others: None,
    },
    Folder { name: "xtask", ours: &[], others: None },
];

/// What the tests of a folder with a closed list may use besides: nothing that reads a clock, a socket or a file on
/// its own account.
const PURE_TEST_CRATES: [&str; 7] =
    ["insta", "jsonschema", "proptest", "serde_json", "wasm-encoder", "wat", "wit-component"];

/// Arrows of tests alone: the table of methods in `trust` is held against the methods that there are.
const TEST_ARROWS: [(&str, &str); 1] = [("trust", "proto")];

/// A family of crates that one folder has to itself, and below it the files that may name them.
struct Owned {
    /// As packages are named; those that begin with it and a dash are of the family.
    family: &'static str,
    folder: &'static str,
    files: &'static [&'static str],
    instead: &'static str,
}

const OWNED: [Owned; 3] = [
    Owned {
        family: "openraft",
        folder: "control-plane",
        files: &["control-plane/src/raft/"],
        instead: "use the handle of control-plane/src/raft/",
    },
    Owned {
        family: "sled",
        folder: "control-plane",
        files: &["control-plane/src/raft/"],
        instead: "use the storage trait of control-plane/src/raft/disk/",
    },
    Owned {
        family: "wasmtime",
        folder: "node-agent",
        files: &["node-agent/benches/", "node-agent/examples/", "node-agent/src/host/", "node-agent/src/link/"],
        instead: "ask node-agent/src/host/ through its `Runner`",
    },
];

/// Every arrow between packages.
pub fn check(workspace: &Metadata) -> Vec<Finding> {
    workspace.packages.iter().flat_map(check_package).collect()
}

fn check_package(package: &Package) -> Vec<Finding> {
    let name = package.name.as_str();
    let place = format!("{name}/Cargo.toml");
    let Some(folder) = FOLDERS.iter().find(|folder| folder.name == name) else {
        return vec![Finding::new(
            place,
            format!("`{name}` is not on the map of folders"),
            "add it to ARCHITECTURE.md and to xtask/src/tidy/arrows.rs, with what it may depend on",
        )];
    };
    let mut findings = Vec::new();
    for dependency in &package.dependencies {
        let other = dependency.name.as_str();
        let is_test = dependency.kind == DependencyKind::Development;
        if let Some(problem) = refusal(folder, other, is_test) {
            findings.push(Finding::new(place.clone(), problem, replacement(folder, other)));
        }
    }
    findings
}

/// Why a folder may not depend on a crate.
fn refusal(folder: &Folder, other: &str, is_test: bool) -> Option<String> {
    let name = folder.name;
    if FOLDERS.iter().any(|folder| folder.name == other) {
        // A crate may name itself in tests, for a feature.
        let allowed =
            folder.ours.contains(&other) || other == name || (is_test && TEST_ARROWS.contains(&(name, other)));
        return (!allowed).then(|| format!("`{name}` depends on `{other}`: that arrow points up or sideways"));
    }
    if let Some(owned) = OWNED.iter().find(|owned| is_of_family(other, owned.family))
        && owned.folder != name
    {
        return Some(format!("`{name}` depends on `{other}`, which is for `{}` alone", owned.folder));
    }
    let listed = folder.others?;
    let allowed = listed.contains(&other) || (is_test && PURE_TEST_CRATES.contains(&other));
    (!allowed).then(|| format!("`{name}` depends on `{other}`, which is not on its closed list"))
}

fn replacement(folder: &Folder, other: &str) -> String {
    if let Some(owned) = OWNED.iter().find(|owned| is_of_family(other, owned.family)) {
        return owned.instead.to_owned();
    }
    match folder.others {
        Some(_) => {
            "pass in what it gives, as a value, from the crate that may have it; a crate that is pure too \
                    goes on the list in xtask/src/tidy/arrows.rs"
                .to_owned()
        }
        None => format!(
            "move what both need down into one of: {}",
            if folder.ours.is_empty() { "nothing, it stands alone".to_owned() } else { folder.ours.join(", ") }
        ),
    }
}

fn is_of_family(package: &str, family: &str) -> bool {
    package.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// Files that name a crate which is not theirs to name.
pub fn check_owned_names(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.extension() == "rs") {
        let source = Source::new(&file.text);
        for owned in &OWNED {
            if owned.files.iter().any(|folder| file.path.starts_with(folder)) {
                continue;
            }
            if let Some(at) = names_family(&source.code, owned.family) {
                findings.push(Finding::new(
                    format!("{}:{}", file.path, source.line(at)),
                    format!("`{}` is named outside {}", owned.family, owned.files.join(", ")),
                    owned.instead,
                ));
            }
        }
    }
    findings
}

/// Where code names a crate of the family as the beginning of a path.
fn names_family(code: &str, family: &str) -> Option<usize> {
    code.match_indices(family).map(|(at, _)| at).find(|&at| {
        let before = code[..at].trim_end();
        // `::sled` begins a path, `disk::sled` goes on with one.
        let goes_on = before.strip_suffix("::").is_some_and(|before| before.ends_with(is_of_path));
        let begins = !code[..at].ends_with(is_of_path) && !goes_on;
        let rest = code[at..].trim_start_matches(is_of_path);
        let is_use = before.ends_with("use") || before.ends_with("extern crate");
        begins && (rest.starts_with("::") || (is_use && rest.starts_with([';', ' '])))
    })
}

fn is_of_path(found: char) -> bool {
    found.is_alphanumeric() || ['_', '>'].contains(&found)
}

#[cfg(test)]
mod tests {
    use super::{FOLDERS, names_family, refusal};

    #[track_caller]
    fn check(folder: &str, other: &str, is_test: bool, allowed: bool) {
        let found =
            FOLDERS.iter().find(|found| found.name == folder).map(|folder| refusal(folder, other, is_test));
        assert!(found.is_some(), "{folder} is on the map");
        assert_eq!(found.flatten().is_none(), allowed, "{folder} on {other}");
    }

    #[test]
    fn arrows_point_down() {
        check("control-plane", "cluster", false, true);
        check("node-agent", "cluster", false, false);
        check("ctl", "cluster", true, false);
        check("node-agent", "control-plane", false, false);
        check("model", "graph", false, false);
        check("trust", "proto", false, false);
        check("trust", "proto", true, true);
        check("node-agent", "trust", false, true);
    }

    #[test]
    fn pure_folders_have_closed_lists() {
        check("cluster", "tokio", false, false);
        check("cluster", "rand", true, false);
        check("graph", "proptest", true, true);
        check("graph", "proptest", false, false);
        check("control-plane", "tokio", false, true);
    }

    #[test]
    fn some_crates_have_one_owner() {
        check("control-plane", "openraft", false, true);
        check("node-agent", "sled", false, false);
        check("ctl", "wasmtime-wasi", false, false);
        check("node-agent", "wasmtime-wasi-http", false, true);
    }

    #[test]
    fn naming_is_the_beginning_of_a_path() {
        assert!(names_family("let a = sled::open();", "sled").is_some());
        assert!(names_family("use sled;", "sled").is_some());
        assert!(names_family("let a: ::sled::Db = b;", "sled").is_some());
        assert!(names_family("use wasmtime_wasi::A;", "wasmtime").is_some());
        assert!(names_family("let a = disk::sled::Store::open();", "sled").is_none());
        assert!(names_family("mod sled; let unsled = 1; x.sled()", "sled").is_none());
    }
}
