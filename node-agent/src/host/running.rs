//! One graph at one generation, as it runs here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use model::assignment::AssignedGraph;
use model::id::{Generation, GraphKey, RevisionNumber, Uid};
use model::link::{GraphVersion, LinkFailure};
use model::name::{ComponentName, NodeName};
use model::report::Failure;
use model::route::HttpRoute;
use tokio::sync::{Mutex, Notify};

use crate::host::Host;
use crate::host::instance::Prepared;
use crate::host::logs::GraphLog;
use crate::host::prepare::Plan;
use crate::host::provide::Provider;
use crate::lease::Lease;
use crate::link::carrier::Arrival;

/// How long a generation that could take over waits for the rest of the nodes that it calls: longer than most graphs take
/// to start, shorter than the one before it can be reached on nodes that have taken over.
const PEERS_PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks; the other nodes wait a moment themselves.
const PEERS_POLL: Duration = Duration::from_millis(100);

/// One graph at one generation. It serves as long as someone holds it.
pub struct Running {
    pub(crate) host: Host,
    pub(crate) plan: Arc<Plan>,
    pub(crate) log: Arc<GraphLog>,
    /// By the component at the root; complete for all routes.
    pub(crate) entries: BTreeMap<ComponentName, Arc<Prepared>>,
    /// Those that only `invoke` asked for.
    pub(crate) invoked: Mutex<BTreeMap<ComponentName, Arc<Prepared>>>,
    /// The members that other nodes call.
    pub(crate) providers: BTreeMap<ComponentName, Arc<Provider>>,
    pub(crate) traffic: Arc<Traffic>,
    /// Whether its components have passed their checks.
    pub(crate) has_passed: AtomicBool,
    /// Whether one of them fails now, by the checks that are made while it serves.
    pub(crate) is_failing: AtomicBool,
    /// Whether it stops once the node is cut off.
    pub(crate) stops_in_isolation: bool,
}

/// Why a generation cannot be called on a node as it should.
enum Missing {
    Absent,
    Unchecked,
    Unreached(LinkFailure),
}

/// The requests under way.
#[derive(Default)]
pub(crate) struct Traffic {
    count: AtomicUsize,
    ended: Notify,
}

/// One request under way, counted until this is dropped.
pub(crate) struct Pass(Arc<Traffic>);

impl Traffic {
    pub(crate) fn enter(self: &Arc<Self>) -> Pass {
        self.count.fetch_add(1, Ordering::AcqRel);
        Pass(self.clone())
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.ended.notify_waiters();
        }
    }
}

impl Running {
    /// The graph's full name.
    pub fn key(&self) -> &GraphKey {
        &self.plan.assigned.key
    }

    /// The graph's identity.
    pub fn uid(&self) -> &Uid {
        &self.plan.assigned.uid
    }

    /// The generation that this is.
    pub fn generation(&self) -> Generation {
        self.plan.assigned.generation
    }

    /// Whether it is this graph at this generation.
    pub(crate) fn is(&self, version: &GraphVersion) -> bool {
        let AssignedGraph { key, uid, generation, .. } = &self.plan.assigned;
        *generation == version.generation && *uid == version.uid && *key == version.graph
    }

    /// Which graph at which generation this is.
    pub fn version(&self) -> GraphVersion {
        self.plan.version()
    }

    /// Fails unless all that is called on other nodes can be called at its generation on one of them, or says what cannot.
    /// Waits a while for the other nodes where it should run; one that is not there by then is not asked as long as it
    /// fails.
    pub(crate) async fn can_call(&self) -> Result<(), Failure> {
        self.peers_are(|arrival| arrival != Arrival::Absent, Duration::ZERO).await
    }

    /// The same, and what is called has passed its checks there.
    pub(crate) async fn is_complete(&self) -> Result<(), Failure> {
        self.peers_are(|arrival| arrival == Arrival::Whole, PEERS_PATIENCE).await
    }

    async fn peers_are(&self, is_good: impl Fn(Arrival) -> bool, patience: Duration) -> Result<(), Failure> {
        let site = self.plan.site();
        let called = self.called_elsewhere();
        let nodes: BTreeSet<&NodeName> = called.iter().flat_map(|member| site.nodes_of(member)).collect();
        let patience = Instant::now() + patience;
        loop {
            let missing = self.missing(&nodes, &is_good).await;
            let waits = missing.values().any(|why| !matches!(why, Missing::Unreached(_)));
            for member in &called {
                // The first says why, where there is none.
                let mut all = site.nodes_of(member).map(|node| missing.get(node).map(|why| (node, why)));
                let Some(Some((node, why))) = all.next() else { continue };
                if all.all(|other| other.is_some()) {
                    return Err(self.peer_not_ready(node, why));
                }
            }
            if !waits || Instant::now() >= patience {
                return Ok(());
            }
            tokio::time::sleep(PEERS_POLL).await;
        }
    }

    /// The members that are called between nodes, but for those that are here: what this node calls may call others.
    fn called_elsewhere(&self) -> BTreeSet<&ComponentName> {
        let site = self.plan.site();
        let remote = self.plan.linked().links.iter().filter(|link| site.placement.is_remote(link));
        remote.filter_map(|link| link.to.member()).filter(|to| !site.is_here(to)).collect()
    }

    /// The nodes on which it cannot be called as it should, and why.
    async fn missing<'a>(
        &self,
        nodes: &BTreeSet<&'a NodeName>,
        is_good: impl Fn(Arrival) -> bool,
    ) -> BTreeMap<&'a NodeName, Missing> {
        let version = &self.version();
        let asked = nodes
            .iter()
            .map(|node| async move { (*node, self.host.parts.carrier.arrival(node, version).await) });
        let answers = futures::future::join_all(asked).await.into_iter();
        let missing = answers.filter_map(|(node, answer)| match answer {
            Ok(arrival) if is_good(arrival) => None,
            Ok(Arrival::Absent) => Some((node, Missing::Absent)),
            Ok(_) => Some((node, Missing::Unchecked)),
            Err(failure) => Some((node, Missing::Unreached(failure))),
        });
        missing.collect()
    }

    fn peer_not_ready(&self, node: &NodeName, why: &Missing) -> Failure {
        let why = match why {
            Missing::Absent => "it is not there yet",
            Missing::Unchecked => "its components have not passed their checks there",
            Missing::Unreached(failure) => &failure.message,
        };
        let message = format!("generation {} cannot be called on node {node}: {why}", self.generation());
        Failure { reason: "peer_not_ready".to_owned(), message }
    }

    /// Has other nodes keep what this generation calls there, though they have taken over a later one.
    pub(crate) async fn keep_peers(&self) {
        let site = self.plan.site();
        let called = self.called_elsewhere();
        let nodes: BTreeSet<&NodeName> = called.iter().flat_map(|member| site.nodes_of(member)).collect();
        // One that is not reached has nothing to keep.
        let _ = self.missing(&nodes, |_| true).await;
    }

    /// Its components answer as their owner wants.
    pub(crate) fn pass(&self) {
        self.has_passed.store(true, Ordering::Release);
    }

    /// Whether they do.
    pub(crate) fn has_passed(&self) -> bool {
        self.has_passed.load(Ordering::Acquire)
    }

    /// It fails here from now on, or does not.
    pub(crate) fn judge(&self, is_failing: bool) {
        self.is_failing.store(is_failing, Ordering::Release);
    }

    /// Whether it fails here.
    pub(crate) fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Acquire)
    }

    /// The lease without which it must not serve here; none where it serves whatever comes.
    pub(crate) fn lease(&self) -> Option<&Lease> {
        self.stops_in_isolation.then_some(&self.host.parts.lease)
    }

    /// Whether it may serve now.
    pub(crate) fn may_serve(&self) -> bool {
        self.lease().is_none_or(Lease::is_held)
    }

    /// Resolves once it may not.
    pub(crate) async fn isolated(&self) {
        match self.lease() {
            Some(lease) => lease.ended().await,
            None => std::future::pending().await,
        }
    }

    /// The revision of the graph.
    pub fn revision(&self) -> RevisionNumber {
        self.plan.assigned.revision
    }

    /// The routes that lead to this node's part.
    pub fn routes(&self) -> impl Iterator<Item = &HttpRoute> {
        self.plan.linked().ingress.iter().filter(|route| self.plan.site().is_here(&route.to))
    }

    /// Whether other nodes call members of it here.
    pub(crate) fn has_providers(&self) -> bool {
        !self.providers.is_empty()
    }

    /// How many requests and invocations are under way.
    pub fn in_flight(&self) -> usize {
        self.traffic.count.load(Ordering::Acquire)
    }

    /// Resolves when no request is under way. Take it out of the route table first: new ones are not kept out.
    pub async fn drained(&self) {
        loop {
            let ended = self.traffic.ended.notified();
            tokio::pin!(ended);
            // Registered before the look, so that an end between the two is not missed.
            ended.as_mut().enable();
            if self.in_flight() == 0 {
                return;
            }
            ended.await;
        }
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Running")
            .field("key", self.key())
            .field("generation", &self.generation())
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}
