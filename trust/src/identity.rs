//! A key and the certificate that says whose it is, with the authority that says so. One of these is what a program is.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use model::id::ClusterId;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs::sign::any_ecdsa_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use crate::authority::SKEW;
use crate::certificate::{AuthorityCertificate, CertificateError, Leaf, point_of};
use crate::key::{Key, KeyError};
use crate::pem::{self, PemError, Sections};
use crate::spiffe::SpiffeId;

/// The most authorities that an identity trusts: the present one, and the next while one follows the other.
const AUTHORITIES_MAX: usize = 4;

/// Who a program is. A copy is a handle of the same.
#[derive(Clone)]
pub struct Identity(Arc<Parts>);

struct Parts {
    leaf: Leaf,
    key: Key,
    certified: Arc<CertifiedKey>,
    roots: Arc<RootCertStore>,
}

/// Why parts do not make an identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The text is not PEM of certificates and one key.
    #[error("{0}")]
    Pem(PemError),
    /// The key is not usable.
    #[error("{0}")]
    Key(KeyError),
    /// The first certificate is not that of an identity.
    #[error("the first certificate is not that of an identity: {0}")]
    Leaf(CertificateError),
    /// The key belongs to another certificate.
    #[error("the key is not the one of the first certificate")]
    KeyMismatch,
    /// There is no authority, or there are too many.
    #[error(
        "there are {found} certificates of authorities behind the first, and must be 1 to {AUTHORITIES_MAX}"
    )]
    Authorities {
        /// How many there are.
        found: usize,
    },
    /// One of the other certificates is not that of an authority.
    #[error("a certificate behind the first is not that of a cluster's authority: {0}")]
    Authority(CertificateError),
    /// An authority is one of another cluster.
    #[error("the identity is one of cluster `{expected}`, and an authority is one of `{found}`")]
    Cluster {
        /// The authority's.
        found: ClusterId,
        /// The identity's.
        expected: ClusterId,
    },
    /// None of the authorities signed the first certificate.
    #[error("the first certificate is not signed by the authority behind it")]
    Signature,
}

impl Identity {
    /// An identity of its parts: a key, the certificate of it, and the authority, or several while one follows another.
    ///
    /// # Errors
    ///
    /// Refuses parts that do not belong together. That the certificate is valid now is not asked.
    pub fn new(key: Key, leaf_der: Vec<u8>, authorities_der: Vec<Vec<u8>>) -> Result<Self, IdentityError> {
        let leaf = Leaf::read(&leaf_der).map_err(IdentityError::Leaf)?;
        if point_of(&leaf_der).map_err(IdentityError::Leaf)? != key.public_point() {
            return Err(IdentityError::KeyMismatch);
        }
        let found = authorities_der.len();
        if !(1..=AUTHORITIES_MAX).contains(&found) {
            return Err(IdentityError::Authorities { found });
        }
        let mut roots = RootCertStore::empty();
        let mut is_signed = false;
        for der in &authorities_der {
            let authority = AuthorityCertificate::read(der).map_err(IdentityError::Authority)?;
            if authority.cluster != *leaf.id.cluster() {
                let expected = leaf.id.cluster().clone();
                return Err(IdentityError::Cluster { found: authority.cluster, expected });
            }
            is_signed |= authority.has_signed(&leaf_der);
            let added = roots.add(CertificateDer::from(der.as_slice()));
            added.map_err(|_| IdentityError::Authority(CertificateError::Malformed))?;
        }
        if !is_signed {
            return Err(IdentityError::Signature);
        }
        let chain = std::iter::once(leaf_der).chain(authorities_der).map(CertificateDer::from).collect();
        let pkcs8 = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_pkcs8()));
        let signing = any_ecdsa_type(&pkcs8).map_err(|_| IdentityError::Key(KeyError::Read))?;
        let certified = Arc::new(CertifiedKey::new(chain, signing));
        Ok(Self(Arc::new(Parts { leaf, key, certified, roots: Arc::new(roots) })))
    }

    /// Reads what [`Identity::to_pem`] wrote: its certificate first, the authority's behind it, the key anywhere.
    ///
    /// # Errors
    ///
    /// Refuses what is no PEM, and parts that do not belong together.
    pub fn from_pem(text: &str) -> Result<Self, IdentityError> {
        let sections = Sections::read(text).map_err(IdentityError::Pem)?;
        let key = Key::from_pkcs8(&sections.key).map_err(IdentityError::Key)?;
        let mut certificates = sections.certificates;
        let authorities = certificates.split_off(1);
        let leaf = certificates.pop().ok_or(IdentityError::Pem(PemError::NoCertificate))?;
        Self::new(key, leaf, authorities)
    }

    /// All of it as one text of PEM: certificate, authority, key. A secret, for the key in it.
    pub fn to_pem(&self) -> Zeroizing<String> {
        pem::write(self.0.certified.cert.iter().map(|certificate| &certificate[..]), &self.0.key.to_pem())
    }

    /// Who it is.
    pub fn id(&self) -> &SpiffeId {
        &self.0.leaf.id
    }

    /// The certificate, in DER.
    pub fn certificate_der(&self) -> &[u8] {
        // Never empty: `new` puts the leaf first.
        self.0.certified.cert.first().map_or(&[], |leaf| leaf)
    }

    /// The certificates of the authorities that it trusts, in DER.
    pub fn authorities(&self) -> impl Iterator<Item = &[u8]> {
        self.0.certified.cert.iter().skip(1).map(|authority| &authority[..])
    }

    /// The certificate's serial number, in hex.
    pub fn serial(&self) -> &str {
        &self.0.leaf.serial
    }

    /// When the certificate was issued. It is valid a little longer before, for clocks that are behind.
    pub fn issued(&self) -> SystemTime {
        self.0.leaf.not_before.checked_add(SKEW).map_or(self.expires(), |issued| issued.min(self.expires()))
    }

    /// When the certificate ends.
    pub fn expires(&self) -> SystemTime {
        self.0.leaf.not_after
    }

    /// When to ask for the next certificate: at half of this one's life, so that the other half is there to try again.
    pub fn renew_at(&self) -> SystemTime {
        let issued = self.issued();
        let life = self.expires().duration_since(issued).unwrap_or_default();
        issued.checked_add(life / 2).unwrap_or(issued)
    }

    /// Whether it is time for the next certificate: half of this one's life is over, or it is of a time to come, and
    /// nobody whose clock is right believes it yet.
    pub fn is_due(&self, now: SystemTime) -> bool {
        self.renew_at() <= now || self.0.leaf.not_before > now
    }

    /// A request for the next certificate of the same key.
    ///
    /// # Errors
    ///
    /// Fails if the provider of cryptography does.
    pub fn request(&self) -> Result<Vec<u8>, KeyError> {
        self.0.key.request()
    }

    /// Its key, for the next certificate.
    pub fn key(&self) -> &Key {
        &self.0.key
    }

    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0.certified)
    }

    pub(crate) fn roots(&self) -> Arc<RootCertStore> {
        Arc::clone(&self.0.roots)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Identity")
            .field("id", &self.id().to_string())
            .field("serial", &self.serial())
            .finish_non_exhaustive()
    }
}
