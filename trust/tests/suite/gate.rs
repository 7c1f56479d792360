//! Which role may call which method, over connections and for any path.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Request, Response};
use proptest::prelude::*;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tower::{Layer as _, ServiceExt as _, service_fn};
use trust::connection::Peer;
use trust::gate::{Decision, REFUSAL};
use trust::{Access, Clients, Connector, Expect, Gate, Role};

use crate::support::{Cluster, dial, serve, soon};

const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";
const OPERATE: &str = "/weft.test.v1.Test/Operate";
const JOIN: &str = "/weft.test.v1.Test/Join";
const CLOSED: &str = "/weft.test.v1.Test/Closed";

fn table(path: &str) -> Access {
    match path {
        CHECK => Access::Roles(&[Role::Member]),
        WATCH => Access::Roles(&[Role::Member, Role::Node]),
        OPERATE => Access::Roles(&[Role::Operator]),
        JOIN => Access::Anyone,
        _ => Access::NOBODY,
    }
}

/// Everybody that calls: the roles, and nobody.
const CALLERS: [Option<Role>; 4] = [Some(Role::Member), Some(Role::Node), Some(Role::Operator), None];

type Seen = Arc<Mutex<Vec<String>>>;

fn observed() -> (Gate, Seen) {
    let seen = Seen::default();
    let observer = Arc::clone(&seen);
    let gate = Gate::new(table).observed(move |peer, path, decision| {
        let who = match peer {
            Some(Peer { id: Some(id), .. }) => id.to_string(),
            Some(Peer { id: None, .. }) => "nobody".to_owned(),
            None => "no peer".to_owned(),
        };
        observer.lock().unwrap().push(format!("{who} {path} {decision:?}"));
    });
    (gate, seen)
}

fn peer(role: Option<Role>) -> Peer {
    let west = model::id::ClusterId::new("west").unwrap();
    let id = role.map(|role| trust::SpiffeId::new(west, role, crate::support::uid("u")).unwrap());
    Peer { address: ([127, 0, 0, 1], 1).into(), id, certificate_ends: None }
}

/// What a call at a gate comes to: passed on, or refused with a code.
fn call(gate: &Gate, path: &str, peer: Option<Peer>) -> Option<Code> {
    let inner = service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(())) });
    let mut request = Request::builder().uri(path).body(()).unwrap();
    if let Some(peer) = peer {
        request.extensions_mut().insert(peer);
    }
    let response = futures::executor::block_on(gate.layer(inner).oneshot(request)).unwrap();
    let status = Status::from_header_map(response.headers())?;
    assert_eq!(status.message(), REFUSAL);
    Some(status.code())
}

#[test]
fn the_table_is_kept_for_every_role_and_nobody() {
    let (gate, seen) = observed();
    let mut expected = Vec::new();
    let (passed, denied, unknown) = (None, Some(Code::PermissionDenied), Some(Code::Unauthenticated));
    for (path, codes) in [
        (CHECK, [passed, denied, denied, unknown]),
        (WATCH, [passed, passed, denied, unknown]),
        (OPERATE, [denied, denied, passed, unknown]),
        (JOIN, [passed, passed, passed, passed]),
        (CLOSED, [denied, denied, denied, unknown]),
    ] {
        for (role, code) in CALLERS.into_iter().zip(codes) {
            assert_eq!(call(&gate, path, Some(peer(role))), code, "{role:?} at {path}");
            let who = role.map_or("nobody".to_owned(), |role| format!("spiffe://west/{role}/u"));
            let decision = if code.is_none() { Decision::Allowed } else { Decision::Refused };
            expected.push(format!("{who} {path} {decision:?}"));
        }
    }
    // Of a connection that is none of ours nothing is known.
    assert_eq!(call(&gate, CHECK, None), unknown);
    assert_eq!(call(&gate, JOIN, None), passed);
    expected.extend([format!("no peer {CHECK} Refused"), format!("no peer {JOIN} Allowed")]);
    assert_eq!(*seen.lock().unwrap(), expected);
}

proptest! {
    #[test]
    fn a_path_that_the_table_does_not_name_is_closed_to_all(path in "/[a-zA-Z0-9./%_-]{0,40}", known in 0..4usize, tail in "[a-z/%]{1,3}") {
        let near = [CHECK, WATCH, OPERATE, JOIN][known];
        for path in [path, format!("{near}{tail}"), format!("/{near}"), near.to_uppercase()] {
            for role in CALLERS {
                prop_assert!(call(&Gate::new(table), &path, Some(peer(role))).is_some());
            }
        }
    }
}

#[tokio::test]
async fn a_call_over_a_connection_is_judged_by_the_certificate_behind_it() {
    let west = Cluster::new("west");
    let (gate, seen) = observed();
    let served = serve(&west.keyring(Role::Member, "m1"), Clients::Optional, gate).await;
    let known = |role, name| trust::connector(west.keyring(role, name), Expect::Member);
    let nobody = trust::pinned_connector(west.authority.fingerprint());
    let code = async |connector: Connector| {
        let mut health = dial(served.address, connector).await.unwrap();
        let check = soon(health.check(HealthCheckRequest::default())).await;
        let watch = soon(health.watch(HealthCheckRequest::default())).await;
        [check.err().map(|status| status.code()), watch.err().map(|status| status.code())]
    };
    assert_eq!(code(known(Role::Member, "m2")).await, [None, None]);
    assert_eq!(code(known(Role::Node, "n1")).await, [Some(Code::PermissionDenied), None]);
    assert_eq!(code(known(Role::Operator, "o1")).await, [Some(Code::PermissionDenied); 2]);
    assert_eq!(code(nobody).await, [Some(Code::Unauthenticated); 2]);
    insta::assert_snapshot!(seen.lock().unwrap().join("\n"), @r"
    spiffe://west/member/m2 /grpc.health.v1.Health/Check Allowed
    spiffe://west/member/m2 /grpc.health.v1.Health/Watch Allowed
    spiffe://west/node/n1 /grpc.health.v1.Health/Check Refused
    spiffe://west/node/n1 /grpc.health.v1.Health/Watch Allowed
    spiffe://west/operator/o1 /grpc.health.v1.Health/Check Refused
    spiffe://west/operator/o1 /grpc.health.v1.Health/Watch Refused
    nobody /grpc.health.v1.Health/Check Refused
    nobody /grpc.health.v1.Health/Watch Refused
    ");
}
