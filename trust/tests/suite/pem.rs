//! Authorities and identities as text: read as they were written, and refused where the parts do not belong together.

use trust::authority::AuthorityError;
use trust::certificate::CertificateError;
use trust::identity::IdentityError;
use trust::key::KeyError;
use trust::pem::PemError;
use trust::{Authority, Identity, Role};

use crate::support::{Cluster, HOUR};

/// The sections of a text.
fn sections(text: &str) -> Vec<String> {
    let mut sections: Vec<String> = Vec::new();
    for line in text.lines() {
        if line.starts_with("-----BEGIN") {
            sections.push(String::new());
        }
        let last = sections.last_mut().unwrap();
        last.push_str(line);
        last.push('\n');
    }
    sections
}

#[test]
fn an_authority_is_read_as_it_was_written() {
    let west = Cluster::new("west");
    let text = west.authority.to_pem();
    let read = Authority::from_pem(&text).unwrap();
    assert_eq!(read.to_pem(), text);
    assert_eq!(read.cluster(), west.authority.cluster());
    assert_eq!((read.fingerprint(), read.expires()), (west.authority.fingerprint(), west.authority.expires()));
    // And it is the same one: what it issues is trusted by those who knew it before.
    let read = Cluster { authority: read };
    let leaf = read.identity(Role::Node, "n1");
    let known = west.authority.certificate_der().to_vec();
    assert!(Identity::new(leaf.key().clone(), leaf.certificate_der().to_vec(), vec![known]).is_ok());
}

#[test]
fn an_identity_is_read_as_it_was_written() {
    let identity = Cluster::new("west").identity(Role::Operator, "o1");
    let text = identity.to_pem();
    let read = Identity::from_pem(&text).unwrap();
    assert_eq!(read.to_pem(), text);
    assert_eq!(
        (read.id(), read.serial(), read.expires()),
        (identity.id(), identity.serial(), identity.expires())
    );
    let parts = sections(&text);
    let elsewhere = [&parts[2], &parts[0], &parts[1]].map(String::as_str).concat();
    assert_eq!(Identity::from_pem(&elsewhere).unwrap().to_pem(), text);
}

#[test]
fn an_identity_of_parts_that_do_not_belong_together_is_refused() {
    let (west, namesake, east) = (Cluster::new("west"), Cluster::new("west"), Cluster::new("east"));
    let identity = west.identity(Role::Node, "n1");
    let parts = sections(&identity.to_pem());
    let [leaf, authority, key] = &parts[..] else { panic!("three sections") };
    let other = sections(&west.identity(Role::Node, "n1").to_pem())[2].clone();
    let authority_of = |cluster: &Cluster| sections(&cluster.authority.to_pem())[0].clone();
    let of_east = east.authority.cluster().clone();
    let check = |parts: &[&str], reason: IdentityError| {
        let found = Identity::from_pem(&parts.concat()).unwrap_err();
        assert_eq!(found, reason);
        let shown = format!("{found} {found:?}");
        assert!(key.lines().skip(1).all(|line| line.starts_with('-') || !shown.contains(line)), "{shown}");
    };
    check(&[], IdentityError::Pem(PemError::NoCertificate));
    check(&[key], IdentityError::Pem(PemError::NoCertificate));
    check(&[leaf, authority], IdentityError::Pem(PemError::Keys { found: 0 }));
    check(&[leaf, authority, key, key], IdentityError::Pem(PemError::Keys { found: 2 }));
    check(
        &[leaf, authority, &key.replace("PRIVATE KEY", "EC PRIVATE KEY")],
        IdentityError::Pem(PemError::Section),
    );
    check(&[leaf, authority, &key.replace("-----END", "-----")], IdentityError::Pem(PemError::Text));
    check(&[leaf, authority, &key.replace("MIG", "MIH")], IdentityError::Key(KeyError::Read));
    check(&[leaf, authority, &other], IdentityError::KeyMismatch);
    check(&[leaf, key], IdentityError::Authorities { found: 0 });
    check(&[leaf, &authority.repeat(5), key], IdentityError::Authorities { found: 5 });
    check(&[authority, leaf, key], IdentityError::Leaf(CertificateError::Authority));
    check(&[leaf, leaf, key], IdentityError::Authority(CertificateError::NoAuthority));
    check(&[leaf, &authority_of(&namesake), key], IdentityError::Signature);
    check(
        &[leaf, authority, &authority_of(&east), key],
        IdentityError::Cluster { found: of_east, expected: west.authority.cluster().clone() },
    );
    assert!(
        Identity::from_pem(&[leaf, &authority_of(&namesake), authority, key].map(String::as_str).concat())
            .is_ok()
    );
}

#[test]
fn an_authority_of_parts_that_do_not_belong_together_is_refused() {
    let west = Cluster::new("west");
    let parts = sections(&west.authority.to_pem());
    let [certificate, key] = &parts[..] else { panic!("two sections") };
    let leaf = west.identity(Role::Member, "m1");
    let leaf = sections(&leaf.to_pem());
    let check = |parts: &[&str], reason: AuthorityError| {
        assert_eq!(Authority::from_pem(&parts.concat()).unwrap_err(), reason);
    };
    check(&[key], AuthorityError::Pem(PemError::NoCertificate));
    check(&[certificate], AuthorityError::Pem(PemError::Keys { found: 0 }));
    check(&[certificate, certificate, key], AuthorityError::Certificates { found: 2 });
    check(&[certificate, &leaf[2]], AuthorityError::KeyMismatch);
    check(&[&leaf[0], &leaf[2]], AuthorityError::Certificate(CertificateError::NoAuthority));
}

#[test]
fn nothing_that_is_shown_has_a_key_in_it() {
    let west = Cluster::new("west");
    let identity = west.identity(Role::Node, "n1");
    let keyring = trust::Keyring::new(identity.clone());
    let shown = format!(
        "{:?} {identity:?} {keyring:?} {:?} {:?}",
        west.authority,
        identity.key(),
        trust::connector(keyring.clone(), trust::Expect::Member),
    );
    assert!(shown.contains("spiffe://west/node/n1") && shown.len() < 600, "{shown}");
    for text in [west.authority.to_pem(), identity.to_pem()] {
        let secret = sections(&text).pop().unwrap();
        assert!(secret.contains("PRIVATE KEY"));
        assert!(secret.lines().skip(1).all(|line| line.starts_with('-') || !shown.contains(line)));
    }
}

#[test]
fn an_identity_outlives_its_certificate_as_text_only() {
    let west = Cluster::new("west");
    let now = std::time::SystemTime::now();
    let ended = west.identity_valid(Role::Node, "n1", now - 2 * HOUR..now - HOUR);
    assert_eq!(Identity::from_pem(&ended.to_pem()).unwrap().expires(), ended.expires());
}
