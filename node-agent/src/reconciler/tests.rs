//! The loop around a runner that does what a test says, without wasm, network or sleep.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use model::graph::{CheckTerms, OnIsolation, Settings};
use model::id::{ClusterId, Generation, RevisionNumber, Uid};
use model::linked::{LinkedComponent, LinkedGraph, Origin};
use model::name::ComponentName;
use model::placement::Placement;
use model::report::GraphReport;
use tokio::sync::{Semaphore, mpsc};

use super::*;
use crate::control_plane::ControlPlane;
use crate::runner::{Call, InvokeError, Running};

/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(30);

/// What becomes of a preparation.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    Serves,
    /// As [`Fate::Serves`], and the same serves already.
    Again,
    /// As [`Fate::Serves`], but what it calls elsewhere is not there.
    Alone,
    /// As [`Fate::Serves`], but its components do not answer as they should.
    Sick,
    Certain,
    MayHeal,
}

/// A graph that is drained when its gate is opened.
#[derive(Clone)]
struct Fake {
    name: String,
    is_alone: bool,
    is_sick: bool,
    /// As what the same serves already.
    same: Option<GraphKey>,
    /// What its checks come to while it serves; it is checked again only where there is something.
    health: Option<watch::Receiver<Result<(), String>>>,
    is_failing: Arc<AtomicBool>,
    gate: Arc<Semaphore>,
}

/// How often what serves is checked here.
const EVERY: Duration = Duration::from_millis(1);

impl Running for Fake {
    fn checked(&self) -> Vec<(ComponentName, CheckTerms)> {
        let every = self.health.as_ref().map(|_| EVERY);
        vec![("app".parse().unwrap(), CheckTerms { every, ..CheckTerms::default() })]
    }

    async fn check(&self, _: &ComponentName) -> Option<Result<(), String>> {
        Some(self.health.as_ref().expect("it is checked again").borrow().clone())
    }

    fn judge(&self, is_failing: bool) {
        self.is_failing.store(is_failing, Ordering::SeqCst);
    }

    async fn invoke(&self, _: Call) -> Result<String, InvokeError> {
        Ok(self.name.clone())
    }

    async fn drained(&self) {
        let _ = self.gate.acquire().await;
    }
}

/// Each preparation takes its fate from a channel, and waits until there is one.
struct FakeRunner {
    fates: tokio::sync::Mutex<mpsc::UnboundedReceiver<Fate>>,
    preparing: AtomicUsize,
    serving: watch::Sender<Vec<String>>,
    health: Option<watch::Receiver<Result<(), String>>>,
    gate: Arc<Semaphore>,
}

impl Runner for FakeRunner {
    type Running = Fake;

    async fn prepare(
        &self,
        graph: &AssignedGraph,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Fake, PrepareError> {
        self.preparing.fetch_add(1, Ordering::SeqCst);
        progress(Progress::Starting);
        let fate = self.fates.lock().await.recv().await.unwrap();
        let failure = Failure { reason: "told".to_owned(), message: "to fail".to_owned() };
        match fate {
            Fate::Serves | Fate::Again | Fate::Alone | Fate::Sick => Ok(Fake {
                name: format!("{}@{}", graph.key, graph.generation),
                is_alone: fate == Fate::Alone,
                is_sick: fate == Fate::Sick,
                same: (fate == Fate::Again).then(|| graph.key.clone()),
                health: self.health.clone(),
                is_failing: Arc::default(),
                gate: self.gate.clone(),
            }),
            Fate::Certain => Err(PrepareError::Certain(failure)),
            Fate::MayHeal => Err(PrepareError::MayHeal(failure)),
        }
    }

    async fn can_take_over(&self, graph: &Fake) -> Result<(), PrepareError> {
        let failure = Failure { reason: "peer_not_ready".to_owned(), message: graph.name.clone() };
        if graph.is_alone { Err(PrepareError::MayHeal(failure)) } else { Ok(()) }
    }

    async fn passes_checks(&self, graph: &Fake) -> Result<Option<GraphKey>, PrepareError> {
        let failure = Failure { reason: "check_failed".to_owned(), message: graph.name.clone() };
        if graph.is_sick { Err(PrepareError::MayHeal(failure)) } else { Ok(graph.same.clone()) }
    }

    fn serve(&self, graphs: Vec<Fake>) {
        let shown = |graph: Fake| match graph.is_failing.load(Ordering::SeqCst) {
            true => format!("{} fails", graph.name),
            false => graph.name,
        };
        self.serving.send_replace(graphs.into_iter().map(shown).collect());
    }
}

struct Scene {
    _folder: tempfile::TempDir,
    runner: Arc<FakeRunner>,
    fates: mpsc::UnboundedSender<Fate>,
    desired: watch::Sender<Option<Arc<Assignment>>>,
    report: watch::Receiver<Arc<Report>>,
    serving: watch::Receiver<Vec<String>>,
    lease: Lease,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

impl Scene {
    fn new() -> Self {
        Self::of(None)
    }

    /// One whose graphs are checked while they serve, if that is what their checks come to.
    fn of(health: Option<watch::Receiver<Result<(), String>>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (fates, receiver) = mpsc::unbounded_channel();
        let (served, serving) = watch::channel(Vec::new());
        let runner = Arc::new(FakeRunner {
            fates: tokio::sync::Mutex::new(receiver),
            preparing: AtomicUsize::new(0),
            serving: served,
            health,
            gate: Arc::new(Semaphore::new(0)),
        });
        let artifacts = Arc::new(ArtifactStore::open(folder.path(), ControlPlane::unencrypted(&[])).unwrap());
        let (desired, orders) = watch::channel(None);
        let node: model::name::NodeName = "n1".parse().unwrap();
        let (reports, report) = watch::channel(Arc::new(report::empty(node.clone())));
        let lease = Lease::default();
        let told = (orders, lease.clone());
        let reconciler = Reconciler::new(runner.clone(), artifacts, LogBook::new(node), told, reports);
        let stop = CancellationToken::new();
        let running = tokio::spawn(reconciler.run(stop.clone()));
        Self { _folder: folder, runner, fates, desired, report, serving, lease, stop, running }
    }

    fn assign(&self, generation: u64, graphs: &[(&str, u64)]) {
        self.assign_as(generation, graphs, &LinkedGraph::default());
    }

    fn assign_as(&self, generation: u64, graphs: &[(&str, u64)], linked: &LinkedGraph) {
        let graphs = graphs.iter().map(|(key, generation)| AssignedGraph {
            key: key.parse().unwrap(),
            uid: Uid::new(format!("uid-{key}")).unwrap(),
            revision: RevisionNumber(1),
            generation: Generation(*generation),
            linked: linked.clone(),
            placement: Placement::whole("n1".parse().unwrap()),
            failing: BTreeSet::new(),
        });
        self.desired.send_replace(Some(Arc::new(Assignment {
            cluster: ClusterId::new("c").unwrap(),
            node: "n1".parse().unwrap(),
            generation: Generation(generation),
            graphs: graphs.collect(),
            peers: BTreeMap::new(),
            revoked: BTreeSet::new(),
            labels: BTreeMap::new(),
        })));
    }

    fn fate(&self, fate: Fate) {
        self.fates.send(fate).unwrap();
    }

    async fn serves(&mut self, expected: &[&str]) {
        let wait = self.serving.wait_for(|serving| serving.iter().eq(expected.iter()));
        timeout(PATIENCE, wait).await.expect("it serves what was expected").unwrap();
    }

    async fn reported(&mut self, key: &str, is: impl Fn(&GraphReport) -> bool) {
        let key = key.parse().unwrap();
        let wait =
            self.report.wait_for(|report| report.graphs.iter().any(|graph| graph.key == key && is(graph)));
        timeout(PATIENCE, wait).await.expect("it reports what was expected").unwrap();
    }

    async fn end(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.running).await.expect("the loop ends").unwrap();
    }
}

#[tokio::test]
async fn a_new_generation_takes_over_and_the_old_one_serves_until_then() {
    let mut scene = Scene::new();
    scene.assign(1, &[("a", 1)]);
    scene.fate(Fate::Serves);
    scene.serves(&["default/a@1"]).await;

    scene.assign(2, &[("a", 2)]);
    scene.reported("a", |graph| graph.progress == Progress::Starting).await;
    assert_eq!(*scene.serving.borrow(), ["default/a@1"], "the old one serves meanwhile");
    scene.reported("a", |graph| graph.serving == Some(Generation(1)) && graph.desired == Generation(2)).await;
    scene.fate(Fate::Serves);
    scene.serves(&["default/a@2"]).await;
    scene.reported("a", |graph| graph.progress == Progress::Serving).await;

    scene.assign(3, &[]);
    scene.serves(&[]).await;
    scene.end().await;
}

#[tokio::test]
async fn a_generation_takes_over_once_what_it_calls_is_there_and_begins_without() {
    let mut scene = Scene::new();
    scene.assign(1, &[("a", 1)]);
    scene.fate(Fate::Alone);
    scene.serves(&["default/a@1"]).await;

    scene.assign(2, &[("a", 2)]);
    scene.fate(Fate::Alone);
    let waits = |graph: &GraphReport| matches!(&graph.progress, Progress::Retrying(failure) if failure.reason == "peer_not_ready");
    scene.reported("a", waits).await;
    assert_eq!(*scene.serving.borrow(), ["default/a@1"], "the old one serves meanwhile");
    scene.fate(Fate::Serves);
    scene.serves(&["default/a@2"]).await;
    scene.end().await;
}

#[tokio::test]
async fn one_that_does_not_pass_its_checks_never_serves_whether_there_is_one_before_it_or_not() {
    let mut scene = Scene::new();
    scene.assign(1, &[("a", 1)]);
    scene.fate(Fate::Sick);
    let waits = |graph: &GraphReport| matches!(&graph.progress, Progress::Retrying(failure) if failure.reason == "check_failed");
    scene.reported("a", waits).await;
    assert!(scene.serving.borrow().is_empty());
    scene.fate(Fate::Serves);
    scene.serves(&["default/a@1"]).await;
    scene.assign(2, &[("a", 2)]);
    scene.fate(Fate::Sick);
    scene.reported("a", waits).await;
    assert_eq!(*scene.serving.borrow(), ["default/a@1"], "the old one serves meanwhile");
    scene.fate(Fate::Serves);
    scene.serves(&["default/a@2"]).await;
    scene.end().await;
}

#[tokio::test]
async fn a_certain_failure_is_reported_and_not_tried_again_until_another_generation_comes() {
    let mut scene = Scene::new();
    scene.assign(1, &[("a", 1)]);
    scene.fate(Fate::Serves);
    scene.serves(&["default/a@1"]).await;
    scene.assign(2, &[("a", 2)]);
    scene.fate(Fate::Certain);
    scene.reported("a", |graph| matches!(graph.progress, Progress::Failed(_))).await;
    scene.reported("a", |graph| graph.serving == Some(Generation(1))).await;
    // A later picture with the same generation of it changes nothing.
    scene.assign(3, &[("a", 2), ("b", 3)]);
    scene.fate(Fate::Serves);
    scene.serves(&["default/a@1", "default/b@3"]).await;
    assert_eq!(scene.runner.preparing.load(Ordering::SeqCst), 3);
    scene.assign(4, &[("a", 4), ("b", 3)]);
    scene.fate(Fate::Serves);
    scene.serves(&["default/a@4", "default/b@3"]).await;
    scene.end().await;
}

#[tokio::test]
async fn what_may_heal_is_tried_again_after_a_while() {
    let mut scene = Scene::new();
    scene.assign(1, &[("a", 1)]);
    for _ in 0..3 {
        scene.fate(Fate::MayHeal);
    }
    scene.fate(Fate::Serves);
    scene.serves(&["default/a@1"]).await;
    assert_eq!(scene.runner.preparing.load(Ordering::SeqCst), 4);
    scene.end().await;
}

#[tokio::test]
async fn an_attempt_that_is_not_wanted_any_more_is_given_up() {
    let mut scene = Scene::new();
    scene.assign(1, &[("a", 1)]);
    scene.reported("a", |graph| graph.progress == Progress::Starting).await;
    scene.assign(2, &[("a", 2)]);
    // The attempt before would take what is meant for this one.
    scene.reported("a", |graph| graph.progress == Progress::Starting && graph.desired == Generation(2)).await;
    scene.fate(Fate::Serves);
    scene.serves(&["default/a@2"]).await;
    scene.assign(3, &[("a", 3)]);
    scene.reported("a", |graph| graph.progress == Progress::Starting && graph.desired == Generation(3)).await;
    scene.assign(4, &[]);
    scene.serves(&[]).await;
    scene.end().await;
}

#[tokio::test]
async fn no_more_are_prepared_at_once_than_there_is_room_for() {
    let mut scene = Scene::new();
    let names: Vec<String> = (0..3 * PREPARATIONS_MAX).map(|number| format!("g{number:02}")).collect();
    let graphs: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    scene.assign(1, &graphs);
    scene.reported(&names[PREPARATIONS_MAX - 1], |graph| graph.progress == Progress::Starting).await;
    assert_eq!(scene.runner.preparing.load(Ordering::SeqCst), PREPARATIONS_MAX);
    for _ in &names {
        scene.fate(Fate::Serves);
    }
    let expected: Vec<String> = names.iter().map(|name| format!("default/{name}@1")).collect();
    scene.serves(&expected.iter().map(String::as_str).collect::<Vec<_>>()).await;
    scene.end().await;
}

#[tokio::test]
async fn what_serves_is_checked_again_and_again_and_serves_on_while_it_fails() {
    let (health, outcome) = watch::channel(Ok(()));
    let mut scene = Scene::of(Some(outcome));
    scene.assign(1, &[("a", 1)]);
    scene.fate(Fate::Serves);
    scene.serves(&["default/a@1"]).await;
    drop(health.send_replace(Err("it answered 500".to_owned())));
    scene.serves(&["default/a@1 fails"]).await;
    let fails = |graph: &GraphReport| {
        let why = graph.failing.as_deref();
        graph.progress == Progress::Serving && why == Some("it answered 500, 3 times in a row")
    };
    scene.reported("a", fails).await;
    drop(health.send_replace(Ok(())));
    scene.serves(&["default/a@1"]).await;
    scene.reported("a", |graph| graph.failing.is_none()).await;

    // Another generation is judged by its own checks.
    drop(health.send_replace(Err("it answered 503".to_owned())));
    scene.serves(&["default/a@1 fails"]).await;
    drop(health.send_replace(Ok(())));
    scene.assign(2, &[("a", 2)]);
    scene.fate(Fate::Serves);
    scene.serves(&["default/a@2"]).await;
    scene.reported("a", |graph| graph.serving == Some(Generation(2)) && graph.failing.is_none()).await;

    // What is only placed anew fails on: not even once is it said to pass.
    drop(health.send_replace(Err("it answered 504".to_owned())));
    scene.serves(&["default/a@2 fails"]).await;
    scene.assign(3, &[("a", 3)]);
    let begins = scene.serving.wait_for(|serving| serving.iter().any(|name| name.starts_with("default/a@3")));
    scene.fates.send(Fate::Again).unwrap();
    let begun = timeout(PATIENCE, begins).await.expect("it serves").unwrap().clone();
    assert_eq!(begun, ["default/a@3 fails"]);
    scene.end().await;
}

/// A graph that stops in isolation.
fn single() -> LinkedGraph {
    let component = LinkedComponent {
        artifact: Artifact { digest: Digest::from_bytes([0; 32]), size: 0 },
        origin: Origin::Graph,
        exports: Vec::new(),
        settings: Settings { on_isolation: OnIsolation::Stop, ..Settings::default() },
    };
    LinkedGraph { components: [("app".parse().unwrap(), component)].into(), ..LinkedGraph::default() }
}

#[tokio::test]
async fn what_stops_in_isolation_is_not_made_to_serve_before_it_is_confirmed() {
    let mut scene = Scene::new();
    scene.assign_as(1, &[("a", 1)], &single());
    scene.reported("a", |graph| graph.serving.is_none() && graph.desired == Generation(1)).await;
    assert_eq!(scene.runner.preparing.load(Ordering::SeqCst), 0);
    scene.lease.renew(Instant::now() + PATIENCE);
    // Its artifact cannot be had here: that it is asked for is enough.
    let tried = |graph: &GraphReport| matches!(&graph.progress, Progress::Retrying(failure) if failure.reason.starts_with("artifact"));
    scene.reported("a", tried).await;
    scene.end().await;
}
