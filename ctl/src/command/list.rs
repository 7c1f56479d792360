//! `ctl list`: the graphs there are.

use std::collections::BTreeSet;

use clap::Args;
use graph::diagnostic::nearest;
use model::name::NamespaceName;
use model::status::GraphStatus;
use proto::weft::graph::v1 as wire;

use crate::cli::Format;
use crate::client::{CallError, Client, Services};
use crate::clock::now_ms;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render;
use crate::session::Session;

/// Arguments of `list`.
#[derive(Debug, Default, Args)]
pub struct ListArguments {
    /// The graphs of all namespaces.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
}

/// Lists.
pub async fn run(arguments: ListArguments, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let namespace = if arguments.all_namespaces { String::new() } else { session.namespace.to_string() };
    let answer = list(&session.client, &namespace).await?;
    if answer.graphs.is_empty() && !arguments.all_namespaces {
        check_namespace(session).await?;
    }
    match session.format {
        Format::Json | Format::Yaml => session.write_message(&answer)?,
        Format::Name => {
            for graph in &answer.graphs {
                session.terminal.data_line(&graph.graph)?;
            }
        }
        Format::Table | Format::Wide => {
            let read = answer.graphs.into_iter().map(GraphStatus::try_from);
            let statuses: Vec<GraphStatus> = read.collect::<Result<_, _>>().map_err(CallError::Answer)?;
            let table = render::status::graphs(&statuses, session.format == Format::Wide, now_ms());
            let if_empty = if arguments.all_namespaces {
                "there are no graphs".to_owned()
            } else {
                format!("there are no graphs in namespace {}; -A shows all", session.namespace)
            };
            session.write_table(&table, &if_empty)?;
        }
    }
    Ok(Exit::Done)
}

async fn list(client: &Client, namespace: &str) -> Result<wire::ListResponse, CallError> {
    let call = |services: Services| {
        let request = wire::ListRequest { namespace: namespace.to_owned() };
        async move { services.graphs().list(request).await }
    };
    client.read(call).await
}

/// Empty is not missing: a namespace is there as soon as it has a graph, and the default one always is.
async fn check_namespace(session: &Session<'_>) -> Result<(), Failure> {
    if session.namespace == NamespaceName::default_namespace() {
        return Ok(());
    }
    let all = list(&session.client, "").await?;
    let known: BTreeSet<&str> = all
        .graphs
        .iter()
        .filter_map(|graph| graph.graph.split_once('/'))
        .map(|(namespace, _)| namespace)
        .collect();
    if known.contains(session.namespace.as_str()) {
        return Ok(());
    }
    let failure = Failure::Refused {
        reason: Some("not_found".to_owned()),
        message: format!("there is no graph in namespace {}", session.namespace),
        help: None,
        next: Some("ctl list -A".to_owned()),
    };
    Err(match nearest(session.namespace.as_str(), known) {
        Some(near) => failure.help(format!("did you mean {near}?")),
        None => failure,
    })
}
