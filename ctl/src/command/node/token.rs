//! `ctl node token` and `ctl node revoke`: how a node is let in, and how it is put out.

use std::time::Duration;

use clap::Args;
use model::name::NodeName;
use proto::weft::trust::v1 as wire;
use trust::{Fingerprint, JoinToken};

use crate::cli::{Format, MutationFlags};
use crate::client::{Client, Services};
use crate::failure::Failure;
use crate::render::time;
use crate::session::Session;

/// Arguments of `node token`.
#[derive(Debug, Args)]
pub struct TokenArguments {
    /// The name of the node that will join.
    pub name: NodeName,
    /// How long the token is good, at most 24h.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = model::unit::parse_duration)]
    pub lifetime: Duration,
}

/// Arguments of `node revoke`.
#[derive(Debug, Args)]
pub struct RevokeArguments {
    /// The node.
    pub name: NodeName,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
    /// What makes it safe to repeat.
    #[command(flatten)]
    pub mutation: MutationFlags,
}

/// A new token for the cluster whose authority is in the credentials.
pub fn generate(client: &Client) -> Result<JoinToken, Failure> {
    let identity = client.credentials()?.identity();
    let authority = identity.authorities().next().map(Fingerprint::of);
    let authority = authority.ok_or_else(|| Failure::refused("the credentials name no authority"))?;
    JoinToken::generate(authority).map_err(|error| Failure::refused(error.to_string()))
}

/// Makes a token by which a node may join, and says when it ends, in milliseconds since 1970. Its secret is made here:
/// the control plane does not see it before it is used.
pub async fn create(client: &Client, node: &NodeName, lifetime: Duration) -> Result<(JoinToken, u64), Failure> {
    let token = generate(client)?;
    let request = wire::CreateTokenRequest {
        request_id: String::new(),
        node: node.to_string(),
        digest: token.digest(),
        lifetime_ms: u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX),
    };
    let call = |services: Services, request_id: String| {
        let request = wire::CreateTokenRequest { request_id, ..request.clone() };
        async move { services.enrolment().create_token(request).await }
    };
    let answer = client.mutate(None, call).await?;
    Ok((token, answer.expires_ms))
}

pub(super) async fn token(arguments: TokenArguments, session: &mut Session<'_>) -> Result<(), Failure> {
    let TokenArguments { name, lifetime } = arguments;
    let (token, expires_ms) = create(&session.client, &name, lifetime).await?;
    match session.format {
        Format::Json | Format::Yaml => {
            let value = serde_json::json!({ "node": name, "token": *token.reveal(), "expiresMs": expires_ms });
            session.write_value(&value)?;
        }
        Format::Table | Format::Wide | Format::Name => session.terminal.data_line(&token.reveal())?,
    }
    let until = time::stamp(expires_ms);
    session.terminal.note(&format!("good once, for node {name}, until {until}"))?;
    session
        .terminal
        .note("next: write it to a file on the node, and start the agent with --join-token-file")?;
    Ok(())
}

pub(super) async fn revoke(arguments: RevokeArguments, session: &mut Session<'_>) -> Result<(), Failure> {
    let RevokeArguments { name, yes, mutation } = arguments;
    if !yes {
        super::confirm(&name, "revoke", "", session)?;
    }
    let call = |services: Services, request_id: String| {
        let request = wire::RevokeRequest { request_id, node: name.to_string() };
        async move { services.enrolment().revoke(request).await }
    };
    let answer = session.client.mutate(mutation.request_id.as_ref(), call).await?;
    match session.format {
        Format::Json | Format::Yaml => session.write_message(&answer)?,
        Format::Name => session.terminal.data_line(name.as_str())?,
        Format::Table | Format::Wide => {}
    }
    session
        .terminal
        .note(&format!("nobody speaks with node {name} any more; it joins again only by a new token"))?;
    Ok(())
}
