//! The part of an agent that takes orders: ledger, session, artifacts, loop and API around some runner.
//!
//! Apart from `agent`, so that it runs in tests and simulations without wasm and without an ingress.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use model::assignment::Assignment;
use model::node::NodeDescription;
use model::report::Report;
use model::routing::RouteMap;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use trust::Keyring;

use crate::api::{self, ApiError};
use crate::artifacts::ArtifactStore;
use crate::control_plane::ControlPlane;
use crate::host::Reach;
use crate::ingress::Answers;
use crate::lease::Lease;
use crate::ledger::{Ledger, LedgerError};
use crate::logs::LogBook;
use crate::reconciler::Reconciler;
use crate::report;
use crate::route_book::RouteBook;
use crate::runner::Runner;
use crate::session::Session;
use crate::told::{Assigned, Told};
use crate::traffic::TrafficCounts;

/// What it is made of.
pub struct Parts<R> {
    /// Runs graphs.
    pub runner: Arc<R>,
    /// Holds the artifacts.
    pub artifacts: Arc<ArtifactStore>,
    /// Whom to dial.
    pub control_plane: ControlPlane,
    /// What the node says of itself.
    pub description: NodeDescription,
    /// Where the ledger is.
    pub data_dir: PathBuf,
    /// What other nodes can call.
    pub reach: Reach,
    /// What guests and the agent say.
    pub logs: LogBook,
    /// Where the API listens.
    pub listener: TcpListener,
    /// Who this node is, and who others are.
    pub keyring: Keyring,
    /// Answers HTTP, also that of other nodes.
    pub answers: Arc<Answers>,
    /// Told what should run, before anybody can ask for it.
    pub assigned: Assigned,
    /// How requests of clients went.
    pub traffic: TrafficCounts,
    /// Told where requests of the cluster go.
    pub routes: Told<RouteMap>,
    /// For how long what stops in isolation may be served.
    pub lease: Lease,
}

/// The running part.
pub struct Control {
    /// Where the API listens.
    pub api_address: SocketAddr,
    /// What should run.
    pub desired: watch::Receiver<Option<Arc<Assignment>>>,
    /// What runs.
    pub report: watch::Receiver<Arc<Report>>,
    /// Whether a control plane that assigns is connected.
    pub connected: watch::Receiver<bool>,
    api: JoinHandle<Result<(), ApiError>>,
    session: JoinHandle<()>,
    reconciler: JoinHandle<()>,
    disowner: JoinHandle<()>,
    stop_api: CancellationToken,
    stop_orders: CancellationToken,
}

/// Why it cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The ledger cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The routes of the cluster.
    #[error("cannot use the file of routes in the data directory: check that it is this user's")]
    RouteBook(#[source] io::Error),
    /// The listener has no address.
    #[error("the API's listener has no address")]
    Listener(#[source] io::Error),
}

impl Control {
    /// Starts it; what the ledger holds is worked towards at once, control plane or not.
    pub fn start<R: Runner>(parts: Parts<R>) -> Result<Self, ControlError> {
        let ledger = open_ledger(&parts)?;
        let api_address = parts.listener.local_addr().map_err(ControlError::Listener)?;
        let (desired_sender, desired) = watch::channel(ledger.accepted().cloned());
        parts.assigned.follow(desired.clone());
        let route_book = RouteBook::open(&parts.data_dir).map_err(ControlError::RouteBook)?;
        let (route_sender, routes) = watch::channel(route_book.latest().cloned());
        parts.routes.follow(routes);
        let (report_sender, report) = watch::channel(Arc::new(report::empty(parts.description.name.clone())));
        let (connected_sender, connected) = watch::channel(false);
        let (stop_api, stop_orders) = (CancellationToken::new(), CancellationToken::new());

        let told = (desired.clone(), parts.lease.clone());
        let reconciler =
            Reconciler::new(parts.runner, parts.artifacts, parts.logs.clone(), told, report_sender);
        let doors =
            api::Doors { listener: parts.listener, keyring: parts.keyring.clone(), answers: parts.answers };
        let api = api::serve::<R>(doors, reconciler.table(), parts.reach, parts.logs, stop_api.clone());
        let session = Session {
            control_plane: parts.control_plane,
            description: parts.description,
            ledger,
            desired: desired_sender,
            route_book,
            routes: route_sender,
            report: report.clone(),
            traffic: parts.traffic,
            lease: parts.lease,
            connected: connected_sender,
        };
        Ok(Self {
            api_address,
            desired: desired.clone(),
            report,
            connected,
            api: tokio::spawn(api),
            session: tokio::spawn(session.run(stop_orders.clone())),
            reconciler: tokio::spawn(reconciler.run(stop_orders.clone())),
            disowner: tokio::spawn(disown(parts.keyring, desired, stop_orders.clone())),
            stop_api,
            stop_orders,
        })
    }

    /// Waits until some part ends that never should, and says which.
    pub async fn broken(&mut self) -> String {
        tokio::select! {
            ended = &mut self.api => match ended {
                Ok(Ok(())) => "the API ended".to_owned(),
                Ok(Err(error)) => format!("the API ended: {error}"),
                Err(error) => format!("the API failed: {error}"),
            },
            ended = &mut self.session => format!("the session ended: {ended:?}"),
            ended = &mut self.reconciler => format!("the loop ended: {ended:?}"),
            ended = &mut self.disowner => format!("revocations ended: {ended:?}"),
        }
    }

    /// Takes no new orders and no new calls, and returns once the calls under way are answered.
    pub async fn stop(self) {
        self.stop_orders.cancel();
        self.stop_api.cancel();
        // How they end is of no use any more: the agent ends with them.
        let _ = tokio::join!(self.api, self.session, self.reconciler, self.disowner);
    }
}

/// Believes in nobody that the control plane has revoked, until `stop`.
async fn disown(
    keyring: Keyring,
    mut desired: watch::Receiver<Option<Arc<Assignment>>>,
    stop: CancellationToken,
) {
    loop {
        let revoked = desired.borrow_and_update().as_ref().map(|assignment| assignment.revoked.clone());
        if let Some(revoked) = revoked.filter(|revoked| *keyring.revoked() != *revoked) {
            keyring.revoke(revoked);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = desired.changed() => if changed.is_err() { return },
        }
    }
}

/// The ledger, or an empty one in place of one that cannot be read, or is of another cluster.
fn open_ledger<R>(parts: &Parts<R>) -> Result<Ledger, LedgerError> {
    let node = &parts.description.name;
    let opened = Ledger::open(&parts.data_dir, node.clone());
    let identity = parts.keyring.identity();
    // Whoever gave the node a token of another cluster has moved it there: what it ran for this one is over.
    if let Ok(ledger) = &opened
        && let Err(refusal) = ledger.check_cluster(identity.id().cluster())
    {
        let aside = Ledger::leave(&parts.data_dir)?;
        tracing::warn!(%refusal, aside = %aside.display(), "this node has joined another cluster, and starts empty");
        return Ledger::open(&parts.data_dir, node.clone());
    }
    match opened {
        Err(error @ LedgerError::Corrupt { .. }) => {
            let aside = Ledger::set_aside(&parts.data_dir)?;
            tracing::error!(%error, aside = %aside.display(), "the ledger was set aside; this node starts empty");
            Ledger::open(&parts.data_dir, node.clone())
        }
        other => other,
    }
}
