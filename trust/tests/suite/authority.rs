//! What an authority issues, and what it does not listen to.

use std::time::{Duration, SystemTime};

use model::id::ClusterId;
use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PublicKeyData, SignatureAlgorithm, SigningKey,
};
use trust::authority::{AUTHORITY_LIFETIME, AuthorityError, IssueError, REQUEST_MAX_BYTES, SKEW};
use trust::{Authority, Identity, Key, Role};
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::support::{Cluster, HOUR, dns, new_key, uri};

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn issue(west: &Cluster, request: &[u8]) -> Result<Vec<u8>, IssueError> {
    let now = SystemTime::now();
    west.authority.issue(request, &west.id(Role::Node, "n1"), now..now + HOUR)
}

/// A request for a certificate of a key, with wishes.
fn request(key: &impl SigningKey, wish: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::default();
    wish(&mut params);
    params.serialize_request(key).unwrap().der().to_vec()
}

/// Everything that a leaf says, but for its key, its times and its serial number.
fn said(der: &[u8]) -> Vec<String> {
    let (_, certificate) = X509Certificate::from_der(der).unwrap();
    let mut lines = vec![format!("{} from {}", certificate.subject(), certificate.issuer())];
    lines.extend(certificate.extensions().iter().map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(names) => format!("{:?}", names.general_names),
        ParsedExtension::KeyUsage(usage) => usage.to_string(),
        ParsedExtension::ExtendedKeyUsage(usage) => {
            format!("server {}, client {}, other {:?}", usage.server_auth, usage.client_auth, usage.other)
        }
        ParsedExtension::BasicConstraints(constraints) => format!("{constraints:?}"),
        ParsedExtension::AuthorityKeyIdentifier(_) => "authority's key".to_owned(),
        ParsedExtension::SubjectKeyIdentifier(_) => "own key".to_owned(),
        other => format!("{other:?}"),
    }));
    lines
}

#[test]
fn a_leaf_says_what_the_cluster_says_and_nothing_that_was_wished() {
    let west = Cluster::new("west");
    let plain = issue(&west, &Key::generate().unwrap().request().unwrap()).unwrap();
    insta::assert_snapshot!(said(&plain).join("\n"));

    let key = new_key();
    let wishful = request(&key, |wish| {
        wish.distinguished_name.push(rcgen::DnType::CommonName, "Weft cluster authority");
        wish.subject_alt_names = vec![uri("spiffe://west/operator/root"), dns("localhost")];
        wish.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        wish.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        wish.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any];
        wish.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 1], vec![5, 0])];
    });
    let leaf = issue(&west, &wishful).unwrap();
    assert_eq!(said(&leaf), said(&plain));
    let (_, parsed) = X509Certificate::from_der(&leaf).unwrap();
    assert_eq!(parsed.public_key().subject_public_key.data, key.der_bytes());
}

#[test]
fn a_leaf_lives_as_long_as_it_was_said_and_its_number_is_its_own() {
    let west = Cluster::new("west");
    let request = Key::generate().unwrap().request().unwrap();
    let [first, second] = [(); 2].map(|()| {
        let validity = at(1_900_000_000)..at(1_900_003_600);
        west.authority.issue(&request, &west.id(Role::Operator, "o1"), validity).unwrap()
    });
    let (_, parsed) = X509Certificate::from_der(&first).unwrap();
    let skew = i64::try_from(SKEW.as_secs()).unwrap();
    assert_eq!(parsed.validity().not_before.timestamp(), 1_900_000_000 - skew);
    assert_eq!(parsed.validity().not_after.timestamp(), 1_900_003_600);
    assert_ne!(parsed.raw_serial(), X509Certificate::from_der(&second).unwrap().1.raw_serial());
    assert_eq!(parsed.raw_serial().len(), 16);
}

/// Says that it is one key, and signs with another.
struct Liar(KeyPair, KeyPair);

impl PublicKeyData for Liar {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        PublicKeyData::algorithm(&self.0)
    }
}

impl SigningKey for Liar {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.1.sign(message)
    }
}

#[test]
fn requests_that_are_not_ours_are_refused() {
    let west = Cluster::new("west");
    let check = |request: &[u8], reason: IssueError| assert_eq!(issue(&west, request), Err(reason));
    let good = Key::generate().unwrap().request().unwrap();
    check(&[], IssueError::Malformed);
    check(b"-----BEGIN CERTIFICATE REQUEST-----", IssueError::Malformed);
    check(&good[..good.len() - 1], IssueError::Malformed);
    check(&[&good[..], &[0]].concat(), IssueError::Malformed);
    check(west.authority.certificate_der(), IssueError::Malformed);
    check(&request(&Liar(new_key(), new_key()), |_| {}), IssueError::Signature);
    check(&request(&KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap(), |_| {}), IssueError::Key);
    check(&request(&KeyPair::generate_for(&PKCS_ED25519).unwrap(), |_| {}), IssueError::Key);

    let sized =
        |length: usize| request(&new_key(), |wish| wish.subject_alt_names = vec![dns(&"a".repeat(length))]);
    let small = sized(REQUEST_MAX_BYTES - 400);
    assert!(small.len() <= REQUEST_MAX_BYTES && issue(&west, &small).is_ok());
    check(&sized(REQUEST_MAX_BYTES), IssueError::Malformed);
}

#[test]
fn an_authority_speaks_for_its_cluster_and_its_life() {
    let west = Cluster::new("west");
    let request = Key::generate().unwrap().request().unwrap();
    let (now, end) = (SystemTime::now(), west.authority.expires());
    let foreign = west.authority.issue(&request, &Cluster::new("east").id(Role::Node, "n1"), now..now + HOUR);
    let [found, expected] = ["east", "west"].map(|name| ClusterId::new(name).unwrap());
    assert_eq!(foreign, Err(IssueError::Cluster { found, expected }));
    let issue = |validity| west.authority.issue(&request, &west.id(Role::Node, "n1"), validity);
    assert!(issue(now..end).is_ok());
    for wrong in [
        now..end + Duration::from_secs(1),
        now..now,
        now + HOUR..now,
        at(0)..now,
        now..at(300_000_000_000),
        at(300_000_000_000)..at(300_000_000_001),
    ] {
        assert_eq!(issue(wrong.clone()), Err(IssueError::Lifetime), "{wrong:?}");
    }
}

#[test]
fn an_authority_is_of_a_cluster_with_a_plain_name_and_a_time_that_can_be_written() {
    for name in ["West", "a/b", "a b", "-a", "a:1", "ä"] {
        let made = ClusterId::new(name).ok().map(|cluster| Authority::generate(&cluster, SystemTime::now()));
        assert!(matches!(made, None | Some(Err(AuthorityError::Cluster(_)))), "{name}");
    }
    let west = ClusterId::new("west").unwrap();
    for time in [at(0), at(253_402_300_799), at(u64::MAX >> 2)] {
        assert_eq!(Authority::generate(&west, time).unwrap_err(), AuthorityError::Time);
    }
    for time in [at(SKEW.as_secs()), at(253_402_300_799) - AUTHORITY_LIFETIME] {
        assert_eq!(Authority::generate(&west, time).unwrap().expires(), time + AUTHORITY_LIFETIME);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever is changed in a request, no certificate comes of it but for the key that signed.
    #[test]
    fn a_changed_request_gets_no_other_certificate(place in any::<prop::sample::Index>(), flip in 1..=255_u8) {
        let west = Cluster::new("west");
        let key = Key::generate().unwrap();
        let mut request = key.request().unwrap();
        *place.get_mut(&mut request) ^= flip;
        if let Ok(leaf) = issue(&west, &request) {
            let authority = west.authority.certificate_der().to_vec();
            prop_assert!(Identity::new(key, leaf, vec![authority]).is_ok());
        }
    }

    #[test]
    fn any_bytes_are_no_request(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(issue(&Cluster::new("west"), &bytes), Err(IssueError::Malformed));
    }
}
