//! `weft.log.v1.Logs`: passes on what the agents of a graph's nodes say.

use std::collections::BTreeSet;
use std::time::Duration;

use cluster::State;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use model::id::GraphKey;
use model::name::{ComponentName, NodeName};
use model::node::{NodeDescription, NodeState};
use proto::convert::parse;
use proto::status::refuse;
use proto::weft::log::v1 as wire;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};
use trust::Expect;

use super::{Answers, Context, graphs, refusal, until_stopped};

/// How long an agent may take to accept a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);
/// A connection whose agent does not answer is closed after these two: a log may be followed for days.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PATIENCE: Duration = Duration::from_secs(5);

/// The service.
#[derive(Debug, Clone)]
pub struct Logs {
    context: Context,
}

impl Logs {
    /// The service over `context`.
    pub fn new(context: Context) -> Self {
        Self { context }
    }
}

/// The nodes that run a graph or its candidate, or this member of the graph.
fn nodes_of<'a>(
    state: &'a State,
    key: &GraphKey,
    member: Option<&ComponentName>,
) -> Result<Vec<&'a NodeDescription>, Status> {
    let record = state.graphs.get(key).ok_or_else(|| graphs::not_found(state, key))?;
    let candidate = state.graphs.get(&key.candidate()).filter(|_| member.is_none());
    let placements =
        record.placement.iter().chain(candidate.and_then(|candidate| candidate.placement.as_ref()));
    let names: BTreeSet<&NodeName> = placements
        .flat_map(|placement| match member {
            Some(member) => placement.nodes_of(member).collect::<Vec<_>>(),
            None => placement.nodes().into_iter().collect(),
        })
        .collect();
    let names = names.into_iter();
    let mut nodes: Vec<_> = names.filter_map(|name| state.nodes.get(name)).collect();
    // Of several, one that is heard of is asked first.
    nodes.sort_by_key(|node| node.state != NodeState::Ready);
    let nodes: Vec<_> = nodes.into_iter().map(|node| &node.description).collect();
    if nodes.is_empty() {
        let message = format!("{key} is on no node yet: see `ctl why {key}`");
        return Err(refuse(Code::FailedPrecondition, "not_placed", message));
    }
    Ok(nodes)
}

/// A connection to the agent of the node that runs a member of a graph.
pub(super) async fn agent_of(
    context: &Context,
    state: &State,
    key: &GraphKey,
    member: &ComponentName,
) -> Result<(NodeName, Channel), Status> {
    let nodes = nodes_of(state, key, Some(member))?;
    let Some(node) = nodes.first() else { return Err(graphs::not_found(state, key)) };
    Ok((node.name.clone(), dial(context, node).await?))
}

async fn dial(context: &Context, node: &NodeDescription) -> Result<Channel, Status> {
    let unreachable =
        |error: tonic::transport::Error| unreachable(&node.name, &format!("{:#}", anyhow::Error::new(error)));
    let endpoint = Endpoint::from_shared(format!("http://{}", node.api_address))
        .map_err(unreachable)?
        .connect_timeout(CONNECT_PATIENCE)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_PATIENCE);
    // Whoever answers there must be the node itself.
    let connector = trust::connector(context.credentials.keyring(), Expect::Node(node.uid.clone()));
    endpoint.connect_with_connector(connector).await.map_err(unreachable)
}

fn unreachable(node: &NodeName, error: &dyn std::fmt::Display) -> Status {
    let message = format!("the agent of node {node} cannot be reached: {error}");
    refuse(Code::Unavailable, "agent_unreachable", message)
}

/// What an agent answered, or, where the way to it broke, that it did.
pub(super) fn from_agent(node: &NodeName, status: Status) -> Status {
    match std::error::Error::source(&status) {
        Some(_) => unreachable(node, &status.message()),
        None => status,
    }
}

/// The lines of one node.
type Lines = BoxStream<'static, Result<wire::LogLine, Status>>;

async fn tail(context: &Context, node: &NodeDescription, request: wire::TailRequest) -> Result<Lines, Status> {
    let name = node.name.clone();
    let tailed = wire::logs_client::LogsClient::new(dial(context, node).await?).tail(request).await;
    let lines = tailed.map_err(|status| from_agent(&name, status))?.into_inner();
    Ok(lines.map_err(move |status| from_agent(&name, status)).boxed())
}

/// The lines of several nodes as one: in the order of their times, or, where they are followed, as they come. A node
/// that cannot be reached is told of in a line of its own, and the others are shown.
async fn merged(
    context: &Context,
    nodes: Vec<&NodeDescription>,
    request: &wire::TailRequest,
    now_ms: u64,
) -> Result<Lines, Status> {
    let mut streams: Vec<Lines> = Vec::new();
    let mut missing = Vec::new();
    let count = nodes.len();
    for node in nodes {
        match tail(context, node, request.clone()).await {
            Ok(lines) => streams.push(lines),
            Err(status) if count == 1 => return Err(status),
            Err(status) => missing.push(wire::LogLine {
                time_ms: now_ms,
                node: node.name.to_string(),
                graph: request.graph.clone(),
                level: wire::Level::Warn.into(),
                source: wire::Source::Agent.into(),
                message: format!("lines are missing: {}", status.message()),
                ..wire::LogLine::default()
            }),
        }
    }
    let missing = stream::iter(missing.into_iter().map(Ok));
    if request.follow || count == 1 {
        return Ok(missing.chain(stream::select_all(streams)).boxed());
    }
    let mut lines: Vec<wire::LogLine> = Vec::new();
    for stream in streams {
        lines.extend(stream.try_collect::<Vec<_>>().await?);
    }
    lines.sort_by(|a, b| (a.time_ms, &a.node, a.sequence).cmp(&(b.time_ms, &b.node, b.sequence)));
    let most = usize::try_from(request.lines).unwrap_or(usize::MAX);
    let skipped = if most == 0 { 0 } else { lines.len().saturating_sub(most) };
    Ok(stream::iter(lines.into_iter().skip(skipped).map(Ok)).chain(missing).boxed())
}

#[tonic::async_trait]
impl wire::logs_server::Logs for Logs {
    type TailStream = Answers<wire::LogLine>;

    async fn tail(&self, request: Request<wire::TailRequest>) -> Result<Response<Self::TailStream>, Status> {
        let request = request.into_inner();
        let key = parse::<GraphKey>("graph", &request.graph)?.base();
        let state = self.context.raft.read().await.map_err(|error| refusal::read(&error))?;
        let lines =
            merged(&self.context, nodes_of(&state, &key, None)?, &request, crate::clock::now_ms()).await?;
        Ok(Response::new(until_stopped(lines, &self.context.stop)))
    }
}
