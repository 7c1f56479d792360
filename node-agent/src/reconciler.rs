//! The loop that makes what runs become what should run: one owner, one `select!`, level-triggered.
//!
//! Every turn compares the whole desired state with the whole observed one (`reconcile`) and does what is missing;
//! a wake-up carries no data. Preparations run beside the loop; everything they change is changed here.

mod checkups;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::assignment::{AssignedGraph, Assignment};
use model::digest::Digest;
use model::graph::Artifact;
use model::id::GraphKey;
use model::log::Level;
use model::name::NodeName;
use model::report::{Failure, Progress, Report};
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use self::checkups::{Asked, Checkups, Outcome};
use crate::artifacts::{ArtifactStore, GRACE, Trust};
use crate::backoff::Backoff;
use crate::lease::Lease;
use crate::logs::LogBook;
use crate::reconcile::{self, Action, Attempt, AttemptState, Observed, Version};
use crate::report::{self, Sight};
use crate::runner::{PrepareError, Runner, Running as _};

/// Preparations at one time: fetching waits on the network while another compiles on all processors.
const PREPARATIONS_MAX: usize = 4;
/// The first wait after something that may heal.
const RETRY_LEAST: Duration = Duration::from_millis(100);
/// The longest: what heals is noticed within a minute.
const RETRY_MOST: Duration = Duration::from_secs(60);
/// How long a graph that gets no new requests may finish the old ones: the longest deadline of one call and some.
const DRAIN_MAX: Duration = model::graph::DEADLINE_MAX.saturating_add(Duration::from_secs(5));
/// How often artifacts that nothing needs are looked for.
const COLLECT_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// What answers requests now, for calls from outside.
pub type Table<G> = BTreeMap<GraphKey, G>;

/// The loop's parts.
pub struct Reconciler<R: Runner> {
    runner: Arc<R>,
    artifacts: Arc<ArtifactStore>,
    logs: LogBook,
    desired: watch::Receiver<Option<Arc<Assignment>>>,
    /// For how long what stops in isolation may be served.
    lease: Lease,
    report: watch::Sender<Arc<Report>>,
    table: watch::Sender<Arc<Table<R::Running>>>,
    graphs: BTreeMap<GraphKey, Graph<R::Running>>,
    preparations: JoinSet<Prepared<R::Running>>,
    prepared: HashMap<Id, (GraphKey, Version)>,
    draining: JoinSet<()>,
    checking: JoinSet<Outcome>,
    /// What is checked by each of them.
    checked: HashMap<Id, Asked>,
    progressed: Arc<Notify>,
}

/// What comes of a preparation: what can serve, and under which name the same serves already, if it does.
type Prepared<G> = Result<(G, Option<GraphKey>), PrepareError>;

/// One graph as the loop keeps it.
struct Graph<G> {
    serving: Option<(Version, G)>,
    attempt: Option<Trial>,
    /// Of what serves.
    checkups: Checkups,
}

/// An attempt at a version.
struct Trial {
    version: Version,
    backoff: Backoff,
    state: Trying,
}

enum Trying {
    Preparing { progress: Arc<Mutex<Progress>>, task: AbortHandle },
    Waiting { failure: Failure, until: Instant },
    Failed(Failure),
}

impl<R: Runner> Reconciler<R> {
    /// A loop that runs nothing yet.
    pub fn new(
        runner: Arc<R>,
        artifacts: Arc<ArtifactStore>,
        logs: LogBook,
        (desired, lease): (watch::Receiver<Option<Arc<Assignment>>>, Lease),
        report: watch::Sender<Arc<Report>>,
    ) -> Self {
        Self {
            lease,
            runner,
            artifacts,
            logs,
            desired,
            report,
            table: watch::Sender::default(),
            graphs: BTreeMap::new(),
            preparations: JoinSet::new(),
            prepared: HashMap::new(),
            draining: JoinSet::new(),
            checking: JoinSet::new(),
            checked: HashMap::new(),
            progressed: Arc::default(),
        }
    }

    /// What answers requests, kept current.
    pub fn table(&self) -> watch::Receiver<Arc<Table<R::Running>>> {
        self.table.subscribe()
    }

    /// Runs until `stop`; what serves then goes on serving until it is dropped with the loop.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut collect = interval(COLLECT_INTERVAL);
        collect.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let progressed = Arc::clone(&self.progressed);
        let mut returns = self.lease.returns();
        loop {
            self.settle();
            self.check();
            let due = self.next_due().into_iter().chain(self.next_check()).min();
            // Each arm is safe to cancel: what it waits for is kept by its owner and seen in the next turn.
            tokio::select! {
                changed = self.desired.changed() => if changed.is_err() { break },
                Some(ended) = self.preparations.join_next_with_id() => self.ended(ended),
                () = progressed.notified() => {}
                // It is owned by this loop as well, so that it does not end before it.
                _ = returns.changed() => {}
                () = at(due) => {}
                Some(_) = self.draining.join_next() => {}
                Some(ended) = self.checking.join_next_with_id() => self.checked(ended),
                _ = collect.tick() => self.collect().await,
                () = stop.cancelled() => break,
            }
        }
    }

    /// Does all that is to do now, then says what there is.
    fn settle(&mut self) {
        let assignment = self.desired.borrow_and_update().clone();
        let Some(assignment) = assignment else { return };
        let desired = self.desired_now(&assignment);
        let actions = reconcile::actions(&desired, &self.observed(), PREPARATIONS_MAX);
        let stopped = actions.iter().any(|action| matches!(action, Action::Stop(_)));
        for action in actions {
            match action {
                Action::Abandon(key) => self.abandon(&key),
                Action::Stop(key) => self.stop(&key),
                Action::Prepare(key, version) => {
                    if let Some(graph) = assignment.graphs.iter().find(|graph| graph.key == key) {
                        self.prepare(assignment.node.clone(), graph.clone(), version);
                    }
                }
            }
        }
        self.graphs.retain(|_, graph| graph.serving.is_some() || graph.attempt.is_some());
        if stopped {
            self.serve();
        }
        let current = report::build(&assignment, &self.sights());
        self.report.send_if_modified(|report| {
            let changed = **report != current;
            if changed {
                *report = Arc::new(current);
            }
            changed
        });
    }

    /// What should run, without what is not made to serve before a control plane has confirmed that it is to.
    fn desired_now(&self, assignment: &Assignment) -> BTreeMap<GraphKey, Version> {
        let mut desired = reconcile::desired(assignment);
        if !self.lease.is_held() {
            let serves = |key: &GraphKey| self.graphs.get(key).is_some_and(|graph| graph.serving.is_some());
            let stops = |key: &GraphKey| {
                let graph = assignment.graph(key);
                graph.is_some_and(|graph| graph.stops_in_isolation(&assignment.node))
            };
            desired.retain(|key, _| serves(key) || !stops(key));
        }
        desired
    }

    fn observed(&self) -> BTreeMap<GraphKey, Observed> {
        let now = Instant::now();
        let observed = |graph: &Graph<R::Running>| Observed {
            serving: graph.serving.as_ref().map(|(version, _)| version.clone()),
            attempt: graph.attempt.as_ref().map(|trial| Attempt {
                version: trial.version.clone(),
                state: match &trial.state {
                    Trying::Preparing { .. } => AttemptState::Preparing,
                    Trying::Waiting { until, .. } if *until <= now => AttemptState::Due,
                    Trying::Waiting { .. } => AttemptState::Waiting,
                    Trying::Failed(_) => AttemptState::Failed,
                },
            }),
        };
        self.graphs.iter().map(|(key, graph)| (key.clone(), observed(graph))).collect()
    }

    fn sights(&self) -> BTreeMap<GraphKey, Sight> {
        let sight = |graph: &Graph<R::Running>| Sight {
            serving: graph.serving.as_ref().map(|(version, _)| version.clone()),
            attempt: graph.attempt.as_ref().map(|trial| {
                let progress = match &trial.state {
                    Trying::Preparing { progress, .. } => {
                        progress.lock().unwrap_or_else(PoisonError::into_inner).clone()
                    }
                    Trying::Waiting { failure, .. } => Progress::Retrying(failure.clone()),
                    Trying::Failed(failure) => Progress::Failed(failure.clone()),
                };
                (trial.version.clone(), progress)
            }),
            failing: graph.failing(),
        };
        self.graphs.iter().map(|(key, graph)| (key.clone(), sight(graph))).collect()
    }

    fn abandon(&mut self, key: &GraphKey) {
        let trial = self.graphs.get_mut(key).and_then(|graph| graph.attempt.take());
        if let Some(Trial { state: Trying::Preparing { task, .. }, .. }) = trial {
            task.abort();
        }
    }

    fn stop(&mut self, key: &GraphKey) {
        if let Some((_, running)) = self.graphs.get_mut(key).and_then(|graph| graph.serving.take()) {
            self.logs.agent(key, Level::Info, "it is stopped on this node");
            self.drain(running);
        }
    }

    /// Keeps what gets no new requests until the old ones are answered.
    fn drain(&mut self, running: R::Running) {
        self.draining.spawn(async move {
            // After the longest deadline there is nothing left to wait for.
            let _ = timeout(DRAIN_MAX, running.drained()).await;
        });
    }

    fn prepare(&mut self, node: NodeName, assigned: AssignedGraph, version: Version) {
        let key = assigned.key.clone();
        self.logs.know(&key);
        let graph = self.graphs.entry(key.clone()).or_insert_with(|| Graph {
            serving: None,
            attempt: None,
            checkups: Checkups::new(),
        });
        let again = graph.attempt.take().filter(|trial| trial.version == version);
        let trust = if again.is_some() { Trust::Bytes } else { Trust::Length };
        let progress = Arc::new(Mutex::new(Progress::Fetching));
        let preparation = Preparation {
            runner: Arc::clone(&self.runner),
            artifacts: Arc::clone(&self.artifacts),
            node,
            graph: assigned,
            trust,
            takes_over: graph.serving.is_some(),
            progress: Arc::clone(&progress),
            progressed: Arc::clone(&self.progressed),
        };
        let task = self.preparations.spawn(preparation.run());
        self.prepared.insert(task.id(), (key, version.clone()));
        let backoff = again.map_or(Backoff::new(RETRY_LEAST, RETRY_MOST), |trial| trial.backoff);
        graph.attempt = Some(Trial { version, backoff, state: Trying::Preparing { progress, task } });
    }

    /// Takes the result of a preparation, unless it was superseded.
    fn ended(&mut self, ended: Result<(Id, Prepared<R::Running>), JoinError>) {
        let (id, result) = match ended {
            Ok(ended) => ended,
            Err(error) if error.is_cancelled() => {
                self.prepared.remove(&error.id());
                return;
            }
            Err(error) => {
                let failure =
                    Failure { reason: "internal".to_owned(), message: format!("the agent failed: {error}") };
                (error.id(), Err(PrepareError::Certain(failure)))
            }
        };
        let Some((key, version)) = self.prepared.remove(&id) else { return };
        let Some(graph) = self.graphs.get_mut(&key) else { return };
        // An attempt that was abandoned after it had ended has no say any more.
        let current = graph.attempt.as_ref().is_some_and(|trial| match &trial.state {
            Trying::Preparing { task, .. } => task.id() == id,
            Trying::Waiting { .. } | Trying::Failed(_) => false,
        });
        if !current {
            return;
        }
        match result {
            Ok((running, same)) => {
                graph.attempt = None;
                let before = same.and_then(|same| self.graphs.get(&same)).map(|graph| &graph.checkups);
                let checkups = checkups::of(&running, before);
                let Some(graph) = self.graphs.get_mut(&key) else { return };
                graph.checkups = checkups;
                let old = graph.serving.replace((version.clone(), running.clone()));
                running.judge(graph.failing().is_some());
                self.logs.agent(&key, Level::Info, format!("generation {} serves", version.generation));
                tracing::info!(graph = %key, generation = %version.generation, "serves");
                self.serve();
                if let Some((_, old)) = old {
                    self.drain(old);
                }
            }
            Err(error) => self.failed(&key, &version, error),
        }
    }

    fn failed(&mut self, key: &GraphKey, version: &Version, error: PrepareError) {
        let Some(trial) = self.graphs.get_mut(key).and_then(|graph| graph.attempt.as_mut()) else { return };
        let (level, said) = match &error {
            PrepareError::Certain(failure) => (Level::Error, format!("cannot serve: {failure}")),
            PrepareError::MayHeal(failure) => (Level::Warn, format!("does not serve yet: {failure}")),
        };
        trial.state = match error {
            PrepareError::Certain(failure) => Trying::Failed(failure),
            PrepareError::MayHeal(failure) => {
                Trying::Waiting { failure, until: Instant::now() + trial.backoff.after_failure() }
            }
        };
        tracing::warn!(graph = %key, generation = %version.generation, "{said}");
        self.logs.agent(key, level, format!("generation {} {said}", version.generation));
    }

    /// Gives new requests to what serves now, and to nothing else.
    fn serve(&self) {
        let serving = |(key, graph): (&GraphKey, &Graph<R::Running>)| {
            graph.serving.as_ref().map(|(_, running)| (key.clone(), running.clone()))
        };
        let table: Table<R::Running> = self.graphs.iter().filter_map(serving).collect();
        self.runner.serve(table.values().cloned().collect());
        self.table.send_replace(Arc::new(table));
    }

    /// When the next attempt that waits is due.
    fn next_due(&self) -> Option<Instant> {
        let until = |graph: &Graph<R::Running>| match graph.attempt.as_ref()?.state {
            // One that is due and still waits has no room; the end of another preparation wakes the loop.
            Trying::Waiting { until, .. } if until > Instant::now() => Some(until),
            Trying::Waiting { .. } | Trying::Preparing { .. } | Trying::Failed(_) => None,
        };
        self.graphs.values().filter_map(until).min()
    }

    /// Removes artifacts that neither the assignment nor what drains needs.
    async fn collect(&mut self) {
        let Some(assignment) = self.desired.borrow().clone() else { return };
        // Nothing that drains reads its artifacts again, and what is prepared is in the assignment: `settle` has
        // just seen it, and no preparation starts while this waits.
        let needed: BTreeSet<Digest> = needed(&assignment).map(|artifact| artifact.digest).collect();
        match self.artifacts.collect(&needed, GRACE).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "artifacts that nothing needs were removed"),
            Err(error) => tracing::warn!(%error, "artifacts that nothing needs could not be removed"),
        }
    }
}

/// Every artifact that the node of an assignment needs.
fn needed(assignment: &Assignment) -> impl Iterator<Item = Artifact> {
    assignment.graphs.iter().flat_map(|graph| graph.artifacts_on(&assignment.node))
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => pending().await,
    }
}

/// One attempt at making one graph answer.
struct Preparation<R> {
    runner: Arc<R>,
    artifacts: Arc<ArtifactStore>,
    node: NodeName,
    graph: AssignedGraph,
    trust: Trust,
    /// Whether another generation serves until this one does.
    takes_over: bool,
    progress: Arc<Mutex<Progress>>,
    progressed: Arc<Notify>,
}

impl<R: Runner> Preparation<R> {
    async fn run(self) -> Prepared<R::Running> {
        let artifacts: BTreeSet<Artifact> = self.graph.artifacts_on(&self.node).collect();
        self.artifacts.ensure(&artifacts, self.trust).await.map_err(|error| {
            PrepareError::MayHeal(Failure { reason: error.reason().to_owned(), message: error.to_string() })
        })?;
        let progress = |now: Progress| {
            *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = now;
            self.progressed.notify_one();
        };
        progress(Progress::Compiling);
        let prepared = self.runner.prepare(&self.graph, &progress).await?;
        // One that does not answer as its owner wants is worse than none.
        let same = self.runner.passes_checks(&prepared).await?;
        // Without one before it, a graph that serves in part is better than one that does not serve.
        if self.takes_over {
            self.runner.can_take_over(&prepared).await?;
        }
        Ok((prepared, same))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
mod tests;
