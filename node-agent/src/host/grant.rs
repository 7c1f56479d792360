//! What another node may open here: a session for a link that leads from a component of its own to one of this node's.
//!
//! Nothing is granted by itself: the right follows from the graph and its placement, which both nodes have from the
//! control plane, and ends with the generation, or with the certificate that the caller connected with. The caller is who
//! that says; what it says of itself in a frame gives it nothing. Nor may it have all of this node: what the sessions of
//! one other node hold at a time leaves room for everybody else.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use model::assignment::AssignedGraph;
use model::id::Uid;
use model::link::{BINDINGS_MAX, GraphVersion, Open};
use model::name::NodeName;
use tokio::sync::{Semaphore, watch};
use tonic::{Request, Status};
use trust::{Role, gate};

use crate::host::engine::PoolLimits;
use crate::host::prepare::Plan;
use crate::host::reserve::{Reserves, keep};

/// What every caller is told whose session is not granted, whatever the reason: nothing can be learnt from it.
pub(crate) const DENIED: &str = "this session is not granted";

/// Why a session is not granted; for the audit of this node alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Denial {
    /// The certificate has ended that the caller connected with.
    Ended,
    /// The caller's certificate is of no node that shares a graph with this one.
    UnknownNode,
    /// The graph, or that generation of it, is not here.
    UnknownGeneration,
    /// The consumer does not run on the caller's node.
    OtherConsumer {
        /// Where the caller is.
        node: NodeName,
    },
    /// No link of the graph leads there.
    NoLink {
        /// What was asked for.
        function: String,
    },
    /// The session is for no function at all.
    Nothing,
}

impl fmt::Display for Denial {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended => out.write_str("the certificate has ended that the caller connected with"),
            Self::UnknownNode => out.write_str("the caller is no node that shares a graph with this one"),
            Self::UnknownGeneration => out.write_str("the generation of the graph is not here"),
            Self::OtherConsumer { node } => {
                write!(out, "the consumer does not run on the caller's node, {node}")
            }
            Self::NoLink { function } => write!(out, "the graph has no such link for {function}"),
            Self::Nothing => out.write_str("no function was asked for"),
        }
    }
}

/// Another node, as the connection says that it calls by.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// Who it is.
    pub(crate) id: Uid,
    /// When the certificate ends that it showed.
    pub(crate) until: Option<SystemTime>,
}

impl Caller {
    /// Who sent a call of the agents' API.
    pub(crate) fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        Ok(Self { id: gate::caller(request, Role::Node)?, until: gate::certificate_ends(request) })
    }

    /// For how long anything is granted to it over this connection.
    pub(crate) fn granted_for(&self) -> Duration {
        self.until.and_then(|until| until.duration_since(SystemTime::now()).ok()).unwrap_or_default()
    }

    /// Whether that is over.
    pub(crate) fn has_ended(&self) -> bool {
        self.granted_for().is_zero()
    }
}

/// The room that the grants of each other node have in the pool: so many memories at a time, of what is not kept for others.
#[derive(Default)]
pub(crate) struct Shares(Mutex<HashMap<NodeName, Arc<Semaphore>>>);

impl Shares {
    /// That of a node with a grant: there are no more of them than nodes.
    pub(crate) fn of(&self, caller: NodeName, pool: PoolLimits, reserves: &Reserves) -> Arc<Semaphore> {
        let mut shares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let share = shares.entry(caller).or_insert_with(|| {
            let share = Arc::new(Semaphore::new(pool.share() as usize));
            tokio::spawn(lessen(share.clone(), reserves.granted()));
            share
        });
        share.clone()
    }
}

/// Keeps as much of a share from its node as it would have of what is reserved; ends with the host.
async fn lessen(share: Arc<Semaphore>, mut granted: watch::Receiver<u32>) {
    let (less, aimed) = watch::channel(0);
    let keeping = tokio::spawn(keep([share], Arc::new(Semaphore::new(0)), aimed));
    loop {
        let granted_now = *granted.borrow_and_update();
        if less.send(granted_now - granted_now / 4).is_err() || granted.changed().await.is_err() {
            break;
        }
    }
    keeping.abort();
}

/// Whether `caller`, a node, may have this session of the graph.
pub(crate) fn check(plan: &Plan, open: &Open, caller: &NodeName) -> Result<(), Denial> {
    if !plan.assigned.placement.runs_on(&open.from, caller) {
        return Err(Denial::OtherConsumer { node: caller.clone() });
    }
    if open.functions.is_empty() {
        return Err(Denial::Nothing);
    }
    // More than there may be are refused for that, before anything is done with them.
    for binding in open.functions.iter().take(BINDINGS_MAX) {
        let mut links = plan.linked().links_of(&open.from);
        let granted = links.any(|link| {
            link.interface == binding.interface
                && link.to.member() == Some(&open.to)
                && link.functions.iter().any(|function| function.name == binding.function)
        });
        if !granted {
            let function = format!("{}/{}", binding.interface, binding.function);
            return Err(Denial::NoLink { function });
        }
    }
    Ok(())
}

/// Whether `caller` has a part in `known`, and asks for that graph as it is now or will be.
pub(crate) fn may_wait(known: &AssignedGraph, version: &GraphVersion, caller: &NodeName) -> bool {
    known.key == version.graph
        && known.uid == version.uid
        && known.generation <= version.generation
        && known.placement.is_on(caller)
}
