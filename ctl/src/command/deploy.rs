//! `ctl deploy`: from a manifest to a graph that serves.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use model::id::{Generation, GraphKey, RevisionNumber};
use proto::convert::parse;
use proto::weft::graph::v1 as wire;

use crate::cli::{Format, MutationFlags};
use crate::client::{CallError, Services};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::follow::{self, End, Goal, Wanted};
use crate::manifest::{self, Document};
use crate::reference::short;
use crate::render;
use crate::session::Session;
use crate::watch::Seen;

/// Arguments of `deploy`.
#[derive(Debug, Args)]
pub struct DeployArguments {
    /// The graph's manifest.
    pub file: PathBuf,
    /// Apply exactly this plan, or nothing.
    #[arg(long, value_name = "ID")]
    pub plan: Option<String>,
    /// Let it take over at once, whatever the manifest's `rollout` says.
    #[arg(long)]
    pub at_once: bool,
    /// Do not wait until the graph serves.
    #[arg(long)]
    pub detach: bool,
    /// Refuse unless the graph is at this revision; 0 for a graph that must not exist yet.
    #[arg(long, value_name = "N")]
    pub expected_revision: Option<u64>,
    /// Refuse a manifest that there are warnings about.
    #[arg(long)]
    pub strict: bool,
    /// What makes it safe to repeat.
    #[command(flatten)]
    pub mutation: MutationFlags,
}

/// Deploys.
pub async fn run(arguments: DeployArguments, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let start = Instant::now();
    let color = session.terminal.look().color;
    let document = Document::read(&arguments.file)?;
    let manifest = document.graph(color)?;
    manifest::check_namespace(&document, manifest.key(), &session.namespace)?;
    let files = document
        .read_sources(&manifest::graph_sources(&manifest))
        .map_err(|found| document.refuse(&found, color))?;
    let uploaded = manifest::upload(&session.client, &files).await?;
    if uploaded.files > 0 {
        let plural = if uploaded.files == 1 { "" } else { "s" };
        session
            .terminal
            .progress(&format!("uploaded {} file{plural}, {} bytes", uploaded.files, uploaded.bytes))?;
    }
    let request = wire::DeployRequest {
        request_id: String::new(),
        manifest: document.text(),
        artifacts: manifest::artifacts(&files),
        plan_id: arguments.plan.unwrap_or_default(),
        expected_revision: arguments.expected_revision,
        strict: arguments.strict,
        at_once: arguments.at_once,
    };
    let call = |services: Services, request_id: String| {
        let request = wire::DeployRequest { request_id, ..request.clone() };
        async move { services.graphs().deploy(request).await }
    };
    let answer = match session.client.mutate(arguments.mutation.request_id.as_ref(), call).await {
        Ok(answer) => answer,
        Err(error) => return Err(next_step(document.refused(error, color), &arguments.file)),
    };
    finish(session, answer, arguments.detach, start).await
}

/// A plan that no longer fits is made again; a policy that takes over by steps is looked at.
fn next_step(failure: Failure, file: &std::path::Path) -> Failure {
    match &failure {
        Failure::Refused { reason: Some(reason), next: None, .. } if reason == "plan_stale" => {
            failure.next(format!("ctl plan {}", file.display()))
        }
        // The list shows which one, and how far it is.
        Failure::Refused { reason: Some(reason), next: None, .. } if reason == "policy_takes_over" => {
            failure.next("ctl policy list")
        }
        _ => failure,
    }
}

/// What follows a commit, of a deploy or a rollback: the wait, and what is printed at the end.
pub async fn finish(
    session: &mut Session<'_>,
    answer: wire::DeployResponse,
    detach: bool,
    start: Instant,
) -> Result<Exit, Failure> {
    for warning in &answer.warnings {
        session.terminal.warning(warning)?;
    }
    let key: GraphKey = parse("graph", &answer.graph).map_err(CallError::Answer)?;
    let revision = RevisionNumber(answer.revision);
    let name = short(&key);
    let what = if answer.unchanged { "unchanged since" } else { "committed" };
    let how = if answer.by_steps { ", which takes over by steps" } else { "" };
    session.terminal.progress(&format!("{what} {name}@{revision}, generation {}{how}", answer.generation))?;
    if detach {
        match session.format {
            Format::Json | Format::Yaml => session.write_message(&answer)?,
            _ => session.terminal.data_line(&format!("{name}@{revision}"))?,
        }
        let next = if answer.by_steps {
            format!("ctl rollout status {name}")
        } else {
            format!("ctl status {name} --watch")
        };
        session.terminal.note(&format!("  next: {next}"))?;
        return Ok(Exit::Done);
    }
    let goal = Goal { key, generation: Generation(answer.generation), wanted: Wanted::Revision(revision) };
    match follow::until_reached(session, &goal).await? {
        End::Reached(seen) => serves(session, revision, &seen, start)?,
        End::AtStep(seen, step) => {
            let took = render::time::elapsed(start.elapsed());
            let line =
                format!("{name}@{revision} answers {} after {took}; it waits to be promoted", step.share);
            session.terminal.progress(&line)?;
            show(session, revision, &seen)?;
            if let Some(rollout) = &seen.status.rollout {
                session.terminal.note(&format!("  next: {}", render::rollout::next(&name, rollout)))?;
            }
        }
    }
    Ok(Exit::Done)
}

/// What is printed once a revision serves.
pub(super) fn serves(
    session: &mut Session<'_>,
    revision: RevisionNumber,
    seen: &Seen,
    start: Instant,
) -> Result<(), Failure> {
    let name = short(&seen.status.key);
    let node = seen.status.placement.as_ref().map(|nodes| format!(" on {nodes}")).unwrap_or_default();
    let took = render::time::elapsed(start.elapsed());
    session.terminal.progress(&format!("{name}@{revision} serves{node} after {took}"))?;
    show(session, revision, seen)?;
    Ok(session.terminal.note(&format!("  next: ctl status {name}"))?)
}

/// The graph as programs read it, or where people find it.
fn show(session: &mut Session<'_>, revision: RevisionNumber, seen: &Seen) -> Result<(), Failure> {
    match session.format {
        Format::Json | Format::Yaml => session.write_message(&seen.wire),
        Format::Name => {
            let name = short(&seen.status.key);
            Ok(session.terminal.data_line(&format!("{name}@{revision}"))?)
        }
        Format::Table | Format::Wide => {
            for url in render::status::urls(&seen.status) {
                session.terminal.data_line(&url)?;
            }
            Ok(())
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use model::rollout::{Phase, Reverted, RolloutStatus};
    use model::status::GraphStatus;

    use super::*;
    use crate::testing::{Answers, FakeGraphs, rolling, rollout};

    /// A control plane that commits revision 4, which takes over by steps, and then shows this.
    fn fake(watched: &[GraphStatus]) -> FakeGraphs {
        let deployed = wire::DeployResponse {
            graph: "default/crm".to_owned(),
            revision: 4,
            generation: 12,
            by_steps: true,
            ..wire::DeployResponse::default()
        };
        let watched = watched.iter().cloned().map(Into::into).collect();
        FakeGraphs::start(Answers { deployed, watched, ..Answers::default() })
    }

    fn at(step: usize) -> GraphStatus {
        rolling(RolloutStatus { step, ..rollout(Phase::Answering { since_ms: 0 }) })
    }

    fn starting() -> GraphStatus {
        let candidate = "it comes up: compiling".to_owned();
        rolling(RolloutStatus { candidate, ..rollout(Phase::Starting) })
    }

    #[test]
    fn a_revision_that_takes_over_by_steps_is_told_step_by_step() {
        let serving = GraphStatus {
            revision: RevisionNumber(4),
            generation: Generation(21),
            ..rolling(rollout(Phase::Promoting))
        };
        let fake = fake(&[starting(), at(1), at(2), serving]);
        let ran = fake.ctl(&["deploy", &fake.manifest()]);
        assert_eq!(
            (ran.exit, ran.stdout.as_str()),
            (Exit::Done, "http://crm.localhost:8000/\n"),
            "{}",
            ran.stderr
        );
        for line in [
            " committed crm@4, generation 12, which takes over by steps\n",
            " crm revision 4 comes up: compiling\n",
            " crm revision 4 answers 10% for 1m: step 2 of 3\n",
            " crm revision 4 answers 50% for 5m: step 3 of 3\n",
            " crm@4 serves on n1 after ",
        ] {
            assert!(ran.stderr.contains(line), "{line}: {}", ran.stderr);
        }
        assert!(!fake.asked().deploys[0].at_once);
    }

    #[test]
    fn at_once_is_said_to_the_control_plane() {
        let fake = fake(&[]);
        let ran = fake.ctl(&["deploy", &fake.manifest(), "--at-once", "--detach"]);
        assert_eq!((ran.exit, ran.stdout.as_str()), (Exit::Done, "crm@4\n"), "{}", ran.stderr);
        assert!(ran.stderr.ends_with("  next: ctl rollout status crm\n"), "{}", ran.stderr);
        assert!(fake.asked().deploys[0].at_once);
    }

    #[test]
    fn a_deploy_that_was_given_up_fails_with_the_reason() {
        let why = "12 of its 20 requests failed".to_owned();
        let reverted = GraphStatus {
            revision: RevisionNumber(5),
            reverted: Some(Reverted { revision: RevisionNumber(4), why }),
            ..rolling(rollout(Phase::Ending))
        };
        let fake = fake(&[at(1), reverted]);
        let ran = fake.ctl(&["deploy", &fake.manifest()]);
        assert_eq!((ran.exit, ran.stdout.as_str()), (Exit::Failed, ""));
        let error = "error[rollout_reverted]: default/crm@4 was given up: 12 of its 20 requests failed; revision 5, \
                     equal to the one before, answers everything\n  next: ctl events crm\n";
        assert!(ran.stderr.ends_with(error), "{}", ran.stderr);
    }

    #[test]
    fn a_deploy_that_waits_to_be_promoted_has_done_its_work() {
        let fake = fake(&[starting(), at(0)]);
        let ran = fake.ctl(&["deploy", &fake.manifest()]);
        assert_eq!(
            (ran.exit, ran.stdout.as_str()),
            (Exit::Done, "http://crm.localhost:8000/\n"),
            "{}",
            ran.stderr
        );
        assert!(ran.stderr.contains(" crm@4 answers 0% after "), "{}", ran.stderr);
        assert!(
            ran.stderr.contains("; it waits to be promoted\n  next: ctl rollout promote crm, "),
            "{}",
            ran.stderr
        );
        assert_eq!(fake.ctl(&["deploy", &fake.manifest(), "-q"]).stdout, "crm@4\n");
    }

    #[test]
    fn where_a_policy_takes_over_the_list_of_policies_is_next() {
        let message = "policy pii takes over by steps on default/crm";
        let refusal = proto::status::refuse(tonic::Code::FailedPrecondition, "policy_takes_over", message);
        let fake = FakeGraphs::start(Answers { refusal: Some(refusal), ..Answers::default() });
        let ran = fake.ctl(&["deploy", &fake.manifest()]);
        assert_eq!(ran.exit, Exit::Failed);
        let error = format!("error[policy_takes_over]: {message}\n  next: ctl policy list\n");
        assert!(ran.stderr.ends_with(&error), "{}", ran.stderr);
    }

    #[test]
    fn a_deploy_that_is_paused_goes_on_without_us() {
        let mut paused = at(1);
        paused.rollout.as_mut().unwrap().paused = Some("an operator".to_owned());
        let fake = fake(&[at(1), paused]);
        let ran = fake.ctl(&["deploy", &fake.manifest()]);
        assert_eq!(ran.exit, Exit::StillRunning);
        let error = "error: default/crm: revision 4 is paused at 10%, step 2 of 3: an operator\n  next: ctl rollout status crm\n";
        assert!(ran.stderr.ends_with(error), "{}", ran.stderr);
    }
}
