//! The ways to other agents, and the connections over them: dialled when they are first needed, shared by all who go
//! there.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use model::name::NodeName;
use trust::Connector;

use crate::backoff::Backoff;

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

/// The ways to other agents; none to a node that this one has no business with.
pub type Roads = dyn Fn(&NodeName) -> Option<Road> + Send + Sync;

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
}

impl<C, E> Default for Pool<C, E> {
    fn default() -> Self {
        Self { next: AtomicUsize::new(0), slots: Mutex::default() }
    }
}

impl<C: Clone, E: Clone> Pool<C, E> {
    /// A connection to `node` that `is_good`, by `dial` if there is none.
    pub(crate) async fn get(
        &self,
        node: &NodeName,
        is_good: impl Fn(&C) -> bool,
        dial: impl Future<Output = Result<C, E>>,
    ) -> Result<C, E> {
        let number = self.next.fetch_add(1, Ordering::Relaxed) % CONNECTIONS_PER_NODE;
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            let empty = || Arc::new(Slot::new(Place { connection: None, failed: None }));
            slots.entry((node.clone(), number)).or_insert_with(empty).clone()
        };
        let asked = Instant::now();
        let mut place = slot.lock().await;
        if let Some(connection) = place.connection.as_ref().filter(|connection| is_good(connection)) {
            return Ok(connection.clone());
        }
        // Whoever waited while another dialled in vain does not dial after it: with many, the last would wait long.
        if let Some((_, failure)) = place.failed.as_ref().filter(|(when, _)| *when >= asked) {
            return Err(failure.clone());
        }
        match dial.await {
            Ok(connection) => {
                *place = Place { connection: Some(connection.clone()), failed: None };
                Ok(connection)
            }
            Err(failure) => {
                *place = Place { connection: None, failed: Some((Instant::now(), failure.clone())) };
                Err(failure)
            }
        }
    }
}
