//! Outgoing HTTP of guests: to listed origins only, by a client of our own.
//!
//! A name is looked up once and the address that was checked is the one dialled, so that a name cannot lead into the
//! node's own network. Redirects are the guest's matter: each hop is a request and is checked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use model::egress::Scheme;
use model::graph::Settings;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use crate::traces::Trace;

/// The longest a connection may take, whatever the guest allows.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(10);
/// The longest a guest waits for the head of a response; its own deadline usually ends it sooner.
const FIRST_BYTE_TIMEOUT_MAX: Duration = model::graph::DEADLINE_MAX;

/// What the node's operator says of guests' outgoing requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EgressLimits {
    /// Whether addresses that are not public (loopback, private, link-local, …) may be dialled.
    pub allow_private: bool,
    /// Never dialled: the control plane and this node's own ports.
    pub refused: Vec<SocketAddr>,
}

impl EgressLimits {
    /// An unspecified address reaches this node when it is dialled, and is every address of it when it is listened on.
    fn refuses(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        self.refused.iter().filter(|refused| refused.port() == address.port()).any(|refused| {
            let refused = refused.ip().to_canonical();
            refused == ip || ip.is_unspecified() || refused.is_unspecified()
        })
    }
}

/// Dials for all guests of a node.
pub(crate) struct Client {
    limits: EgressLimits,
    /// Made when the first guest needs it: reading the machine's certificates takes milliseconds.
    tls: OnceLock<Result<TlsConnector, String>>,
}

/// What one store's outgoing requests are checked against.
pub(crate) struct EgressHooks {
    client: Arc<Client>,
    /// The settings of the component whose call is under way, and where that stands in its trace.
    granted: Option<(Arc<Settings>, Trace)>,
}

type Worker = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Response = (http::Response<WasiBody>, Worker);

impl EgressHooks {
    pub(crate) fn new(client: Arc<Client>) -> Self {
        Self { client, granted: None }
    }

    /// The component with these settings makes the next request, as a part of `trace`.
    pub(crate) fn allow(&mut self, settings: Arc<Settings>, trace: Trace) {
        self.granted = Some((settings, trace));
    }
}

impl WasiHttpHooks for EgressHooks {
    fn send_request(
        &mut self,
        mut request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Worker,
    ) -> Box<dyn Future<Output = Result<Response, Error>> + Send> {
        let (client, granted) = (self.client.clone(), self.granted.take());
        let granted = granted.map(|(settings, trace)| {
            trace.tell(request.headers_mut());
            settings
        });
        Box::new(async move { client.send(granted, request, options).await })
    }
}

/// Where a request goes.
struct Origin {
    scheme: Scheme,
    host: String,
    port: u16,
}

impl Client {
    pub(crate) fn new(limits: EgressLimits) -> Self {
        Self { limits, tls: OnceLock::new() }
    }

    async fn send(
        self: Arc<Self>,
        granted: Option<Arc<Settings>>,
        mut request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
    ) -> Result<Response, Error> {
        let origin = origin(request.uri())?;
        let allowed = granted.is_some_and(|settings| {
            settings.egress.iter().any(|rule| rule.allows(origin.scheme, &origin.host, origin.port))
        });
        if !allowed {
            return Err(Error::HttpRequestDenied);
        }
        let within = |asked: Option<Duration>, most: Duration| asked.unwrap_or(most).min(most);
        let connect = within(options.and_then(|options| options.connect_timeout), CONNECT_TIMEOUT_MAX);
        let first_byte = within(options.and_then(|options| options.first_byte_timeout), FIRST_BYTE_TIMEOUT_MAX);
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
        *request.uri_mut() = path.parse().map_err(|_| Error::HttpRequestUriInvalid)?;
        let (mut sender, connection) = tokio::time::timeout(connect, self.connect(&origin))
            .await
            .map_err(|_| Error::ConnectionTimeout)??;
        let connection = AbortOnDrop(tokio::spawn(connection));
        let sending = tokio::time::timeout(first_byte, sender.send_request(request));
        let response = sending.await.map_err(|_| Error::ConnectionReadTimeout)??;
        let response = response.map(|body| body.map_err(Error::from).boxed_unsync());
        // Lives as long as the response's body is read.
        let worker: Worker = Box::new(async move {
            let mut connection = connection;
            (&mut connection.0).await.map_err(|_| Error::ConnectionTerminated)
        });
        Ok((response, worker))
    }

    async fn connect(&self, origin: &Origin) -> Result<(Sender, Connection), Error> {
        let stream = TcpStream::connect(self.address(origin).await?).await.map_err(Error::Connect)?;
        stream.set_nodelay(true).map_err(Error::Connect)?;
        match origin.scheme {
            Scheme::Http => handshake(TokioIo::new(stream)).await,
            Scheme::Https => {
                let connector = self.tls.get_or_init(connector).as_ref().map_err(|problem| {
                    tracing::error!(%problem, "outgoing TLS cannot be used");
                    Error::InternalError(Some("TLS is not available on this node".to_owned()))
                })?;
                let name =
                    ServerName::try_from(origin.host.clone()).map_err(|_| Error::HttpRequestUriInvalid)?;
                let stream = connector.connect(name, stream).await.map_err(Error::Tls)?;
                handshake(TokioIo::new(stream)).await
            }
        }
    }

    /// The address to dial: refused if any of those the name has is one that guests may not reach.
    async fn address(&self, origin: &Origin) -> Result<SocketAddr, Error> {
        let found =
            tokio::net::lookup_host((origin.host.as_str(), origin.port)).await.map_err(Error::Connect)?;
        let addresses: Vec<SocketAddr> = found.collect();
        if addresses.iter().any(|address| !self.may_reach(*address)) {
            return Err(Error::DestinationIpProhibited);
        }
        addresses.first().copied().ok_or(Error::DestinationUnavailable)
    }

    fn may_reach(&self, address: SocketAddr) -> bool {
        (self.limits.allow_private || is_public(address.ip())) && !self.limits.refuses(address)
    }
}

fn origin(uri: &http::Uri) -> Result<Origin, Error> {
    let scheme = match uri.scheme_str() {
        Some("https") => Scheme::Https,
        Some("http") => Scheme::Http,
        _ => return Err(Error::HttpRequestUriInvalid),
    };
    let authority = uri.authority().ok_or(Error::HttpRequestUriInvalid)?;
    if authority.as_str().contains('@') {
        return Err(Error::HttpRequestUriInvalid);
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok(Origin { scheme, host, port: authority.port_u16().unwrap_or(scheme.default_port()) })
}

fn connector() -> Result<TlsConnector, String> {
    let mut roots = rustls::RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "a certificate of this machine cannot be read");
    }
    roots.add_parsable_certificates(found.certs);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

type Sender = hyper::client::conn::http1::SendRequest<WasiBody>;
type Connection = Pin<Box<dyn Future<Output = ()> + Send>>;

async fn handshake<S>(stream: S) -> Result<(Sender, Connection), Error>
where
    S: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let (sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    let driven = async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "an outgoing connection ended");
        }
    };
    Ok((sender, Box::pin(driven)))
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Whether an address is of the public internet, by the IANA special-purpose registries, with IPv4 inside IPv6 looked
/// at too.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => embedded_v4(address).map_or_else(|| is_public_v6(address), is_public_v4),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || address.is_documentation()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19));
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let first = address.segments()[0];
    // Only 2000::/3 is given out; of it, documentation and the benchmarking block are not.
    let documentation = first == 0x2001 && address.segments()[1] == 0x0db8;
    let benchmark = first == 0x2001 && address.segments()[1] == 2;
    (first & 0xe000) == 0x2000 && !documentation && !benchmark
}

/// IPv4 in IPv6: mapped, compatible, 6to4, NAT64; Teredo has it obscured.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    let join = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match segments {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] if address != Ipv6Addr::LOCALHOST => Some(join(high, low)),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(join(high, low)),
        [0x2002, high, low, ..] => Some(join(high, low)),
        [0x2001, 0, _, _, _, _, high, low] => Some(join(!high, !low)),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn only_the_public_internet_is_public() {
        for public in ["1.1.1.1", "100.63.0.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for special in [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "240.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "2001:db8::1",
            "2001:0:0:0:0:0:80ff:fffe",
        ] {
            assert!(!is_public(special.parse().unwrap()), "{special}");
        }
    }

    #[test]
    fn refused_ports_are_refused_under_every_address_that_leads_there() {
        let refused = ["127.0.0.1:7100", "[::1]:7101", "0.0.0.0:7102"].map(|address| address.parse().unwrap());
        let limits = EgressLimits { allow_private: true, refused: refused.into() };
        for address in [
            "127.0.0.1:7100",
            "[::ffff:127.0.0.1]:7100",
            "0.0.0.0:7100",
            "[::]:7100",
            "[::1]:7101",
            "127.0.0.1:7102",
            "10.0.0.7:7102",
        ] {
            assert!(limits.refuses(address.parse().unwrap()), "{address}");
        }
        for address in ["127.0.0.1:7103", "127.0.0.2:7100", "10.0.0.7:7100"] {
            assert!(!limits.refuses(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn an_origin_is_read_whole() {
        let read = |uri: &str| origin(&uri.parse().unwrap()).map(|origin| (origin.host, origin.port)).ok();
        assert_eq!(read("https://a.example/x"), Some(("a.example".to_owned(), 443)));
        assert_eq!(read("http://[::1]:81/"), Some(("::1".to_owned(), 81)));
        assert_eq!(read("https://a.example@b.example/"), None);
        assert_eq!(read("ftp://a.example/"), None);
    }
}
