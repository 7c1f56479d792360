//! The composition root: the half that takes orders and the half that runs components, made, joined and stopped in
//! order. The one file in which the graph of the agent's parts can be read.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::assignment::AssignedGraph;
use model::graph::CheckTerms;
use model::id::{GraphKey, Uid};
use model::name::ComponentName;
use model::node::{AGENT_LEVEL, Capacity, Labels, NodeDescription};
use model::report::{Failure, Progress};
use model::routing::RouteMap;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use trust::{Expect, Keyring};

use crate::artifacts::ArtifactStore;
use crate::audit::Audit;
use crate::config::Config;
use crate::control::{Control, ControlError, Parts};
use crate::control_plane::ControlPlane;
use crate::data_dir::{DataDir, DataDirError};
use crate::durable;
use crate::enrolment::{Enrolment, EnrolmentError};
use crate::host::{self, Artifacts, EgressLimits, Host, HostConfig, PoolLimits, Reach, Unchecked};
use crate::http_road::HttpRoad;
use crate::ingress::{Answers, Ingress, IngressLimits, RouteTableHandle};
use crate::lease::Lease;
use crate::logs::LogBook;
use crate::roads::{Roads, ToldRoads};
use crate::runner::{Call, InvokeError, PrepareError, Runner, Running};
use crate::told::{Assigned, Told};
use crate::traces::{self, Traces};
use crate::traffic::TrafficCounts;

/// Says where the agent listens, for those who start it on port 0.
const READY_FILE: &str = "agent.json";
/// What this version's host offers to links besides WASI.
const CAPABILITIES: [&str; 1] = ["sqlite"];

/// Why the agent cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The node's identity.
    #[error(transparent)]
    Enrolment(#[from] EnrolmentError),
    /// The host.
    #[error("the host of components cannot start")]
    Host(#[from] host::OpenError),
    /// A socket.
    #[error("cannot listen on {address}: is another agent running there?")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A file in the data directory.
    #[error("cannot use {}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The way to a collector of traces.
    #[error(transparent)]
    Traces(#[from] traces::OpenError),
    /// The half that takes orders.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// A part ended that never should.
    #[error("the agent cannot go on: {0}")]
    Broken(String),
}

/// Runs the agent until `shutdown` resolves, then lets the requests under way end.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), AgentError> {
    tokio::pin!(shutdown);
    let file = |source| AgentError::File { path: config.data_dir.clone(), source };
    let _data_dir = DataDir::open(&config.data_dir, &config.name)?;
    let enrolment = Enrolment::new(config.name.clone(), config.data_dir.clone());
    let identity = tokio::select! {
        identity = enrolment.identity(&config.control_plane, config.join_token_file.as_deref()) => identity?,
        () = &mut shutdown => return Ok(()),
    };
    let uid = identity.id().uid().clone();
    let keyring = Keyring::new(identity);
    let audit = Audit::open(&config.data_dir).map_err(file)?;
    let logs = LogBook::new(config.name.clone());
    let control_plane =
        ControlPlane::new(&config.control_plane, &trust::connector(keyring.clone(), Expect::Member));
    let artifacts = Arc::new(ArtifactStore::open(&config.data_dir, control_plane.clone()).map_err(file)?);

    let limits = IngressLimits { drain: config.drain_deadline, ..IngressLimits::default() };
    let assigned = Assigned::default();
    let lease = Lease::default();
    let traces = Traces::open(config.traces.as_ref(), &config.name)?;
    let route_map = Told::<RouteMap>::default();
    let roads: Arc<dyn Roads> = Arc::new(ToldRoads {
        assigned: assigned.clone(),
        routes: route_map.clone(),
        keyring: keyring.clone(),
        labels: config.labels.clone(),
    });
    let traffic = TrafficCounts::default();
    let routes =
        RouteTableHandle::new(config.name.clone(), assigned.clone(), route_map.clone(), traffic.clone());
    let http_road = Arc::new(HttpRoad::new(roads.clone()));
    let reach = Reach::new(assigned.clone(), audit);
    let answers =
        Arc::new(Answers::new(routes.clone(), traces.clone(), http_road.clone(), reach.clone(), lease.clone()));
    let ingress = Ingress::bind(config.ingress_listen, limits, answers.clone())
        .await
        .map_err(|source| AgentError::Listen { address: config.ingress_listen, source })?;
    let listen = |source| AgentError::Listen { address: config.api_listen, source };
    let api = TcpListener::bind(config.api_listen).await.map_err(listen)?;
    let (api_address, ingress_address) = (api.local_addr().map_err(listen)?, ingress.local_addr());

    let pool = PoolLimits::default();
    let mut refused = vec![api_address, ingress_address];
    for member in &config.control_plane {
        if let Some(authority) = member.authority()
            && let Ok(found) = tokio::net::lookup_host(authority.as_str()).await
        {
            refused.extend(found);
        }
    }
    let egress = EgressLimits { allow_private: config.allow_private_egress, refused };
    let host = HostConfig {
        data_dir: config.data_dir.clone(),
        pool,
        egress,
        roads,
        http_road,
        traces: traces.clone(),
        calls: traffic.calls().clone(),
        lease: lease.clone(),
    };
    let host = Host::open(host, logs.clone())?;

    let description = describe(&config, uid, api_address, ingress_address, pool);
    let runner = Wasm {
        host,
        artifacts: artifacts.clone(),
        routes: routes.clone(),
        reach: reach.clone(),
        description: description.clone(),
        assigned: assigned.clone(),
    };
    let reached = reach.clone();
    let mut control = Control::start(Parts {
        runner: Arc::new(runner),
        artifacts,
        control_plane: control_plane.clone(),
        description,
        data_dir: config.data_dir.clone(),
        reach,
        logs,
        listener: api,
        keyring: keyring.clone(),
        answers,
        assigned,
        traffic,
        routes: route_map,
        lease,
    })?;
    // What it follows is told from now on.
    tokio::spawn(routes.follow());
    tokio::spawn(reached.keep());
    write_ready(&config.data_dir, api_address, ingress_address)?;
    tracing::info!(node = %config.name, api = %api_address, ingress = %ingress_address, "the agent is ready");

    let stop = CancellationToken::new();
    tokio::spawn(enrolment.keep(keyring, control_plane, stop.clone()));
    let stopped = stop.clone();
    let serving = tokio::spawn(ingress.serve(async move { stopped.cancelled().await }));
    let broken = tokio::select! {
        () = &mut shutdown => None,
        what = control.broken() => Some(what),
    };
    // Requests under way end first, and with them what they need.
    stop.cancel();
    if let Err(error) = serving.await {
        tracing::error!(%error, "the ingress failed");
    }
    if broken.is_none() {
        control.stop().await;
    }
    // The last, so that nothing that is told comes after it.
    traces.stop().await;
    broken.map_or(Ok(()), |what| Err(AgentError::Broken(what)))
}

fn describe(
    config: &Config,
    uid: Uid,
    api_address: SocketAddr,
    ingress_address: SocketAddr,
    pool: PoolLimits,
) -> NodeDescription {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    NodeDescription {
        name: config.name.clone(),
        uid,
        api_address: config.advertised(api_address),
        ingress_address: config.advertised(ingress_address),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        labels: config.labels.clone(),
        capabilities: CAPABILITIES.map(str::to_owned).into(),
        capacity: Capacity {
            memory_bytes: config.memory.map_or_else(guest_memory_bytes, |memory| memory.0),
            cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
            instances: pool.instances,
        },
        level: AGENT_LEVEL,
    }
}

/// Three quarters of the machine's memory; the rest is for the agent, its caches and the system.
fn guest_memory_bytes() -> u64 {
    /// On a system that does not say how much it has.
    const DEFAULT_BYTES: u64 = 1 << 30;
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse().ok());
    total.map_or(DEFAULT_BYTES, |kib: u64| (kib << 10) / 4 * 3)
}

fn write_ready(data_dir: &Path, api: SocketAddr, ingress: SocketAddr) -> Result<(), AgentError> {
    let path = data_dir.join(READY_FILE);
    let text = serde_json::json!({
        "pid": std::process::id(),
        "api_address": api.to_string(),
        "ingress_address": ingress.to_string(),
    });
    durable::replace(&path, text.to_string().as_bytes()).map_err(|source| AgentError::File { path, source })
}

/// Runs graphs as wasm behind the ingress.
struct Wasm {
    host: Host,
    artifacts: Arc<ArtifactStore>,
    routes: RouteTableHandle,
    reach: Reach,
    description: NodeDescription,
    assigned: Assigned,
}

/// A graph of [`Wasm`].
#[derive(Clone)]
struct RunningWasm(Arc<host::Running>);

impl Artifacts for ArtifactStore {
    fn path(&self, digest: &model::digest::Digest) -> PathBuf {
        Self::path(self, digest)
    }
}

impl Runner for Wasm {
    type Running = RunningWasm;

    async fn prepare(
        &self,
        graph: &AssignedGraph,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<RunningWasm, PrepareError> {
        self.meets_requirements(graph)?;
        let prepared = self.host.prepare(graph, &*self.artifacts, progress).await.map_err(classify)?;
        // Others may wait for it to take over themselves.
        self.reach.offer(prepared.clone());
        Ok(RunningWasm(prepared))
    }

    async fn can_take_over(&self, graph: &RunningWasm) -> Result<(), PrepareError> {
        graph.0.is_complete().await.map_err(PrepareError::MayHeal)
    }

    async fn passes_checks(&self, graph: &RunningWasm) -> Result<Option<GraphKey>, PrepareError> {
        // A graph that is only placed anew is as it was.
        let same = self.reach.serves_the_same(&graph.0);
        if same.is_none() {
            graph.0.passes_checks().await.map_err(PrepareError::MayHeal)?;
        }
        graph.0.pass();
        Ok(same)
    }

    fn serve(&self, graphs: Vec<RunningWasm>) {
        let graphs: Vec<Arc<host::Running>> = graphs.into_iter().map(|graph| graph.0).collect();
        self.reach.replace(&graphs);
        self.routes.replace(graphs);
    }
}

impl Wasm {
    /// A member never runs where its graph does not want it, not even until it is placed anew.
    fn meets_requirements(&self, graph: &AssignedGraph) -> Result<(), PrepareError> {
        let is_here = |member: &ComponentName| graph.placement.runs_on(member, &self.description.name);
        let mut required = graph.linked.require.iter();
        let assigned = self.assigned.now();
        let none = Labels::new();
        let given = assigned.as_ref().map_or(&none, |assigned| &assigned.labels);
        match required.find(|(member, require)| is_here(member) && !self.description.meets(given, require)) {
            None => Ok(()),
            Some((member, _)) => {
                let message = format!("{member} requires what this node is not: it is placed anew");
                let reason = "requirement_unmet".to_owned();
                Err(PrepareError::MayHeal(Failure { reason, message }))
            }
        }
    }
}

/// What a guest's bytes or links cause comes again; what this node's disk causes may not.
fn classify(failure: Failure) -> PrepareError {
    match failure.reason.as_str() {
        "artifact_unavailable" | "artifact_corrupt" | "database_failed" | "prepare_failed" => {
            PrepareError::MayHeal(failure)
        }
        _ => PrepareError::Certain(failure),
    }
}

impl Running for RunningWasm {
    fn checked(&self) -> Vec<(ComponentName, CheckTerms)> {
        self.0.checked().map(|(name, _, terms)| (name.clone(), *terms)).collect()
    }

    async fn check(&self, component: &ComponentName) -> Option<Result<(), String>> {
        if !self.0.may_serve() {
            return None;
        }
        let outcome = match self.0.check(component).await {
            Ok(()) => Ok(()),
            // A node without room says nothing of the component either.
            Err(Unchecked::NoRoom) => return None,
            Err(Unchecked::Failed(why)) => Err(why),
        };
        // What was cut off meanwhile says nothing of the component.
        self.0.may_serve().then_some(outcome)
    }

    fn judge(&self, is_failing: bool) {
        self.0.judge(is_failing);
    }

    async fn invoke(&self, call: Call) -> Result<String, InvokeError> {
        let invoking = self.0.invoke(&call.component, &call.interface, &call.function, &call.arguments);
        match tokio::time::timeout(call.deadline, invoking).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(error)) => Err(refusal(&error)),
            Err(_) => {
                let milliseconds = call.deadline.as_millis();
                let message = format!("the call did not end within the {milliseconds} ms it was given");
                Err(InvokeError::Deadline(Failure { reason: "deadline_exceeded".to_owned(), message }))
            }
        }
    }

    async fn drained(&self) {
        self.0.drained().await;
    }
}

fn refusal(error: &host::InvokeError) -> InvokeError {
    use host::InvokeError as Error;
    let (make, reason): (fn(Failure) -> InvokeError, &str) = match error {
        Error::NoComponent { .. } => (InvokeError::NotFound, "unknown_component"),
        Error::NoInterface { .. } => (InvokeError::NotFound, "unknown_interface"),
        Error::NoFunction { .. } => (InvokeError::NotFound, "unknown_function"),
        Error::NotText { .. } => (InvokeError::BadArguments, "not_callable"),
        Error::Arguments { .. } => (InvokeError::BadArguments, "invalid_arguments"),
        Error::Prepare { failure, .. } => (InvokeError::Guest, failure.reason.as_str()),
        Error::Busy => (InvokeError::Busy, "no_capacity"),
        Error::Isolated => (InvokeError::Busy, "isolated"),
        Error::Deadline { .. } => (InvokeError::Deadline, "deadline_exceeded"),
        Error::Failed { .. } => (InvokeError::Guest, "component_failed"),
    };
    make(Failure { reason: reason.to_owned(), message: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_memory() {
        assert!(guest_memory_bytes() > 0);
    }
}
