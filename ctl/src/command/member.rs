//! `ctl member`: who is of the control plane.

use std::time::Duration;

use clap::{Args, Subcommand};
use proto::weft::member::v1 as wire;

use crate::cli::{Format, MutationFlags};
use crate::client::Services;
use crate::clock::now_ms;
use crate::command::node::generate_token;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::table::Table;
use crate::render::time;
use crate::session::Session;

/// How long a change of the members may take: a quorum of the new ones is needed.
const CHANGE_PATIENCE: Duration = Duration::from_secs(15);

/// Arguments of `member`.
#[derive(Debug, Args)]
pub struct MemberArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: MemberCommand,
}

/// What to do with members.
#[derive(Debug, Subcommand)]
pub enum MemberCommand {
    /// Lists members: who leads, who has a vote, how far each is.
    List,
    /// Makes a token by which a member joins the control plane, once. It learns until it is promoted.
    Token(TokenArguments),
    /// Gives a member a vote, once it has caught up.
    Promote(ChangeArguments),
    /// Takes a member out for good; its id is never used again.
    Remove(RemoveArguments),
    /// Lets another member lead.
    Transfer(TransferArguments),
}

/// Arguments of `member token`.
#[derive(Debug, Args)]
pub struct TokenArguments {
    /// How long the token is good, at most 24h.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = model::unit::parse_duration)]
    pub lifetime: Duration,
}

/// Arguments of `member promote`.
#[derive(Debug, Args)]
pub struct ChangeArguments {
    /// The member, by its id.
    pub member: u64,
    /// What makes it safe to repeat.
    #[command(flatten)]
    pub mutation: MutationFlags,
}

/// Arguments of `member remove`.
#[derive(Debug, Args)]
pub struct RemoveArguments {
    /// The member, by its id.
    pub member: u64,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
    /// What makes it safe to repeat.
    #[command(flatten)]
    pub mutation: MutationFlags,
}

/// Arguments of `member transfer`.
#[derive(Debug, Args)]
pub struct TransferArguments {
    /// The member that should lead, by its id [default: the one that has most of the log].
    pub member: Option<u64>,
}

/// Does it.
pub async fn run(arguments: MemberArguments, session: &mut Session<'_>) -> Result<Exit, Failure> {
    match arguments.command {
        MemberCommand::List => list(session).await?,
        MemberCommand::Token(arguments) => token(arguments, session).await?,
        MemberCommand::Promote(arguments) => promote(arguments, session).await?,
        MemberCommand::Remove(arguments) => remove(arguments, session).await?,
        MemberCommand::Transfer(arguments) => transfer(arguments, session).await?,
    }
    Ok(Exit::Done)
}

async fn list(session: &mut Session<'_>) -> Result<(), Failure> {
    let ask = |services: Services| async move { services.members().list(wire::ListRequest {}).await };
    let answer = session.client.read(ask).await?;
    match session.format {
        Format::Json | Format::Yaml => return session.write_message(&answer),
        Format::Name => {
            for member in &answer.members {
                session.terminal.data_line(&member.id.to_string())?;
            }
            return Ok(());
        }
        Format::Table | Format::Wide => {}
    }
    let now = now_ms();
    let mut table = Table::new(["ID", "ROLE", "LEADS", "BEHIND", "DISK", "ADDRESS", "AGE"]);
    for member in &answer.members {
        let behind = member.last.zip(member.matched).map(|(last, matched)| last.saturating_sub(matched));
        table.row([
            member.id.to_string(),
            member.role.clone(),
            if member.id == answer.leader { "yes" } else { "" }.to_owned(),
            behind.map_or_else(String::new, |behind| behind.to_string()),
            if member.is_low_on_disk { "full" } else { "" }.to_owned(),
            member.address.clone(),
            time::age(member.joined_at_ms, now),
        ]);
    }
    session.write_table(&table, "there are no members yet: ask again in a moment")
}

async fn token(arguments: TokenArguments, session: &mut Session<'_>) -> Result<(), Failure> {
    let token = generate_token(&session.client)?;
    let request = wire::CreateTokenRequest {
        request_id: String::new(),
        digest: token.digest(),
        lifetime_ms: u64::try_from(arguments.lifetime.as_millis()).unwrap_or(u64::MAX),
    };
    let call = |services: Services, request_id: String| {
        let request = wire::CreateTokenRequest { request_id, ..request.clone() };
        async move { services.members().create_token(request).await }
    };
    let answer = session.client.mutate(None, call).await?;
    match session.format {
        Format::Json | Format::Yaml => {
            let value = serde_json::json!({ "token": *token.reveal(), "expiresMs": answer.expires_ms });
            session.write_value(&value)?;
        }
        Format::Table | Format::Wide | Format::Name => session.terminal.data_line(&token.reveal())?,
    }
    let until = time::stamp(answer.expires_ms);
    session.terminal.note(&format!("good once, for a member of the control plane, until {until}"))?;
    let members = session.client.address().authorities().join(",");
    let next = format!(
        "next: write it to a file on the member's machine, and start control-plane with --join-token-file and --members {members}"
    );
    session.terminal.note(&next)?;
    Ok(())
}

async fn promote(arguments: ChangeArguments, session: &mut Session<'_>) -> Result<(), Failure> {
    let ChangeArguments { member, mutation } = arguments;
    let call = |services: Services, request_id: String| async move {
        services.members().promote(wire::PromoteRequest { request_id, member }).await
    };
    let answer = session.client.mutate(mutation.request_id.as_ref(), call).await?;
    if matches!(session.format, Format::Json | Format::Yaml) {
        session.write_message(&answer)?;
    }
    session.terminal.note(&format!("member {member} has a vote"))?;
    Ok(())
}

async fn remove(arguments: RemoveArguments, session: &mut Session<'_>) -> Result<(), Failure> {
    let RemoveArguments { member, yes, mutation } = arguments;
    if !yes {
        if !session.terminal.look().can_ask {
            let message = format!("removing member {member} must be confirmed, and nobody can be asked here");
            return Err(Failure::refused(message).next(format!("ctl member remove {member} --yes")));
        }
        let question = format!("type {member} to take member {member} out of the control plane for good:");
        if session.terminal.ask(&question)? != member.to_string() {
            return Err(Failure::refused("that is not its id; nothing was changed"));
        }
    }
    let call = |services: Services, request_id: String| async move {
        services.members().remove(wire::RemoveRequest { request_id, member }).await
    };
    let answer = session.client.mutate(mutation.request_id.as_ref(), call).await?;
    if matches!(session.format, Format::Json | Format::Yaml) {
        session.write_message(&answer)?;
    }
    session.terminal.note(&format!("member {member} is out; stop it, and remove its data"))?;
    Ok(())
}

async fn transfer(arguments: TransferArguments, session: &mut Session<'_>) -> Result<(), Failure> {
    let member = arguments.member.unwrap_or_default();
    let call =
        |services: Services| async move { services.members().transfer(wire::TransferRequest { member }).await };
    let answer = session.client.read_within(CHANGE_PATIENCE, call).await?;
    match session.format {
        Format::Json | Format::Yaml => session.write_message(&answer)?,
        Format::Name => session.terminal.data_line(&answer.leader.to_string())?,
        Format::Table | Format::Wide => {}
    }
    session.terminal.note(&format!("member {} leads", answer.leader))?;
    Ok(())
}
