//! What developers and CI run: `cargo xtask <command>`.

mod guests;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Weft's own tasks")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the example guests to components.
    Guests,
}

fn main() -> anyhow::Result<()> {
    let root = root()?;
    let target_dir = target_dir(&root)?;
    match Arguments::parse().task {
        Task::Guests => guests::run(&root, &target_dir),
    }
}

/// The repository: the folder above this package.
fn root() -> anyhow::Result<PathBuf> {
    let package = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    Ok(package.parent().context("xtask is in the repository")?.to_owned())
}

fn target_dir(root: &std::path::Path) -> anyhow::Result<PathBuf> {
    let metadata = cargo_metadata::MetadataCommand::new().current_dir(root).no_deps().exec()?;
    Ok(metadata.target_directory.into_std_path_buf())
}
