//! What follows a change of the policies: the wait until every graph it concerns serves its new linking.

use std::collections::BTreeSet;
use std::time::Instant;

use model::id::{Generation, GraphKey};
use proto::convert::{parse, required};
use proto::weft::policy::v1 as wire;

use super::steps;
use crate::cli::Format;
use crate::client::CallError;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::follow::{self, End, Goal, Wanted};
use crate::lookup;
use crate::reference::short;
use crate::render;
use crate::render::policy_rollout::graphs;
use crate::session::Session;

/// A change that was committed.
pub(super) struct Change {
    /// What the control plane said.
    pub(super) answer: wire::ApplyResponse,
    /// `applied`, `rolled back`, `deleted`, `promoted`.
    pub(super) verb: &'static str,
    /// Do not wait.
    pub(super) detach: bool,
    /// When the command began.
    pub(super) start: Instant,
}

impl Change {
    /// `pii-firewall@12`; a deleted policy has no version.
    pub(super) fn subject(&self) -> String {
        match self.answer.generation {
            0 => self.answer.name.clone(),
            generation => format!("{}@{generation}", self.answer.name),
        }
    }
}

/// Says what was committed, and waits until it is in force.
pub(super) async fn finish(session: &mut Session<'_>, change: Change) -> Result<Exit, Failure> {
    for warning in &change.answer.warnings {
        session.terminal.warning(warning)?;
    }
    if change.answer.by_steps {
        return steps::finish(session, change).await;
    }
    let goals = goals(session, &change).await?;
    let subject = change.subject();
    let what = if change.answer.unchanged { "unchanged" } else { change.verb };
    let count = match goals.len() {
        0 => "it concerns no graph".to_owned(),
        count => format!("{} linked with it", graphs(count)),
    };
    let count =
        if change.answer.generation == 0 { count.replace("linked with", "linked without") } else { count };
    session.terminal.progress(&format!("{subject} {what}; {count}"))?;
    if !change.detach {
        wait(session, &goals, &change).await?;
    }
    match session.format {
        Format::Json | Format::Yaml => session.write_message(&change.answer)?,
        _ => session.terminal.data_line(&subject)?,
    }
    let next = match (change.detach, goals.first()) {
        (true, Some(goal)) => format!("ctl status {} --watch", short(&goal.key.base())),
        _ if change.answer.generation == 0 => "ctl policy list".to_owned(),
        _ => format!("ctl policy show {}", change.answer.name),
    };
    session.terminal.note(&format!("  next: {next}"))?;
    Ok(Exit::Done)
}

/// What must serve for the change to be in force.
async fn goals(session: &Session<'_>, change: &Change) -> Result<Vec<Goal>, Failure> {
    let read = |relinked: &wire::Relinked| -> Result<Goal, CallError> {
        let key: GraphKey = parse("relinked.graph", &relinked.graph)?;
        Ok(Goal { key, generation: Generation(relinked.generation), wanted: Wanted::Any })
    };
    let relinked = change.answer.relinked.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    // A repeated command changes nothing, yet what it committed the first time may not be in force yet.
    if !relinked.is_empty() || !change.answer.unchanged {
        return Ok(relinked);
    }
    let policy = super::show::get(&session.client, &change.answer.name, 0).await?;
    let mut goals = Vec::new();
    for key in stood_on(&policy) {
        let graph = match lookup::graph(&session.client, &key, 0).await {
            Err(error) if error.is_not_found() => continue,
            answered => answered?,
        };
        let status = required("status", graph.status).map_err(CallError::Answer)?;
        goals.push(Goal { key, generation: Generation(status.generation), wanted: Wanted::Any });
    }
    Ok(goals)
}

/// The graphs with links that a policy stands on.
pub(super) fn stood_on(policy: &wire::GetResponse) -> BTreeSet<GraphKey> {
    policy.links.iter().filter_map(|link| link.split(' ').next()?.parse().ok()).collect()
}

/// Waits for all of them: one that fails does not end the wait for the others.
pub(super) async fn wait(session: &mut Session<'_>, goals: &[Goal], change: &Change) -> Result<(), Failure> {
    let mut failed = Vec::new();
    for (nth, goal) in goals.iter().enumerate() {
        match follow::until_reached(session, goal).await {
            Ok(End::Reached(seen) | End::AtStep(seen, _)) => {
                let (name, generation) = (short(&goal.key), seen.status.generation);
                let line = format!("{name} serves generation {generation} ({}/{})", nth + 1, goals.len());
                session.terminal.progress(&line)?;
            }
            // Deleted meanwhile: no link is left for the policy to stand on.
            Err(Failure::Refused { reason: Some(reason), .. }) if reason == "deleted" => {}
            Err(failure @ Failure::Refused { .. }) => failed.push((goal, failure)),
            Err(failure) => return Err(failure),
        }
    }
    if failed.is_empty() {
        let took = render::time::elapsed(change.start.elapsed());
        return Ok(session.terminal.progress(&format!("in force after {took}"))?);
    }
    let lines: Vec<String> = failed.iter().map(|(_, failure)| format!("  {failure}")).collect();
    let first = failed.first().map(|(goal, _)| short(&goal.key.base())).unwrap_or_default();
    Err(Failure::Refused {
        reason: failed.into_iter().find_map(|(_, failure)| match failure {
            Failure::Refused { reason, .. } => reason,
            _ => None,
        }),
        message: format!(
            "{} is committed, but {} not serve with it:\n{}",
            change.subject(),
            if lines.len() == 1 { "1 graph does".to_owned() } else { format!("{} graphs do", lines.len()) },
            lines.join("\n")
        ),
        help: (change.answer.generation != 0)
            .then(|| format!("ctl policy rollback {} undoes it alone", change.answer.name)),
        next: Some(format!("ctl why {first}")),
    })
}
