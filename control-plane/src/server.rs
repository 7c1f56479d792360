//! The composition root: every part is made and joined here, and stopped in order.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cluster::command::Body;
use cluster::state::{FIRST_MEMBER, MemberId};
use cluster::{Command, Outcome, State};
use proto::weft::artifact::v1::artifacts_server::ArtifactsServer;
use proto::weft::backup::v1::backups_server::BackupsServer;
use proto::weft::event::v1::events_server::EventsServer;
use proto::weft::graph::v1::graphs_server::GraphsServer;
use proto::weft::log::v1::logs_server::LogsServer;
use proto::weft::member::v1::members_server::MembersServer;
use proto::weft::namespace::v1::namespaces_server::NamespacesServer;
use proto::weft::node::v1::nodes_server::NodesServer;
use proto::weft::policy::v1::policies_server::PoliciesServer;
use proto::weft::trust::v1::enrolment_server::EnrolmentServer;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower::util::MapResponseLayer;
use trust::{Authority, Clients, Gate, access};

use crate::api::{
    Checks, Context, artifacts, backups, deadline, enrolment, events, graphs, logs, members, namespaces, nodes,
    policies, transport_errors,
};
use crate::artifacts::{ArtifactError, ArtifactStore};
use crate::calls::CallsBook;
use crate::config::Config;
use crate::credentials::{self, Credentials, CredentialsError};
use crate::durable;
use crate::joining::{self, NotJoined};
use crate::leader::{self, liveness::Liveness, relink::Relinker};
use crate::linking::Linker;
use crate::maintenance;
use crate::raft::{self, Consensus, Handle, OpenError, ProposeError, RaftConfig, TransferError};
use crate::replicas::Replicas;
use crate::routing;
use crate::traffic::TrafficBook;

/// The wait before a member says again where it is reached.
const ANNOUNCE_AGAIN: Duration = Duration::from_millis(500);
/// Streams of one connection.
const STREAMS_MAX: u32 = 1_024;
/// The largest request, but for reports and the bytes of artifacts: a manifest of 1 MiB with the digests of its sources.
const REQUEST_MAX_BYTES: usize = 4 << 20;
/// The largest header list of a request, in bytes.
const HEADERS_MAX_BYTES: u32 = 16 << 10;
/// A connection whose peer does not answer is closed after these two.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PATIENCE: Duration = Duration::from_secs(5);
/// How long streams may take to end when the member stops.
const DRAIN_PATIENCE: Duration = Duration::from_secs(3);

/// Why the control plane cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Consensus.
    #[error("consensus cannot start")]
    Raft(#[from] OpenError),
    /// Which member this is.
    #[error("this member has not joined a cluster")]
    Join(#[from] NotJoined),
    /// Who the cluster is.
    #[error(transparent)]
    Init(#[from] NotInitialised),
    /// Certificates.
    #[error("this member cannot say who it is")]
    Credentials(#[from] CredentialsError),
    /// A backup was being restored.
    #[error("{path} holds a part of a backup: its restore was cut off. Run `control-plane restore` again")]
    Restoring {
        /// Where.
        path: PathBuf,
    },
    /// A loop of the leader ended by itself: a member that serves and does not place would look well and not be.
    #[error("this member has stopped: a part of it was lost")]
    LoopLost(#[source] Option<JoinError>),
    /// Consensus ended by itself: what was acknowledged is safe, and nothing more can be.
    #[error("this member has stopped: {0}")]
    Stopped(String),
    /// Artifacts.
    #[error("the artifact store cannot be opened")]
    Artifacts(#[from] ArtifactError),
    /// The socket.
    #[error("cannot listen on {address}: is another control plane running there?")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A file in the data directory.
    #[error("cannot write {path}")]
    File {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The reflection service.
    #[error("the descriptors of the API cannot be served: {0}")]
    Reflection(String),
    /// The transport.
    #[error("the API stopped")]
    Serve(#[from] tonic::transport::Error),
}

/// Why a cluster has no identity.
#[derive(Debug, thiserror::Error)]
pub enum NotInitialised {
    /// The first command.
    #[error("the cluster cannot be initialised")]
    Propose(#[from] ProposeError),
    /// Its authority.
    #[error("this member cannot say who it is")]
    Credentials(#[from] CredentialsError),
}

/// Runs the control plane until `shutdown` resolves.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), ServerError> {
    if maintenance::is_unfinished(&config.data_dir) {
        return Err(ServerError::Restoring { path: config.data_dir });
    }
    tokio::pin!(shutdown);
    // Whoever joins waits for members that may be away for long.
    let (member, start) = tokio::select! {
        member = joining::member(&config) => member?,
        () = &mut shutdown => return Ok(()),
    };
    let (peers, room) = (raft::Peers::default(), raft::Room::new(config.state_quota));
    let raft = Handle::open(RaftConfig {
        data_dir: config.data_dir.clone(),
        node_id: member.0,
        storage: config.storage.into(),
        start,
        peers: peers.clone(),
        log_max_bytes: config.log_max_bytes(),
        election_timeout: config.election_timeout,
        room: room.clone(),
        planted: config.planted(),
    })
    .await?;
    let ready = config.data_dir.join("ready.json");
    forget_ready(&ready)?;
    let authority = initialise(&raft, &config.data_dir, config.feature_level()).await?;
    let credentials = Credentials::open(&config.data_dir, authority, member.0, config.certificate_lifetime)?;
    peers.identify(credentials.keyring());
    let artifacts = ArtifactStore::open(&config.data_dir)?;
    let linker = Linker::new(artifacts.clone());
    let relinker = Relinker::new(raft.clone(), linker.clone());
    let liveness = Liveness::new(config.node_timeout());
    let replicas = Replicas::new(raft.clone(), artifacts.clone(), peers.clone());
    let stop = CancellationToken::new();
    let (traffic, calls) = (TrafficBook::default(), CallsBook::new(liveness.heartbeat_interval()));
    let mut loops = leader::start(
        &stop,
        &raft,
        &relinker,
        &liveness,
        (&traffic, &calls),
        config.artifact_grace,
        config.feature_level(),
    );
    loops.spawn(room.keep(config.data_dir.clone(), config.disk_reserve, stop.clone()));
    loops.spawn(raft::fitness::keep(raft.clone(), stop.clone()));
    loops.spawn(credentials.clone().keep(raft.clone(), stop.clone()));
    loops.spawn(replicas.clone().keep(stop.clone()));
    loops.spawn(replicas.clone().tend(config.artifact_grace, stop.clone()));
    loops.spawn(joining::note_begun(raft.clone(), config.data_dir.clone(), member, stop.clone()));
    let (route_sender, routes) = watch::channel(None);
    loops.spawn(routing::follow(raft.changes(), route_sender, stop.clone()));
    let context = Context {
        credentials,
        raft: raft.clone(),
        artifacts,
        replicas,
        linker,
        relinker,
        liveness,
        traffic,
        calls,
        sessions: nodes::Sessions::default(),
        routes,
        checks: Checks::default(),
        artifact_quota: config.artifact_quota,
        stop: stop.clone(),
    };

    let listen = |source| ServerError::Listen { address: config.listen, source };
    let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let advertised = match joining::address(&config, address.port()) {
        // Alone it works without: others cannot join before they are told.
        Err(NotJoined::Address) if member == FIRST_MEMBER => None,
        advertised => Some(advertised?),
    };
    if let Some(address) = advertised {
        peers.listens_at(address.clone());
        let said = Said { address, level: config.feature_level() };
        // Who leads has nobody to wait for, and is known before anybody can ask.
        if raft.is_leader() && !is_announced(&raft.state(), member, &said) {
            announce_once(&raft, member, &said).await;
        }
        loops.spawn(announce(raft.clone(), member, said, stop.clone()));
    }
    write_ready(&ready, address)?;
    tracing::info!(%address, "the control plane is ready");
    let failed = async {
        tokio::select! {
            why = raft.stopped() => ServerError::Stopped(why),
            lost = loops.join_next() => ServerError::LoopLost(lost.and_then(Result::err)),
        }
    };
    let leaving = hand_over(raft.clone(), shutdown);
    let served = serve(context, listener, stop.clone(), leaving, failed).await;
    // It listens there no longer. A file that stays says so by its process id.
    let _ = std::fs::remove_file(&ready);
    stop.cancel();
    while loops.join_next().await.is_some() {}
    raft.shutdown().await;
    served
}

/// Removes what an earlier run said, which listened elsewhere. Not before this run has the data directory for itself.
fn forget_ready(path: &Path) -> Result<(), ServerError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(ServerError::File { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Gives a new cluster its identity, and finds the authority of one that there is.
pub(crate) async fn initialise(
    raft: &Handle,
    data_dir: &Path,
    level: u32,
) -> Result<Authority, NotInitialised> {
    if let Some(cluster) = &raft.state().cluster {
        return Ok(credentials::load(data_dir, cluster)?);
    }
    // Others have it in their logs.
    if !raft.is_leader() {
        return Ok(credentials::joined(data_dir)?);
    }
    let authority = credentials::found(data_dir)?;
    let body = Body::InitCluster { cluster: authority.cluster().clone(), level };
    raft.propose(Command { now_ms: raft.now_ms(), request: None, body }).await?;
    Ok(authority)
}

/// Waits for the end, and lets another member lead before it: nobody has to find out that this one is gone.
async fn hand_over(raft: Handle, shutdown: impl Future<Output = ()>) {
    shutdown.await;
    if raft.is_leader()
        && let Err(error) = raft.transfer(None).await
        && !matches!(error, TransferError::Nobody)
    {
        tracing::warn!(%error, "no other member leads yet");
    }
}

/// What a member says of itself.
struct Said {
    /// Where it is reached.
    address: String,
    /// The feature level that it knows.
    level: u32,
}

/// Sees to it that the state has what this member says of itself, until `stop`.
async fn announce(raft: Handle, member: MemberId, said: Said, stop: CancellationToken) {
    let mut states = raft.changes();
    loop {
        let state = states.borrow_and_update().clone();
        let is_said = is_announced(&state, member, &said) || announce_once(&raft, member, &said).await;
        tokio::select! {
            () = stop.cancelled() => return,
            changed = states.changed(), if is_said => if changed.is_err() { return },
            () = tokio::time::sleep(ANNOUNCE_AGAIN), if !is_said => {}
        }
    }
}

/// Whether the state has what a member says of itself.
fn is_announced(state: &State, member: MemberId, said: &Said) -> bool {
    let record = state.members.get(&member);
    record.is_some_and(|record| record.address == said.address && record.level == said.level)
}

/// Proposes what this member says of itself; whether that is committed.
async fn announce_once(raft: &Handle, member: MemberId, said: &Said) -> bool {
    let Said { address, level } = said;
    let body = Body::AnnounceMember { member, address: address.clone(), level: *level };
    match raft.propose(Command { now_ms: raft.now_ms(), request: None, body }).await {
        Ok(committed) => match committed.outcome {
            Outcome::Refused(refusal) => {
                tracing::error!(%refusal, "this member is refused");
                false
            }
            _ => {
                tracing::info!(address, "this member is reached there");
                true
            }
        },
        Err(error) => {
            tracing::warn!(%error, "where this member is reached is not known to all yet");
            false
        }
    }
}

/// Says where this member listens, for those who start it on port 0.
fn write_ready(path: &Path, address: SocketAddr) -> Result<(), ServerError> {
    let text = serde_json::json!({"pid": std::process::id(), "api_address": address.to_string()}).to_string();
    durable::replace(path, text.as_bytes())
        .map_err(|source| ServerError::File { path: path.to_owned(), source })
}

async fn serve(
    context: Context,
    listener: TcpListener,
    stop: CancellationToken,
    shutdown: impl Future<Output = ()>,
    failed: impl Future<Output = ServerError>,
) -> Result<(), ServerError> {
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|error| ServerError::Reflection(error.to_string()))?;
    let keyring = context.credentials.keyring();
    let (health, health_service) = tonic_health::server::health_reporter();
    set_health(&health, ServingStatus::Serving).await;
    let server = tonic::transport::Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .http2_max_header_list_size(HEADERS_MAX_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_PATIENCE))
        .layer(MapResponseLayer::new(transport_errors::name))
        .layer(Gate::new(access::of_member))
        .layer(deadline::Deadlines)
        .add_service(health_service)
        .add_service(reflection)
        .add_service(
            GraphsServer::new(graphs::Graphs::new(context.clone()))
                .max_decoding_message_size(REQUEST_MAX_BYTES),
        )
        .add_service(
            PoliciesServer::new(policies::Policies::new(context.clone()))
                .max_decoding_message_size(REQUEST_MAX_BYTES),
        )
        .add_service(
            ArtifactsServer::new(artifacts::Artifacts::new(context.clone()))
                .max_decoding_message_size(REQUEST_MAX_BYTES),
        )
        .add_service(
            NodesServer::new(nodes::Nodes::new(context.clone()))
                .max_decoding_message_size(nodes::REPORT_MAX_BYTES),
        )
        .add_service(NamespacesServer::new(namespaces::Namespaces::new(context.clone())))
        .add_service(EnrolmentServer::new(enrolment::Enrolment::new(context.clone())))
        .add_service(MembersServer::new(members::Members::new(context.clone())))
        .add_service(BackupsServer::new(backups::Backups::new(context.clone())))
        .add_service(Consensus::server(context.raft.clone()))
        .add_service(
            EventsServer::new(events::Events::new(context.clone()))
                .max_decoding_message_size(REQUEST_MAX_BYTES),
        )
        .add_service(LogsServer::new(logs::Logs::new(context)).max_decoding_message_size(REQUEST_MAX_BYTES));
    let ended = stop.clone();
    // Those who join have no certificate yet; the gate keeps them from everything else.
    let incoming = trust::incoming(listener, keyring, Clients::Optional);
    let serving = server.serve_with_incoming_shutdown(incoming, async move { ended.cancelled().await });
    tokio::pin!(serving);
    let mut ended = Ok(());
    tokio::select! {
        result = &mut serving => return Ok(result?),
        () = shutdown => {}
        error = failed => ended = Err(error),
    }
    set_health(&health, ServingStatus::NotServing).await;
    stop.cancel();
    // Calls under way come to their end, and streams are told to.
    if let Ok(result) = tokio::time::timeout(DRAIN_PATIENCE, serving).await {
        result?;
    }
    ended
}

/// What the health service says of each service and, under the empty name, of all.
async fn set_health(health: &HealthReporter, status: ServingStatus) {
    let services = [
        "",
        <GraphsServer<graphs::Graphs> as NamedService>::NAME,
        <PoliciesServer<policies::Policies> as NamedService>::NAME,
        <ArtifactsServer<artifacts::Artifacts> as NamedService>::NAME,
        <NodesServer<nodes::Nodes> as NamedService>::NAME,
        <NamespacesServer<namespaces::Namespaces> as NamedService>::NAME,
        <EventsServer<events::Events> as NamedService>::NAME,
        <LogsServer<logs::Logs> as NamedService>::NAME,
        <EnrolmentServer<enrolment::Enrolment> as NamedService>::NAME,
        <MembersServer<members::Members> as NamedService>::NAME,
        <BackupsServer<backups::Backups> as NamedService>::NAME,
    ];
    for service in services {
        health.set_service_status(service, status).await;
    }
}
