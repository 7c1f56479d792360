//! `weft.log.v1.Logs`: passes on what the agent of a graph's node says.

use std::pin::Pin;
use std::time::Duration;

use cluster::State;
use futures::Stream;
use model::id::GraphKey;
use model::name::NodeName;
use proto::convert::parse;
use proto::status::refuse;
use proto::weft::log::v1 as wire;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

use super::{Context, graphs, refusal};

/// How long an agent may take to accept a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);

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

/// A connection to the agent of the node that runs a graph.
pub(super) async fn agent_of(state: &State, key: &GraphKey) -> Result<(NodeName, Channel), Status> {
    let record = state.graphs.get(key).ok_or_else(|| graphs::not_found(state, key))?;
    let node = record.node.as_ref().and_then(|name| state.nodes.get(name));
    let Some(node) = node else {
        let message = format!("{key} is on no node yet: see `ctl why {key}`");
        return Err(refuse(Code::FailedPrecondition, "not_placed", message));
    };
    let address = &node.description.api_address;
    let unreachable = |error: tonic::transport::Error| {
        let message = format!("the agent of node {} cannot be reached: {error}", node.description.name);
        refuse(Code::Unavailable, "agent_unreachable", message)
    };
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(unreachable)?;
    let channel = endpoint.connect_timeout(CONNECT_PATIENCE).connect().await.map_err(unreachable)?;
    Ok((node.description.name.clone(), channel))
}

#[tonic::async_trait]
impl wire::logs_server::Logs for Logs {
    type TailStream = Pin<Box<dyn Stream<Item = Result<wire::LogLine, Status>> + Send>>;

    async fn tail(&self, request: Request<wire::TailRequest>) -> Result<Response<Self::TailStream>, Status> {
        let request = request.into_inner();
        let key: GraphKey = parse("graph", &request.graph)?;
        let state = self.context.raft.read().await.map_err(|error| refusal::read(&error))?;
        let (_, channel) = agent_of(&state, &key).await?;
        let lines = wire::logs_client::LogsClient::new(channel).tail(request).await?;
        Ok(Response::new(Box::pin(lines.into_inner())))
    }
}
