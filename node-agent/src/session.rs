//! The stream to the control plane: hello, welcome, then assignments come down and reports go up.
//!
//! Redials for ever. Every connection begins with the whole picture of both sides, so nothing is carried over from
//! the one before, and a lost message is repaired by the next connection. The only user of the ledger and the route book.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use futures::stream::unfold;
use model::assignment::Assignment;
use model::id::{ClusterId, Generation};
use model::node::NodeDescription;
use model::report::Report;
use model::routing::RouteMap;
use prost::Message as _;
use proto::convert::DecodeError;
use proto::weft::node::v1 as wire;
use proto::weft::node::v1::from_agent::Message as Up;
use proto::weft::node::v1::nodes_client::NodesClient;
use proto::weft::node::v1::to_agent::Message as Down;
use tokio::sync::watch;
use tokio::time::{Instant, Interval};
use tokio::time::{MissedTickBehavior, interval_at, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use crate::backoff::Backoff;
use crate::control_plane::{ControlPlane, Member};
use crate::lease::{Heartbeats, Lease};
use crate::ledger::{Ledger, Refusal};
use crate::route_book::{self, RouteBook};
use crate::traffic::TrafficCounts;

/// From dialling to the welcome; a member that is slower is as good as none.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(5);
/// The first wait after all members failed: a new leader is usually there by then.
const BACKOFF_LEAST: Duration = Duration::from_millis(100);
/// The longest: an agent is back this soon after the control plane is.
const BACKOFF_MOST: Duration = Duration::from_secs(3);
/// Heartbeats outside of this would be a mistake of the control plane that must not hurt either side.
const HEARTBEAT_LEAST: Duration = Duration::from_millis(50);
const HEARTBEAT_MOST: Duration = Duration::from_secs(60);
/// No lease is longer, whatever the control plane says: it is two thirds of the longest time after which a node is lost.
const LEASE_MOST: Duration = Duration::from_secs(400);
/// The largest assignment: a thousand graphs of the largest kind seen, ten times over.
const ASSIGNMENT_MAX_BYTES: usize = 64 << 20;

/// Carries assignments down and reports up.
#[derive(Debug)]
pub struct Session {
    /// Whom to dial.
    pub control_plane: ControlPlane,
    /// What this node says of itself first.
    pub description: NodeDescription,
    /// What was accepted before.
    pub ledger: Ledger,
    /// Where accepted assignments go.
    pub desired: watch::Sender<Option<Arc<Assignment>>>,
    /// The routes that were told before.
    pub route_book: RouteBook,
    /// Where the routes of the cluster go.
    pub routes: watch::Sender<Option<Arc<RouteMap>>>,
    /// What runs.
    pub report: watch::Receiver<Arc<Report>>,
    /// How requests went and how many are under way, for whoever decides on rollouts and scales.
    pub traffic: TrafficCounts,
    /// For how long what stops in isolation may be served.
    pub lease: Lease,
    /// Whether a control plane that assigns is connected.
    pub connected: watch::Sender<bool>,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{}: {}", .0.code(), .0.message())]
    Status(#[from] tonic::Status),
    #[error("no welcome within {} s", WELCOME_TIMEOUT.as_secs())]
    Silent,
    #[error("it closed the stream")]
    Closed,
    #[error("its first message was not a welcome")]
    NotWelcome,
    #[error("its welcome is wrong: {0}")]
    Welcome(DecodeError),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the ledger's task was lost")]
    Lost,
}

impl Session {
    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut backoff = Backoff::new(BACKOFF_LEAST, BACKOFF_MOST);
        // Dropping the round closes its stream; a write of the ledger that is under way ends by itself, whole.
        let rounds = async {
            loop {
                if self.round().await {
                    backoff.reset();
                }
                sleep(backoff.after_failure()).await;
            }
        };
        tokio::select! {
            () = rounds => {}
            () = stop.cancelled() => {}
        }
    }

    /// Tries members until one gives work, and stays with it; says whether one did.
    async fn round(&mut self) -> bool {
        let control_plane = self.control_plane.clone();
        for (index, member) in control_plane.members() {
            self.connected.send_replace(false);
            let Err(ended) = self.connect(member).await;
            // A member that is not the leader may welcome and then close: only one that assigns is worth a return.
            if self.connected.send_replace(false) {
                control_plane.prefer(index);
                tracing::info!(member = %member.uri(), why = %ended, "the session with the control plane ended");
                return true;
            }
            tracing::debug!(member = %member.uri(), why = %ended, "no session with this member of the control plane");
        }
        false
    }

    async fn connect(&mut self, member: &Member) -> Result<Infallible, Ended> {
        let heartbeat = watch::Sender::new(None);
        let heartbeats = Heartbeats::default();
        let numbering = Numbering { heartbeats: heartbeats.clone(), desired: self.desired.subscribe() };
        let (beat, report) = (heartbeat.subscribe(), self.report.clone());
        let up = reports(self.description.clone(), beat, report, self.traffic.clone(), numbering);
        let mut client = NodesClient::new(member.channel()).max_decoding_message_size(ASSIGNMENT_MAX_BYTES);
        let greeting = async {
            let mut down = client.session(up).await?.into_inner();
            let first = down.message().await?.ok_or(Ended::Closed)?;
            Ok::<_, Ended>((down, first))
        };
        let (down, first) = timeout(WELCOME_TIMEOUT, greeting).await.map_err(|_| Ended::Silent)??;
        let Some(Down::Welcome(welcome)) = first.message else { return Err(Ended::NotWelcome) };
        let cluster: ClusterId = proto::convert::read("cluster", welcome.cluster).map_err(Ended::Welcome)?;
        if let Err(refusal) = self.ledger.check_cluster(&cluster) {
            tracing::error!(member = %member.uri(), "{refusal}");
            return Err(refusal.into());
        }
        let interval =
            Duration::from_millis(welcome.heartbeat_interval_ms).clamp(HEARTBEAT_LEAST, HEARTBEAT_MOST);
        heartbeat.send_replace(Some(interval));
        tracing::debug!(member = %member.uri(), %cluster, "welcomed by the control plane");
        self.receive(down, member, &heartbeats).await
    }

    async fn receive(
        &mut self,
        mut down: Streaming<wire::ToAgent>,
        member: &Member,
        heartbeats: &Heartbeats,
    ) -> Result<Infallible, Ended> {
        loop {
            match down.message().await?.ok_or(Ended::Closed)?.message {
                Some(Down::Assignment(assignment)) => {
                    if !self.connected.send_replace(true) {
                        tracing::info!(member = %member.uri(), "connected to the control plane");
                    }
                    self.assigned(assignment).await?;
                }
                Some(Down::Confirmed(confirmed)) => self.confirmed(confirmed, heartbeats),
                Some(Down::Routes(routes)) => self.routed(routes).await?,
                Some(Down::EncodedRoutes(bytes)) => match wire::RouteMap::decode(bytes) {
                    Ok(routes) => self.routed(routes).await?,
                    Err(error) => {
                        tracing::error!(%error, "routes cannot be decoded; those that are known go on")
                    }
                },
                // A message of a later version asks for something this one cannot do; the report says what it does.
                Some(Down::Welcome(_)) | None => {
                    tracing::debug!("a message of the control plane was passed over")
                }
            }
        }
    }

    /// What stops in isolation may be served for a while, if it is what this node has accepted.
    fn confirmed(&self, confirmed: wire::Confirmed, heartbeats: &Heartbeats) {
        let accepted = self.ledger.accepted().map(|accepted| accepted.generation).unwrap_or_default();
        let lease = Duration::from_millis(confirmed.lease_ms).min(LEASE_MOST);
        let generations = (Generation(confirmed.generation), accepted);
        if let Some(until) = heartbeats.confirmed(confirmed.heartbeat, lease, generations) {
            self.lease.renew(until);
        }
    }

    /// Accepts an assignment or logs why not. Fails where another connection may go better.
    async fn assigned(&mut self, assignment: wire::Assignment) -> Result<(), Ended> {
        let assignment = match Assignment::try_from(assignment) {
            Ok(assignment) => assignment,
            Err(error) => {
                // What was accepted before goes on; the report shows the control plane that this was not.
                tracing::error!(%error, "an assignment cannot be read; is this agent older than the control plane?");
                return Ok(());
            }
        };
        let generation = assignment.generation;
        match self.accept(assignment).await {
            Ok(accepted) => {
                tracing::debug!(%generation, graphs = accepted.graphs.len(), "assignment accepted");
                self.desired.send_replace(Some(accepted));
                Ok(())
            }
            Err(Ended::Refused(refusal @ (Refusal::Older { .. } | Refusal::OtherNode { .. }))) => {
                tracing::error!("{refusal}");
                Ok(())
            }
            Err(ended) => {
                tracing::error!("{ended}");
                Err(ended)
            }
        }
    }

    /// Writes to the ledger, away from the threads that serve.
    async fn accept(&mut self, assignment: Assignment) -> Result<Arc<Assignment>, Ended> {
        let mut ledger = self.ledger.clone();
        let (ledger, accepted) = written(move || {
            let accepted = ledger.accept(assignment);
            (ledger, accepted)
        })
        .await?;
        self.ledger = ledger;
        Ok(accepted?)
    }

    /// Accepts the routes of the cluster or logs why not; those that are known go on then.
    async fn routed(&mut self, routes: wire::RouteMap) -> Result<(), Ended> {
        let routes = match RouteMap::try_from(routes) {
            Ok(routes) => routes,
            Err(error) => {
                tracing::error!(%error, "routes cannot be read; is this agent older than the control plane?");
                return Ok(());
            }
        };
        let mut book = self.route_book.clone();
        let (book, accepted) = written(move || {
            let accepted = book.accept(routes);
            (book, accepted)
        })
        .await?;
        self.route_book = book;
        match accepted {
            Ok(routes) => {
                self.routes.send_replace(Some(routes));
            }
            Err(refusal @ route_book::Refusal::Older { .. }) => tracing::info!("{refusal}"),
            Err(refusal) => tracing::error!("{refusal}"),
        }
        Ok(())
    }
}

/// Writes away from the threads that serve.
async fn written<T: Send + 'static>(write: impl FnOnce() -> T + Send + 'static) -> Result<T, Ended> {
    tokio::task::spawn_blocking(write).await.map_err(|_| Ended::Lost)
}

/// Numbers the reports of which this node wants to know that they came.
#[derive(Clone)]
struct Numbering {
    heartbeats: Heartbeats,
    desired: watch::Receiver<Option<Arc<Assignment>>>,
}

impl Numbering {
    /// The number of a report that is sent now; 0 as long as nothing here stops in isolation.
    fn next(&self) -> u64 {
        let desired = self.desired.borrow();
        let mut graphs =
            desired.iter().flat_map(|desired| desired.graphs.iter().map(move |graph| (graph, &desired.node)));
        match graphs.any(|(graph, node)| graph.stops_in_isolation(node)) {
            true => self.heartbeats.next(Instant::now()),
            false => 0,
        }
    }
}

/// What goes up: the description, then the report at once, on each change and with each heartbeat, and behind a heartbeat
/// how requests went.
fn reports(
    description: NodeDescription,
    heartbeat: watch::Receiver<Option<Duration>>,
    report: watch::Receiver<Arc<Report>>,
    traffic: TrafficCounts,
    numbering: Numbering,
) -> impl Stream<Item = wire::FromAgent> + Send + 'static {
    enum State {
        Hello(Box<NodeDescription>),
        Welcome,
        Reports(Interval),
        Traffic(Interval, wire::Traffic),
    }
    let message = |message| wire::FromAgent { message: Some(message) };
    let start = (State::Hello(Box::new(description)), heartbeat, report);
    unfold(start, move |(state, mut heartbeat, mut report)| {
        let (traffic, numbering) = (traffic.clone(), numbering.clone());
        async move {
            let mut owed = None;
            let next = match state {
                State::Hello(description) => {
                    return Some((
                        message(Up::Hello((*description).into())),
                        (State::Welcome, heartbeat, report),
                    ));
                }
                State::Welcome => {
                    // An error here is the end of the connection that would have been welcomed.
                    let every = (*heartbeat.wait_for(Option::is_some).await.ok()?)?;
                    let mut ticks = interval_at(Instant::now() + every, every);
                    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                    ticks
                }
                State::Traffic(ticks, told) => {
                    return Some((message(Up::Traffic(told)), (State::Reports(ticks), heartbeat, report)));
                }
                State::Reports(mut ticks) => {
                    tokio::select! {
                        // Both are safe to cancel: a tick or a change that is not taken here is taken next time.
                        _ = ticks.tick() => owed = traffic.told(),
                        changed = report.changed() => changed.ok()?,
                    }
                    ticks
                }
            };
            let latest = Report::clone(&report.borrow_and_update());
            let next = match owed {
                Some(told) => State::Traffic(next, told),
                None => State::Reports(next),
            };
            let latest = wire::Report { heartbeat: numbering.next(), ..latest.into() };
            Some((message(Up::Report(latest)), (next, heartbeat, report)))
        }
    })
}
