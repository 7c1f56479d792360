//! `ctl rebalance`: graphs moved so that all nodes carry as many.

use clap::Args;
use proto::weft::node::v1 as wire;

use crate::cli::{Format, MutationFlags};
use crate::client::Services;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::table::Table;
use crate::session::Session;

/// Arguments of `rebalance`.
#[derive(Debug, Args)]
pub struct RebalanceArguments {
    /// Only say what would be moved.
    #[arg(long)]
    pub plan: bool,
    /// What makes it safe to repeat.
    #[command(flatten)]
    pub mutation: MutationFlags,
}

/// Does it.
pub async fn run(arguments: RebalanceArguments, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let RebalanceArguments { plan, mutation } = arguments;
    let call = |services: Services, request_id: String| {
        let request = wire::RebalanceRequest { request_id, is_trial: plan };
        async move { services.nodes().rebalance(request).await }
    };
    let answer = session.client.mutate(mutation.request_id.as_ref(), call).await?;
    if answer.was_made {
        session
            .terminal
            .note("this request was made before, and what it moves is moved; nothing was done now")?;
    }
    match session.format {
        Format::Json | Format::Yaml => session.write_message(&answer)?,
        Format::Name => {
            for moved in &answer.moves {
                session.terminal.data_line(&moved.graph)?;
            }
        }
        Format::Table | Format::Wide => {
            let mut table = Table::new(["GRAPH", "FROM", "TO"]);
            for moved in &answer.moves {
                table.row([moved.graph.clone(), moved.from.clone(), moved.to.clone()]);
            }
            if !answer.was_made {
                session.write_table(&table, "nothing is to be moved")?;
            }
        }
    }
    if !plan && !answer.moves.is_empty() {
        session
            .terminal
            .note("next: `ctl list` shows what serves where; run it again if there is more to be moved")?;
    }
    Ok(Exit::Done)
}
