//! Checks of what serves: made a few at one time, each as often as its graph says, and told in the report.
//!
//! A graph that fails goes on serving here: who asks is sent to other nodes, as long as it passes on one of them.

use std::collections::BTreeMap;

use model::graph::CheckTerms;
use model::id::GraphKey;
use model::log::Level;
use model::name::ComponentName;
use tokio::task::{Id, JoinError};
use tokio::time::Instant;

use super::{Graph, Reconciler};
use crate::backoff;
use crate::checkup::Checkup;
use crate::reconcile::Version;
use crate::runner::{Runner, Running};

/// Checks at one time: what serves must not wait for what is checked.
const CHECKS_MAX: usize = 4;

/// Whom one check asks.
pub(super) struct Asked {
    key: GraphKey,
    version: Version,
    component: ComponentName,
}

/// What comes of one: nothing where nothing was asked.
pub(super) type Outcome = Option<Result<(), String>>;

/// The checks of a graph that serves, by component.
pub(super) type Checkups = BTreeMap<ComponentName, Checkup>;

/// The checks of one that begins to serve. What is only placed anew goes on from those `before`: it was not asked again, and
/// fails on if it failed.
pub(super) fn of(running: &impl Running, before: Option<&Checkups>) -> Checkups {
    let now = Instant::now();
    let checkup = |(name, terms): (ComponentName, CheckTerms)| {
        let mut checkup = Checkup::new(&terms, now, backoff::fraction())?;
        if let Some(before) = before.and_then(|before| before.get(&name)) {
            checkup.go_on(before, now);
        }
        Some((name, checkup))
    };
    running.checked().into_iter().filter_map(checkup).collect()
}

impl<G> Graph<G> {
    /// Why what serves fails here, if it does.
    pub(super) fn failing(&self) -> Option<String> {
        self.serving.as_ref()?;
        let mut failing = self.checkups.values().filter_map(Checkup::failing);
        failing.next().map(str::to_owned)
    }
}

impl<R: Runner> Reconciler<R> {
    /// Begins the checks that are due, as far as there is room.
    pub(super) fn check(&mut self) {
        let now = Instant::now();
        let room = CHECKS_MAX.saturating_sub(self.checking.len());
        if room == 0 {
            return;
        }
        let mut due: Vec<(Instant, GraphKey, ComponentName)> = Vec::new();
        for (key, graph) in self.graphs.iter().filter(|(_, graph)| graph.serving.is_some()) {
            let of_graph = graph.checkups.iter().filter_map(|(name, checkup)| Some((checkup.due()?, name)));
            let of_graph = of_graph.filter(|(due, _)| *due <= now);
            due.extend(of_graph.map(|(due, name)| (due, key.clone(), name.clone())));
        }
        // Where there is more than can be asked, those that come first by name would be asked again and again.
        due.sort_unstable();
        for (_, key, component) in due.into_iter().take(room) {
            let Some(graph) = self.graphs.get_mut(&key) else { continue };
            let Some((version, running)) = &graph.serving else { continue };
            let Some(checkup) = graph.checkups.get_mut(&component) else { continue };
            checkup.begin();
            let (running, asked) = (running.clone(), component.clone());
            let version = version.clone();
            let task = self.checking.spawn(async move { running.check(&asked).await });
            self.checked.insert(task.id(), Asked { key, version, component });
        }
    }

    /// When the next check is due that there is room for; the end of another one wakes the loop.
    pub(super) fn next_check(&self) -> Option<Instant> {
        if self.checking.len() >= CHECKS_MAX {
            return None;
        }
        let serving = self.graphs.values().filter(|graph| graph.serving.is_some());
        serving.flat_map(|graph| graph.checkups.values()).filter_map(Checkup::due).min()
    }

    /// Takes what came of a check, unless another generation serves by now.
    pub(super) fn checked(&mut self, ended: Result<(Id, Outcome), JoinError>) {
        let (id, outcome) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                // That is the agent's fault: it says nothing of the component, which is asked again.
                tracing::error!(%error, "a check was lost");
                (error.id(), None)
            }
        };
        let Some(Asked { key, version, component }) = self.checked.remove(&id) else { return };
        let Some(graph) = self.graphs.get_mut(&key) else { return };
        let Some((_, running)) = graph.serving.as_ref().filter(|(serving, _)| *serving == version) else {
            return;
        };
        let running = running.clone();
        let Some(checkup) = graph.checkups.get_mut(&component) else { return };
        if !checkup.ended(outcome, Instant::now()) {
            return;
        }
        match checkup.failing() {
            Some(why) => {
                tracing::warn!(graph = %key, "fails on this node: {why}");
                self.logs.agent(&key, Level::Warn, format!("it fails on this node: {why}"));
            }
            None => {
                tracing::info!(graph = %key, %component, "passes its check again");
                self.logs.agent(&key, Level::Info, format!("{component} passes its check again"));
            }
        }
        running.judge(graph.failing().is_some());
        self.serve();
    }
}
