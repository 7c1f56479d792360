//! The agent's gRPC API: what the control plane asks of a node. Methods decode, ask, encode; they decide nothing.

mod agent;
mod http;
mod links;
mod logs;

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use proto::weft::agent::v1::agent_server::AgentServer;
use proto::weft::link::v1::links_server::LinksServer;
use proto::weft::log::v1::logs_server::LogsServer;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use trust::client::HTTP2;
use trust::{Acceptor, Clients, Gate, Keyring, access};

use crate::host::Reach;
use crate::http_road;
use crate::ingress::Answers;
use crate::link::carrier;
use crate::logs::LogBook;
use crate::reconciler::Table;
use crate::roads;
use crate::runner::Runner;

/// The most calls of one connection at a time; the control plane has a few connections.
const CALLS_MAX: u32 = 256;
/// A peer that is gone without a word is noticed after these two.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long before the end of the certificate that a connection was made with its other end is told to make another one.
const RENEWAL_NOTICE: Duration = Duration::from_secs(1);
/// How long connections may take to end at the stop: what they have under way, and some. One that never said anything
/// does not end by itself.
const STOP_TIMEOUT: Duration = links::ENDING_MAX.saturating_add(Duration::from_secs(1));

/// Why the API stopped.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The descriptors in this binary cannot be read.
    #[error("the descriptors of the services cannot be read")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The server failed.
    #[error("the gRPC server failed")]
    Serve(#[from] tonic::transport::Error),
}

/// Where others come in, and who they must be.
pub struct Doors {
    /// Where it listens.
    pub listener: TcpListener,
    /// Who this node is, and who others are.
    pub keyring: Keyring,
    /// Answers the HTTP that other agents carry here.
    pub answers: Arc<Answers>,
}

/// Serves until `stop`, then finishes the calls under way, within bounds.
pub async fn serve<R: Runner>(
    doors: Doors,
    table: watch::Receiver<Arc<Table<R::Running>>>,
    reach: Reach,
    logs: LogBook,
    stop: CancellationToken,
) -> Result<(), ApiError> {
    let agent = AgentServer::new(agent::Agent::<R>::new(table));
    let log = LogsServer::new(logs::Logs::new(logs, stop.clone()));
    let links = LinksServer::new(links::Links::new(reach, stop.clone()))
        .max_decoding_message_size(carrier::FRAMES_MAX_BYTES);
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<AgentServer<agent::Agent<R>>>().await;
    health.set_serving::<LogsServer<logs::Logs>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let stopped = stop.clone();
    let ending = async move {
        stopped.cancelled().await;
        health.set_not_serving::<AgentServer<agent::Agent<R>>>().await;
        health.set_not_serving::<LogsServer<logs::Logs>>().await;
    };
    let from_nodes = Arc::new(http::FromNodes::new(doors.answers, stop.clone()));
    let acceptor =
        Acceptor::new(doors.keyring, Clients::Required).with_protocols(&[HTTP2, http_road::PROTOCOL]);
    let to_http = from_nodes.clone();
    let incoming = acceptor
        .incoming(doors.listener)
        .filter_map(move |accepted| ready(accepted.map(|connection| to_http.take(connection)).transpose()));
    let serving = Server::builder()
        .max_concurrent_streams(CALLS_MAX)
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .initial_stream_window_size(roads::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(roads::CONNECTION_WINDOW_BYTES)
        .layer(Gate::new(access::of_node))
        .add_service(agent)
        .add_service(links)
        .add_service(log)
        .add_service(health_service)
        .add_service(reflection)
        .serve_with_incoming_shutdown(incoming, ending);
    let too_late = async {
        stop.cancelled().await;
        tokio::time::sleep(STOP_TIMEOUT).await;
    };
    let serving = async {
        serving.await?;
        from_nodes.ended().await;
        Ok::<_, ApiError>(())
    };
    tokio::select! {
        served = serving => served?,
        () = too_late => tracing::warn!("connections of the API were still open at the stop; they are cut"),
    }
    Ok(())
}
