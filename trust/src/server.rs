//! The end of a connection that is asked: it accepts, and who cannot say who it is costs the others nothing.
//!
//! Handshakes run beside each other, each with a deadline. When as many as there may be are under way, the oldest ends
//! for a new one: an honest one takes milliseconds, so those that wait for nothing go first.

use std::collections::VecDeque;
use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::Stream;
use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::certificate::provider;
use crate::client::HTTP2;
use crate::connection::Connection;
use crate::keyring::Keyring;
use crate::refusal::{Refusal, of_handshake};
use crate::verify::ClientJudge;

/// How long a handshake may take: over a slow road it takes half a second.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How many handshakes may be under way: each is a socket and some 20 KiB.
pub const HANDSHAKES_MAX: usize = 256;

/// How long to wait before accepting again where the system gave an error, usually for want of file descriptors: short
/// enough that nobody's timeout ends, long enough that the loop costs nothing.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
/// How long a refused peer has for reading why: closing at once would take the alert away with what is unread.
const FAREWELL: Duration = Duration::from_millis(250);
/// What a refused peer may still have sent meanwhile.
const FAREWELL_BYTES: usize = 4096;

/// Whether clients must say who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clients {
    /// Each shows a certificate of this cluster.
    Required,
    /// Those without a certificate are let in as nobody; a certificate that is shown must be good all the same.
    Optional,
}

/// Accepts connections under TLS. A copy is a handle of the same.
#[derive(Debug, Clone)]
pub struct Acceptor {
    keyring: Keyring,
    clients: Clients,
    protocols: Arc<[Vec<u8>]>,
}

/// The connections of a listener that speak HTTP/2, for `tonic::transport::Server::serve_with_incoming_shutdown`.
pub fn incoming(listener: TcpListener, keyring: Keyring, clients: Clients) -> Incoming {
    Acceptor::new(keyring, clients).incoming(listener)
}

impl Acceptor {
    /// Accepts as who the keyring says at that moment, and speaks HTTP/2.
    pub fn new(keyring: Keyring, clients: Clients) -> Self {
        Self { keyring, clients, protocols: Arc::new([HTTP2.to_vec()]) }
    }

    /// The same, speaking other protocols: the names of them (ALPN), the best first.
    #[must_use]
    pub fn with_protocols(self, protocols: &[&[u8]]) -> Self {
        Self { protocols: protocols.iter().map(|protocol| protocol.to_vec()).collect(), ..self }
    }

    /// The handshake with one client.
    ///
    /// # Errors
    ///
    /// Fails if it is not over within [`HANDSHAKE_TIMEOUT`], and if the client may not be here: then a [`Refusal`] is
    /// inside.
    pub async fn accept(&self, stream: TcpStream, address: SocketAddr) -> io::Result<Connection> {
        stream.set_nodelay(true)?;
        let (identity, knowledge) = self.keyring.knowledge();
        let judge = ClientJudge::new(knowledge, self.clients == Clients::Required).map_err(io::Error::other)?;
        let judge = Arc::new(judge);
        let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]);
        let mut config = builder
            .map_err(io::Error::other)?
            .with_client_cert_verifier(judge.clone())
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified())));
        config.alpn_protocols = self.protocols.to_vec();
        // A session that is taken up again is not judged again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let handshake = TlsAcceptor::from(Arc::new(config)).accept(stream).into_fallible();
        let shaken = timeout(HANDSHAKE_TIMEOUT, handshake).await.map_err(|_| {
            let reason = format!("the handshake was not over within {} seconds", HANDSHAKE_TIMEOUT.as_secs());
            io::Error::new(io::ErrorKind::TimedOut, reason)
        })?;
        let stream = match shaken {
            Ok(stream) => stream,
            Err((error, stream)) => {
                part(stream).await;
                return Err(of_handshake(&judge.judgement, error));
            }
        };
        let id = judge.judgement.get().and_then(|judgement| judgement.clone().ok());
        let listed = self.keyring.list(id.as_ref())?;
        Ok(Connection::new(stream.into(), address, id, Some(listed)))
    }

    /// The connections of a listener.
    pub fn incoming(self, listener: TcpListener) -> Incoming {
        Incoming {
            acceptor: self,
            listener,
            handshakes: JoinSet::new(),
            under_way: VecDeque::with_capacity(HANDSHAKES_MAX),
            pause: None,
        }
    }
}

/// Lets a refused peer read the alert that it was sent.
async fn part(mut stream: TcpStream) {
    let reading = async {
        stream.shutdown().await?;
        let mut rest = [0; 512];
        let mut read = 0;
        while read < FAREWELL_BYTES {
            match stream.read(&mut rest).await? {
                0 => break,
                some => read += some,
            }
        }
        io::Result::Ok(())
    };
    // Whether it did read is its own affair.
    let _ = timeout(FAREWELL, reading).await;
}

/// The connections of a listener, each with a handshake behind it. It gives no error and does not end.
pub struct Incoming {
    acceptor: Acceptor,
    listener: TcpListener,
    handshakes: JoinSet<io::Result<Connection>>,
    /// The oldest first; those that are over are taken out when there is no room.
    under_way: VecDeque<AbortHandle>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Incoming {
    /// Where it listens.
    ///
    /// # Errors
    ///
    /// Fails as [`TcpListener::local_addr`] does.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    fn begin(&mut self, stream: TcpStream, address: SocketAddr) {
        if self.under_way.len() >= HANDSHAKES_MAX {
            self.under_way.retain(|handshake| !handshake.is_finished());
        }
        if self.under_way.len() >= HANDSHAKES_MAX
            && let Some(oldest) = self.under_way.pop_front()
        {
            oldest.abort();
        }
        let acceptor = self.acceptor.clone();
        let handshake = self.handshakes.spawn(async move {
            let accepted = acceptor.accept(stream, address).await;
            if let Err(error) = &accepted {
                match Refusal::of(error) {
                    Some(refusal) => tracing::info!(peer = %address, reason = %refusal, "refused a connection"),
                    None => tracing::debug!(peer = %address, %error, "a handshake failed"),
                }
            }
            accepted
        });
        self.under_way.push_back(handshake);
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            // What is over makes room first; an error of one handshake was said where it arose.
            while let Poll::Ready(Some(over)) = this.handshakes.poll_join_next(context) {
                if let Ok(Ok(connection)) = over {
                    return Poll::Ready(Some(Ok(connection)));
                }
            }
            if let Some(pause) = &mut this.pause {
                ready!(pause.as_mut().poll(context));
                this.pause = None;
            }
            match ready!(this.listener.poll_accept(context)) {
                Ok((stream, address)) => this.begin(stream, address),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "no connection could be accepted, trying again");
                    this.pause = Some(Box::pin(sleep(ACCEPT_RETRY)));
                }
            }
        }
    }
}

/// Whether an error of `accept` is that of a connection that ended before it was accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
