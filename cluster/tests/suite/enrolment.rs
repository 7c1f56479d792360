//! Who joins, who is told again, and who is out.

use cluster::command::{Body, CreateToken, Enrol};
use cluster::outcome::Refusal;
use cluster::state::{REVOKED_MAX, TOKENS_MAX};
use cluster::view;
use model::id::Uid;
use model::node::NodeState;

use crate::support::{Cluster, linked, name, node};

fn uid(text: &str) -> Uid {
    text.to_owned().try_into().unwrap()
}

fn create(cluster: &Cluster, digest: &str, node: &str, lifetime_ms: u64) -> Body {
    let expires_ms = cluster.now_ms + lifetime_ms;
    Body::CreateToken(CreateToken { digest: digest.to_owned(), node: name(node), expires_ms })
}

fn enrol(cluster: &Cluster, token: &str, node: &str, identity: &str, key: &str) -> Body {
    Body::Enrol(Enrol {
        token: token.to_owned(),
        node: name(node),
        uid: uid(identity),
        key: key.to_owned(),
        revoked_until_ms: cluster.now_ms + 1_000,
    })
}

fn joined(cluster: &mut Cluster, node: &str, identity: &str) {
    let token = format!("token-of-{identity}");
    let body = create(cluster, &token, node, 1_000);
    cluster.done(body);
    let body = enrol(cluster, &token, node, identity, identity);
    cluster.done(body);
}

#[track_caller]
fn token_refused(cluster: &mut Cluster, token: &str, node: &str, identity: &str, key: &str) {
    let refusal = cluster.refused(enrol(&cluster.clone(), token, node, identity, key));
    assert!(matches!(refusal, Refusal::TokenRefused { .. }), "{refusal}");
}

#[test]
fn a_token_lets_one_key_of_one_node_in() {
    let mut cluster = Cluster::new();
    token_refused(&mut cluster, "t", "n3", "u", "k");
    cluster.done(create(&cluster.clone(), "t", "n3", 100));
    assert_eq!(cluster.last_event(), "node/n3 token");
    token_refused(&mut cluster, "t", "n4", "u", "k");
    cluster.done(enrol(&cluster.clone(), "t", "n3", "u", "k"));
    assert_eq!(cluster.last_event(), "node/n3 enrolled");
    let at = cluster.state.revision;
    cluster.done(enrol(&cluster.clone(), "t", "n3", "another", "k"));
    assert_eq!(
        (cluster.state.revision, &cluster.state.enrolled[&name("n3")].uid),
        (at, &uid("u")),
        "told again"
    );
    token_refused(&mut cluster, "t", "n3", "u-2", "k-2");
    cluster.now_ms += 100;
    token_refused(&mut cluster, "t", "n3", "u", "k");

    cluster.done(create(&cluster.clone(), "other", "n4", 100));
    assert_eq!(cluster.state.tokens.len(), 1, "what nobody can use is forgotten");
    let taken = cluster.refused(enrol(&cluster.clone(), "other", "n4", "u", "k"));
    assert!(matches!(taken, Refusal::NodeIdentity { .. }), "an identity is one node's: {taken}");
}

#[test]
fn whoever_is_revoked_is_out_and_everybody_is_told_until_its_certificates_end() {
    let mut cluster = Cluster::new();
    joined(&mut cluster, "n1", "first");
    assert_eq!(cluster.state.nodes[&name("n1")].description.uid, uid("first"));
    cluster.deployed("sales/crm", linked(1));
    let before = cluster.state.nodes[&name("n2")].assigned_at;
    cluster.done(Body::RevokeNode { node: name("n1"), until_ms: cluster.now_ms + 1_000 });
    assert_eq!(cluster.last_event(), "node/n1 revoked");
    assert_eq!(cluster.state.nodes[&name("n1")].state, NodeState::Down);
    assert!(cluster.state.nodes[&name("n2")].assigned_at > before);
    let told = view::assignment(&cluster.state, &name("n2")).unwrap();
    assert_eq!(told.revoked.into_iter().collect::<Vec<_>>(), [uid("first")]);
    let mut itself = node("n1");
    itself.uid = uid("first");
    assert!(matches!(cluster.refused(Body::RegisterNode(itself)), Refusal::NodeRevoked { .. }));
    let again = cluster.refused(Body::RevokeNode { node: name("n1"), until_ms: 0 });
    assert!(matches!(again, Refusal::NotFound { .. }), "{again}");

    // By a new token it is back, and a second machine under its name takes it.
    joined(&mut cluster, "n1", "second");
    let mut itself = node("n1");
    itself.uid = uid("second");
    cluster.done(Body::RegisterNode(itself));
    assert_eq!(cluster.state.nodes[&name("n1")].state, NodeState::Ready);
    joined(&mut cluster, "n1", "third");
    assert_eq!(cluster.state.revoked.keys().cloned().collect::<Vec<_>>(), [uid("first"), uid("second")]);
    cluster.now_ms += 2_000;
    cluster.done(create(&cluster.clone(), "t", "n9", 100));
    assert!(cluster.state.revoked.is_empty(), "no certificate of theirs is good any more");
}

#[test]
fn tokens_and_revoked_identities_have_bounds() {
    let mut cluster = Cluster::new();
    cluster.done(create(&cluster.clone(), "first", "n3", 1_000_000));
    let token = cluster.state.tokens["first"].clone();
    for number in 1..TOKENS_MAX {
        cluster.state.tokens.insert(format!("{number}"), token.clone());
    }
    let refusal = cluster.refused(create(&cluster.clone(), "more", "n3", 100));
    assert_eq!(refusal, Refusal::Exhausted { what: "join tokens".to_owned(), bound: TOKENS_MAX as u64 });
    cluster.done(enrol(&cluster.clone(), "first", "n3", "u", "k"));
    cluster.done(Body::RevokeNode { node: name("n3"), until_ms: cluster.now_ms + 1_000_000 });
    let record = cluster.state.revoked[&uid("u")].clone();
    for number in 1..REVOKED_MAX {
        cluster.state.revoked.insert(uid(&format!("u-{number}")), record.clone());
    }
    cluster.done(enrol(&cluster.clone(), "1", "n3", "v", "k"));
    let refusal = cluster.refused(Body::RevokeNode { node: name("n3"), until_ms: 0 });
    let what = "revoked identities".to_owned();
    assert_eq!(refusal, Refusal::Exhausted { what, bound: REVOKED_MAX as u64 });
}
