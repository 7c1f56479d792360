//! What can be reached from other nodes: the graphs that serve, and for a while those that served before.
//!
//! The nodes of a graph change to a new generation one after the other. A consumer of the old one must still find its
//! provider, also on a node that has no part in the new one; and one of the new one waits for the node that is not
//! there yet.

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::link::{LinkFailure, LinkReason, Open};
use tokio::sync::watch;

use crate::host::provide::Inbound;
use crate::host::running::Running;

/// How long a graph can still be reached after it has stopped to serve here.
const LINGER: Duration = Duration::from_secs(30);
/// How long a session waits for its generation to serve here.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(2);

/// A graph, and until when it can be reached if it is no longer served.
type Entry = (Arc<Running>, Option<Instant>);

/// The graphs that can be reached; clones are the same.
#[derive(Clone)]
pub struct Reach {
    graphs: watch::Sender<Arc<Vec<Entry>>>,
}

impl Default for Reach {
    fn default() -> Self {
        Self { graphs: watch::Sender::new(Arc::default()) }
    }
}

impl Reach {
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

    /// Lives one session to its end.
    pub(crate) async fn session(&self, open: Open, inbound: Inbound) {
        let mut graphs = self.graphs.subscribe();
        let find = |graphs: &Arc<Vec<Entry>>| {
            let is_it = |running: &Running| {
                *running.uid() == open.uid
                    && running.generation() == open.generation
                    && *running.key() == open.graph
            };
            graphs.iter().map(|(running, _)| running).find(|running| is_it(running)).cloned()
        };
        let arrived = graphs.wait_for(|graphs| find(graphs).is_some());
        let found = match tokio::time::timeout(ARRIVAL_TIMEOUT, arrived).await {
            Ok(Ok(graphs)) => find(&graphs),
            Ok(Err(_)) | Err(_) => None,
        };
        match found {
            Some(running) => running.session(open, inbound).await,
            None => {
                let message =
                    format!("generation {} of {} does not serve on this node", open.generation, open.graph);
                inbound.refuse(LinkFailure::new(LinkReason::Unavailable, message)).await;
            }
        }
    }
}
