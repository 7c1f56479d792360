//! From an assigned graph and files on disk to something that answers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use model::assignment::AssignedGraph;
use model::digest::Digest;
use model::graph::{CapabilitySpec, Settings};
use model::link::GraphVersion;
use model::linked::{LinkedComponent, LinkedGraph};
use model::name::{ComponentName, NodeName};
use model::report::{Failure, Progress};

use crate::host::Host;
use crate::host::artifact::{self, ArtifactError, Artifacts};
use crate::host::capabilities::sqlite::{Database, OpenError as DatabaseError, Source};
use crate::host::engine;
use crate::host::fuse::{self, FuseError};
use crate::host::instance::{CallError, Prepared, until};
use crate::host::link::{self, LinkError, Offers};
use crate::host::logs::GraphLog;
use crate::host::provide::Provider;
use crate::host::relay::{self, Relay};
use crate::host::remote::Site;
use crate::host::running::{Running, Traffic};
use crate::host::slice::{self, SliceError};
use crate::host::state::Call;
use crate::link::session::Links;
use crate::traces::Trace;

/// What the log calls the first instance, which no request made.
const START_REQUEST: &str = "start";

/// What a graph needs, gathered once.
pub(crate) struct Plan {
    pub(crate) assigned: AssignedGraph,
    pub(crate) node: NodeName,
    pub(crate) settings: BTreeMap<ComponentName, Arc<Settings>>,
    paths: BTreeMap<Digest, PathBuf>,
}

/// Why a graph does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareError {
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    #[error(transparent)]
    Slice(#[from] SliceError),
    #[error(transparent)]
    Fuse(#[from] FuseError),
    #[error("the slice of component `{root}` does not compile: {message}")]
    Compile { root: ComponentName, message: String },
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("capability `{name}` cannot be called from other nodes: {message}")]
    Relay { name: ComponentName, message: String },
    #[error("the seed script of capability `{name}` is not UTF-8")]
    SeedText { name: ComponentName },
    #[error("component `{root}` does not start: {message}")]
    Start { root: ComponentName, message: String },
    #[error("preparing ended without a result: {message}")]
    Ended { message: String },
}

impl Plan {
    /// Which graph it is for.
    pub(crate) fn version(&self) -> GraphVersion {
        let AssignedGraph { key, uid, generation, .. } = &self.assigned;
        GraphVersion { graph: key.clone(), uid: uid.clone(), generation: *generation }
    }

    pub(crate) fn new(node: NodeName, graph: &AssignedGraph, artifacts: &dyn Artifacts) -> Self {
        let linked = &graph.linked;
        let settings = linked
            .components
            .iter()
            .map(|(name, component)| (name.clone(), Arc::new(component.settings.clone())))
            .collect();
        let paths =
            linked.artifacts().map(|artifact| (artifact.digest, artifacts.path(&artifact.digest))).collect();
        Self { assigned: graph.clone(), node, settings, paths }
    }

    pub(crate) fn linked(&self) -> &LinkedGraph {
        &self.assigned.linked
    }

    /// Which part of the graph is here.
    pub(crate) fn site(&self) -> Site<'_> {
        Site { placement: &self.assigned.placement, node: &self.node }
    }

    fn read(&self, digest: &Digest) -> Result<Arc<[u8]>, ArtifactError> {
        artifact::read(self, digest)
    }
}

impl Artifacts for Plan {
    fn path(&self, digest: &Digest) -> PathBuf {
        self.paths.get(digest).cloned().unwrap_or_default()
    }
}

impl Host {
    pub(crate) async fn prepare_running(
        &self,
        graph: &AssignedGraph,
        artifacts: &dyn Artifacts,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Running, PrepareError> {
        let plan = Arc::new(Plan::new(self.parts.logs.node().clone(), graph, artifacts));
        let log = Arc::new(GraphLog::new(self.parts.logs.clone(), graph.key.clone()));
        let mut entries = BTreeMap::new();
        for root in roots(plan.linked(), plan.site()) {
            entries.insert(root.clone(), self.prepare_kept(&plan, &root).await?);
        }
        let mut providers = BTreeMap::new();
        for name in plan.site().called_from_elsewhere(plan.linked()) {
            let prepared = match entries.get(&name) {
                Some(prepared) => prepared.clone(),
                None => self.prepare_kept(&plan, &name).await?,
            };
            providers.insert(name, Arc::new(Provider::of(prepared)));
        }
        progress(Progress::Starting);
        let provided = providers.values().map(|provider| provider.prepared());
        for prepared in entries.values().chain(provided) {
            start(prepared, &log).await?;
        }
        Ok(Running {
            host: self.clone(),
            plan,
            log,
            entries,
            invoked: tokio::sync::Mutex::default(),
            providers,
            traffic: Arc::new(Traffic::default()),
            has_passed: AtomicBool::new(false),
            is_failing: AtomicBool::new(false),
            stops_in_isolation: graph.stops_in_isolation(self.parts.logs.node()),
        })
    }

    /// The same as `prepare_slice`, with the room that is reserved for it.
    async fn prepare_kept(
        &self,
        plan: &Arc<Plan>,
        root: &ComponentName,
    ) -> Result<Arc<Prepared>, PrepareError> {
        let prepared = self.prepare_slice(plan, root).await?;
        let reserves = &plan.linked().reserves;
        let kept = reserves.instances.get(root).map(|count| {
            let memories = prepared.weight.saturating_mul(*count);
            self.parts.reserves.claim(&plan.assigned.key, root, reserves.priority, memories)
        });
        Ok(Arc::new(prepared.kept(kept)))
    }

    /// Everything up to the first instance of the slice of `root`, a component or a capability.
    pub(crate) async fn prepare_slice(
        &self,
        plan: &Arc<Plan>,
        root: &ComponentName,
    ) -> Result<Prepared, PrepareError> {
        let (host, plan, root) = (self.clone(), plan.clone(), root.clone());
        // Reading, composing and compiling take CPU time and disk; a panic in a library ends here, too.
        tokio::task::spawn_blocking(move || host.build(&plan, &root))
            .await
            .map_err(|error| PrepareError::Ended { message: error.to_string() })?
    }

    fn build(&self, plan: &Plan, root: &ComponentName) -> Result<Prepared, PrepareError> {
        let Some(spec) = plan.linked().capabilities.get(root) else {
            return self.build_slice(plan, plan.linked(), root, &plan.settings, None);
        };
        let relay =
            relay::relay(spec).map_err(|message| PrepareError::Relay { name: root.clone(), message })?;
        let linked = relay.graph(root, spec);
        let settings = |component: &LinkedComponent| Arc::new(component.settings.clone());
        let settings = linked.components.iter().map(|(name, component)| (name.clone(), settings(component)));
        self.build_slice(plan, &linked, root, &settings.collect(), Some(relay))
    }

    fn build_slice(
        &self,
        plan: &Plan,
        linked: &LinkedGraph,
        root: &ComponentName,
        settings: &BTreeMap<ComponentName, Arc<Settings>>,
        relay: Option<&Relay>,
    ) -> Result<Prepared, PrepareError> {
        let slice = slice::slice(linked, plan.site(), root)?;
        let mut artifacts = BTreeMap::new();
        for instance in &slice.instances {
            if let Some(component) = linked.components.get(&instance.component)
                && !artifacts.contains_key(&instance.component)
            {
                let digest = &component.artifact.digest;
                let bytes = match relay.filter(|relay| relay.digest() == digest) {
                    Some(relay) => relay.bytes.clone(),
                    None => plan.read(digest)?,
                };
                artifacts.insert(instance.component.clone(), bytes);
            }
        }
        let fused = fuse::fuse(linked, &slice, &artifacts)?;
        let engine = &self.parts.engine;
        let component = self
            .parts
            .compiled
            .component(engine, &fused.bytes)
            .map_err(|error| PrepareError::Compile { root: root.clone(), message: format!("{error:#}") })?;
        let mut databases = BTreeMap::new();
        for name in fused.slots.values().filter_map(|slot| slot.capability()) {
            if let Some(spec) = linked.capabilities.get(name) {
                databases.insert(name.clone(), self.database(plan, name, spec)?);
            }
        }
        let (version, road) = (plan.version(), &self.parts.http_road);
        let offers = Offers { settings, databases: &databases, version: &version, road };
        let (pre, remotes) = link::link(engine, root, &component, &fused.slots, &offers)?;
        let links =
            (!remotes.is_empty()).then(|| Arc::new(Links::new(version, remotes, self.parts.carrier.clone())));
        let pool = self.parts.pool;
        let weight = component
            .resources_required()
            .map_or(engine::SLICE_INSTANCES_MAX, |needs| pool.weight(needs.num_memories, needs.num_tables));
        let members: Vec<Arc<Settings>> =
            slice.instances.iter().filter_map(|instance| settings.get(&instance.component).cloned()).collect();
        let deadline = settings.get(root).map(|settings| settings.limits.deadline).unwrap_or_default();
        let client = self.parts.client.clone();
        let prepared = Prepared::new(root.clone(), (component, pre), weight, &members, deadline, client, links);
        let of_slice: BTreeSet<&ComponentName> =
            slice.instances.iter().map(|instance| &instance.component).collect();
        let scaled = of_slice.into_iter().filter(|member| plan.linked().scaling.contains_key(*member));
        Ok(prepared.counted(self.parts.calls.of(&plan.assigned.key, scaled)))
    }

    fn database(
        &self,
        plan: &Plan,
        name: &ComponentName,
        spec: &CapabilitySpec,
    ) -> Result<Arc<Database>, PrepareError> {
        let CapabilitySpec::Sqlite { database, seed } = spec;
        let seed = match seed {
            None => None,
            Some(artifact) => {
                let bytes = plan.read(&artifact.digest)?;
                let text =
                    std::str::from_utf8(&bytes).map_err(|_| PrepareError::SeedText { name: name.clone() })?;
                Some(text.to_owned())
            }
        };
        let key = &plan.assigned.key;
        let path = self
            .parts
            .data_dir
            .join("capabilities")
            .join(key.namespace.as_str())
            .join(key.graph.as_str())
            .join(format!("{name}.sqlite"));
        Ok(self.parts.databases.open(Source { path, name: database.clone(), seed })?)
    }
}

/// The components here that are called from outside; in a graph without ingress, those that no link reaches.
fn roots(linked: &LinkedGraph, site: Site<'_>) -> Vec<ComponentName> {
    let mut roots: Vec<ComponentName> = linked.ingress.iter().map(|route| route.to.clone()).collect();
    if roots.is_empty() {
        let reached = |name: &ComponentName| linked.links.iter().any(|link| link.to.member() == Some(name));
        roots = linked.components.keys().filter(|name| !reached(name)).cloned().collect();
    }
    roots.retain(|root| site.is_here(root));
    roots.sort();
    roots.dedup();
    roots
}

/// Makes one instance, to see that it can be made.
async fn start(prepared: &Arc<Prepared>, log: &Arc<GraphLog>) -> Result<(), PrepareError> {
    let deadline = Instant::now() + prepared.deadline;
    let trace = Trace::default();
    let call = Call { request: START_REQUEST.into(), log: log.clone(), deadline, trace };
    let mut store = prepared.store(call);
    let made = until(deadline, prepared.instantiate(&mut store)).await;
    let failed = |message: String| PrepareError::Start { root: prepared.root.clone(), message };
    match made {
        Ok(_) => Ok(()),
        Err(CallError::Deadline) => Err(failed("its start function ran past the deadline".to_owned())),
        Err(CallError::Trap(error)) => Err(failed(format!("{error:#}"))),
    }
}

impl From<PrepareError> for Failure {
    fn from(error: PrepareError) -> Self {
        let reason = match &error {
            PrepareError::Artifact(ArtifactError::Read { .. }) => "artifact_unavailable",
            PrepareError::Artifact(ArtifactError::Corrupt { .. }) => "artifact_corrupt",
            PrepareError::Slice(SliceError::TooLarge { .. }) => "slice_too_large",
            PrepareError::Slice(_) => "invalid_links",
            PrepareError::Fuse(_) => "fuse_failed",
            PrepareError::Compile { .. } => "compile_failed",
            PrepareError::Link(LinkError::Unknown { .. }) => "import_unknown",
            PrepareError::Link(_) => "link_failed",
            PrepareError::Database(DatabaseError::Seed { .. } | DatabaseError::SeedOpen { .. })
            | PrepareError::SeedText { .. } => "seed_failed",
            PrepareError::Database(_) => "database_failed",
            PrepareError::Start { .. } => "start_failed",
            PrepareError::Relay { .. } => "link_failed",
            PrepareError::Ended { .. } => "prepare_failed",
        };
        let reason = reason.to_owned();
        // With all causes.
        Self { reason, message: format!("{:#}", anyhow::Error::new(error)) }
    }
}
