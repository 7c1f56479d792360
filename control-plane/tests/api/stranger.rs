//! Peers that keep to no rule: they show what they like, believe every server, and write frames of HTTP/2 by hand.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::{Client as HttpClient, Error as HttpError};
use hyper_util::rt::{TokioExecutor, TokioIo};
use model::id::Uid;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{default_provider, sign::any_ecdsa_type};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use trust::{Authority, Expect, Identity, Key, Keyring, Role, SpiffeId};

use crate::member::PATIENCE;

/// The authority of the cluster whose data is in a folder.
pub(crate) fn authority(folder: &Path) -> Authority {
    Authority::from_pem(&std::fs::read_to_string(folder.join("authority.pem")).unwrap()).unwrap()
}

/// Somebody, as an authority says.
pub(crate) fn issued(authority: &Authority, role: Role, name: &str) -> Identity {
    let (key, now) = (Key::generate().unwrap(), SystemTime::now());
    let id = SpiffeId::new(authority.cluster().clone(), role, Uid::new(name).unwrap()).unwrap();
    let leaf = authority.issue(&key.request().unwrap(), &id, now..now + Duration::from_hours(1)).unwrap();
    Identity::new(key, leaf, vec![authority.certificate_der().to_vec()]).unwrap()
}

/// A client that shows an identity, or none, and believes any server.
pub(crate) fn credulous(
    identity: Option<&Identity>,
    version: &'static SupportedProtocolVersion,
    protocols: &[&[u8]],
) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_protocol_versions(&[version]).unwrap();
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(Credulous));
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown(identity)))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    config
}

fn shown(identity: &Identity) -> CertifiedKey {
    let key = PrivateKeyDer::from_pem_slice(identity.key().to_pem().as_bytes()).unwrap();
    let chain = std::iter::once(identity.certificate_der()).chain(identity.authorities());
    let chain = chain.map(|der| CertificateDer::from(der.to_vec())).collect();
    CertifiedKey::new(chain, any_ecdsa_type(&key).unwrap())
}

pub(crate) async fn connect(
    config: ClientConfig,
    address: SocketAddr,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::from(address.ip()), stream).await
}

/// A way to the server for calls, under such TLS.
pub(crate) fn channel(config: ClientConfig, address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect_with_connector_lazy(tower::service_fn(move |_: http::Uri| {
        let config = config.clone();
        async move { connect(config, address).await.map(TokioIo::new) }
    }))
}

/// The alert that ended a connection.
pub(crate) fn alert(error: &std::io::Error) -> Option<rustls::AlertDescription> {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::AlertReceived(alert)) => Some(*alert),
        _ => None,
    }
}

#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A client that sends what headers and bytes it likes as a call.
pub(crate) struct Sender {
    client: HttpClient<trust::Connector, Full<Bytes>>,
    address: SocketAddr,
}

impl Sender {
    pub(crate) fn new(address: SocketAddr, identity: Identity) -> Self {
        let connector = trust::connector(Keyring::new(identity), Expect::Member);
        let client = HttpClient::builder(TokioExecutor::new()).http2_only(true).build(connector);
        Self { client, address }
    }

    /// What a call comes to: how HTTP answers it, and how gRPC does.
    pub(crate) async fn call(
        &self,
        method: &str,
        headers: &[(String, String)],
        message: Vec<u8>,
    ) -> Result<(http::StatusCode, Status), HttpError> {
        let mut request = http::Request::post(format!("http://{}{method}", self.address));
        request = request.header("content-type", "application/grpc").header("te", "trailers");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::from(message)).unwrap();
        let answer = tokio::time::timeout(PATIENCE, self.client.request(request)).await.expect("an answer")?;
        let code = answer.status();
        let status = match Status::from_header_map(answer.headers()) {
            Some(status) => status,
            None => {
                let body = answer.into_body().collect().await;
                let trailers = body.ok().and_then(|body| body.trailers().cloned());
                let status = trailers.and_then(|trailers| Status::from_header_map(&trailers));
                status.unwrap_or_else(|| Status::unknown("there is no status"))
            }
        };
        Ok((code, status))
    }
}

/// A message as gRPC frames it.
pub(crate) fn framed(compressed: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[compressed][..], &length.to_be_bytes(), message].concat()
}

/// What each connection of HTTP/2 begins with: the preface, and settings that change nothing.
pub(crate) fn preface() -> Vec<u8> {
    [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(SETTINGS, 0, 0, &[])].concat()
}

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RESET: u8 = 3;
const SETTINGS: u8 = 4;
pub(crate) const GOAWAY: u8 = 7;
/// That a frame of data is the last one of its stream.
pub(crate) const END_STREAM: u8 = 1;
/// That the headers are whole.
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The headers of a call, as HPACK has them without its tables of what was before.
pub(crate) fn call_headers(method: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    // POST, http, a path, an authority.
    let mut block = vec![0x83, 0x86, 0x04];
    block.extend(text(method));
    block.push(0x01);
    block.extend(text("member"));
    for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")] {
        block.push(0x00);
        block.extend([text(name), text(value)].concat());
    }
    block
}

/// The code of the `GOAWAY` that a server ends a connection with, if it says one.
pub(crate) async fn goodbye(stream: &mut TlsStream<TcpStream>) -> Option<u32> {
    let reading = async {
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            stream.read_exact(&mut payload).await.ok()?;
            if head[3] == GOAWAY {
                return Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("the connection ends")
}

/// Writes bytes, and returns what comes back until the server closes.
pub(crate) async fn exchange<S>(mut stream: S, bytes: &[u8]) -> Vec<u8>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    // It may be refused before it is all sent.
    let _ = stream.write_all(bytes).await;
    let _ = stream.flush().await;
    let mut answer = Vec::new();
    let reading = async {
        let mut buffer = [0; 4_096];
        while let Ok(count) = stream.read(&mut buffer).await {
            if count == 0 {
                break;
            }
            answer.extend_from_slice(&buffer[..count]);
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("the server closes");
    answer
}
