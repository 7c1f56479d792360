//! `ctl status`: where graphs stand.

use clap::Args;
use model::id::GraphKey;
use model::status::GraphStatus;
use proto::convert::required;
use proto::weft::graph::v1 as wire;
use tokio::time::Instant;

use crate::cli::Format;
use crate::client::CallError;
use crate::clock::now_ms;
use crate::command::list;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::lookup;
use crate::reference::{GraphReference, short};
use crate::render;
use crate::session::Session;
use crate::watch::GraphWatch;

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
        return watch(&key, session).await;
    }
    let answer = lookup::graph(&session.client, &key, 0).await?;
    let status = required("status", answer.status).map_err(CallError::Answer)?;
    show(&status, &answer.suspects, session)
}

fn show(
    wire: &wire::GraphStatus,
    suspects: &[wire::SuspectNode],
    session: &mut Session<'_>,
) -> Result<Exit, Failure> {
    match session.format {
        Format::Json | Format::Yaml => session.write_message(wire)?,
        Format::Name => session.terminal.data_line(&wire.graph)?,
        Format::Table | Format::Wide => {
            let status = GraphStatus::try_from(wire.clone()).map_err(CallError::Answer)?;
            let text = render::status::graph(&status, session.terminal.look().width, now_ms());
            session.terminal.data(&text)?;
            for line in render::status::suspects(suspects) {
                session.terminal.data_line(&line)?;
            }
            if let Some(look) = render::rollout::look(&status) {
                session.terminal.note(&format!("  next: {look}"))?;
            }
        }
    }
    Ok(Exit::Done)
}

/// Each change until the graph is gone; a line or an object each.
async fn watch(key: &GraphKey, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let until = session.deadline.map(|deadline| Instant::now() + deadline);
    let mut watch = GraphWatch::new(key);
    // The first answer comes at once or not at all; from then on the control plane may be away for a while.
    lookup::graph(&session.client, key, 0).await?;
    loop {
        let next = watch.next(&session.client);
        let seen = match until {
            None => next.await?,
            Some(until) => match tokio::time::timeout_at(until, next).await {
                Ok(next) => next?,
                Err(_) => return Ok(Exit::Done),
            },
        };
        match session.format {
            Format::Json | Format::Yaml => session.write_item(&seen.wire)?,
            Format::Name => session.terminal.data_line(&seen.wire.graph)?,
            Format::Table | Format::Wide => {
                let status = &seen.status;
                let time = render::time::moment(now_ms(), now_ms());
                let mut line = render::status::sentence(&status.state);
                for more in render::rollout::sentences(status) {
                    line.push_str(&format!("; {more}"));
                }
                session.terminal.data_line(&format!(
                    "{time} {}@{} {line}",
                    short(&status.key),
                    status.revision
                ))?;
            }
        }
    }
}
