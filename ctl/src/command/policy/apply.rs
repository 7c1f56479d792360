//! `ctl policy apply`: from a manifest to a policy that is in force.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use proto::weft::policy::v1 as wire;

use super::plan::{Prepared, lines_of};
use super::settle::{self, Change};
use crate::cli::MutationFlags;
use crate::client::Services;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::policy_rollout::graphs;
use crate::session::Session;

/// Arguments of `policy apply`.
#[derive(Debug, Args)]
pub struct ApplyArguments {
    /// The policy's manifest.
    pub file: PathBuf,
    /// Put it in force at once, whatever the manifest's `rollout` says.
    #[arg(long)]
    pub at_once: bool,
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
    let request = wire::ApplyRequest { at_once: arguments.at_once, ..prepared.request() };
    let call = |services: Services, request_id: String| {
        let request = wire::ApplyRequest { request_id, ..request.clone() };
        async move { services.policies().apply(request).await }
    };
    let answer = match session.client.mutate(arguments.mutation.request_id.as_ref(), call).await {
        Ok(answer) => answer,
        Err(error) => {
            let failure = prepared.document.refused(error, session.terminal.look().color);
            return Err(next_step(blocked(failure, &prepared, &arguments.file, session).await));
        }
    };
    settle::finish(session, Change { answer, verb: "applied", detach: arguments.detach, start }).await
}

/// The list shows what takes over by steps already.
fn next_step(failure: Failure) -> Failure {
    match &failure {
        Failure::Refused { reason: Some(reason), next: None, .. } if reason == "policy_rollout_open" => {
            failure.next("ctl policy list")
        }
        _ => failure,
    }
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use model::id::Generation;
    use model::rollout::{Phase, PolicyRolloutStatus};
    use model::status::GraphStatus;
    use proto::status::refuse;
    use tonic::Code;

    use super::*;
    use crate::testing::{Answers, FakePolicies, PolicyAnswers, policy_rollout, rolling, rollout};

    /// The policy while this version of it takes over, or once nothing does.
    fn seen(in_force: u64, rollout: Option<PolicyRolloutStatus>) -> wire::GetResponse {
        let policy = wire::PolicySummary {
            name: "pii".to_owned(),
            generation: in_force,
            not_in_force: in_force == 0,
            rollout: rollout.map(Into::into),
            ..wire::PolicySummary::default()
        };
        wire::GetResponse { policy: Some(policy), generations: vec![12, 9], ..wire::GetResponse::default() }
    }

    fn at(step: usize) -> PolicyRolloutStatus {
        let answering = Phase::Answering { since_ms: 0 };
        PolicyRolloutStatus { step, ..policy_rollout(answering, "it answers where it was placed") }
    }

    /// A control plane that commits version 12, which takes over by steps, and then shows this.
    fn fake(seen: Vec<wire::GetResponse>, graph: &GraphStatus) -> FakePolicies {
        let applied = wire::ApplyResponse {
            name: "pii".to_owned(),
            generation: 12,
            by_steps: true,
            ..wire::ApplyResponse::default()
        };
        let graph = proto::weft::graph::v1::GraphStatus::from(graph.clone());
        let graphs = Answers { status: graph.clone(), watched: vec![graph], ..Answers::default() };
        FakePolicies::start(PolicyAnswers { applied, seen, graphs, ..PolicyAnswers::default() })
    }

    fn graph(phase: Phase) -> GraphStatus {
        GraphStatus {
            generation: Generation(15),
            rollout: None,
            policy_rollout: Some(policy_rollout(phase, "it answers where it was placed")),
            ..rolling(rollout(Phase::Ending))
        }
    }

    #[test]
    fn a_version_that_takes_over_by_steps_is_told_step_by_step() {
        let starting = policy_rollout(Phase::Starting, "it comes up: compiling");
        let fake =
            fake(vec![seen(9, Some(starting)), seen(9, Some(at(0))), seen(12, None)], &graph(Phase::Ending));
        let ran = fake.ctl(&["policy", "apply", &fake.manifest()]);
        assert_eq!((ran.exit, ran.stdout.as_str()), (Exit::Done, "pii@12\n"), "{}", ran.stderr);
        for line in [
            " pii@12 applied, which takes over by steps\n",
            " pii version 12 comes up on 2 graphs, crm: compiling\n",
            " pii version 12 answers 5% for 5m: step 1 of 2, on 2 graphs\n",
            " crm serves generation 15 (1/1)\n",
            " in force after ",
        ] {
            assert!(ran.stderr.contains(line), "{line}: {}", ran.stderr);
        }
        assert!(ran.stderr.ends_with("  next: ctl policy show pii\n"), "{}", ran.stderr);
        assert!(!fake.asked().applies[0].at_once);
    }

    #[test]
    fn at_once_is_said_to_the_control_plane_and_detached_nothing_is_followed() {
        let fake = fake(Vec::new(), &graph(Phase::Starting));
        let ran = fake.ctl(&["policy", "apply", &fake.manifest(), "--at-once", "--detach"]);
        assert_eq!((ran.exit, ran.stdout.as_str()), (Exit::Done, "pii@12\n"), "{}", ran.stderr);
        assert!(ran.stderr.ends_with("  next: ctl policy rollout status pii\n"), "{}", ran.stderr);
        let asked = fake.asked();
        assert_eq!((asked.applies[0].at_once, asked.gets), (true, 0));
    }

    #[test]
    fn a_version_that_was_given_up_fails_with_the_reason() {
        let why = "12 of the 20 requests of default/crm failed".to_owned();
        let given_up = vec![wire::GivenUp { generation: 12, why }];
        let over = wire::GetResponse { given_up, ..seen(9, None) };
        let fake = fake(vec![seen(9, Some(at(0))), over], &graph(Phase::Ending));
        let ran = fake.ctl(&["policy", "apply", &fake.manifest()]);
        assert_eq!((ran.exit, ran.stdout.as_str()), (Exit::Failed, ""));
        let error = "error[rollout_reverted]: pii@12 was given up for all graphs: 12 of the 20 requests of default/crm \
                     failed; pii@9 is in force\n  next: ctl policy rollout status pii\n";
        assert!(ran.stderr.ends_with(error), "{}", ran.stderr);
    }

    #[test]
    fn a_version_that_waits_to_be_promoted_has_done_its_work_and_a_paused_one_has_not() {
        let answering = graph(Phase::Answering { since_ms: 0 });
        let waiting = fake(vec![seen(9, Some(at(1)))], &answering);
        let ran = waiting.ctl(&["policy", "apply", &waiting.manifest()]);
        assert_eq!((ran.exit, ran.stdout.as_str()), (Exit::Done, "pii@12\n"), "{}", ran.stderr);
        assert!(ran.stderr.contains(" pii@12 answers 50% after "), "{}", ran.stderr);
        let next = "; it waits to be promoted\n  next: ctl policy rollout promote pii, or ctl policy rollout revert pii\n";
        assert!(ran.stderr.ends_with(next), "{}", ran.stderr);

        let paused = PolicyRolloutStatus { paused: Some("an operator".to_owned()), ..at(0) };
        let paused = fake(vec![seen(9, Some(paused))], &answering);
        let ran = paused.ctl(&["policy", "apply", &paused.manifest()]);
        assert_eq!(ran.exit, Exit::StillRunning);
        let error = "error: pii version 12 is paused at 5%, step 1 of 2: an operator\n  next: ctl policy rollout status pii\n";
        assert!(ran.stderr.ends_with(error), "{}", ran.stderr);
    }

    #[test]
    fn where_another_policy_takes_over_the_list_is_next() {
        let refusal =
            refuse(Code::FailedPrecondition, "policy_rollout_open", "a version of policy a takes over");
        let fake = FakePolicies::start(PolicyAnswers { refusal: Some(refusal), ..PolicyAnswers::default() });
        let ran = fake.ctl(&["policy", "apply", &fake.manifest()]);
        assert_eq!(ran.exit, Exit::Failed);
        let error = "error[policy_rollout_open]: a version of policy a takes over\n  next: ctl policy list\n";
        assert!(ran.stderr.ends_with(error), "{}", ran.stderr);
    }
}
