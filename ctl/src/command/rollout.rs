//! `ctl rollout`: revisions that take over by steps: how far one is, and what becomes of it.

use std::time::Instant;

use clap::{Args, Subcommand};
use model::id::{GraphKey, RevisionNumber};
use model::rollout::Ask;
use model::status::GraphStatus;
use proto::convert::required;
use proto::weft::graph::v1 as wire;

use crate::cli::{Format, MutationFlags};
use crate::client::{CallError, Services};
use crate::clock::now_ms;
use crate::command::deploy;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::follow::{self, End, Goal, Wanted};
use crate::lookup;
use crate::reference::{GraphReference, short};
use crate::render;
use crate::session::Session;
use crate::watch::Seen;

/// Arguments of `rollout`.
#[derive(Debug, Args)]
pub struct RolloutArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: RolloutCommand,
}

/// What to do with a revision that takes over by steps.
#[derive(Debug, Subcommand)]
pub enum RolloutCommand {
    /// Shows how far it is: its steps, and how it and the revision before are.
    Status(StatusArguments),
    /// Lets it stay at its step.
    Pause(AskArguments),
    /// Lets it go on that was paused.
    Resume(AskArguments),
    /// Lets it go to its next step now, also from one at which it waits to be promoted.
    Next(AskArguments),
    /// Lets it answer everything now, and waits until it does.
    Promote(EndArguments),
    /// Gives it up: the revision before answers everything again. Waits until it is let go of.
    Revert(EndArguments),
}

/// Arguments of `rollout status`.
#[derive(Debug, Args)]
pub struct StatusArguments {
    /// The graph, `[namespace/]graph`.
    pub graph: GraphReference,
}

/// Arguments of what changes how far a revision is.
#[derive(Debug, Args)]
pub struct AskArguments {
    /// The graph, `[namespace/]graph`; `@revision` refuses unless it is that revision which takes over.
    pub graph: GraphReference,
    /// Refuse unless it is this revision that takes over.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub expected_revision: Option<u64>,
    /// What makes it safe to repeat.
    #[command(flatten)]
    pub mutation: MutationFlags,
}

/// Arguments of what ends a rollout.
#[derive(Debug, Args)]
pub struct EndArguments {
    /// What it is about.
    #[command(flatten)]
    pub ask: AskArguments,
    /// Do not wait.
    #[arg(long)]
    pub detach: bool,
}

/// Does it.
pub async fn run(arguments: RolloutArguments, session: &mut Session<'_>) -> Result<Exit, Failure> {
    match arguments.command {
        RolloutCommand::Status(arguments) => status(&arguments, session).await?,
        RolloutCommand::Pause(arguments) => change(&arguments, Ask::Pause, session).await?,
        RolloutCommand::Resume(arguments) => change(&arguments, Ask::Resume, session).await?,
        RolloutCommand::Next(arguments) => change(&arguments, Ask::Next, session).await?,
        RolloutCommand::Promote(arguments) => promote(&arguments, session).await?,
        RolloutCommand::Revert(arguments) => revert(&arguments, session).await?,
    }
    Ok(Exit::Done)
}

async fn status(arguments: &StatusArguments, session: &mut Session<'_>) -> Result<(), Failure> {
    if arguments.graph.revision.is_some() {
        let message = "`rollout status` shows the revision that takes over: write the graph alone";
        return Err(Failure::Usage(message.to_owned()));
    }
    let key = arguments.graph.key(&session.namespace);
    let answer = lookup::graph(&session.client, &key, 0).await?;
    let seen = read(answer.status)?;
    let name = short(&key);
    match session.format {
        Format::Json | Format::Yaml => session.write_message(&seen.wire),
        Format::Name => match &seen.status.rollout {
            Some(rollout) => Ok(session.terminal.data_line(&format!("{name}@{}", rollout.revision))?),
            None => Ok(()),
        },
        Format::Table | Format::Wide => {
            let status = &seen.status;
            let mut text = match &status.rollout {
                Some(rollout) => render::rollout::page(status, rollout, now_ms()),
                None => {
                    let state = render::status::sentence(&status.state);
                    format!("{name}@{} answers everything: {state}\n", status.revision)
                }
            };
            if let Some(reverted) = &status.reverted {
                text.push_str(&format!("{}\n", render::rollout::given_up(reverted)));
            }
            session.terminal.data(&text)?;
            note_next(&name, status, session)
        }
    }
}

/// Changes how far a revision is, and says how far it is then.
async fn change(arguments: &AskArguments, ask: Ask, session: &mut Session<'_>) -> Result<(), Failure> {
    let (key, seen) = send(arguments, ask, session).await?;
    said(&key, &seen, session)
}

async fn promote(arguments: &EndArguments, session: &mut Session<'_>) -> Result<(), Failure> {
    let start = Instant::now();
    let (key, seen) = send(&arguments.ask, Ask::Promote, session).await?;
    if arguments.detach {
        return said(&key, &seen, session);
    }
    let revision = taking_over(&seen.status);
    let goal = Goal { key, generation: seen.status.generation, wanted: Wanted::Promoted(revision) };
    match follow::until_reached(session, &goal).await? {
        End::Reached(seen) | End::AtStep(seen, _) => deploy::serves(session, revision, &seen, start),
    }
}

async fn revert(arguments: &EndArguments, session: &mut Session<'_>) -> Result<(), Failure> {
    let (key, seen) = send(&arguments.ask, Ask::Revert, session).await?;
    if arguments.detach {
        return said(&key, &seen, session);
    }
    let revision = seen.status.rollout.as_ref().map(|rollout| rollout.revision);
    let Some(revision) = revision else { return said(&key, &seen, session) };
    let goal = Goal { key, generation: seen.status.generation, wanted: Wanted::Reverted(revision) };
    match follow::until_reached(session, &goal).await? {
        End::Reached(seen) | End::AtStep(seen, _) => said(&goal.key, &seen, session),
    }
}

/// The revision that takes over, or has done so.
fn taking_over(status: &GraphStatus) -> RevisionNumber {
    status.rollout.as_ref().map_or(status.revision, |rollout| rollout.revision)
}

/// Asks for it; what the graph is after it.
async fn send(
    arguments: &AskArguments,
    ask: Ask,
    session: &Session<'_>,
) -> Result<(GraphKey, Seen), Failure> {
    let key = arguments.graph.key(&session.namespace);
    let request = wire::RolloutRequest {
        request_id: String::new(),
        graph: key.to_string(),
        ask: wire::RolloutAsk::from(ask).into(),
        expected_revision: expected(arguments)?,
    };
    let call = |services: Services, request_id: String| {
        let request = wire::RolloutRequest { request_id, ..request.clone() };
        async move { services.graphs().rollout(request).await }
    };
    let answer = session.client.mutate(arguments.mutation.request_id.as_ref(), call).await;
    let answer = answer.map_err(|error| match Failure::from(error) {
        failure @ Failure::Refused { next: None, .. } => failure.next(format!("ctl rollout status {}", short(&key))),
        failure => failure,
    })?;
    Ok((key, read(answer.status)?))
}

/// The revision that must be the one which takes over: by the flag, or behind the name of the graph.
fn expected(arguments: &AskArguments) -> Result<Option<u64>, Failure> {
    let named = arguments.graph.revision.map(|number| number.0);
    match (named, arguments.expected_revision) {
        (Some(named), Some(flag)) if named != flag => {
            let message = format!("the graph is named at revision {named}, and --expected-revision says {flag}");
            Err(Failure::Usage(message))
        }
        (named, flag) => Ok(named.or(flag)),
    }
}

fn read(status: Option<wire::GraphStatus>) -> Result<Seen, CallError> {
    let wire = required("status", status)?;
    let status = GraphStatus::try_from(wire.clone())?;
    Ok(Seen { wire, status })
}

/// Data for programs, and for people a sentence and what to do next.
fn said(key: &GraphKey, seen: &Seen, session: &mut Session<'_>) -> Result<(), Failure> {
    let (name, status) = (short(key), &seen.status);
    match session.format {
        Format::Json | Format::Yaml => session.write_message(&seen.wire)?,
        Format::Name => session.terminal.data_line(&format!("{name}@{}", taking_over(status)))?,
        Format::Table | Format::Wide => {}
    }
    let mut lines = render::rollout::sentences(status);
    if status.rollout.is_none() {
        lines.push(format!("revision {} answers everything", status.revision));
    }
    session.terminal.note(&format!("{name}: {}", lines.join("; ")))?;
    note_next(&name, status, session)
}

fn note_next(name: &str, status: &GraphStatus, session: &mut Session<'_>) -> Result<(), Failure> {
    let next = match (&status.rollout, &status.reverted) {
        (Some(rollout), _) => render::rollout::next(name, rollout),
        (None, Some(_)) => format!("ctl events {name}"),
        (None, None) => format!("ctl history {name}"),
    };
    Ok(session.terminal.note(&format!("  next: {next}"))?)
}
