//! `ctl policy`: rules of the platform that stand between importers and an interface.

mod apply;
pub(super) mod chain;
mod check;
mod delete;
mod follow;
mod list;
mod plan;
mod reference;
mod rollback;
mod rollout;
mod settle;
mod show;
mod steps;
mod versions;

use clap::{Args, Subcommand};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;

/// Arguments of `policy`.
#[derive(Debug, Args)]
pub struct PolicyArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: PolicyCommand,
}

/// What to do with policies.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Shows which links a policy would stand on, and which graphs it would block.
    Plan(plan::PlanArguments),
    /// Puts a policy in force, at once or by its steps, and waits until the graphs it concerns serve with it.
    Apply(apply::ApplyArguments),
    /// Lists policies.
    List,
    /// Shows a policy: its manifest, its versions, the links it stands on.
    Show(show::ShowArguments),
    /// Says which policies stand on an import, in which order and why, and which do not.
    Check(check::CheckArguments),
    /// Puts an earlier version of a policy in force again.
    Rollback(rollback::RollbackArguments),
    /// Versions that take over by steps: shows how far one is, pauses, promotes or reverts it.
    Rollout(rollout::RolloutArguments),
    /// Deletes a policy; the links it stood on are made without it.
    Delete(delete::DeleteArguments),
}

/// Does it.
pub async fn run(arguments: PolicyArguments, session: &mut Session<'_>) -> Result<Exit, Failure> {
    match arguments.command {
        PolicyCommand::Plan(arguments) => plan::run(arguments, session).await,
        PolicyCommand::Apply(arguments) => apply::run(arguments, session).await,
        PolicyCommand::List => list::run(session).await,
        PolicyCommand::Show(arguments) => show::run(arguments, session).await,
        PolicyCommand::Check(arguments) => check::run(arguments, session).await,
        PolicyCommand::Rollback(arguments) => rollback::run(arguments, session).await,
        PolicyCommand::Rollout(arguments) => rollout::run(arguments, session).await,
        PolicyCommand::Delete(arguments) => delete::run(arguments, session).await,
    }
}
