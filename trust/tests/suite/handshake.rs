//! Who is let in: everything that a peer may show, at every end that judges it, and what the peer is told.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tower::ServiceExt as _;
use trust::{Acceptor, Clients, Connector, Expect, Identity, Keyring, Refusal, Role, SpiffeId};

use crate::support::{
    Cluster, HOUR, dns, forge_below, garbage, listener, open_gate, raw_client, raw_connect, raw_server, serve,
    shown, soon, stolen, uid, uri, variant,
};

/// An end that judges its peer.
#[derive(Clone, Copy)]
enum Door {
    Server(Clients),
    Member,
    Node,
    Pinned,
}

const DOORS: [(&str, Door); 5] = [
    ("required", Door::Server(Clients::Required)),
    ("optional", Door::Server(Clients::Optional)),
    ("member", Door::Member),
    ("node", Door::Node),
    ("pinned", Door::Pinned),
];

impl Door {
    /// Whom it lets in.
    fn natural(self) -> (Role, &'static str) {
        match self {
            Self::Server(_) | Self::Node => (Role::Node, "n1"),
            Self::Member | Self::Pinned => (Role::Member, "m1"),
        }
    }
}

/// What a peer does.
enum Peer {
    Shows(CertifiedKey),
    ShowsNothing,
    SpeaksTls12(CertifiedKey),
    IsRevoked(CertifiedKey),
}

/// A peer for the door that lets in this role and uid.
type Make = fn(&Cluster, Role, &str) -> Peer;

const PEERS: [(&str, Make); 24] = [
    ("as expected", |west, role, uid| identity(&west.identity(role, uid))),
    ("a member", |west, _, _| identity(&west.identity(Role::Member, "m1"))),
    ("a node", |west, _, _| identity(&west.identity(Role::Node, "n1"))),
    ("another node", |west, _, _| identity(&west.identity(Role::Node, "n2"))),
    ("an operator", |west, _, _| identity(&west.identity(Role::Operator, "o1"))),
    ("the right role, another uid", |west, role, _| identity(&west.identity(role, "x"))),
    ("no certificate", |_, _, _| Peer::ShowsNothing),
    ("of another cluster", |_, role, uid| identity(&Cluster::new("east").identity(role, uid))),
    ("same cluster, other key", |_, role, uid| identity(&Cluster::new("west").identity(role, uid))),
    ("expired", |west, role, uid| {
        let now = SystemTime::now();
        identity(&west.identity_valid(role, uid, now - 2 * HOUR..now - HOUR))
    }),
    ("not yet valid", |west, role, uid| {
        let now = SystemTime::now();
        identity(&west.identity_valid(role, uid, now + HOUR..now + 2 * HOUR))
    }),
    ("within the skew of clocks", |west, role, uid| {
        let now = SystemTime::now();
        identity(&west.identity_valid(role, uid, now + HOUR / 20..now + HOUR))
    }),
    ("revoked", |west, role, uid| Peer::IsRevoked(shown(&west.identity(role, uid)))),
    ("the authority as a leaf", |west, _, _| Peer::Shows(west.authority_as_leaf())),
    ("a leaf that is an authority", |west, role, uid| {
        let name = west.id(role, uid).to_string();
        Peer::Shows(west.forge(|leaf| {
            leaf.subject_alt_names = vec![uri(&name)];
            leaf.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        }))
    }),
    ("two names", |west, role, uid| {
        let (name, other) = (west.id(role, uid).to_string(), west.id(Role::Operator, "o1").to_string());
        Peer::Shows(west.forge(|leaf| leaf.subject_alt_names = vec![uri(&name), uri(&other)]))
    }),
    ("a name and a host", |west, role, uid| {
        let name = west.id(role, uid).to_string();
        Peer::Shows(west.forge(|leaf| leaf.subject_alt_names = vec![uri(&name), dns("localhost")]))
    }),
    ("no name", |west, _, _| Peer::Shows(west.forge(|_| {}))),
    ("a host for a name", |west, _, _| {
        Peer::Shows(west.forge(|leaf| leaf.subject_alt_names = vec![dns("localhost")]))
    }),
    ("not for TLS", |west, role, uid| {
        let name = west.id(role, uid).to_string();
        Peer::Shows(west.forge(|leaf| {
            leaf.subject_alt_names = vec![uri(&name)];
            leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::CodeSigning];
        }))
    }),
    ("signed by another leaf", |west, role, uid| {
        Peer::Shows(forge_below(&west.identity(role, uid), &west.id(role, uid)))
    }),
    ("another's certificate", |west, role, uid| Peer::Shows(stolen(&west.identity(role, uid)))),
    ("no certificate but bytes", |_, _, _| Peer::Shows(garbage())),
    ("TLS 1.2", |west, role, uid| Peer::SpeaksTls12(shown(&west.identity(role, uid)))),
];

fn identity(identity: &Identity) -> Peer {
    Peer::Shows(shown(identity))
}

#[tokio::test]
async fn who_is_let_in_and_what_the_others_are_told() {
    let west = Cluster::new("west");
    let mut table = String::new();
    for (name, make) in PEERS {
        writeln!(table, "{name}").unwrap();
        for (column, door) in DOORS {
            let (role, uid) = door.natural();
            let cell = soon(try_door(&west, door, make(&west, role, uid))).await;
            writeln!(table, "  {column}: {cell}").unwrap();
        }
    }
    insta::assert_snapshot!(table);
}

async fn try_door(west: &Cluster, door: Door, peer: Peer) -> String {
    let own = match door {
        Door::Server(_) => west.keyring(Role::Member, "m0"),
        Door::Member | Door::Node | Door::Pinned => west.keyring(Role::Node, "n0"),
    };
    let (role, name) = door.natural();
    let (certificate, version) = match peer {
        Peer::Shows(certificate) => (Some(certificate), &TLS13),
        Peer::ShowsNothing => (None, &TLS13),
        Peer::SpeaksTls12(certificate) => (Some(certificate), &TLS12),
        Peer::IsRevoked(certificate) => {
            own.revoke([uid("somebody"), uid(name)].into());
            (Some(certificate), &TLS13)
        }
    };
    let expected = west.id(role, name);
    let connector = match door {
        Door::Server(clients) => return at_server(&own, clients, raw_client(certificate, version)).await,
        Door::Member => trust::connector(own, Expect::Member),
        Door::Node => trust::connector(own, Expect::Node(expected.uid().clone())),
        Door::Pinned => trust::pinned_connector(west.authority.fingerprint()),
    };
    match certificate {
        Some(certificate) => at_client(&connector, raw_server(certificate, version)).await,
        None => "(a server shows one)".to_owned(),
    }
}

async fn at_server(keyring: &Keyring, clients: Clients, client: rustls::ClientConfig) -> String {
    let (listener, address) = listener().await;
    let acceptor = Acceptor::new(keyring.clone(), clients);
    let accepting = async {
        let (stream, from) = listener.accept().await.unwrap();
        let mut connection = acceptor.accept(stream, from).await?;
        connection.write_all(b"!").await?;
        connection.flush().await?;
        std::io::Result::Ok(connection)
    };
    let asking = async { raw_connect(client, address).await?.read_u8().await };
    let (accepted, asked) = tokio::join!(accepting, asking);
    cell(accepted.map(|connection| connection.peer().id.clone()), asked.map(|_| ()))
}

async fn at_client(connector: &Connector, server: rustls::ServerConfig) -> String {
    let (listener, address) = listener().await;
    let accepting = async {
        let (stream, _) = listener.accept().await.unwrap();
        tokio_rustls::TlsAcceptor::from(Arc::new(server)).accept(stream).await.map(|_| ())
    };
    let (accepted, connected) = tokio::join!(accepting, connector.connect(address));
    cell(connected.map(|connection| connection.peer().id.clone()), accepted)
}

/// What was judged, and what the other end was told.
fn cell(judged: std::io::Result<Option<SpiffeId>>, told: std::io::Result<()>) -> String {
    match judged {
        Ok(id) => {
            told.expect("both ends have a connection");
            id.map_or_else(|| "in, as nobody".to_owned(), |id| format!("in, as {id}"))
        }
        Err(error) => {
            format!("{} / {}", reason(&error), told.err().map_or("nothing".to_owned(), |told| alert(&told)))
        }
    }
}

fn reason(error: &std::io::Error) -> String {
    match Refusal::of(error) {
        Some(Refusal::Certificate(inner)) => format!("Certificate, {inner:?}"),
        Some(Refusal::ByPeer(reason)) => format!("ByPeer, {reason}"),
        Some(refusal) => variant(refusal),
        None => error.to_string(),
    }
}

fn alert(error: &std::io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(rustls::Error::AlertReceived(alert)) => format!("{alert:?}"),
        Some(other) => variant(other),
        None => error.to_string(),
    }
}

#[tokio::test]
async fn a_pin_of_another_authority_is_refused() {
    let (west, other) = (Cluster::new("west"), Cluster::new("west"));
    let connector = trust::pinned_connector(other.authority.fingerprint());
    let server = raw_server(shown(&west.identity(Role::Member, "m1")), &TLS13);
    assert_eq!(at_client(&connector, server).await, "Pin / UnknownCA");
    assert_eq!(connector.shown_authority(), None);
    // The pinned authority alone is not enough: it has to have signed the leaf.
    let mut certificate = shown(&west.identity(Role::Member, "m1"));
    certificate.cert.push(other.authority_der());
    assert_eq!(at_client(&connector, raw_server(certificate, &TLS13)).await, "Untrusted / UnknownCA");
    assert_eq!(connector.shown_authority(), None);
}

#[tokio::test]
async fn a_pin_finds_the_authority() {
    let west = Cluster::new("west");
    let connector = trust::pinned_connector(west.authority.fingerprint());
    let server = raw_server(shown(&west.identity(Role::Member, "m1")), &TLS13);
    assert_eq!(at_client(&connector, server).await, "in, as spiffe://west/member/m1");
    assert_eq!(connector.shown_authority().as_deref(), Some(west.authority.certificate_der()));
}

#[tokio::test]
async fn ends_without_a_protocol_in_common_part() {
    let west = Cluster::new("west");
    let acceptor =
        Acceptor::new(west.keyring(Role::Member, "m1"), Clients::Required).with_protocols(&[b"http/1.1"]);
    let connector = trust::connector(west.keyring(Role::Node, "n1"), Expect::Member);
    let (listener, address) = listener().await;
    let accepting = async {
        let (stream, from) = listener.accept().await.unwrap();
        acceptor.accept(stream, from).await.err()
    };
    let (accepted, connected) = soon(async { tokio::join!(accepting, connector.connect(address)) }).await;
    assert!(accepted.is_some());
    assert_eq!(reason(&connected.unwrap_err()), "ByPeer, it speaks none of the peer's protocols");
}

#[tokio::test]
async fn an_address_may_be_a_name_and_has_a_port() {
    let west = Cluster::new("west");
    let served = serve(&west.keyring(Role::Member, "m1"), Clients::Required, open_gate()).await;
    let connector = trust::connector(west.keyring(Role::Node, "n1"), Expect::Member);
    let reach = async |uri: String| soon(connector.clone().oneshot(uri.parse().unwrap())).await;
    assert!(reach(format!("http://localhost:{}", served.address.port())).await.is_ok());
    let kind = |error: std::io::Result<_>| error.err().map(|error| error.kind());
    assert_eq!(kind(reach("http://localhost".to_owned()).await), Some(std::io::ErrorKind::InvalidInput));
    // Nobody listens where a listener was.
    let (gone, address) = listener().await;
    drop(gone);
    assert_eq!(kind(reach(format!("http://{address}")).await), Some(std::io::ErrorKind::ConnectionRefused));
}
