//! What the graphs of a namespace may use together: no history of deploys uses more, and what does not grow is never refused.

use std::collections::BTreeMap;

use cluster::command::{Body, ChangeRollout, RolloutChange, SetQuota};
use cluster::outcome::{Outcome, Refusal};
use cluster::quota::{of_linked, used};
use cluster::{State, feature};
use model::graph::Limits;
use model::id::Generation;
use model::linked::{Link, LinkOrigin, LinkedGraph, Origin, Target};
use model::placement::{LinkTerms, Locality};
use model::policy::PolicyVersion;
use model::quota::{Measure, Quota, Usage};
use model::reserve::{Priority, Reserves};
use model::rollout::Phase;
use model::unit::ByteSize;
use proptest::collection;
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::test_runner::TestCaseError;

use crate::moves::cluster;
use crate::support::{Cluster, key, linked, random, rollout};

const GRAPHS: usize = 4;
const MIB: u64 = 1 << 20;

/// A graph of one component on so many nodes, with so much memory.
fn sized(replicas: u32, mebibytes: u64) -> LinkedGraph {
    let mut linked = linked(u8::try_from(replicas).unwrap());
    let limits = Limits { memory: ByteSize::mebibytes(mebibytes), ..Limits::default() };
    linked.components.values_mut().for_each(|component| component.settings.limits = limits);
    linked.replicas =
        [("app".parse().unwrap(), replicas)].into_iter().filter(|(_, count)| *count > 1).collect();
    linked
}

fn set(quota: Quota) -> Body {
    Body::SetQuota(SetQuota { namespace: "sales".parse().unwrap(), quota })
}

fn bounded(graphs: Option<u64>, replicas: Option<u64>, mebibytes: Option<u64>) -> Quota {
    Quota { graphs, replicas, memory: mebibytes.map(ByteSize::mebibytes), ..Quota::default() }
}

fn sales(state: &State) -> Usage {
    used(state, &"sales".parse().unwrap())
}

fn deploy(cluster: &mut Cluster, graph: &str, linked: LinkedGraph) -> Result<(), Refusal> {
    let deploy = cluster.deploy(graph, linked);
    match cluster.apply(Body::Deploy(Box::new(deploy))) {
        Outcome::Refused(refusal) => Err(refusal),
        _ => Ok(()),
    }
}

#[test]
fn a_deploy_beyond_a_quota_says_how_much_of_what() {
    let mut cluster = cluster();
    cluster.done(set(bounded(None, Some(5), None)));
    assert_eq!(cluster.last_event(), "namespace/sales quota_set");
    deploy(&mut cluster, "sales/a", sized(3, 64)).unwrap();
    deploy(&mut cluster, "sales/b", sized(1, 64)).unwrap();
    let refusal = deploy(&mut cluster, "sales/b", sized(3, 64)).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "quota `replicas` of namespace sales is 5: its other graphs use 3, and sales/b would use 3 where it uses 1 now. \
         Let it use less, delete what is not needed, or have the quota raised"
    );
    deploy(&mut cluster, "sales/b", sized(2, 64)).unwrap();
    deploy(&mut cluster, "hr/b", sized(9, 64)).expect("another namespace has no quota");
    cluster.delete("sales/a");
    deploy(&mut cluster, "sales/b", sized(5, 64)).unwrap();
    cluster.done(set(Quota::default()));
    assert!(cluster.state.namespaces.is_empty());
    deploy(&mut cluster, "sales/b", sized(9, 64)).expect("nothing is bounded any more");
}

#[test]
fn graphs_and_memory_are_bounded_too() {
    let mut cluster = cluster();
    cluster.done(set(bounded(Some(2), None, Some(256))));
    deploy(&mut cluster, "sales/a", sized(2, 64)).unwrap();
    let refusal = deploy(&mut cluster, "sales/b", sized(3, 64)).unwrap_err().to_string();
    assert!(
        refusal.contains(
            "`memory` of namespace sales is 256Mi: its other graphs use 128Mi, and sales/b would use 192Mi"
        ),
        "{refusal}"
    );
    deploy(&mut cluster, "sales/b", sized(1, 64)).unwrap();
    let refusal = deploy(&mut cluster, "sales/c", sized(1, 64)).unwrap_err().to_string();
    assert!(
        refusal.contains("`graphs` of namespace sales is 2: its other graphs use 2, and sales/c would use 1"),
        "{refusal}"
    );
}

/// The same with so many instances reserved, by a priority.
fn reserving(replicas: u32, reserved: u32, priority: u32) -> LinkedGraph {
    let mut linked = sized(replicas, 64);
    linked.reserves = Reserves {
        priority: Priority::new(priority).unwrap(),
        instances: [("app".parse().unwrap(), reserved)].into(),
    };
    linked
}

#[test]
fn what_is_reserved_is_bounded_over_all_nodes() {
    let mut cluster = cluster();
    cluster.done(set(Quota { reserved: Some(100), ..Quota::default() }));
    deploy(&mut cluster, "sales/a", reserving(3, 20, 50)).unwrap();
    let refusal = deploy(&mut cluster, "sales/b", reserving(1, 41, 50)).unwrap_err().to_string();
    assert!(
        refusal.contains(
            "`reserved` of namespace sales is 100: its other graphs use 60, and sales/b would use 41"
        ),
        "{refusal}"
    );
    deploy(&mut cluster, "sales/b", reserving(2, 20, 50)).unwrap();
    assert_eq!(sales(&cluster.state).reserved, 100);
    deploy(&mut cluster, "sales/c", sized(9, 64)).expect("it reserves nothing");
    deploy(&mut cluster, "sales/a", reserving(4, 15, 50)).expect("as many on more nodes");
    deploy(&mut cluster, "sales/a", reserving(4, 16, 50)).unwrap_err();
}

#[test]
fn what_is_reserved_comes_before_no_more_than_it_may() {
    let mut cluster = cluster();
    deploy(&mut cluster, "sales/old", reserving(1, 1, 90)).unwrap();
    cluster.done(set(Quota { priority: Some(Priority::new(60).unwrap()), ..Quota::default() }));
    let refusal = deploy(&mut cluster, "sales/a", reserving(1, 1, 61)).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "quota `priority` of namespace sales is 60: what is reserved for sales/a would have priority 61. Say \
         `priority: 60` or less in its manifest, or have the quota raised"
    );
    deploy(&mut cluster, "sales/a", reserving(1, 1, 60)).unwrap();
    // A priority alone reserves nothing.
    let mut idle = reserving(1, 1, 90);
    idle.reserves.instances.clear();
    deploy(&mut cluster, "sales/b", idle).unwrap();
    deploy(&mut cluster, "sales/b", reserving(1, 1, 90)).unwrap_err();
    // A quota takes nothing away, and nothing is raised beyond it.
    deploy(&mut cluster, "sales/old", reserving(1, 1, 90)).unwrap();
    deploy(&mut cluster, "sales/old", reserving(1, 2, 90)).unwrap_err();
    deploy(&mut cluster, "sales/old", reserving(1, 2, 60)).unwrap();
    deploy(&mut cluster, "sales/old", reserving(1, 1, 90)).unwrap_err();
    cluster.done(set(Quota::default()));
    deploy(&mut cluster, "sales/old", reserving(1, 1, 90)).unwrap();
    cluster.done(set(Quota { priority: Some(Priority::new(60).unwrap()), ..Quota::default() }));
    deploy(&mut cluster, "sales/old", reserving(1, 1, 91)).unwrap_err();
    // As many instances, each of which takes more.
    let mut larger = reserving(1, 1, 90);
    larger.components.values_mut().for_each(|app| app.settings.limits.memory = ByteSize::mebibytes(65));
    deploy(&mut cluster, "sales/old", larger).unwrap_err();
    // As many as what takes over has, by a priority that only the graph has.
    let mut by_steps = cluster.deploy("sales/old", reserving(1, 50, 60));
    (by_steps.spec.rollout, by_steps.by_steps) = (Some(rollout(2)), true);
    cluster.done(Body::Deploy(Box::new(by_steps)));
    deploy(&mut cluster, "sales/old", reserving(1, 50, 90)).unwrap_err();
    deploy(&mut cluster, "sales/old", reserving(1, 1, 70)).unwrap();
    deploy(&mut cluster, "sales/old", reserving(1, 1, 90)).unwrap_err();
    deploy(&mut cluster, "hr/a", reserving(1, 1, 100)).expect("another namespace has no quota");
}

#[test]
fn a_quota_below_what_is_used_stops_only_what_grows() {
    let mut cluster = cluster();
    deploy(&mut cluster, "sales/a", sized(4, 64)).unwrap();
    deploy(&mut cluster, "sales/b", sized(4, 64)).unwrap();
    cluster.done(set(bounded(Some(1), Some(2), Some(64))));
    deploy(&mut cluster, "sales/a", sized(5, 64)).unwrap_err();
    deploy(&mut cluster, "sales/c", sized(1, 64)).unwrap_err();
    // Less of one and as much of the other, though there is still too much of both.
    deploy(&mut cluster, "sales/a", sized(3, 64)).unwrap();
    deploy(&mut cluster, "sales/a", sized(3, 32)).unwrap();
    assert_eq!(
        sales(&cluster.state),
        Usage { graphs: 2, replicas: 7, memory: ByteSize(352 * MIB), reserved: 0 }
    );
}

#[test]
fn a_candidate_counts_once_and_as_the_larger_of_the_two() {
    let mut cluster = cluster();
    cluster.done(set(bounded(Some(1), Some(4), None)));
    deploy(&mut cluster, "sales/a", sized(2, 64)).unwrap();
    let by_steps = |cluster: &Cluster, replicas| {
        let mut deploy = cluster.deploy("sales/a", sized(replicas, 64));
        deploy.spec.rollout = Some(rollout(2));
        deploy.by_steps = true;
        Body::Deploy(Box::new(deploy))
    };
    let too_large = by_steps(&cluster, 5);
    assert!(matches!(cluster.refused(too_large), Refusal::QuotaExceeded { .. }));
    let larger = by_steps(&cluster, 4);
    cluster.done(larger);
    assert_eq!(cluster.state.graphs.len(), 2);
    assert_eq!((sales(&cluster.state).graphs, sales(&cluster.state).replicas), (1, 4));
    change(&mut cluster, "sales/a", RolloutChange::Revert { why: String::new() });
    assert_eq!(sales(&cluster.state).replicas, 2, "it is let go of");
    change(&mut cluster, "sales/a", RolloutChange::Finish);
    let smaller = by_steps(&cluster, 1);
    cluster.done(smaller);
    assert_eq!(sales(&cluster.state).replicas, 2);
    change(&mut cluster, "sales/a", RolloutChange::Promote { why: String::new() });
    assert_eq!(sales(&cluster.state).replicas, 1);
}

#[test]
fn what_policies_put_in_is_not_counted_and_what_must_be_together_is_counted_together() {
    let mut linked = sized(3, 64);
    let alone = of_linked(&linked, 3);
    let app = linked.components[&"app".parse().unwrap()].clone();
    let policy = PolicyVersion { name: "pii".parse().unwrap(), generation: Generation(1) };
    let put_in = model::linked::LinkedComponent { origin: Origin::Policy(policy), ..app.clone() };
    linked.components.insert("app--pii".to_owned().try_into().unwrap(), put_in);
    assert_eq!(of_linked(&linked, 3), alone);
    linked.components.insert("search".parse().unwrap(), app);
    assert_eq!(of_linked(&linked, 3).replicas, 4);
    let interface: model::interface::InterfaceName = "a:b/c@1.0.0".parse().unwrap();
    linked.links.push(Link {
        from: "app".parse().unwrap(),
        interface: interface.clone(),
        to: Target::Component { name: "search".parse().unwrap(), export: interface },
        wiring: LinkOrigin::Explicit,
        functions: Vec::new(),
        terms: LinkTerms { locality: Locality::SameNode, ..LinkTerms::default() },
    });
    assert_eq!(of_linked(&linked, 3).replicas, 6, "search is wherever app is");
}

#[test]
fn members_of_earlier_versions_are_not_asked_to_keep_quotas() {
    assert_eq!(set(Quota::default()).level(), feature::QUOTAS);
    assert_eq!(set(Quota { reserved: Some(0), ..Quota::default() }).level(), feature::RESERVE_QUOTAS);
    let priority = Some(Priority::DEFAULT);
    assert_eq!(set(Quota { priority, ..Quota::default() }).level(), feature::RESERVE_QUOTAS);
    let state = serde_json::to_string(&Cluster::new().state).unwrap();
    assert!(!state.contains("namespaces"), "a state without quotas is as it was");
    let mut bounded_state = cluster();
    bounded_state.done(set(bounded(Some(1), None, None)));
    let text = serde_json::to_string(&bounded_state.state).unwrap();
    assert_eq!(serde_json::from_str::<State>(&text).unwrap(), bounded_state.state);
}

/// One step of a history.
#[derive(Debug, Clone)]
enum Step {
    Deploy { graph: usize, replicas: u32, mebibytes: u64, reserved: u32, by_steps: bool },
    Promote(usize),
    Revert(usize),
    Delete(usize),
    Bound(Quota),
}

fn step() -> impl Strategy<Value = Step> {
    let some = |most: u64| proptest::option::weighted(0.7, 0..most);
    prop_oneof![
        8 => (0..GRAPHS, 1..5_u32, 1..5_u64, 0..5_u32, any::<bool>()).prop_map(
            |(graph, replicas, size, reserved, by_steps)| {
                Step::Deploy { graph, replicas, mebibytes: size * 16, reserved, by_steps }
            }
        ),
        2 => (0..GRAPHS).prop_map(Step::Promote),
        2 => (0..GRAPHS).prop_map(Step::Revert),
        1 => (0..GRAPHS).prop_map(Step::Delete),
        1 => (some(4), some(12), some(500), some(20)).prop_map(|(graphs, replicas, size, reserved)| {
            Step::Bound(Quota { reserved, ..bounded(graphs, replicas, size) })
        }),
        1 => Just(Step::Bound(Quota::default())),
    ]
}

/// Changes the rollout of a graph, if there is one to be changed; ends it if it is decided.
fn change(cluster: &mut Cluster, graph: &str, wanted: RolloutChange) {
    let key = key(graph);
    let Some(record) = cluster.state.graphs.get(&key) else { return };
    let Some(rollout) = &record.rollout else { return };
    let change = match rollout.phase {
        Phase::Promoting => RolloutChange::End,
        Phase::Ending => RolloutChange::Finish,
        Phase::Starting | Phase::Answering { .. } => wanted,
    };
    let body = ChangeRollout {
        uid: record.uid.clone(),
        revision: record.number(),
        phase: rollout.phase,
        step: rollout.step,
        is_paused: rollout.paused.is_some(),
        change,
        key,
    };
    cluster.apply(Body::ChangeRollout(Box::new(body)));
}

/// What is used, counted from what was deployed: the larger of a graph and what may take its place.
fn counted(state: &State) -> BTreeMap<String, [u64; 4]> {
    let mut all: BTreeMap<String, [u64; 4]> = BTreeMap::new();
    for (key, record) in &state.graphs {
        let is_going = key.is_candidate
            && state.graphs[&key.base()].rollout.as_ref().is_some_and(|rollout| !rollout.is_open());
        if is_going {
            continue;
        }
        let replicas = record.linked.replicas.values().next().copied().map_or(1, u64::from);
        let memory = record.linked.components.values().next().unwrap().settings.limits.memory.0;
        let now = all.entry(key.graph.to_string()).or_default();
        let reserved = record.linked.reserves.instances.values().next().copied().map_or(0, u64::from);
        *now = [1, now[1].max(replicas), now[2].max(replicas * memory), now[3].max(replicas * reserved)];
    }
    all
}

fn sum(all: &BTreeMap<String, [u64; 4]>) -> [u64; 4] {
    all.values().fold([0; 4], |sum, of| std::array::from_fn(|at| sum[at] + of[at]))
}

fn history(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut cluster = cluster();
    for step in steps {
        let before = counted(&cluster.state);
        let quota = cluster.state.namespaces.values().next().map(|record| record.quota);
        let bounds = Measure::ALL.map(|measure| quota.and_then(|quota| quota.bound(measure)));
        match &step {
            Step::Deploy { graph, replicas, mebibytes, reserved, by_steps } => {
                let name = format!("g{graph}");
                let mut linked = sized(*replicas, *mebibytes);
                let instances = Some(("app".parse().unwrap(), *reserved)).filter(|_| *reserved > 0);
                linked.reserves.instances = instances.into_iter().collect();
                let mut deploy = cluster.deploy(&format!("sales/{name}"), linked);
                (deploy.spec.rollout, deploy.by_steps) = (by_steps.then(|| rollout(1)), *by_steps);
                let outcome = cluster.apply(Body::Deploy(Box::new(deploy)));
                let (has, all) = (before.get(&name).copied().unwrap_or_default(), sum(&before));
                let count = u64::from(*replicas);
                let asks = [1, count, count * mebibytes * MIB, count * u64::from(*reserved)];
                let is_too_much = (0..4).any(|at| {
                    asks[at] > has[at] && bounds[at].is_some_and(|bound| all[at] - has[at] + asks[at] > bound)
                });
                let is_refused = matches!(outcome, Outcome::Refused(Refusal::QuotaExceeded { .. }));
                prop_assert_eq!(is_refused, is_too_much, "{:?} of {:?}: {:?}", step, before, outcome);
            }
            Step::Promote(graph) => {
                change(&mut cluster, &format!("sales/g{graph}"), RolloutChange::Promote { why: String::new() });
            }
            Step::Revert(graph) => {
                change(&mut cluster, &format!("sales/g{graph}"), RolloutChange::Revert { why: String::new() });
            }
            Step::Delete(graph) => drop(cluster.delete(&format!("sales/g{graph}"))),
            Step::Bound(quota) => cluster.done(set(*quota)),
        }
        let after = sum(&counted(&cluster.state));
        let told = sales(&cluster.state);
        prop_assert_eq!(after, Measure::ALL.map(|measure| told.of(measure)), "after {:?}", step);
        // What was there before a quota was lowered stays, and grows no more.
        for (at, bound) in bounds.iter().enumerate() {
            let most = bound.map_or(u64::MAX, |bound| bound.max(sum(&before)[at]));
            prop_assert!(after[at] <= most, "{} of at most {most} after {step:?}", after[at]);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(random(256))]

    #[test]
    fn no_history_of_deploys_uses_more_than_a_quota(steps in collection::vec(step(), 1..60)) {
        history(steps)?;
    }
}
