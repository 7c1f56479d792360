//! `ctl cluster`: the cluster as a whole.

mod snapshot;

use clap::{Args, Subcommand};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;

/// Arguments of `cluster`.
#[derive(Debug, Args)]
pub struct ClusterArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: ClusterCommand,
}

/// What to do with the cluster.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Backups: takes one, looks at one, makes a cluster from one.
    Snapshot(snapshot::SnapshotArguments),
}

/// Does it.
pub async fn run(arguments: ClusterArguments, session: &mut Session<'_>) -> Result<Exit, Failure> {
    match arguments.command {
        ClusterCommand::Snapshot(arguments) => snapshot::run(arguments, session).await,
    }
}
