//! `ctl schema`: the JSON Schema of a manifest, for editors.

use clap::{Args, ValueEnum};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;

/// Arguments of `schema`.
#[derive(Debug, Args)]
pub struct SchemaArguments {
    /// Which manifest.
    #[arg(value_enum)]
    pub manifest: Manifest,
}

/// A kind of manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Manifest {
    /// `graph.yaml`
    Graph,
    /// `policy.yaml`
    Policy,
}

/// Prints.
pub async fn run(arguments: SchemaArguments, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let schema = match arguments.manifest {
        Manifest::Graph => graph::schema::graph_schema(),
        Manifest::Policy => graph::schema::policy_schema(),
    };
    session.write_value(schema.as_value())?;
    Ok(Exit::Done)
}
