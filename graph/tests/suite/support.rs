//! Components made of WIT text, and expected files.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use graph::interface::{self, ComponentType};
use graph::link::{Finding, Linked, PolicyInForce, Types};
use graph::manifest::Manifest;
use graph::{diagnostic, manifest, policy_manifest};
use model::digest::Digest;
use model::graph::Artifact;
use model::id::Generation;
use model::linked::LinkOrigin;
use model::placement::{LinkTerms, Requirements};
use proptest::prelude::ProptestConfig;
use proptest::test_runner::RngSeed;
use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{LiftLowerAbi, ManglingAndAbi, Resolve};

/// A component of a world: `packages` in WIT, and what the world imports and exports.
pub(crate) fn component(packages: &str, world: &str) -> Vec<u8> {
    let text = format!("package test:made;\n{packages}\nworld made {{\n{world}\n}}\n");
    let mut resolve = Resolve::default();
    let package = resolve.push_str("made.wit", &text).unwrap_or_else(|error| panic!("{error:#}\n{text}"));
    let world = resolve.select_world(&[package], Some("made")).unwrap();
    let mut module = dummy_module(&resolve, world, ManglingAndAbi::Legacy(LiftLowerAbi::Sync));
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().encode().unwrap()
}

/// The interfaces of such a component.
pub(crate) fn component_type(packages: &str, world: &str) -> ComponentType {
    interface::read(&component(packages, world)).unwrap()
}

/// Where the data of the tests is.
pub(crate) fn data(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite").join(folder)
}

/// The files of a folder that end like this, by name.
pub(crate) fn files(folder: &str, endings: &[&str]) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(data(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| endings.iter().any(|ending| path.extension().is_some_and(|found| found == *ending)))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no files in {folder}");
    found
}

/// Whether expected files are written instead of compared.
pub(crate) fn is_update() -> bool {
    std::env::var_os("UPDATE").is_some_and(|value| value == "1")
}

/// Compares a text with what is expected, or writes it.
pub(crate) fn expect(path: &Path, found: &str) {
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    if is_update() && expected != found {
        // Other tests read at the same time.
        let next = path.with_extension("next");
        std::fs::write(&next, found).unwrap();
        return std::fs::rename(&next, path).unwrap();
    }
    assert!(
        expected == found,
        "{} does not say what is found; `UPDATE=1 cargo test -p graph` writes it anew\n--- expected\n{expected}\n--- found\n{found}",
        path.display()
    );
}

/// A file in sections, each opened by a line `=== name`.
pub(crate) struct Sections(Vec<(String, String)>);

impl Sections {
    pub(crate) fn read(path: &Path) -> Self {
        let mut sections: Vec<(String, String)> = Vec::new();
        for line in std::fs::read_to_string(path).unwrap().lines() {
            match (line.strip_prefix("=== "), sections.last_mut()) {
                (Some(name), _) => sections.push((name.trim().to_owned(), String::new())),
                (None, Some((_, text))) => writeln!(text, "{line}").unwrap(),
                (None, None) => panic!("{} does not start with a section", path.display()),
            }
        }
        Self(sections)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, text)| text.as_str())
    }

    pub(crate) fn ending<'a>(&'a self, ending: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().filter(move |(name, _)| name.ends_with(ending)).map(|(name, text)| (&**name, &**text))
    }

    /// Compares the section `expect` with a text, or writes it.
    pub(crate) fn expect(&self, path: &Path, found: &str) {
        let mut whole = String::new();
        for (name, text) in self.0.iter().filter(|(name, _)| name != "expect") {
            write!(whole, "=== {name}\n{text}").unwrap();
        }
        write!(whole, "=== expect\n{found}").unwrap();
        expect(path, &whole);
    }
}

/// A graph, its components and the policies on it, from the sections of a case.
pub(crate) struct Case {
    pub(crate) manifest: Manifest,
    pub(crate) text: String,
    pub(crate) artifacts: BTreeMap<String, Artifact>,
    pub(crate) types: Types,
    pub(crate) policies: Vec<PolicyInForce>,
}

impl Case {
    /// Reads `graph.yaml`, `types`, `*.wasm` and `*.policy.yaml`.
    pub(crate) fn of(sections: &Sections) -> Self {
        let shared = sections.get("types").unwrap_or_default();
        let (mut artifacts, mut types) = (BTreeMap::new(), Types::new());
        for (number, (name, text)) in (1_u8..).zip(sections.ending(".wasm")) {
            let (packages, world) = text.split_once("---\n").unwrap_or((shared, text));
            let artifact = Artifact { digest: Digest::from_bytes([number; 32]), size: 1 };
            artifacts.insert(format!("./{name}"), artifact);
            types.insert(artifact.digest, Arc::new(component_type(packages, world)));
        }
        let text = sections.get("graph.yaml").unwrap().to_owned();
        let manifest = manifest::parse(text.as_bytes())
            .unwrap_or_else(|found| panic!("{}", diagnostic::render(&found, "graph.yaml", &text, false)));
        let policies = (1..).zip(sections.ending(".policy.yaml")).map(|(generation, (name, text))| {
            let policy = policy_manifest::parse(text.as_bytes())
                .unwrap_or_else(|found| panic!("{}", diagnostic::render(&found, name, text, false)));
            PolicyInForce { generation: Generation(generation), spec: policy.resolve(&artifacts).unwrap() }
        });
        let policies = policies.collect();
        Self { manifest, text, artifacts, types, policies }
    }

    pub(crate) fn link(&self) -> Result<Linked, Vec<Finding>> {
        let spec = self.manifest.resolve(&self.artifacts).unwrap();
        graph::link::link(self.manifest.key(), &spec, &self.types, &self.policies)
    }

    /// A linked graph, or what hinders it, as text.
    pub(crate) fn show(&self, linked: &Result<Linked, Vec<Finding>>) -> String {
        match linked {
            Ok(linked) => show_linked(linked),
            Err(findings) => {
                let located: Vec<_> = findings.iter().map(|finding| self.locate(finding)).collect();
                diagnostic::render(&located, "graph.yaml", &self.text, false)
            }
        }
    }

    fn locate(&self, finding: &Finding) -> diagnostic::Diagnostic {
        let field = self.manifest.field(&finding.place);
        let found = diagnostic::Diagnostic::error(finding.reason, field, finding.message.clone());
        let found = found.at(self.manifest.locate(&finding.place), "here");
        match &finding.help {
            Some(help) => found.help(help.clone()),
            None => found,
        }
    }
}

fn show_linked(linked: &Linked) -> String {
    let mut out = String::new();
    for link in &linked.graph.links {
        let wiring = match &link.wiring {
            LinkOrigin::Explicit => "explicit".to_owned(),
            LinkOrigin::Inferred => "inferred".to_owned(),
            LinkOrigin::BuiltIn => "built in".to_owned(),
            LinkOrigin::Policy(version) => format!("policy {}@{}", version.name, version.generation),
        };
        writeln!(out, "{} -> {}  {}  {wiring}", link.from, link.to, link.interface).unwrap();
        if link.terms != LinkTerms::default() {
            writeln!(out, "    {:?}", link.terms).unwrap();
        }
        for function in &link.functions {
            writeln!(out, "    {}: {}", function.name, function.verdict).unwrap();
        }
    }
    let conditions = |all: &Requirements| -> Vec<String> {
        all.iter().map(|(label, condition)| condition.of(label)).collect()
    };
    for (member, require) in &linked.graph.require {
        let labels = conditions(require);
        writeln!(out, "{member} requires {}", labels.join(", ")).unwrap();
    }
    for (member, wishes) in &linked.graph.wishes {
        let tolerated = wishes.tolerate.iter().map(|(taint, value)| format!("{taint}={value}")).collect();
        for (what, labels) in [
            ("prefers", conditions(&wishes.prefer)),
            ("avoids", conditions(&wishes.avoid)),
            ("tolerates", tolerated),
        ] {
            if !labels.is_empty() {
                writeln!(out, "{member} {what} {}", labels.join(", ")).unwrap();
            }
        }
    }
    for (member, count) in &linked.graph.reserves.instances {
        writeln!(out, "{member} reserves {count}, priority {}", linked.graph.reserves.priority).unwrap();
    }
    for policy in &linked.graph.policies {
        writeln!(out, "policy {}@{}", policy.name, policy.generation).unwrap();
    }
    for warning in &linked.warnings {
        writeln!(out, "warning {}: {}", warning.reason, warning.message).unwrap();
    }
    out
}

/// The settings of a random test; its seed is printed first, and `PROPTEST_RNG_SEED` repeats one.
#[allow(clippy::print_stdout, reason = "the seed of a test that fails")]
pub(crate) fn random(cases: u32) -> ProptestConfig {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let seed = match config.rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos().into(),
    };
    println!("seed: PROPTEST_RNG_SEED={seed}");
    ProptestConfig { rng_seed: RngSeed::Fixed(seed), ..config }
}
