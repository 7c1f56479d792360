//! `ctl delete`: a graph goes; the data of its capabilities stays.

use clap::Args;
use proto::weft::graph::v1 as wire;

use crate::cli::{Format, MutationFlags};
use crate::client::Services;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::lookup;
use crate::reference::{GraphReference, short};
use crate::session::Session;

/// Arguments of `delete`.
#[derive(Debug, Args)]
pub struct DeleteArguments {
    /// The graph, `[namespace/]graph`; `@revision` refuses unless it is at that revision.
    pub graph: GraphReference,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
    /// What makes it safe to repeat.
    #[command(flatten)]
    pub mutation: MutationFlags,
}

/// Deletes, after asking for the graph's name.
pub async fn run(arguments: DeleteArguments, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let key = arguments.graph.key(&session.namespace);
    let name = short(&key);
    if !arguments.yes {
        if !session.terminal.look().can_ask {
            let message = format!("deleting {key} must be confirmed, and nobody can be asked here");
            return Err(Failure::refused(message).next(format!("ctl delete {name} --yes")));
        }
        // Asked only about what is there.
        let graph = lookup::graph(&session.client, &key, 0).await?;
        let count = graph.linked.map_or(0, |linked| linked.components.len());
        let plural = if count == 1 { "" } else { "s" };
        let at = session.client.address().clone();
        let question =
            format!("type \"{}\" to delete {key} with {count} component{plural} at {at}:", key.graph);
        if session.terminal.ask(&question)? != key.graph.as_str() {
            return Err(Failure::refused("that is not the name; nothing was deleted"));
        }
    }
    let request = wire::DeleteRequest {
        request_id: String::new(),
        graph: key.to_string(),
        expected_revision: arguments.graph.revision.map(|number| number.0),
    };
    let call = |services: Services, request_id: String| {
        let request = wire::DeleteRequest { request_id, ..request.clone() };
        async move { services.graphs().delete(request).await }
    };
    let answer = session.client.mutate(arguments.mutation.request_id.as_ref(), call).await?;
    match session.format {
        Format::Json | Format::Yaml => session.write_message(&answer)?,
        Format::Name => session.terminal.data_line(&name)?,
        Format::Table | Format::Wide => {}
    }
    session.terminal.note(&format!("deleted {key}; the data of its capabilities is kept"))?;
    Ok(Exit::Done)
}
