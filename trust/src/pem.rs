//! Certificates and keys as PEM. No copy of a key stays behind in memory that was freed.

use rustls::pki_types::pem::{PemObject as _, SectionKind};
use zeroize::Zeroizing;

/// How many digits a line has.
const LINE: usize = 64;

/// Why a text does not hold certificates and one key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// It is not PEM.
    #[error("the text is not PEM")]
    Text,
    /// It has a section that is neither a certificate nor a private key in PKCS #8.
    #[error("the text has a section that is neither a certificate nor a private key in PKCS #8")]
    Section,
    /// It has no certificate.
    #[error("the text has no certificate")]
    NoCertificate,
    /// It has no private key, or several.
    #[error("the text has {found} private keys, and must have one")]
    Keys {
        /// How many it has.
        found: usize,
    },
}

/// Certificates in their order, and the one key between them.
pub(crate) struct Sections {
    pub(crate) certificates: Vec<Vec<u8>>,
    pub(crate) key: Zeroizing<Vec<u8>>,
}

impl Sections {
    pub(crate) fn read(text: &str) -> Result<Self, PemError> {
        let mut certificates = Vec::new();
        let mut keys = Vec::new();
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()) {
            match section.map_err(|_| PemError::Text)? {
                (SectionKind::Certificate, der) => certificates.push(der),
                (SectionKind::PrivateKey, der) => keys.push(Zeroizing::new(der)),
                _ => return Err(PemError::Section),
            }
        }
        if certificates.is_empty() {
            return Err(PemError::NoCertificate);
        }
        let found = keys.len();
        let Some(key) = keys.pop().filter(|_| found == 1) else { return Err(PemError::Keys { found }) };
        Ok(Self { certificates, key })
    }
}

/// The certificates, and the key behind them, so that nothing is moved in memory once the key is there.
pub(crate) fn write<'a>(certificates: impl IntoIterator<Item = &'a [u8]>, key: &str) -> Zeroizing<String> {
    let mut text: String = certificates.into_iter().map(|der| section("CERTIFICATE", der)).collect();
    text.reserve_exact(key.len());
    text.push_str(key);
    Zeroizing::new(text)
}

/// One section.
pub(crate) fn section(label: &str, der: &[u8]) -> String {
    let digits = Zeroizing::new(base64(der));
    let lines = digits.len().div_ceil(LINE);
    let frame = "-----BEGIN -----\n-----END -----\n".len() + 2 * label.len();
    let mut text = String::with_capacity(frame + digits.len() + lines);
    text.extend(["-----BEGIN ", label, "-----\n"]);
    for line in digits.as_bytes().chunks(LINE) {
        text.extend(line.iter().map(|&digit| char::from(digit)));
        text.push('\n');
    }
    text.extend(["-----END ", label, "-----\n"]);
    text
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;
    use rustls::pki_types::CertificateDer;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_and_was_never_moved(der in proptest::collection::vec(any::<u8>(), 0..400)) {
            let text = section("CERTIFICATE", &der);
            prop_assert_eq!(text.len(), text.capacity());
            let read = CertificateDer::from_pem_slice(text.as_bytes()).unwrap();
            prop_assert_eq!(read.as_ref(), der);
        }
    }
}
