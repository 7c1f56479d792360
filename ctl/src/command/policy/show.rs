//! `ctl policy show`: one policy: its manifest, its versions, the links it stands on.

use clap::Args;
use proto::convert::required;
use proto::weft::policy::v1 as wire;

use super::reference::PolicyReference;
use crate::cli::Format;
use crate::client::{CallError, Client, Services};
use crate::clock::now_ms;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::time;
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
    let is_in_force = |generation: u64| answer.generations.first() == Some(&generation);
    let versions: Vec<String> = answer
        .generations
        .iter()
        .map(|generation| format!("{generation}{}", if is_in_force(*generation) { " (in force)" } else { "" }))
        .collect();
    out.push_str(&format!("versions: {}\n", versions.join(", ")));
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
    use super::*;

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
            }),
            manifest: "version: 1\npolicy: pii-firewall".to_owned(),
            generations: vec![12, 8],
            links: vec!["default/crm app -> [pii-firewall] -> db (fermyon:spin/sqlite@2.0.0)".to_owned()],
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
}
