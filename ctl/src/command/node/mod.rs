//! `ctl node`: the nodes there are, what each has and runs, and who may be one.

mod change;
mod inspect;
mod token;

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, Subcommand};
use model::name::NodeName;
use proto::weft::node::v1 as wire;

use crate::cli::Format;
use crate::client::Services;
use crate::clock::now_ms;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::table::Table;
use crate::render::time;
use crate::session::Session;
pub use change::{CordonArguments, DrainArguments, LabelArguments, RemoveArguments, TaintArguments};
pub use inspect::InspectArguments;
pub use token::{RevokeArguments, TokenArguments, create as create_token, generate as generate_token};

/// Arguments of `node`.
#[derive(Debug, Args)]
pub struct NodeArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: NodeCommand,
}

/// What to do with nodes.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Lists nodes.
    List,
    /// Shows one node: who it is, how it is, what it has, what is there of which graph, and what happened to it.
    #[command(visible_alias = "show")]
    Inspect(InspectArguments),
    /// Makes a token by which a node joins the cluster, once.
    Token(TokenArguments),
    /// Takes a node's identity away: it is out of the cluster until it joins again by a new token.
    Revoke(RevokeArguments),
    /// Gives a node labels, which constraints select on, and takes labels away that were given.
    Label(LabelArguments),
    /// Taints a node, and takes taints away: they keep away everything new that does not tolerate them.
    Taint(TaintArguments),
    /// Gives a node nothing new; it keeps what it has.
    Cordon(CordonArguments),
    /// Lets a node have work again that was cordoned or drained.
    Uncordon(CordonArguments),
    /// Moves what is on a node to other nodes, and waits until nothing is left there: each graph answers where it was until
    /// it answers where it goes. `--deadline` says how long what still answers there is waited for [default: 10m].
    Drain(DrainArguments),
    /// Takes a node out for good, that is drained or lost.
    Remove(RemoveArguments),
}

/// Does it.
pub async fn run(arguments: NodeArguments, session: &mut Session<'_>) -> Result<Exit, Failure> {
    match arguments.command {
        NodeCommand::List => list(session).await?,
        NodeCommand::Inspect(arguments) => inspect::run(&arguments, session).await?,
        NodeCommand::Token(arguments) => token::token(arguments, session).await?,
        NodeCommand::Revoke(arguments) => token::revoke(arguments, session).await?,
        NodeCommand::Label(arguments) => change::label(arguments, session).await?,
        NodeCommand::Taint(arguments) => change::taint(arguments, session).await?,
        NodeCommand::Cordon(arguments) => change::admit(arguments, wire::Admission::Cordoned, session).await?,
        NodeCommand::Uncordon(arguments) => change::admit(arguments, wire::Admission::Open, session).await?,
        NodeCommand::Drain(arguments) => change::drain(arguments, session).await?,
        NodeCommand::Remove(arguments) => change::remove(arguments, session).await?,
    }
    Ok(Exit::Done)
}

/// Has whoever is there type the name of the node that is revoked or removed.
fn confirm(name: &NodeName, what: &str, flags: &str, session: &mut Session<'_>) -> Result<(), Failure> {
    if !session.terminal.look().can_ask {
        let message = format!("to {what} node {name} must be confirmed, and nobody can be asked here");
        return Err(Failure::refused(message).next(format!("ctl node {what} {name}{flags} --yes")));
    }
    let at = session.client.address().clone();
    if session.terminal.ask(&format!("type \"{name}\" to {what} node {name} at {at}:"))? != name.as_str() {
        return Err(Failure::refused("that is not the name; nothing was changed"));
    }
    Ok(())
}

async fn list(session: &mut Session<'_>) -> Result<(), Failure> {
    let call = |services: Services| async move { services.nodes().list(wire::ListRequest {}).await };
    let answer = session.client.read(call).await?;
    match session.format {
        Format::Json | Format::Yaml => session.write_message(&answer),
        Format::Name => {
            for node in &answer.nodes {
                session.terminal.data_line(name(node))?;
            }
            Ok(())
        }
        Format::Table | Format::Wide => {
            let table = table(&answer.nodes, session.format == Format::Wide, now_ms());
            session.write_table(&table, "there are no nodes: start a node agent, or `ctl dev`")
        }
    }
}

fn name(node: &wire::Node) -> &str {
    node.description.as_ref().map_or("", |description| description.name.as_str())
}

fn table(nodes: &[wire::Node], is_wide: bool, now_ms: u64) -> Table {
    let header = ["NAME", "STATE", "HEARD", "LABELS", "CPUS", "MEMORY", "GRAPHS", "VERSION", "AGE"];
    let wide = ["TAINTS", "CAPABILITIES", "INGRESS", "API", "ASSIGNED", "ACCEPTED"];
    let mut table = Table::new(header.into_iter().chain(wide.into_iter().filter(|_| is_wide)));
    for node in nodes {
        let description = node.description.clone().unwrap_or_default();
        let mut row = vec![
            description.name.clone(),
            state(node),
            heard(node).map(|ago| format!("{ago} ago")).unwrap_or_default(),
            labels(&node.labels),
            description.cpus.to_string(),
            memory(description.memory_bytes),
            node.graphs.len().to_string(),
            description.version.clone(),
            time::age(node.joined_at_ms, now_ms),
        ];
        if is_wide {
            row.extend([
                labels(&node.taints),
                description.capabilities.join(","),
                description.ingress_address.clone(),
                description.api_address.clone(),
                node.assigned_generation.to_string(),
                node.accepted_generation.to_string(),
            ]);
        }
        table.row(row);
    }
    table
}

/// `disk=ssd,zone=a`, of labels or taints.
fn labels(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// Whether it is heard of, and whether it gets work.
fn state(node: &wire::Node) -> String {
    let state = if node.is_suspect { "suspect" } else { &node.state };
    match node.admission() {
        wire::Admission::Unspecified | wire::Admission::Open => state.to_owned(),
        wire::Admission::Cordoned => format!("{state},cordoned"),
        wire::Admission::Draining => format!("{state},draining"),
    }
}

/// How long ago its agent was last heard of, as far as the control plane says.
fn heard(node: &wire::Node) -> Option<String> {
    node.silent_ms.map(|silent_ms| time::elapsed(Duration::from_millis(silent_ms)))
}

/// Bytes as people compare them: `5.9Gi`, `512Mi`.
fn memory(bytes: u64) -> String {
    let (length, unit) = if bytes >= 1 << 30 { (1_u64 << 30, "Gi") } else { (1 << 20, "Mi") };
    let tenths = bytes.saturating_mul(10) / length;
    if tenths.is_multiple_of(10) {
        format!("{}{unit}", tenths / 10)
    } else {
        format!("{}.{}{unit}", tenths / 10, tenths % 10)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// One with everything.
    pub(super) fn node() -> wire::Node {
        wire::Node {
            description: Some(wire::NodeDescription {
                name: "n1".to_owned(),
                uid: "u".to_owned(),
                api_address: "127.0.0.1:7200".to_owned(),
                ingress_address: "127.0.0.1:8000".to_owned(),
                version: "0.1.0".to_owned(),
                labels: [("zone".to_owned(), "b".to_owned())].into(),
                capabilities: vec!["sqlite".to_owned()],
                memory_bytes: 6_335_076_761,
                cpus: 2,
                instances: 1_000,
                level: 1,
            }),
            state: "ready".to_owned(),
            joined_at_ms: 1_000,
            changed_at_ms: 61_000,
            accepted_generation: 8,
            assigned_generation: 9,
            graphs: vec!["default/crm".to_owned()],
            admission: wire::Admission::Draining.into(),
            drain_deadline_ms: 600_000,
            labels: [("zone".to_owned(), "a".to_owned()), ("disk".to_owned(), "ssd".to_owned())].into(),
            leaving: vec!["default/hello".to_owned()],
            staying: vec![wire::Staying { graph: "default/crm".to_owned(), why: "it has data".to_owned() }],
            taints: [("gpu".to_owned(), "only".to_owned())].into(),
            silent_ms: Some(3_240),
            is_suspect: false,
            certificate_expires_ms: 39_721_000,
            enrolled_at_ms: 900,
            given_labels: [("zone".to_owned(), "a".to_owned()), ("disk".to_owned(), "ssd".to_owned())].into(),
            parts: vec![
                wire::Part {
                    graph: "default/crm".to_owned(),
                    revision: 3,
                    generation: 9,
                    state: "failed".to_owned(),
                    why: "start_failed: a trap".to_owned(),
                    members: vec!["app".to_owned(), "crm-db".to_owned()],
                    data: vec!["crm-db".to_owned()],
                    reserved_instances: 16,
                    reserved_memory_bytes: 1 << 30,
                    priority: 80,
                },
                wire::Part {
                    graph: "default/hello".to_owned(),
                    revision: 1,
                    generation: 7,
                    state: "leaving".to_owned(),
                    members: vec!["hello".to_owned()],
                    ..wire::Part::default()
                },
            ],
        }
    }

    #[test]
    fn nodes_are_listed() {
        insta::assert_snapshot!(table(&[node()], false, 121_000).render(None), @"
        NAME  STATE           HEARD     LABELS           CPUS  MEMORY  GRAPHS  VERSION  AGE
        n1    ready,draining  3.2s ago  disk=ssd,zone=a  2     5.8Gi   1       0.1.0    2m
        ");
        let suspect = wire::Node { is_suspect: true, admission: wire::Admission::Open.into(), ..node() };
        assert_eq!((state(&suspect).as_str(), suspect.state.as_str()), ("suspect", "ready"));
        insta::assert_snapshot!(table(&[node()], true, 121_000).render(None), @"
        NAME  STATE           HEARD     LABELS           CPUS  MEMORY  GRAPHS  VERSION  AGE  TAINTS    CAPABILITIES  INGRESS         API             ASSIGNED  ACCEPTED
        n1    ready,draining  3.2s ago  disk=ssd,zone=a  2     5.8Gi   1       0.1.0    2m   gpu=only  sqlite        127.0.0.1:8000  127.0.0.1:7200  9         8
        ");
    }

    #[test]
    fn memory_is_read_at_a_glance() {
        for (bytes, expected) in [(0, "0Mi"), (512 << 20, "512Mi"), (6_335_076_761, "5.8Gi"), (8 << 30, "8Gi")]
        {
            assert_eq!(memory(bytes), expected);
        }
    }
}
