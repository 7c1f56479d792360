//! Who is of the control plane: ids that are never used again, tokens of one use, and at least one vote.

use cluster::FEATURE_LEVEL;
use cluster::command::{Body, EnrolMember};
use cluster::feature::{FIRST_LEVEL, FORGETS_ARTIFACTS, MOVES};
use cluster::outcome::Refusal;
use cluster::state::{FIRST_MEMBER, MEMBERS_MAX, MemberId, TOKENS_MAX, VOTERS_MAX};

use crate::support::Cluster;

/// Longer than a test takes.
const LONG_MS: u64 = 50_000_000;

fn create(cluster: &Cluster, digest: &str, lifetime_ms: u64) -> Body {
    Body::CreateMemberToken { digest: digest.to_owned(), expires_ms: cluster.now_ms + lifetime_ms }
}

fn enrol(token: &str, key: &str) -> Body {
    Body::EnrolMember(EnrolMember {
        token: token.to_owned(),
        key: key.to_owned(),
        address: format!("{key}:1"),
        level: FEATURE_LEVEL,
    })
}

fn announce(member: u64, address: &str) -> Body {
    Body::AnnounceMember { member: MemberId(member), address: address.to_owned(), level: FEATURE_LEVEL }
}

const fn promote(member: u64) -> Body {
    Body::PromoteMember { member: MemberId(member) }
}

const fn remove(member: u64) -> Body {
    Body::RemoveMember { member: MemberId(member) }
}

/// A cluster whose first member has said where it is.
fn begun() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.done(announce(1, "first:1"));
    cluster
}

fn joined(cluster: &mut Cluster, token: &str) -> MemberId {
    cluster.done(create(&cluster.clone(), token, 1_000));
    cluster.done(enrol(token, token));
    cluster.state.member_tokens[token].used.as_ref().unwrap().member
}

#[test]
fn the_first_member_says_where_it_is_and_has_a_vote() {
    let mut cluster = Cluster::new();
    let refusal = cluster.refused(announce(2, "second:1"));
    assert!(matches!(refusal, Refusal::NotFound { .. }), "{refusal}");
    cluster.done(announce(1, "first:1"));
    assert_eq!(cluster.last_event(), "member/1 announced");
    let at = cluster.state.revision;
    cluster.done(announce(1, "first:1"));
    assert_eq!(cluster.state.revision, at, "nothing new");
    cluster.done(announce(1, "first:2"));
    let record = &cluster.state.members[&FIRST_MEMBER];
    assert_eq!((record.address.as_str(), record.is_voter), ("first:2", true));
}

#[test]
fn a_token_lets_one_member_in_and_tells_it_again() {
    let mut cluster = begun();
    let refused = |cluster: &mut Cluster, token: &str, key: &str| {
        let refusal = cluster.refused(enrol(token, key));
        assert!(matches!(refusal, Refusal::TokenRefused { .. }), "{refusal}");
    };
    refused(&mut cluster, "t", "k");
    cluster.done(create(&cluster.clone(), "t", 100));
    cluster.done(enrol("t", "k"));
    assert_eq!(cluster.last_event(), "member/2 joined");
    let at = cluster.state.revision;
    cluster.done(enrol("t", "k"));
    assert_eq!(cluster.state.revision, at, "told again");
    refused(&mut cluster, "t", "another");
    cluster.done(create(&cluster.clone(), "late", 10));
    cluster.now_ms += 10;
    refused(&mut cluster, "late", "k");
    let record = &cluster.state.members[&MemberId(2)];
    assert_eq!((record.address.as_str(), record.is_voter), ("k:1", false));
}

#[test]
fn an_id_is_never_used_again() {
    let mut cluster = begun();
    assert_eq!(joined(&mut cluster, "a"), MemberId(2));
    cluster.done(remove(2));
    assert_eq!(cluster.last_event(), "member/2 removed");
    assert_eq!(joined(&mut cluster, "b"), MemberId(3));
    // Whoever was taken out is not let in by what it was let in with.
    let refusal = cluster.refused(announce(2, "a:1"));
    assert!(matches!(refusal, Refusal::NotFound { .. }), "{refusal}");
}

#[test]
fn the_last_vote_stays() {
    let mut cluster = begun();
    joined(&mut cluster, "a");
    let refusal = cluster.refused(remove(1));
    assert!(matches!(refusal, Refusal::LastVoter { member: 1 }), "{refusal}");
    cluster.done(promote(2));
    assert_eq!(cluster.last_event(), "member/2 promoted");
    let at = cluster.state.revision;
    cluster.done(promote(2));
    assert_eq!(cluster.state.revision, at, "it has a vote");
    cluster.done(remove(1));
    let refusal = cluster.refused(remove(2));
    assert!(matches!(refusal, Refusal::LastVoter { member: 2 }), "{refusal}");
}

#[test]
fn members_votes_and_tokens_are_bounded() {
    let mut cluster = begun();
    for number in 2..=MEMBERS_MAX as u64 {
        joined(&mut cluster, &number.to_string());
    }
    let refusal = cluster.refused(create(&cluster.clone(), "one more", 1_000));
    assert!(matches!(refusal, Refusal::Exhausted { bound, .. } if bound == MEMBERS_MAX as u64), "{refusal}");
    for number in 2..=VOTERS_MAX as u64 {
        cluster.done(promote(number));
    }
    let refusal = cluster.refused(promote(VOTERS_MAX as u64 + 1));
    assert!(matches!(refusal, Refusal::Exhausted { bound, .. } if bound == VOTERS_MAX as u64), "{refusal}");

    let mut cluster = begun();
    for number in 0..TOKENS_MAX {
        cluster.done(create(&cluster.clone(), &number.to_string(), LONG_MS));
    }
    let refusal = cluster.refused(create(&cluster.clone(), "one more", LONG_MS));
    assert!(matches!(refusal, Refusal::Exhausted { bound, .. } if bound == TOKENS_MAX as u64), "{refusal}");
    cluster.now_ms += LONG_MS;
    cluster.done(create(&cluster.clone(), "one more", LONG_MS));
    assert_eq!(cluster.state.member_tokens.len(), 1, "those that are over are let go of");
}

#[test]
fn the_level_is_what_all_members_know_and_never_falls() {
    let mut cluster = begun();
    let raise = |level: u32| Body::RaiseFeatureLevel { level };
    let says = |member: u64, level: u32| Body::AnnounceMember {
        member: MemberId(member),
        address: format!("{member}:1"),
        level,
    };
    assert_eq!((cluster.state.level(), cluster.state.level_to_raise_to(9)), (FIRST_LEVEL, Some(FEATURE_LEVEL)));
    joined(&mut cluster, "a");
    cluster.done(says(2, FIRST_LEVEL));
    assert_eq!(cluster.state.level_to_raise_to(FEATURE_LEVEL), None, "one of them knows less");
    let refusal = cluster.refused(raise(FEATURE_LEVEL));
    assert!(
        matches!(refusal, Refusal::LevelTooLow { known: FIRST_LEVEL, needed: FEATURE_LEVEL, .. }),
        "{refusal}"
    );
    cluster.done(says(2, FEATURE_LEVEL + 1));
    assert_eq!(cluster.state.level_to_raise_to(FEATURE_LEVEL), Some(FEATURE_LEVEL));
    cluster.done(raise(FEATURE_LEVEL));
    assert_eq!((cluster.last_event().as_str(), cluster.state.level()), ("cluster raised", FEATURE_LEVEL));
    let at = cluster.state.revision;
    cluster.done(raise(FIRST_LEVEL));
    assert_eq!((cluster.state.revision, cluster.state.level()), (at, FEATURE_LEVEL));
    // An earlier version neither joins nor comes back.
    cluster.done(create(&cluster.clone(), "old", 1_000));
    let old = EnrolMember {
        token: "old".to_owned(),
        key: "k".to_owned(),
        address: "old:1".to_owned(),
        level: FIRST_LEVEL,
    };
    for body in [Body::EnrolMember(old), says(2, FIRST_LEVEL)] {
        let refusal = cluster.refused(body);
        assert!(matches!(refusal, Refusal::LevelTooLow { needed: FEATURE_LEVEL, .. }), "{refusal}");
    }
    assert_eq!(Body::ForgetArtifacts(Vec::new()).level(), FORGETS_ARTIFACTS);
    assert_eq!(Body::Leave(Vec::new()).level(), MOVES);
    assert_eq!(promote(1).level(), FIRST_LEVEL);
}
