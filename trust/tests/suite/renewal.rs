//! A certificate is renewed while connections are open, and one authority follows another.

use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus as Status;
use trust::{Acceptor, Clients, Expect, Identity, Key, Keyring, Role};

use crate::support::{Cluster, both_ends, dial, open_gate, serve, soon};

#[tokio::test]
async fn an_open_stream_goes_on_and_new_handshakes_show_the_new_certificate() {
    let west = Cluster::new("west");
    let [server, client] = [west.keyring(Role::Member, "m1"), west.keyring(Role::Node, "n1")];
    let served = serve(&server, Clients::Required, open_gate()).await;
    served.health.set_service_status("part", ServingStatus::Serving).await;

    let connector = trust::connector(client.clone(), Expect::Member);
    let mut health = dial(served.address, connector.clone()).await.unwrap();
    let request = HealthCheckRequest { service: "part".to_owned() };
    let mut watch = soon(health.watch(request)).await.unwrap().into_inner();
    assert_eq!(soon(watch.message()).await.unwrap().unwrap().status(), Status::Serving);

    let before = connector.connect(served.address).await.unwrap().peer_certificates();
    assert_eq!(before[0], server.identity().certificate_der());
    server.replace(west.identity(Role::Member, "m1")).unwrap();
    client.replace(west.identity(Role::Node, "n1")).unwrap();

    served.health.set_service_status("part", ServingStatus::NotServing).await;
    assert_eq!(soon(watch.message()).await.unwrap().unwrap().status(), Status::NotServing);
    let after = connector.connect(served.address).await.unwrap().peer_certificates();
    assert_eq!(after[0], server.identity().certificate_der());
    assert_ne!(after[0], before[0]);
}

#[tokio::test]
async fn each_end_shows_what_its_keyring_has_at_that_moment() {
    let west = Cluster::new("west");
    let [server, client] = [west.keyring(Role::Member, "m1"), west.keyring(Role::Node, "n1")];
    let acceptor = Acceptor::new(server.clone(), Clients::Required);
    let connector = trust::connector(client.clone(), Expect::Member);
    for _ in 0..3 {
        let (at_server, at_client) = both_ends(&acceptor, &connector).await;
        assert_eq!(at_server.peer_certificates()[0], client.identity().certificate_der());
        assert_eq!(at_client.peer_certificates()[0], server.identity().certificate_der());
        server.replace(west.identity(Role::Member, "m1")).unwrap();
        client.replace(west.identity(Role::Node, "n1")).unwrap();
    }
}

#[test]
fn nobody_becomes_somebody_else() {
    let west = Cluster::new("west");
    let keyring = west.keyring(Role::Node, "n1");
    let before = keyring.identity().serial().to_owned();
    for other in [
        west.identity(Role::Node, "n2"),
        west.identity(Role::Member, "n1"),
        Cluster::new("east").identity(Role::Node, "n1"),
    ] {
        let refused = keyring.replace(other.clone()).unwrap_err();
        assert_eq!(
            (&refused.found, refused.expected.to_string().as_str()),
            (other.id(), "spiffe://west/node/n1")
        );
    }
    assert_eq!(keyring.identity().serial(), before);
}

#[tokio::test]
async fn one_authority_follows_another() {
    let (old, new) = (Cluster::new("west"), Cluster::new("west"));
    let both = || vec![old.authority.certificate_der().to_vec(), new.authority.certificate_der().to_vec()];
    let of = |cluster: &Cluster, role, name, authorities: Vec<Vec<u8>>| {
        let (key, now) = (Key::generate().unwrap(), SystemTime::now());
        let validity = now..now + Duration::from_mins(10);
        let leaf = cluster.authority.issue(&key.request().unwrap(), &cluster.id(role, name), validity).unwrap();
        Keyring::new(Identity::new(key, leaf, authorities).unwrap())
    };
    let [first, second] = [&old, &new].map(|cluster| of(cluster, Role::Member, "m1", both()));
    let [third, fourth] = [&old, &new].map(|cluster| of(cluster, Role::Node, "n1", both()));
    for server in [&first, &second] {
        for client in [&third, &fourth] {
            let acceptor = Acceptor::new(server.clone(), Clients::Required);
            both_ends(&acceptor, &trust::connector(client.clone(), Expect::Member)).await;
        }
    }
    let pinned = trust::pinned_connector(old.authority.fingerprint());
    both_ends(&Acceptor::new(first, Clients::Optional), &pinned).await;
}

proptest! {
    #[test]
    fn renewal_is_due_at_half_of_a_life(minutes in 1..100_000_u64) {
        let west = Cluster::new("west");
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let life = Duration::from_mins(minutes);
        let identity = west.identity_valid(Role::Node, "n1", now..now + life);
        prop_assert_eq!((identity.issued(), identity.expires()), (now, now + life));
        prop_assert_eq!(identity.renew_at(), now + life / 2);
    }
}
