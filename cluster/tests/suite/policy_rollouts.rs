//! Versions of policies that take over by steps: the candidates of the graphs that they concern, and what becomes of them.

use std::time::Duration;

use cluster::command::{Body, ChangePolicyRollout, ChangeRollout, OpenCandidate, PutPolicy, RolloutChange};
use cluster::outcome::{Outcome, Refusal};
use cluster::rollout::{Asked, Evidence, Traffic, decide, decide_policy};
use cluster::state::{GraphRecord, PolicyRecord};
use cluster::view;
use model::id::{Generation, GraphKey};
use model::linked::LinkedGraph;
use model::policy::{PolicySpec, PolicyVersion};
use model::rollout::Phase;
use model::traffic::Counts;

use crate::moves::cluster;
use crate::support::{Cluster, key, linked_at, policy, rollout};

const GRAPHS: [&str; 2] = ["sales/crm", "sales/hr"];

impl Cluster {
    /// A version of pii that takes over by three steps: 0 % for a minute, 10 % without an end, 20 % for a minute.
    fn put_by_steps(&self, name: &str, artifact: u8) -> PutPolicy {
        let spec = PolicySpec { rollout: Some(rollout(2)), ..policy(name, artifact) };
        PutPolicy { spec, by_steps: true, ..self.put(name, artifact) }
    }

    fn puts(&mut self, put: PutPolicy) -> (Generation, bool) {
        match self.apply(Body::PutPolicy(Box::new(put))) {
            Outcome::PolicyPut { generation, unchanged, .. } => (generation, unchanged),
            other => panic!("{other:?}"),
        }
    }

    fn pii(&self) -> &PolicyRecord {
        &self.state.policies[&"pii".parse::<model::name::PolicyName>().unwrap()]
    }

    fn graph(&self, graph: &str) -> &GraphRecord {
        &self.state.graphs[&key(graph)]
    }

    fn opening(&self, graph: &str, linked: LinkedGraph) -> Body {
        let (key, record): (GraphKey, _) = (key(graph), self.graph(graph));
        let generation = self.pii().taking_over().map_or(Generation(0), |version| version.generation);
        Body::OpenCandidate(Box::new(OpenCandidate {
            key,
            uid: record.uid.clone(),
            revision: record.running(),
            policy: PolicyVersion { name: "pii".parse().unwrap(), generation },
            policies_at: self.state.policies_at,
            candidate: format!("candidate-{}", self.state.revision).try_into().unwrap(),
            linked,
        }))
    }

    fn changing_policy(&self, change: RolloutChange) -> Body {
        let record = self.pii();
        let rollout = record.rollout.as_ref();
        Body::ChangePolicyRollout(Box::new(ChangePolicyRollout {
            name: "pii".parse().unwrap(),
            generation: record.versions.last().unwrap().generation,
            phase: rollout.map_or(Phase::Starting, |rollout| rollout.phase),
            step: rollout.map_or(0, |rollout| rollout.step),
            is_paused: rollout.is_some_and(|rollout| rollout.paused.is_some()),
            change,
        }))
    }

    /// Of one graph that is asked with it.
    fn changing_graph(&self, graph: &str, change: RolloutChange) -> Body {
        let record = self.graph(graph);
        let rollout = record.rollout.as_ref().unwrap();
        Body::ChangeRollout(Box::new(ChangeRollout {
            key: key(graph),
            uid: record.uid.clone(),
            revision: record.number(),
            phase: rollout.phase,
            step: rollout.step,
            is_paused: false,
            change,
        }))
    }

    fn change_policy(&mut self, change: RolloutChange) {
        let body = self.changing_policy(change);
        self.done(body);
    }

    /// What each graph's candidate answers, in thousandths.
    fn shares(&self) -> Vec<(String, u16)> {
        let map = view::route_map(&self.state).unwrap();
        let share = |candidate: &model::routing::Candidate| {
            (candidate.graph.to_string(), candidate.share.thousandths())
        };
        map.candidates.iter().map(share).collect()
    }

    fn asked(&self, evidence: impl Fn(&GraphKey) -> Evidence, unwell_for: Duration) -> Vec<Asked> {
        let keys = GRAPHS.map(key).into_iter();
        let asked = keys.filter(|key| self.state.graphs[key].open_policy().is_some());
        asked.map(|key| Asked { evidence: evidence(&key), key, unwell_for }).collect()
    }

    fn decided_of_policy(&self, now_ms: u64) -> Option<RolloutChange> {
        let asked = self.asked(|_| Evidence::default(), Duration::ZERO);
        decide_policy(&self.state, self.pii(), &asked, now_ms)
    }
}

fn host(graph: &str) -> String {
    format!("{}.example.com", graph.split('/').next_back().unwrap())
}

/// Two graphs that serve on n1, and a version of pii that concerns both; their candidates are not placed yet.
fn started() -> Cluster {
    let mut cluster = cluster();
    for graph in GRAPHS {
        cluster.deployed(graph, linked_at(1, &host(graph)));
    }
    cluster.schedule();
    serve(&mut cluster);
    let put = cluster.put_by_steps("pii", 5);
    cluster.puts(put);
    assert_eq!(cluster.last_event(), "policy/pii rollout_started");
    for graph in GRAPHS {
        let body = cluster.opening(graph, linked_at(2, &host(graph)));
        cluster.done(body);
        assert_eq!(cluster.last_event(), format!("graph/{graph} policy_candidate"));
    }
    cluster
}

fn serve(cluster: &mut Cluster) {
    let nodes: Vec<String> = cluster.state.nodes.keys().map(ToString::to_string).collect();
    nodes.iter().for_each(|node| cluster.serves(node));
}

/// The same, at the step that answers 10 %.
fn answering() -> Cluster {
    let mut cluster = started();
    cluster.schedule();
    serve(&mut cluster);
    cluster.change_policy(RolloutChange::Begin);
    cluster.change_policy(RolloutChange::Next { why: "it is time".to_owned() });
    cluster
}

#[test]
fn every_graph_that_it_concerns_has_a_candidate_before_any_is_asked() {
    let mut cluster = started();
    assert_eq!(cluster.pii().current(), None, "there was no such policy");
    assert_eq!(cluster.decided_of_policy(10_000), None, "they are placed first");
    assert_eq!(cluster.schedule(), 2);
    for graph in GRAPHS {
        let candidate = &cluster.state.graphs[&key(graph).candidate()];
        assert_eq!(candidate.placement, cluster.graph(graph).placement, "it is beside its graph");
        assert_eq!((candidate.number(), cluster.graph(graph).number().0), (cluster.graph(graph).number(), 1));
    }
    assert_eq!(cluster.decided_of_policy(10_000), None, "they answer first");
    serve(&mut cluster);
    assert_eq!(cluster.decided_of_policy(10_000), Some(RolloutChange::Begin));
    cluster.change_policy(RolloutChange::Begin);
    assert_eq!(cluster.shares(), [], "its first step is of none");
    cluster.change_policy(RolloutChange::Next { why: "it is time".to_owned() });
    let tenth = GRAPHS.map(|graph| (graph.to_owned(), 100));
    assert_eq!(cluster.shares(), tenth, "at one moment for all of them");
    let status = view::status(&cluster.state, &key(GRAPHS[0])).unwrap();
    assert_eq!((status.rollout, status.policy_rollout.unwrap().step), (None, 1));
    let status = view::policy_rollout(&cluster.state, cluster.pii()).unwrap();
    assert_eq!((status.count, status.step, status.stable), (2, 1, None));
}

#[test]
fn promoted_the_graphs_are_what_their_candidates_were_and_the_version_is_in_force() {
    let mut cluster = answering();
    let version = cluster.pii().taking_over().unwrap().generation;
    cluster.change_policy(RolloutChange::Promote { why: "somebody asked for it".to_owned() });
    assert_eq!(cluster.last_event(), "policy/pii promoted");
    assert_eq!(cluster.pii().current().map(|current| current.generation), Some(version));
    assert_eq!(cluster.state.policies_at, cluster.state.revision, "the others are linked again");
    let all = GRAPHS.map(|graph| (graph.to_owned(), 1_000));
    assert_eq!(cluster.shares(), all, "until the graphs answer themselves");
    for graph in GRAPHS {
        assert_eq!(cluster.graph(graph).linked, linked_at(2, &host(graph)));
        assert_eq!((cluster.graph(graph).number().0, cluster.graph(graph).ran_before), (1, None));
        assert!(cluster.graph(graph).is_promoting());
    }
    serve(&mut cluster);
    for graph in GRAPHS {
        let decided = |cluster: &Cluster| {
            let record = cluster.graph(graph);
            decide(&cluster.state, &key(graph), record, &Evidence::default(), Duration::ZERO, 0)
        };
        assert_eq!(decided(&cluster), Some(RolloutChange::End));
    }
}

#[test]
fn given_up_no_graph_is_touched_and_the_version_in_force_stays() {
    let mut cluster = cluster();
    cluster.deployed(GRAPHS[0], linked_at(1, &host(GRAPHS[0])));
    cluster.schedule();
    serve(&mut cluster);
    let put = cluster.put("pii", 4);
    let (first, _) = cluster.puts(put);
    let put = cluster.put_by_steps("pii", 5);
    let (second, _) = cluster.puts(put);
    let body = cluster.opening(GRAPHS[0], linked_at(2, &host(GRAPHS[0])));
    cluster.done(body);
    let before = cluster.graph(GRAPHS[0]).generation;
    assert_eq!(cluster.pii().current().unwrap().generation, first);
    cluster.change_policy(RolloutChange::Revert { why: "it fails".to_owned() });
    assert_eq!(cluster.last_event(), "policy/pii reverted");
    assert_eq!(cluster.pii().current().unwrap().generation, first);
    assert_eq!(cluster.pii().versions.last().unwrap().given_up.as_deref(), Some("it fails"));
    assert_eq!(cluster.graph(GRAPHS[0]).generation, before);
    assert_eq!(cluster.graph(GRAPHS[0]).rollout.as_ref().unwrap().phase, Phase::Ending);
    // What was given up can be tried again, and is another version.
    let put = cluster.put_by_steps("pii", 5);
    let (third, unchanged) = cluster.puts(put);
    assert!(third > second && !unchanged);
    assert_eq!(cluster.pii().current().unwrap().generation, first);
    let put = cluster.put_by_steps("pii", 5);
    assert_eq!(cluster.puts(put), (third, true), "it does so already");
}

#[test]
fn what_is_wanted_at_once_takes_the_place_of_what_takes_over() {
    let mut cluster = answering();
    let put = cluster.put("pii", 6);
    let (at_once, _) = cluster.puts(put);
    assert_eq!(cluster.pii().current().unwrap().generation, at_once);
    assert!(cluster.pii().rollout.is_none());
    assert_eq!(cluster.shares(), [], "nobody is sent to the candidates any more");
    let refusal = cluster.refused(cluster.opening(GRAPHS[0], linked_at(2, &host(GRAPHS[0]))));
    assert!(matches!(refusal, Refusal::Stale { .. }), "{refusal}");
}

#[test]
fn a_policy_that_is_deleted_takes_over_nothing() {
    let mut cluster = answering();
    let delete = cluster.delete_policy("pii");
    cluster.done(Body::DeletePolicy(delete));
    assert_eq!(cluster.shares(), []);
}

#[test]
fn one_policy_at_a_time_takes_over_by_steps() {
    let mut cluster = answering();
    let refusal = cluster.refused(Body::PutPolicy(Box::new(cluster.put_by_steps("trace", 6))));
    let Refusal::PolicyRolloutOpen { name } = &refusal else { panic!("{refusal}") };
    assert_eq!(name, "pii");
    let put = cluster.put("trace", 6);
    cluster.puts(put);
    assert!(cluster.pii().rollout.is_some(), "another one at once does not end it");
}

#[test]
fn a_graph_that_is_deployed_meanwhile_leaves_and_comes_back_where_the_others_are() {
    let mut cluster = answering();
    let (graph, other) = (GRAPHS[0], GRAPHS[1]);
    let unchanged = cluster.deployed(graph, linked_at(1, &host(graph)));
    assert!(unchanged.2, "that is what it is");
    cluster.deployed(graph, linked_at(3, &host(graph)));
    assert_eq!(cluster.shares(), [(other.to_owned(), 100)]);
    let refusal = cluster.refused(cluster.opening(graph, linked_at(4, &host(graph))));
    assert!(matches!(refusal, Refusal::Stale { .. }), "its candidate is not let go of yet: {refusal}");
    let graphs_at = cluster.state.graphs_at;
    let finish = cluster.changing_graph(graph, RolloutChange::Finish);
    cluster.done(finish);
    assert!(cluster.state.graphs_at > graphs_at, "it is looked at again");
    let body = cluster.opening(graph, linked_at(4, &host(graph)));
    cluster.done(body);
    assert_eq!(cluster.shares(), [(other.to_owned(), 100)], "it does not answer yet");
    let decided = |cluster: &Cluster| {
        decide(&cluster.state, &key(graph), cluster.graph(graph), &Evidence::default(), Duration::ZERO, 0)
    };
    assert_eq!(decided(&cluster), None);
    cluster.schedule();
    serve(&mut cluster);
    assert_eq!(decided(&cluster), Some(RolloutChange::Begin));
    let begin = cluster.changing_graph(graph, RolloutChange::Begin);
    cluster.done(begin);
    assert_eq!(cluster.shares().len(), 2);
}

#[test]
fn one_graph_that_does_worse_ends_it_for_all() {
    let cluster = answering();
    let counts = |requests, failures| Counts { requests, failures, latencies: vec![requests] };
    let evidence = |key: &GraphKey| {
        let failures = if *key == crate::support::key(GRAPHS[1]) { 30 } else { 0 };
        let step = Traffic { stable: counts(900, 0), candidate: counts(100, failures) };
        Evidence { stable: step.stable.clone(), step }
    };
    let asked = cluster.asked(evidence, Duration::ZERO);
    let Some(RolloutChange::Revert { why }) = decide_policy(&cluster.state, cluster.pii(), &asked, 0) else {
        panic!("it is given up")
    };
    assert!(
        why.starts_with("with sales/hr, 30 of its 100 requests failed, and 0 of 900 of the version"),
        "{why}"
    );
    let healthy = cluster.asked(|_| Evidence::default(), Duration::ZERO);
    assert_eq!(decide_policy(&cluster.state, cluster.pii(), &healthy, u64::MAX), None, "it waits for somebody");
}

#[test]
fn a_few_failures_of_each_of_many_graphs_end_it_too() {
    let cluster = answering();
    let counts = |requests, failures| Counts { requests, failures, latencies: vec![requests] };
    // Neither is sure alone, of two.
    let evidence = |candidate: Counts| {
        let step = Traffic { stable: counts(900, 0), candidate };
        Evidence { stable: step.stable.clone(), step }
    };
    let one = cluster.asked(
        |key| evidence(if key.graph.as_str() == "hr" { counts(40, 5) } else { counts(1_000, 0) }),
        Duration::ZERO,
    );
    assert_eq!(decide_policy(&cluster.state, cluster.pii(), &one, 0), None);
    let both = cluster.asked(|_| evidence(counts(40, 5)), Duration::ZERO);
    let decided = decide_policy(&cluster.state, cluster.pii(), &both, 0);
    assert!(matches!(decided, Some(RolloutChange::Revert { .. })), "{decided:?}");
}

#[test]
fn a_graph_that_does_not_come_to_it_has_the_deadline() {
    let mut cluster = answering();
    let put = cluster.put("pii", 6);
    cluster.puts(put);
    let cluster = started();
    let late = |minutes: u64| cluster.asked(|_| Evidence::default(), Duration::from_secs(60 * minutes));
    assert_eq!(decide_policy(&cluster.state, cluster.pii(), &late(9), 0), None);
    let Some(RolloutChange::Revert { why }) = decide_policy(&cluster.state, cluster.pii(), &late(10), 0) else {
        panic!("it is late")
    };
    assert!(
        why.starts_with("with sales/crm, it does not answer as it should after 10m: it is on no node"),
        "{why}"
    );
}
