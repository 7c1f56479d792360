//! `ctl status`: where graphs stand.

use clap::Args;
use model::status::GraphStatus;
use proto::convert::required;
use proto::weft::graph::v1 as wire;
use tonic::Streaming;

use crate::cli::Format;
use crate::client::{CallError, Services};
use crate::clock::now_ms;
use crate::command::list;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::lookup;
use crate::reference::{GraphReference, short};
use crate::render;
use crate::session::Session;

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct StatusArguments {
    /// The graph, `[namespace/]graph`; all of the namespace if left out.
    pub graph: Option<GraphReference>,
    /// Show every change until interrupted, or until `--deadline`.
    #[arg(short, long, requires = "graph")]
    pub watch: bool,
}

/// Shows.
pub async fn run(arguments: StatusArguments, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let Some(reference) = arguments.graph else {
        return list::run(list::ListArguments::default(), session).await;
    };
    if reference.revision.is_some() {
        return Err(Failure::Usage("`status` shows the current revision: write the graph alone".to_owned()));
    }
    let key = reference.key(&session.namespace);
    if arguments.watch {
        return watch(&key.to_string(), session).await;
    }
    let answer = lookup::graph(&session.client, &key, 0).await?;
    let status = required("status", answer.status).map_err(CallError::Answer)?;
    show(&status, session)
}

fn show(wire: &wire::GraphStatus, session: &mut Session<'_>) -> Result<Exit, Failure> {
    match session.format {
        Format::Json | Format::Yaml => session.write_message(wire)?,
        Format::Name => session.terminal.data_line(&wire.graph)?,
        Format::Table | Format::Wide => {
            let status = GraphStatus::try_from(wire.clone()).map_err(CallError::Answer)?;
            let text = render::status::graph(&status, session.terminal.look().width, now_ms());
            session.terminal.data(&text)?;
        }
    }
    Ok(Exit::Done)
}

/// Each change until the graph is gone or the control plane is; a line or an object each.
async fn watch(graph: &str, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let call = |services: Services| {
        let request = wire::WatchRequest { graph: graph.to_owned() };
        async move { services.graphs().watch(request).await }
    };
    let mut statuses: Streaming<wire::GraphStatus> = session.client.stream(call).await?;
    let patience = session.deadline;
    let until = patience.map(|patience| tokio::time::Instant::now() + patience);
    loop {
        let next = match until {
            None => statuses.message().await,
            Some(until) => match tokio::time::timeout_at(until, statuses.message()).await {
                Ok(next) => next,
                Err(_) => return Ok(Exit::Done),
            },
        };
        let status = match next {
            Ok(Some(status)) => status,
            Ok(None) => {
                return Err(session.client.error(tonic::Status::unavailable("it ended the watch")).into());
            }
            Err(status) => return Err(session.client.error(status).into()),
        };
        match session.format {
            Format::Json | Format::Yaml => session.write_item(&status)?,
            Format::Name => session.terminal.data_line(&status.graph)?,
            Format::Table | Format::Wide => {
                let read = GraphStatus::try_from(status).map_err(CallError::Answer)?;
                let time = render::time::moment(now_ms(), now_ms());
                let state = render::status::sentence(&read.state);
                session.terminal.data_line(&format!(
                    "{time} {}@{} {state}",
                    short(&read.key),
                    read.revision
                ))?;
            }
        }
    }
}
