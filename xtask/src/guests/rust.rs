//! Guests written in Rust.
//!
//! Three roads to wasm32 code, the first that is there: the target of the installed toolchain, `rustup target add`,
//! Debian's own rustc with its sources of the standard library.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use crate::debian;

const TARGET: &str = "wasm32-unknown-unknown";
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

/// Compiles packages, all in one run of cargo.
pub fn compile(examples: &Path, build_dir: &Path, packages: &[&str]) -> anyhow::Result<()> {
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
    if !has_debian_toolchain() {
        debian::install(&DEBIAN_PACKAGES);
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

/// The component of a package that was compiled.
pub fn component(build_dir: &Path, package: &str) -> anyhow::Result<Vec<u8>> {
    let module = build_dir.join(TARGET).join("release").join(format!("{}.wasm", package.replace('-', "_")));
    let bytes = fs::read(&module).with_context(|| format!("read {}", module.display()))?;
    let mut encoder = wit_component::ComponentEncoder::default().validate(true).module(&bytes)?;
    encoder.encode()
}
