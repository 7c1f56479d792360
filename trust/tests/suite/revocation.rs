//! Who is revoked is gone: open connections end, in both directions, and there are no new ones.

use std::io;
use std::pin::pin;
use std::task::Poll;

use rustls::version::TLS13;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::Streaming;
use tonic_health::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use trust::{Acceptor, Clients, Connection, Expect, Keyring, Refusal, Role};

use crate::support::{
    Cluster, Served, both_ends, dial, listener, open_gate, raw_client, raw_connect, serve, shown, soon, uid,
};

async fn watch(served: &Served, keyring: &Keyring) -> Streaming<HealthCheckResponse> {
    let mut health = dial(served.address, trust::connector(keyring.clone(), Expect::Member)).await.unwrap();
    let request = HealthCheckRequest { service: "part".to_owned() };
    let mut stream = soon(health.watch(request)).await.unwrap().into_inner();
    assert!(soon(stream.message()).await.unwrap().is_some());
    stream
}

/// Both ends of a connection between member `m1` and node `n1`.
async fn ends(server: &Keyring, client: &Keyring) -> (Connection, Connection) {
    let acceptor = Acceptor::new(server.clone(), Clients::Required);
    both_ends(&acceptor, &trust::connector(client.clone(), Expect::Member)).await
}

#[track_caller]
fn is_revoked<T>(found: io::Result<T>, who: &str) {
    let error = found.err().expect("it ended with an error");
    assert!(matches!(Refusal::of(&error), Some(Refusal::Revoked { id }) if id.to_string() == who), "{error:?}");
}

#[tokio::test]
async fn a_server_ends_the_calls_of_a_revoked_client_and_of_no_other() {
    let west = Cluster::new("west");
    let [server, bad, good] = [(Role::Member, "m1"), (Role::Node, "bad"), (Role::Node, "good")]
        .map(|(role, uid)| west.keyring(role, uid));
    let served = serve(&server, Clients::Required, open_gate()).await;
    served.health.set_service_status("part", ServingStatus::Serving).await;
    let (mut ended, mut kept) = (watch(&served, &bad).await, watch(&served, &good).await);

    server.revoke([uid("bad")].into());
    assert!(soon(ended.message()).await.is_err());
    served.health.set_service_status("part", ServingStatus::NotServing).await;
    assert!(soon(kept.message()).await.unwrap().is_some());

    let mut again = trust::connect(&bad, Expect::Member, served.address).await.unwrap();
    let refused = soon(again.read_u8()).await.unwrap_err();
    assert_eq!(Refusal::of(&refused), Some(&Refusal::ByPeer("its certificate was revoked")));
}

#[tokio::test]
async fn a_client_ends_its_calls_to_a_revoked_server() {
    let west = Cluster::new("west");
    let [server, client] = [west.keyring(Role::Member, "m1"), west.keyring(Role::Node, "n1")];
    let served = serve(&server, Clients::Required, open_gate()).await;
    served.health.set_service_status("part", ServingStatus::Serving).await;
    let mut ended = watch(&served, &client).await;
    client.revoke([uid("m1")].into());
    assert!(soon(ended.message()).await.is_err());
    is_revoked(trust::connect(&client, Expect::Member, served.address).await, "spiffe://west/member/m1");
}

/// Whoever revokes, both of its halves end while they wait, and the other end learns it.
async fn both_halves_end(by_server: bool) {
    let west = Cluster::new("west");
    let [server, client] = [west.keyring(Role::Member, "m1"), west.keyring(Role::Node, "n1")];
    let (at_server, at_client) = ends(&server, &client).await;
    let (revoker, own, mut other, who, name) = if by_server {
        (server, at_server, at_client, "n1", "spiffe://west/node/n1")
    } else {
        (client, at_client, at_server, "m1", "spiffe://west/member/m1")
    };
    let (mut reading, mut writing) = tokio::io::split(own);
    let (blocked, is_blocked) = tokio::sync::oneshot::channel();
    let reader = tokio::spawn(async move { reading.read_u8().await });
    let writer = tokio::spawn(async move {
        let mut blocked = Some(blocked);
        loop {
            let mut write = pin!(writing.write_all(&[0; 65_536]));
            if futures::poll!(write.as_mut()).is_pending()
                && let Some(blocked) = blocked.take()
            {
                blocked.send(()).unwrap();
            }
            if let Err(error) = write.await {
                return error;
            }
        }
    });
    soon(is_blocked).await.unwrap();
    revoker.revoke([uid(who)].into());
    is_revoked(soon(reader).await.unwrap(), name);
    is_revoked::<()>(Err(soon(writer).await.unwrap()), name);
    // What was on its way may be read before the end.
    let mut rest = vec![0; 65_536];
    while soon(other.read(&mut rest)).await.is_ok_and(|read| read > 0) {}
}

#[tokio::test]
async fn both_halves_of_a_server_s_connection_end() {
    both_halves_end(true).await;
}

#[tokio::test]
async fn both_halves_of_a_client_s_connection_end() {
    both_halves_end(false).await;
}

#[tokio::test]
async fn a_handshake_that_began_before_the_revocation_is_refused_at_its_end() {
    let west = Cluster::new("west");
    let server = west.keyring(Role::Member, "m1");
    let acceptor = Acceptor::new(server.clone(), Clients::Required);
    let (listener, address) = listener().await;
    let client = raw_client(Some(shown(&west.identity(Role::Node, "n1"))), &TLS13);
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (accepted, from) = listener.accept().await.unwrap();
    let mut accepting = pin!(acceptor.accept(accepted, from));
    assert!(matches!(futures::poll!(accepting.as_mut()), Poll::Pending));
    server.revoke([uid("n1")].into());
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(client));
    let (accepted, _) =
        soon(async { tokio::join!(accepting, connector.connect(address.ip().into(), stream)) }).await;
    is_revoked(accepted, "spiffe://west/node/n1");
}

#[tokio::test]
async fn the_list_is_a_full_picture() {
    let west = Cluster::new("west");
    let [server, client] = [west.keyring(Role::Member, "m1"), west.keyring(Role::Node, "n1")];
    server.revoke([uid("n1"), uid("n2")].into());
    assert!(server.revoked().contains(&uid("n1")));
    server.revoke([uid("n2")].into());
    assert!(!server.revoked().contains(&uid("n1")));
    let (mut at_server, mut at_client) = ends(&server, &client).await;
    // One that is open stays through lists that do not name its peer.
    server.revoke([uid("n3")].into());
    client.revoke([uid("n1"), uid("m2")].into());
    at_client.write_all(b"?").await.unwrap();
    at_client.flush().await.unwrap();
    assert_eq!(soon(at_server.read_u8()).await.unwrap(), b'?');
}

#[tokio::test]
async fn a_revoked_peer_that_comes_without_its_certificate_is_nobody() {
    let west = Cluster::new("west");
    let server = west.keyring(Role::Member, "m1");
    server.revoke([uid("n1")].into());
    let served = serve(&server, Clients::Required, open_gate()).await;
    let mut stream = raw_connect(raw_client(None, &TLS13), served.address).await.unwrap();
    let refused = soon(stream.read_u8()).await.unwrap_err();
    assert!(refused.to_string().contains("CertificateRequired"), "{refused}");
}
