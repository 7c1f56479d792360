//! A cluster under test, and the commands to it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use std::time::{SystemTime, UNIX_EPOCH};

use cluster::command::{Body, DeleteGraph, DeletePolicy, Deploy, DeployOrigin, PutPolicy, Relink, RequestTag};
use cluster::outcome::{Outcome, Refusal};
use cluster::{Command, State};
use model::digest::Digest;
use model::graph::{Artifact, CapabilitySpec, ComponentSpec, GraphSpec, Settings, Wiring};
use model::id::{GraphKey, RequestId, RevisionNumber};
use model::linked::{LinkedComponent, LinkedGraph, Origin};
use model::name::NodeName;
use model::node::{AGENT_LEVEL, Capacity, NodeDescription};
use model::policy::{Action, Interposed, Mode, OnFailure, Order, Phase, PolicySpec, Selector};
use model::reserve::Reserves;
use model::rollout::{self, DEADLINE_DEFAULT, MAX_ERRORS_DEFAULT, RolloutSpec, Share, Step};
use model::route::HttpRoute;
use proptest::prelude::ProptestConfig;
use proptest::test_runner::RngSeed;

/// A state and a clock. Each command is checked to leave a sound state, and a refused one to leave it as it was.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cluster {
    pub(crate) state: State,
    pub(crate) now_ms: u64,
}

impl Cluster {
    /// A cluster that is initialised, with two nodes and the artifacts 0 to 9.
    pub(crate) fn new() -> Self {
        let mut new = Self { state: State::default(), now_ms: 1_000 };
        new.done(Body::InitCluster { cluster: "cluster-1".to_owned().try_into().unwrap(), level: 1 });
        (0..10).for_each(|number| new.done(Body::PutArtifact(artifact(number))));
        new.done(Body::RegisterNode(node("n1")));
        new.done(Body::RegisterNode(node("n2")));
        new
    }

    pub(crate) fn apply(&mut self, body: Body) -> Outcome {
        self.apply_tagged(body, None)
    }

    pub(crate) fn apply_tagged(&mut self, body: Body, request: Option<RequestTag>) -> Outcome {
        self.now_ms += 1;
        let before = self.state.clone();
        let outcome = self.state.apply(&Command { now_ms: self.now_ms, request, body });
        assert_eq!(cluster::check(&self.state), Vec::<String>::new(), "after {outcome:?}");
        if matches!(outcome, Outcome::Refused(_)) {
            assert_eq!(self.without_clock(), Self { state: before, now_ms: 0 }.without_clock());
        }
        outcome
    }

    /// The state without what a refused command may change: the clock, and what it lets be forgotten.
    fn without_clock(&self) -> State {
        State {
            now_ms: 0,
            requests: imbl::OrdMap::new(),
            request_ages: imbl::Vector::new(),
            requests_forgotten_ms: 0,
            ..self.state.clone()
        }
    }

    /// Applies a command that must not be refused.
    pub(crate) fn done(&mut self, body: Body) {
        let outcome = self.apply(body);
        assert!(!matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    }

    /// Applies a command that must be refused.
    pub(crate) fn refused(&mut self, body: Body) -> Refusal {
        match self.apply(body) {
            Outcome::Refused(refusal) => refusal,
            other => panic!("{other:?}"),
        }
    }

    /// A deploy that is decided from the state as it is.
    pub(crate) fn deploy(&self, key: &str, linked: LinkedGraph) -> Deploy {
        let key: GraphKey = key.parse().unwrap();
        Deploy {
            uid: format!("uid-of-{}-{}", key.graph, self.state.revision).try_into().unwrap(),
            manifest: format!("graph: {}", key.graph),
            spec: spec(),
            linked,
            policies_at: self.state.policies_at,
            base: self.number(&key),
            origin: DeployOrigin::Deploy,
            by_steps: false,
            key,
        }
    }

    pub(crate) fn number(&self, key: &GraphKey) -> Option<RevisionNumber> {
        self.state.graphs.get(key).map(cluster::state::GraphRecord::number)
    }

    /// Deploys, and tells revision, generation and whether nothing changed.
    pub(crate) fn deployed(&mut self, key: &str, linked: LinkedGraph) -> (u64, u64, bool) {
        let deploy = self.deploy(key, linked);
        match self.apply(Body::Deploy(Box::new(deploy))) {
            Outcome::Deployed { revision, generation, unchanged, .. } => (revision.0, generation.0, unchanged),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn delete(&mut self, key: &str) -> Outcome {
        self.apply(Body::DeleteGraph(DeleteGraph { key: key.parse().unwrap(), expected: None }))
    }

    /// A relink that is decided from the state as it is.
    pub(crate) fn relink(&self, key: &str, linked: LinkedGraph) -> Relink {
        let key: GraphKey = key.parse().unwrap();
        let record = &self.state.graphs[&key];
        Relink {
            uid: record.uid.clone(),
            revision: record.number(),
            policies_at: self.state.policies_at,
            linked,
            key,
        }
    }

    /// A policy that is decided from the state as it is.
    pub(crate) fn put(&self, name: &str, artifact_number: u8) -> PutPolicy {
        PutPolicy {
            manifest: format!("policy: {name}"),
            spec: policy(name, artifact_number),
            graphs_at: self.state.graphs_at,
            policies_at: self.state.policies_at,
            by_steps: false,
        }
    }

    pub(crate) fn delete_policy(&self, name: &str) -> DeletePolicy {
        DeletePolicy {
            name: name.parse().unwrap(),
            graphs_at: self.state.graphs_at,
            policies_at: self.state.policies_at,
        }
    }

    /// Places what the scheduler wants.
    pub(crate) fn schedule(&mut self) -> usize {
        let places = cluster::schedule(&self.state, self.state.now_ms);
        let count = places.len();
        if count > 0 {
            self.done(Body::Place(places));
        }
        count
    }

    pub(crate) fn node_of(&self, key: &str) -> Option<String> {
        let key: GraphKey = key.parse().unwrap();
        self.state.graphs[&key].placement.as_ref().map(ToString::to_string)
    }

    pub(crate) fn last_event(&self) -> String {
        let event = self.state.events.last().unwrap();
        format!("{} {}", event.subject, event.reason)
    }
}

pub(crate) fn artifact(number: u8) -> Artifact {
    Artifact { digest: Digest::from_bytes([number; 32]), size: u64::from(number) }
}

pub(crate) fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

pub(crate) fn key(text: &str) -> GraphKey {
    text.parse().unwrap()
}

/// A linked graph of one component with this artifact.
pub(crate) fn linked(number: u8) -> LinkedGraph {
    let component = LinkedComponent {
        artifact: artifact(number),
        origin: Origin::Graph,
        exports: Vec::new(),
        settings: Settings::default(),
    };
    LinkedGraph { components: BTreeMap::from([("app".parse().unwrap(), component)]), ..LinkedGraph::default() }
}

/// The same, answering at a host.
pub(crate) fn linked_at(number: u8, host: &str) -> LinkedGraph {
    let route =
        HttpRoute { host: Some(host.parse().unwrap()), path: "/".parse().unwrap(), to: "app".parse().unwrap() };
    LinkedGraph { ingress: vec![route], ..linked(number) }
}

/// The same, with a database.
pub(crate) fn linked_with_database(number: u8, seed: Option<u8>) -> LinkedGraph {
    let database = CapabilitySpec::Sqlite { database: "default".to_owned(), seed: seed.map(artifact) };
    LinkedGraph { capabilities: BTreeMap::from([("db".parse().unwrap(), database)]), ..linked(number) }
}

pub(crate) fn spec() -> GraphSpec {
    let component =
        ComponentSpec { artifact: artifact(0), labels: BTreeMap::new(), settings: Settings::default() };
    GraphSpec {
        labels: BTreeMap::new(),
        wiring: Wiring::Inferred,
        ingress: Vec::new(),
        components: BTreeMap::from([("app".parse().unwrap(), component)]),
        capabilities: BTreeMap::new(),
        links: Vec::new(),
        require: BTreeMap::new(),
        replicas: BTreeMap::new(),
        each_node: BTreeSet::new(),
        scaling: BTreeMap::new(),
        wishes: BTreeMap::new(),
        reserves: Reserves::default(),
        rollout: None,
    }
}

/// So many steps, and one.
pub(crate) fn rollout(steps: u8) -> RolloutSpec {
    let step = |number: u8| Step {
        share: Share::new(u16::from(number) * 100).unwrap(),
        hold: number.is_multiple_of(2).then(|| Duration::from_secs(60)),
    };
    RolloutSpec {
        steps: (0..=steps).map(step).collect(),
        max_errors: MAX_ERRORS_DEFAULT,
        max_latency_percent: None,
        deadline: DEADLINE_DEFAULT,
        on_failure: rollout::OnFailure::Revert,
    }
}

pub(crate) fn policy(name: &str, artifact_number: u8) -> PolicySpec {
    let component = Interposed {
        artifact: artifact(artifact_number),
        settings: Settings::default(),
        require: BTreeMap::new(),
    };
    PolicySpec {
        name: name.parse().unwrap(),
        selector: Selector {
            interface: "a:b/c".parse().unwrap(),
            namespaces: BTreeSet::new(),
            graphs: BTreeSet::new(),
            labels: BTreeMap::new(),
            except: Vec::new(),
        },
        action: Action::Interpose(vec![component]),
        order: Order { phase: Phase::Inspect, priority: 0 },
        mandatory: false,
        on_failure: OnFailure::Closed,
        mode: Mode::Enforce,
        rollout: None,
    }
}

pub(crate) fn node(text: &str) -> NodeDescription {
    NodeDescription {
        name: name(text),
        uid: format!("uid-of-{text}").try_into().unwrap(),
        api_address: "127.0.0.1:1".to_owned(),
        ingress_address: "127.0.0.1:2".to_owned(),
        version: "0.1.0".to_owned(),
        labels: BTreeMap::new(),
        capabilities: vec!["sqlite".to_owned()],
        capacity: Capacity { memory_bytes: 1 << 30, cpus: 2, instances: 100 },
        level: AGENT_LEVEL,
    }
}

pub(crate) fn tag(id: &str, fingerprint: &str) -> RequestTag {
    RequestTag { id: RequestId::new(id).unwrap(), fingerprint: fingerprint.to_owned() }
}

/// The settings of a random test; its seed is printed first, and `PROPTEST_RNG_SEED` repeats one.
#[allow(clippy::print_stdout, reason = "the seed of a test that fails")]
pub(crate) fn random(cases: u32) -> ProptestConfig {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let seed = match config.rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos().into(),
    };
    println!("seed: PROPTEST_RNG_SEED={seed}");
    ProptestConfig { rng_seed: RngSeed::Fixed(seed), ..config }
}
