//! `ctl history`: the revisions of a graph.

use clap::Args;
use proto::weft::graph::v1 as wire;

use crate::cli::Format;
use crate::client::Services;
use crate::clock::now_ms;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::reference::{GraphReference, short};
use crate::render;
use crate::render::table::Table;
use crate::session::Session;

/// Arguments of `history`.
#[derive(Debug, Args)]
pub struct HistoryArguments {
    /// The graph, `[namespace/]graph`.
    pub graph: GraphReference,
}

/// Lists, newest first.
pub async fn run(arguments: HistoryArguments, session: &mut Session<'_>) -> Result<Exit, Failure> {
    if arguments.graph.revision.is_some() {
        return Err(Failure::Usage("`history` shows all revisions: write the graph alone".to_owned()));
    }
    let key = arguments.graph.key(&session.namespace);
    let call = |services: Services| {
        let request = wire::HistoryRequest { graph: key.to_string() };
        async move { services.graphs().history(request).await }
    };
    let answer = session.client.read(call).await?;
    match session.format {
        Format::Json | Format::Yaml => session.write_message(&answer)?,
        Format::Name => {
            for revision in &answer.revisions {
                session.terminal.data_line(&format!("{}@{}", short(&key), revision.number))?;
            }
        }
        Format::Table | Format::Wide => {
            let table = table(&answer.revisions, session.format == Format::Wide, now_ms());
            session.write_table(&table, "there are no revisions")?;
        }
    }
    Ok(Exit::Done)
}

fn table(revisions: &[wire::RevisionSummary], is_wide: bool, now_ms: u64) -> Table {
    let mut table = Table::new(["REVISION", "DEPLOYED", "WHAT", "STATE"]);
    for revision in revisions {
        let deployed = if is_wide {
            render::time::stamp(revision.deployed_at_ms)
        } else {
            format!("{} ago", render::time::age(revision.deployed_at_ms, now_ms))
        };
        let what = match revision.rollback_to {
            0 => "deploy".to_owned(),
            number => format!("rollback to {number}"),
        };
        let state = match (revision.current, revision.candidate) {
            (true, _) => "current",
            (false, true) => "candidate",
            (false, false) => "replaced",
        };
        table.row([revision.number.to_string(), deployed, what, state.to_owned()]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_say_where_they_came_from() {
        let revision = |number, rollback_to, current| wire::RevisionSummary {
            number,
            deployed_at_ms: number * 60_000,
            rollback_to,
            current,
            candidate: number == 4,
        };
        let revisions =
            [revision(4, 0, false), revision(3, 1, true), revision(2, 0, false), revision(1, 0, false)];
        let table = table(&revisions, false, 240_000);
        insta::assert_snapshot!(table.render(None), @r"
        REVISION  DEPLOYED  WHAT           STATE
        4         0s ago    deploy         candidate
        3         1m ago    rollback to 1  current
        2         2m ago    deploy         replaced
        1         3m ago    deploy         replaced
        ");
    }
}
