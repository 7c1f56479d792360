//! `ctl policy apply`: from a manifest to a policy that is in force.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use proto::weft::policy::v1 as wire;

use super::plan::{Prepared, graphs, lines_of};
use super::settle::{self, Change};
use crate::cli::MutationFlags;
use crate::client::Services;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;

/// Arguments of `policy apply`.
#[derive(Debug, Args)]
pub struct ApplyArguments {
    /// The policy's manifest.
    pub file: PathBuf,
    /// Do not wait until the graphs serve with it.
    #[arg(long)]
    pub detach: bool,
    /// What makes it safe to repeat.
    #[command(flatten)]
    pub mutation: MutationFlags,
}

/// Applies.
pub(super) async fn run(arguments: ApplyArguments, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let start = Instant::now();
    let prepared = Prepared::read(&arguments.file, session).await?;
    let request = prepared.request();
    let call = |services: Services, request_id: String| {
        let request = wire::ApplyRequest { request_id, ..request.clone() };
        async move { services.policies().apply(request).await }
    };
    let answer = match session.client.mutate(arguments.mutation.request_id.as_ref(), call).await {
        Ok(answer) => answer,
        Err(error) => {
            let failure = prepared.document.refused(error, session.terminal.look().color);
            return Err(blocked(failure, &prepared, &arguments.file, session).await);
        }
    };
    settle::finish(session, Change { answer, verb: "applied", detach: arguments.detach, start }).await
}

/// A policy that would block graphs is refused in one sentence; the plan says it graph by graph.
async fn blocked(
    failure: Failure,
    prepared: &Prepared,
    file: &std::path::Path,
    session: &Session<'_>,
) -> Failure {
    let is_about_graphs =
        matches!(&failure, Failure::Refused { reason: Some(reason), .. } if reason == "policy_unlinkable");
    if !is_about_graphs {
        return failure;
    }
    // Between the two calls the blocking graph may have gone; the refusal is true all the same.
    match prepared.plan(session).await {
        Ok(plan) if !plan.refused.is_empty() => sorted(&plan, file),
        _ => failure,
    }
}

fn sorted(plan: &wire::PlanResponse, file: &std::path::Path) -> Failure {
    let lines: String = plan.refused.iter().map(|effect| lines_of(effect, "")).collect();
    let blocked = graphs(plan.refused.len());
    Failure::Refused {
        reason: Some("policy_unlinkable".to_owned()),
        message: format!(
            "policy {} was not applied, and nothing was changed: it would block {blocked}\n{}",
            plan.name,
            lines.trim_end()
        ),
        help: Some("correct the policy, or leave these graphs out with `match.except`".to_owned()),
        next: Some(format!("ctl policy plan {}", file.display())),
    }
}
