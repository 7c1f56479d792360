//! Many who say nothing, or not who they are, keep nobody out.
//!
//! These tests hold hundreds of sockets, and run one after the other so that a process may have that many.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tonic::Streaming;
use tonic_health::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use trust::keyring::ANONYMOUS_MAX;
use trust::server::{HANDSHAKE_TIMEOUT, HANDSHAKES_MAX};
use trust::{Clients, Connector, Expect, Role};

use crate::support::{Cluster, Served, dial, open_gate, serve, soon};

static ALONE: Mutex<()> = Mutex::const_new(());

/// How a handshake begins, up to the length of its first message.
const HALF_A_HELLO: &[u8] = &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03];

#[tokio::test]
async fn silent_handshakes_keep_nobody_out() {
    const ATTEMPTS: usize = 3;
    let _alone = ALONE.lock().await;
    for _ in 0..ATTEMPTS {
        // A machine that is too slow cannot tell an end that made room from one whose deadline came.
        if the_oldest_makes_room().await < HANDSHAKE_TIMEOUT {
            return;
        }
    }
    panic!("the oldest goes on until its deadline");
}

/// How long the oldest of as many silent handshakes as there may be goes on, once somebody honest comes.
async fn the_oldest_makes_room() -> Duration {
    let west = Cluster::new("west");
    let served = serve(&west.keyring(Role::Member, "m1"), Clients::Required, open_gate()).await;
    let begun = Instant::now();
    let mut silent = Vec::new();
    for number in 0..HANDSHAKES_MAX {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        if number % 2 == 1 {
            stream.write_all(HALF_A_HELLO).await.unwrap();
        }
        silent.push(stream);
    }
    let connector = trust::connector(west.keyring(Role::Node, "n1"), Expect::Member);
    let mut health = dial(served.address, connector).await.unwrap();
    soon(health.check(HealthCheckRequest::default())).await.unwrap();
    assert!(soon(silent[0].read(&mut [0])).await.is_ok_and(|read| read == 0));
    begun.elapsed()
}

#[tokio::test]
async fn a_silent_handshake_ends_by_itself() {
    let west = Cluster::new("west");
    let served = serve(&west.keyring(Role::Member, "m1"), Clients::Optional, open_gate()).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(HALF_A_HELLO).await.unwrap();
    assert!(soon(stream.read(&mut [0])).await.is_ok_and(|read| read == 0));
}

#[tokio::test]
async fn those_without_a_certificate_make_room_for_each_other_and_cost_the_others_nothing() {
    let _alone = ALONE.lock().await;
    let west = Cluster::new("west");
    let served = serve(&west.keyring(Role::Member, "m1"), Clients::Optional, open_gate()).await;
    let known = trust::connector(west.keyring(Role::Node, "n1"), Expect::Member);
    let kept = watch(&served, known).await;
    let nobody = trust::pinned_connector(west.authority.fingerprint());
    let mut anonymous = Vec::new();
    for _ in 0..=ANONYMOUS_MAX {
        anonymous.push(watch(&served, nobody.clone()).await);
    }
    assert!(soon(anonymous.remove(0).message()).await.is_err(), "the oldest made room");
    served.health.set_service_status("", ServingStatus::NotServing).await;
    for mut still in [kept, anonymous.remove(0), anonymous.pop().unwrap()] {
        assert!(soon(still.message()).await.unwrap().is_some(), "the others go on");
    }
}

#[tokio::test]
async fn those_that_are_gone_take_no_room() {
    let _alone = ALONE.lock().await;
    let west = Cluster::new("west");
    let served = serve(&west.keyring(Role::Member, "m1"), Clients::Optional, open_gate()).await;
    let nobody = trust::pinned_connector(west.authority.fingerprint());
    let mut first = watch(&served, nobody.clone()).await;
    for _ in 0..=ANONYMOUS_MAX {
        watch(&served, nobody.clone()).await;
    }
    served.health.set_service_status("", ServingStatus::NotServing).await;
    assert!(soon(first.message()).await.unwrap().is_some());
}

/// A stream that stays open, and that no other connection would take up again.
async fn watch(served: &Served, connector: Connector) -> Streaming<HealthCheckResponse> {
    let mut health = dial(served.address, connector).await.unwrap();
    let mut stream = soon(health.watch(HealthCheckRequest::default())).await.unwrap().into_inner();
    assert!(soon(stream.message()).await.unwrap().is_some());
    stream
}
