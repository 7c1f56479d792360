//! Golden manifests: what is read, and what is said of what cannot be.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use graph::diagnostic::{self, Diagnostic};
use graph::manifest::{self, Manifest};
use graph::policy_manifest::{self, PolicyManifest};
use model::digest::Digest;
use model::graph::Artifact;

use crate::support::{expect, files};

/// Reads each input of a folder and compares what is said.
fn check(folder: &str, read: impl Fn(&[u8]) -> Result<String, Vec<Diagnostic>>) {
    for path in files(folder, &["yaml", "made"]) {
        let bytes = input(&path);
        let found = match read(&bytes) {
            Ok(read) => read,
            Err(found) => show(&found, &bytes, path.file_name().unwrap().to_str().unwrap()),
        };
        expect(&path.with_extension("expect"), &found);
    }
}

#[test]
fn graphs() {
    check("manifests", |bytes| manifest::parse(bytes).map(|manifest| show_manifest(&manifest)));
}

#[test]
fn policies() {
    check("policies", |bytes| policy_manifest::parse(bytes).map(|policy| show_policy(&policy)));
}

/// The bytes of an input. Lines of `.made` files may say what is made: `@repeat COUNT TEXT` (with `{n}` for the number
/// and `\n` for a line end) and `@bytes HEX…`.
fn input(path: &Path) -> Vec<u8> {
    let written = std::fs::read(path).unwrap();
    if path.extension().is_some_and(|extension| extension == "yaml") {
        return written;
    }
    let mut made = Vec::new();
    for line in String::from_utf8(written).unwrap().lines() {
        if let Some(rest) = line.strip_prefix("@repeat ") {
            let (count, text) = rest.split_once(' ').unwrap();
            let text = text.replace("\\n", "\n");
            for number in 0..count.parse::<usize>().unwrap() {
                made.extend_from_slice(text.replace("{n}", &number.to_string()).as_bytes());
            }
        } else if let Some(rest) = line.strip_prefix("@bytes ") {
            made.extend(rest.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()));
        } else {
            made.extend_from_slice(line.as_bytes());
            made.push(b'\n');
        }
    }
    made
}

/// Reason, field, line and column of each mistake, and all of them as people see them.
fn show(found: &[Diagnostic], bytes: &[u8], name: &str) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::new();
    for diagnostic in found {
        let place = diagnostic.span.as_ref().map_or_else(|| "-".to_owned(), |span| position(&text, span.start));
        let field = if diagnostic.field.is_empty() { "-" } else { &diagnostic.field };
        writeln!(out, "{} {field} {place}", diagnostic.reason).unwrap();
    }
    out.push('\n');
    out.push_str(&diagnostic::render(found, name, &text, false));
    out
}

fn position(text: &str, at: usize) -> String {
    let before = &text[..at];
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    format!("{}:{}", before.matches('\n').count() + 1, at - line_start + 1)
}

fn show_manifest(manifest: &Manifest) -> String {
    let artifact = |path: &str| (path.to_owned(), artifact(1));
    let artifacts: BTreeMap<String, Artifact> =
        manifest.sources().iter().map(|source| artifact(&source.path)).collect();
    let spec = manifest.resolve(&artifacts).unwrap();
    format!("graph {}\n{spec:#?}\n", manifest.key())
}

fn show_policy(policy: &PolicyManifest) -> String {
    let artifact = |path: &str| (path.to_owned(), artifact(1));
    let artifacts = policy.sources().iter().map(|source| artifact(&source.path)).collect();
    let spec = policy.resolve(&artifacts).unwrap();
    format!("policy {}\n{spec:#?}\n", policy.name())
}

fn artifact(byte: u8) -> Artifact {
    Artifact { digest: Digest::from_bytes([byte; 32]), size: 1 }
}

/// Row 51, as far as a manifest is concerned.
#[test]
fn a_file_must_have_the_digest_that_the_manifest_names() {
    let wanted = Digest::from_bytes([7; 32]);
    let text =
        format!("version: 1\ngraph: a\ncomponents:\n  app: {{source: ./app.wasm, digest: \"{wanted}\"}}\n");
    let manifest = manifest::parse(text.as_bytes()).unwrap();
    let with = |byte| manifest.resolve(&BTreeMap::from([("./app.wasm".to_owned(), artifact(byte))]));
    assert!(with(7).is_ok());
    let refused = with(8).unwrap_err();
    assert_eq!(refused.len(), 1);
    assert_eq!((&*refused[0].reason, &*refused[0].field), ("digest_mismatch", "components.app.source"));
}

#[test]
fn only_the_first_hundred_mistakes_are_shown() {
    let links = "  - {from: app, interface: \"a:b/c\", to: nobody}\n".repeat(150);
    let text = format!("version: 1\ngraph: a\ncomponents:\n  app: {{source: ./app.wasm}}\nlinks:\n{links}");
    let found = manifest::parse(text.as_bytes()).unwrap_err();
    assert_eq!(found.len(), 101);
    assert!(found[..100].iter().all(|found| found.reason == "unknown_component"));
    assert_eq!(found[100].reason, "more_mistakes");
}

#[test]
fn an_artifact_must_be_given_for_each_source() {
    let text = "version: 1\ngraph: a\ncomponents:\n  app: {source: ./app.wasm}\n  db: {source: ./db.wasm}\n";
    let refused = manifest::parse(text.as_bytes()).unwrap().resolve(&BTreeMap::new()).unwrap_err();
    let found: Vec<_> = refused.iter().map(|found| (&*found.reason, &*found.field)).collect();
    assert_eq!(
        found,
        [("missing_artifact", "components.app.source"), ("missing_artifact", "components.db.source")]
    );
}
