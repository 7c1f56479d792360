//! `ctl policy rollback`: an earlier version of a policy is put in force again.

use std::time::Instant;

use clap::Args;
use proto::weft::policy::v1 as wire;

use super::reference::PolicyReference;
use super::settle::{self, Change};
use crate::cli::MutationFlags;
use crate::client::Services;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;

/// Arguments of `policy rollback`.
#[derive(Debug, Args)]
pub struct RollbackArguments {
    /// The policy, `name[@generation]`; to the version before the one in force if none is named.
    #[arg(value_name = "POLICY")]
    pub policy: PolicyReference,
    /// Do not wait until the graphs serve with it.
    #[arg(long)]
    pub detach: bool,
    /// What makes it safe to repeat.
    #[command(flatten)]
    pub mutation: MutationFlags,
}

/// Rolls back.
pub(super) async fn run(arguments: RollbackArguments, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let start = Instant::now();
    let request = wire::RollbackRequest {
        request_id: String::new(),
        name: arguments.policy.name.to_string(),
        to_generation: arguments.policy.generation,
    };
    let call = |services: Services, request_id: String| {
        let request = wire::RollbackRequest { request_id, ..request.clone() };
        async move { services.policies().rollback(request).await }
    };
    let answer = session.client.mutate(arguments.mutation.request_id.as_ref(), call).await?;
    settle::finish(session, Change { answer, verb: "rolled back", detach: arguments.detach, start }).await
}
