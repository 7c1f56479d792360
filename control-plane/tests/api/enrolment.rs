//! How nodes come to an identity, keep it and lose it, and what each role may call.

use std::time::{Duration, SystemTime};

use proto::weft::graph::v1 as graph;
use proto::weft::graph::v1::graphs_client::GraphsClient;
use proto::weft::node::v1::nodes_client::NodesClient;
use proto::weft::trust::v1 as wire;
use proto::weft::trust::v1::enrolment_client::EnrolmentClient;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tonic::{Code, Status};
use trust::{Fingerprint, Identity, JoinToken, Key, Role};

use crate::member::{Enrolled, Member, PATIENCE, fresh_id, operator, refused};
use crate::nodes::{Agent, node};

fn identity(key: Key, answer: wire::JoinResponse) -> Identity {
    Identity::new(key, answer.certificate, answer.authorities).unwrap()
}

/// A token of one's own, of which the cluster knows nothing.
fn made_up(member: &Member) -> JoinToken {
    let authority = Fingerprint::of(operator(member.folder()).identity().authorities().next().unwrap());
    JoinToken::generate(authority).unwrap()
}

async fn create(
    member: &Member,
    node: &str,
    digest: &str,
    lifetime_ms: u64,
) -> Result<wire::CreateTokenResponse, Status> {
    let request = wire::CreateTokenRequest {
        request_id: fresh_id(),
        node: node.to_owned(),
        digest: digest.to_owned(),
        lifetime_ms,
    };
    let mut client = EnrolmentClient::new(member.client().channel);
    Ok(client.create_token(request).await?.into_inner())
}

async fn revoke(member: &Member, node: &str) -> Result<(), Status> {
    let request = wire::RevokeRequest { request_id: fresh_id(), node: node.to_owned() };
    EnrolmentClient::new(member.client().channel).revoke(request).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_once_for_its_node_and_for_its_time() {
    let member = Member::start().await;
    let token = made_up(&member);
    let key = Key::generate().unwrap();
    refused(member.join("n1", &token, &key).await, Code::PermissionDenied, "token_refused");

    create(&member, "n1", &token.digest(), 60_000).await.unwrap();
    refused(member.join("n2", &token, &key).await, Code::PermissionDenied, "token_refused");
    let first = identity(key.clone(), member.join("n1", &token, &key).await.unwrap());
    assert_eq!(first.id().role(), Role::Node);
    // The answer was lost: who has the key is told again, and is no second node.
    let again = identity(key.clone(), member.join("n1", &token, &key).await.unwrap());
    assert_eq!(again.id(), first.id());
    let thief = Key::generate().unwrap();
    refused(member.join("n1", &token, &thief).await, Code::PermissionDenied, "token_refused");

    let brief = made_up(&member);
    let ends = create(&member, "n3", &brief.digest(), 1).await.unwrap().expires_ms;
    while control_plane::clock::now_ms() <= ends {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    refused(member.join("n3", &brief, &key).await, Code::PermissionDenied, "token_refused");

    // What is told is what is kept: over a restart too.
    let member = member.restart().await;
    let after = identity(key.clone(), member.join("n1", &token, &key).await.unwrap());
    assert_eq!(after.id(), first.id());
    refused(member.join("n1", &token, &thief).await, Code::PermissionDenied, "token_refused");
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_request_is_said() {
    let member = Member::start().await;
    let digest = made_up(&member).digest();
    for (node, digest, lifetime_ms, field) in [
        ("No", digest.as_str(), 1_000, "node"),
        ("n1", "abc", 1_000, "digest"),
        ("n1", &digest, 0, "lifetime_ms"),
        ("n1", &digest, 25 * 3_600_000, "lifetime_ms"),
    ] {
        let status =
            refused(create(&member, node, digest, lifetime_ms).await, Code::InvalidArgument, "malformed");
        assert!(status.message().starts_with(field), "{status:?}");
    }
    refused(revoke(&member, "n1").await, Code::NotFound, "not_found");

    let endpoint = Endpoint::from_shared(format!("http://{}", member.address)).unwrap();
    let connector = trust::pinned_connector(made_up(&member).authority());
    let mut nobody = EnrolmentClient::new(endpoint.connect_with_connector_lazy(connector));
    let right = wire::JoinRequest {
        token: made_up(&member).reveal().to_string(),
        node: "n1".to_owned(),
        certificate_request: Key::generate().unwrap().request().unwrap(),
    };
    let mut damaged = right.clone();
    damaged.certificate_request.truncate(40);
    let mut unsigned = right.clone();
    *unsigned.certificate_request.last_mut().unwrap() ^= 1;
    for (request, field) in [
        (wire::JoinRequest { token: "weft".to_owned(), ..right.clone() }, "token"),
        (wire::JoinRequest { node: String::new(), ..right.clone() }, "node"),
        (damaged, "certificate_request"),
        (unsigned, "certificate_request"),
    ] {
        let status = refused(nobody.join(request).await, Code::InvalidArgument, "malformed");
        assert!(status.message().starts_with(field), "{status:?}");
    }
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_calls_what_it_may_and_is_told_nothing_more() {
    let member = Member::start().await;
    let n1 = member.enrol("n1").await;
    let list = |channel| async move { GraphsClient::new(channel).list(graph::ListRequest::default()).await };
    list(member.client().channel).await.unwrap();
    assert_eq!(list(n1.channel.clone()).await.unwrap_err().code(), Code::PermissionDenied);

    let endpoint = Endpoint::from_shared(format!("http://{}", member.address)).unwrap();
    let nobody = endpoint.connect_with_connector_lazy(trust::pinned_connector(n1.token.authority()));
    assert_eq!(list(nobody.clone()).await.unwrap_err().code(), Code::Unauthenticated);
    let session = NodesClient::new(nobody).session(tokio_stream::empty()).await.map(drop);
    assert_eq!(session.unwrap_err().code(), Code::Unauthenticated);
    let session = NodesClient::new(member.client().channel).session(tokio_stream::empty()).await.map(drop);
    assert_eq!(session.unwrap_err().code(), Code::PermissionDenied, "an operator is no node");
    // Without TLS there is no answer at all.
    assert!(endpoint.connect().await.is_err() || list(endpoint.connect_lazy()).await.is_err());
    member.stop().await;
}

async fn renew(node: &Enrolled, key: &Key) -> Result<Identity, Status> {
    let request = wire::RenewRequest { certificate_request: key.request().unwrap() };
    let answer = EnrolmentClient::new(node.channel.clone()).renew(request).await?.into_inner();
    Ok(Identity::new(key.clone(), answer.certificate, answer.authorities).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_for_the_same_node_with_another_key() {
    let member = Member::start_with(&["--certificate-lifetime=1h"]).await;
    let n1 = member.enrol("n1").await;
    let key = Key::generate().unwrap();
    let renewed = renew(&n1, &key).await.unwrap();
    assert_eq!(renewed.id(), n1.keyring.identity().id());
    assert_ne!(renewed.serial(), n1.keyring.identity().serial());
    let left = renewed.expires().duration_since(SystemTime::now()).unwrap();
    assert!(left > Duration::from_secs(3_590) && left <= Duration::from_secs(3_600), "{left:?}");
    n1.keyring.replace(renewed).unwrap();
    let mut agent = Agent::join(&n1, "n1").await.unwrap();
    agent.assignment().await;
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_revoked_is_out_and_joins_again_as_another() {
    let member = Member::start().await;
    let mut client = member.client();
    let (n1, n2) = (member.enrol("n1").await, member.enrol("n2").await);
    let mut first = Agent::join(&n1, "n1").await.unwrap();
    let mut second = Agent::join(&n2, "n2").await.unwrap();
    let before = second.assignment().await;
    first.assignment().await;
    assert_eq!(before.revoked, [] as [String; 0]);

    revoke(&member, "n1").await.unwrap();
    // Its connection is cut, not only its calls refused.
    let ended = tokio::time::timeout(PATIENCE, first.end()).await.expect("its session ends");
    assert!(ended.is_err(), "{ended:?}");
    assert_eq!(second.assignment().await.revoked, std::slice::from_ref(&n1.uid), "the others are told");
    assert_eq!(node(&mut client, "n1").await.state, "down");
    assert!(Agent::join(&n1, "n1").await.is_err());
    assert!(renew(&n1, &Key::generate().unwrap()).await.is_err());
    refused(revoke(&member, "n1").await, Code::NotFound, "not_found");
    let used = member.join("n1", &n1.token, &Key::generate().unwrap()).await;
    refused(used, Code::PermissionDenied, "token_refused");

    let again = member.enrol("n1").await;
    assert_ne!(again.uid, n1.uid);
    let mut agent = Agent::join(&again, "n1").await.unwrap();
    assert_eq!(agent.assignment().await.revoked, std::slice::from_ref(&n1.uid));
    assert_eq!(node(&mut client, "n1").await.state, "ready");

    // A second machine that joins under the name takes it, and the one that had it is out.
    let other = member.enrol("n1").await;
    assert!(agent.end().await.is_err());
    let mut agent = Agent::join(&other, "n1").await.unwrap();
    let mut revoked = agent.assignment().await.revoked;
    revoked.sort();
    let mut expected = [n1.uid.clone(), again.uid.clone()];
    expected.sort();
    assert_eq!(revoked, expected);
    // Over a restart too.
    let member = member.restart().await;
    let late = trust::connector(again.keyring.clone(), trust::Expect::Member);
    let endpoint = Endpoint::from_shared(format!("http://{}", member.address)).unwrap();
    let (_up, messages) = tokio::sync::mpsc::channel(1);
    let session = NodesClient::new(endpoint.connect_with_connector_lazy(late))
        .session(ReceiverStream::new(messages))
        .await;
    assert!(session.is_err());
    member.stop().await;
}
