//! The ways to other agents, and the connections over them: dialled when they are first needed, shared by all who go
//! there.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use model::assignment::Peer;
use model::id::GraphKey;
use model::name::NodeName;
use model::node::Labels;
use model::placement::ZONE_LABEL;
use model::routing::RouteMap;
use trust::{Connector, Expect, Keyring};

use crate::backoff::Backoff;
use crate::told::{Assigned, Told};

/// How long dialling may take.
pub(crate) const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
/// A peer that says nothing at all for these two together is lost.
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
pub(crate) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(4);
/// What may be on its way on one stream, and on all of one connection: a large value must not stop the others.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 4 << 20;
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// How often something that was not delivered is sent, at most; its deadline ends it earlier.
const TRIES_MAX: u32 = 20;
/// The first wait before it is sent again.
const RETRY_LEAST: Duration = Duration::from_millis(20);
/// The longest: what was moved to another node meanwhile is found within it. All tries together outlast the restart of an
/// agent.
const RETRY_MOST: Duration = Duration::from_millis(200);
/// How often a connection that serves and was made with an earlier certificate is tried to be replaced: where no new one is
/// to be had, somebody waits for that each time.
const FRESHEN_EVERY: Duration = Duration::from_secs(60);
/// Connections of one kind to one agent: HTTP/2 shares one window among all that a connection carries, and one task
/// drives it.
const CONNECTIONS_PER_NODE: usize = 2;

/// The way to another agent.
pub struct Road {
    /// Where it listens, `host:port`.
    pub address: String,
    /// Sees to it that it is the one.
    pub connector: Connector,
}

/// The ways to other agents.
pub trait Roads: Send + Sync {
    /// The way to a node; none to one that this node has no business with.
    fn to(&self, node: &NodeName) -> Option<Road>;

    /// How often the certificate was renewed that this node shows: what is new goes over connections that were made with the
    /// present one, if there can be any, since a peer grants nothing over one whose certificate has ended.
    fn renewals(&self) -> u64 {
        0
    }

    /// Whether a graph fails on a node, as the control plane has said: of several that answer, it is asked after others.
    fn is_failing(&self, _: &GraphKey, _: &NodeName) -> bool {
        false
    }

    /// Whether a node is in the zone of this one: of several that answer, it is asked before others.
    fn is_near(&self, _: &NodeName) -> bool {
        false
    }
}

impl<F: Fn(&NodeName) -> Option<Road> + Send + Sync> Roads for F {
    fn to(&self, node: &NodeName) -> Option<Road> {
        self(node)
    }
}

/// The ways that the control plane has told of: to nodes that have a part of the same graphs, or routes.
pub(crate) struct ToldRoads {
    pub(crate) assigned: Assigned,
    pub(crate) routes: Told<RouteMap>,
    pub(crate) keyring: Keyring,
    /// The labels that this node has of its own.
    pub(crate) labels: Labels,
}

impl ToldRoads {
    fn peer(&self, node: &NodeName) -> Option<Peer> {
        let shares = self.assigned.now().and_then(|assigned| assigned.peers.get(node).cloned());
        shares.or_else(|| self.routes.now()?.nodes.get(node).cloned())
    }
}

impl Roads for ToldRoads {
    fn to(&self, node: &NodeName) -> Option<Road> {
        let peer = self.peer(node)?;
        let connector = trust::connector(self.keyring.clone(), Expect::Node(peer.uid));
        Some(Road { address: peer.address, connector })
    }

    fn renewals(&self) -> u64 {
        self.keyring.renewals()
    }

    fn is_failing(&self, graph: &GraphKey, node: &NodeName) -> bool {
        let assigned = self.assigned.now();
        let graph = assigned.as_ref().and_then(|assigned| assigned.graph(graph));
        graph.is_some_and(|graph| graph.failing.contains(node))
    }

    fn is_near(&self, node: &NodeName) -> bool {
        let assigned = self.assigned.now();
        let given = assigned.as_ref().and_then(|assigned| assigned.labels.get(ZONE_LABEL));
        let zone = given.or_else(|| self.labels.get(ZONE_LABEL));
        zone.is_some_and(|zone| self.peer(node).is_some_and(|peer| peer.zone == *zone))
    }
}

/// The tries of one thing that is sent until it is delivered.
pub(crate) struct Tries {
    backoff: Backoff,
    left: u32,
    end: Instant,
}

impl Tries {
    /// The first one; there is no other after `end`.
    pub(crate) const fn until(end: Instant) -> Self {
        Self { backoff: Backoff::new(RETRY_LEAST, RETRY_MOST), left: TRIES_MAX - 1, end }
    }

    /// Whether the time for it is over.
    pub(crate) fn are_over(&self) -> bool {
        Instant::now() >= self.end
    }

    /// Waits until it may be sent again, or says at once that it may not.
    pub(crate) async fn again(&mut self) -> bool {
        let wait = self.backoff.after_failure();
        if self.left == 0 || Instant::now() + wait >= self.end {
            return false;
        }
        self.left -= 1;
        tokio::time::sleep(wait).await;
        true
    }
}

/// Connections of one kind to all agents, of which each is dialled once, however many want it.
pub(crate) struct Pool<C, E> {
    next: AtomicUsize,
    slots: Mutex<Slots<C, E>>,
}

/// By node and number.
type Slots<C, E> = HashMap<(NodeName, usize), Arc<Slot<C, E>>>;

/// A place for a connection; held while it is dialled.
type Slot<C, E> = tokio::sync::Mutex<Place<C, E>>;

/// What came of dialling last.
struct Place<C, E> {
    connection: Option<C>,
    failed: Option<(Instant, E)>,
    /// When somebody tried to replace a connection that serves.
    freshened: Option<Instant>,
}

/// What a connection is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// All.
    Fresh,
    /// It serves, until there is a better one: it was made with an earlier certificate.
    Stale,
    /// Nothing.
    Lost,
}

impl Condition {
    /// Of a connection that serves, or not, and was made when the certificate had been renewed so often.
    pub(crate) fn of(serves: bool, made_at: u64, renewals: u64) -> Self {
        match serves {
            false => Self::Lost,
            true if made_at < renewals => Self::Stale,
            true => Self::Fresh,
        }
    }
}

impl<C, E> Default for Pool<C, E> {
    fn default() -> Self {
        Self { next: AtomicUsize::new(0), slots: Mutex::default() }
    }
}

impl<C: Clone, E: Clone> Pool<C, E> {
    /// A connection to `node`, by `dial` if there is none in good condition.
    pub(crate) async fn get(
        &self,
        node: &NodeName,
        condition: impl Fn(&C) -> Condition,
        dial: impl Future<Output = Result<C, E>>,
    ) -> Result<C, E> {
        let number = self.next.fetch_add(1, Ordering::Relaxed) % CONNECTIONS_PER_NODE;
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            let empty = || Arc::new(Slot::new(Place { connection: None, failed: None, freshened: None }));
            slots.entry((node.clone(), number)).or_insert_with(empty).clone()
        };
        let asked = Instant::now();
        let mut place = slot.lock().await;
        let known = place.connection.as_ref().map(|connection| (connection.clone(), condition(connection)));
        let stale = match known {
            Some((connection, Condition::Fresh)) => return Ok(connection),
            Some((connection, Condition::Stale)) => Some(connection),
            Some((_, Condition::Lost)) | None => None,
        };
        if let Some(stale) = &stale {
            if place.freshened.is_some_and(|when| when.elapsed() < FRESHEN_EVERY) {
                return Ok(stale.clone());
            }
            // Before the wait, which may be given up.
            place.freshened = Some(asked);
        }
        // Whoever waited while another dialled in vain does not dial after it: with many, the last would wait long.
        if let Some((_, failure)) = place.failed.as_ref().filter(|(when, _)| *when >= asked) {
            return Err(failure.clone());
        }
        match dial.await {
            Ok(connection) => {
                *place = Place { connection: Some(connection.clone()), failed: None, freshened: None };
                Ok(connection)
            }
            Err(failure) => {
                // It may be lost by now.
                let stale = stale.filter(|connection| condition(connection) != Condition::Lost);
                place.connection = stale.clone();
                place.failed = Some((Instant::now(), failure.clone()));
                stale.ok_or(failure)
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::future::{pending, ready};

    use futures::FutureExt as _;

    use super::*;

    const STALE: fn(&u32) -> Condition = |_| Condition::Stale;
    const FRESH: fn(&u32) -> Condition = |_| Condition::Fresh;
    const LOST: fn(&u32) -> Condition = |_| Condition::Lost;

    /// A pool with the connections 0 and 1.
    async fn pool(node: &NodeName) -> Pool<u32, &'static str> {
        let pool = Pool::default();
        for connection in 0..2 {
            assert_eq!(pool.get(node, FRESH, ready(Ok(connection))).await, Ok(connection));
        }
        pool
    }

    #[tokio::test]
    async fn a_connection_that_serves_is_replaced_if_another_can_be_made() {
        let node = "n2".parse().unwrap();
        let pool = pool(&node).await;
        assert_eq!(pool.get(&node, FRESH, ready(Ok(7))).await, Ok(0));
        assert_eq!(pool.get(&node, STALE, ready(Ok(8))).await, Ok(8));
        // One that cannot be replaced goes on, and is not tried to be each time.
        assert_eq!(pool.get(&node, STALE, ready(Err("not now"))).await, Ok(0));
        assert_eq!(pool.get(&node, FRESH, pending()).await, Ok(8));
        assert_eq!(pool.get(&node, STALE, pending()).await, Ok(0));
        assert_eq!(pool.get(&node, LOST, ready(Err("gone"))).await, Err("gone"));
    }

    #[tokio::test]
    async fn who_gives_up_the_wait_for_another_one_has_tried_for_the_rest() {
        let node = "n2".parse().unwrap();
        let pool = pool(&node).await;
        for _ in 0..2 {
            assert_eq!(pool.get(&node, STALE, pending()).now_or_never(), None);
        }
        for connection in 0..2 {
            assert_eq!(pool.get(&node, STALE, pending()).now_or_never(), Some(Ok(connection)));
        }
    }

    #[test]
    fn a_connection_of_before_a_renewal_is_stale() {
        assert_eq!(Condition::of(true, 3, 3), Condition::Fresh);
        assert_eq!(Condition::of(true, 4, 3), Condition::Fresh);
        assert_eq!(Condition::of(true, 2, 3), Condition::Stale);
        assert_eq!(Condition::of(false, 3, 3), Condition::Lost);
    }
}
