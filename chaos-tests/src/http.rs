//! HTTP by hand: to an ingress byte by byte, and to an agent as another agent carries it.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use trust::{Expect, Keyring};

use crate::cluster::Cluster;
use crate::wait::SOON;

/// The answer to a request that is sent as it stands here and asks for its connection to be closed, without what
/// differs each time.
pub async fn raw(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("somebody listens");
    stream.write_all(request.as_bytes()).await.expect("it is taken");
    let mut answer = String::new();
    let read = tokio::time::timeout(SOON, stream.read_to_string(&mut answer)).await.expect("an answer in time");
    read.expect("a whole answer");
    let differs = |line: &&str| !line.starts_with("date: ") && !line.starts_with("weft-request-id: ");
    let mut lines: Vec<&str> = answer.split("\r\n").filter(differs).collect();
    // The order of headers says nothing.
    let body = lines.iter().position(|line| line.is_empty()).unwrap_or(lines.len());
    lines[1.min(body)..body].sort_unstable();
    lines.join("\n")
}

/// A connection to n1's agent as somebody, by which agents carry requests.
pub async fn to_agent(cluster: &Cluster, keyring: Keyring) -> Result<http2::SendRequest<Full<Bytes>>, String> {
    let uid = cluster.keyring_of("n1").identity().id().uid().clone();
    let connector = trust::connector(keyring, Expect::Node(uid)).with_protocols(&[b"weft-http"]);
    let connection = connector.connect(cluster.agent_api_address()).await.map_err(|error| error.to_string())?;
    let shaken = http2::handshake(TokioExecutor::new(), TokioIo::new(connection)).await;
    let (sender, connection) = shaken.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    Ok(sender)
}
