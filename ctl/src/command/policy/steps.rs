//! What follows a change of the policies that takes over by steps: the way through them, and the wait until every graph
//! serves with what is in force then.

use std::collections::BTreeSet;

use model::id::{Generation, GraphKey};
use proto::convert::{parse, required};
use proto::weft::policy::v1 as wire;
use tokio::time::{Instant, sleep, sleep_until};

use super::follow::{self, End, POLL_INTERVAL};
use super::settle::{self, Change};
use super::show;
use crate::cli::Format;
use crate::client::CallError;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::follow::{Goal, SERVING_PATIENCE, Wanted};
use crate::lookup;
use crate::render::{self, policy_rollout};
use crate::session::Session;

/// Says what was committed, and follows it.
pub(super) async fn finish(session: &mut Session<'_>, change: Change) -> Result<Exit, Failure> {
    let name = change.answer.name.clone();
    let what = if change.answer.unchanged { "unchanged" } else { change.verb };
    session.terminal.progress(&format!("{} {what}, which takes over by steps", change.subject()))?;
    if change.detach {
        shown(session, &change)?;
        session.terminal.note(&format!("  next: {}", policy_rollout::look(&name)))?;
        return Ok(Exit::Done);
    }
    let generation = Generation(change.answer.generation);
    let goal = follow::Goal { name: name.clone(), generation, is_promoted: false };
    match follow::until_decided(session, &goal).await? {
        End::InForce(mut graphs) => {
            graphs.extend(relinked(&change.answer)?);
            until_served(session, &change, graphs).await?;
            shown(session, &change)?;
            session.terminal.note(&format!("  next: ctl policy show {name}"))?;
        }
        End::AtStep(rollout, step) => {
            let took = render::time::elapsed(change.start.elapsed());
            let line = format!(
                "{} answers {} after {took}; it waits to be promoted",
                policy_rollout::named(&rollout.version),
                step.share
            );
            session.terminal.progress(&line)?;
            shown(session, &change)?;
            session.terminal.note(&format!("  next: {}", policy_rollout::next(&rollout)))?;
        }
    }
    Ok(Exit::Done)
}

/// Data for programs: what was committed.
fn shown(session: &mut Session<'_>, change: &Change) -> Result<(), Failure> {
    match session.format {
        Format::Json | Format::Yaml => session.write_message(&change.answer),
        _ => Ok(session.terminal.data_line(&change.subject())?),
    }
}

fn relinked(answer: &wire::ApplyResponse) -> Result<BTreeSet<GraphKey>, CallError> {
    let read = |relinked: &wire::Relinked| -> Result<GraphKey, CallError> {
        let key: GraphKey = parse("relinked.graph", &relinked.graph)?;
        Ok(key.base())
    };
    answer.relinked.iter().map(read).collect()
}

/// Waits until the graphs serve with a version that is in force: those that were asked with it, and those it stands on.
pub(super) async fn until_served(
    session: &mut Session<'_>,
    change: &Change,
    mut graphs: BTreeSet<GraphKey>,
) -> Result<(), Failure> {
    let policy = show::get(&session.client, &change.answer.name, 0).await?;
    graphs.extend(settle::stood_on(&policy));
    let patience = session.deadline.unwrap_or(SERVING_PATIENCE);
    let until = Instant::now() + patience;
    let mut goals = Vec::new();
    for key in graphs {
        let linked = tokio::select! {
            // Cancel-safe: asking changes nothing.
            linked = linked_with(session, &key, change) => linked?,
            () = sleep_until(until) => return Err(time_is_up(&key, change, patience)),
            _ = tokio::signal::ctrl_c() => return Err(not_waited_for(&key, change)),
        };
        goals.extend(linked);
    }
    settle::wait(session, &goals, change).await
}

/// What must serve, once the graph is linked with no earlier version of the policy; nothing if the graph has gone.
async fn linked_with(session: &Session<'_>, key: &GraphKey, change: &Change) -> Result<Option<Goal>, Failure> {
    let (name, version) = (&change.answer.name, change.answer.generation);
    loop {
        let graph = match lookup::graph(&session.client, key, 0).await {
            Err(error) if error.is_not_found() => return Ok(None),
            answered => answered?,
        };
        let status = required("status", graph.status).map_err(CallError::Answer)?;
        let policies = graph.linked.map(|linked| linked.policies).unwrap_or_default();
        if !policies.iter().any(|policy| policy.name == *name && policy.generation < version) {
            let wanted = Wanted::WithPolicy(Generation(version));
            return Ok(Some(Goal { key: key.clone(), generation: Generation(status.generation), wanted }));
        }
        sleep(POLL_INTERVAL).await;
    }
}

fn not_waited_for(key: &GraphKey, change: &Change) -> Failure {
    let message =
        format!("{} is in force, and it was not waited for {key}; the work goes on", change.subject());
    Failure::StillRunning { message, next: format!("ctl status {} --watch", crate::reference::short(key)) }
}

fn time_is_up(key: &GraphKey, change: &Change, patience: std::time::Duration) -> Failure {
    let took = model::unit::format_duration(patience);
    let message = format!(
        "{} is in force, and {key} is not linked with it after {took}; the work goes on",
        change.subject()
    );
    Failure::StillRunning { message, next: format!("ctl status {} --watch", crate::reference::short(key)) }
}
