//! Sequences of commands, sensible and not: the state stays sound, members agree, and refusals change nothing.

use std::collections::BTreeSet;

use cluster::command::{
    Body, ChangePolicyRollout, ChangeRollout, CreateToken, DeleteGraph, DeletePolicy, Deploy, DeployOrigin,
    Enrol, EnrolMember, LabelNode, Leave, OpenCandidate, Place, PutPolicy, Relink, RemoveNode, RequestTag,
    Rescale, RolloutChange, Scale, SetQuota, TaintNode,
};
use cluster::feature::FIRST_LEVEL;
use cluster::scaling::replicas;
use cluster::schedule::{MOVES_RESUME_MS, Planner};
use cluster::state::{GraphRecord, MemberId, REQUEST_KEPT_MS};
use cluster::{Command, FEATURE_LEVEL, State};
use model::condition::{Condition, Expression};
use model::graph::GraphSpec;
use model::id::{Generation, GraphKey, RevisionNumber, StateRevision, Uid};
use model::linked::LinkedGraph;
use model::name::NodeName;
use model::node::{Admission, NodeState};
use model::placement::{Placement, Wishes};
use model::policy::{PolicySpec, PolicyVersion};
use model::quota::Quota;
use model::report::{Failure, GraphReport, Progress, Report};
use model::reserve::{Priority, Reserves};
use model::rollout::Phase;
use model::scale::{Calls, DOWN_AFTER_DEFAULT, Scaling};
use model::unit::ByteSize;
use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};
use proptest::test_runner::TestCaseResult;

use crate::support::{
    artifact, key, linked, linked_at, linked_with_database, name, node, policy, random, rollout, spec, tag,
};

/// One thing that someone asks for. Numbers choose among few, so that commands meet.
#[derive(Debug, Clone)]
struct Asked {
    what: u8,
    /// Which graph, policy or node.
    which: u8,
    /// Which artifact, revision or node besides.
    other: u8,
    /// Whether it was decided from the state as it is, or from an older one.
    is_fresh: bool,
    /// A request id, of few.
    request: Option<u8>,
    /// How much later than the last one.
    after_ms: u64,
}

fn asked() -> impl Strategy<Value = Asked> {
    let request = proptest::option::weighted(0.3, 0_u8..6);
    let after = proptest::prop_oneof![8 => 0..1_000_u64, 1 => 0..200_000_000_u64];
    (any::<u8>(), 0_u8..4, 0_u8..8, proptest::bool::weighted(0.85), request, after).prop_map(
        |(what, which, other, is_fresh, request, after_ms)| Asked {
            what,
            which,
            other,
            is_fresh,
            request,
            after_ms,
        },
    )
}

impl Asked {
    fn graph(&self) -> String {
        format!("sales/g{}", self.which)
    }

    fn linked(&self) -> LinkedGraph {
        match self.other {
            0 => linked(0),
            1 => {
                let instances = [("app".parse().unwrap(), 1 + 5 * u32::from(self.which))].into();
                let priority = Priority::new(10 * u32::from(self.which)).unwrap();
                LinkedGraph { reserves: Reserves { priority, instances }, ..linked(1) }
            }
            2 => {
                let zone = |number: u8| [("zone".to_owned(), number.to_string().into())].into();
                let tolerate = [("gpu".to_owned(), (self.which % 3).to_string())].into();
                let wishes = Wishes { prefer: zone(self.which), avoid: zone(self.which + 1), tolerate };
                let none_of = Expression::NotIn([self.which.to_string()].into());
                let require = [("zone".to_owned(), Condition::Of(none_of))].into();
                let app = || "app".parse().unwrap();
                LinkedGraph {
                    wishes: [(app(), wishes)].into(),
                    require: [(app(), require)].into(),
                    ..linked(2)
                }
            }
            3 => {
                let app = "app".parse().unwrap();
                let spread = linked_at(3, "it.example.com");
                match self.which {
                    0 => LinkedGraph { each_node: [app].into(), ..spread },
                    which => LinkedGraph { replicas: [(app, 1 + u32::from(which))].into(), ..spread },
                }
            }
            4 => linked_with_database(1, Some(2)),
            5 | 6 => {
                let scaling = Scaling::new(1, 2 + u32::from(self.which), 10, DOWN_AFTER_DEFAULT).unwrap();
                let host = if self.other == 5 { "crm.example.com" } else { "hr.example.com" };
                let linked = linked_at(self.other - 4, host);
                LinkedGraph { scaling: [("app".parse().unwrap(), scaling)].into(), ..linked }
            }
            _ => linked(200),
        }
    }

    /// Revisions of the state as they are, or as they were.
    fn at(&self, revision: StateRevision) -> StateRevision {
        if self.is_fresh { revision } else { StateRevision(revision.0.saturating_sub(1)) }
    }

    fn body(&self, state: &State) -> Body {
        let mut key = key(&self.graph());
        // Half of what is done to graphs is done to candidates, as far as there are any.
        if self.what >= 128 && matches!(self.what % 64, 5 | 11) && state.graphs.contains_key(&key.candidate()) {
            key = key.candidate();
        }
        let record = state.graphs.get(&key);
        let number = record.map(cluster::state::GraphRecord::number);
        let uid = match record {
            Some(record) if self.is_fresh => record.uid.clone(),
            _ => format!("uid-{}", state.revision).try_into().unwrap(),
        };
        let member = MemberId(u64::from(self.which));
        match self.what % 64 {
            0..4 | 50..56 => Body::Deploy(Box::new(Deploy {
                uid,
                manifest: format!("graph: {}", self.other),
                spec: GraphSpec { rollout: (self.which > 1).then(|| rollout(self.other)), ..spec() },
                linked: self.linked(),
                by_steps: self.what.is_multiple_of(2),
                policies_at: self.at(state.policies_at),
                base: if self.is_fresh { number } else { Some(RevisionNumber(1)) },
                origin: if self.what < 200 {
                    DeployOrigin::Deploy
                } else {
                    DeployOrigin::Rollback { to: RevisionNumber(1) }
                },
                key,
            })),
            4 => Body::DeleteGraph(DeleteGraph { key, expected: if self.is_fresh { None } else { number } }),
            5 => Body::Relink(Box::new(Relink {
                key,
                uid,
                revision: number.unwrap_or_default(),
                policies_at: self.at(state.policies_at),
                linked: self.linked(),
            })),
            6 => Body::PutPolicy(Box::new(PutPolicy {
                manifest: String::new(),
                spec: PolicySpec {
                    rollout: (self.which > 1).then(|| rollout(self.other)),
                    ..policy(&format!("p{}", self.which), if self.other == 7 { 200 } else { self.other })
                },
                graphs_at: self.at(state.graphs_at),
                policies_at: self.at(state.policies_at),
                by_steps: self.what < 192,
            })),
            7 => Body::DeletePolicy(DeletePolicy {
                name: format!("p{}", self.which).parse().unwrap(),
                graphs_at: self.at(state.graphs_at),
                policies_at: self.at(state.policies_at),
            }),
            8 => Body::PutArtifact(artifact(self.other)),
            9 => {
                let mut description = node(&format!("n{}", self.which));
                description.version = format!("0.{}.0", self.other % 2);
                if !self.is_fresh {
                    description.uid = "another".to_owned().try_into().unwrap();
                }
                Body::RegisterNode(description)
            }
            10 => Body::SetNodeState {
                node: name(&format!("n{}", self.which)),
                state: if self.other.is_multiple_of(2) { NodeState::Down } else { NodeState::Ready },
                why: String::new(),
            },
            11 => {
                let mut places = cluster::schedule(state, state.now_ms);
                places.extend(record.map(|record| Place {
                    key: key.clone(),
                    uid,
                    generation: record.generation,
                    placement: self.placement(),
                }));
                Body::Place(places)
            }
            12 => Body::RecordReport(self.report(state)),
            13 => Body::CreateToken(CreateToken {
                digest: format!("token-{}", self.other),
                node: name(&format!("n{}", self.which)),
                expires_ms: state.now_ms + if self.is_fresh { 50_000_000 } else { 0 },
            }),
            14 => Body::Enrol(Enrol {
                token: format!("token-{}", self.other),
                node: name(&format!("n{}", self.which)),
                uid: if self.is_fresh { uid } else { "another".to_owned().try_into().unwrap() },
                key: format!("key-{}", self.request.unwrap_or_default()),
                revoked_until_ms: state.now_ms + 50_000_000,
            }),
            15 => Body::RevokeNode {
                node: name(&format!("n{}", self.which)),
                until_ms: state.now_ms + if self.is_fresh { 50_000_000 } else { 0 },
            },
            16 => Body::CreateMemberToken {
                digest: format!("token-{}", self.other),
                expires_ms: state.now_ms + if self.is_fresh { 50_000_000 } else { 0 },
            },
            17 => Body::EnrolMember(EnrolMember {
                token: format!("token-{}", self.other),
                key: format!("key-{}", self.request.unwrap_or_default()),
                address: format!("m{}:1", self.which),
                level: self.level(),
            }),
            18 => Body::AnnounceMember {
                member,
                address: format!("m{}:{}", self.which, self.other),
                level: self.level(),
            },
            19 => Body::PromoteMember { member },
            20 => Body::RemoveMember { member },
            21 => Body::ForgetArtifacts(vec![artifact(self.other).digest]),
            22 => Body::RaiseFeatureLevel { level: self.level() },
            23 | 44..46 => Body::AdmitNode {
                node: name(&format!("n{}", self.which)),
                admission: match self.other {
                    0..3 => Admission::Open,
                    3..5 => Admission::Cordoned,
                    _ => Admission::Draining { deadline_ms: state.now_ms },
                },
            },
            24 => Body::LabelNode(LabelNode {
                node: name(&format!("n{}", self.which)),
                set: if self.is_fresh {
                    [("zone".to_owned(), self.other.to_string())].into()
                } else {
                    [].into()
                },
                unset: ["zone".to_owned()].into(),
            }),
            25 => Body::RemoveNode(RemoveNode {
                node: name(&format!("n{}", self.which)),
                until_ms: state.now_ms + 50_000_000,
                loses_data: self.is_fresh,
            }),
            26 => Body::Leave(
                state
                    .graphs
                    .iter()
                    .filter_map(|(key, graph)| {
                        let generation = graph.leaving.as_ref()?.generation;
                        Some(Leave { key: key.clone(), uid: graph.uid.clone(), generation })
                    })
                    .collect(),
            ),
            // Most of what happens to a cluster.
            27..32 => Body::Place(cluster::schedule(state, state.now_ms + 10_000 * u64::from(self.other))),
            32 => Body::OpenCandidate(Box::new(OpenCandidate {
                key,
                uid,
                revision: record.map(cluster::state::GraphRecord::running).unwrap_or_default(),
                policy: self.taking_over(state),
                policies_at: self.at(state.policies_at),
                candidate: format!("candidate-{}", state.revision).try_into().unwrap(),
                linked: self.linked(),
            })),
            33 => Body::ChangePolicyRollout(Box::new(self.change_policy(state))),
            34 => Body::LoseNodes {
                nodes: [self.which, self.other].map(|number| name(&format!("n{number}"))).into(),
                why: String::new(),
            },
            35..44 => Body::RecordReport(self.serving(state)),
            46..50 | 56..60 => Body::ChangeRollout(Box::new(self.change(state, key, uid))),
            60 => Body::TaintNode(TaintNode {
                node: name(&format!("n{}", self.which)),
                set: if self.is_fresh {
                    [("gpu".to_owned(), (self.other % 3).to_string())].into()
                } else {
                    [].into()
                },
                unset: ["gpu".to_owned()].into(),
            }),
            62 => Body::Scale(Box::new(Scale {
                generation: record.map(|record| record.generation).unwrap_or_default(),
                changes: [("app".parse().unwrap(), self.rescale(record))].into(),
                key,
                uid,
            })),
            61 => Body::SetQuota(SetQuota { namespace: "sales".parse().unwrap(), quota: self.quota() }),
            _ => self.init(),
        }
    }

    /// To what may be out of its bounds.
    fn rescale(&self, record: Option<&GraphRecord>) -> Rescale {
        let app = "app".parse().unwrap();
        let now = record.map(|record| replicas(&record.linked, &record.scaled, &app));
        Rescale {
            from: now.unwrap_or(1),
            to: u32::from(self.other / 2),
            calls: Calls::from_thousandths(u64::from(self.other) * 10_000),
        }
    }

    /// Of some measures, or of none.
    fn quota(&self) -> Quota {
        let many = u64::from(self.which) + 2;
        Quota {
            graphs: (self.other % 2 == 1).then_some(many),
            replicas: (self.other % 4 > 1).then_some(2 * many),
            memory: (self.other > 3).then_some(ByteSize(many << 27)),
            reserved: (self.other % 3 == 1).then_some(16 * many),
            priority: (self.other % 8 == 5).then_some(Priority::DEFAULT),
        }
    }

    /// Of a revision that takes over by steps.
    fn change(&self, state: &State, key: GraphKey, uid: Uid) -> ChangeRollout {
        let record = state.graphs.get(&key);
        let rollout = record.and_then(|record| record.rollout.as_ref()).filter(|_| self.is_fresh);
        ChangeRollout {
            key,
            uid,
            revision: record.map(cluster::state::GraphRecord::number).unwrap_or_default(),
            phase: rollout.map_or(Phase::Starting, |rollout| rollout.phase),
            step: rollout.map_or(0, |rollout| rollout.step),
            is_paused: rollout.is_some_and(|rollout| rollout.paused.is_some()),
            change: self.how(rollout.map(|rollout| rollout.phase)),
        }
    }

    fn how(&self, phase: Option<Phase>) -> RolloutChange {
        let why = || "a reason".to_owned();
        match (self.other, phase) {
            (0..6, Some(Phase::Ending)) => RolloutChange::Finish,
            (0..6, Some(Phase::Promoting)) => RolloutChange::End,
            (0 | 1, _) => RolloutChange::Begin,
            (2, _) => RolloutChange::Next { why: why() },
            (3, _) => RolloutChange::Promote { why: why() },
            (4, _) => RolloutChange::Revert { why: why() },
            (5, _) => RolloutChange::Pause { why: why() },
            (6, _) => RolloutChange::Resume,
            _ => RolloutChange::Finish,
        }
    }

    /// The version of a policy that takes over by steps, or one that does not.
    fn taking_over(&self, state: &State) -> PolicyVersion {
        let records = state.policies.iter().filter(|_| self.is_fresh);
        let mut found =
            records.filter_map(|(name, record)| Some((name.clone(), record.taking_over()?.generation)));
        let (name, generation) =
            found.next_back().unwrap_or_else(|| (format!("p{}", self.which).parse().unwrap(), Generation(1)));
        PolicyVersion { name, generation }
    }

    /// Of a version of a policy that takes over by steps.
    fn change_policy(&self, state: &State) -> ChangePolicyRollout {
        let PolicyVersion { name, generation } = self.taking_over(state);
        let rollout = state.policies.get(&name).and_then(|record| record.rollout.as_ref());
        ChangePolicyRollout {
            generation,
            phase: rollout.map_or(Phase::Starting, |rollout| rollout.phase),
            step: rollout.map_or(0, |rollout| rollout.step),
            is_paused: rollout.is_some_and(|rollout| rollout.paused.is_some()),
            change: self.how(rollout.map(|rollout| rollout.phase)),
            name,
        }
    }

    fn init(&self) -> Body {
        let cluster = format!("c{}", self.which).try_into().unwrap();
        Body::InitCluster { cluster, level: self.level() }
    }

    fn level(&self) -> u32 {
        if self.is_fresh { FEATURE_LEVEL } else { FIRST_LEVEL }
    }

    /// Whole on one node, or with a part on another.
    fn placement(&self) -> Placement {
        let mut placement = Placement::whole(name(&format!("n{}", self.other)));
        if self.is_fresh {
            placement.away.insert("app".parse().unwrap(), name(&format!("n{}", self.which)));
        }
        placement
    }

    fn report(&self, state: &State) -> Report {
        let node = name(&format!("n{}", self.which));
        let on_it = state.graphs.iter().filter(|(_, graph)| graph.is_on(&node));
        let graphs = on_it.map(|(key, graph)| GraphReport {
            key: key.clone(),
            uid: graph.uid.clone(),
            serving: self.other.is_multiple_of(2).then_some(graph.generation),
            desired: if self.is_fresh { graph.generation } else { Generation(graph.generation.0 + 1) },
            progress: match self.other {
                0..3 => Progress::Serving,
                3 => Progress::Failed(Failure { reason: "start_failed".to_owned(), message: String::new() }),
                _ => Progress::Compiling,
            },
            failing: (self.is_fresh && self.other == 2).then(|| format!("check {}", self.which)),
        });
        let assigned = state.nodes.get(&node).map(|node| node.assigned_at).unwrap_or_default();
        let accepted = match self.other {
            6 => Generation(assigned.0 + 1),
            7 => Generation(assigned.0.saturating_sub(1)),
            _ => assigned,
        };
        Report { node: node.clone(), accepted, graphs: graphs.collect() }
    }

    /// Of a node that serves all that it should.
    fn serving(&self, state: &State) -> Report {
        let node = name(&format!("n{}", self.which));
        let assignment = cluster::view::assignment(state, &node);
        let accepted = assignment.as_ref().map(|assignment| assignment.generation).unwrap_or_default();
        let graphs = assignment.into_iter().flat_map(|assignment| assignment.graphs).map(|graph| GraphReport {
            key: graph.key,
            uid: graph.uid,
            serving: Some(graph.generation),
            desired: graph.generation,
            progress: Progress::Serving,
            failing: (self.is_fresh && self.other > 5).then(|| format!("check {}", self.other)),
        });
        Report { node, accepted, graphs: graphs.collect() }
    }

    fn tag(&self) -> Option<RequestTag> {
        let id = self.request?;
        Some(tag(&format!("r{id}"), &format!("{}-{}", self.what % 14, self.which)))
    }
}

/// Applies all, on two members; gives the commands as the log has them.
fn run(all: &[Asked]) -> Result<(State, Vec<Command>), proptest::test_runner::TestCaseError> {
    let mut state = State::default();
    let mut log = Vec::new();
    let mut now_ms = 0;
    for (number, asked) in all.iter().enumerate() {
        now_ms += asked.after_ms;
        // As every log begins.
        let body = match number {
            0 => asked.init(),
            // Without these there is little to deploy.
            1..=2 => Body::PutArtifact(artifact(if number == 1 { 1 } else { 2 })),
            _ => asked.body(&state),
        };
        let command = Command { now_ms, request: asked.tag(), body };
        let before = state.clone();
        let known = command.request.as_ref().filter(|tag| is_known(&before, tag, now_ms));
        let outcome = state.apply(&command);
        prop_assert_eq!(cluster::check(&state), Vec::<String>::new(), "{:?} after {:?}", outcome, command);
        is_lawful(&before, &state, &outcome, known.is_some())?;
        log.push(command);
    }
    Ok((state, log))
}

/// Whether a request was applied within the last day.
fn is_known(state: &State, tag: &RequestTag, now_ms: u64) -> bool {
    let mut ages = state.request_ages.iter();
    ages.any(|(time_ms, id)| *id == tag.id && now_ms - time_ms <= REQUEST_KEPT_MS)
}

/// What holds of every step.
fn is_lawful(before: &State, after: &State, outcome: &cluster::Outcome, was_known: bool) -> TestCaseResult {
    prop_assert!(after.revision.0 - before.revision.0 <= 1, "one command, one revision");
    prop_assert!(after.now_ms >= before.now_ms);
    let is_refused = matches!(outcome, cluster::Outcome::Refused(_));
    if is_refused || after.revision == before.revision {
        prop_assert_eq!(&after.graphs, &before.graphs);
        prop_assert_eq!(&after.policies, &before.policies);
        prop_assert_eq!(&after.nodes, &before.nodes);
        prop_assert_eq!(&after.namespaces, &before.namespaces);
        prop_assert_eq!(&after.artifacts, &before.artifacts);
        prop_assert_eq!(&after.events, &before.events);
        prop_assert_eq!(after.revision, before.revision);
    }
    if was_known {
        prop_assert_eq!(after.revision, before.revision, "applied once");
    }
    // Nodes never see a generation go back.
    for (name, node) in &after.nodes {
        if let Some(known) = before.nodes.get(name) {
            prop_assert!(node.assigned_at >= known.assigned_at);
            prop_assert!(node.accepted >= known.accepted);
        }
        let (then, now) = (cluster::view::assignment(before, name), cluster::view::assignment(after, name));
        if let (Some(then), Some(now)) = (then, now) {
            prop_assert!(then.graphs == now.graphs || then.generation < now.generation, "{name}");
        }
    }
    for (key, graph) in &after.graphs {
        if let Some(known) = before.graphs.get(key) {
            prop_assert!(graph.generation >= known.generation);
            prop_assert!(graph.uid == known.uid);
        } else {
            prop_assert_eq!(graph.generation.0, after.revision.0, "a new graph has a new generation");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(random(256))]

    #[test]
    fn the_state_stays_sound(all in vec(asked(), 1..120)) {
        let (state, log) = run(&all)?;
        // Another member reaches the same state from the same log.
        let mut member = State::default();
        log.iter().for_each(|command| drop(member.apply(command)));
        prop_assert_eq!(&member, &state);
        // And one that starts from a snapshot of it.
        let text = serde_json::to_string(&state).unwrap();
        let restored: State = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&restored, &state);
        prop_assert_eq!(serde_json::to_string(&restored).unwrap(), text);
    }

    #[test]
    fn a_planned_state_plans_to_nothing(all in vec(asked(), 1..80)) {
        let (mut state, _) = run(&all)?;
        let places = cluster::schedule(&state, state.now_ms);
        prop_assert_eq!(&places, &cluster::schedule(&state, state.now_ms), "twice the same");
        for place in &places {
            let record = &state.graphs[&place.key];
            prop_assert!(record.placement.as_ref() != Some(&place.placement));
            // A candidate goes where its graph is, and waits with it for a node that is down.
            let new = place.placement.nodes().into_iter().filter(|node| !record.is_on(node));
            for node in new.filter(|_| !place.key.is_candidate) {
                prop_assert_eq!(state.nodes[node].state, NodeState::Ready);
            }
        }
        if !places.is_empty() {
            let body = Body::Place(places);
            let outcome = state.apply(&Command { now_ms: state.now_ms, request: None, body });
            prop_assert!(!matches!(outcome, cluster::Outcome::Refused(_)), "{outcome:?}");
        }
        prop_assert_eq!(cluster::schedule(&state, state.now_ms), vec![]);
        for (key, record) in state.graphs.iter().filter(|(_, record)| record.placement.is_none()) {
            let why = cluster::schedule::explain(&state, key, record);
            prop_assert!(why.iter().all(|line| !line.contains("fits")), "{why:?}");
        }
    }

    #[test]
    fn a_planner_with_a_past_plans_what_one_without_plans(
        all in vec(asked(), 1..80),
        looks in vec((0..4_usize, 0..4_usize, 0..3_u64), 1..80),
    ) {
        let (_, log) = run(&all)?;
        let (mut state, mut planner) = (State::default(), Planner::default());
        // How many commands come before the next look, how many nodes are suspect then, and how late it is made.
        let mut looks = looks.iter().cycle();
        let mut left = 0;
        for command in &log {
            state.apply(command);
            if left > 0 {
                left -= 1;
                continue;
            }
            let Some((commands, silent, late)) = looks.next() else { break };
            left = *commands;
            let suspects: BTreeSet<NodeName> = state.nodes.keys().take(*silent).cloned().collect();
            let later_ms = state.now_ms + late * MOVES_RESUME_MS;
            let none = BTreeSet::new();
            let (first, second) = if silent % 2 == 0 { (&suspects, &none) } else { (&none, &suspects) };
            for (now_ms, suspects) in [(state.now_ms, first), (later_ms, second)] {
                let planned = planner.plan(&state, now_ms, suspects);
                prop_assert_eq!(planned, Planner::default().plan(&state, now_ms, suspects), "{:?}", command);
            }
        }
        // Many graphs come and go at one time, as by a snapshot.
        let mut other = state.clone();
        other.graphs = other.graphs.into_iter().skip(1).step_by(2).collect();
        for state in [&other, &state] {
            let planned = planner.plan(state, state.now_ms, &BTreeSet::new());
            prop_assert_eq!(planned, cluster::schedule(state, state.now_ms));
        }
    }
}

/// The commands are of use only if many of them are done.
#[test]
fn most_commands_meet_something() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut revisions, mut graphs, mut observed, mut policies, mut moved) = (0, 0, 0, 0, 0);
    let (mut promoted, mut reverted, mut scaled) = (0, 0, 0);
    for _ in 0..100 {
        let all = vec(asked(), 240..241).new_tree(&mut runner).unwrap().current();
        let (state, _) = run(&all).unwrap();
        revisions += state.revision.0;
        graphs += state.graphs.len();
        observed += state.graphs.values().filter(|graph| !graph.observed.is_empty()).count();
        policies += state.policies.len();
        let count = |reason| state.events.iter().filter(|event| event.reason == reason).count();
        moved += count("moved");
        promoted += count("promoted");
        reverted += count("reverted");
        scaled += count("scaled_up") + count("scaled_down");
    }
    assert!(promoted > 5 && reverted > 5 && scaled > 5, "{promoted} {reverted} {scaled}");
    assert!(
        revisions > 1_000 && graphs > 50 && observed > 5 && policies > 10 && moved > 5,
        "{revisions} {graphs} {observed} {policies} {moved}"
    );
}
