//! The end of a connection that asks for it: it knows whom it wants, by name and never by address.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::Uri;
use hyper_util::rt::TokioIo;
use model::id::Uid;
use rustls::client::Resumption;
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, ConfigBuilder, WantsVerifier};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tower::Service;

use crate::certificate::provider;
use crate::connection::Connection;
use crate::fingerprint::Fingerprint;
use crate::keyring::Keyring;
use crate::refusal::of_handshake;
use crate::verify::{Server, ServerJudge};

/// How long reaching an address and the handshake may take together: hosts of one cluster answer in milliseconds, and
/// whoever waits has another address to try.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What gRPC speaks.
pub const HTTP2: &[u8] = b"h2";

/// Whom a client wants at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// Any member of this cluster's control plane.
    Member,
    /// This node of this cluster.
    Node(Uid),
}

/// Connects to whom it expects: a service of connections for `tonic::transport::Endpoint::connect_with_connector`, whose
/// address is `http://HOST:PORT`, since tonic would look for its own TLS behind `https`. A copy is a handle of the same.
#[derive(Debug, Clone)]
pub struct Connector {
    whom: Whom,
    protocols: Arc<[Vec<u8>]>,
}

#[derive(Debug, Clone)]
enum Whom {
    Known { keyring: Keyring, expect: Expect },
    Pinned { authority: Fingerprint, shown: Arc<OnceLock<Vec<u8>>> },
}

/// Connects to whom `expect` says, as who the keyring says at that moment, and speaks HTTP/2.
pub fn connector(keyring: Keyring, expect: Expect) -> Connector {
    Connector { whom: Whom::Known { keyring, expect }, protocols: Arc::new([HTTP2.to_vec()]) }
}

/// Connects to a member of the cluster whose authority has this fingerprint, as nobody, and speaks HTTP/2.
pub fn pinned_connector(authority: Fingerprint) -> Connector {
    let shown = Arc::default();
    Connector { whom: Whom::Pinned { authority, shown }, protocols: Arc::new([HTTP2.to_vec()]) }
}

/// One connection to an address.
///
/// # Errors
///
/// Fails as [`Connector::connect`] does.
pub async fn connect(keyring: &Keyring, expect: Expect, address: SocketAddr) -> io::Result<Connection> {
    connector(keyring.clone(), expect).connect(address).await
}

impl Connector {
    /// The same, speaking other protocols: the names of them (ALPN), the best first.
    #[must_use]
    pub fn with_protocols(self, protocols: &[&[u8]]) -> Self {
        Self { protocols: protocols.iter().map(|protocol| protocol.to_vec()).collect(), ..self }
    }

    /// The certificate, in DER, of the authority that a pinned connector found, once a connection was made.
    pub fn shown_authority(&self) -> Option<Vec<u8>> {
        match &self.whom {
            Whom::Known { .. } => None,
            Whom::Pinned { shown, .. } => shown.get().cloned(),
        }
    }

    /// One connection to an address.
    ///
    /// That the peer refuses this side may be said by the first read only: in TLS 1.3 a client has finished first.
    ///
    /// # Errors
    ///
    /// Fails if nobody answers within [`CONNECT_TIMEOUT`], and if it is not the one expected: then a [`Refusal`](crate::Refusal) is
    /// inside.
    pub async fn connect(&self, address: SocketAddr) -> io::Result<Connection> {
        timeout(CONNECT_TIMEOUT, self.reach(address)).await.unwrap_or_else(|_| {
            let reason = format!("{address} did not answer within {} seconds", CONNECT_TIMEOUT.as_secs());
            Err(io::Error::new(io::ErrorKind::TimedOut, reason))
        })
    }

    async fn reach(&self, address: SocketAddr) -> io::Result<Connection> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (judge, mut config) = match &self.whom {
            Whom::Known { keyring, expect } => {
                let (identity, knowledge) = keyring.knowledge();
                let server = Server::Known { knowledge, expect: expect.clone() };
                let judge = Arc::new(ServerJudge::new(server));
                let certificate = Arc::new(SingleCertAndKey::from(identity.certified()));
                let verified = builder()?.dangerous().with_custom_certificate_verifier(judge.clone());
                (judge, verified.with_client_cert_resolver(certificate))
            }
            Whom::Pinned { authority, .. } => {
                let judge = Arc::new(ServerJudge::new(Server::pinned(*authority)));
                let verified = builder()?.dangerous().with_custom_certificate_verifier(judge.clone());
                (judge, verified.with_no_client_auth())
            }
        };
        config.alpn_protocols = self.protocols.to_vec();
        // A session that is taken up again is not judged again.
        config.resumption = Resumption::disabled();
        let connector = TlsConnector::from(Arc::new(config));
        let shaken = connector.connect(address.ip().into(), stream).await;
        let stream = shaken.map_err(|error| of_handshake(&judge.judgement, error))?;
        // A server always shows a certificate, so there is a judgement of it.
        let Some(Ok(id)) = judge.judgement.get().cloned() else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let listed = match &self.whom {
            Whom::Known { keyring, .. } => Some(keyring.list(Some(&id))?),
            Whom::Pinned { shown, .. } => {
                // The same certificate each time, since it has the same fingerprint.
                judge.server.shown().map(|authority| shown.get_or_init(|| authority));
                None
            }
        };
        Ok(Connection::new(stream.into(), address, Some(id), listed))
    }

    async fn connect_to(&self, uri: &Uri) -> io::Result<Connection> {
        let (Some(host), Some(port)) = (uri.host(), uri.port_u16()) else {
            let reason = format!("`{uri}` has no host and port");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        };
        // A literal of IPv6 stands in brackets in a URI, and nowhere else.
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let mut last = None;
        let addresses = timeout(CONNECT_TIMEOUT, tokio::net::lookup_host((host, port))).await;
        let addresses = addresses.unwrap_or_else(|_| {
            let reason =
                format!("the address of `{host}` was not found within {} seconds", CONNECT_TIMEOUT.as_secs());
            Err(io::Error::new(io::ErrorKind::TimedOut, reason))
        })?;
        for address in addresses {
            match self.connect(address).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("`{host}` has no address"))))
    }
}

fn builder() -> io::Result<ConfigBuilder<ClientConfig, WantsVerifier>> {
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]);
    builder.map_err(io::Error::other)
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Connection>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<TokioIo<Connection>>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.connect_to(&uri).await.map(TokioIo::new) })
    }
}
