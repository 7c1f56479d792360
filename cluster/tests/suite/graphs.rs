//! Deploy, delete, relink.

use cluster::command::{Body, DeleteGraph, DeployOrigin};
use cluster::outcome::{Outcome, Refusal};
use cluster::state::HISTORY_MAX;
use model::id::RevisionNumber;

use crate::support::{Cluster, key, linked, linked_at, linked_with_database};

#[test]
fn a_deploy_makes_revisions_and_generations() {
    let mut cluster = Cluster::new();
    let (revision, first, unchanged) = cluster.deployed("sales/crm", linked(1));
    assert_eq!((revision, unchanged), (1, false));
    assert_eq!(cluster.last_event(), "graph/sales/crm deployed");
    let (revision, second, _) = cluster.deployed("sales/crm", linked(2));
    assert_eq!(revision, 2);
    assert!(second > first);
    let (other, third, _) = cluster.deployed("sales/other", linked(2));
    assert_eq!(other, 1);
    assert!(third > second);
}

/// A deploy of what is there is none: clients may repeat it as they like.
#[test]
fn a_deploy_that_changes_nothing_makes_no_revision() {
    let mut cluster = Cluster::new();
    let (_, generation, _) = cluster.deployed("sales/crm", linked(1));
    let before = cluster.state.clone();
    assert_eq!(cluster.deployed("sales/crm", linked(1)), (1, generation, true));
    assert_eq!(cluster.state.revision, before.revision);
    assert_eq!(cluster.state.events, before.events);
}

/// Another comment in the manifest is another revision, and nothing for a node to do.
#[test]
fn a_revision_that_links_to_the_same_keeps_its_generation() {
    let mut cluster = Cluster::new();
    let (_, generation, _) = cluster.deployed("sales/crm", linked(1));
    let mut deploy = cluster.deploy("sales/crm", linked(1));
    deploy.manifest.push_str(" # better said");
    let outcome = cluster.apply(Body::Deploy(Box::new(deploy)));
    let Outcome::Deployed { revision, generation: after, unchanged, .. } = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!((revision.0, after.0, unchanged), (2, generation, false));
}

/// Row 31: decided from another revision than the one that is there.
#[test]
fn a_deploy_from_a_stale_revision_is_refused() {
    let mut cluster = Cluster::new();
    let new = cluster.deploy("sales/crm", linked(1));
    cluster.deployed("sales/crm", linked(1));
    let conflict = |expected: Option<u64>, found: Option<u64>| Refusal::RevisionConflict {
        key: key("sales/crm"),
        expected: expected.map(RevisionNumber),
        found: found.map(RevisionNumber),
    };
    assert_eq!(cluster.refused(Body::Deploy(Box::new(new))), conflict(None, Some(1)));
    let next = cluster.deploy("sales/crm", linked(2));
    cluster.deployed("sales/crm", linked(3));
    let refusal = cluster.refused(Body::Deploy(Box::new(next)));
    assert_eq!(refusal, conflict(Some(1), Some(2)));
    assert_eq!(refusal.to_string(), "sales/crm is at revision 2, not at the expected 1");
    let mut gone = cluster.deploy("sales/crm", linked(2));
    cluster.delete("sales/crm");
    gone.base = Some(RevisionNumber(2));
    assert_eq!(cluster.refused(Body::Deploy(Box::new(gone))), conflict(Some(2), None));
}

#[test]
fn a_deploy_that_was_linked_with_other_policies_is_refused() {
    let mut cluster = Cluster::new();
    let deploy = cluster.deploy("sales/crm", linked(1));
    cluster.done(Body::PutPolicy(Box::new(cluster.put("pii", 5))));
    let refusal = cluster.refused(Body::Deploy(Box::new(deploy)));
    assert_eq!(refusal.to_string(), "the policies changed meanwhile");
    cluster.deployed("sales/crm", linked(1));
}

#[test]
fn a_deploy_needs_its_artifacts() {
    let mut cluster = Cluster::new();
    let deploy = cluster.deploy("sales/crm", linked(77));
    assert!(
        matches!(cluster.refused(Body::Deploy(Box::new(deploy))), Refusal::NotFound { what } if what.starts_with("artifact sha256:4d4d"))
    );
    let seeded = cluster.deploy("sales/crm", linked_with_database(1, Some(78)));
    assert!(matches!(cluster.refused(Body::Deploy(Box::new(seeded))), Refusal::NotFound { .. }));
}

#[test]
fn a_host_and_path_lead_to_one_graph() {
    let mut cluster = Cluster::new();
    cluster.deployed("sales/crm", linked_at(1, "crm.example.com"));
    let taken = cluster.deploy("hr/crm", linked_at(1, "crm.example.com"));
    let refusal = cluster.refused(Body::Deploy(Box::new(taken)));
    assert_eq!(
        refusal.to_string(),
        "crm.example.com/ is taken by graph sales/crm: a host and path lead to one graph"
    );
    cluster.deployed("hr/crm", linked_at(1, "hr.example.com"));
    // Its owner may keep it, and others have it once it is gone.
    cluster.deployed("sales/crm", linked_at(2, "crm.example.com"));
    cluster.delete("sales/crm");
    cluster.deployed("hr/crm", linked_at(1, "crm.example.com"));
}

#[test]
fn a_bounded_number_of_revisions_is_kept() {
    let mut cluster = Cluster::new();
    for number in 0..2 * HISTORY_MAX {
        cluster.deployed("sales/crm", linked(u8::try_from(number % 10).unwrap()));
    }
    let record = &cluster.state.graphs[&key("sales/crm")];
    assert_eq!(record.revisions.len(), HISTORY_MAX);
    assert_eq!(record.number().0, 2 * HISTORY_MAX as u64);
    assert_eq!(record.revisions.front().unwrap().number.0, HISTORY_MAX as u64 + 1);
}

/// Going back is going on: a new revision, equal to an old one, even if that is the current one.
#[test]
fn a_rollback_is_a_revision() {
    let mut cluster = Cluster::new();
    cluster.deployed("sales/crm", linked(1));
    cluster.deployed("sales/crm", linked(2));
    for expected in [3, 4] {
        let mut back = cluster.deploy("sales/crm", linked(1));
        back.origin = DeployOrigin::Rollback { to: RevisionNumber(1) };
        let outcome = cluster.apply(Body::Deploy(Box::new(back)));
        assert!(
            matches!(outcome, Outcome::Deployed { revision, unchanged: false, .. } if revision.0 == expected)
        );
    }
    let event = cluster.state.events.last().unwrap();
    assert_eq!(event.message, "revision 4 committed, equal to revision 1");
}

#[test]
fn a_graph_is_deleted_at_the_expected_revision() {
    let mut cluster = Cluster::new();
    cluster.deployed("sales/crm", linked(1));
    cluster.deployed("sales/crm", linked(2));
    let delete = |expected| {
        Body::DeleteGraph(DeleteGraph { key: key("sales/crm"), expected: Some(RevisionNumber(expected)) })
    };
    assert!(matches!(cluster.refused(delete(1)), Refusal::RevisionConflict { .. }));
    assert_eq!(cluster.apply(delete(2)), Outcome::GraphDeleted);
    assert_eq!(cluster.last_event(), "graph/sales/crm deleted");
    assert_eq!(cluster.refused(delete(2)).to_string(), "there is no graph sales/crm");
}

/// A graph of the same name is another one: another identity, and no generation that was.
#[test]
fn a_generation_is_never_used_again() {
    let mut cluster = Cluster::new();
    let mut seen = std::collections::BTreeSet::new();
    let mut uids = std::collections::BTreeSet::new();
    for _ in 0..3 {
        for number in 1..3 {
            let (_, generation, _) = cluster.deployed("sales/crm", linked(number));
            assert!(seen.insert(generation), "{generation} again");
        }
        let relink = cluster.relink("sales/crm", linked(5));
        cluster.done(Body::Relink(Box::new(relink)));
        let record = &cluster.state.graphs[&key("sales/crm")];
        assert!(seen.insert(record.generation.0));
        assert!(uids.insert(record.uid.clone()));
        cluster.delete("sales/crm");
    }
}

#[test]
fn a_relink_changes_the_links_and_not_the_revision() {
    let mut cluster = Cluster::new();
    let (_, generation, _) = cluster.deployed("sales/crm", linked(1));
    let relink = cluster.relink("sales/crm", linked(2));
    cluster.done(Body::Relink(Box::new(relink.clone())));
    let record = &cluster.state.graphs[&key("sales/crm")];
    assert_eq!((record.number().0, &record.linked), (1, &linked(2)));
    assert!(record.generation.0 > generation);
    assert_eq!(cluster.last_event(), "graph/sales/crm relinked");
    // The same again changes nothing.
    let before = cluster.state.revision;
    cluster.done(Body::Relink(Box::new(relink)));
    assert_eq!(cluster.state.revision, before);
}

#[test]
fn a_relink_of_what_has_changed_is_refused() {
    let mut cluster = Cluster::new();
    cluster.deployed("sales/crm", linked(1));
    let relink = cluster.relink("sales/crm", linked(2));
    let stale = |refusal: &Refusal| matches!(refusal, Refusal::Stale { .. });
    let mut other_policies = cluster.clone();
    other_policies.done(Body::PutPolicy(Box::new(other_policies.put("pii", 5))));
    assert!(stale(&other_policies.refused(Body::Relink(Box::new(relink.clone())))));
    let mut other_revision = cluster.clone();
    other_revision.deployed("sales/crm", linked(3));
    assert!(stale(&other_revision.refused(Body::Relink(Box::new(relink.clone())))));
    let mut another_graph = cluster.clone();
    another_graph.delete("sales/crm");
    assert!(stale(&another_graph.refused(Body::Relink(Box::new(relink.clone())))));
    another_graph.deployed("sales/crm", linked(1));
    assert!(stale(&another_graph.refused(Body::Relink(Box::new(relink)))));
    let unstored = cluster.relink("sales/crm", linked(99));
    assert!(matches!(cluster.refused(Body::Relink(Box::new(unstored))), Refusal::NotFound { .. }));
}
