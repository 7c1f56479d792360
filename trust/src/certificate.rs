//! What is read from a certificate. All of it may come from somebody who means harm.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::id::ClusterId;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::alg_id::{ECDSA_P256, ECDSA_SHA256};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

use crate::spiffe::{SpiffeId, SpiffeIdError, is_plain};

/// Why a certificate is not one that an authority of ours makes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The bytes are not a certificate.
    #[error("the bytes are not a certificate")]
    Malformed,
    /// It has no name or several.
    #[error("it has {found} names, and must have one")]
    Names {
        /// How many it has.
        found: usize,
    },
    /// Its name is not a URI.
    #[error("its name is not a URI")]
    Kind,
    /// Its name is not that of an identity.
    #[error("{0}")]
    Name(SpiffeIdError),
    /// It is an authority's and should be a leaf.
    #[error("it is the certificate of an authority")]
    Authority,
    /// It is a leaf's and should be an authority's.
    #[error("it is not the certificate of an authority")]
    NoAuthority,
    /// It may not sign.
    #[error("its key may not be used for this")]
    Usage,
    /// Its key is of another kind.
    #[error("its key is not of ECDSA on P-256")]
    Key,
}

/// What a leaf says of itself. That it is true is for its signature to show.
#[derive(Debug, Clone)]
pub(crate) struct Leaf {
    pub(crate) id: SpiffeId,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    pub(crate) serial: String,
}

impl Leaf {
    pub(crate) fn read(der: &[u8]) -> Result<Self, CertificateError> {
        let certificate = parse(der)?;
        if certificate.is_ca() {
            return Err(CertificateError::Authority);
        }
        let usage = certificate.key_usage().map_err(|_| CertificateError::Malformed)?;
        if !usage.is_some_and(|usage| usage.value.digital_signature()) {
            return Err(CertificateError::Usage);
        }
        Ok(Self {
            id: only_uri(&certificate)?.parse().map_err(CertificateError::Name)?,
            not_before: time(certificate.validity().not_before.timestamp())?,
            not_after: time(certificate.validity().not_after.timestamp())?,
            serial: hex::encode(certificate.raw_serial()),
        })
    }
}

/// An authority's certificate as it is read: self-signed, of one cluster.
#[derive(Debug, Clone)]
pub(crate) struct AuthorityCertificate {
    pub(crate) cluster: ClusterId,
    pub(crate) point: Vec<u8>,
    pub(crate) not_after: SystemTime,
}

impl AuthorityCertificate {
    pub(crate) fn read(der: &[u8]) -> Result<Self, CertificateError> {
        let certificate = parse(der)?;
        if !certificate.is_ca() {
            return Err(CertificateError::NoAuthority);
        }
        let usage = certificate.key_usage().map_err(|_| CertificateError::Malformed)?;
        if !usage.is_some_and(|usage| usage.value.key_cert_sign()) {
            return Err(CertificateError::Usage);
        }
        let name = only_uri(&certificate)?;
        let cluster = name.strip_prefix("spiffe://").ok_or(CertificateError::Name(SpiffeIdError::Scheme))?;
        let cluster = Some(cluster).filter(|cluster| is_plain(cluster));
        let cluster = cluster.and_then(|cluster| ClusterId::new(cluster).ok());
        Ok(Self {
            cluster: cluster.ok_or(CertificateError::Name(SpiffeIdError::Cluster))?,
            point: point(certificate.public_key()).ok_or(CertificateError::Key)?.to_vec(),
            not_after: time(certificate.validity().not_after.timestamp())?,
        })
    }

    /// Whether this authority signed a certificate.
    pub(crate) fn has_signed(&self, der: &[u8]) -> bool {
        parse(der).is_ok_and(|certificate| {
            is_signed(
                &certificate.signature_algorithm,
                &self.point,
                certificate.tbs_certificate.as_ref(),
                &certificate.signature_value.data,
            )
        })
    }
}

/// The name of an authority in its certificate.
pub(crate) fn authority_name(cluster: &ClusterId) -> Result<String, SpiffeIdError> {
    if is_plain(cluster.as_str()) { Ok(format!("spiffe://{cluster}")) } else { Err(SpiffeIdError::Cluster) }
}

/// The point of a certificate's key.
pub(crate) fn point_of(der: &[u8]) -> Result<Vec<u8>, CertificateError> {
    let certificate = parse(der)?;
    point(certificate.public_key()).map(<[u8]>::to_vec).ok_or(CertificateError::Key)
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(CertificateError::Malformed),
    }
}

fn only_uri<'a>(certificate: &'a X509Certificate<'_>) -> Result<&'a str, CertificateError> {
    let names = certificate.subject_alternative_name().map_err(|_| CertificateError::Malformed)?;
    let names = names.map_or(&[][..], |names| &names.value.general_names[..]);
    match names {
        [GeneralName::URI(uri)] => Ok(uri),
        [_] => Err(CertificateError::Kind),
        _ => Err(CertificateError::Names { found: names.len() }),
    }
}

fn time(timestamp: i64) -> Result<SystemTime, CertificateError> {
    let seconds = u64::try_from(timestamp).map_err(|_| CertificateError::Malformed)?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).ok_or(CertificateError::Malformed)
}

/// The point of a public key, if it is one of ECDSA on P-256.
pub(crate) fn point<'a>(key: &'a SubjectPublicKeyInfo<'_>) -> Option<&'a [u8]> {
    let is_ec = key.algorithm.algorithm.to_id_string() == "1.2.840.10045.2.1";
    let curve = key.algorithm.parameters.as_ref()?.as_oid().ok()?;
    (is_ec && curve.to_id_string() == "1.2.840.10045.3.1.7").then_some(&key.subject_public_key.data[..])
}

/// Whether a signature of ECDSA on P-256 with SHA-256 is that of the key with this point.
pub(crate) fn is_signed(
    algorithm: &AlgorithmIdentifier<'_>,
    point: &[u8],
    message: &[u8],
    signature: &[u8],
) -> bool {
    algorithm.algorithm.to_id_string() == "1.2.840.10045.4.3.2"
        && aws_lc_rs::default_provider().signature_verification_algorithms.all.iter().any(|known| {
            known.public_key_alg_id() == ECDSA_P256
                && known.signature_alg_id() == ECDSA_SHA256
                && known.verify_signature(point, message, signature).is_ok()
        })
}

/// The provider of cryptography for all of TLS here.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
