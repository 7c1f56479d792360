//! `ctl rollout`: revisions that take over by steps: how far one is, and what becomes of it.

use std::time::Instant;

use clap::{Args, Subcommand};
use model::id::{GraphKey, RevisionNumber};
use model::rollout::Ask;
use model::status::GraphStatus;
use proto::convert::required;
use proto::weft::graph::v1 as wire;

use crate::cli::{Format, MutationFlags};
use crate::client::{CallError, Services};
use crate::clock::now_ms;
use crate::command::deploy;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::follow::{self, End, Goal, Wanted};
use crate::lookup;
use crate::reference::{GraphReference, short};
use crate::render;
use crate::session::Session;
use crate::watch::Seen;

/// Arguments of `rollout`.
#[derive(Debug, Args)]
pub struct RolloutArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: RolloutCommand,
}

/// What to do with a revision that takes over by steps.
#[derive(Debug, Subcommand)]
pub enum RolloutCommand {
    /// Shows how far it is: its steps, and how it and the revision before are.
    Status(StatusArguments),
    /// Lets it stay at its step.
    Pause(AskArguments),
    /// Lets it go on that was paused.
    Resume(AskArguments),
    /// Lets it go to its next step now, from the last one to everything; also where it waits to be promoted.
    Next(AskArguments),
    /// Lets it answer everything now, and waits until it does.
    Promote(EndArguments),
    /// Gives it up: the revision before answers everything again. Waits until it is let go of.
    Revert(EndArguments),
}

/// Arguments of `rollout status`.
#[derive(Debug, Args)]
pub struct StatusArguments {
    /// The graph, `[namespace/]graph`.
    pub graph: GraphReference,
}

/// Arguments of what changes how far a revision is.
#[derive(Debug, Args)]
pub struct AskArguments {
    /// The graph, `[namespace/]graph`; `@revision` refuses unless it is that revision which takes over.
    pub graph: GraphReference,
    /// Refuse unless it is this revision that takes over.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub expected_revision: Option<u64>,
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
pub async fn run(arguments: RolloutArguments, session: &mut Session<'_>) -> Result<Exit, Failure> {
    match arguments.command {
        RolloutCommand::Status(arguments) => status(&arguments, session).await?,
        RolloutCommand::Pause(arguments) => change(&arguments, Ask::Pause, session).await?,
        RolloutCommand::Resume(arguments) => change(&arguments, Ask::Resume, session).await?,
        RolloutCommand::Next(arguments) => change(&arguments, Ask::Next, session).await?,
        RolloutCommand::Promote(arguments) => promote(&arguments, session).await?,
        RolloutCommand::Revert(arguments) => revert(&arguments, session).await?,
    }
    Ok(Exit::Done)
}

async fn status(arguments: &StatusArguments, session: &mut Session<'_>) -> Result<(), Failure> {
    if arguments.graph.revision.is_some() {
        let message = "`rollout status` shows the revision that takes over: write the graph alone";
        return Err(Failure::Usage(message.to_owned()));
    }
    let key = arguments.graph.key(&session.namespace);
    let answer = lookup::graph(&session.client, &key, 0).await?;
    let seen = read(answer.status)?;
    let name = short(&key);
    match session.format {
        Format::Json | Format::Yaml => session.write_message(&seen.wire),
        Format::Name => match &seen.status.rollout {
            Some(rollout) => Ok(session.terminal.data_line(&format!("{name}@{}", rollout.revision))?),
            None => Ok(()),
        },
        Format::Table | Format::Wide => {
            let status = &seen.status;
            let mut text = match &status.rollout {
                Some(rollout) => render::rollout::page(status, rollout, now_ms()),
                None => {
                    let state = render::status::sentence(&status.state);
                    let what = match &status.policy_rollout {
                        Some(_) => "has no steps of its own",
                        None => "answers everything",
                    };
                    format!("{name}@{} {what}: {state}\n", status.revision)
                }
            };
            if let Some(policy) = &status.policy_rollout {
                text.push_str(&format!("{}\n", render::policy_rollout::of_graph(policy)));
            }
            if let Some(reverted) = &status.reverted {
                text.push_str(&format!("{}\n", render::rollout::given_up(reverted)));
            }
            session.terminal.data(&text)?;
            note_next(&name, status, session)
        }
    }
}

/// Changes how far a revision is, and says how far it is then.
async fn change(arguments: &AskArguments, ask: Ask, session: &mut Session<'_>) -> Result<(), Failure> {
    let (key, seen) = send(arguments, ask, session).await?;
    said(&key, &seen, session)
}

async fn promote(arguments: &EndArguments, session: &mut Session<'_>) -> Result<(), Failure> {
    let start = Instant::now();
    let (key, seen) = send(&arguments.ask, Ask::Promote, session).await?;
    if arguments.detach {
        return said(&key, &seen, session);
    }
    let revision = taking_over(&seen.status);
    let goal = Goal { key, generation: seen.status.generation, wanted: Wanted::Promoted(revision) };
    match follow::until_reached(session, &goal).await? {
        End::Reached(seen) | End::AtStep(seen, _) => deploy::serves(session, revision, &seen, start),
    }
}

async fn revert(arguments: &EndArguments, session: &mut Session<'_>) -> Result<(), Failure> {
    let (key, seen) = send(&arguments.ask, Ask::Revert, session).await?;
    if arguments.detach {
        return said(&key, &seen, session);
    }
    let revision = seen.status.rollout.as_ref().map(|rollout| rollout.revision);
    let Some(revision) = revision else { return said(&key, &seen, session) };
    let goal = Goal { key, generation: seen.status.generation, wanted: Wanted::Reverted(revision) };
    match follow::until_reached(session, &goal).await? {
        End::Reached(seen) | End::AtStep(seen, _) => said(&goal.key, &seen, session),
    }
}

/// The revision that takes over, or has done so.
fn taking_over(status: &GraphStatus) -> RevisionNumber {
    status.rollout.as_ref().map_or(status.revision, |rollout| rollout.revision)
}

/// Asks for it; what the graph is after it.
async fn send(arguments: &AskArguments, ask: Ask, session: &Session<'_>) -> Result<(GraphKey, Seen), Failure> {
    let key = arguments.graph.key(&session.namespace);
    let request = wire::RolloutRequest {
        request_id: String::new(),
        graph: key.to_string(),
        ask: wire::RolloutAsk::from(ask).into(),
        expected_revision: expected(arguments)?,
    };
    let call = |services: Services, request_id: String| {
        let request = wire::RolloutRequest { request_id, ..request.clone() };
        async move { services.graphs().rollout(request).await }
    };
    let answer = session.client.mutate(arguments.mutation.request_id.as_ref(), call).await;
    let answer = answer.map_err(|error| next_step(error.into(), &key))?;
    Ok((key, read(answer.status)?))
}

/// Where something else takes over, or nothing does, what there is is looked at first.
fn next_step(failure: Failure, key: &GraphKey) -> Failure {
    let is_elsewhere = |reason: &str| matches!(reason, "no_rollout" | "not_paused" | "generation_conflict");
    match &failure {
        Failure::Refused { reason: Some(reason), next: None, .. } if is_elsewhere(reason) => {
            failure.next(format!("ctl rollout status {}", short(key)))
        }
        _ => failure,
    }
}

/// The revision that must be the one which takes over: by the flag, or behind the name of the graph.
fn expected(arguments: &AskArguments) -> Result<Option<u64>, Failure> {
    let named = arguments.graph.revision.map(|number| number.0);
    match (named, arguments.expected_revision) {
        (Some(named), Some(flag)) if named != flag => {
            let message =
                format!("the graph is named at revision {named}, and --expected-revision says {flag}");
            Err(Failure::Usage(message))
        }
        (named, flag) => Ok(named.or(flag)),
    }
}

fn read(status: Option<wire::GraphStatus>) -> Result<Seen, CallError> {
    let wire = required("status", status)?;
    let status = GraphStatus::try_from(wire.clone())?;
    Ok(Seen { wire, status })
}

/// Data for programs, and for people a sentence and what to do next.
fn said(key: &GraphKey, seen: &Seen, session: &mut Session<'_>) -> Result<(), Failure> {
    let (name, status) = (short(key), &seen.status);
    match session.format {
        Format::Json | Format::Yaml => session.write_message(&seen.wire)?,
        Format::Name => session.terminal.data_line(&format!("{name}@{}", taking_over(status)))?,
        Format::Table | Format::Wide => {}
    }
    let mut lines = render::rollout::sentences(status);
    if status.rollout.is_none() {
        lines.push(format!("revision {} answers everything", status.revision));
    }
    session.terminal.note(&format!("{name}: {}", lines.join("; ")))?;
    note_next(&name, status, session)
}

fn note_next(name: &str, status: &GraphStatus, session: &mut Session<'_>) -> Result<(), Failure> {
    let next = match (&status.rollout, &status.reverted) {
        (Some(rollout), _) => render::rollout::next(name, rollout),
        (None, reverted) => match (render::rollout::look(status), reverted) {
            (Some(look), _) => look,
            (None, Some(_)) => format!("ctl events {name}"),
            (None, None) => format!("ctl history {name}"),
        },
    };
    Ok(session.terminal.note(&format!("  next: {next}"))?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use model::rollout::{Phase, Reverted, RolloutStatus};
    use proto::status::refuse;
    use tonic::Code;

    use super::*;
    use crate::testing::{Answers, FakeGraphs, policy_rollout, rolling, rollout};

    fn answering() -> GraphStatus {
        rolling(rollout(Phase::Answering { since_ms: 0 }))
    }

    fn fake(after: &GraphStatus, watched: &[GraphStatus]) -> FakeGraphs {
        FakeGraphs::start(Answers {
            status: after.clone().into(),
            watched: watched.iter().cloned().map(Into::into).collect(),
            ..Answers::default()
        })
    }

    #[test]
    fn each_command_asks_for_what_it_says_and_tells_what_comes_of_it() {
        let paused = rolling(RolloutStatus {
            paused: Some("an operator".to_owned()),
            ..rollout(Phase::Answering { since_ms: 0 })
        });
        for (word, ask, after, line) in [
            (
                "pause",
                wire::RolloutAsk::Pause,
                paused,
                "crm: revision 4 is paused at 10%, step 2 of 3: an operator",
            ),
            (
                "resume",
                wire::RolloutAsk::Resume,
                answering(),
                "crm: revision 4 answers 10% for 1m: step 2 of 3",
            ),
            ("next", wire::RolloutAsk::Next, answering(), "crm: revision 4 answers 10% for 1m: step 2 of 3"),
        ] {
            let fake = fake(&after, &[]);
            let ran = fake.ctl(&["rollout", word, "crm", "--request-id", "ci-42"]);
            assert_eq!((ran.exit, ran.stdout.as_str()), (Exit::Done, ""), "{}", ran.stderr);
            assert!(ran.stderr.starts_with(line), "{}", ran.stderr);
            assert!(ran.stderr.contains("\n  next: ctl rollout "), "{}", ran.stderr);
            let asked = fake.asked().rollouts.clone();
            let expected = wire::RolloutRequest {
                request_id: "ci-42".to_owned(),
                graph: "default/crm".to_owned(),
                ask: ask.into(),
                expected_revision: None,
            };
            assert_eq!(asked, [expected]);
        }
    }

    #[test]
    fn a_revision_that_is_named_is_expected() {
        let fake = fake(&answering(), &[]);
        for arguments in [
            &["rollout", "next", "sales/crm@4", "-o", "name"][..],
            &["rollout", "next", "sales/crm", "--expected-revision", "4", "-o", "name"],
            &["rollout", "next", "sales/crm@4", "--expected-revision", "4", "-o", "name"],
        ] {
            assert_eq!(fake.ctl(arguments).stdout, "sales/crm@4\n");
            let asked = fake.asked().rollouts.pop().unwrap();
            assert_eq!((asked.graph.as_str(), asked.expected_revision), ("sales/crm", Some(4)));
        }
        let ran = fake.ctl(&["rollout", "next", "crm@4", "--expected-revision", "5"]);
        assert_eq!((ran.exit, fake.asked().rollouts.len()), (Exit::Usage, 0), "{}", ran.stderr);
    }

    #[test]
    fn a_promoted_revision_is_waited_for_until_it_serves() {
        let promoted = |phase, state| GraphStatus {
            revision: RevisionNumber(4),
            generation: model::id::Generation(21),
            state,
            ..rolling(rollout(phase))
        };
        let compiling = model::status::GraphState::Starting { phase: "compiling".to_owned(), serving: None };
        let serving = promoted(Phase::Ending, model::status::GraphState::Serving);
        let after = promoted(Phase::Promoting, compiling);
        let control_plane = fake(&after, &[answering(), after.clone(), serving]);
        let ran = control_plane.ctl(&["rollout", "promote", "crm"]);
        assert_eq!(
            (ran.exit, ran.stdout.as_str()),
            (Exit::Done, "http://crm.localhost:8000/\n"),
            "{}",
            ran.stderr
        );
        for line in [
            " crm revision 4 answers 10% for 1m: step 2 of 3\n",
            " crm revision 4 is promoted: compiling\n",
            " crm@4 serves on n1 after ",
        ] {
            assert!(ran.stderr.contains(line), "{line}: {}", ran.stderr);
        }
        assert_eq!(control_plane.asked().rollouts[0].ask(), wire::RolloutAsk::Promote);

        let ran = fake(&after, &[]).ctl(&["rollout", "promote", "crm", "--detach"]);
        assert_eq!(ran.stderr, "crm: revision 4 is promoted\n  next: ctl status crm --watch\n");
    }

    #[test]
    fn a_reverted_revision_is_waited_for_until_it_is_let_go_of() {
        let ending = GraphStatus {
            revision: RevisionNumber(5),
            reverted: Some(Reverted { revision: RevisionNumber(4), why: "an operator".to_owned() }),
            ..rolling(rollout(Phase::Ending))
        };
        let over = GraphStatus { rollout: None, ..ending.clone() };
        let control_plane = fake(&ending, &[ending.clone(), over.clone()]);
        let ran = control_plane.ctl(&["rollout", "revert", "crm", "-o", "json"]);
        assert_eq!(ran.exit, Exit::Done, "{}", ran.stderr);
        let written: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!((&written["revision"], &written["rollout"]), (&"5".into(), &serde_json::Value::Null));
        assert!(ran.stderr.contains(" crm the candidate of revision 4 is let go of\n"), "{}", ran.stderr);
        let said = "crm: revision 4 was given up: an operator; revision 5 answers everything\n  next: ctl events crm\n";
        assert!(ran.stderr.ends_with(said), "{}", ran.stderr);
        assert_eq!(control_plane.asked().rollouts[0].ask(), wire::RolloutAsk::Revert);

        let ran = fake(&over, &[]).ctl(&["rollout", "revert", "crm"]);
        assert_eq!((ran.exit, ran.stderr.as_str()), (Exit::Done, said), "a repeat of one that is done");
    }

    #[test]
    fn a_status_tells_the_steps_or_that_there_are_none() {
        let rolling = fake(&answering(), &[]);
        let ran = rolling.ctl(&["rollout", "status", "crm"]);
        assert!(ran.stdout.starts_with("crm@4  answers 10% for 1m: step 2 of 3\n"), "{}", ran.stdout);
        assert_eq!(ran.stderr, "  next: ctl rollout next crm, or ctl rollout revert crm\n");
        assert_eq!(rolling.ctl(&["rollout", "status", "crm", "-q"]).stdout, "crm@4\n");
        let yaml = rolling.ctl(&["rollout", "status", "crm", "-o", "yaml"]).stdout;
        assert!(yaml.contains("phase: ROLLOUT_PHASE_ANSWERING"), "{yaml}");

        let reverted = Some(Reverted { revision: RevisionNumber(2), why: "too slow".to_owned() });
        let none = fake(&GraphStatus { rollout: None, reverted, ..answering() }, &[]);
        let ran = none.ctl(&["rollout", "status", "crm"]);
        assert_eq!(
            (ran.exit, ran.stdout.as_str()),
            (Exit::Done, "crm@3 answers everything: serving\nrevision 2 was given up: too slow\n")
        );
        assert_eq!(none.ctl(&["rollout", "status", "crm", "-q"]).stdout, "");

        let policy = policy_rollout(Phase::Answering { since_ms: 0 }, "it answers where it was placed");
        let asked = GraphStatus { rollout: None, policy_rollout: Some(policy), ..answering() };
        let ran = fake(&asked, &[]).ctl(&["rollout", "status", "crm"]);
        assert_eq!(
            ran.stdout,
            "crm@3 has no steps of its own: serving\npolicy pii@12 answers 5% for 5m: step 1 of 2; with it, it answers \
             where it was placed\n"
        );
        assert_eq!(ran.stderr, "  next: ctl policy rollout status pii\n");
        assert_eq!(none.ctl(&["rollout", "status", "crm@3"]).exit, Exit::Usage);
    }

    #[test]
    fn a_refusal_names_the_next_command() {
        let refusal =
            refuse(Code::FailedPrecondition, "no_rollout", "nothing takes over by steps in default/crm");
        let fake = FakeGraphs::start(Answers { refusal: Some(refusal), ..Answers::default() });
        let ran = fake.ctl(&["rollout", "pause", "crm"]);
        assert_eq!(ran.exit, Exit::Failed);
        assert_eq!(
            ran.stderr,
            "error[no_rollout]: nothing takes over by steps in default/crm\n  next: ctl rollout status crm\n"
        );
    }
}
