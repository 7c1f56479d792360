//! One graph at one generation, as it runs here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use model::assignment::AssignedGraph;
use model::id::{Generation, GraphKey, Uid};
use model::link::GraphVersion;
use model::name::{ComponentName, NodeName};
use model::report::Failure;
use model::route::HttpRoute;
use tokio::sync::{Mutex, Notify};

use crate::host::Host;
use crate::host::instance::Prepared;
use crate::host::logs::GraphLog;
use crate::host::prepare::Plan;
use crate::host::provide::Provider;

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

    /// Fails unless all nodes that this one calls can be called at its generation, or says which cannot.
    pub(crate) async fn is_complete(&self) -> Result<(), Failure> {
        let version = self.version();
        let (placement, here) = (&self.plan.assigned.placement, &self.plan.node);
        let remote = self.plan.linked().links.iter().filter(|link| placement.is_remote(link));
        let called = remote.filter_map(|link| link.to.member()).map(|to| placement.node_of(to));
        let nodes: BTreeSet<&NodeName> = called.filter(|node| *node != here).collect();
        let version = &version;
        let asked = nodes.into_iter().map(|node| async move {
            let why = match self.host.parts.carrier.has_arrived(node, version).await {
                Ok(true) => return Ok(()),
                Ok(false) => "it is not there yet".to_owned(),
                Err(failure) => failure.message,
            };
            let message = format!("generation {} cannot be called on node {node}: {why}", version.generation);
            Err(Failure { reason: "peer_not_ready".to_owned(), message })
        });
        futures::future::try_join_all(asked).await.map(drop)
    }

    /// The routes that lead to this node's part.
    pub fn routes(&self) -> impl Iterator<Item = &HttpRoute> {
        self.plan.linked().ingress.iter().filter(|route| self.plan.site().elsewhere(&route.to).is_none())
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
