//! The judgement in a handshake: the peer's certificate is the cluster's, and names who may be there.
//!
//! One of these lives for one handshake, and keeps its judgement: TLS itself has room for an alert only.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use model::id::{ClusterId, Uid};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError as TlsCertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};

use crate::certificate::{AuthorityCertificate, Leaf, provider};
use crate::client::Expect;
use crate::fingerprint::Fingerprint;
use crate::refusal::Refusal;
use crate::spiffe::{Role, SpiffeId};

/// What a process knows of its cluster when a handshake begins.
#[derive(Debug, Clone)]
pub(crate) struct Knowledge {
    pub(crate) cluster: ClusterId,
    pub(crate) roots: Arc<RootCertStore>,
    pub(crate) revoked: Arc<BTreeSet<Uid>>,
}

impl Knowledge {
    /// What the certificate says, before anybody has shown that it is true.
    fn read(&self, certificate: &[u8]) -> Result<Leaf, Refusal> {
        let leaf = Leaf::read(certificate).map_err(Refusal::Certificate)?;
        if *leaf.id.cluster() != self.cluster {
            return Err(Refusal::Cluster { id: leaf.id, expected: self.cluster.clone() });
        }
        Ok(leaf)
    }

    fn check_revoked(&self, id: &SpiffeId) -> Result<(), Refusal> {
        if self.revoked.contains(id.uid()) { Err(Refusal::Revoked { id: id.clone() }) } else { Ok(()) }
    }
}

/// The judgement of a handshake: who the peer is, or why it is refused. Empty if it showed no certificate.
pub(crate) type Judgement = OnceLock<Result<SpiffeId, Refusal>>;

/// How a server is recognised.
#[derive(Debug)]
pub(crate) enum Server {
    Known { knowledge: Knowledge, expect: Expect },
    Pinned { authority: Fingerprint, shown: OnceLock<Vec<u8>> },
}

impl Server {
    pub(crate) fn pinned(authority: Fingerprint) -> Self {
        Self::Pinned { authority, shown: OnceLock::new() }
    }

    /// The authority that a pin found.
    pub(crate) fn shown(&self) -> Option<Vec<u8>> {
        match self {
            Self::Known { .. } => None,
            Self::Pinned { shown, .. } => shown.get().cloned(),
        }
    }
}

/// The client's judgement of a server.
#[derive(Debug)]
pub(crate) struct ServerJudge {
    pub(crate) server: Server,
    pub(crate) judgement: Judgement,
    provider: Arc<CryptoProvider>,
}

impl ServerJudge {
    pub(crate) fn new(server: Server) -> Self {
        Self { server, judgement: Judgement::new(), provider: provider() }
    }

    fn judge(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<SpiffeId, Refusal> {
        match &self.server {
            Server::Known { knowledge, expect } => {
                let leaf = knowledge.read(certificate)?;
                self.check_chain(certificate, &leaf, &knowledge.roots, now)?;
                expect.check(&leaf.id)?;
                knowledge.check_revoked(&leaf.id)?;
                Ok(leaf.id)
            }
            Server::Pinned { authority, shown } => {
                let pinned = others.iter().find(|other| Fingerprint::of(other) == *authority);
                let pinned = pinned.ok_or(Refusal::Pin { expected: *authority })?;
                let cluster = AuthorityCertificate::read(pinned).map_err(Refusal::Certificate)?.cluster;
                let mut roots = RootCertStore::empty();
                roots.add(pinned.clone()).map_err(|_| Refusal::Pin { expected: *authority })?;
                let knowledge = Knowledge { cluster, roots: Arc::new(roots), revoked: Arc::default() };
                let leaf = knowledge.read(certificate)?;
                self.check_chain(certificate, &leaf, &knowledge.roots, now)?;
                Expect::Member.check(&leaf.id)?;
                let _ = shown.set(pinned.to_vec());
                Ok(leaf.id)
            }
        }
    }

    /// The signature and the times. There are no authorities between a root and a leaf, so none that came along is used.
    fn check_chain(
        &self,
        certificate: &CertificateDer<'_>,
        leaf: &Leaf,
        roots: &RootCertStore,
        now: UnixTime,
    ) -> Result<(), Refusal> {
        let algorithms = self.provider.signature_verification_algorithms.all;
        ParsedCertificate::try_from(certificate)
            .and_then(|parsed| verify_server_cert_signed_by_trust_anchor(&parsed, roots, &[], now, algorithms))
            .map_err(|error| refusal_of_chain(error, leaf))
    }
}

impl Expect {
    fn check(&self, id: &SpiffeId) -> Result<(), Refusal> {
        let role = match self {
            Self::Member => Role::Member,
            Self::Node(_) => Role::Node,
        };
        if id.role() != role {
            return Err(Refusal::Role { id: id.clone(), expected: role });
        }
        match self {
            Self::Node(uid) if uid != id.uid() => Err(Refusal::Uid { id: id.clone(), expected: uid.clone() }),
            _ => Ok(()),
        }
    }
}

fn refusal_of_chain(error: Error, leaf: &Leaf) -> Refusal {
    let id = leaf.id.clone();
    match error {
        Error::InvalidCertificate(
            TlsCertificateError::Expired | TlsCertificateError::ExpiredContext { .. },
        ) => Refusal::Expired { id, at: leaf.not_after },
        Error::InvalidCertificate(
            TlsCertificateError::NotValidYet | TlsCertificateError::NotValidYetContext { .. },
        ) => Refusal::NotYetValid { id },
        Error::InvalidCertificate(
            TlsCertificateError::InvalidPurpose | TlsCertificateError::InvalidPurposeContext { .. },
        ) => Refusal::Purpose { id },
        _ => Refusal::Untrusted { id },
    }
}

/// Keeps a judgement, and gives TLS its part of it.
fn keep(judgement: &Judgement, found: Result<SpiffeId, Refusal>) -> Result<(), Error> {
    match judgement.get_or_init(|| found) {
        Ok(_) => Ok(()),
        Err(refusal) => Err(refusal.to_tls()),
    }
}

impl ServerCertVerifier for ServerJudge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        keep(&self.judgement, self.judge(end_entity, intermediates, now))?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The server's judgement of a client.
#[derive(Debug)]
pub(crate) struct ClientJudge {
    knowledge: Knowledge,
    is_required: bool,
    chain: Arc<dyn ClientCertVerifier>,
    pub(crate) judgement: Judgement,
}

impl ClientJudge {
    pub(crate) fn new(knowledge: Knowledge, is_required: bool) -> Result<Self, Error> {
        let chain =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&knowledge.roots), provider()).build();
        let chain = chain.map_err(|error| Error::General(error.to_string()))?;
        Ok(Self { knowledge, is_required, chain, judgement: Judgement::new() })
    }

    fn judge(&self, certificate: &CertificateDer<'_>, now: UnixTime) -> Result<SpiffeId, Refusal> {
        let leaf = self.knowledge.read(certificate)?;
        let chain = self.chain.verify_client_cert(certificate, &[], now);
        chain.map_err(|error| refusal_of_chain(error, &leaf))?;
        self.knowledge.check_revoked(&leaf.id)?;
        Ok(leaf.id)
    }
}

impl ClientCertVerifier for ClientJudge {
    fn client_auth_mandatory(&self) -> bool {
        self.is_required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        keep(&self.judgement, self.judge(end_entity, now))?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
