//! `ctl policy rollout`: versions of policies that take over by steps: how far one is, and what becomes of it.

use std::collections::BTreeSet;
use std::time::Instant;

use clap::{Args, Subcommand};
use model::id::{Generation, GraphKey};
use model::rollout::{Ask, PolicyRolloutStatus};
use proto::convert::required;
use proto::weft::graph::v1::RolloutAsk;
use proto::weft::policy::v1 as wire;

use super::reference::PolicyReference;
use super::settle::Change;
use super::versions::Versions;
use super::{follow, show, steps};
use crate::cli::{Format, MutationFlags};
use crate::client::{CallError, Services};
use crate::clock::now_ms;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::follow::{End, Goal, Wanted, until_reached};
use crate::render::policy_rollout;
use crate::render::table::printable;
use crate::session::Session;

/// Arguments of `policy rollout`.
#[derive(Debug, Args)]
pub struct RolloutArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: RolloutCommand,
}

/// What to do with a version that takes over by steps.
#[derive(Debug, Subcommand)]
pub enum RolloutCommand {
    /// Shows how far it is: its steps, and how the graphs are that are asked with it.
    Status(StatusArguments),
    /// Lets it stay at its step.
    Pause(AskArguments),
    /// Lets it go on that was paused.
    Resume(AskArguments),
    /// Lets it go to its next step now, from the last one into force; also where it waits to be promoted.
    Next(AskArguments),
    /// Puts it in force now, and waits until the graphs that it concerns serve with it.
    Promote(EndArguments),
    /// Gives it up: what is in force answers everything again. Waits until it is let go of.
    Revert(EndArguments),
}

/// Arguments of `policy rollout status`.
#[derive(Debug, Args)]
pub struct StatusArguments {
    /// The policy, `name[@generation]`; the version that takes over if none is named.
    #[arg(value_name = "POLICY")]
    pub policy: PolicyReference,
}

/// Arguments of what changes how far a version is.
#[derive(Debug, Args)]
pub struct AskArguments {
    /// The policy; `@generation` refuses unless it is that version which takes over.
    #[arg(value_name = "POLICY")]
    pub policy: PolicyReference,
    /// Refuse unless it is this version that takes over.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub expected_generation: Option<u64>,
    /// What makes it safe to repeat.
    #[command(flatten)]
    pub mutation: MutationFlags,
}

/// Arguments of what ends a rollout.
#[derive(Debug, Args)]
pub struct EndArguments {
    /// What it is about.
    #[command(flatten)]
    pub ask: AskArguments,
    /// Do not wait.
    #[arg(long)]
    pub detach: bool,
}

/// Does it.
pub(super) async fn run(arguments: RolloutArguments, session: &mut Session<'_>) -> Result<Exit, Failure> {
    match arguments.command {
        RolloutCommand::Status(arguments) => status(&arguments.policy, session).await?,
        RolloutCommand::Pause(arguments) => change(&arguments, Ask::Pause, session).await?,
        RolloutCommand::Resume(arguments) => change(&arguments, Ask::Resume, session).await?,
        RolloutCommand::Next(arguments) => change(&arguments, Ask::Next, session).await?,
        RolloutCommand::Promote(arguments) => promote(&arguments, session).await?,
        RolloutCommand::Revert(arguments) => revert(&arguments, session).await?,
    }
    Ok(Exit::Done)
}

async fn status(policy: &PolicyReference, session: &mut Session<'_>) -> Result<(), Failure> {
    let name = policy.name.as_str();
    let answer = show::get(&session.client, name, policy.generation).await?;
    let versions = Versions::of_answer(&answer)?;
    let is_asked_for = |version: u64| policy.generation == 0 || policy.generation == version;
    let rollout = versions.rollout.as_ref().filter(|rollout| is_asked_for(rollout.version.generation.0));
    match session.format {
        Format::Json | Format::Yaml => session.write_message(&answer),
        Format::Name => match rollout {
            Some(rollout) => Ok(session.terminal.data_line(&policy_rollout::named(&rollout.version))?),
            None => Ok(()),
        },
        Format::Table | Format::Wide => {
            let mut text = match rollout {
                Some(rollout) => policy_rollout::page(rollout, now_ms()),
                None => {
                    let in_force = policy_rollout::in_force(name, versions.in_force);
                    let other = versions.rollout.as_ref().map(policy_rollout::sentence);
                    let taking_over = other.unwrap_or_else(|| "nothing takes over by steps".to_owned());
                    format!("{in_force}; {taking_over}\n")
                }
            };
            for version in answer.given_up.iter().filter(|version| is_asked_for(version.generation)) {
                text.push_str(&format!("{}\n", policy_rollout::given_up(version)));
            }
            session.terminal.data(&text)?;
            note_next(name, &versions, session)
        }
    }
}

/// Changes how far a version is, and says how far it is then.
async fn change(arguments: &AskArguments, ask: Ask, session: &mut Session<'_>) -> Result<(), Failure> {
    let (answer, versions) = send(arguments, ask, session).await?;
    said(arguments, &answer, &versions, session)
}

async fn promote(arguments: &EndArguments, session: &mut Session<'_>) -> Result<(), Failure> {
    let (ask, start) = (&arguments.ask, Instant::now());
    let asked = if arguments.detach { None } else { taking_over(ask, session).await? };
    let (answer, versions) = send(ask, Ask::Promote, session).await?;
    let name = ask.policy.name.as_str();
    if !answer.given_up.is_empty() {
        return Err(follow::given_up(&subject(ask)?, &answer.given_up, name, &versions));
    }
    let promoted = versions.rollout.as_ref().map(|rollout| rollout.version.generation).or(versions.in_force);
    let Some(generation) = promoted.filter(|_| !arguments.detach) else {
        return said(ask, &answer, &versions, session);
    };
    let goal = follow::Goal { name: name.to_owned(), generation, is_promoted: true };
    let mut graphs = asked.as_ref().map(graphs_of).unwrap_or_default();
    if let follow::End::InForce(more) = follow::until_decided(session, &goal).await? {
        graphs.extend(more);
    }
    let applied = wire::ApplyResponse { name: name.to_owned(), generation: generation.0, ..Default::default() };
    let promoted = Change { answer: applied, verb: "promoted", detach: false, start };
    steps::until_served(session, &promoted, graphs).await?;
    said(ask, &answer, &Versions { in_force: Some(generation), rollout: None }, session)
}

async fn revert(arguments: &EndArguments, session: &mut Session<'_>) -> Result<(), Failure> {
    let ask = &arguments.ask;
    let asked = if arguments.detach { None } else { taking_over(ask, session).await? };
    let (answer, versions) = send(ask, Ask::Revert, session).await?;
    if let Some(rollout) = &asked {
        let wanted = Wanted::WithoutPolicy(rollout.version.generation);
        for key in graphs_of(rollout) {
            let goal = Goal { key, generation: Generation::default(), wanted };
            match until_reached(session, &goal).await {
                Ok(End::Reached(_) | End::AtStep(..)) => {}
                // Deleted meanwhile, and its candidate with it.
                Err(Failure::Refused { reason: Some(reason), .. }) if reason == "deleted" => {}
                Err(failure) if is_not_found(&failure) => {}
                Err(failure) => return Err(failure),
            }
        }
    }
    said(ask, &answer, &versions, session)
}

fn is_not_found(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused { reason: Some(reason), .. } if reason == "not_found")
}

/// How far it is before it is ended: only then it is known which graphs are asked with it.
async fn taking_over(
    arguments: &AskArguments,
    session: &Session<'_>,
) -> Result<Option<PolicyRolloutStatus>, Failure> {
    let answer = show::get(&session.client, arguments.policy.name.as_str(), 0).await?;
    Ok(Versions::of_answer(&answer)?.rollout)
}

fn graphs_of(rollout: &PolicyRolloutStatus) -> BTreeSet<GraphKey> {
    rollout.candidates.iter().map(|candidate| candidate.graph.clone()).collect()
}

/// Asks for it; how the versions of the policy stand after it.
async fn send(
    arguments: &AskArguments,
    ask: Ask,
    session: &Session<'_>,
) -> Result<(wire::RolloutResponse, Versions), Failure> {
    let name = arguments.policy.name.as_str();
    let request = wire::RolloutRequest {
        request_id: String::new(),
        name: name.to_owned(),
        ask: RolloutAsk::from(ask).into(),
        expected_generation: expected(arguments)?,
    };
    let call = |services: Services, request_id: String| {
        let request = wire::RolloutRequest { request_id, ..request.clone() };
        async move { services.policies().rollout(request).await }
    };
    let answer = session.client.mutate(arguments.mutation.request_id.as_ref(), call).await;
    let answer = answer.map_err(|error| next_step(error.into(), name))?;
    let policy = required("policy", answer.policy.clone()).map_err(CallError::Answer)?;
    Ok((answer, Versions::of_summary(&policy)?))
}

/// Where something else takes over, or nothing does, what there is is looked at first.
fn next_step(failure: Failure, name: &str) -> Failure {
    let is_elsewhere =
        |reason: &str| matches!(reason, "no_policy_rollout" | "not_paused" | "generation_conflict");
    match &failure {
        Failure::Refused { reason: Some(reason), next: None, .. } if is_elsewhere(reason) => {
            failure.next(policy_rollout::look(name))
        }
        _ => failure,
    }
}

/// The version that must be the one which takes over: by the flag, or behind the name of the policy.
fn expected(arguments: &AskArguments) -> Result<Option<u64>, Failure> {
    let named = Some(arguments.policy.generation).filter(|generation| *generation != 0);
    match (named, arguments.expected_generation) {
        (Some(named), Some(flag)) if named != flag => {
            let message =
                format!("the policy is named at version {named}, and --expected-generation says {flag}");
            Err(Failure::Usage(message))
        }
        (named, flag) => Ok(named.or(flag)),
    }
}

/// The version that was asked about, where it is known which.
fn subject(arguments: &AskArguments) -> Result<String, Failure> {
    let name = &arguments.policy.name;
    Ok(match expected(arguments)? {
        Some(version) => format!("{name}@{version}"),
        None => format!("the version of {name} that took over by steps"),
    })
}

/// Data for programs, and for people a sentence and what to do next.
fn said(
    arguments: &AskArguments,
    answer: &wire::RolloutResponse,
    versions: &Versions,
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    let name = arguments.policy.name.as_str();
    let rollout = versions.rollout.as_ref();
    match session.format {
        Format::Json | Format::Yaml => session.write_message(answer)?,
        Format::Name => {
            let version = rollout.map(|rollout| rollout.version.generation).or(versions.in_force);
            let version = version.map(|version| format!("@{version}")).unwrap_or_default();
            session.terminal.data_line(&format!("{name}{version}"))?;
        }
        Format::Table | Format::Wide => {}
    }
    let line = match rollout {
        Some(rollout) => policy_rollout::sentence(rollout),
        None if answer.given_up.is_empty() => policy_rollout::in_force(name, versions.in_force),
        None => {
            let in_force = policy_rollout::in_force(name, versions.in_force);
            format!("{} was given up: {}; {in_force}", subject(arguments)?, printable(&answer.given_up))
        }
    };
    session.terminal.note(&line)?;
    note_next(name, versions, session)
}

fn note_next(name: &str, versions: &Versions, session: &mut Session<'_>) -> Result<(), Failure> {
    let next = match &versions.rollout {
        Some(rollout) => policy_rollout::next(rollout),
        None => format!("ctl policy show {name}"),
    };
    Ok(session.terminal.note(&format!("  next: {next}"))?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use model::rollout::Phase;
    use model::status::GraphStatus;
    use proto::status::refuse;
    use tonic::{Code, Status};

    use super::*;
    use crate::testing::{Answers, FakePolicies, PolicyAnswers, policy_rollout, rolling};

    fn summary(in_force: u64, rollout: Option<PolicyRolloutStatus>) -> wire::PolicySummary {
        wire::PolicySummary {
            name: "pii".to_owned(),
            generation: in_force,
            rollout: rollout.map(Into::into),
            ..wire::PolicySummary::default()
        }
    }

    fn answering() -> PolicyRolloutStatus {
        policy_rollout(Phase::Answering { since_ms: 0 }, "it answers where it was placed")
    }

    fn get(policy: wire::PolicySummary) -> wire::GetResponse {
        wire::GetResponse { policy: Some(policy), generations: vec![12, 9], ..wire::GetResponse::default() }
    }

    fn given_up(mut answer: wire::GetResponse) -> wire::GetResponse {
        answer.given_up = vec![wire::GivenUp { generation: 12, why: "an operator".to_owned() }];
        answer
    }

    /// A control plane that shows this, whose policy is this after what is asked, and whose graph is seen like this.
    fn fake(seen: Vec<wire::GetResponse>, after: wire::RolloutResponse, graph: &[GraphStatus]) -> FakePolicies {
        let watched: Vec<_> = graph.iter().cloned().map(proto::weft::graph::v1::GraphStatus::from).collect();
        let status = watched.last().cloned().unwrap_or_default();
        let graphs = Answers { status, watched, ..Answers::default() };
        FakePolicies::start(PolicyAnswers { seen, rolled: after, graphs, ..PolicyAnswers::default() })
    }

    fn after(policy: wire::PolicySummary) -> wire::RolloutResponse {
        wire::RolloutResponse { policy: Some(policy), given_up: String::new() }
    }

    /// The graph that is asked with the version, at a phase that is of it alone.
    fn graph(phase: Option<Phase>) -> GraphStatus {
        let policy_rollout = phase.map(|phase| policy_rollout(phase, "it answers where it was placed"));
        let status = rolling(crate::testing::rollout(Phase::Ending));
        GraphStatus { rollout: None, policy_rollout, ..status }
    }

    #[test]
    fn each_command_asks_for_what_it_says_and_tells_what_comes_of_it() {
        let paused = PolicyRolloutStatus { paused: Some("an operator".to_owned()), ..answering() };
        let second = PolicyRolloutStatus { step: 1, ..answering() };
        for (word, ask, rollout, said) in [
            (
                "pause",
                RolloutAsk::Pause,
                paused,
                "pii version 12 is paused at 5%, step 1 of 2: an operator\n  next: ctl policy rollout resume pii, or ",
            ),
            (
                "resume",
                RolloutAsk::Resume,
                answering(),
                "pii version 12 answers 5% for 5m: step 1 of 2, on 2 graphs\n  next: ctl policy rollout next pii, or ",
            ),
            (
                "next",
                RolloutAsk::Next,
                second,
                "pii version 12 answers 50% until it is promoted: step 2 of 2, on 2 graphs\n  next: ctl policy rollout \
                 promote pii, or ",
            ),
        ] {
            let fake = fake(Vec::new(), after(summary(9, Some(rollout))), &[]);
            let ran = fake.ctl(&["policy", "rollout", word, "pii", "--request-id", "ci-42"]);
            assert_eq!((ran.exit, ran.stdout.as_str()), (Exit::Done, ""), "{}", ran.stderr);
            assert_eq!(ran.stderr, format!("{said}ctl policy rollout revert pii\n"));
            let expected = wire::RolloutRequest {
                request_id: "ci-42".to_owned(),
                name: "pii".to_owned(),
                ask: ask.into(),
                expected_generation: None,
            };
            assert_eq!(fake.asked().rollouts, [expected]);
        }
    }

    #[test]
    fn a_version_that_is_named_is_expected() {
        let fake = fake(Vec::new(), after(summary(9, Some(answering()))), &[]);
        for arguments in [
            &["policy", "rollout", "next", "pii@12", "-o", "name"][..],
            &["policy", "rollout", "next", "pii", "--expected-generation", "12", "-o", "name"],
            &["policy", "rollout", "next", "pii@12", "--expected-generation", "12", "-o", "name"],
        ] {
            assert_eq!(fake.ctl(arguments).stdout, "pii@12\n");
            assert_eq!(fake.asked().rollouts.pop().unwrap().expected_generation, Some(12));
        }
        let ran = fake.ctl(&["policy", "rollout", "next", "pii@12", "--expected-generation", "11"]);
        assert_eq!((ran.exit, fake.asked().rollouts.len()), (Exit::Usage, 0), "{}", ran.stderr);
    }

    #[test]
    fn a_promoted_version_is_waited_for_until_its_graphs_serve_with_it() {
        let seen = vec![get(summary(9, Some(answering()))), get(summary(12, None))];
        let graphs = [graph(Some(Phase::Promoting)), graph(Some(Phase::Ending))];
        let control_plane = fake(seen, after(summary(12, None)), &graphs);
        let ran = control_plane.ctl(&["policy", "rollout", "promote", "pii", "-o", "json"]);
        assert_eq!(ran.exit, Exit::Done, "{}", ran.stderr);
        let written: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(written["policy"]["generation"], "12");
        for line in [
            " crm policy pii@12 is promoted\n",
            " crm serves generation 9 (1/1)\n",
            " in force after ",
            "\npii@12 is in force\n  next: ctl policy show pii\n",
        ] {
            assert!(ran.stderr.contains(line), "{line}: {}", ran.stderr);
        }
        assert_eq!(control_plane.asked().rollouts[0].ask(), RolloutAsk::Promote);

        let ran = control_plane.ctl(&["policy", "rollout", "promote", "pii", "--detach"]);
        assert_eq!(ran.stderr, "pii@12 is in force\n  next: ctl policy show pii\n");
    }

    #[test]
    fn a_promotion_of_what_was_given_up_meanwhile_has_failed() {
        let over = wire::RolloutResponse { given_up: "an operator".to_owned(), ..after(summary(9, None)) };
        let ran = fake(vec![get(summary(9, None))], over, &[]).ctl(&["policy", "rollout", "promote", "pii@12"]);
        assert_eq!(ran.exit, Exit::Failed);
        assert_eq!(
            ran.stderr,
            "error[rollout_reverted]: pii@12 was given up for all graphs: an operator; pii@9 is in force\n  next: ctl \
             policy rollout status pii\n"
        );
    }

    #[test]
    fn a_reverted_version_is_waited_for_until_its_candidates_are_let_go_of() {
        let over = wire::RolloutResponse { given_up: "an operator".to_owned(), ..after(summary(9, None)) };
        let seen = vec![get(summary(9, Some(answering()))), given_up(get(summary(9, None)))];
        let control_plane = fake(seen, over, &[graph(Some(Phase::Ending)), graph(None)]);
        let ran = control_plane.ctl(&["policy", "rollout", "revert", "pii@12"]);
        assert_eq!((ran.exit, ran.stdout.as_str()), (Exit::Done, ""), "{}", ran.stderr);
        let waited = " crm the candidate with policy pii@12 is let go of\n";
        assert!(ran.stderr.contains(waited), "{}", ran.stderr);
        let said = "pii@12 was given up: an operator; pii@9 is in force\n  next: ctl policy show pii\n";
        assert!(ran.stderr.ends_with(said), "{}", ran.stderr);
        assert_eq!(control_plane.asked().rollouts[0].ask(), RolloutAsk::Revert);

        let ran = control_plane.ctl(&["policy", "rollout", "revert", "pii@12"]);
        assert_eq!((ran.exit, ran.stderr.as_str()), (Exit::Done, said), "a repeat of one that is done");
    }

    #[test]
    fn a_status_tells_the_steps_or_that_there_are_none() {
        let rolling = fake(vec![get(summary(9, Some(answering())))], wire::RolloutResponse::default(), &[]);
        for name in ["pii", "pii@12"] {
            let ran = rolling.ctl(&["policy", "rollout", "status", name]);
            let first = "pii@12  answers 5% for 5m: step 1 of 2, on 2 graphs\n";
            assert!(ran.stdout.starts_with(first), "{}", ran.stdout);
            assert_eq!(ran.stderr, "  next: ctl policy rollout next pii, or ctl policy rollout revert pii\n");
        }
        let ran = rolling.ctl(&["policy", "rollout", "status", "pii@9"]);
        let other = "pii@9 is in force; pii version 12 answers 5% for 5m: step 1 of 2, on 2 graphs\n";
        assert_eq!(ran.stdout, other);
        assert_eq!(rolling.ctl(&["policy", "rollout", "status", "pii", "-q"]).stdout, "pii@12\n");
        let yaml = rolling.ctl(&["policy", "rollout", "status", "pii", "-o", "yaml"]).stdout;
        assert!(yaml.contains("phase: ROLLOUT_PHASE_ANSWERING"), "{yaml}");

        let over = given_up(get(summary(9, None)));
        let none = fake(vec![over], wire::RolloutResponse::default(), &[]);
        let ran = none.ctl(&["policy", "rollout", "status", "pii"]);
        let told = "pii@9 is in force; nothing takes over by steps\nversion 12 was given up: an operator\n";
        assert_eq!((ran.exit, ran.stdout.as_str()), (Exit::Done, told));
        assert_eq!(none.ctl(&["policy", "rollout", "status", "pii", "-q"]).stdout, "");
    }

    #[test]
    fn a_refusal_names_the_next_command() {
        let message = "no version of policy pii takes over by steps";
        let refusal: Status = refuse(Code::FailedPrecondition, "no_policy_rollout", message);
        let fake = FakePolicies::start(PolicyAnswers { refusal: Some(refusal), ..PolicyAnswers::default() });
        let ran = fake.ctl(&["policy", "rollout", "pause", "pii"]);
        assert_eq!(ran.exit, Exit::Failed);
        assert_eq!(
            ran.stderr,
            format!("error[no_policy_rollout]: {message}\n  next: ctl policy rollout status pii\n")
        );
    }
}
