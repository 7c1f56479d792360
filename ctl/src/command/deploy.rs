//! `ctl deploy`: from a manifest to a graph that serves.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use model::id::{Generation, GraphKey, RevisionNumber};
use model::status::GraphStatus;
use proto::convert::parse;
use proto::weft::graph::v1 as wire;

use crate::cli::{Format, MutationFlags};
use crate::client::{CallError, Services};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::follow::{self, Goal};
use crate::manifest::{self, Document};
use crate::reference::short;
use crate::render;
use crate::session::Session;

/// Arguments of `deploy`.
#[derive(Debug, Args)]
pub struct DeployArguments {
    /// The graph's manifest.
    pub file: PathBuf,
    /// Apply exactly this plan, or nothing.
    #[arg(long, value_name = "ID")]
    pub plan: Option<String>,
    /// Do not wait until the graph serves.
    #[arg(long)]
    pub detach: bool,
    /// Refuse unless the graph is at this revision; 0 for a graph that must not exist yet.
    #[arg(long, value_name = "N")]
    pub expected_revision: Option<u64>,
    /// Refuse a manifest that there are warnings about.
    #[arg(long)]
    pub strict: bool,
    /// What makes it safe to repeat.
    #[command(flatten)]
    pub mutation: MutationFlags,
}

/// Deploys.
pub async fn run(arguments: DeployArguments, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let start = Instant::now();
    let color = session.terminal.look().color;
    let document = Document::read(&arguments.file)?;
    let manifest = document.graph(color)?;
    manifest::check_namespace(&document, manifest.key(), &session.namespace)?;
    let files = document
        .read_sources(&manifest::graph_sources(&manifest))
        .map_err(|found| document.refuse(&found, color))?;
    let uploaded = manifest::upload(&session.client, &files).await?;
    if uploaded.files > 0 {
        let plural = if uploaded.files == 1 { "" } else { "s" };
        session
            .terminal
            .progress(&format!("uploaded {} file{plural}, {} bytes", uploaded.files, uploaded.bytes))?;
    }
    let request = wire::DeployRequest {
        request_id: String::new(),
        manifest: document.text(),
        artifacts: manifest::artifacts(&files),
        plan_id: arguments.plan.unwrap_or_default(),
        expected_revision: arguments.expected_revision,
        strict: arguments.strict,
    };
    let call = |services: Services, request_id: String| {
        let request = wire::DeployRequest { request_id, ..request.clone() };
        async move { services.graphs().deploy(request).await }
    };
    let answer = match session.client.mutate(arguments.mutation.request_id.as_ref(), call).await {
        Ok(answer) => answer,
        Err(error) => return Err(next_step(document.refused(error, color), &arguments.file)),
    };
    finish(session, answer, arguments.detach, start).await
}

/// A plan that no longer fits is made again.
fn next_step(failure: Failure, file: &std::path::Path) -> Failure {
    match &failure {
        Failure::Refused { reason: Some(reason), next: None, .. } if reason == "plan_stale" => {
            failure.next(format!("ctl plan {}", file.display()))
        }
        _ => failure,
    }
}

/// What follows a commit, of a deploy or a rollback: the wait, and what is printed at the end.
pub async fn finish(
    session: &mut Session<'_>,
    answer: wire::DeployResponse,
    detach: bool,
    start: Instant,
) -> Result<Exit, Failure> {
    for warning in &answer.warnings {
        session.terminal.warning(warning)?;
    }
    let key: GraphKey = parse("graph", &answer.graph).map_err(CallError::Answer)?;
    let revision = RevisionNumber(answer.revision);
    let name = short(&key);
    let what = if answer.unchanged { "unchanged since" } else { "committed" };
    session.terminal.progress(&format!("{what} {name}@{revision}, generation {}", answer.generation))?;
    if detach {
        match session.format {
            Format::Json | Format::Yaml => session.write_message(&answer)?,
            _ => session.terminal.data_line(&format!("{name}@{revision}"))?,
        }
        session.terminal.note(&format!("  next: ctl status {name} --watch"))?;
        return Ok(Exit::Done);
    }
    let goal = Goal { key, generation: Generation(answer.generation), revision: Some(revision) };
    let wire = follow::until_serving(session, &goal).await?;
    let status = GraphStatus::try_from(wire.clone()).map_err(CallError::Answer)?;
    let node = status.placement.as_ref().map(|nodes| format!(" on {nodes}")).unwrap_or_default();
    let took = render::time::elapsed(start.elapsed());
    session.terminal.progress(&format!("{name}@{revision} serves{node} after {took}"))?;
    match session.format {
        Format::Json | Format::Yaml => session.write_message(&wire)?,
        Format::Name => session.terminal.data_line(&format!("{name}@{revision}"))?,
        Format::Table | Format::Wide => {
            for url in render::status::urls(&status) {
                session.terminal.data_line(&url)?;
            }
        }
    }
    session.terminal.note(&format!("  next: ctl status {name}"))?;
    Ok(Exit::Done)
}
