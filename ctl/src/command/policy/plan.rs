//! `ctl policy plan`: what a policy would do, without doing it.

use std::path::PathBuf;

use clap::Args;
use model::id::GraphKey;
use model::rollout::Step;
use proto::weft::policy::v1 as wire;

use crate::cli::Format;
use crate::client::{CallError, Services};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::manifest::{self, Document, SourceFiles};
use crate::reference::short;
use crate::render::policy_rollout::{self, graphs};
use crate::session::Session;

/// Arguments of `policy plan`.
#[derive(Debug, Args)]
pub struct PlanArguments {
    /// The policy's manifest.
    pub file: PathBuf,
    /// End with 2 if some graph would be linked otherwise.
    #[arg(long)]
    pub exit_code: bool,
}

/// A policy as read from files, its components uploaded.
pub(super) struct Prepared {
    /// The manifest.
    pub(super) document: Document,
    files: SourceFiles,
}

impl Prepared {
    /// Reads a policy and what it names, and uploads what the control plane lacks.
    pub(super) async fn read(file: &std::path::Path, session: &mut Session<'_>) -> Result<Self, Failure> {
        let color = session.terminal.look().color;
        let document = Document::read(file)?;
        let policy = document.policy(color)?;
        let files = document
            .read_sources(&manifest::policy_sources(&policy))
            .map_err(|found| document.refuse(&found, color))?;
        let uploaded = manifest::upload(&session.client, &files).await?;
        if uploaded.files > 0 {
            let plural = if uploaded.files == 1 { "" } else { "s" };
            let line = format!("uploaded {} file{plural}, {} bytes", uploaded.files, uploaded.bytes);
            session.terminal.progress(&line)?;
        }
        Ok(Self { document, files })
    }

    /// The request to apply it; its id is filled in at each try.
    pub(super) fn request(&self) -> wire::ApplyRequest {
        wire::ApplyRequest {
            request_id: String::new(),
            manifest: self.document.text(),
            artifacts: manifest::artifacts(&self.files),
            at_once: false,
        }
    }

    /// Asks what it would do.
    pub(super) async fn plan(&self, session: &Session<'_>) -> Result<wire::PlanResponse, CallError> {
        let request =
            wire::PlanRequest { manifest: self.document.text(), artifacts: manifest::artifacts(&self.files) };
        let call = |services: Services| {
            let request = request.clone();
            async move { services.policies().plan(request).await }
        };
        session.client.read(call).await
    }
}

/// Plans.
pub(super) async fn run(arguments: PlanArguments, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let prepared = Prepared::read(&arguments.file, session).await?;
    let color = session.terminal.look().color;
    let plan = prepared.plan(session).await.map_err(|error| prepared.document.refused(error, color))?;
    for warning in &plan.warnings {
        session.terminal.warning(warning)?;
    }
    match session.format {
        Format::Json | Format::Yaml => session.write_message(&plan)?,
        Format::Name => {
            for effect in &plan.effects {
                session.terminal.data_line(&effect.graph)?;
            }
        }
        Format::Table | Format::Wide => session.terminal.data(&text(&plan)?)?,
    }
    if !plan.refused.is_empty() {
        session
            .terminal
            .note("  it would be refused as a whole: nothing is changed while a graph is blocked")?;
        return Ok(Exit::Failed);
    }
    session.terminal.note(&format!("  next: ctl policy apply {}", arguments.file.display()))?;
    Ok(if arguments.exit_code && !plan.effects.is_empty() { Exit::Changes } else { Exit::Done })
}

fn text(plan: &wire::PlanResponse) -> Result<String, CallError> {
    let steps = plan.steps.iter().map(|step| Step::try_from(*step)).collect::<Result<Vec<_>, _>>()?;
    let mut out = match (plan.effects.len(), plan.refused.len()) {
        (0, 0) => format!("policy {} would change no graph\n", plan.name),
        (changed, 0) => format!("policy {} would change {}\n", plan.name, graphs(changed)),
        (changed, blocked) => {
            format!("policy {} would change {} and block {}\n", plan.name, graphs(changed), graphs(blocked))
        }
    };
    // Where it could not be applied so at this moment, a warning says why.
    if plan.refused.is_empty() && plan.warnings.is_empty() {
        out.push_str(&format!("it would take over {}\n", policy_rollout::steps(&steps)));
    }
    for effect in &plan.effects {
        out.push_str(&lines_of(effect, ""));
    }
    for effect in &plan.refused {
        out.push_str(&lines_of(effect, " blocked"));
    }
    Ok(out)
}

/// A graph, and a line for each thing that would happen to it.
pub(super) fn lines_of(effect: &wire::GraphEffect, mark: &str) -> String {
    let name = effect.graph.parse::<GraphKey>().map_or_else(|_| effect.graph.clone(), |key| short(&key));
    let mut out = format!("  {name}{mark}\n");
    for line in effect.lines.iter().flat_map(|line| line.lines()) {
        out.push_str(&format!("    {line}\n"));
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::{FakePolicies, PolicyAnswers};

    fn effect(graph: &str, lines: &[&str]) -> wire::GraphEffect {
        wire::GraphEffect {
            graph: graph.to_owned(),
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
        }
    }

    #[test]
    fn a_plan_names_what_changes_and_what_is_blocked() {
        let plan = wire::PlanResponse {
            name: "pii".to_owned(),
            effects: vec![effect("default/crm", &["~ link app a:b/c@1.0.0: app -> db => app -> [pii] -> db"])],
            refused: vec![effect("hr/pay", &["policy pii cannot stand on an import of pay: no"])],
            ..wire::PlanResponse::default()
        };
        insta::assert_snapshot!(text(&plan).unwrap(), @"
        policy pii would change 1 graph and block 1 graph
          crm
            ~ link app a:b/c@1.0.0: app -> db => app -> [pii] -> db
          hr/pay blocked
            policy pii cannot stand on an import of pay: no
        ");
        let none = wire::PlanResponse { name: "pii".to_owned(), ..wire::PlanResponse::default() };
        assert_eq!(text(&none).unwrap(), "policy pii would change no graph\nit would take over at once\n");
    }

    #[test]
    fn a_plan_says_by_which_steps_it_would_take_over() {
        let step = |share: &str, hold| Step { share: share.parse().unwrap(), hold };
        let steps = [step("5%", Some(Duration::from_mins(5))), step("50%", None)];
        let planned = wire::PlanResponse {
            name: "pii".to_owned(),
            effects: vec![effect("default/crm", &["~ link app a:b/c@1.0.0: app -> db => app -> [pii] -> db"])],
            steps: steps.map(Into::into).into(),
            ..wire::PlanResponse::default()
        };
        let fake = FakePolicies::start(PolicyAnswers { planned, ..PolicyAnswers::default() });
        let ran = fake.ctl(&["policy", "plan", &fake.manifest()]);
        insta::assert_snapshot!(ran.stdout, @"
        policy pii would change 1 graph
        it would take over by steps: 5% for 5m, then 50% until it is promoted
          crm
            ~ link app a:b/c@1.0.0: app -> db => app -> [pii] -> db
        ");
    }
}
