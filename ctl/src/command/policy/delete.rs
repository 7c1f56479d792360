//! `ctl policy delete`: a policy goes, and the links it stood on are made without it.

use std::time::Instant;

use clap::Args;
use model::name::PolicyName;
use proto::weft::policy::v1 as wire;

use super::settle::{self, Change};
use super::show;
use crate::cli::MutationFlags;
use crate::client::Services;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;

/// Arguments of `policy delete`.
#[derive(Debug, Args)]
pub struct DeleteArguments {
    /// The policy.
    #[arg(value_name = "POLICY")]
    pub name: PolicyName,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
    /// Do not wait until the graphs serve without it.
    #[arg(long)]
    pub detach: bool,
    /// What makes it safe to repeat.
    #[command(flatten)]
    pub mutation: MutationFlags,
}

/// Deletes, after asking for the policy's name.
pub(super) async fn run(arguments: DeleteArguments, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let name = &arguments.name;
    if !arguments.yes {
        confirm(name, session).await?;
    }
    let start = Instant::now();
    let call = |services: Services, request_id: String| {
        let request = wire::DeleteRequest { request_id, name: name.to_string() };
        async move { services.policies().delete(request).await }
    };
    let answer = session.client.mutate(arguments.mutation.request_id.as_ref(), call).await?;
    settle::finish(session, Change { answer, verb: "deleted", detach: arguments.detach, start }).await
}

async fn confirm(name: &PolicyName, session: &mut Session<'_>) -> Result<(), Failure> {
    if !session.terminal.look().can_ask {
        let message = format!("deleting policy {name} must be confirmed, and nobody can be asked here");
        return Err(Failure::refused(message).next(format!("ctl policy delete {name} --yes")));
    }
    // Asked only about what is there.
    let policy = show::get(&session.client, name.as_str(), 0).await?;
    let links = match policy.links.len() {
        1 => "1 link".to_owned(),
        count => format!("{count} links"),
    };
    let at = session.client.address().clone();
    let question = format!("type \"{name}\" to delete this policy, which stands on {links}, at {at}:");
    if session.terminal.ask(&question)? != name.as_str() {
        return Err(Failure::refused("that is not the name; nothing was deleted"));
    }
    Ok(())
}
