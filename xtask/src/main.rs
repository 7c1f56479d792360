//! What developers and CI run: `cargo xtask <command>`.

mod bench;
mod binaries;
mod ci;
mod command;
mod debian;
mod demo;
mod deploy;
mod guests;
mod python;
mod test;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

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
    /// Measure speed and memory, each beside a baseline.
    Bench(bench::Arguments),
    /// Run everything that CI runs.
    Ci,
    /// Show the founding example on a cluster of real processes.
    Demo(demo::Arguments),
    /// Check the units, the containers and the instructions of `deploy/`.
    Deploy,
    /// Build the example guests to components.
    Guests,
    /// Run every test, after the set-up that they need.
    Test(test::Arguments),
    /// Check the rules of this tree that no compiler knows.
    Tidy,
}

fn main() -> ExitCode {
    match run(&Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            command::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(task: &Task) -> anyhow::Result<()> {
    let root = root()?;
    let target_dir = target_dir(&root)?;
    match task {
        Task::Bench(arguments) => bench::run(&root, &target_dir, arguments),
        Task::Ci => ci::run(&root, &target_dir),
        Task::Demo(arguments) => demo::run(&root, &target_dir, arguments),
        Task::Deploy => deploy::run(&root, &target_dir),
        Task::Guests => guests::run(&root, &target_dir),
        Task::Test(arguments) => test::run(&root, &target_dir, arguments),
        Task::Tidy => tidy::run(&root, &target_dir),
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
