//! Why a peer is not spoken with, in sentences for whoever has to find out.
//!
//! A peer is told less: an alert of TLS, which the other side turns into a sentence again.

use std::io;
use std::time::SystemTime;

use model::id::{ClusterId, Uid};
use rustls::{AlertDescription, CertificateError as TlsCertificateError};

use crate::certificate::CertificateError;
use crate::fingerprint::Fingerprint;
use crate::spiffe::{Role, SpiffeId};
use crate::verify::Judgement;

/// Why a handshake failed for who the peer is, or who this side is to it. It is inside the [`io::Error`] of a connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The peer's certificate is not one that an authority of ours makes.
    #[error("the peer's certificate is none of a cluster's: {0}")]
    Certificate(CertificateError),
    /// The peer is of another cluster.
    #[error("the peer says that it is `{id}`, and this is cluster `{expected}`")]
    Cluster {
        /// Who it says it is.
        id: SpiffeId,
        /// This cluster.
        expected: ClusterId,
    },
    /// The peer's certificate is signed by somebody else.
    #[error("the certificate of `{id}` is not signed by this cluster's authority")]
    Untrusted {
        /// Who it says it is.
        id: SpiffeId,
    },
    /// The peer's certificate has ended.
    #[error("the certificate of `{id}` has expired")]
    Expired {
        /// Who it is.
        id: SpiffeId,
        /// When it ended.
        at: SystemTime,
    },
    /// The peer's certificate has not begun.
    #[error("the certificate of `{id}` is not valid yet; do the clocks differ?")]
    NotYetValid {
        /// Who it is.
        id: SpiffeId,
    },
    /// The peer's certificate is not for TLS.
    #[error("the certificate of `{id}` is not for this end of a connection")]
    Purpose {
        /// Who it is.
        id: SpiffeId,
    },
    /// The peer has another role.
    #[error("the peer is `{id}`, and a {expected} was expected")]
    Role {
        /// Who it is.
        id: SpiffeId,
        /// What was expected.
        expected: Role,
    },
    /// The peer is another one.
    #[error("the peer is `{id}`, and the one with uid `{expected}` was expected")]
    Uid {
        /// Who it is.
        id: SpiffeId,
        /// Who was expected.
        expected: Uid,
    },
    /// The peer was revoked.
    #[error("`{id}` was revoked")]
    Revoked {
        /// Who it is.
        id: SpiffeId,
    },
    /// The peer showed no authority with the fingerprint that was given.
    #[error("the peer shows no authority with the fingerprint {expected}")]
    Pin {
        /// The fingerprint.
        expected: Fingerprint,
    },
    /// The peer showed the certificate of somebody whose key it does not have.
    #[error("the peer shows the certificate of `{id}` without having its key")]
    Proof {
        /// Whose certificate it is.
        id: SpiffeId,
    },
    /// The peer showed no certificate, and had to.
    #[error("the peer shows no certificate")]
    NoCertificate,
    /// The peer refused this side.
    #[error("the peer refused this side: {0}")]
    ByPeer(&'static str),
}

impl Refusal {
    /// The refusal in an error of a connection, if that is its reason.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// What TLS is told, for the alert that the peer gets.
    pub(crate) fn to_tls(&self) -> rustls::Error {
        match self {
            Self::Certificate(_) | Self::Purpose { .. } | Self::NoCertificate | Self::ByPeer(_) => {
                TlsCertificateError::BadEncoding
            }
            Self::Proof { .. } => TlsCertificateError::BadSignature,
            Self::Cluster { .. } | Self::Untrusted { .. } | Self::Pin { .. } => {
                TlsCertificateError::UnknownIssuer
            }
            Self::Expired { .. } => TlsCertificateError::Expired,
            Self::NotYetValid { .. } => TlsCertificateError::NotValidYet,
            Self::Role { .. } | Self::Uid { .. } => TlsCertificateError::ApplicationVerificationFailure,
            Self::Revoked { .. } => TlsCertificateError::Revoked,
        }
        .into()
    }
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        Self::new(io::ErrorKind::PermissionDenied, refusal)
    }
}

/// Why a handshake failed: the judgement of the peer, or else what TLS says.
pub(crate) fn of_handshake(judgement: &Judgement, error: io::Error) -> io::Error {
    match (judgement.get(), of_tls(&error)) {
        (Some(Err(refusal)), _) => refusal.clone().into(),
        (Some(Ok(id)), Some(rustls::Error::InvalidCertificate(TlsCertificateError::BadSignature))) => {
            Refusal::Proof { id: id.clone() }.into()
        }
        (None, Some(rustls::Error::NoCertificatesPresented)) => Refusal::NoCertificate.into(),
        _ => explained(error),
    }
}

fn of_tls(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// An error of TLS, with the sentence for an alert that the peer sent.
pub(crate) fn explained(error: io::Error) -> io::Error {
    let Some(rustls::Error::AlertReceived(alert)) = of_tls(&error) else { return error };
    let reason = match alert {
        AlertDescription::CertificateRevoked => "its certificate was revoked",
        AlertDescription::CertificateExpired => "its certificate has expired or is not valid yet",
        AlertDescription::UnknownCA => "its certificate is one of another cluster",
        AlertDescription::AccessDenied => "it is not the one that the peer expects",
        AlertDescription::BadCertificate => "its certificate is none of a cluster's",
        AlertDescription::CertificateRequired => "it showed no certificate",
        AlertDescription::ProtocolVersion => "they have no version of TLS in common",
        AlertDescription::NoApplicationProtocol => "it speaks none of the peer's protocols",
        _ => return error,
    };
    Refusal::ByPeer(reason).into()
}
