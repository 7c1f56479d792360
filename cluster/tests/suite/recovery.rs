//! What a state is that goes on outside its log: of a backup, or of the last member.

use cluster::command::{Body, CreateToken, Enrol, EnrolMember};
use cluster::outcome::{Outcome, Refusal};
use cluster::state::{FIRST_MEMBER, MemberId};
use cluster::{FEATURE_LEVEL, REVISIONS_SKIPPED, check};
use model::node::NodeState;

use crate::support::{Cluster, linked, linked_with_database, name, node, tag};

/// Two graphs on two nodes, one with data; two members; tokens; a request.
fn full() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.done(Body::AnnounceMember {
        member: FIRST_MEMBER,
        address: "first:1".to_owned(),
        level: FEATURE_LEVEL,
    });
    for token in ["a", "b"] {
        cluster.done(Body::CreateMemberToken { digest: token.to_owned(), expires_ms: cluster.now_ms + 1_000 });
    }
    cluster.done(Body::EnrolMember(EnrolMember {
        token: "a".to_owned(),
        key: "k".to_owned(),
        address: "second:1".to_owned(),
        level: FEATURE_LEVEL,
    }));
    cluster.done(create("t"));
    cluster.done(Body::Enrol(Enrol {
        node: name("n1"),
        token: "t".to_owned(),
        key: "k".to_owned(),
        uid: "uid-of-n1".to_owned().try_into().unwrap(),
        revoked_until_ms: 1_000,
    }));
    cluster.done(Body::RegisterNode(node("n1")));
    cluster.deployed("default/plain", linked(1));
    cluster.deployed("default/data", linked_with_database(2, None));
    cluster.schedule();
    let put = Body::PutPolicy(Box::new(cluster.put("hide", 3)));
    cluster.apply_tagged(put, Some(tag("request", "print")));
    cluster
}

fn create(digest: &str) -> Body {
    Body::CreateToken(CreateToken { node: name("n1"), digest: digest.to_owned(), expires_ms: 1_000_000 })
}

#[test]
fn a_backup_goes_on_as_another_cluster_that_nobody_has_joined() {
    let before = full();
    let other = "cluster-2".to_owned().try_into().unwrap();
    let state = before.state.restored(other, 5_000);
    assert_eq!(check(&state), Vec::<String>::new());
    assert_eq!(state.cluster.as_ref().unwrap().to_string(), "cluster-2");
    assert_eq!(state.revision.0, before.state.revision.0 + REVISIONS_SKIPPED);
    assert_eq!(state.now_ms, 5_000);
    assert!(state.members.is_empty() && state.enrolled.is_empty() && state.tokens.is_empty());
    assert!(state.member_tokens.is_empty() && state.revoked.is_empty());
    // What people have made is there, and where it is.
    for (key, graph) in &before.state.graphs {
        let found = &state.graphs[key];
        assert_eq!(
            (&found.revisions, &found.linked, &found.data),
            (&graph.revisions, &graph.linked, &graph.data)
        );
        assert_eq!((&found.placement, found.observed.len()), (&graph.placement, 0));
    }
    assert_eq!(state.policies, before.state.policies);
    assert_eq!(state.artifacts, before.state.artifacts);
    assert!(state.nodes.values().all(|node| node.state == NodeState::Down));

    let mut cluster = Cluster { state, now_ms: 5_000 };
    assert_eq!(cluster.last_event(), "cluster restored");
    // A request that was applied before the backup was taken is not applied again.
    let put = Body::PutPolicy(Box::new(cluster.put("hide", 3)));
    let again = cluster.apply_tagged(put, Some(tag("request", "print")));
    assert!(matches!(again, Outcome::PolicyPut { unchanged: false, .. }), "{again:?}");
    assert_eq!(cluster.state.policies, before.state.policies);
    // Its first member is a new one, and the nodes join as whoever they are by now.
    cluster.done(Body::AnnounceMember {
        member: FIRST_MEMBER,
        address: "new:1".to_owned(),
        level: FEATURE_LEVEL,
    });
    cluster.done(create("new"));
    let enrol = Enrol {
        node: name("n1"),
        token: "new".to_owned(),
        key: "k".to_owned(),
        uid: "another".to_owned().try_into().unwrap(),
        revoked_until_ms: 9_000,
    };
    cluster.done(Body::Enrol(enrol));
    let refusal = cluster.refused(Body::RegisterNode(node("n1")));
    assert!(matches!(refusal, Refusal::NodeIdentity { .. }), "{refusal}");
    let mut joined = node("n1");
    joined.uid = "another".to_owned().try_into().unwrap();
    cluster.done(Body::RegisterNode(joined));
}

#[test]
fn the_last_member_goes_on_alone() {
    let before = full();
    let state = before.state.left_to(MemberId(2), 5_000).unwrap();
    assert_eq!(check(&state), Vec::<String>::new());
    assert_eq!(state.cluster, before.state.cluster);
    assert_eq!(state.revision.0, before.state.revision.0 + REVISIONS_SKIPPED);
    let members: Vec<_> = state.members.iter().map(|(id, record)| (id.0, record.is_voter)).collect();
    assert_eq!(members, [(2, true)], "a learner gets the vote");
    assert_eq!(state.last_member, 2, "no id is given again");
    assert!(state.member_tokens.is_empty());
    assert_eq!((&state.graphs, &state.enrolled), (&before.state.graphs, &before.state.enrolled));
    // What the others may still assign is older than anything that this one assigns.
    assert!(state.nodes.values().all(|node| node.assigned_at.0 == state.revision.0));
    assert_eq!(before.state.left_to(MemberId(3), 5_000), None);

    let lonely = Cluster::new();
    assert!(lonely.state.left_to(FIRST_MEMBER, 5_000).is_some(), "it has not said where it is");
    assert_eq!(lonely.state.left_to(MemberId(2), 5_000), None);
}
