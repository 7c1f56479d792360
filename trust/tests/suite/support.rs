//! Clusters with identities of every kind, also such as no authority of ours makes, and both ends of a connection.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use model::id::{ClusterId, Uid};
use rcgen::{CertificateParams, DistinguishedName, DnType, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use rustls::crypto::aws_lc_rs::{default_provider, sign::any_ecdsa_type};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint, Server};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::server::{HealthReporter, health_reporter};
use trust::{
    Acceptor, Authority, Clients, Connection, Connector, Gate, Identity, Key, Keyring, Role, SpiffeId, incoming,
};

/// The most that anything here may take which should be there at once: a busy machine is slow.
pub const BOUND: Duration = Duration::from_secs(20);
pub const HOUR: Duration = Duration::from_hours(1);

/// Waits for what must come.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, what).await.expect("it comes in time")
}

pub fn uid(text: &str) -> Uid {
    Uid::new(text).unwrap()
}

pub struct Cluster {
    pub authority: Authority,
}

impl Cluster {
    pub fn new(name: &str) -> Self {
        let yesterday = SystemTime::now() - 24 * HOUR;
        Self { authority: Authority::generate(&ClusterId::new(name).unwrap(), yesterday).unwrap() }
    }

    pub fn id(&self, role: Role, name: &str) -> SpiffeId {
        SpiffeId::new(self.authority.cluster().clone(), role, uid(name)).unwrap()
    }

    pub fn identity(&self, role: Role, name: &str) -> Identity {
        let now = SystemTime::now();
        self.identity_valid(role, name, now..now + HOUR)
    }

    pub fn identity_valid(&self, role: Role, name: &str, validity: Range<SystemTime>) -> Identity {
        let key = Key::generate().unwrap();
        let leaf = self.authority.issue(&key.request().unwrap(), &self.id(role, name), validity).unwrap();
        Identity::new(key, leaf, vec![self.authority.certificate_der().to_vec()]).unwrap()
    }

    pub fn keyring(&self, role: Role, name: &str) -> Keyring {
        Keyring::new(self.identity(role, name))
    }

    /// What somebody shows who has the authority's key and makes of it what they wish.
    pub fn forge(&self, wish: impl FnOnce(&mut CertificateParams)) -> CertifiedKey {
        let key = new_key();
        let leaf = wished(wish).signed_by(&key, &self.issuer()).unwrap();
        let chain = vec![leaf.der().clone(), self.authority_der()];
        CertifiedKey::new(chain, signing(&key))
    }

    pub fn authority_der(&self) -> CertificateDer<'static> {
        CertificateDer::from(self.authority.certificate_der().to_vec())
    }

    /// The authority itself, as if it were a leaf.
    pub fn authority_as_leaf(&self) -> CertifiedKey {
        CertifiedKey::new(vec![self.authority_der(), self.authority_der()], signing(&self.authority_key()))
    }

    fn authority_key(&self) -> KeyPair {
        pair(&PrivateKeyDer::from_pem_slice(self.authority.to_pem().as_bytes()).unwrap())
    }

    fn issuer(&self) -> Issuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("Weft cluster authority");
        Issuer::new(params, self.authority_key())
    }
}

/// A leaf of `above`, which is none that may sign.
pub fn forge_below(above: &Identity, name: &SpiffeId) -> CertifiedKey {
    let key = new_key();
    let mut issuer = CertificateParams::default();
    issuer.distinguished_name = common_name(&format!("Weft {}", above.id().role()));
    let signer = pair(&PrivateKeyDer::from_pem_slice(above.key().to_pem().as_bytes()).unwrap());
    let wish = wished(|leaf| leaf.subject_alt_names = vec![uri(&name.to_string())]);
    let leaf = wish.signed_by(&key, &Issuer::new(issuer, signer)).unwrap();
    let mut chain = vec![leaf.der().clone(), CertificateDer::from(above.certificate_der().to_vec())];
    chain.extend(above.authorities().map(|der| CertificateDer::from(der.to_vec())));
    CertifiedKey::new(chain, signing(&key))
}

/// A leaf as ours are, but for what is wished.
fn wished(wish: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut leaf = CertificateParams::default();
    let now = SystemTime::now();
    leaf.not_before = (now - HOUR).into();
    leaf.not_after = (now + HOUR).into();
    leaf.distinguished_name = common_name("Weft node");
    leaf.is_ca = rcgen::IsCa::ExplicitNoCa;
    leaf.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages =
        vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth, rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    wish(&mut leaf);
    leaf
}

pub fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

pub fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

fn common_name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, text);
    name
}

pub fn new_key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

fn pair(key: &PrivateKeyDer<'_>) -> KeyPair {
    KeyPair::from_der_and_sign_algo(key, &PKCS_ECDSA_P256_SHA256).unwrap()
}

fn signing(key: &KeyPair) -> Arc<dyn rustls::sign::SigningKey> {
    any_ecdsa_type(&PrivateKeyDer::Pkcs8(key.serialized_der().into())).unwrap()
}

/// What an identity shows.
pub fn shown(identity: &Identity) -> CertifiedKey {
    let key = PrivateKeyDer::from_pem_slice(identity.key().to_pem().as_bytes()).unwrap();
    let chain = std::iter::once(identity.certificate_der()).chain(identity.authorities());
    let chain = chain.map(|der| CertificateDer::from(der.to_vec())).collect();
    CertifiedKey::new(chain, any_ecdsa_type(&key).unwrap())
}

/// What a thief shows who has certificates and another key.
pub fn stolen(identity: &Identity) -> CertifiedKey {
    CertifiedKey::new(shown(identity).cert, signing(&new_key()))
}

/// Something that is no certificate.
pub fn garbage() -> CertifiedKey {
    CertifiedKey::new(vec![CertificateDer::from(vec![0x30, 0x03, 0x02, 0x01, 0x2a])], signing(&new_key()))
}

pub async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Both ends of one connection: the server's, the client's.
pub async fn both_ends(acceptor: &Acceptor, connector: &Connector) -> (Connection, Connection) {
    let (listener, address) = listener().await;
    let accepting = async {
        let (stream, from) = listener.accept().await.unwrap();
        acceptor.accept(stream, from).await.unwrap()
    };
    let (server, client) = soon(async { tokio::join!(accepting, connector.connect(address)) }).await;
    (server, client.unwrap())
}

/// A server of gRPC with the service of health, which ends when it is dropped.
pub struct Served {
    pub address: SocketAddr,
    pub health: HealthReporter,
    task: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub async fn serve(keyring: &Keyring, clients: Clients, gate: Gate) -> Served {
    let (listener, address) = listener().await;
    let (health, service) = health_reporter();
    let incoming = incoming(listener, keyring.clone(), clients);
    let serving = Server::builder().layer(gate).add_service(service).serve_with_incoming(incoming);
    let task = tokio::spawn(async { serving.await.unwrap() });
    Served { address, health, task }
}

/// A gate that is open.
pub fn open_gate() -> Gate {
    Gate::new(|_| trust::Access::Anyone)
}

pub async fn dial(
    address: SocketAddr,
    connector: Connector,
) -> Result<HealthClient<Channel>, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    soon(endpoint.connect_with_connector(connector)).await.map(HealthClient::new)
}

/// A client that shows what it likes and believes any server, of TLS of one version.
pub fn raw_client(
    shown: Option<CertifiedKey>,
    version: &'static rustls::SupportedProtocolVersion,
) -> rustls::ClientConfig {
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_protocol_versions(&[version]).unwrap();
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(Credulous));
    let mut config = match shown {
        Some(shown) => builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(shown))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// A server that shows what it likes and asks its clients for nothing, of TLS of one version.
pub fn raw_server(
    shown: CertifiedKey,
    version: &'static rustls::SupportedProtocolVersion,
) -> rustls::ServerConfig {
    let builder = rustls::ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_protocol_versions(&[version]).unwrap().with_no_client_auth();
    let mut config = builder.with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(shown)));
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

pub async fn raw_connect(
    config: rustls::ClientConfig,
    address: SocketAddr,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(address.ip().into(), stream).await
}

#[derive(Debug)]
struct Credulous;

impl rustls::client::danger::ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &rustls::pki_types::ServerName<'_>,
        _ocsp_response: &[u8],
        _now: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A value's text for whoever debugs, up to its fields.
pub fn variant(value: &impl Debug) -> String {
    let text = format!("{value:?}");
    text.split([' ', '(', '{']).next().unwrap_or_default().to_owned()
}
