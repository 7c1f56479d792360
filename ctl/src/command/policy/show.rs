//! `ctl policy show`: one policy: its manifest, its versions, the links it stands on.

use clap::Args;
use proto::convert::required;
use proto::weft::policy::v1 as wire;

use super::reference::PolicyReference;
use super::versions::Versions;
use crate::cli::Format;
use crate::client::{CallError, Client, Services};
use crate::clock::now_ms;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::{policy_rollout, time};
use crate::session::Session;

/// Arguments of `policy show`.
#[derive(Debug, Args)]
pub struct ShowArguments {
    /// The policy, `name[@generation]`; the version in force if none is named.
    #[arg(value_name = "POLICY")]
    pub policy: PolicyReference,
}

/// Asks for a version of a policy; 0 is the one in force.
pub(super) async fn get(client: &Client, name: &str, generation: u64) -> Result<wire::GetResponse, CallError> {
    let call = |services: Services| {
        let request = wire::GetRequest { name: name.to_owned(), generation };
        async move { services.policies().get(request).await }
    };
    client.read(call).await
}

/// Shows.
pub(super) async fn run(arguments: ShowArguments, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let reference = arguments.policy;
    let answer = get(&session.client, reference.name.as_str(), reference.generation).await?;
    match session.format {
        Format::Json | Format::Yaml => session.write_message(&answer)?,
        Format::Name => session.terminal.data_line(reference.name.as_str())?,
        Format::Table | Format::Wide => {
            let text = page(&answer, now_ms())?;
            session.terminal.data(&text)?;
        }
    }
    Ok(Exit::Done)
}

fn page(answer: &wire::GetResponse, now_ms: u64) -> Result<String, Failure> {
    let policy = required("policy", answer.policy.clone()).map_err(CallError::Answer)?;
    let mandatory = if policy.mandatory { ", mandatory" } else { "" };
    let mut out = format!(
        "{}@{}  {}, {} {}{mandatory}, on {}, applied {} ago\n",
        policy.name,
        policy.generation,
        policy.mode,
        policy.phase,
        policy.priority,
        policy.interface,
        time::age(policy.applied_at_ms, now_ms)
    );
    let versions = Versions::of_answer(answer)?;
    let marked = |version: &u64| format!("{version}{}", versions.mark(*version, &answer.given_up));
    let marked: Vec<String> = answer.generations.iter().map(marked).collect();
    out.push_str(&format!("versions: {}\n", marked.join(", ")));
    if versions.in_force.is_none() {
        out.push_str(&format!("{}\n", policy_rollout::in_force(&policy.name, None)));
    }
    for version in &answer.given_up {
        out.push_str(&format!("{}\n", policy_rollout::given_up(version)));
    }
    if let Some(rollout) = &versions.rollout {
        out.push_str(&policy_rollout::page(rollout, now_ms));
    }
    // Links are of what is in force, whichever version is shown.
    match answer.links.len() {
        0 => out.push_str("links: none\n"),
        _ => out.push_str("links:\n"),
    }
    for link in &answer.links {
        out.push_str(&format!("  {link}\n"));
    }
    out.push_str(&format!("\n{}", answer.manifest));
    if !out.ends_with('\n') {
        out.push('\n');
    }
    Ok(out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use model::rollout::Phase;

    use super::*;
    use crate::testing::policy_rollout;

    #[test]
    fn a_policy_has_a_page() {
        let answer = wire::GetResponse {
            policy: Some(wire::PolicySummary {
                name: "pii-firewall".to_owned(),
                generation: 8,
                applied_at_ms: 1_000,
                mode: "enforce".to_owned(),
                interface: "fermyon:spin/sqlite@2".to_owned(),
                phase: "inspect".to_owned(),
                priority: 100,
                mandatory: true,
                links: 1,
                ..wire::PolicySummary::default()
            }),
            manifest: "version: 1\npolicy: pii-firewall".to_owned(),
            generations: vec![12, 8],
            links: vec!["default/crm app -> [pii-firewall] -> db (fermyon:spin/sqlite@2.0.0)".to_owned()],
            given_up: Vec::new(),
        };
        insta::assert_snapshot!(page(&answer, 61_000).unwrap(), @"
        pii-firewall@8  enforce, inspect 100, mandatory, on fermyon:spin/sqlite@2, applied 1m ago
        versions: 12 (in force), 8
        links:
          default/crm app -> [pii-firewall] -> db (fermyon:spin/sqlite@2.0.0)

        version: 1
        policy: pii-firewall
        ");
    }

    #[test]
    fn a_page_tells_what_takes_over_and_what_was_given_up() {
        let rollout = policy_rollout(Phase::Answering { since_ms: 1_000 }, "it answers where it was placed");
        let policy = wire::PolicySummary {
            name: "pii".to_owned(),
            generation: 9,
            applied_at_ms: 1_000,
            mode: "enforce".to_owned(),
            interface: "a:b/c".to_owned(),
            phase: "inspect".to_owned(),
            rollout: Some(rollout.into()),
            ..wire::PolicySummary::default()
        };
        let mut answer = wire::GetResponse {
            policy: Some(policy.clone()),
            manifest: "policy: pii".to_owned(),
            generations: vec![12, 11, 9, 8],
            links: Vec::new(),
            given_up: vec![wire::GivenUp { generation: 11, why: "it was\nslow".to_owned() }],
        };
        insta::assert_snapshot!(page(&answer, 61_000).unwrap(), @"
        pii@9  enforce, inspect 0, on a:b/c, applied 1m ago
        versions: 12 (takes over by steps), 11 (given up), 9 (in force), 8
        version 11 was given up: it was slow
        pii@12  answers 5% for 5m: step 1 of 2, on 2 graphs
          since      1m ago
          stable     pii@9, in force for the rest
          candidate  crm: it answers where it was placed
          candidate  and 1 more
          now        step 1: 5% for 5m
          to come    step 2: 50% until it is promoted
        links: none

        policy: pii
        ");
        answer.policy = Some(wire::PolicySummary { rollout: None, ..policy.clone() });
        answer.generations = vec![11, 9];
        let told = page(&answer, 61_000).unwrap();
        assert!(told.contains("\nversions: 11 (given up), 9 (in force)\nversion 11 was given up"), "{told}");
        answer.policy = Some(wire::PolicySummary { rollout: None, not_in_force: true, ..policy });
        answer.generations = vec![11];
        let told = page(&answer, 61_000).unwrap();
        assert!(told.contains("\nversions: 11 (given up)\nno version of pii is in force\n"), "{told}");
    }
}
