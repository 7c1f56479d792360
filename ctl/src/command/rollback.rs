//! `ctl rollback`: an earlier revision is deployed again.

use std::time::Instant;

use clap::Args;
use proto::weft::graph::v1 as wire;

use crate::cli::MutationFlags;
use crate::client::Services;
use crate::command::deploy;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::reference::GraphReference;
use crate::session::Session;

/// Arguments of `rollback`.
#[derive(Debug, Args)]
pub struct RollbackArguments {
    /// The graph, `[namespace/]graph[@revision]`; to the revision before the current one if none is named.
    pub graph: GraphReference,
    /// Do not wait until the graph serves.
    #[arg(long)]
    pub detach: bool,
    /// What makes it safe to repeat.
    #[command(flatten)]
    pub mutation: MutationFlags,
}

/// Rolls back.
pub async fn run(arguments: RollbackArguments, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let start = Instant::now();
    let key = arguments.graph.key(&session.namespace);
    let request = wire::RollbackRequest {
        request_id: String::new(),
        graph: key.to_string(),
        to_revision: arguments.graph.revision.map_or(0, |number| number.0),
    };
    let call = |services: Services, request_id: String| {
        let request = wire::RollbackRequest { request_id, ..request.clone() };
        async move { services.graphs().rollback(request).await }
    };
    let answer = session.client.mutate(arguments.mutation.request_id.as_ref(), call).await?;
    session.terminal.note("the data of capabilities is not rolled back")?;
    deploy::finish(session, answer, arguments.detach, start).await
}
