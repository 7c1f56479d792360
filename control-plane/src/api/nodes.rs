//! `weft.node.v1.Nodes`: a task for each agent's stream, and what people see of nodes.

mod show;

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cluster::command::{Body, LabelNode, RemoveNode, TaintNode};
use cluster::outcome::Refusal;
use cluster::rollout::Traffic;
use cluster::state::{MemberId, NodeRecord};
use cluster::{State, view};
use model::assignment::Assignment;
use model::id::{Generation, GraphKey, Uid};
use model::name::{ComponentName, NodeName};
use model::node::{
    Admission, KNOWS_ENCODED_ROUTES, LABEL_MAX_BYTES, LABELS_MAX, Labels, NodeDescription, NodeState,
    TAINTS_MAX, is_label, is_plain,
};
use model::placement::{ATTRIBUTES, NODE_LABEL};
use model::report::{Failure, GraphReport, Progress, Report};
use model::scale::Calls;
use proto::convert::{DecodeError, parse, read, required};
use proto::status::refuse;
use proto::weft::node::v1 as wire;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};
use trust::{Role, gate};

use super::mutation::{TRIES_MAX, known, once, propose, tag};
use super::{Answers, Context, enrolment, not_leader, refusal, stopping, transport_errors};
use crate::clock;
use crate::raft::{Handle, ReadError};
use crate::routing::EncodedRoutes;

pub(super) use show::{counts_and_suspects, signs_of};

/// The largest report: ten thousand graphs of which each has failed with a long reason.
pub const REPORT_MAX_BYTES: usize = 32 << 20;
/// How long an agent may take to say who it is, or to take a message that waits for it.
const AGENT_PATIENCE: Duration = Duration::from_secs(10);
/// The longest that a drain waits for what still answers.
const DRAIN_MAX: Duration = Duration::from_hours(24);
/// Graphs of a report in one command: far below the bound of a command's size.
const NEWS_MAX: usize = 100;
/// The longest reason for a failure that is kept: it is shown to people, and there is one for each graph.
const FAILURE_MAX_BYTES: usize = 2 << 10;
/// Messages that wait for a slow agent: an assignment is the full picture, so that few are ever needed.
const MESSAGES_AHEAD: usize = 4;
/// Generations that an agent was sent and of which it may say that it accepted them: it takes each as it comes, so that one
/// that is behind by more is not well connected.
const SENT_MAX: usize = 64;

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

/// The latest session of each node: a newer one ends it. A cheap handle.
#[derive(Debug, Clone, Default)]
pub struct Sessions(Arc<Mutex<BTreeMap<NodeName, CancellationToken>>>);

impl Sessions {
    /// Begins a session of a node: ends the one before, and says when this one must end.
    fn begin(&self, node: &NodeName) -> CancellationToken {
        let ended = CancellationToken::new();
        // One entry for each node that ever registered, of which the state bounds the number.
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = sessions.insert(node.clone(), ended.clone()) {
            before.cancel();
        }
        ended
    }
}

type ToAgent = Result<wire::ToAgent, Status>;

async fn within<T>(work: impl Future<Output = T>, what: &str) -> Result<T, Status> {
    tokio::time::timeout(AGENT_PATIENCE, work).await.map_err(|_| {
        let message = format!("{what} within {} s", AGENT_PATIENCE.as_secs());
        refuse(Code::DeadlineExceeded, "agent_silent", message)
    })
}

#[tonic::async_trait]
impl wire::nodes_server::Nodes for Nodes {
    type SessionStream = Answers<wire::ToAgent>;

    async fn session(
        &self,
        request: Request<Streaming<wire::FromAgent>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let caller = gate::caller(&request, Role::Node)?;
        let certificate_ends = gate::certificate_ends(&request);
        // Who is heard of is known to whoever leads, and to nobody else.
        if !self.context.raft.is_leader() {
            return Err(not_leader(&self.context));
        }
        let mut incoming = request.into_inner();
        let first = within(incoming.message(), "no hello came").await?;
        let first = first.map_err(transport_errors::in_stream)?.and_then(|message| message.message);
        let Some(wire::from_agent::Message::Hello(hello)) = first else {
            return Err(refuse(
                Code::InvalidArgument,
                "missing_field",
                "the first message of a session is `hello`",
            ));
        };
        let node = NodeDescription::try_from(hello)?;
        let (name, level) = (node.name.clone(), node.level);
        let state = self.context.raft.read().await.map_err(|error| refusal::read(&error))?;
        // A node speaks for itself alone, whatever it says it is.
        if node.uid != caller || enrolment::node_of(&state, &caller) != Some(&name) {
            let message = format!("this identity, {caller}, is not that of a node {name} that has joined");
            return Err(refuse(Code::PermissionDenied, "node_identity", message));
        }
        let is_known = |record: &NodeRecord| record.description == node && record.state == NodeState::Ready;
        // After a restart of the control plane every agent comes back, and there is nothing to write down.
        if !state.nodes.get(&name).is_some_and(is_known) {
            let registered = propose(&self.context, None, Body::RegisterNode(node)).await?;
            registered.map_err(|refused| refusal::outcome(&refused))?;
        }
        // Only now: another node under this name must not keep it alive.
        self.context.liveness.touch(&name);
        if let Some(ends) = certificate_ends {
            self.context.liveness.certified(&name, clock::milliseconds(ends));
        }
        let ended = self.context.sessions.begin(&name);
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
        let context = self.context.clone();
        let session = Session {
            context,
            name,
            level,
            sent: None,
            stopping: BTreeMap::new(),
            unconfirmed: None,
            outgoing: sender,
            ended,
        };
        tokio::spawn(session.run(incoming, self.context.raft.changes()));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn list(&self, _: Request<wire::ListRequest>) -> Result<Response<wire::ListResponse>, Status> {
        let state = self.context.raft.read().await.map_err(|error| refusal::read(&error))?;
        let signs = signs_of(&self.context, &state, &BTreeSet::new()).await;
        let nodes = state.nodes.iter().map(|(name, record)| show::row(&state, name, record, signs.get(name)));
        Ok(Response::new(wire::ListResponse { nodes: nodes.collect() }))
    }

    async fn get(&self, request: Request<wire::GetRequest>) -> Result<Response<wire::Node>, Status> {
        let name: NodeName = parse("name", &request.into_inner().name)?;
        let state = self.context.raft.read().await.map_err(|error| refusal::read(&error))?;
        let Some(record) = state.nodes.get(&name) else {
            let near = graph::diagnostic::nearest(name.as_str(), state.nodes.keys().map(NodeName::as_str));
            let hint = near.map(|near| format!(": did you mean {near}?")).unwrap_or_default();
            return Err(refuse(Code::NotFound, "not_found", format!("there is no node {name}{hint}")));
        };
        let signs = signs_of(&self.context, &state, &BTreeSet::from([name.clone()])).await;
        Ok(Response::new(show::page(&state, &name, record, signs.get(&name))))
    }

    async fn heard(
        &self,
        request: Request<wire::HeardRequest>,
    ) -> Result<Response<wire::HeardResponse>, Status> {
        let caller = gate::caller(&request, Role::Member)?;
        let state = self.context.raft.state();
        let id = caller.as_str().parse().ok().map(MemberId);
        if !id.is_some_and(|id| state.members.contains_key(&id)) {
            let message = format!("member {caller} is none of this cluster's");
            return Err(refuse(Code::PermissionDenied, "not_a_member", message));
        }
        if !self.context.raft.is_leader() {
            return Err(not_leader(&self.context));
        }
        let request = request.into_inner();
        let names = request.nodes.iter().map(|name| parse("nodes", name)).collect::<Result<_, _>>()?;
        let key = (!request.graph.is_empty()).then(|| parse("graph", &request.graph)).transpose()?;
        let nodes = signs_of(&self.context, &state, &names).await.iter().map(show::signs).collect();
        let graph = key.and_then(|key| view::status(&state, &key)).map(|mut status| {
            self.context.tell(&state, &mut status);
            status.into()
        });
        Ok(Response::new(wire::HeardResponse { nodes, graph }))
    }

    async fn admit(
        &self,
        request: Request<wire::AdmitRequest>,
    ) -> Result<Response<wire::AdmitResponse>, Status> {
        let mut request = request.into_inner();
        let id = std::mem::take(&mut request.request_id);
        let tag = tag(&id, &request)?;
        let node: NodeName = parse("node", &request.node)?;
        let admission = match request.admission() {
            wire::Admission::Unspecified => return Err(DecodeError::missing("admission").into()),
            wire::Admission::Open => Admission::Open,
            wire::Admission::Cordoned => Admission::Cordoned,
            wire::Admission::Draining => Admission::Draining {
                deadline_ms: self.context.raft.now_ms() + checked_drain(request.drain_ms)?,
            },
        };
        once(&self.context, tag, Body::AdmitNode { node, admission }).await?;
        Ok(Response::new(wire::AdmitResponse {}))
    }

    async fn label(
        &self,
        request: Request<wire::LabelRequest>,
    ) -> Result<Response<wire::LabelResponse>, Status> {
        let mut request = request.into_inner();
        let id = std::mem::take(&mut request.request_id);
        let tag = tag(&id, &request)?;
        let node: NodeName = parse("node", &request.node)?;
        let set: Labels = request.set.into_iter().collect();
        let unset: BTreeSet<String> = request.unset.into_iter().collect();
        check_labels("label", LABELS_MAX, &set, &unset)?;
        once(&self.context, tag, Body::LabelNode(LabelNode { node, set, unset })).await?;
        Ok(Response::new(wire::LabelResponse {}))
    }

    async fn taint(
        &self,
        request: Request<wire::TaintRequest>,
    ) -> Result<Response<wire::TaintResponse>, Status> {
        let mut request = request.into_inner();
        let id = std::mem::take(&mut request.request_id);
        let tag = tag(&id, &request)?;
        let node: NodeName = parse("node", &request.node)?;
        let set: Labels = request.set.into_iter().collect();
        let unset: BTreeSet<String> = request.unset.into_iter().collect();
        check_labels("taint", TAINTS_MAX, &set, &unset)?;
        once(&self.context, tag, Body::TaintNode(TaintNode { node, set, unset })).await?;
        Ok(Response::new(wire::TaintResponse {}))
    }

    async fn remove(
        &self,
        request: Request<wire::RemoveRequest>,
    ) -> Result<Response<wire::RemoveResponse>, Status> {
        let mut request = request.into_inner();
        let id = std::mem::take(&mut request.request_id);
        let tag = tag(&id, &request)?;
        let node: NodeName = parse("node", &request.node)?;
        let until_ms = enrolment::revoked_until_ms(&self.context);
        let remove = RemoveNode { node, until_ms, loses_data: request.loses_data };
        once(&self.context, tag, Body::RemoveNode(remove)).await?;
        Ok(Response::new(wire::RemoveResponse {}))
    }

    async fn rebalance(
        &self,
        request: Request<wire::RebalanceRequest>,
    ) -> Result<Response<wire::RebalanceResponse>, Status> {
        let mut request = request.into_inner();
        let id = std::mem::take(&mut request.request_id);
        let tag = tag(&id, &request)?;
        for _ in 0..TRIES_MAX {
            let state = self.context.raft.read().await.map_err(|error| refusal::read(&error))?;
            // What would be moved now was not asked for.
            if known(&state, &tag)?.is_some() {
                return Ok(Response::new(wire::RebalanceResponse { moves: Vec::new(), was_made: true }));
            }
            let signs = signs_of(&self.context, &state, &BTreeSet::new()).await;
            let suspects = signs.into_iter().filter(|(_, signs)| signs.is_suspect).map(|(name, _)| name);
            let (planned, suspects) = (state.clone(), suspects.collect::<BTreeSet<NodeName>>());
            let plan = move || cluster::schedule::rebalance(&planned, &suspects);
            let places = self.context.checks.run(plan).await?;
            let moves = places.iter().map(|place| show::moved(&state, place)).collect();
            if !request.is_trial && !places.is_empty() {
                match propose(&self.context, Some(tag.clone()), Body::Place(places)).await? {
                    Ok(_) => {}
                    Err(Refusal::Stale { .. }) => continue,
                    Err(refused) => return Err(refusal::outcome(&refused)),
                }
            }
            return Ok(Response::new(wire::RebalanceResponse { moves, was_made: false }));
        }
        Err(refuse(Code::Aborted, "stale", "graphs are moved too often at this moment: try again"))
    }
}

/// Refuses labels or taints, given or taken away, that no node can have.
fn check_labels(what: &str, most: usize, set: &Labels, unset: &BTreeSet<String>) -> Result<(), Status> {
    if let Some((name, value)) = set.iter().find(|(name, value)| !is_label(name, value)) {
        let why = format!(
            "`{name}={value}`: a {what} has up to {LABEL_MAX_BYTES} printable ASCII characters in its name and its value, \
             without spaces, the label `{NODE_LABEL}` is the name of the node, and those that begin with `{ATTRIBUTES}` it has by itself"
        );
        return Err(DecodeError::malformed("set", why).into());
    }
    // Names that nobody can give any more can be taken away: a node may have them from an earlier version.
    if let Some(name) = unset.iter().find(|name| !is_plain(name)) {
        let why = format!(
            "`{name}`: the name of a {what} has 1 to {LABEL_MAX_BYTES} printable ASCII characters, without spaces"
        );
        return Err(DecodeError::malformed("unset", why).into());
    }
    if set.len() + unset.len() > most {
        let why = format!("a node has at most {most} {what}s");
        return Err(DecodeError::malformed("set", why).into());
    }
    Ok(())
}

/// How long a drain may take, in milliseconds.
fn checked_drain(drain_ms: u64) -> Result<u64, Status> {
    let longest = u64::try_from(DRAIN_MAX.as_millis()).unwrap_or(u64::MAX);
    if (1..=longest).contains(&drain_ms) {
        return Ok(drain_ms);
    }
    let why = format!("a drain takes 1 to {longest} ms, not {drain_ms}");
    Err(DecodeError::malformed("drain_ms", why).into())
}

/// What of a node's assignment stops in isolation: the members that ask for it.
type Stopping = BTreeSet<(GraphKey, Uid, ComponentName)>;

/// A report that the agent wants to know the arrival of.
struct Heartbeat {
    number: u64,
    accepted: Generation,
    /// That in which the agent was heard of.
    term: u64,
}

/// A heartbeat, and the state that is read for its answer.
type Reading = Pin<Box<dyn Future<Output = (Heartbeat, Result<Arc<State>, ReadError>)> + Send>>;

/// One agent's stream.
struct Session {
    context: Context,
    name: NodeName,
    /// What the agent knows.
    level: u32,
    /// The generation that was sent last.
    sent: Option<Generation>,
    /// What stops in isolation of each generation that was sent, from the one on that the agent has accepted.
    stopping: BTreeMap<Generation, Arc<Stopping>>,
    /// The latest heartbeat that waits for its answer.
    unconfirmed: Option<Heartbeat>,
    outgoing: mpsc::Sender<ToAgent>,
    /// Set once a newer session of the node has begun.
    ended: CancellationToken,
}

impl Session {
    async fn run(mut self, incoming: Streaming<wire::FromAgent>, states: watch::Receiver<Arc<State>>) {
        let Err(status) = self.serve(incoming, states).await else { return };
        tracing::info!(node = %self.name, %status, "an agent's session ended");
        // The agent may be gone already, or be the reason for which it ends.
        let _ = tokio::time::timeout(AGENT_PATIENCE, self.outgoing.send(Err(status))).await;
    }

    /// Runs until the agent hangs up, or something ends the session.
    async fn serve(
        &mut self,
        mut incoming: Streaming<wire::FromAgent>,
        mut states: watch::Receiver<Arc<State>>,
    ) -> Result<(), Status> {
        let stop = self.context.stop.clone();
        let mut routes = self.context.routes.clone();
        routes.mark_changed();
        let raft = self.context.raft.clone();
        let follows = raft.follows();
        tokio::pin!(follows);
        // Beside the loop: what the agent says meanwhile keeps it from being lost, however long a quorum takes.
        let mut reading: Option<Reading> = None;
        loop {
            let state = states.borrow_and_update().clone();
            self.send_assignment(&state).await?;
            if reading.is_none() {
                reading = self.unconfirmed.take().map(|heartbeat| read_for(raft.clone(), heartbeat));
            }
            tokio::select! {
                () = stop.cancelled() => return Err(stopping()),
                () = self.ended.cancelled() => return Err(superseded(&self.name)),
                () = &mut follows => return Err(not_leader(&self.context)),
                // Cancel safe: a change that was not taken is seen by the next call.
                changed = states.changed() => if changed.is_err() { return Err(stopping()) },
                changed = routes.changed() => {
                    changed.map_err(|_| stopping())?;
                    let latest = routes.borrow_and_update().clone();
                    self.send_routes(latest).await?;
                }
                // Cancel safe: a message is taken whole or not at all.
                message = incoming.message() => match message.map_err(transport_errors::in_stream)? {
                    Some(message) => self.take(message).await?,
                    None => return Ok(()),
                },
                // Cancel safe: what is read is kept, and polled again by the next turn.
                (heartbeat, state) = whole(&mut reading) => {
                    reading = None;
                    self.confirm(&heartbeat, state).await?;
                }
            }
        }
    }

    /// Sends the full picture if it has changed.
    async fn send_assignment(&mut self, state: &State) -> Result<(), Status> {
        let Some(assigned) = state.nodes.get(&self.name).map(|record| record.assigned_at) else {
            return Ok(());
        };
        // A state that was read may be older than the one that was sent.
        if self.sent.is_some_and(|sent| sent >= assigned) {
            return Ok(());
        }
        let Some(assignment) = view::assignment(state, &self.name) else { return Ok(()) };
        self.sent = Some(assigned);
        self.note_stopping(&assignment);
        self.send(wire::to_agent::Message::Assignment(assignment.into()), "no assignment was taken").await
    }

    /// Sends the routes of the cluster; the agent refuses those of an older state than it knows.
    async fn send_routes(&self, routes: Option<Arc<EncodedRoutes>>) -> Result<(), Status> {
        let Some(routes) = routes else { return Ok(()) };
        let message = match self.level >= KNOWS_ENCODED_ROUTES {
            true => wire::to_agent::Message::EncodedRoutes(routes.bytes.clone()),
            false => wire::to_agent::Message::Routes(routes.map.clone().into()),
        };
        self.send(message, "no routes were taken").await
    }

    async fn send(&self, message: wire::to_agent::Message, late: &str) -> Result<(), Status> {
        let message = wire::ToAgent { message: Some(message) };
        // An agent that is gone ends the session by its own side of the stream.
        let _ = within(self.outgoing.send(Ok(message)), late).await?;
        Ok(())
    }

    async fn take(&mut self, message: wire::FromAgent) -> Result<(), Status> {
        let (heartbeat, report) = match required("message", message.message)? {
            wire::from_agent::Message::Report(report) => (report.heartbeat, Report::try_from(report)?),
            wire::from_agent::Message::Traffic(traffic) => {
                self.context.liveness.touch(&self.name);
                return self.note(traffic);
            }
            wire::from_agent::Message::Hello(_) => {
                return Err(refuse(Code::InvalidArgument, "unexpected", "a session has one `hello`"));
            }
        };
        if report.node != self.name {
            let message = format!("node {} reported for node {}", self.name, report.node);
            return Err(refuse(Code::PermissionDenied, "node_identity", message));
        }
        // Before it is heard of: it must be this term's leader who counts from there.
        let term = self.context.raft.term();
        let (is_kept, accepted) = (self.context.liveness.touch(&self.name), report.accepted);
        self.return_if_given_up().await?;
        self.record(shortened(report)).await?;
        if heartbeat != 0 && is_kept {
            self.unconfirmed = Some(Heartbeat { number: heartbeat, accepted, term });
        }
        Ok(())
    }

    /// Answers a report: what stops in isolation of what the node runs is assigned to it now, and the node is not lost for a
    /// while. `read` began after it was heard of.
    ///
    /// A quorum may have said what was read to another leader, to which a read is forwarded. So this member must lead still
    /// after it, in the term in which the node was heard of: whoever leads later gives the node its whole time from a later
    /// moment, and nothing is placed elsewhere within the lease.
    ///
    /// What the node was assigned since the generation that it has accepted does not matter: everything that is placed on it
    /// changes its assignment, and a node must not be cut off by that.
    async fn confirm(
        &mut self,
        heartbeat: &Heartbeat,
        read: Result<Arc<State>, ReadError>,
    ) -> Result<(), Status> {
        let state = match read {
            Ok(state) if state.is_ready(&self.name) => state,
            Ok(_) => return Ok(()),
            Err(error) => {
                tracing::debug!(node = %self.name, %error, "a heartbeat was not confirmed");
                return Ok(());
            }
        };
        let raft = &self.context.raft;
        if !raft.is_leader() || raft.term() != heartbeat.term {
            return Ok(());
        }
        // It is told what it must not run before it may run the rest.
        self.send_assignment(&state).await?;
        self.stopping = self.stopping.split_off(&heartbeat.accepted);
        let Some(stopping) = self.stopping.get(&heartbeat.accepted) else { return Ok(()) };
        if !stopping.iter().all(|member| is_assigned(&state, &self.name, member)) {
            return Ok(());
        }
        let confirmed = wire::Confirmed {
            heartbeat: heartbeat.number,
            generation: heartbeat.accepted.0,
            lease_ms: u64::try_from(self.context.liveness.lease().as_millis()).unwrap_or(u64::MAX),
        };
        self.send(wire::to_agent::Message::Confirmed(confirmed), "no confirmation was taken").await
    }

    /// Remembers what stops in isolation of a generation that is sent.
    fn note_stopping(&mut self, assignment: &Assignment) {
        let stopping = stopping_of(assignment);
        // Mostly it is as before, and a node has many graphs.
        let last = self.stopping.last_key_value().map(|(_, last)| last).filter(|last| ***last == stopping);
        let stopping = last.cloned().unwrap_or_else(|| Arc::new(stopping));
        if self.stopping.len() >= SENT_MAX {
            self.stopping.pop_first();
        }
        self.stopping.insert(assignment.generation, stopping);
    }

    /// Notes how requests went at the node's ingress, and how many calls are under way there.
    fn note(&self, traffic: wire::Traffic) -> Result<(), Status> {
        let state = self.context.raft.state();
        for of in traffic.graphs {
            let key: GraphKey = parse("graphs.graph", &of.graph)?;
            let counted = Traffic {
                stable: required("graphs.stable", of.stable)?.try_into()?,
                candidate: required("graphs.candidate", of.candidate)?.try_into()?,
            };
            self.context.traffic.note(&state, &self.name, (key, Generation(of.generation)), counted);
        }
        for of in traffic.calls {
            let key: GraphKey = parse("calls.graph", &of.graph)?;
            let component = read("calls.component", of.component)?;
            let calls = Calls::from_thousandths(of.thousandths);
            self.context.calls.note(&state, &self.name, key, component, calls);
        }
        Ok(())
    }

    /// A node that was given up while its session lived on is heard again.
    async fn return_if_given_up(&self) -> Result<(), Status> {
        let state = self.context.raft.state();
        let Some(record) = state.nodes.get(&self.name) else { return Ok(()) };
        if record.state == NodeState::Ready {
            return Ok(());
        }
        let done = propose(&self.context, None, Body::RegisterNode(record.description.clone())).await?;
        done.map(drop).map_err(|refused| refusal::outcome(&refused))
    }

    /// Brings what is new in a report to the log, in parts that fit.
    async fn record(&self, report: Report) -> Result<(), Status> {
        let state = self.context.raft.state();
        let moved = state.nodes.get(&self.name).is_some_and(|record| record.accepted != report.accepted);
        let news: Vec<GraphReport> =
            report.graphs.into_iter().filter(|seen| is_news(&state, &self.name, seen)).collect();
        let mut parts: Vec<Vec<GraphReport>> = news.chunks(NEWS_MAX).map(<[GraphReport]>::to_vec).collect();
        if parts.is_empty() && moved {
            parts.push(Vec::new());
        }
        for graphs in parts {
            let part = Report { node: report.node.clone(), accepted: report.accepted, graphs };
            if let Err(refused) = propose(&self.context, None, Body::RecordReport(part)).await? {
                // An older report than the one that is known: a newer one follows.
                tracing::debug!(node = %self.name, %refused, "a report was not recorded");
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Reads the state for the answer to a heartbeat.
fn read_for(raft: Handle, heartbeat: Heartbeat) -> Reading {
    Box::pin(async move {
        let state = raft.read().await;
        (heartbeat, state)
    })
}

/// Resolves once it is read, if there is anything to read.
async fn whole(reading: &mut Option<Reading>) -> (Heartbeat, Result<Arc<State>, ReadError>) {
    match reading {
        Some(reading) => reading.await,
        None => pending().await,
    }
}

/// The members that stop on the node of an assignment once it is cut off.
fn stopping_of(assignment: &Assignment) -> Stopping {
    let mut stopping = Stopping::new();
    for graph in &assignment.graphs {
        let stops = graph.linked.components.iter().filter(|(name, found)| {
            !found.settings.on_isolation.serves() && graph.placement.runs_on(name, &assignment.node)
        });
        stopping.extend(stops.map(|(name, _)| (graph.key.clone(), graph.uid.clone(), name.clone())));
    }
    stopping
}

/// Whether a node is to run a member: it is placed there, or goes on there until it answers where it goes.
fn is_assigned(state: &State, node: &NodeName, (key, uid, member): &(GraphKey, Uid, ComponentName)) -> bool {
    let Some(graph) = state.graphs.get(key).filter(|graph| graph.uid == *uid) else { return false };
    let leaving = graph.leaving.as_ref().map(|leaving| &leaving.placement);
    let placement = if graph.is_on(node) { graph.placement.as_ref() } else { leaving };
    placement.is_some_and(|placement| placement.runs_on(member, node))
}

fn superseded(node: &NodeName) -> Status {
    let message =
        format!("a newer session of node {node} has begun: two agents with its data directory may run");
    refuse(Code::Aborted, "session_superseded", message)
}

/// Whether the state would change by what is said of a graph; `apply` decides again.
fn is_news(state: &State, node: &NodeName, seen: &GraphReport) -> bool {
    state.graphs.get(&seen.key).is_some_and(|record| {
        record.uid == seen.uid && record.is_on(node) && record.observed.get(node) != Some(seen)
    })
}

/// The report with every reason cut to the bytes that are kept.
fn shortened(mut report: Report) -> Report {
    for graph in &mut report.graphs {
        if let Progress::Failed(Failure { reason, message }) | Progress::Retrying(Failure { reason, message }) =
            &mut graph.progress
        {
            shorten(reason);
            shorten(message);
        }
        graph.failing.iter_mut().for_each(shorten);
    }
    report
}

fn shorten(text: &mut String) {
    if text.len() > FAILURE_MAX_BYTES {
        text.truncate(text.floor_char_boundary(FAILURE_MAX_BYTES));
        text.push('…');
    }
}
