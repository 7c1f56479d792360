//! What operators do with nodes: labels and taints, cordon and drain, and taking one out.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use model::name::NodeName;
use proto::weft::node::v1 as wire;
use tokio::time::{Instant, sleep};

use crate::cli::{Format, MutationFlags};
use crate::client::Services;
use crate::failure::Failure;
use crate::session::Session;

/// How long a drain waits for what still answers on the node, unless `--deadline` says otherwise.
const DRAIN_PATIENCE: Duration = Duration::from_mins(10);
/// How often a drain looks at what is left.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// What is let go of at a drain's deadline is gone soon after it.
const AFTER_DEADLINE: Duration = Duration::from_secs(10);

/// Arguments of `node cordon` and `node uncordon`.
#[derive(Debug, Args)]
pub struct CordonArguments {
    /// The node.
    pub name: NodeName,
    /// What makes it safe to repeat.
    #[command(flatten)]
    pub mutation: MutationFlags,
}

/// Arguments of `node drain`. `--deadline` says how long what still answers there is waited for [default: 10m].
#[derive(Debug, Args)]
pub struct DrainArguments {
    /// The node.
    pub name: NodeName,
    /// Do not wait until nothing is left there.
    #[arg(long)]
    pub no_wait: bool,
    /// What makes it safe to repeat.
    #[command(flatten)]
    pub mutation: MutationFlags,
}

/// Arguments of `node label`.
#[derive(Debug, Args)]
pub struct LabelArguments {
    /// The node.
    pub name: NodeName,
    /// `key=value` gives a label, which counts before one of the same key that the agent says; `key-` takes one away that
    /// was given.
    #[arg(required = true, value_name = "KEY=VALUE|KEY-")]
    pub labels: Vec<String>,
    /// What makes it safe to repeat.
    #[command(flatten)]
    pub mutation: MutationFlags,
}

/// Arguments of `node taint`.
#[derive(Debug, Args)]
pub struct TaintArguments {
    /// The node.
    pub name: NodeName,
    /// `key=value` taints it; `key-` takes a taint away.
    #[arg(required = true, value_name = "KEY=VALUE|KEY-")]
    pub taints: Vec<String>,
    /// What makes it safe to repeat.
    #[command(flatten)]
    pub mutation: MutationFlags,
}

/// Arguments of `node remove`.
#[derive(Debug, Args)]
pub struct RemoveArguments {
    /// The node.
    pub name: NodeName,
    /// Give up the data of capabilities that are there: the graphs that need them begin anew on another node.
    #[arg(long)]
    pub lose_data: bool,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
    /// What makes it safe to repeat.
    #[command(flatten)]
    pub mutation: MutationFlags,
}

/// Gives a node nothing new, or lets it have work again.
pub(super) async fn admit(
    arguments: CordonArguments,
    admission: wire::Admission,
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    let CordonArguments { name, mutation } = arguments;
    ask(&name, admission, 0, &mutation, session).await?;
    let done = match admission {
        wire::Admission::Open => "gets work again; what was moved away does not come back by itself",
        _ => "gets nothing new and keeps what it has",
    };
    said(&name, done, session)
}

async fn ask(
    name: &NodeName,
    admission: wire::Admission,
    drain_ms: u64,
    mutation: &MutationFlags,
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    let call = |services: Services, request_id: String| {
        let request =
            wire::AdmitRequest { request_id, node: name.to_string(), admission: admission.into(), drain_ms };
        async move { services.nodes().admit(request).await }
    };
    session.client.mutate(mutation.request_id.as_ref(), call).await?;
    Ok(())
}

/// Data for programs, and a sentence for people.
fn said(name: &NodeName, done: &str, session: &mut Session<'_>) -> Result<(), Failure> {
    match session.format {
        Format::Json | Format::Yaml => session.write_value(&serde_json::json!({ "node": name }))?,
        Format::Name => session.terminal.data_line(name.as_str())?,
        Format::Table | Format::Wide => {}
    }
    Ok(session.terminal.note(&format!("node {name} {done}"))?)
}

/// Moves what is on a node to other nodes, and waits until nothing is left there.
pub(super) async fn drain(arguments: DrainArguments, session: &mut Session<'_>) -> Result<(), Failure> {
    let DrainArguments { name, no_wait, mutation } = arguments;
    let patience = session.deadline.unwrap_or(DRAIN_PATIENCE);
    let drain_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
    ask(&name, wire::Admission::Draining, drain_ms, &mutation, session).await?;
    if no_wait {
        return said(&name, "is being drained: `ctl node inspect` says what is left there", session);
    }
    let until = Instant::now() + patience + AFTER_DEADLINE;
    let mut shown = String::new();
    loop {
        let call = |services: Services| {
            let request = wire::GetRequest { name: name.to_string() };
            async move { services.nodes().get(request).await }
        };
        let node = session.client.read(call).await?;
        match judge(&node) {
            Left::Nothing => {
                return said(&name, "is empty: stop its agent, or `ctl node uncordon` it", session);
            }
            Left::Stays(staying) => {
                let lines: Vec<String> =
                    staying.iter().map(|staying| format!("{}: {}", staying.graph, staying.why)).collect();
                let message = format!("{} of its graphs cannot be moved:\n{}", lines.len(), lines.join("\n"));
                return Err(Failure::refused(format!("node {name} is not empty; {message}"))
                    .next(format!("ctl node uncordon {name}")));
            }
            Left::Some(line) => {
                if line != shown {
                    session.terminal.progress(&line)?;
                    shown = line;
                }
            }
        }
        if Instant::now() >= until {
            let message = format!("node {name} is not empty after {} s: {shown}", patience.as_secs());
            return Err(Failure::StillRunning { message, next: format!("ctl node inspect {name}") });
        }
        sleep(LOOK_EVERY).await;
    }
}

/// What is left on a node that is drained.
#[derive(Debug, PartialEq)]
enum Left {
    Nothing,
    /// It will not go.
    Stays(Vec<wire::Staying>),
    /// It goes.
    Some(String),
}

fn judge(node: &wire::Node) -> Left {
    let (placed, leaving) = (node.graphs.len(), node.leaving.len());
    if placed == 0 && leaving == 0 {
        return Left::Nothing;
    }
    if leaving == 0 && placed == node.staying.len() {
        return Left::Stays(node.staying.clone());
    }
    Left::Some(format!("{placed} to be moved, {leaving} not yet answering elsewhere"))
}

/// Gives a node labels, and takes labels away.
pub(super) async fn label(arguments: LabelArguments, session: &mut Session<'_>) -> Result<(), Failure> {
    let LabelArguments { name, labels, mutation } = arguments;
    let (set, unset) = changes("label", &labels)?;
    let call = |services: Services, request_id: String| {
        let (set, unset) = (set.clone().into_iter().collect(), unset.clone());
        let request = wire::LabelRequest { request_id, node: name.to_string(), set, unset };
        async move { services.nodes().label(request).await }
    };
    session.client.mutate(mutation.request_id.as_ref(), call).await?;
    said(&name, "is labelled", session)
}

/// Taints a node, and takes taints away.
pub(super) async fn taint(arguments: TaintArguments, session: &mut Session<'_>) -> Result<(), Failure> {
    let TaintArguments { name, taints, mutation } = arguments;
    let (set, unset) = changes("taint", &taints)?;
    let call = |services: Services, request_id: String| {
        let (set, unset) = (set.clone().into_iter().collect(), unset.clone());
        let request = wire::TaintRequest { request_id, node: name.to_string(), set, unset };
        async move { services.nodes().taint(request).await }
    };
    session.client.mutate(mutation.request_id.as_ref(), call).await?;
    let done = if set.is_empty() {
        "has these taints no more"
    } else {
        "is tainted: it keeps what it has, and gets nothing new that does not tolerate that"
    };
    said(&name, done, session)
}

/// What is set of labels or taints, and what is taken away.
fn changes(what: &str, texts: &[String]) -> Result<(BTreeMap<String, String>, Vec<String>), Failure> {
    let (mut set, mut unset) = (BTreeMap::new(), Vec::new());
    for text in texts {
        let name = match (text.split_once('='), text.strip_suffix('-')) {
            (Some((name, value)), _) => {
                if set.insert(name.to_owned(), value.to_owned()).is_some() {
                    return Err(Failure::refused(format!("{what} `{name}` is given twice")));
                }
                name
            }
            (None, Some(name)) => {
                unset.push(name.to_owned());
                name
            }
            (None, None) => {
                let message =
                    format!("`{text}` is no change of a {what}: write key=value, or key- to take it away");
                return Err(Failure::refused(message));
            }
        };
        if set.contains_key(name) && unset.iter().any(|unset| unset == name) {
            return Err(Failure::refused(format!("{what} `{name}` is given and taken away")));
        }
    }
    Ok((set, unset))
}

/// Takes a node out for good.
pub(super) async fn remove(arguments: RemoveArguments, session: &mut Session<'_>) -> Result<(), Failure> {
    let RemoveArguments { name, lose_data, yes, mutation } = arguments;
    if !yes {
        super::confirm(&name, "remove", if lose_data { " --lose-data" } else { "" }, session)?;
    }
    let call = |services: Services, request_id: String| {
        let request = wire::RemoveRequest { request_id, node: name.to_string(), loses_data: lose_data };
        async move { services.nodes().remove(request).await }
    };
    session.client.mutate(mutation.request_id.as_ref(), call).await?;
    said(&name, "is out of the cluster; it joins again only by a new token", session)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn labels_are_given_and_taken_away() {
        let read =
            |texts: &[&str]| changes("label", &texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        let (set, unset) = read(&["zone=a", "rack-", "empty="]).unwrap();
        assert_eq!(set, [("zone", "a"), ("empty", "")].map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        assert_eq!(unset, ["rack"]);
        for wrong in [&["zone"][..], &["zone=a", "zone=b"], &["zone=a", "zone-"], &["zone-", "zone=a"]] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
        let wrong = changes("taint", &["gpu".to_owned()]).unwrap_err().to_string();
        assert!(wrong.contains("`gpu` is no change of a taint"), "{wrong}");
    }

    #[test]
    fn a_drain_ends_when_nothing_is_left_or_nothing_goes() {
        let staying = wire::Staying { graph: "default/crm".to_owned(), why: "data".to_owned() };
        let node = |graphs: &[&str], leaving: &[&str], staying: &[wire::Staying]| wire::Node {
            graphs: graphs.iter().map(|graph| (*graph).to_owned()).collect(),
            leaving: leaving.iter().map(|graph| (*graph).to_owned()).collect(),
            staying: staying.to_vec(),
            ..wire::Node::default()
        };
        assert_eq!(judge(&node(&[], &[], &[])), Left::Nothing);
        let stays = [staying.clone()];
        assert_eq!(judge(&node(&["default/crm"], &[], &stays)), Left::Stays(stays.to_vec()));
        let goes = judge(&node(&["default/crm"], &["default/hello"], &stays));
        assert_eq!(goes, Left::Some("1 to be moved, 1 not yet answering elsewhere".to_owned()));
        assert!(matches!(judge(&node(&["default/crm", "default/other"], &[], &stays)), Left::Some(_)));
    }
}
