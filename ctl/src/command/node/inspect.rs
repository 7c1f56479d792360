//! `ctl node inspect`: everything about one node.

use clap::Args;
use model::node::Capacity;
use model::reserve::Reserve;
use proto::convert::required;
use proto::weft::node::v1 as wire;

use super::{heard, labels, memory, name, state};
use crate::cli::Format;
use crate::client::{CallError, Services};
use crate::clock::now_ms;
use crate::command::why::recent;
use crate::failure::Failure;
use crate::render::table::{Table, printable};
use crate::render::time;
use crate::session::Session;

/// Events shown of a node.
const EVENTS_SHOWN: usize = 10;

/// Arguments of `node inspect`.
#[derive(Debug, Args)]
pub struct InspectArguments {
    /// The node.
    pub name: String,
}

/// Shows it.
pub(super) async fn run(arguments: &InspectArguments, session: &mut Session<'_>) -> Result<(), Failure> {
    let call = |services: Services| {
        let request = wire::GetRequest { name: arguments.name.clone() };
        async move { services.nodes().get(request).await }
    };
    let node = session.client.read(call).await?;
    match session.format {
        Format::Json | Format::Yaml => session.write_message(&node),
        Format::Name => Ok(session.terminal.data_line(name(&node))?),
        Format::Table | Format::Wide => {
            let subject = format!("node/{}", name(&node));
            let events = recent::events(&session.client, &subject, EVENTS_SHOWN).await?;
            let text = page(&node, session.terminal.look().width, now_ms())?;
            session.terminal.data(&text)?;
            recent::show(&events, session)
        }
    }
}

fn page(node: &wire::Node, width: Option<u16>, now_ms: u64) -> Result<String, Failure> {
    let description = required("description", node.description.clone())
        .map_err(|error| Failure::from(CallError::Answer(error)))?;
    let since = time::age(node.changed_at_ms, now_ms);
    let ago = heard(node).map(|ago| format!(", last heard of {ago} ago")).unwrap_or_default();
    let mut lines = vec![format!("{}  {} for {since}{ago}", description.name, state(node))];
    let or_none = |text: String| if text.is_empty() { "none".to_owned() } else { text };
    for (what, value) in [
        ("identity", identity(node, &description.uid, now_ms)),
        ("version", format!("{}, which knows level {}", description.version, description.level)),
        ("ingress", description.ingress_address.clone()),
        ("API", description.api_address.clone()),
        ("admission", admission(node, now_ms)),
        ("labels", or_none(labels(&node.given_labels))),
        ("says itself", or_none(labels(&description.labels))),
        ("taints", or_none(labels(&node.taints))),
        ("capabilities", or_none(description.capabilities.join(", "))),
        (
            "capacity",
            format!(
                "{} processors, {} of memory for guests, {} instances at one time",
                description.cpus,
                memory(description.memory_bytes),
                description.instances
            ),
        ),
        ("reserved", reserved(node, description.instances, description.memory_bytes)),
        ("assignment", assignment(node)),
        ("graphs", or_none(graphs(node))),
    ] {
        lines.push(format!("  {what:12}  {value}"));
    }
    for staying in &node.staying {
        lines.push(format!("  {:12}  {}: {}", "stays", staying.graph, staying.why));
    }
    let table = parts(&node.parts);
    let table = if table.is_empty() { String::new() } else { format!("\n{}", table.render(width)) };
    Ok(format!("{}\n{table}", lines.join("\n")))
}

/// Who it is, since when, and for how long it can still show that.
fn identity(node: &wire::Node, uid: &str, now_ms: u64) -> String {
    let joined = match node.enrolled_at_ms {
        0 => "revoked".to_owned(),
        at_ms => format!("joined {} ago", time::age(at_ms, now_ms)),
    };
    // It is renewed at any member, and the one that leads may not know of that.
    let certificate = match node.certificate_expires_ms.checked_sub(now_ms) {
        Some(left_ms) if left_ms > 0 => {
            format!(", certificate ends in {}", time::age(now_ms, now_ms + left_ms))
        }
        _ => String::new(),
    };
    format!("{uid}, {joined}, first seen {} ago{certificate}", time::age(node.joined_at_ms, now_ms))
}

fn admission(node: &wire::Node, now_ms: u64) -> String {
    match node.admission() {
        wire::Admission::Unspecified | wire::Admission::Open => "gets work".to_owned(),
        wire::Admission::Cordoned => "cordoned: gets nothing new and keeps what it has".to_owned(),
        wire::Admission::Draining => {
            let until_ms = node.drain_deadline_ms;
            let deadline = match until_ms.checked_sub(now_ms) {
                Some(left_ms) if left_ms > 0 => format!("{} more", time::age(now_ms, until_ms)),
                _ => "no more".to_owned(),
            };
            format!("draining: what still answers here is waited for {deadline}")
        }
    }
}

fn assignment(node: &wire::Node) -> String {
    if node.assigned_generation == node.accepted_generation {
        format!("generation {} accepted", node.assigned_generation)
    } else {
        format!("generation {} assigned, {} accepted", node.assigned_generation, node.accepted_generation)
    }
}

/// How much of it is reserved, of what can be.
fn reserved(node: &wire::Node, instances: u32, memory_bytes: u64) -> String {
    let all = node.parts.iter().map(reserve_of).fold(Reserve::default(), Reserve::and);
    if all.is_none() {
        return "nothing".to_owned();
    }
    let most = Reserve::of_node(Capacity { memory_bytes, cpus: 0, instances });
    format!("{all} of the {most} that can be")
}

const fn reserve_of(part: &wire::Part) -> Reserve {
    Reserve { instances: part.reserved_instances, memory_bytes: part.reserved_memory_bytes }
}

/// How many are there, and how many of those go.
fn graphs(node: &wire::Node) -> String {
    let (placed, leaving) = (node.graphs.len(), node.leaving.len());
    match (placed, leaving) {
        (0, 0) => String::new(),
        (_, 0) => format!("{placed}"),
        _ => format!("{placed}, and {leaving} until they answer elsewhere"),
    }
}

/// What is there of each graph.
fn parts(parts: &[wire::Part]) -> Table {
    let mut table = Table::new(["GRAPH", "REVISION", "GENERATION", "STATE", "COMPONENTS", "DATA", "RESERVED"]);
    for part in parts {
        let why = if part.why.is_empty() { String::new() } else { format!(": {}", part.why) };
        table.row([
            part.graph.clone(),
            part.revision.to_string(),
            part.generation.to_string(),
            printable(&format!("{}{why}", part.state)),
            part.members.join(", "),
            part.data.join(", "),
            match reserve_of(part) {
                none if none.is_none() => String::new(),
                some => format!("{}, priority {}", some.instances, part.priority),
            },
        ]);
    }
    table
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::tests::node;
    use super::*;

    #[test]
    fn a_node_has_a_page() {
        insta::assert_snapshot!(page(&node(), None, 121_000).unwrap(), @"
        n1  ready,draining for 1m, last heard of 3.2s ago
          identity      u, joined 2m ago, first seen 2m ago, certificate ends in 11h
          version       0.1.0, which knows level 1
          ingress       127.0.0.1:8000
          API           127.0.0.1:7200
          admission     draining: what still answers here is waited for 7m more
          labels        disk=ssd,zone=a
          says itself   zone=b
          taints        gpu=only
          capabilities  sqlite
          capacity      2 processors, 5.8Gi of memory for guests, 1000 instances at one time
          reserved      16 instances with 1Gi of the 750 instances with 4531Mi that can be
          assignment    generation 9 assigned, 8 accepted
          graphs        1, and 1 until they answer elsewhere
          stays         default/crm: it has data

        GRAPH          REVISION  GENERATION  STATE                         COMPONENTS   DATA    RESERVED
        default/crm    3         9           failed: start_failed: a trap  app, crm-db  crm-db  16, priority 80
        default/hello  1         7           leaving                       hello        -       -
        ");
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let bare = wire::Node {
            silent_ms: None,
            certificate_expires_ms: 100_000,
            enrolled_at_ms: 0,
            admission: wire::Admission::Open.into(),
            parts: Vec::new(),
            ..node()
        };
        let text = page(&bare, None, 121_000).unwrap();
        for line in ["n1  ready for 1m\n", "u, revoked, first seen 2m ago\n", "admission     gets work\n"] {
            assert!(text.contains(line), "{text}");
        }
        assert!(!text.contains("GRAPH"), "{text}");
        let over = wire::Node { drain_deadline_ms: 121_000, ..node() };
        assert!(page(&over, None, 121_000).unwrap().contains("is waited for no more"));
    }
}
