//! Builds the example guests to components, and keeps them by content.

mod python;
mod rust;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use crate::command;
use crate::python::Environment;

/// A guest: its name, its folder below `examples/`, and where its component goes, there too.
struct Guest {
    language: Language,
    /// The package of a guest in Rust, the world of one in Python.
    name: &'static str,
    folder: &'static str,
    output: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Language {
    Rust,
    Python,
}

const GUESTS: [Guest; 16] = [
    rust("customers-app", "customers/app", "customers/build/app.wasm"),
    rust("pii-proxy", "customers/pii-proxy", "customers/build/pii-proxy.wasm"),
    rust("hello-app", "hello/app", "hello/build/app.wasm"),
    rust("faulty-app", "faulty/app", "faulty/build/app.wasm"),
    rust("guarded-guard", "guarded/guard", "guarded/build/guard.wasm"),
    rust("chain-front", "chain/front", "chain/build/front.wasm"),
    rust("chain-back", "chain/back", "chain/build/back.wasm"),
    rust("types-echo", "types/echo", "types/build/echo.wasm"),
    rust("types-pass", "types/pass", "types/build/pass.wasm"),
    rust("types-probe", "types/probe", "types/build/probe.wasm"),
    rust("streams-desk", "streams/desk", "streams/build/desk.wasm"),
    rust("streams-pass", "streams/pass", "streams/build/pass.wasm"),
    rust("streams-mill", "streams/mill", "streams/build/mill.wasm"),
    rust("polyglot-front", "polyglot/front", "polyglot/build/front.wasm"),
    python("polyglot-pricing", "polyglot/pricing", "polyglot/build/pricing.wasm"),
    rust("polyglot-rates", "polyglot/rates", "polyglot/build/rates.wasm"),
];

const fn rust(name: &'static str, folder: &'static str, output: &'static str) -> Guest {
    Guest { language: Language::Rust, name, folder, output }
}

const fn python(name: &'static str, folder: &'static str, output: &'static str) -> Guest {
    Guest { language: Language::Python, name, folder, output }
}

/// Counts up when this folder makes other components of the same sources.
const BUILDER_VERSION: &str = "1";

/// A guest that has to be built, and where its component is kept.
struct Stale {
    guest: &'static Guest,
    kept: PathBuf,
}

/// Builds every guest whose sources have changed. Those in Python come last: no other waits for their tools or is
/// lost with them.
pub fn run(root: &Path, target_dir: &Path) -> anyhow::Result<()> {
    build(root, target_dir, &[Language::Rust, Language::Python])
}

/// The same without those in Python, for what runs without them: it needs no Python then.
pub fn run_rust(root: &Path, target_dir: &Path) -> anyhow::Result<()> {
    build(root, target_dir, &[Language::Rust])
}

fn build(root: &Path, target_dir: &Path, languages: &[Language]) -> anyhow::Result<()> {
    let examples = root.join("examples");
    let cache = target_dir.join("guests");
    fs::create_dir_all(&cache)?;
    let mut stale = Vec::new();
    for guest in GUESTS.iter().filter(|guest| languages.contains(&guest.language)) {
        let kept = cache.join(format!("{}-{}.wasm", guest.name, key(&examples, guest)?));
        if kept.exists() {
            place(&kept, &examples.join(guest.output))?;
            say(&format!("{:16} cached", guest.name));
        } else {
            stale.push(Stale { guest, kept });
        }
    }
    let (rust, python): (Vec<_>, Vec<_>) =
        stale.into_iter().partition(|stale| stale.guest.language == Language::Rust);
    let build_dir = target_dir.join("guests-build");
    if !rust.is_empty() {
        let packages: Vec<_> = rust.iter().map(|stale| stale.guest.name).collect();
        rust::compile(&examples, &build_dir, &packages)?;
        for stale in rust {
            stale.keep(&examples, || rust::component(&build_dir, stale.guest.name))?;
        }
    }
    if !python.is_empty() {
        let componentize_py = Environment::open(target_dir, &python::COMPONENTIZE_PY)?;
        let wit = examples.join("wit");
        for stale in python {
            let sources = examples.join(stale.guest.folder);
            let name = stale.guest.name;
            stale.keep(&examples, || python::component(&componentize_py, &sources, &wit, name, &build_dir))?;
        }
    }
    Ok(())
}

impl Stale {
    fn keep(&self, examples: &Path, build: impl FnOnce() -> anyhow::Result<Vec<u8>>) -> anyhow::Result<()> {
        let component = build().with_context(|| format!("guest {}", self.guest.name))?;
        let partial = self.kept.with_extension("partial");
        fs::write(&partial, &component)?;
        fs::rename(&partial, &self.kept)?;
        place(&self.kept, &examples.join(self.guest.output))?;
        say(&format!("{:16} built  {:>5} KiB", self.guest.name, component.len() >> 10));
        Ok(())
    }
}

fn say(line: &str) {
    command::say(&format!("guest {line}"));
}

/// Everything that the component depends on, but for the compiler of Rust, whose code is the same in effect.
fn key(examples: &Path, guest: &Guest) -> anyhow::Result<String> {
    let mut hash = Sha256::new();
    hash.update(BUILDER_VERSION);
    let mut files = Vec::new();
    match guest.language {
        Language::Rust => files.extend([examples.join("Cargo.toml"), examples.join("Cargo.lock")]),
        Language::Python => hash.update(python::COMPONENTIZE_PY.version),
    }
    collect(&examples.join("wit"), &mut files)?;
    collect(&examples.join(guest.folder), &mut files)?;
    files.sort();
    for file in files {
        hash.update(file.strip_prefix(examples)?.to_string_lossy().as_bytes());
        hash.update(fs::read(&file).with_context(|| format!("read {}", file.display()))?);
    }
    Ok(hex::encode(&hash.finalize()[..12]))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn place(kept: &Path, output: &Path) -> anyhow::Result<()> {
    let bytes = fs::read(kept)?;
    if fs::read(output).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    if let Some(folder) = output.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(output, bytes)?;
    Ok(())
}
