//! `ctl policy list`: the policies there are.

use proto::weft::policy::v1 as wire;

use super::versions::Versions;
use crate::cli::Format;
use crate::client::{CallError, Client, Services};
use crate::clock::now_ms;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::table::Table;
use crate::render::time;
use crate::session::Session;

/// Asks for all of them.
pub(super) async fn all(client: &Client) -> Result<wire::ListResponse, CallError> {
    client.read(|services: Services| async move { services.policies().list(wire::ListRequest {}).await }).await
}

/// Lists.
pub(super) async fn run(session: &mut Session<'_>) -> Result<Exit, Failure> {
    let answer = all(&session.client).await?;
    match session.format {
        Format::Json | Format::Yaml => session.write_message(&answer)?,
        Format::Name => {
            for policy in &answer.policies {
                session.terminal.data_line(&policy.name)?;
            }
        }
        Format::Table | Format::Wide => {
            let table = table(&answer.policies, now_ms())?;
            session.write_table(&table, "there are no policies")?;
        }
    }
    Ok(Exit::Done)
}

fn table(policies: &[wire::PolicySummary], now_ms: u64) -> Result<Table, CallError> {
    let header = ["NAME", "GENERATION", "MODE", "INTERFACE", "ORDER", "MANDATORY", "LINKS", "AGE"];
    let mut table = Table::new(header);
    for policy in policies {
        table.row([
            policy.name.clone(),
            Versions::of_summary(policy)?.cell(),
            policy.mode.clone(),
            policy.interface.clone(),
            format!("{} {}", policy.phase, policy.priority),
            if policy.mandatory { "yes" } else { "no" }.to_owned(),
            policy.links.to_string(),
            time::age(policy.applied_at_ms, now_ms),
        ]);
    }
    Ok(table)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use model::rollout::{Phase, PolicyRolloutStatus};

    use super::*;
    use crate::testing::policy_rollout;

    #[test]
    fn policies_are_listed() {
        let policy = wire::PolicySummary {
            name: "pii-firewall".to_owned(),
            generation: 12,
            applied_at_ms: 1_000,
            mode: "enforce".to_owned(),
            interface: "fermyon:spin/sqlite@2".to_owned(),
            phase: "inspect".to_owned(),
            priority: 100,
            mandatory: true,
            links: 1,
            ..wire::PolicySummary::default()
        };
        insta::assert_snapshot!(table(std::slice::from_ref(&policy), 61_000).unwrap().render(None), @"
        NAME          GENERATION  MODE     INTERFACE              ORDER        MANDATORY  LINKS  AGE
        pii-firewall  12          enforce  fermyon:spin/sqlite@2  inspect 100  yes        1      1m
        ");

        let cell = |policy: &wire::PolicySummary| Versions::of_summary(policy).unwrap().cell();
        let rollout = policy_rollout(Phase::Answering { since_ms: 0 }, "it answers where it was placed");
        let by_steps = wire::PolicySummary { rollout: Some(rollout.clone().into()), ..policy.clone() };
        assert_eq!(cell(&by_steps), "9, version 12 at 5%");
        let first = PolicyRolloutStatus { stable: None, ..rollout };
        let first = wire::PolicySummary { rollout: Some(first.into()), not_in_force: true, ..policy.clone() };
        assert_eq!(cell(&first), "none, version 12 at 5%");
        assert_eq!(cell(&wire::PolicySummary { not_in_force: true, ..policy }), "none");
    }
}
