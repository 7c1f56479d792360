//! `weft.log.v1.Logs`: passes on what the agent of a graph's node says.

use std::time::Duration;

use cluster::State;
use futures::TryStreamExt as _;
use model::id::GraphKey;
use model::name::{ComponentName, NodeName};
use proto::convert::parse;
use proto::status::refuse;
use proto::weft::log::v1 as wire;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

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

/// A connection to the agent of the node that runs a graph, or this member of it.
pub(super) async fn agent_of(
    state: &State,
    key: &GraphKey,
    member: Option<&ComponentName>,
) -> Result<(NodeName, Channel), Status> {
    let record = state.graphs.get(key).ok_or_else(|| graphs::not_found(state, key))?;
    let name = record.placement.as_ref().map(|placement| match member {
        Some(member) => placement.node_of(member),
        None => &placement.home,
    });
    let node = name.and_then(|name| state.nodes.get(name));
    let Some(node) = node else {
        let message = format!("{key} is on no node yet: see `ctl why {key}`");
        return Err(refuse(Code::FailedPrecondition, "not_placed", message));
    };
    let name = &node.description.name;
    let unreachable = |error: tonic::transport::Error| unreachable(name, &error);
    let endpoint = Endpoint::from_shared(format!("http://{}", node.description.api_address))
        .map_err(unreachable)?
        .connect_timeout(CONNECT_PATIENCE)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_PATIENCE);
    Ok((name.clone(), endpoint.connect().await.map_err(unreachable)?))
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

#[tonic::async_trait]
impl wire::logs_server::Logs for Logs {
    type TailStream = Answers<wire::LogLine>;

    async fn tail(&self, request: Request<wire::TailRequest>) -> Result<Response<Self::TailStream>, Status> {
        let request = request.into_inner();
        let key: GraphKey = parse("graph", &request.graph)?;
        let state = self.context.raft.read().await.map_err(|error| refusal::read(&error))?;
        let (node, channel) = agent_of(&state, &key, None).await?;
        let tailed = wire::logs_client::LogsClient::new(channel).tail(request).await;
        let lines = tailed.map_err(|status| from_agent(&node, status))?.into_inner();
        let lines = lines.map_err(move |status| from_agent(&node, status));
        Ok(Response::new(until_stopped(lines, &self.context.stop)))
    }
}
