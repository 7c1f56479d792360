//! A fleet of agents for `cargo xtask bench fleet`: each has an identity of its own, a session with the control plane and
//! nothing to run: what it is assigned serves at once. `fleet_load ADDRESS OPERATOR PID NODES GRAPHS`, with the operator's
//! file and the process of the control plane. Prints one JSON value.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a measurement")]
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "it measures time")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chaos_tests::api::{Api, shown};
use chaos_tests::bundle::Bundle;
use proto::weft::node::v1 as node;
use proto::weft::node::v1::from_agent::Message as Up;
use proto::weft::node::v1::nodes_client::NodesClient;
use proto::weft::node::v1::to_agent::Message as Down;
use proto::weft::trust::v1::JoinRequest;
use proto::weft::trust::v1::enrolment_client::EnrolmentClient;
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use trust::{Expect, Fingerprint, Identity, JoinToken, Key, Keyring, pinned_connector};

/// Whose enrolments, and deploys, are under way at one time.
const JOINS_AT_ONCE: usize = 16;
const DEPLOYS_AT_ONCE: usize = 8;
const TOKEN_LIFETIME: Duration = Duration::from_secs(3_600);
/// How long nothing is done, to see what the fleet costs by itself.
const IDLE: Duration = Duration::from_secs(10);
/// Everything is as it should be within this, or the measurement ends.
const PATIENCE: Duration = Duration::from_secs(120);
const RETRY: Duration = Duration::from_millis(5);
const MESSAGE_MAX_BYTES: usize = 256 << 20;
/// One node in so many is lost.
const LOST_ONE_OF: usize = 10;
/// The unit of times in `/proc/PID/stat`: `USER_HZ`, 100 on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// What the agents were told, all together.
#[derive(Default)]
struct Told {
    /// The graphs of each node that has a session.
    graphs: Mutex<BTreeMap<usize, BTreeSet<String>>>,
    assignments: AtomicUsize,
    /// Messages with routes, and their bytes.
    routes: AtomicUsize,
    route_bytes: AtomicUsize,
}

struct Fleet {
    address: SocketAddr,
    api: Api,
    authority: Fingerprint,
    pid: u32,
    told: Arc<Told>,
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, operator, pid, nodes, graphs] = &arguments[..] else {
        panic!("fleet_load ADDRESS OPERATOR PID NODES GRAPHS")
    };
    let operator = std::fs::read_to_string(Path::new(operator)).expect("the operator's file");
    let operator = Identity::from_pem(&operator).expect("an identity");
    let authority = operator.authorities().next().map(Fingerprint::of).expect("an authority");
    let address: SocketAddr = address.parse().expect("an address");
    let (nodes, graphs): (usize, usize) = (nodes.parse().expect("nodes"), graphs.parse().expect("graphs"));
    let fleet = Arc::new(Fleet {
        address,
        api: Api::new(address, &Keyring::new(operator)),
        authority,
        pid: pid.parse().expect("a process"),
        told: Arc::default(),
    });

    let (sessions, joining) = timed(fleet.clone().join_all(nodes)).await;
    fleet.wait("all nodes have a session", |told| told.len() == nodes).await;
    let joined_cpu = fleet.cpu();
    let memory_of_nodes = fleet.memory_kib();
    let moment = IDLE;
    tokio::time::sleep(moment).await;
    let idle_cpu = (fleet.cpu() - joined_cpu).as_secs_f64() / IDLE.as_secs_f64();

    let before = (fleet.cpu(), fleet.told.routes.load(Ordering::Acquire));
    let bytes_before = fleet.told.route_bytes.load(Ordering::Acquire);
    let started = Instant::now();
    fleet.clone().deploy_all(graphs).await;
    let deploying = started.elapsed();
    fleet.wait("all graphs are assigned", |told| count(told) == graphs).await;
    let assigned = started.elapsed();
    let deploy_cpu = fleet.cpu() - before.0;
    let route_messages = fleet.told.routes.load(Ordering::Acquire) - before.1;
    let route_bytes = fleet.told.route_bytes.load(Ordering::Acquire) - bytes_before;
    let memory_of_graphs = fleet.memory_kib();

    let (before, moved, lost) = (fleet.cpu(), fleet.lose(sessions, nodes), Instant::now());
    fleet.wait("all graphs are assigned again", |told| count(told) == graphs).await;
    println!(
        "{}",
        json!({
            "nodes": nodes,
            "graphs": graphs,
            "join_s": joining.as_secs_f64(),
            "idle_cpu": idle_cpu,
            "memory_of_nodes_kib": memory_of_nodes,
            "memory_of_graphs_kib": memory_of_graphs,
            "deploys_per_second": graphs as f64 / deploying.as_secs_f64(),
            "assigned_s": assigned.as_secs_f64(),
            "deploy_cpu_ms": deploy_cpu.as_secs_f64() * 1e3 / graphs as f64,
            "route_messages": route_messages,
            "route_mib": route_bytes as f64 / f64::from(1 << 20),
            "moved": moved,
            "converge_s": lost.elapsed().as_secs_f64(),
            "converge_cpu_s": (fleet.cpu() - before).as_secs_f64(),
        })
    );
}

async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let started = Instant::now();
    (work.await, started.elapsed())
}

/// The graphs that some node has.
fn count(told: &BTreeMap<usize, BTreeSet<String>>) -> usize {
    told.values().flatten().collect::<BTreeSet<_>>().len()
}

impl Fleet {
    async fn join_all(self: Arc<Self>, nodes: usize) -> Vec<JoinHandle<()>> {
        let room = Arc::new(Semaphore::new(JOINS_AT_ONCE));
        let mut joining = JoinSet::new();
        for number in 0..nodes {
            let (fleet, room) = (self.clone(), room.clone());
            joining.spawn(async move {
                let _place = room.acquire_owned().await.expect("it is open");
                (number, fleet.join(number).await)
            });
        }
        let joined: BTreeMap<usize, JoinHandle<()>> = joining.join_all().await.into_iter().collect();
        joined.into_values().collect()
    }

    /// A node that joins, and its session.
    async fn join(self: &Arc<Self>, number: usize) -> JoinHandle<()> {
        let name = format!("node-{number}");
        let token = JoinToken::generate(self.authority).expect("a token");
        self.api.allow(&name, &token, TOKEN_LIFETIME).await.expect("it is allowed");
        let key = Key::generate().expect("a key");
        let request = JoinRequest {
            token: token.reveal().to_string(),
            node: name.clone(),
            certificate_request: key.request().expect("a request"),
        };
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).expect("an address");
        let pinned = endpoint.connect_with_connector_lazy(pinned_connector(token.authority()));
        let answer = EnrolmentClient::new(pinned).join(request).await.expect("it joins").into_inner();
        let identity = Identity::new(key, answer.certificate, answer.authorities).expect("an identity");
        let uid = identity.id().uid().to_string();
        let connector = trust::connector(Keyring::new(identity), Expect::Member);
        let channel = endpoint.connect_with_connector(connector).await.expect("a connection");
        let client = NodesClient::new(channel).max_decoding_message_size(MESSAGE_MAX_BYTES);
        let description = node::NodeDescription {
            name,
            uid,
            api_address: "127.0.0.1:1".to_owned(),
            ingress_address: "127.0.0.1:1".to_owned(),
            version: "simulated".to_owned(),
            labels: [("zone".to_owned(), format!("zone-{}", number % 3))].into(),
            capabilities: vec!["sqlite".to_owned()],
            memory_bytes: 8 << 30,
            cpus: 4,
            instances: 1_000,
            level: model::node::AGENT_LEVEL,
        };
        tokio::spawn(session(self.told.clone(), number, client, description))
    }

    async fn deploy_all(self: Arc<Self>, graphs: usize) {
        // Who uploads what another uploads at that time is asked to wait.
        self.api.upload(&Bundle::graph("hello")).await.expect("it is uploaded");
        let room = Arc::new(Semaphore::new(DEPLOYS_AT_ONCE));
        let mut deploys = JoinSet::new();
        for number in 0..graphs {
            let (fleet, room) = (self.clone(), room.clone());
            deploys.spawn(async move {
                let _place = room.acquire_owned().await.expect("it is open");
                let bundle = Bundle::graph("hello")
                    .with("graph: hello", &format!("graph: g{number}"))
                    .with("hello.localhost", &format!("g{number}.localhost"));
                fleet.api.deploy(&bundle).await.unwrap_or_else(|status| panic!("{}", shown(&status)));
            });
        }
        deploys.join_all().await;
    }

    /// Ends the sessions of some nodes; says how many graphs they had.
    fn lose(&self, sessions: Vec<JoinHandle<()>>, nodes: usize) -> usize {
        let mut told = self.told.graphs.lock().unwrap_or_else(PoisonError::into_inner);
        let mut had = 0;
        for (number, session) in sessions.into_iter().enumerate().take(nodes) {
            if number.is_multiple_of(LOST_ONE_OF) {
                session.abort();
                had += told.remove(&number).map_or(0, |graphs| graphs.len());
            }
        }
        had
    }

    async fn wait(&self, what: &str, is_so: impl Fn(&BTreeMap<usize, BTreeSet<String>>) -> bool) {
        let started = Instant::now();
        while !is_so(&self.told.graphs.lock().unwrap_or_else(PoisonError::into_inner)) {
            assert!(started.elapsed() < PATIENCE, "not in time: {what}");
            tokio::time::sleep(RETRY).await;
        }
    }

    fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).expect("it runs");
        // The name in brackets may have spaces; user and system time are the 14th and 15th field of the line.
        let (_, rest) = stat.rsplit_once(')').expect("a name");
        let ticks = rest.split_whitespace().skip(11).take(2).map(|text| text.parse::<u32>().expect("a number"));
        TICK * ticks.sum::<u32>()
    }

    fn memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
    }
}

/// Says all that is assigned serves, as long as it is not aborted.
async fn session(
    told: Arc<Told>,
    number: usize,
    mut client: NodesClient<tonic::transport::Channel>,
    description: node::NodeDescription,
) {
    let name = description.name.clone();
    let (sender, messages) = mpsc::channel(16);
    let up = |message| node::FromAgent { message: Some(message) };
    sender.send(up(Up::Hello(description))).await.expect("there is room");
    let mut down = client.session(ReceiverStream::new(messages)).await.expect("a session").into_inner();
    let Some(Down::Welcome(welcome)) = down.message().await.expect("a welcome").and_then(|first| first.message)
    else {
        panic!("the first message is a welcome")
    };
    let mut beat = tokio::time::interval(Duration::from_millis(welcome.heartbeat_interval_ms));
    let mut report = node::Report { node: name, accepted: 0, graphs: Vec::new(), heartbeat: 0 };
    loop {
        tokio::select! {
            _ = beat.tick() => {}
            message = down.message() => match message.expect("the session goes on").and_then(|next| next.message) {
                Some(Down::Assignment(assignment)) => {
                    told.assignments.fetch_add(1, Ordering::AcqRel);
                    report.accepted = assignment.generation;
                    let serving = |graph: node::AssignedGraph| node::GraphReport {
                        graph: graph.graph,
                        uid: graph.uid,
                        serving: graph.generation,
                        desired: graph.generation,
                        phase: node::Phase::Serving.into(),
                        ..node::GraphReport::default()
                    };
                    report.graphs = assignment.graphs.into_iter().map(serving).collect();
                    let graphs = report.graphs.iter().map(|graph| graph.graph.clone()).collect();
                    told.graphs.lock().unwrap_or_else(PoisonError::into_inner).insert(number, graphs);
                }
                Some(Down::EncodedRoutes(routes)) => {
                    told.routes.fetch_add(1, Ordering::AcqRel);
                    told.route_bytes.fetch_add(routes.len(), Ordering::AcqRel);
                    continue;
                }
                Some(Down::Routes(_) | Down::Welcome(_) | Down::Confirmed(_)) | None => continue,
            },
        }
        if sender.send(up(Up::Report(report.clone()))).await.is_err() {
            return;
        }
    }
}
