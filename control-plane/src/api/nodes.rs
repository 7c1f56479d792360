//! `weft.node.v1.Nodes`: a task for each agent's stream, and what people see of nodes.

use std::pin::Pin;
use std::sync::Arc;

use cluster::command::Body;
use cluster::state::NodeRecord;
use cluster::{State, view};
use futures::Stream;
use model::id::Generation;
use model::name::NodeName;
use model::node::NodeDescription;
use model::report::Report;
use proto::convert::{parse, required};
use proto::status::refuse;
use proto::weft::node::v1 as wire;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

use super::mutation::propose;
use super::{Context, refusal};

/// Messages that wait for a slow agent: an assignment is the full picture, so that few are ever needed.
const MESSAGES_AHEAD: usize = 4;

/// The service.
#[derive(Debug, Clone)]
pub struct Nodes {
    context: Context,
}

impl Nodes {
    /// The service over `context`.
    pub fn new(context: Context) -> Self {
        Self { context }
    }
}

type ToAgent = Result<wire::ToAgent, Status>;

#[tonic::async_trait]
impl wire::nodes_server::Nodes for Nodes {
    type SessionStream = Pin<Box<dyn Stream<Item = ToAgent> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<wire::FromAgent>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut incoming = request.into_inner();
        let first = incoming.message().await?.and_then(|message| message.message);
        let Some(wire::from_agent::Message::Hello(hello)) = first else {
            return Err(refuse(
                Code::InvalidArgument,
                "missing_field",
                "the first message of a session is `hello`",
            ));
        };
        let node = NodeDescription::try_from(hello)?;
        let name = node.name.clone();
        self.context.liveness.touch(&name);
        let registered = propose(&self.context, None, Body::RegisterNode(node)).await?;
        registered.map_err(|refused| refusal::outcome(&refused))?;
        let state = self.context.raft.state();
        let interval = self.context.liveness.heartbeat_interval();
        let welcome = wire::ToAgent {
            message: Some(wire::to_agent::Message::Welcome(wire::Welcome {
                cluster: state.cluster.clone().map(String::from).unwrap_or_default(),
                heartbeat_interval_ms: u64::try_from(interval.as_millis()).unwrap_or(u64::MAX),
            })),
        };
        let (sender, receiver) = mpsc::channel(MESSAGES_AHEAD);
        // The channel is new and empty.
        let _ = sender.try_send(Ok(welcome));
        let session =
            Session { context: self.context.clone(), name, sent: None, reported: None, outgoing: sender };
        tokio::spawn(session.run(incoming, self.context.raft.changes()));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn list(&self, _: Request<wire::ListRequest>) -> Result<Response<wire::ListResponse>, Status> {
        let state = self.context.raft.read().await.map_err(|error| refusal::read(&error))?;
        let nodes = state.nodes.iter().map(|(name, record)| show(&state, name, record)).collect();
        Ok(Response::new(wire::ListResponse { nodes }))
    }

    async fn get(&self, request: Request<wire::GetRequest>) -> Result<Response<wire::Node>, Status> {
        let name: NodeName = parse("name", &request.into_inner().name)?;
        let state = self.context.raft.read().await.map_err(|error| refusal::read(&error))?;
        let Some(record) = state.nodes.get(&name) else {
            let near = graph::diagnostic::nearest(name.as_str(), state.nodes.keys().map(NodeName::as_str));
            let hint = near.map(|near| format!(": did you mean {near}?")).unwrap_or_default();
            return Err(refuse(Code::NotFound, "not_found", format!("there is no node {name}{hint}")));
        };
        Ok(Response::new(show(&state, &name, record)))
    }
}

fn show(state: &State, name: &NodeName, record: &NodeRecord) -> wire::Node {
    let graphs = state.graphs.iter().filter(|(_, graph)| graph.node.as_ref() == Some(name));
    wire::Node {
        description: Some(record.description.clone().into()),
        state: record.state.to_string(),
        joined_at_ms: record.joined_at_ms,
        changed_at_ms: record.changed_at_ms,
        accepted_generation: record.accepted.0,
        assigned_generation: record.assigned_at.0,
        graphs: graphs.map(|(key, _)| key.to_string()).collect(),
    }
}

/// One agent's stream.
struct Session {
    context: Context,
    name: NodeName,
    /// The generation that was sent last.
    sent: Option<Generation>,
    /// The report that was recorded last.
    reported: Option<Report>,
    outgoing: mpsc::Sender<ToAgent>,
}

impl Session {
    async fn run(mut self, mut incoming: Streaming<wire::FromAgent>, mut states: watch::Receiver<Arc<State>>) {
        loop {
            let state = states.borrow_and_update().clone();
            if !self.send_assignment(&state).await {
                return;
            }
            tokio::select! {
                // Cancel safe: a change that was not taken is seen by the next call.
                changed = states.changed() => if changed.is_err() { return },
                // Cancel safe: a message is taken whole or not at all.
                message = incoming.message() => match message {
                    Ok(Some(message)) => if let Err(status) = self.take(message).await {
                        // The agent may be gone already.
                        let _ = self.outgoing.send(Err(status)).await;
                        return;
                    },
                    Ok(None) => return,
                    Err(status) => {
                        tracing::info!(node = %self.name, %status, "an agent's session ended");
                        return;
                    }
                },
            }
        }
    }

    /// Sends the full picture if it has changed; `false` if the agent is gone.
    async fn send_assignment(&mut self, state: &State) -> bool {
        let Some(assigned) = state.nodes.get(&self.name).map(|record| record.assigned_at) else { return true };
        if self.sent == Some(assigned) {
            return true;
        }
        let Some(assignment) = view::assignment(state, &self.name) else { return true };
        self.sent = Some(assigned);
        let message = Some(wire::to_agent::Message::Assignment(assignment.into()));
        self.outgoing.send(Ok(wire::ToAgent { message })).await.is_ok()
    }

    async fn take(&mut self, message: wire::FromAgent) -> Result<(), Status> {
        let report = match required("message", message.message)? {
            wire::from_agent::Message::Report(report) => Report::try_from(report)?,
            wire::from_agent::Message::Hello(_) => {
                return Err(refuse(Code::InvalidArgument, "unexpected", "a session has one `hello`"));
            }
        };
        if report.node != self.name {
            let message = format!("node {} reported for node {}", self.name, report.node);
            return Err(refuse(Code::PermissionDenied, "node_identity", message));
        }
        self.context.liveness.touch(&self.name);
        if self.reported.as_ref() == Some(&report) && self.is_ready() {
            return Ok(());
        }
        self.record(report).await
    }

    fn is_ready(&self) -> bool {
        let state = self.context.raft.state();
        state.nodes.get(&self.name).is_some_and(|record| record.state == model::node::NodeState::Ready)
    }

    async fn record(&mut self, report: Report) -> Result<(), Status> {
        if !self.is_ready() {
            // It was given up while its session lived on: it is heard again.
            let description =
                self.context.raft.state().nodes.get(&self.name).map(|node| node.description.clone());
            if let Some(description) = description {
                let done = propose(&self.context, None, Body::RegisterNode(description)).await?;
                done.map_err(|refused| refusal::outcome(&refused))?;
            }
        }
        match propose(&self.context, None, Body::RecordReport(report.clone())).await? {
            Ok(_) => self.reported = Some(report),
            // An older report than the one that is known: a newer one follows.
            Err(refused) => tracing::debug!(node = %self.name, %refused, "a report was not recorded"),
        }
        Ok(())
    }
}
