//! `ctl plan`: what a deploy would change, without changing it.

use std::path::PathBuf;

use clap::Args;
use model::plan::Plan;
use proto::convert::required;
use proto::weft::graph::v1 as wire;

use crate::cli::Format;
use crate::client::{CallError, Services};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::manifest::{self, Document};
use crate::render;
use crate::session::Session;

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub struct PlanArguments {
    /// The graph's manifest.
    pub file: PathBuf,
    /// End with 2 if something would change.
    #[arg(long)]
    pub exit_code: bool,
    /// End with 1 if there are warnings.
    #[arg(long)]
    pub strict: bool,
}

/// Plans. The files are uploaded, as the control plane links what they really are; nothing refers to them yet.
pub async fn run(arguments: PlanArguments, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let look = session.terminal.look();
    let document = Document::read(&arguments.file)?;
    let manifest = document.graph(look.color)?;
    manifest::check_namespace(&document, manifest.key(), &session.namespace)?;
    let files = document
        .read_sources(&manifest::graph_sources(&manifest))
        .map_err(|found| document.refuse(&found, look.color))?;
    manifest::upload(&session.client, &files).await?;
    let request = wire::PlanRequest { manifest: document.text(), artifacts: manifest::artifacts(&files) };
    let call = |services: Services| {
        let request = request.clone();
        async move { services.graphs().plan(request).await }
    };
    let answer = session.client.read(call).await.map_err(|error| document.refused(error, look.color))?;
    let wire = required("plan", answer.plan).map_err(CallError::Answer)?;
    let plan = Plan::try_from(wire.clone()).map_err(CallError::Answer)?;
    for warning in &plan.warnings {
        session.terminal.warning(warning)?;
    }
    match session.format {
        Format::Json | Format::Yaml => session.write_message(&wire)?,
        Format::Name => session.terminal.data_line(&plan.id)?,
        Format::Table | Format::Wide => {
            let is_wide = session.format == Format::Wide;
            session.terminal.data(&render::plan::plan(&plan, look.width, is_wide))?;
            if !plan.is_empty() {
                let file = arguments.file.display();
                session
                    .terminal
                    .note(&format!("  apply exactly this: ctl deploy {file} --plan {}", plan.id))?;
            }
        }
    }
    if arguments.strict && !plan.warnings.is_empty() {
        return Ok(Exit::Failed);
    }
    Ok(if arguments.exit_code && !plan.is_empty() { Exit::Changes } else { Exit::Done })
}
