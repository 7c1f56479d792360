//! What clients ask for: commands of all kinds, sensible and not, once and again, and reads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cluster::command::{
    Body, CreateToken, DeleteGraph, DeletePolicy, Deploy, DeployOrigin, Enrol, Place, PutPolicy, Relink,
    RequestTag,
};
use cluster::{Command, State};
use model::digest::Digest;
use model::graph::{Artifact, ComponentSpec, GraphSpec, Settings, Wiring};
use model::id::{RequestId, Uid};
use model::linked::{LinkedComponent, LinkedGraph, Origin};
use model::name::NodeName;
use model::node::{Capacity, NodeDescription, NodeState};
use model::placement::Placement;
use model::policy::{Action, Interposed, Mode, OnFailure, Order, Phase, PolicySpec, Selector};
use model::report::{GraphReport, Progress, Report};
use model::reserve::Reserves;
use tokio::time::{sleep, timeout};

use super::chance::Chance;
use super::plants::Plant;
use super::world::{PATIENCE, World};
use crate::raft::codec;

/// How long a client thinks, in milliseconds.
const THINKING_MS: (u64, u64) = (5, 120);
/// How many of a thousand times it reads.
const READS_IN_THOUSAND: u64 = 300;
/// How many of a thousand commands have a request id.
const TAGGED_IN_THOUSAND: u64 = 500;
/// How many of a thousand requests that were answered are made again.
const AGAIN_IN_THOUSAND: u64 = 100;
/// How often a request without an answer is made again.
const TRIES_MAX: u64 = 4;

/// Asks until the run is over.
pub async fn client(world: Arc<World>, number: u64) {
    let mut count = 0;
    while !world.is_over() {
        let moment = world.chance(|chance| chance.millis(THINKING_MS.0, THINKING_MS.1));
        sleep(moment).await;
        if world.chance(|chance| chance.in_thousand(READS_IN_THOUSAND)) {
            read(&world).await;
        } else {
            count += 1;
            write(&world, &format!("c{number}-{count}")).await;
        }
    }
}

async fn read(world: &World) {
    let Some((process, handle)) = world.anybody() else { return };
    let before = world.oracle(|oracle| oracle.acknowledged());
    let is_careless = world.has(Plant::ReadsWithoutQuorum);
    let asked =
        process.spawn(async move { if is_careless { Some(handle.state()) } else { handle.read().await.ok() } });
    if let Ok(Ok(Some(state))) = timeout(PATIENCE, asked).await {
        world.oracle(|oracle| oracle.is_read(process.member, &state, before));
    }
}

async fn write(world: &World, id: &str) {
    let Some((process, handle)) = world.anybody() else { return };
    let now_ms = world.now_ms(process.member);
    let state = handle.state();
    let body = world.chance(|chance| body(chance, &state));
    let is_tagged = world.chance(|chance| chance.in_thousand(TAGGED_IN_THOUSAND));
    let id = RequestId::new(id).ok().filter(|_| is_tagged);
    let request = id.map(|id| RequestTag { fingerprint: format!("of-{id}"), id });
    let command = Command { now_ms, request, body };
    let Ok(payload) = codec::encode_command(&command) else { return };
    let mut tried = Some((process, handle));
    for _ in 0..TRIES_MAX {
        let Some((process, handle)) = tried.take() else { return };
        let before = world.oracle(|oracle| oracle.acknowledged());
        let again = command.clone();
        let asked = process.spawn(async move { handle.propose(again).await });
        let answered = timeout(PATIENCE, asked).await;
        let is_answered = match answered {
            Ok(Ok(Ok(committed))) => {
                world.oracle(|oracle| oracle.acknowledges(&payload.0, &committed, before));
                true
            }
            _ => false,
        };
        let is_repeated = is_answered && world.chance(|chance| chance.in_thousand(AGAIN_IN_THOUSAND));
        if command.request.is_none() || world.is_over() || (is_answered && !is_repeated) {
            return;
        }
        tried = world.anybody();
    }
}

fn artifact(number: u8) -> Artifact {
    Artifact { digest: Digest::from_bytes([number; 32]), size: u64::from(number) }
}

fn linked(number: u8) -> LinkedGraph {
    let component = LinkedComponent {
        artifact: artifact(number),
        origin: Origin::Graph,
        exports: Vec::new(),
        settings: Settings::default(),
    };
    LinkedGraph { components: named("app", component), ..LinkedGraph::default() }
}

fn spec() -> GraphSpec {
    let component =
        ComponentSpec { artifact: artifact(0), labels: BTreeMap::new(), settings: Settings::default() };
    GraphSpec {
        labels: BTreeMap::new(),
        wiring: Wiring::Inferred,
        ingress: Vec::new(),
        components: named("app", component),
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

/// A value under a name that is one.
fn named<K: std::str::FromStr + Ord, V>(name: &str, value: V) -> BTreeMap<K, V> {
    name.parse().ok().map(|name| (name, value)).into_iter().collect()
}

fn policy(name: &str, number: u8) -> Option<PolicySpec> {
    let component =
        Interposed { artifact: artifact(number), settings: Settings::default(), require: BTreeMap::new() };
    Some(PolicySpec {
        name: name.parse().ok()?,
        selector: Selector {
            interface: "a:b/c".parse().ok()?,
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
    })
}

fn node(name: &str, uid: Uid, version: u8) -> Option<NodeDescription> {
    Some(NodeDescription {
        name: name.parse().ok()?,
        uid,
        api_address: "127.0.0.1:1".to_owned(),
        ingress_address: "127.0.0.1:2".to_owned(),
        version: format!("0.{version}.0"),
        labels: BTreeMap::new(),
        capabilities: Vec::new(),
        capacity: Capacity { memory_bytes: 1 << 30, cpus: 2, instances: 100 },
        level: 0,
    })
}

fn report(state: &State, name: &str, number: u8) -> Option<Report> {
    let node: NodeName = name.parse().ok()?;
    let on_it = state.graphs.iter().filter(|(_, graph)| graph.is_on(&node));
    let graphs = on_it.map(|(key, graph)| GraphReport {
        key: key.clone(),
        uid: graph.uid.clone(),
        serving: number.is_multiple_of(2).then_some(graph.generation),
        desired: graph.generation,
        progress: if number.is_multiple_of(2) { Progress::Serving } else { Progress::Compiling },
        failing: None,
    });
    let graphs = graphs.collect();
    let accepted = state.nodes.get(&node).map(|node| node.assigned_at).unwrap_or_default();
    Some(Report { node, accepted, graphs })
}

/// One thing to ask for, decided from a state that may be old. Names are few, so that commands meet.
fn body(chance: &mut Chance, state: &State) -> Body {
    let number = (chance.next() % 6) as u8;
    let artifact = Body::PutArtifact(artifact(number));
    drawn(chance, state, number).unwrap_or(artifact)
}

fn drawn(chance: &mut Chance, state: &State, number: u8) -> Option<Body> {
    let which = chance.below(3);
    let (graph, node_name, policy_name) = (format!("sales/g{which}"), format!("n{which}"), format!("p{which}"));
    let token = format!("token-{which}-{}", chance.below(4));
    let key: model::id::GraphKey = graph.parse().ok()?;
    let record = state.graphs.get(&key);
    let fresh: Uid = format!("uid-{}-{number}", state.revision).try_into().ok()?;
    let uid = record.map_or_else(|| fresh.clone(), |record| record.uid.clone());
    let revision = record.map(cluster::state::GraphRecord::number);
    Some(match chance.below(16) {
        0 | 1 => Body::Deploy(Box::new(Deploy {
            uid,
            manifest: format!("graph: {number}"),
            spec: spec(),
            linked: linked(number),
            policies_at: state.policies_at,
            base: revision,
            origin: DeployOrigin::Deploy,
            by_steps: false,
            key,
        })),
        2 => Body::DeleteGraph(DeleteGraph { key, expected: revision }),
        3 => Body::Relink(Box::new(Relink {
            key,
            uid,
            revision: revision.unwrap_or_default(),
            policies_at: state.policies_at,
            linked: linked(number),
        })),
        4 | 5 => Body::PutPolicy(Box::new(PutPolicy {
            manifest: format!("policy: {number}"),
            spec: policy(&policy_name, number)?,
            graphs_at: state.graphs_at,
            policies_at: state.policies_at,
            by_steps: false,
        })),
        6 => Body::DeletePolicy(DeletePolicy {
            name: policy_name.parse().ok()?,
            graphs_at: state.graphs_at,
            policies_at: state.policies_at,
        }),
        7 | 8 => {
            let name: NodeName = node_name.parse().ok()?;
            let enrolled = state.enrolled.get(&name).map(|record| record.uid.clone());
            let known = state.nodes.get(&name).map(|node| node.description.uid.clone());
            let uid = enrolled.or(known).or_else(|| format!("uid-of-{node_name}").try_into().ok())?;
            Body::RegisterNode(node(&node_name, uid, number)?)
        }
        9 => Body::SetNodeState {
            node: node_name.parse().ok()?,
            state: if number.is_multiple_of(2) { NodeState::Down } else { NodeState::Ready },
            why: String::new(),
        },
        10 => Body::RecordReport(report(state, &node_name, number)?),
        11 => Body::CreateToken(CreateToken {
            digest: token,
            node: node_name.parse().ok()?,
            expires_ms: state.now_ms + 600_000,
        }),
        12 => Body::Enrol(Enrol {
            token,
            node: node_name.parse().ok()?,
            uid: fresh,
            key: format!("key-{number}"),
            revoked_until_ms: state.now_ms + 60_000,
        }),
        13 if number == 0 => {
            Body::RevokeNode { node: node_name.parse().ok()?, until_ms: state.now_ms + 60_000 }
        }
        14 => Body::Place(vec![Place {
            generation: record?.generation,
            key,
            uid,
            placement: Placement::whole(node_name.parse().ok()?),
        }]),
        15 => Body::CreateMemberToken { digest: token, expires_ms: state.now_ms + 600_000 },
        _ => return None,
    })
}
