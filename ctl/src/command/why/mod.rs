//! `ctl why`: why a graph is where it is, or does not serve, with the last events.

pub(super) mod recent;

use clap::Args;
use model::id::GraphKey;
use model::linked::{LinkedGraph, Origin, Target};
use model::name::ComponentName;
use model::placement::Placement;
use model::rollout::Phase;
use model::status::{GraphState, GraphStatus};
use proto::convert::required;
use proto::weft::event::v1::Event;
use proto::weft::graph::v1 as wire;
use proto::weft::node::v1 as node;
use serde_json::json;

use crate::cli::Format;
use crate::client::{CallError, Services};
use crate::clock::now_ms;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::lookup;
use crate::reference::{ComponentReference, short};
use crate::render;
use crate::render::message;
use crate::session::Session;

/// Events shown of a graph.
const EVENTS_SHOWN: usize = 10;

/// Arguments of `why`.
#[derive(Debug, Args)]
pub struct WhyArguments {
    /// A graph or one of its components, `[namespace/]graph[/component]`.
    #[arg(value_name = "GRAPH[/COMPONENT]")]
    pub subject: ComponentReference,
}

/// What is known of a graph.
struct Known {
    status: GraphStatus,
    linked: LinkedGraph,
    component: Option<ComponentName>,
    /// The node it is placed on.
    node: Option<node::Node>,
    /// Those of its nodes that are suspect.
    suspects: Vec<wire::SuspectNode>,
    events: Vec<Event>,
}

/// Says why.
pub async fn run(arguments: WhyArguments, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let found = lookup::component(&session.client, &session.namespace, &arguments.subject).await?;
    let suspects = found.graph.suspects;
    let wire = required("status", found.graph.status).map_err(CallError::Answer)?;
    let status = GraphStatus::try_from(wire.clone()).map_err(CallError::Answer)?;
    let linked = required("linked", found.graph.linked).map_err(CallError::Answer)?;
    let linked = LinkedGraph::try_from(linked).map_err(CallError::Answer)?;
    let subject = format!("graph/{}", found.key);
    let events = recent::events(&session.client, &subject, EVENTS_SHOWN).await?;
    let node = node_of(&status, session).await?;
    let known = Known { status, linked, component: found.component, node, suspects, events };
    match session.format {
        Format::Json | Format::Yaml => {
            let events = known.events.iter().map(message::value).collect::<Result<Vec<_>, _>>()?;
            let node = known.node.as_ref().map(message::value).transpose()?;
            let sentences = sentences(&known, now_ms());
            let status = message::value(&wire)?;
            let suspects = known.suspects.iter().map(message::value).collect::<Result<Vec<_>, _>>()?;
            session.write_value(&json!({
                "status": status, "why": sentences, "node": node, "suspects": suspects, "events": events
            }))?;
        }
        Format::Name => session.terminal.data_line(known.status.state.word())?,
        Format::Table | Format::Wide => {
            let text = sentences(&known, now_ms()).join("\n  ");
            session.terminal.data(&format!("{text}\n"))?;
            recent::show(&known.events, session)?;
            if let Some(next) = next(&known) {
                session.terminal.note(&format!("  next: {next}"))?;
            }
        }
    }
    Ok(Exit::Done)
}

async fn node_of(status: &GraphStatus, session: &Session<'_>) -> Result<Option<node::Node>, Failure> {
    let Some(Placement { home: name, .. }) = &status.placement else { return Ok(None) };
    let call = |services: Services| {
        let request = node::GetRequest { name: name.to_string() };
        async move { services.nodes().get(request).await }
    };
    match session.client.read(call).await {
        Ok(node) => Ok(Some(node)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The answer, sentence by sentence: the first is about the whole, the others say how that comes.
fn sentences(known: &Known, now_ms: u64) -> Vec<String> {
    let status = &known.status;
    let name = format!("{}@{}", short(&status.key), status.revision);
    let node = status.placement.as_ref().map_or_else(|| "no node".to_owned(), ToString::to_string);
    let mut out = match &status.state {
        GraphState::Pending { why } => {
            let mut out = vec![format!("{name} is on no node")];
            out.extend(why.iter().cloned());
            out
        }
        GraphState::Starting { phase, .. } => {
            vec![
                format!("{name} does not serve yet"),
                format!("{node} works on generation {}: {phase}", status.generation),
            ]
        }
        GraphState::Serving => {
            let since = since_serving(known).map(|at| format!(" for {}", render::time::age(at, now_ms)));
            vec![
                format!("{name} serves on {node}{}", since.unwrap_or_default()),
                format!("generation {} answers, the one that is wanted", status.generation),
            ]
        }
        GraphState::Failed { failure, .. } => vec![
            format!("{name} does not serve: {node} cannot run generation {}", status.generation),
            format!("{}: {}", failure.reason, failure.message),
        ],
        GraphState::Unknown { why } => vec![format!("whether {name} serves is not known"), why.clone()],
    };
    out.extend(meanwhile(&status.state));
    out.extend(about_checks(status));
    out.extend(render::status::unkept(status));
    out.extend(about_steps(status));
    out.extend(about_node(known, now_ms));
    out.extend(render::status::suspects(&known.suspects));
    out.extend(about_policies(known));
    out.extend(render::status::urls(status).into_iter().map(|url| format!("requests: {url}")));
    if let Some(component) = &known.component {
        out.extend(about_component(&status.key, &known.linked, component));
    }
    out.iter().map(|line| render::table::printable(line)).collect()
}

fn meanwhile(state: &GraphState) -> Option<String> {
    match state {
        GraphState::Starting { serving, .. } | GraphState::Failed { serving, .. } => Some(match serving {
            Some(generation) => format!("generation {generation} answers meanwhile"),
            None => "nothing answers meanwhile".to_owned(),
        }),
        GraphState::Pending { .. } | GraphState::Serving | GraphState::Unknown { .. } => None,
    }
}

/// Where it fails, and who is asked then.
fn about_checks(status: &GraphStatus) -> Vec<String> {
    let mut out = render::status::failing(status);
    if !out.is_empty() {
        out.push(
            "requests and calls go to the nodes where it passes; where it fails on all, to all".to_owned(),
        );
    }
    out
}

/// What takes over by steps, and what was given up.
fn about_steps(status: &GraphStatus) -> Vec<String> {
    let mut out = render::rollout::sentences(status);
    if let Some(rollout) =
        status.rollout.as_ref().filter(|rollout| matches!(rollout.phase, Phase::Answering { .. }))
    {
        let (new, stable) = (rollout.revision, status.revision);
        out.push(format!("revision {new} runs beside revision {stable}: {}", rollout.candidate));
    }
    out
}

/// When the generation that is wanted began to serve, as far as events are kept.
fn since_serving(known: &Known) -> Option<u64> {
    let mark = format!("generation {} ", known.status.generation);
    let served = known.events.iter().rev().find(|event| event.reason == "serving");
    served.filter(|event| event.message.starts_with(&mark)).map(|event| event.time_ms)
}

fn about_node(known: &Known, now_ms: u64) -> Option<String> {
    // One that is suspect is told with the others that are.
    let node = known.node.as_ref().filter(|node| !node.is_suspect)?;
    let name = node.description.as_ref().map_or("its node", |description| description.name.as_str());
    let age = render::time::age(node.changed_at_ms, now_ms);
    Some(match node.state.as_str() {
        "ready" => format!("node {name} is ready for {age}: a graph stays where it was first placed"),
        state => format!("node {name} is {state} for {age}"),
    })
}

fn about_policies(known: &Known) -> Option<String> {
    let names: Vec<String> =
        known.linked.policies.iter().map(|policy| format!("{}@{}", policy.name, policy.generation)).collect();
    (!names.is_empty()).then(|| format!("policies on its links: {}", names.join(", ")))
}

/// Why a component is in the graph at all.
fn about_component(key: &GraphKey, linked: &LinkedGraph, name: &ComponentName) -> Vec<String> {
    let Some(component) = linked.components.get(name) else { return Vec::new() };
    let whose = match &component.origin {
        Origin::Graph => format!("{name} is a component of {}", short(key)),
        Origin::Policy(policy) => {
            format!("{name} was put in by policy {}@{}", policy.name, policy.generation)
        }
    };
    let mut callers: Vec<String> = linked
        .links
        .iter()
        .filter(|link| matches!(&link.to, Target::Component { name: to, .. } if to == name))
        .map(|link| format!("{} ({})", link.from, link.interface))
        .collect();
    callers.extend(linked.ingress.iter().filter(|route| route.to == *name).map(|route| {
        let host = route.host.as_ref().map_or("*", |host| host.as_str());
        format!("http {host}{}", route.path)
    }));
    let called = if callers.is_empty() {
        format!("{name} is called by nothing in the graph: `ctl invoke` reaches it")
    } else {
        format!("{name} is called by {}", callers.join(", "))
    };
    vec![
        whose,
        format!("{name} runs where its graph does, artifact {}", component.artifact.digest.short()),
        called,
    ]
}

fn next(known: &Known) -> Option<String> {
    let name = short(&known.status.key);
    match &known.status.state {
        GraphState::Pending { .. } => Some("ctl node list -o wide".to_owned()),
        GraphState::Starting { .. } => Some(format!("ctl status {name} --watch")),
        GraphState::Failed { failure, .. } => Some(format!("ctl explain {}", failure.reason)),
        GraphState::Unknown { .. } => {
            known.status.placement.as_ref().map(|placed| format!("ctl node inspect {}", placed.home))
        }
        GraphState::Serving if known.status.rollout.is_none() && !known.status.failing.is_empty() => {
            Some(format!("ctl logs {name}"))
        }
        GraphState::Serving => render::rollout::look(&known.status)
            .or_else(|| known.status.reverted.as_ref().map(|_| format!("ctl events {name}"))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeMap;

    use model::id::{Generation, RevisionNumber, StateRevision, Uid};
    use model::report::Failure as Why;
    use model::rollout::Reverted;

    use super::*;
    use crate::testing::{policy_rollout, rollout};

    fn known(state: GraphState) -> Known {
        let is_placed = !matches!(state, GraphState::Pending { .. });
        let event = |reason: &str, message: &str| Event {
            time_ms: 60_000,
            reason: reason.to_owned(),
            message: message.to_owned(),
            ..Event::default()
        };
        Known {
            status: GraphStatus {
                key: "default/crm".parse().unwrap(),
                uid: Uid::new("u").unwrap(),
                revision: RevisionNumber(3),
                generation: Generation(9),
                state_revision: StateRevision(12),
                deployed_at_ms: 0,
                state,
                placement: is_placed.then(|| Placement::whole("n1".parse().unwrap())),
                ingress_address: is_placed.then(|| "127.0.0.1:8000".to_owned()),
                ingress: Vec::new(),
                components: Vec::new(),
                rollout: None,
                reverted: None,
                failing: BTreeMap::new(),
                unkept: BTreeMap::new(),
                scales: Vec::new(),
                policy_rollout: None,
            },
            linked: LinkedGraph::default(),
            component: None,
            node: is_placed.then(|| node::Node {
                description: Some(node::NodeDescription { name: "n1".to_owned(), ..Default::default() }),
                state: "ready".to_owned(),
                ..Default::default()
            }),
            suspects: Vec::new(),
            events: vec![
                event("deployed", "revision 3 committed"),
                event("serving", "generation 9 answers on node n1"),
            ],
        }
    }

    fn page(state: GraphState) -> String {
        sentences(&known(state), 180_000).join("\n")
    }

    #[test]
    fn every_state_has_an_answer() {
        let pending = page(GraphState::Pending { why: vec!["n1 no: down".to_owned()] });
        insta::assert_snapshot!(pending, @"
        crm@3 is on no node
        n1 no: down
        ");
        insta::assert_snapshot!(page(GraphState::Starting { phase: "compiling".to_owned(), serving: None }), @"
        crm@3 does not serve yet
        n1 works on generation 9: compiling
        nothing answers meanwhile
        node n1 is ready for 3m: a graph stays where it was first placed
        ");
        insta::assert_snapshot!(page(GraphState::Serving), @"
        crm@3 serves on n1 for 2m
        generation 9 answers, the one that is wanted
        node n1 is ready for 3m: a graph stays where it was first placed
        ");
        let failure = Why { reason: "start_failed".to_owned(), message: "trap".to_owned() };
        let failed = page(GraphState::Failed { failure, serving: Some(Generation(7)) });
        insta::assert_snapshot!(failed, @"
        crm@3 does not serve: n1 cannot run generation 9
        start_failed: trap
        generation 7 answers meanwhile
        node n1 is ready for 3m: a graph stays where it was first placed
        ");
        insta::assert_snapshot!(page(GraphState::Unknown { why: "node n1 is not heard of".to_owned() }), @"
        whether crm@3 serves is not known
        node n1 is not heard of
        node n1 is ready for 3m: a graph stays where it was first placed
        ");
    }

    #[test]
    fn what_takes_over_by_steps_has_an_answer_too() {
        let mut known = known(GraphState::Serving);
        let shown = |known: &Known| sentences(known, 180_000)[2..].join("\n");
        known.status.rollout = Some(rollout(Phase::Answering { since_ms: 0 }));
        insta::assert_snapshot!(shown(&known), @"
        revision 4 answers 10% for 1m: step 2 of 3
        revision 4 runs beside revision 3: it answers where it was placed
        node n1 is ready for 3m: a graph stays where it was first placed
        ");
        assert_eq!(next(&known).unwrap(), "ctl rollout status crm");
        known.status.rollout = None;
        let policy = policy_rollout(Phase::Answering { since_ms: 0 }, "it answers where it was placed");
        known.status.policy_rollout = Some(policy);
        insta::assert_snapshot!(shown(&known), @"
        policy pii@12 answers 5% for 5m: step 1 of 2; with it, it answers where it was placed
        node n1 is ready for 3m: a graph stays where it was first placed
        ");
        assert_eq!(next(&known).unwrap(), "ctl policy rollout status pii");
        known.status.policy_rollout = None;
        known.status.reverted = Some(Reverted { revision: RevisionNumber(4), why: "too slow".to_owned() });
        insta::assert_snapshot!(shown(&known), @"
        revision 4 was given up: too slow
        node n1 is ready for 3m: a graph stays where it was first placed
        ");
        assert_eq!(next(&known).unwrap(), "ctl events crm");
    }

    #[test]
    fn where_it_fails_is_told_with_who_is_asked() {
        let mut known = known(GraphState::Serving);
        known.status.failing.insert("n2".parse().unwrap(), "app does not pass its check".to_owned());
        insta::assert_snapshot!(sentences(&known, 180_000)[2..].join("\n"), @"
        failing on n2: app does not pass its check
        requests and calls go to the nodes where it passes; where it fails on all, to all
        node n1 is ready for 3m: a graph stays where it was first placed
        ");
        assert_eq!(next(&known).unwrap(), "ctl logs crm");
    }

    #[test]
    fn a_node_that_is_not_heard_of_at_this_moment_is_named() {
        let mut known = known(GraphState::Serving);
        known.node.as_mut().unwrap().is_suspect = true;
        known.suspects = vec![wire::SuspectNode { name: "n1".to_owned(), silent_ms: Some(3_200) }];
        insta::assert_snapshot!(sentences(&known, 180_000)[2..].join("\n"), @"
        node n1 is suspect, last heard of 3.2s ago: it gets nothing new, and is given up if it stays silent
        ");
    }

    #[test]
    fn since_when_is_told_only_of_the_generation_that_is_wanted() {
        let mut known = known(GraphState::Serving);
        assert_eq!(since_serving(&known), Some(60_000));
        known.status.generation = Generation(90);
        assert_eq!(since_serving(&known), None);
    }
}
