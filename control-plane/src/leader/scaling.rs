//! Scales components by their calls: looks at what is under way, and proposes what `cluster::scaling` decides.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cluster::command::{Body, Rescale, Scale};
use cluster::rollout::is_well;
use cluster::scaling::{Demand, decide, is_settled, needed, replicas};
use cluster::state::GraphRecord;
use cluster::{Command, State};
use model::id::{Generation, GraphKey, Uid};
use model::name::ComponentName;
use model::scale::Calls;
use tokio_util::sync::CancellationToken;

use crate::calls::CallsBook;
use crate::raft::Handle;

/// How often they are looked at: more often than agents tell.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a member leads, or a graph answers where it was placed, before there are more nodes though not all of those that
/// it has have told: what is known is enough to see that there is too much.
const TOLD_AFTER: Duration = Duration::from_secs(3);
/// The same where not all nodes serve that were decided on last: longer than most graphs take to start. One that never does
/// must not keep the others from getting help.
const STARTED_AFTER: Duration = Duration::from_secs(15);

/// A graph with components that are scaled, as far as this member has seen it.
struct Seen {
    uid: Uid,
    generation: Generation,
    /// Since when it answers at the generation that was last decided, everywhere or on some of its nodes.
    settled: Option<Instant>,
    demands: BTreeMap<ComponentName, Demand>,
}

/// Looks at all of them, whenever this member leads, until `stop`.
pub(super) async fn run(raft: Handle, calls: CallsBook, stop: CancellationToken) {
    let begun = Instant::now();
    let mut seen: BTreeMap<GraphKey, Seen> = BTreeMap::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        if !raft.is_leader() {
            seen.clear();
            calls.clear();
            continue;
        }
        let state = raft.state();
        calls.keep(&state);
        for body in look(&state, &calls, &mut seen, begun) {
            let command = Command { now_ms: raft.now_ms(), request: None, body };
            if let Err(error) = raft.propose_as_leader(command).await {
                tracing::warn!(%error, "a graph is not scaled yet");
            }
        }
    }
}

/// What is to be done. Time is what has passed since `begun`.
fn look(state: &State, calls: &CallsBook, seen: &mut BTreeMap<GraphKey, Seen>, begun: Instant) -> Vec<Body> {
    let scaled =
        state.graphs.iter().filter(|(key, graph)| !key.is_candidate && !graph.linked.scaling.is_empty());
    let (mut bodies, mut now) = (Vec::new(), BTreeMap::new());
    for (key, record) in scaled {
        let known = seen.remove(key).filter(|known| known.uid == record.uid);
        let mut known = known.unwrap_or_else(|| Seen {
            uid: record.uid.clone(),
            generation: record.generation,
            settled: None,
            demands: BTreeMap::new(),
        });
        let is_as_before = known.generation == record.generation;
        known.generation = record.generation;
        known.settled = match is_settled(state, record) {
            true => known.settled.filter(|_| is_as_before).or_else(|| Some(Instant::now())),
            false => None,
        };
        let changes = changes(state, calls, (key, record), &mut known, begun);
        if !changes.is_empty() {
            // What is told of the time until now says nothing of what comes of it.
            known.settled = known.settled.map(|_| Instant::now());
            let (key, uid, generation) = (key.clone(), record.uid.clone(), record.generation);
            bodies.push(Body::Scale(Box::new(Scale { key, uid, generation, changes })));
        }
        now.insert(key.clone(), known);
    }
    *seen = now;
    bodies
}

/// The components of a graph that should run on other numbers of nodes.
fn changes(
    state: &State,
    calls: &CallsBook,
    (key, record): (&GraphKey, &GraphRecord),
    known: &mut Seen,
    begun: Instant,
) -> BTreeMap<ComponentName, Rescale> {
    let at = begun.elapsed();
    // One that comes up may be asked for more than it has been.
    let has_candidate = state.graphs.contains_key(&key.candidate());
    let is_whole_well = !has_candidate || is_well(state, &key.candidate());
    let serves_everywhere = is_well(state, key);
    let mut changes = BTreeMap::new();
    known.demands.retain(|name, _| record.linked.scaling.contains_key(name));
    for (name, scaling) in &record.linked.scaling {
        let from = replicas(&record.linked, &record.scaled, name);
        let reading = known.settled.map(|since| (since, calls.read(state, key, name, Some(since))));
        let known_of = reading.filter(|(_, reading)| reading.is_whole && is_whole_well && serves_everywhere);
        // What is not known may be as much as there is room for.
        let count = known_of.map_or(from, |(_, reading)| needed(scaling, reading.calls));
        let demand = known.demands.entry(name.clone()).or_insert_with(|| Demand::new(at, from));
        demand.note(at, count, scaling.down_after());
        let Some((since, reading)) = reading else { continue };
        let waits = match (serves_everywhere, reading.is_whole) {
            (true, true) => Duration::ZERO,
            (true, false) => TOLD_AFTER,
            (false, _) => STARTED_AFTER,
        };
        if since.elapsed() < waits {
            continue;
        }
        // The others answer for one that fails, which is as good as fully used.
        let fully_used = u64::from(reading.failing) * u64::from(scaling.concurrency()) * 1_000;
        let borne = reading.calls.and(Calls::from_thousandths(fully_used));
        if let Some(to) = decide(scaling, from, borne, demand.most()) {
            changes.insert(name.clone(), Rescale { from, to, calls: reading.calls });
        }
    }
    changes
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use cluster::command::{Deploy, DeployOrigin};
    use cluster::{FEATURE_LEVEL, Outcome, view};
    use model::digest::Digest;
    use model::graph::{Artifact, GraphSpec, Settings, Wiring};
    use model::linked::{LinkedComponent, LinkedGraph, Origin};
    use model::name::NodeName;
    use model::node::{AGENT_LEVEL, Capacity, NodeDescription};
    use model::report::{GraphReport, Progress, Report};
    use model::reserve::Reserves;
    use model::scale::{DOWN_AFTER_DEFAULT, Scaling};

    use super::*;

    fn apply(state: &mut State, body: Body) {
        let outcome = state.apply(&Command { now_ms: 1_000, request: None, body });
        assert!(!matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    }

    fn node(name: &str) -> NodeDescription {
        NodeDescription {
            name: name.parse().unwrap(),
            uid: name.to_owned().try_into().unwrap(),
            api_address: format!("{name}:1"),
            ingress_address: format!("{name}:2"),
            version: String::new(),
            labels: BTreeMap::new(),
            capabilities: Vec::new(),
            capacity: Capacity { memory_bytes: 8 << 30, cpus: 1, instances: 1_000 },
            level: AGENT_LEVEL,
        }
    }

    /// A graph of one component that is scaled to 3 of these nodes at the most.
    fn deploy(artifact: Artifact) -> Deploy {
        let (origin, exports, settings) = (Origin::Graph, Vec::new(), Settings::default());
        let component = LinkedComponent { origin, artifact, exports, settings };
        let app: ComponentName = "app".parse().unwrap();
        let scaling = [(app.clone(), Scaling::new(1, 3, 10, DOWN_AFTER_DEFAULT).unwrap())].into();
        Deploy {
            key: "shop/web".parse().unwrap(),
            uid: "u".to_owned().try_into().unwrap(),
            manifest: String::new(),
            spec: GraphSpec {
                labels: BTreeMap::new(),
                wiring: Wiring::Inferred,
                ingress: Vec::new(),
                components: BTreeMap::new(),
                capabilities: BTreeMap::new(),
                links: Vec::new(),
                require: BTreeMap::new(),
                replicas: BTreeMap::new(),
                each_node: std::collections::BTreeSet::new(),
                scaling: BTreeMap::new(),
                wishes: BTreeMap::new(),
                reserves: Reserves::default(),
                rollout: None,
            },
            linked: LinkedGraph { components: [(app, component)].into(), scaling, ..LinkedGraph::default() },
            policies_at: model::id::StateRevision::default(),
            base: None,
            origin: DeployOrigin::Deploy,
            by_steps: false,
        }
    }

    /// A leader's sight of a cluster whose agents do what they are told at once.
    struct Leader {
        state: State,
        calls: CallsBook,
        seen: BTreeMap<GraphKey, Seen>,
        begun: Instant,
    }

    impl Leader {
        fn new() -> Self {
            let mut state = State::default();
            let cluster = "c".to_owned().try_into().unwrap();
            apply(&mut state, Body::InitCluster { cluster, level: FEATURE_LEVEL });
            let artifact = Artifact { digest: Digest::from_bytes([1; 32]), size: 1 };
            apply(&mut state, Body::PutArtifact(artifact));
            for name in ["n1", "n2", "n3"] {
                apply(&mut state, Body::RegisterNode(node(name)));
            }
            apply(&mut state, Body::Deploy(Box::new(deploy(artifact))));
            let begun = Instant::now();
            let mut new =
                Self { state, calls: CallsBook::new(Duration::from_secs(100)), seen: BTreeMap::new(), begun };
            new.place();
            new
        }

        /// Everything serves where it should.
        fn place(&mut self) {
            let places = cluster::schedule(&self.state, self.state.now_ms);
            apply(&mut self.state, Body::Place(places));
            let names: Vec<NodeName> = self.state.nodes.keys().cloned().collect();
            for node in names {
                let assignment = view::assignment(&self.state, &node).unwrap();
                let graphs = assignment.graphs.into_iter().map(|graph| GraphReport {
                    key: graph.key,
                    uid: graph.uid,
                    serving: Some(graph.generation),
                    desired: graph.generation,
                    progress: Progress::Serving,
                    failing: None,
                });
                let report = Report { node, accepted: assignment.generation, graphs: graphs.collect() };
                apply(&mut self.state, Body::RecordReport(report));
            }
        }

        /// Each of these has so many calls under way, of a time that begins now.
        fn told(&self, nodes: &[&str], whole: u64) {
            for node in nodes.iter().chain(nodes) {
                let (key, app) = ("shop/web".parse().unwrap(), "app".parse().unwrap());
                let calls = Calls::from_thousandths(whole * 1_000);
                self.calls.note(&self.state, &node.parse().unwrap(), key, app, calls);
            }
        }

        /// From how many nodes to how many, if that is decided.
        fn looks(&mut self) -> Option<(u32, u32)> {
            let body = look(&self.state, &self.calls, &mut self.seen, self.begun).pop()?;
            let Body::Scale(scale) = &body else { panic!("{body:?}") };
            let change = *scale.changes.values().next().unwrap();
            apply(&mut self.state, body);
            Some((change.from, change.to))
        }

        /// Time passes.
        fn passes(&mut self, seconds: u64) {
            self.begun = self.begun.checked_sub(Duration::from_secs(seconds)).unwrap();
        }
    }

    #[test]
    fn more_come_once_all_have_told_and_fewer_once_these_are_enough_for_a_while() {
        let mut leader = Leader::new();
        leader.told(&["n1"], 30);
        assert_eq!(leader.looks(), None, "that was told before it was seen to serve");
        leader.told(&["n1"], 30);
        assert_eq!(leader.looks(), Some((1, 2)));
        assert_eq!(leader.looks(), None, "what was told is of before");
        leader.place();
        assert_eq!(leader.looks(), None);
        leader.told(&["n1"], 30);
        assert_eq!(leader.looks(), None, "n2 has told nothing");
        leader.told(&["n2"], 0);
        assert_eq!(leader.looks(), Some((2, 3)));
        leader.place();
        assert_eq!(leader.looks(), None);
        leader.told(&["n1", "n2", "n3"], 0);
        assert_eq!(leader.looks(), None, "not at once");
        leader.passes(59);
        assert_eq!(leader.looks(), None);
        leader.passes(2);
        assert_eq!(leader.looks(), Some((3, 1)));
    }

    #[test]
    fn what_is_not_known_keeps_there_from_being_fewer() {
        let mut leader = Leader::new();
        leader.looks();
        leader.told(&["n1"], 15);
        assert_eq!(leader.looks(), Some((1, 2)));
        leader.place();
        for _ in 0..5 {
            leader.passes(100);
            leader.told(&["n1"], 0);
            assert_eq!(leader.looks(), None);
        }
        leader.told(&["n2"], 0);
        assert_eq!(leader.looks(), None);
        leader.passes(61);
        assert_eq!(leader.looks(), Some((2, 1)));
    }
}
