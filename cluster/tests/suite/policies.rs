//! Policies: put and delete.

use cluster::command::Body;
use cluster::outcome::{Outcome, Refusal};
use cluster::state::{HISTORY_MAX, PolicyRecord};
use model::name::PolicyName;
use model::policy::{Action, Mode};

use crate::support::{Cluster, linked};

fn put(cluster: &mut Cluster, name: &str, artifact: u8) -> (u64, bool) {
    let put = cluster.put(name, artifact);
    match cluster.apply(Body::PutPolicy(Box::new(put))) {
        Outcome::PolicyPut { generation, unchanged, .. } => (generation.0, unchanged),
        other => panic!("{other:?}"),
    }
}

fn pii(cluster: &Cluster) -> &PolicyRecord {
    cluster.state.policies.get(&"pii".parse::<PolicyName>().unwrap()).unwrap()
}

#[test]
fn a_policy_has_versions() {
    let mut cluster = Cluster::new();
    let (first, unchanged) = put(&mut cluster, "pii", 1);
    assert!(!unchanged);
    assert_eq!(cluster.last_event(), "policy/pii applied");
    assert_eq!(put(&mut cluster, "pii", 1), (first, true));
    let (second, _) = put(&mut cluster, "pii", 2);
    assert!(second > first);
    // Going back to what was is a version of its own.
    let (third, unchanged) = put(&mut cluster, "pii", 1);
    assert!(third > second && !unchanged);
    let record = pii(&cluster);
    assert_eq!(record.versions.len(), 3);
    assert_eq!(record.current().unwrap().generation.0, third);
}

#[test]
fn a_bounded_number_of_versions_is_kept() {
    let mut cluster = Cluster::new();
    for number in 0..2 * HISTORY_MAX {
        put(&mut cluster, "pii", u8::try_from(number % 10).unwrap());
    }
    assert_eq!(pii(&cluster).versions.len(), HISTORY_MAX);
}

#[test]
fn a_policy_that_was_checked_against_other_graphs_or_policies_is_refused() {
    let mut cluster = Cluster::new();
    let before_graph = cluster.put("pii", 1);
    cluster.deployed("sales/crm", linked(1));
    let refusal = cluster.refused(Body::PutPolicy(Box::new(before_graph)));
    assert_eq!(refusal.to_string(), "a graph changed meanwhile");
    let before_policy = cluster.put("pii", 1);
    put(&mut cluster, "trace", 2);
    let refusal = cluster.refused(Body::PutPolicy(Box::new(before_policy)));
    assert_eq!(refusal.to_string(), "the policies changed meanwhile");
    let delete = cluster.delete_policy("trace");
    cluster.delete("sales/crm");
    assert!(matches!(cluster.refused(Body::DeletePolicy(delete)), Refusal::Stale { .. }));
}

#[test]
fn a_policy_needs_its_artifacts() {
    let mut cluster = Cluster::new();
    let unstored = cluster.put("pii", 99);
    assert!(matches!(cluster.refused(Body::PutPolicy(Box::new(unstored))), Refusal::NotFound { .. }));
    let mut deny = cluster.put("pii", 99);
    deny.spec.action = Action::Deny("closed".to_owned());
    deny.spec.mode = Mode::Audit;
    cluster.done(Body::PutPolicy(Box::new(deny)));
    assert_eq!(cluster.state.events.last().unwrap().message.split(", ").last(), Some("mode audit"));
}

#[test]
fn a_policy_is_deleted_once() {
    let mut cluster = Cluster::new();
    let (first, _) = put(&mut cluster, "pii", 1);
    let at = cluster.state.policies_at;
    let delete = cluster.delete_policy("pii");
    assert_eq!(cluster.apply(Body::DeletePolicy(delete.clone())), Outcome::PolicyDeleted);
    assert!(cluster.state.policies_at > at);
    assert_eq!(cluster.refused(Body::DeletePolicy(delete)).to_string(), "there is no policy pii");
    let (again, _) = put(&mut cluster, "pii", 1);
    assert!(again > first, "a version is never used again");
    assert_eq!(pii(&cluster).versions.len(), 1);
}
