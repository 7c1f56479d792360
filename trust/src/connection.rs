//! A connection under TLS, which ends at once when its peer is revoked, or is nobody and has to make room.

use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::SystemTime;

use hyper_util::client::legacy::connect::{Connected as Reached, Connection as Reach};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::transport::server::Connected;

use crate::certificate::Leaf;
use crate::keyring::Listed;
use crate::refusal::{Refusal, explained};
use crate::spiffe::SpiffeId;

/// Who is at the other end. tonic puts it into the extensions of each request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Where it is.
    pub address: SocketAddr,
    /// Who it is; nobody known, if it showed no certificate and did not have to.
    pub id: Option<SpiffeId>,
    /// When the certificate ends that it showed.
    pub certificate_ends: Option<SystemTime>,
}

/// A connection under TLS.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    /// Absent where this side has no keyring yet.
    cut: Option<Cut>,
}

/// Waits for the end of a connection, once for each half: they may be polled by different tasks.
struct Cut {
    listed: Listed,
    reading: Pin<Box<WaitForCancellationFutureOwned>>,
    writing: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Cut {
    fn new(listed: Listed) -> Self {
        let [reading, writing] = [(), ()].map(|()| Box::pin(listed.cut.clone().cancelled_owned()));
        Self { listed, reading, writing }
    }
}

impl Connection {
    pub(crate) fn new(
        stream: TlsStream<TcpStream>,
        address: SocketAddr,
        id: Option<SpiffeId>,
        listed: Option<Listed>,
    ) -> Self {
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let certificate_ends = shown.and_then(|der| Leaf::read(der).ok()).map(|leaf| leaf.not_after);
        Self { stream, peer: Peer { address, id, certificate_ends }, cut: listed.map(Cut::new) }
    }

    /// Who is at the other end.
    pub const fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The certificates that the other end showed, in DER: its own first.
    pub fn peer_certificates(&self) -> Vec<Vec<u8>> {
        let certificates = self.stream.get_ref().1.peer_certificates().unwrap_or_default();
        certificates.iter().map(|certificate| certificate.to_vec()).collect()
    }

    /// The protocol that both ends chose, if they named any.
    pub fn protocol(&self) -> Option<&[u8]> {
        self.stream.get_ref().1.alpn_protocol()
    }

    fn why_cut(&self) -> io::Error {
        match &self.peer.id {
            Some(id) => Refusal::Revoked { id: id.clone() }.into(),
            None => io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "it made room for another without a certificate",
            ),
        }
    }

    fn poll_cut_reading(&mut self, context: &mut Context<'_>) -> Result<(), io::Error> {
        let Some(cut) = &mut self.cut else { return Ok(()) };
        let is_cut = cut.listed.cut.is_cancelled() || cut.reading.as_mut().poll(context).is_ready();
        if is_cut { Err(self.why_cut()) } else { Ok(()) }
    }

    fn poll_cut_writing(&mut self, context: &mut Context<'_>) -> Result<(), io::Error> {
        let Some(cut) = &mut self.cut else { return Ok(()) };
        let is_cut = cut.listed.cut.is_cancelled() || cut.writing.as_mut().poll(context).is_ready();
        if is_cut { Err(self.why_cut()) } else { Ok(()) }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_cut_reading(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer).map_err(explained)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_cut_writing(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes).map_err(explained)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_cut_writing(context)?;
        Pin::new(&mut self.stream).poll_write_vectored(context, slices).map_err(explained)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_cut_writing(context)?;
        Pin::new(&mut self.stream).poll_flush(context).map_err(explained)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_cut_writing(context)?;
        Pin::new(&mut self.stream).poll_shutdown(context).map_err(explained)
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl Reach for Connection {
    fn connected(&self) -> Reached {
        Reached::new()
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Connection").field("peer", &self.peer).finish_non_exhaustive()
    }
}
