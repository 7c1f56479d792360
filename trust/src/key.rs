//! The private key of a leaf. It is made where it is used and never leaves: others see a request for a certificate.

use std::fmt;
use std::sync::Arc;

use rcgen::{
    CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm,
    SigningKey,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use zeroize::{Zeroize as _, Zeroizing};

use crate::pem::section;

/// An ECDSA key on P-256. A copy is a handle of the same key.
#[derive(Clone)]
pub struct Key(Arc<Pair>);

struct Pair(KeyPair);

impl Drop for Pair {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Why there is no key. None of them says anything of the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The provider of cryptography failed.
    #[error("no key could be made")]
    Generate,
    /// The text or the bytes are not such a key.
    #[error("this is not a private key of ECDSA on P-256 in PKCS #8")]
    Read,
    /// The request could not be signed.
    #[error("the request for a certificate could not be signed")]
    Request,
}

impl Key {
    /// A new key.
    ///
    /// # Errors
    ///
    /// Fails if the provider of cryptography does.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|_| KeyError::Generate)?;
        Ok(Self(Arc::new(Pair(pair))))
    }

    /// Reads a key from PEM.
    ///
    /// # Errors
    ///
    /// Refuses what is no key, and keys of another kind.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).map_err(|_| KeyError::Read)?;
        Self::from_pkcs8(Zeroizing::new(der).secret_pkcs8_der())
    }

    pub(crate) fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der.into(), &PKCS_ECDSA_P256_SHA256);
        Ok(Self(Arc::new(Pair(pair.map_err(|_| KeyError::Read)?))))
    }

    /// The key as PEM: a secret.
    pub fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(section("PRIVATE KEY", self.to_pkcs8()))
    }

    pub(crate) fn to_pkcs8(&self) -> &[u8] {
        self.0.0.serialized_der()
    }

    /// A request for a certificate of this key, in DER. It proves possession, and asks for no name.
    ///
    /// # Errors
    ///
    /// Fails if the provider of cryptography does.
    pub fn request(&self) -> Result<Vec<u8>, KeyError> {
        let mut wish = CertificateParams::default();
        wish.distinguished_name = DistinguishedName::new();
        let request = wish.serialize_request(&self.0.0).map_err(|_| KeyError::Request)?;
        Ok(request.der().to_vec())
    }

    /// The point on the curve, as it stands in a certificate.
    pub(crate) fn public_point(&self) -> &[u8] {
        self.0.0.der_bytes()
    }
}

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        self.0.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        PublicKeyData::algorithm(&self.0.0)
    }
}

impl SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.0.sign(message)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Key(..)")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_written_and_not_shown() {
        let key = Key::generate().unwrap();
        let text = key.to_pem();
        assert_eq!(Key::from_pem(&text).unwrap().public_point(), key.public_point());
        assert_eq!(format!("{key:?}"), "Key(..)");
        assert_eq!(Key::from_pem("no key").err(), Some(KeyError::Read));
        let other_curve = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        assert_eq!(
            Key::from_pem(&section("PRIVATE KEY", other_curve.serialized_der())).err(),
            Some(KeyError::Read)
        );
    }
}
