//! Revisions that take over by steps: the candidate beside the graph, and what becomes of both.

use std::time::Duration;

use cluster::command::{Body, ChangeRollout, RolloutChange};
use cluster::outcome::{Outcome, Refusal};
use cluster::rollout::{Evidence, decide, is_well};
use cluster::view;
use model::graph::GraphSpec;
use model::id::GraphKey;
use model::linked::LinkedGraph;
use model::node::Admission;
use model::rollout::{Phase, Reverted};

use crate::moves::{GRAPH, cluster};
use crate::support::{Cluster, key, linked, linked_at, linked_with_database, node, rollout, spec};

impl Cluster {
    /// Deploys a revision that takes over by three steps: 0 % for a minute, 10 % without an end, 20 % for a minute.
    fn deploy_by_steps(&mut self, linked: LinkedGraph) -> (u64, u64, bool) {
        let mut deploy = self.deploy(GRAPH, linked);
        deploy.by_steps = true;
        deploy.spec = GraphSpec { rollout: Some(rollout(2)), ..spec() };
        match self.apply(Body::Deploy(Box::new(deploy))) {
            Outcome::Deployed { revision, generation, unchanged, .. } => (revision.0, generation.0, unchanged),
            other => panic!("{other:?}"),
        }
    }

    /// A change that is decided from the state as it is.
    fn changing(&self, change: RolloutChange) -> Body {
        let record = &self.state.graphs[&key(GRAPH)];
        let rollout = record.rollout.as_ref();
        Body::ChangeRollout(Box::new(ChangeRollout {
            key: key(GRAPH),
            uid: record.uid.clone(),
            revision: record.number(),
            phase: rollout.map_or(Phase::Starting, |rollout| rollout.phase),
            step: rollout.map_or(0, |rollout| rollout.step),
            is_paused: rollout.is_some_and(|rollout| rollout.paused.is_some()),
            change,
        }))
    }

    pub(crate) fn change(&mut self, change: RolloutChange) {
        let body = self.changing(change);
        self.done(body);
    }

    fn candidate(&self) -> Option<&cluster::state::GraphRecord> {
        self.state.graphs.get(&key(GRAPH).candidate())
    }

    /// What the candidate answers, in thousandths, and where.
    fn answered(&self) -> Option<(u16, String)> {
        let map = view::route_map(&self.state).unwrap();
        assert_eq!(map.routes.len(), 1, "a candidate's routes are not routes of the cluster");
        let candidate = map.candidates.first()?;
        assert_eq!((&candidate.graph, &candidate.routes[0].graph), (&key(GRAPH), &key(GRAPH).candidate()));
        assert!(map.nodes.contains_key(&candidate.routes[0].nodes[0]));
        Some((candidate.share.thousandths(), candidate.routes[0].nodes[0].to_string()))
    }

    /// What the leader would do next.
    fn decided(&self, now_ms: u64) -> Option<RolloutChange> {
        let record = &self.state.graphs[&key(GRAPH)];
        decide(&self.state, &key(GRAPH), record, &Evidence::default(), Duration::ZERO, now_ms)
    }
}

/// A graph that serves on n1 at revision 1, and a candidate of revision 2 that serves there too, and is at its first step.
fn begun() -> Cluster {
    let mut cluster = cluster();
    cluster.deployed(GRAPH, linked_at(1, "crm.example.com"));
    cluster.schedule();
    cluster.serves("n1");
    assert_eq!(cluster.deploy_by_steps(linked_at(2, "crm.example.com")).0, 2);
    assert_eq!(cluster.decided(10_000), None, "it is placed first");
    assert_eq!(cluster.schedule(), 1);
    assert_eq!(cluster.candidate().unwrap().placement, cluster.state.graphs[&key(GRAPH)].placement);
    assert_eq!(cluster.answered(), None, "it does not answer yet");
    cluster.serves("n1");
    assert_eq!(cluster.decided(10_000), Some(RolloutChange::Begin));
    cluster.change(RolloutChange::Begin);
    cluster
}

fn why() -> String {
    "a test".to_owned()
}

#[test]
fn a_revision_takes_over_by_steps() {
    let mut cluster = begun();
    let status = view::status(&cluster.state, &key(GRAPH)).unwrap();
    assert_eq!(status.revision.0, 1, "that is what answers");
    let shown = status.rollout.unwrap();
    assert_eq!((shown.revision.0, shown.stable.0, shown.step, shown.steps.len()), (2, 1, 0, 3));
    assert_eq!(shown.candidate, "it answers where it was placed");
    assert_eq!(cluster.answered(), None, "the first step is of nothing");
    let Phase::Answering { since_ms } = shown.phase else { panic!("{shown:?}") };
    assert_eq!(cluster.decided(since_ms + 59_999), None);
    assert!(matches!(cluster.decided(since_ms + 60_000), Some(RolloutChange::Next { .. })));
    cluster.change(RolloutChange::Next { why: why() });
    assert_eq!(cluster.answered(), Some((100, "n1".to_owned())));
    assert_eq!(cluster.decided(u64::MAX), None, "this step waits for somebody");
    cluster.change(RolloutChange::Next { why: why() });
    assert_eq!(cluster.answered().unwrap().0, 200);
    assert!(matches!(cluster.decided(u64::MAX), Some(RolloutChange::Promote { .. })));
    let before = cluster.state.graphs[&key(GRAPH)].generation;
    cluster.change(RolloutChange::Promote { why: why() });
    assert_eq!(cluster.answered().unwrap().0, 1_000, "while the graph changes underneath");
    let record = &cluster.state.graphs[&key(GRAPH)];
    assert!(record.generation > before && record.linked == linked_at(2, "crm.example.com"));
    assert_eq!(record.running().0, 2);
    assert_eq!(cluster.decided(u64::MAX), None, "it does not serve yet");
    cluster.serves("n1");
    assert_eq!(cluster.decided(0), Some(RolloutChange::End));
    cluster.change(RolloutChange::End);
    assert_eq!(cluster.answered(), None);
    assert!(cluster.candidate().is_some(), "those who do not know yet are answered");
    cluster.change(RolloutChange::Finish);
    assert!(cluster.candidate().is_none());
    assert_eq!(view::status(&cluster.state, &key(GRAPH)).unwrap().rollout, None);
    let assigned = view::assignment(&cluster.state, &"n1".parse().unwrap()).unwrap();
    assert_eq!(assigned.graphs.iter().map(|graph| graph.revision.0).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_revision_that_is_given_up_leaves_the_other_as_it_was() {
    let mut cluster = begun();
    cluster.change(RolloutChange::Next { why: why() });
    let before = cluster.state.graphs[&key(GRAPH)].clone();
    cluster.change(RolloutChange::Revert { why: why() });
    assert_eq!(cluster.answered(), None);
    let record = &cluster.state.graphs[&key(GRAPH)];
    assert_eq!(
        (record.generation, &record.linked),
        (before.generation, &before.linked),
        "nothing is made anew"
    );
    assert_eq!((record.number().0, record.running().0), (3, 3));
    assert_eq!(record.current().unwrap().manifest, before.revisions[0].manifest);
    assert_eq!(record.reverted, Some(Reverted { revision: model::id::RevisionNumber(2), why: why() }));
    cluster.change(RolloutChange::Finish);
    assert!(cluster.candidate().is_none());
    // What does not hold any more is refused.
    let again = cluster.changing(RolloutChange::Finish);
    assert!(matches!(cluster.refused(again), Refusal::Stale { .. }));
    assert_eq!(cluster.deploy_by_steps(linked_at(2, "crm.example.com")).0, 4, "it may be tried again");
    assert_eq!(cluster.state.graphs[&key(GRAPH)].reverted, None);
}

#[test]
fn another_revision_takes_the_place_of_one_that_has_not_taken_over() {
    let mut cluster = begun();
    let first = cluster.candidate().unwrap().uid.clone();
    let (revision, generation, unchanged) = cluster.deploy_by_steps(linked_at(3, "crm.example.com"));
    assert_eq!((revision, unchanged), (3, false));
    let candidate = cluster.candidate().unwrap();
    assert!(candidate.uid == first && candidate.placement.is_some() && candidate.generation.0 == generation);
    assert_eq!(cluster.answered(), None, "nobody is sent to the next one before it answers");
    let record = &cluster.state.graphs[&key(GRAPH)];
    assert_eq!((record.running().0, record.number().0), (1, 3), "what answers is still the first");
    assert_eq!(cluster.deploy_by_steps(linked_at(3, "crm.example.com")), (3, generation, true));
    // At once: nobody is sent to the candidate any more.
    assert_eq!(cluster.deployed(GRAPH, linked_at(4, "crm.example.com")).0, 4);
    let record = &cluster.state.graphs[&key(GRAPH)];
    assert_eq!((record.running().0, record.rollout.as_ref().unwrap().phase), (4, Phase::Ending));
    assert_eq!(record.linked, linked_at(4, "crm.example.com"));
}

#[test]
fn going_back_to_what_answers_gives_the_candidate_up() {
    let mut cluster = begun();
    let generation = cluster.state.graphs[&key(GRAPH)].generation;
    cluster.deployed(GRAPH, linked_at(1, "crm.example.com"));
    let record = &cluster.state.graphs[&key(GRAPH)];
    assert_eq!((record.generation, record.rollout.as_ref().unwrap().phase), (generation, Phase::Ending));
    cluster.change(RolloutChange::Finish);
    assert!(cluster.candidate().is_none());
}

#[test]
fn a_pause_ends_with_the_next_step_or_when_it_goes_on() {
    let mut cluster = begun();
    cluster.change(RolloutChange::Pause { why: why() });
    assert_eq!(cluster.decided(u64::MAX), None);
    let since = cluster.now_ms;
    cluster.change(RolloutChange::Resume);
    assert_eq!(cluster.decided(since + 60_000), None, "the step begins anew");
    assert!(cluster.decided(since + 60_001).is_some());
    cluster.change(RolloutChange::Pause { why: why() });
    cluster.change(RolloutChange::Next { why: why() });
    assert_eq!(cluster.state.graphs[&key(GRAPH)].rollout.as_ref().unwrap().paused, None);
    let not_paused = cluster.changing(RolloutChange::Resume);
    assert!(matches!(cluster.refused(not_paused), Refusal::Stale { .. }));
}

#[test]
fn a_graph_that_is_deleted_takes_its_candidate_with_it() {
    let mut cluster = begun();
    cluster.delete(GRAPH);
    assert!(cluster.state.graphs.is_empty());
    assert!(!cluster.is_assigned("n1"));
}

#[test]
fn a_policy_stands_on_both_revisions() {
    let mut cluster = begun();
    for of in [key(GRAPH), key(GRAPH).candidate()] {
        let record = &cluster.state.graphs[&of];
        let mut relink = cluster.relink(&of.to_string(), linked_at(5, "crm.example.com"));
        relink.revision = record.running();
        cluster.done(Body::Relink(Box::new(relink)));
        assert_eq!(cluster.state.graphs[&of].linked, linked_at(5, "crm.example.com"));
    }
    let mut newer = cluster.relink(GRAPH, linked_at(6, "crm.example.com"));
    newer.revision = cluster.state.graphs[&key(GRAPH)].number();
    assert!(
        matches!(cluster.refused(Body::Relink(Box::new(newer))), Refusal::Stale { .. }),
        "it does not run that"
    );
}

#[test]
fn data_are_of_both_revisions_and_stay_where_they_are() {
    let mut cluster = cluster();
    cluster.deployed(GRAPH, linked_with_database(1, None));
    cluster.schedule();
    cluster.serves("n1");
    cluster.admit("n1", Admission::Cordoned);
    cluster.deploy_by_steps(linked_with_database(2, None));
    cluster.schedule();
    assert_eq!(cluster.node_of("sales/crm@candidate").unwrap(), "n1", "also where nothing new comes");
    // One that the new revision adds is where its candidate has made it.
    let mut cluster = self::cluster();
    cluster.deployed(GRAPH, linked(1));
    cluster.schedule();
    cluster.serves("n1");
    cluster.deploy_by_steps(linked_with_database(2, None));
    cluster.schedule();
    cluster.serves("n1");
    cluster.change(RolloutChange::Promote { why: why() });
    assert_eq!(cluster.state.graphs[&key(GRAPH)].data.values().next().unwrap().as_str(), "n1");
}

#[test]
fn agents_that_know_no_candidates_get_none() {
    let mut cluster = cluster();
    let mut old = node("n1");
    old.level = model::node::KNOWS_REPLICAS;
    cluster.done(Body::RegisterNode(old));
    cluster.deployed(GRAPH, linked(1));
    cluster.schedule();
    cluster.serves("n1");
    cluster.deploy_by_steps(linked(2));
    assert_eq!(cluster.schedule(), 0);
    let candidate: GraphKey = key(GRAPH).candidate();
    let why = cluster::schedule::explain(&cluster.state, &candidate, &cluster.state.graphs[&candidate]);
    assert_eq!(why, ["n1 no: its agent is of an earlier version, which knows no candidates"]);
    let late = cluster.state.graphs[&key(GRAPH)].rollout.as_ref().unwrap().started_ms + 600_000;
    assert!(
        matches!(cluster.decided(late), Some(RolloutChange::Revert { why }) if why.contains("earlier version"))
    );
}

#[test]
fn the_revision_that_answers_is_kept_however_many_are_tried() {
    let mut cluster = begun();
    for number in 0..12 {
        cluster.deploy_by_steps(linked_at(3 + number % 2, "crm.example.com"));
    }
    let record = &cluster.state.graphs[&key(GRAPH)];
    assert_eq!((record.revisions[0].number.0, record.revisions.len(), record.number().0), (1, 10, 14));
    let mut promoted = cluster.clone();
    promoted.change(RolloutChange::Promote { why: why() });
    promoted.serves("n1");
    promoted.change(RolloutChange::End);
    promoted.change(RolloutChange::Finish);
    cluster.change(RolloutChange::Revert { why: why() });
    assert_eq!(cluster.state.graphs[&key(GRAPH)].linked, linked_at(1, "crm.example.com"));
}

#[test]
fn a_candidate_that_does_not_come_to_its_policy_is_given_up() {
    let mut cluster = begun();
    let candidate = key(GRAPH).candidate();
    let relink = cluster.relink(&candidate.to_string(), linked_at(5, "crm.example.com"));
    cluster.done(Body::Relink(Box::new(relink)));
    assert!(!cluster::rollout::is_well(&cluster.state, &key(GRAPH).candidate()));
    let decided = |unwell_for| {
        let record = &cluster.state.graphs[&key(GRAPH)];
        decide(&cluster.state, &key(GRAPH), record, &Evidence::default(), unwell_for, 0)
    };
    assert_eq!(decided(Duration::from_secs(599)), None);
    assert!(matches!(decided(Duration::from_secs(600)), Some(RolloutChange::Revert { .. })));
}

#[test]
fn what_was_paused_meanwhile_does_not_go_on() {
    let mut cluster = begun();
    let next = cluster.changing(RolloutChange::Next { why: why() });
    cluster.change(RolloutChange::Pause { why: why() });
    assert!(matches!(cluster.refused(next), Refusal::Stale { .. }));
}

#[test]
fn at_once_means_at_once_also_of_what_takes_over_by_steps() {
    let mut cluster = begun();
    let mut deploy = cluster.deploy(GRAPH, linked_at(2, "crm.example.com"));
    deploy.spec = GraphSpec { rollout: Some(rollout(2)), ..spec() };
    assert!(matches!(
        cluster.apply(Body::Deploy(Box::new(deploy))),
        Outcome::Deployed { unchanged: false, revision, .. } if revision.0 == 3
    ));
    assert_eq!(cluster.state.graphs[&key(GRAPH)].linked, linked_at(2, "crm.example.com"));
}

#[test]
fn steps_wait_for_a_candidate_that_does_not_answer_where_it_was_placed() {
    let mut cluster = begun();
    cluster.state_of("n1", model::node::NodeState::Down);
    assert_eq!(cluster.decided(u64::MAX), None, "nothing of it answers");
    cluster.schedule();
    assert_eq!(cluster.node_of(GRAPH), cluster.node_of("sales/crm@candidate"), "they are moved together");
    assert_eq!(cluster.decided(u64::MAX), None, "it comes up there");
    let node = cluster.node_of(GRAPH).unwrap();
    cluster.serves(&node);
    assert!(matches!(cluster.decided(u64::MAX), Some(RolloutChange::Next { .. })));
}

#[test]
fn an_agent_that_goes_back_to_an_earlier_version_is_not_told_of_candidates() {
    let mut cluster = begun();
    let before = view::assignment(&cluster.state, &"n1".parse().unwrap()).unwrap();
    let mut old = node("n1");
    old.level = model::node::KNOWS_REPLICAS;
    cluster.done(Body::RegisterNode(old));
    let now = view::assignment(&cluster.state, &"n1".parse().unwrap()).unwrap();
    assert!(now.generation > before.generation && before.graphs.len() == 2);
    assert_eq!(now.graphs.iter().map(|graph| graph.key.clone()).collect::<Vec<_>>(), [key(GRAPH)]);
    assert!(!cluster::rollout::is_well(&cluster.state, &key(GRAPH).candidate()), "it runs nowhere");
}

#[test]
fn a_candidate_with_data_stays_with_them() {
    let mut cluster = cluster();
    cluster.deployed(GRAPH, linked(1));
    cluster.schedule();
    cluster.serves("n1");
    cluster.deploy_by_steps(linked_with_database(2, None));
    cluster.schedule();
    cluster.serves("n1");
    cluster.change(RolloutChange::Begin);
    cluster.drain("n1");
    cluster.schedule();
    assert_eq!(cluster.node_of(GRAPH).unwrap(), "n2");
    assert_eq!(cluster.node_of("sales/crm@candidate").unwrap(), "n1", "its database is there");
    assert_eq!(cluster.schedule(), 0);
}

#[test]
fn a_candidate_on_more_nodes_than_its_graph_is_placed_once() {
    let mut cluster = cluster();
    cluster.deployed(GRAPH, crate::schedule::chain());
    cluster.schedule();
    cluster.serves("n1");
    let mut linked = crate::schedule::chain();
    linked.capabilities.clear();
    linked.links.retain(|link| link.to.member().is_some_and(|to| to.as_str() == "proxy"));
    linked.replicas.insert("app".parse().unwrap(), 2);
    cluster.deploy_by_steps(linked);
    assert_eq!(cluster.schedule(), 1);
    let placed = cluster.node_of("sales/crm@candidate");
    assert_eq!(cluster.schedule(), 0, "{placed:?}");
}

#[test]
fn what_is_promoted_answers_until_its_graph_does_whatever_comes() {
    let mut cluster = begun();
    cluster.change(RolloutChange::Promote { why: why() });
    assert_eq!(cluster.state.graphs[&key(GRAPH)].ran_before.unwrap().0, 1);
    let mut deploy = cluster.deploy(GRAPH, linked_at(3, "crm.example.com"));
    deploy.by_steps = true;
    deploy.spec = GraphSpec { rollout: Some(rollout(2)), ..spec() };
    assert!(matches!(cluster.refused(Body::Deploy(Box::new(deploy))), Refusal::Stale { .. }));
    assert_eq!(cluster.deployed(GRAPH, linked_at(3, "crm.example.com")).0, 3);
    assert_eq!(cluster.answered().unwrap().0, 1_000);
    assert_eq!(cluster.state.graphs[&key(GRAPH)].ran_before.unwrap().0, 2);
    cluster.serves("n1");
    assert_eq!(cluster.decided(0), Some(RolloutChange::End));
}

#[test]
fn a_candidate_that_fails_its_check_is_not_well_and_is_given_up_in_time() {
    let mut cluster = begun();
    let candidate = key(GRAPH).candidate();
    let node: model::name::NodeName = "n1".parse().unwrap();
    let mut seen = cluster.state.graphs[&candidate].observed[&node].clone();
    seen.failing = Some("app: it answered 500".to_owned());
    let accepted = cluster.state.nodes[&node].accepted;
    let mut stable = cluster.state.graphs[&key(GRAPH)].observed[&node].clone();
    stable.failing = Some("app: it answered 500".to_owned());
    let report = model::report::Report { node, accepted, graphs: vec![stable, seen] };
    cluster.done(Body::RecordReport(report));
    assert!(is_well(&cluster.state, &key(GRAPH)), "nothing waits for it");
    assert!(!is_well(&cluster.state, &candidate));
    assert_eq!(cluster.decided(u64::MAX), None, "it has a while to pass");
    let record = &cluster.state.graphs[&key(GRAPH)];
    let deadline = record.rollout.as_ref().unwrap().spec.deadline;
    let decided = decide(&cluster.state, &key(GRAPH), record, &Evidence::default(), deadline, u64::MAX);
    let Some(RolloutChange::Revert { why }) = decided else { panic!("{decided:?}") };
    assert!(why.ends_with("; failing on n1: app: it answered 500"), "{why}");
}
