//! What can be reached from other nodes: the graphs that serve, and for a while those that served before.
//!
//! The nodes of a graph change to a new generation one after the other. A consumer of the old one must still find its
//! provider, also on a node that has no part in the new one. One of the new one finds it before it serves requests:
//! a generation can be reached from the moment it is prepared, and takes over where it is called from outside only
//! once it can be reached on all nodes that it calls.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use http::{Request, Response};
use hyper::body::Incoming;
use model::assignment::AssignedGraph;
use model::id::{GraphKey, Uid};
use model::link::{Binding, Body, GraphVersion, LinkFailure, LinkReason, Open};
use model::name::NodeName;
use tokio::sync::watch;

use crate::audit::Audit;
use crate::host::body::Body as AnswerBody;
use crate::host::grant::{self, Caller, Denial};
use crate::host::provide::Inbound;
use crate::host::running::Running;
use crate::host::{http_link, request};
use crate::http_road::not_begun;
use crate::told::Assigned;

/// How long a graph can be reached that does not serve here: no longer, or not yet.
const LINGER: Duration = Duration::from_secs(30);
/// How often other nodes are told that what they linger with is called: more than twice within that.
const KEEP_EVERY: Duration = Duration::from_secs(10);
/// Graphs of which they are told at one time.
const KEPT_AT_ONCE: usize = 16;
/// How long a session waits for its generation to serve here.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long, where the provider runs on other nodes too.
const ARRIVAL_TIMEOUT_OF_REPLICAS: Duration = Duration::from_millis(50);

/// A graph, and until when it can be reached if it is no longer served.
type Entry = (Arc<Running>, Option<Instant>);

/// The graphs that can be reached, and who may reach them; clones are the same.
#[derive(Clone)]
pub struct Reach {
    graphs: watch::Sender<Arc<Vec<Entry>>>,
    assigned: Assigned,
    /// The identities of other nodes: those of the assignment, and of those before it for graphs that linger. One that
    /// a node has no more is revoked, and does not come as far as here.
    nodes: Arc<Mutex<BTreeMap<Uid, NodeName>>>,
    audit: Audit,
}

impl Reach {
    /// Nothing is reached yet; what is refused is written down.
    pub fn new(assigned: Assigned, audit: Audit) -> Self {
        Self { graphs: watch::Sender::new(Arc::default()), assigned, nodes: Arc::default(), audit }
    }

    /// Which node the caller is.
    fn node(&self, caller: &Uid) -> Option<NodeName> {
        let assignment = self.assigned.now();
        let mut peers = assignment.iter().flat_map(|assignment| &assignment.peers);
        if let Some((node, _)) = peers.find(|(_, peer)| peer.uid == *caller) {
            return Some(node.clone());
        }
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).get(caller).cloned()
    }

    /// Remembers who the nodes are that a graph is shared with.
    fn remember(&self) {
        let Some(assignment) = self.assigned.now() else { return };
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.retain(|uid, _| !assignment.revoked.contains(uid));
        nodes.extend(assignment.peers.iter().map(|(node, peer)| (peer.uid.clone(), node.clone())));
    }

    /// From now on this can be reached; it serves later, or never.
    pub fn offer(&self, prepared: Arc<Running>) {
        self.remember();
        self.graphs.send_modify(|graphs| {
            let version = prepared.version();
            let mut next: Vec<Entry> =
                graphs.iter().filter(|(running, _)| !running.is(&version)).cloned().collect();
            next.push((prepared, Some(Instant::now() + LINGER)));
            *graphs = Arc::new(next);
        });
        self.forget_later();
    }

    /// From now on these serve; what served before can be reached for a while.
    pub fn replace(&self, serving: &[Arc<Running>]) {
        let now = Instant::now();
        self.graphs.send_modify(|graphs| {
            let mut next: Vec<Entry> = serving.iter().map(|running| (running.clone(), None)).collect();
            for (running, until) in graphs.iter() {
                let is_served = serving.iter().any(|other| Arc::ptr_eq(other, running));
                let until = until.unwrap_or(now + LINGER);
                if !is_served && until > now && running.has_providers() {
                    next.push((running.clone(), Some(until)));
                }
            }
            *graphs = Arc::new(next);
        });
        self.forget_later();
    }

    fn forget_later(&self) {
        if self.graphs.borrow().iter().any(|(_, until)| until.is_some()) {
            let reach = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(LINGER).await;
                reach.forget();
            });
        }
    }

    /// Lets go of what can no longer be reached.
    fn forget(&self) {
        let now = Instant::now();
        self.graphs.send_modify(|graphs| {
            if graphs.iter().any(|(_, until)| until.is_some_and(|until| until <= now)) {
                let kept = graphs.iter().filter(|(_, until)| until.is_none_or(|until| until > now));
                *graphs = Arc::new(kept.cloned().collect());
            }
        });
    }

    /// A graph at a generation, once it can be reached; none if that takes too long.
    async fn arrival(&self, version: &GraphVersion, longest: Duration) -> Option<Arc<Running>> {
        let mut graphs = self.graphs.subscribe();
        let find = |graphs: &Arc<Vec<Entry>>| {
            graphs.iter().map(|(running, _)| running).find(|running| running.is(version)).cloned()
        };
        let arrived = graphs.wait_for(|graphs| find(graphs).is_some());
        match tokio::time::timeout(longest, arrived).await {
            Ok(Ok(graphs)) => find(&graphs),
            Ok(Err(_)) | Err(_) => None,
        }
    }

    /// A graph at a generation, if it can be reached by `caller`, which has a part in it; waits a moment for it. It can be
    /// reached for a while from then on.
    pub(crate) async fn arrived(&self, version: &GraphVersion, caller: &Caller) -> Option<Arc<Running>> {
        if caller.has_ended() {
            return None;
        }
        let running = self.arrival(version, ARRIVAL_TIMEOUT).await?;
        let node = self.node(&caller.id)?;
        let has_part = running.plan.assigned.placement.is_on(&node);
        has_part.then(|| {
            self.linger(version);
            running
        })
    }

    /// One that is not served can be reached for another while.
    fn linger(&self, version: &GraphVersion) {
        let now = Instant::now();
        let is_near_its_end = |(running, until): &Entry| {
            running.is(version) && until.is_some_and(|until| until < now + LINGER / 2)
        };
        let is_longer = self.graphs.send_if_modified(|graphs| {
            if !graphs.iter().any(is_near_its_end) {
                return false;
            }
            let longer = |entry: &Entry| match is_near_its_end(entry) {
                true => (entry.0.clone(), Some(now + LINGER)),
                false => entry.clone(),
            };
            *graphs = Arc::new(graphs.iter().map(longer).collect());
            true
        });
        if is_longer {
            self.forget_later();
        }
    }

    /// Keeps what is called from here reachable on other nodes, for as long as it serves: they may have taken over a later
    /// generation, which this node cannot yet.
    pub async fn keep(self) {
        loop {
            tokio::time::sleep(KEEP_EVERY).await;
            let mut serving = Vec::new();
            for (running, until) in self.graphs.borrow().iter() {
                if until.is_none() {
                    serving.push(running.clone());
                }
            }
            let keeping = stream::iter(serving);
            keeping.for_each_concurrent(KEPT_AT_ONCE, async |running| running.keep_peers().await).await;
        }
    }

    /// As what the same revision with the same policies serves here, of another placement: as itself, or as the candidate that
    /// it was.
    pub(crate) fn serves_the_same(&self, prepared: &Running) -> Option<GraphKey> {
        let graphs = self.graphs.borrow().clone();
        let same = graphs.iter().filter(|(running, until)| {
            let (now, next) = (&running.plan.assigned, &prepared.plan.assigned);
            until.is_none() && running.has_passed() && now.uid == next.uid && now.linked == next.linked
        });
        same.map(|(running, _)| running.key()).min_by_key(|key| *key != prepared.key()).cloned()
    }

    /// Lives one session to its end, if `caller` may have it.
    pub(crate) async fn session(&self, caller: &Caller, open: Open, inbound: Inbound) {
        match self.granted(caller, &open).await {
            Ok((running, node)) => running.session(node, open, inbound).await,
            Err(failure) => inbound.refuse(failure).await,
        }
    }

    /// Answers a request over a link, if `caller` may send it; gives one back that did not come over a link.
    pub(crate) async fn request(
        &self,
        caller: &Caller,
        mut request: Request<Incoming>,
    ) -> Result<Response<AnswerBody>, Request<Incoming>> {
        let Some(frames) = request.headers_mut().remove(http_link::LINK) else { return Err(request) };
        let opened = match http_link::decode(&frames).map(<[Body; 2]>::try_from) {
            Ok(Ok([Body::Open(open), Body::Call(call)])) if is_request(&open) => Ok((open, call)),
            Ok(_) => Err("it does not open a session for one request".to_owned()),
            Err(error) => Err(error),
        };
        let (open, call) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let message = format!("the request is wrong: {error}");
                return Ok(request::link_failed(LinkFailure::new(LinkReason::Protocol, message)));
            }
        };
        Ok(match self.granted(caller, &open).await {
            Ok((running, node)) => running.handle_link(node, &open, &call, request).await,
            Err(failure) if failure.reason.is_undelivered() => not_begun(request::link_failed(failure)),
            Err(failure) => request::link_failed(failure),
        })
    }

    /// The graph that a session is for, once it can be reached, and who the caller is, if it may have the session.
    async fn granted(&self, caller: &Caller, open: &Open) -> Result<(Arc<Running>, NodeName), LinkFailure> {
        // As it is when it asks: a generation may be waited for longer than it is left.
        let has_ended = caller.has_ended();
        let longest = match has_ended {
            true => Duration::ZERO,
            false if self.is_elsewhere_too(open) => ARRIVAL_TIMEOUT_OF_REPLICAS,
            false => ARRIVAL_TIMEOUT,
        };
        let found = self.arrival(&open.version, longest).await;
        let GraphVersion { graph, generation, .. } = &open.version;
        let granted = match (found, self.node(&caller.id)) {
            _ if has_ended => Err(Denial::Ended),
            (_, None) => Err(Denial::UnknownNode),
            (Some(running), Some(node)) => grant::check(&running.plan, open, &node).map(|()| (running, node)),
            (None, Some(node)) if self.may_wait(&open.version, &node) => {
                let message = format!("generation {generation} of {graph} does not serve on this node");
                return Err(LinkFailure::new(LinkReason::Unavailable, message));
            }
            (None, Some(_)) => Err(Denial::UnknownGeneration),
        };
        granted.map_err(|why| {
            let Open { from, to, .. } = open;
            let asked = format!("{from} -> {to} of generation {generation} of {graph}");
            self.audit.refused("link_denied", &caller.id, &asked, why);
            LinkFailure::new(LinkReason::Denied, grant::DENIED)
        })
    }

    /// Whether the provider of a session runs on other nodes as well: its consumer does better there than to wait.
    fn is_elsewhere_too(&self, open: &Open) -> bool {
        let assignment = self.assigned.now();
        let mut graphs = assignment.iter().flat_map(|assignment| &assignment.graphs);
        // What this node has not heard of yet it may hear of in a moment.
        let is_known = |graph: &&AssignedGraph| {
            graph.key == open.version.graph && graph.generation >= open.version.generation
        };
        graphs.find(is_known).is_some_and(|graph| graph.placement.nodes_of(&open.to).count() > 1)
    }

    /// Whether the caller's node has a part in an older generation of the graph, and so may be told that the newer one
    /// is not here yet.
    fn may_wait(&self, version: &GraphVersion, node: &NodeName) -> bool {
        let graphs = self.graphs.borrow().clone();
        let is_here = graphs.iter().any(|(running, _)| grant::may_wait(&running.plan.assigned, version, node));
        let assignment = self.assigned.now();
        let mut coming = assignment.iter().flat_map(|assignment| &assignment.graphs);
        is_here || coming.any(|graph| grant::may_wait(graph, version, node))
    }
}

/// Whether what is asked for is one HTTP request.
fn is_request(open: &Open) -> bool {
    let [Binding { interface, function, .. }] = &open.functions[..] else { return false };
    interface.is_http_handler() && function == http_link::HANDLE
}
