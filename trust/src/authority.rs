//! The certificate authority of a cluster: it says who somebody is, and takes nobody's word for it.
//!
//! A request for a certificate shows that the caller has a key, and nothing else of it is used: names and lifetimes come
//! from the cluster.

use std::fmt;
use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::id::ClusterId;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber, SignatureAlgorithm,
};
use sha2::{Digest as _, Sha256};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;
use zeroize::Zeroizing;

use crate::certificate::{AuthorityCertificate, CertificateError, authority_name, is_signed, point};
use crate::fingerprint::Fingerprint;
use crate::key::{Key, KeyError};
use crate::pem::{self, PemError, Sections};
use crate::spiffe::{SpiffeId, SpiffeIdError};

/// How far a certificate begins before it is made, so that it is valid for a peer whose clock is behind.
pub const SKEW: Duration = Duration::from_mins(5);
/// How long an authority lives: there is no way to replace one in a running cluster yet.
pub const AUTHORITY_LIFETIME: Duration = Duration::from_hours(10 * 365 * 24);
/// The largest request for a certificate: ours have some 200 bytes, those with names of their own some more.
pub const REQUEST_MAX_BYTES: usize = 4096;

/// The latest time that a certificate can say in the form that is used here: the end of the year 9999.
const LATEST: Duration = Duration::from_secs(253_402_300_799);
const SERIAL_BYTES: usize = 16;

/// A cluster's authority: its certificate and the key that signs all others.
pub struct Authority {
    read: AuthorityCertificate,
    certificate: Vec<u8>,
    key: Key,
}

/// Why an authority does not come to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// The cluster's id cannot stand in a name.
    #[error("{0}")]
    Cluster(SpiffeIdError),
    /// The time cannot stand in a certificate.
    #[error("the time is too far from now for a certificate")]
    Time,
    /// The provider of cryptography failed.
    #[error("the certificate of the authority could not be made")]
    Make,
    /// The text is not PEM of one certificate and one key.
    #[error("{0}")]
    Pem(PemError),
    /// There is more than one certificate.
    #[error("the text has {found} certificates, and must have one")]
    Certificates {
        /// How many it has.
        found: usize,
    },
    /// The certificate is not one of an authority of ours.
    #[error("the certificate is not that of a cluster's authority: {0}")]
    Certificate(CertificateError),
    /// The certificate is not signed by its own key.
    #[error("the certificate is not signed by its own key")]
    Signature,
    /// The key is not usable.
    #[error("{0}")]
    Key(KeyError),
    /// The key belongs to another certificate.
    #[error("the key is not the one of the certificate")]
    KeyMismatch,
}

/// Why a certificate was not issued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The identity is one of another cluster.
    #[error("the identity is one of cluster `{found}`, and this is the authority of `{expected}`")]
    Cluster {
        /// The identity's.
        found: ClusterId,
        /// The authority's.
        expected: ClusterId,
    },
    /// The bytes are too many or not a request.
    #[error("the bytes are not a request for a certificate")]
    Malformed,
    /// The key is of another kind.
    #[error("the key of the request is not of ECDSA on P-256")]
    Key,
    /// The signature is not that of the key.
    #[error("the request is not signed by its own key")]
    Signature,
    /// The times are in the wrong order, or outside what a certificate can say, or after the authority's end.
    #[error("the times of the certificate do not lie before the end of its authority, one after the other")]
    Lifetime,
    /// The provider of cryptography, or the system's randomness, failed.
    #[error("the certificate could not be made")]
    Make,
}

impl Authority {
    /// A new authority for a cluster.
    ///
    /// # Errors
    ///
    /// Refuses a cluster whose id cannot stand in a name, and a time that cannot stand in a certificate.
    pub fn generate(cluster: &ClusterId, now: SystemTime) -> Result<Self, AuthorityError> {
        let name = authority_name(cluster).map_err(AuthorityError::Cluster)?;
        let mut wish = profile();
        wish.subject_alt_names =
            vec![SanType::URI(Ia5String::try_from(name).map_err(|_| AuthorityError::Make)?)];
        let validity = now.checked_sub(SKEW).zip(now.checked_add(AUTHORITY_LIFETIME));
        let (from, until) = validity.ok_or(AuthorityError::Time)?;
        wish.not_before = rcgen::date_time_ymd(1970, 1, 1) + since_start(from).ok_or(AuthorityError::Time)?;
        wish.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_start(until).ok_or(AuthorityError::Time)?;
        wish.serial_number = Some(serial().ok_or(AuthorityError::Make)?);
        let key = Key::generate().map_err(AuthorityError::Key)?;
        let certificate = wish.self_signed(&key).map_err(|_| AuthorityError::Make)?.der().to_vec();
        let read = AuthorityCertificate::read(&certificate).map_err(AuthorityError::Certificate)?;
        Ok(Self { read, certificate, key })
    }

    /// Reads what [`Authority::to_pem`] wrote.
    ///
    /// # Errors
    ///
    /// Refuses what is not the certificate and the key of one authority.
    pub fn from_pem(text: &str) -> Result<Self, AuthorityError> {
        let sections = Sections::read(text).map_err(AuthorityError::Pem)?;
        let [certificate] = &sections.certificates[..] else {
            return Err(AuthorityError::Certificates { found: sections.certificates.len() });
        };
        let read = AuthorityCertificate::read(certificate).map_err(AuthorityError::Certificate)?;
        if !read.has_signed(certificate) {
            return Err(AuthorityError::Signature);
        }
        let key = Key::from_pkcs8(&sections.key).map_err(AuthorityError::Key)?;
        if key.public_point() != read.point {
            return Err(AuthorityError::KeyMismatch);
        }
        Ok(Self { read, certificate: certificate.clone(), key })
    }

    /// Certificate and key as one text of PEM: the cluster's greatest secret.
    pub fn to_pem(&self) -> Zeroizing<String> {
        pem::write([self.certificate_der()], &self.key.to_pem())
    }

    /// The cluster whose authority it is.
    pub const fn cluster(&self) -> &ClusterId {
        &self.read.cluster
    }

    /// Its certificate, which is no secret.
    pub fn certificate_der(&self) -> &[u8] {
        &self.certificate
    }

    /// The fingerprint of its certificate, by which a newcomer knows it.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    /// When its certificate ends, and with it every other of the cluster.
    pub const fn expires(&self) -> SystemTime {
        self.read.not_after
    }

    /// Issues a certificate, in DER, for the key of a request, under the name of an identity.
    ///
    /// It begins [`SKEW`] before `validity` does. Of the request only its key is used.
    ///
    /// # Errors
    ///
    /// Refuses an identity of another cluster, a request that is not signed by its own key, a key of another kind than
    /// ECDSA on P-256, and times that go beyond the authority's own.
    pub fn issue(
        &self,
        request_der: &[u8],
        id: &SpiffeId,
        validity: Range<SystemTime>,
    ) -> Result<Vec<u8>, IssueError> {
        if id.cluster() != self.cluster() {
            return Err(IssueError::Cluster { found: id.cluster().clone(), expected: self.cluster().clone() });
        }
        let key = RequestKey::read(request_der)?;
        if validity.is_empty() || validity.end > self.expires() {
            return Err(IssueError::Lifetime);
        }
        let from = validity.start.checked_sub(SKEW).and_then(since_start).ok_or(IssueError::Lifetime)?;
        let mut leaf = CertificateParams::default();
        leaf.not_before = rcgen::date_time_ymd(1970, 1, 1) + from;
        leaf.not_after =
            rcgen::date_time_ymd(1970, 1, 1) + since_start(validity.end).ok_or(IssueError::Lifetime)?;
        leaf.serial_number = Some(serial().ok_or(IssueError::Make)?);
        leaf.distinguished_name = subject(&format!("Weft {}", id.role()));
        let name = Ia5String::try_from(id.to_string()).map_err(|_| IssueError::Make)?;
        leaf.subject_alt_names = vec![SanType::URI(name)];
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        leaf.use_authority_key_identifier_extension = true;
        let issuer = Issuer::new(profile(), self.key.clone());
        let certificate = leaf.signed_by(&key, &issuer).map_err(|_| IssueError::Make)?;
        Ok(certificate.der().to_vec())
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Authority")
            .field("cluster", self.cluster())
            .field("fingerprint", &self.fingerprint())
            .finish_non_exhaustive()
    }
}

/// What all authorities have in common; the subject is the issuer of every leaf.
fn profile() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject("Weft cluster authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn subject(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

/// Random, so that a serial says nothing of how many there are; positive, and as long as it looks.
fn serial() -> Option<SerialNumber> {
    let mut bytes = [0; SERIAL_BYTES];
    getrandom::fill(&mut bytes).ok()?;
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Some(SerialNumber::from_slice(&bytes))
}

/// A time in whole seconds, if a certificate can say it.
fn since_start(time: SystemTime) -> Option<Duration> {
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    (since <= LATEST).then(|| Duration::from_secs(since.as_secs()))
}

/// What tells the key of a request from all others: the SHA-256 of its public half, in hex.
///
/// # Errors
///
/// Refuses what [`Authority::issue`] refuses of a request.
pub fn request_key(request_der: &[u8]) -> Result<String, IssueError> {
    RequestKey::read(request_der).map(|key| hex::encode(Sha256::digest(key.0)))
}

/// The key of a request that was signed by it.
struct RequestKey(Vec<u8>);

impl RequestKey {
    fn read(der: &[u8]) -> Result<Self, IssueError> {
        if der.len() > REQUEST_MAX_BYTES {
            return Err(IssueError::Malformed);
        }
        let Ok(([], request)) = X509CertificationRequest::from_der(der) else {
            return Err(IssueError::Malformed);
        };
        let info = &request.certification_request_info;
        let point = point(&info.subject_pki).ok_or(IssueError::Key)?;
        if !is_signed(&request.signature_algorithm, point, info.raw, &request.signature_value.data) {
            return Err(IssueError::Signature);
        }
        Ok(Self(point.to_vec()))
    }
}

impl PublicKeyData for RequestKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}
