//! Builds the example guests to components, and keeps them by content.
//!
//! Three roads to wasm32 code, the first that is there: the target of the installed toolchain, `rustup target add`,
//! Debian's own rustc with its sources of the standard library.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use sha2::{Digest as _, Sha256};

use crate::command;

/// A guest: its package, its folder below `examples/`, and where its component goes, there too.
struct Guest {
    package: &'static str,
    folder: &'static str,
    output: &'static str,
}

const GUESTS: [Guest; 9] = [
    Guest { package: "customers-app", folder: "customers/app", output: "customers/build/app.wasm" },
    Guest { package: "pii-proxy", folder: "customers/pii-proxy", output: "customers/build/pii-proxy.wasm" },
    Guest { package: "hello-app", folder: "hello/app", output: "hello/build/app.wasm" },
    Guest { package: "faulty-app", folder: "faulty/app", output: "faulty/build/app.wasm" },
    Guest { package: "chain-front", folder: "chain/front", output: "chain/build/front.wasm" },
    Guest { package: "chain-back", folder: "chain/back", output: "chain/build/back.wasm" },
    Guest { package: "types-echo", folder: "types/echo", output: "types/build/echo.wasm" },
    Guest { package: "types-pass", folder: "types/pass", output: "types/build/pass.wasm" },
    Guest { package: "types-probe", folder: "types/probe", output: "types/build/probe.wasm" },
];

const TARGET: &str = "wasm32-unknown-unknown";
/// Counts up when this file makes other components of the same sources.
const BUILDER_VERSION: &str = "1";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_LINKER: &str = "/usr/bin/wasm-ld-19";
const DEBIAN_STD: &str = "/usr/lib/rustlib/src/rust/library/std/Cargo.toml";
const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "rust-web-src", "lld-19"];

/// Where wasm32 code comes from.
enum Toolchain {
    /// The pinned toolchain, which has the target.
    Installed,
    /// Debian's rustc, which builds the standard library from source.
    Debian,
}

/// Builds every guest whose sources have changed.
pub fn run(root: &Path, target_dir: &Path) -> anyhow::Result<()> {
    let examples = root.join("examples");
    let cache = target_dir.join("guests");
    fs::create_dir_all(&cache)?;
    let mut stale = Vec::new();
    for guest in &GUESTS {
        let kept = cache.join(format!("{}-{}.wasm", guest.package, key(&examples, guest)?));
        if kept.exists() {
            place(&kept, &examples.join(guest.output))?;
            say(&format!("{:14} cached", guest.package));
        } else {
            stale.push((guest, kept));
        }
    }
    if stale.is_empty() {
        return Ok(());
    }
    let build_dir = target_dir.join("guests-build");
    compile(&examples, &build_dir, &stale.iter().map(|(guest, _)| guest.package).collect::<Vec<_>>())?;
    for (guest, kept) in stale {
        let module =
            build_dir.join(TARGET).join("release").join(format!("{}.wasm", guest.package.replace('-', "_")));
        let component = componentize(&module).with_context(|| format!("guest {}", guest.package))?;
        let partial = kept.with_extension("partial");
        fs::write(&partial, &component)?;
        fs::rename(&partial, &kept)?;
        place(&kept, &examples.join(guest.output))?;
        say(&format!("{:14} built  {:>4} KiB", guest.package, component.len() >> 10));
    }
    Ok(())
}

fn say(line: &str) {
    command::say(&format!("guest {line}"));
}

/// Everything that the component depends on, but for the compiler, whose code is the same in effect.
fn key(examples: &Path, guest: &Guest) -> anyhow::Result<String> {
    let mut files = vec![examples.join("Cargo.toml"), examples.join("Cargo.lock")];
    collect(&examples.join("wit"), &mut files)?;
    collect(&examples.join(guest.folder), &mut files)?;
    files.sort();
    let mut hash = Sha256::new();
    hash.update(BUILDER_VERSION);
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

fn compile(examples: &Path, build_dir: &Path, packages: &[&str]) -> anyhow::Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(examples).env("CARGO_TARGET_DIR", build_dir).env_remove("RUSTFLAGS");
    cargo.args(["build", "--release", "--locked", "--target", TARGET]);
    for package in packages {
        cargo.args(["--package", package]);
    }
    if let Toolchain::Debian = find_toolchain()? {
        cargo
            .env("RUSTC", DEBIAN_RUSTC)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", DEBIAN_LINKER)
            .arg("-Zbuild-std=std,panic_abort");
        // This cargo's wrappers point at the pinned toolchain; Debian's has its own sources.
        cargo.env_remove("RUSTC_WRAPPER").env_remove("RUSTUP_TOOLCHAIN");
        let path = std::env::var("PATH").unwrap_or_default();
        cargo.env("PATH", format!("/usr/bin:{path}"));
    }
    ensure!(cargo.status().context("run cargo")?.success(), "the guests did not build");
    Ok(())
}

fn find_toolchain() -> anyhow::Result<Toolchain> {
    if has_target()? {
        return Ok(Toolchain::Installed);
    }
    let added = Command::new("rustup").args(["target", "add", TARGET]).output();
    if added.is_ok_and(|output| output.status.success()) && has_target()? {
        return Ok(Toolchain::Installed);
    }
    if !has_debian_toolchain() && Path::new("/usr/bin/apt-get").exists() {
        install_debian_packages();
    }
    if has_debian_toolchain() {
        return Ok(Toolchain::Debian);
    }
    bail!(
        "there is no way to build for {TARGET} here.\nInstall the target: rustup target add {TARGET}\n\
         or, on Debian: apt-get install {}",
        DEBIAN_PACKAGES.join(" ")
    )
}

fn has_target() -> anyhow::Result<bool> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output().context("run rustc")?;
    let sysroot = String::from_utf8(output.stdout)?;
    Ok(Path::new(sysroot.trim()).join("lib/rustlib").join(TARGET).exists())
}

fn has_debian_toolchain() -> bool {
    [DEBIAN_RUSTC, DEBIAN_LINKER, DEBIAN_STD].iter().all(|path| Path::new(path).exists())
}

/// Best effort: where it does not work, the caller says what to install.
fn install_debian_packages() {
    say(&format!("installing {}", DEBIAN_PACKAGES.join(" ")));
    for arguments in [vec!["update", "-q"], [vec!["install", "-qy"], DEBIAN_PACKAGES.to_vec()].concat()] {
        let status = Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive").status();
        if !status.is_ok_and(|status| status.success()) {
            return;
        }
    }
}

fn componentize(module: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = fs::read(module).with_context(|| format!("read {}", module.display()))?;
    let mut encoder = wit_component::ComponentEncoder::default().validate(true).module(&bytes)?;
    encoder.encode()
}
