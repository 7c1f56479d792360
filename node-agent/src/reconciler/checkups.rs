//! Checks of what serves: made a few at one time, each as often as its graph says, and told in the report.
//!
//! A graph that fails goes on serving here: who asks is sent to other nodes, as long as it passes on one of them.

use std::collections::BTreeMap;

use model::id::GraphKey;
use model::log::Level;
use model::name::ComponentName;
use tokio::task::JoinError;
use tokio::time::Instant;

use super::{Graph, Reconciler};
use crate::backoff;
use crate::checkup::Checkup;
use crate::reconcile::Version;
use crate::runner::{Runner, Running};

/// Checks at one time: what serves must not wait for what is checked.
const CHECKS_MAX: usize = 4;

/// What came of one check.
pub(super) struct Checked {
    key: GraphKey,
    version: Version,
    component: ComponentName,
    outcome: Option<Result<(), String>>,
}

/// The checks of a graph that serves, by component.
pub(super) type Checkups = BTreeMap<ComponentName, Checkup>;

/// The checks of one that begins to serve.
pub(super) fn of(running: &impl Running) -> Checkups {
    let now = Instant::now();
    let checkup = |(name, terms)| Some((name, Checkup::new(&terms, now, backoff::fraction())?));
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
        for (key, graph) in &mut self.graphs {
            let Some((version, running)) = &graph.serving else { continue };
            for (name, checkup) in &mut graph.checkups {
                if self.checking.len() >= CHECKS_MAX {
                    return;
                }
                if checkup.due().is_none_or(|due| due > now) {
                    continue;
                }
                checkup.begin();
                let (key, version, component) = (key.clone(), version.clone(), name.clone());
                let running = running.clone();
                self.checking.spawn(async move {
                    let outcome = running.check(&component).await;
                    Checked { key, version, component, outcome }
                });
            }
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
    pub(super) fn checked(&mut self, ended: Result<Checked, JoinError>) {
        let Checked { key, version, component, outcome } = match ended {
            Ok(checked) => checked,
            Err(error) => {
                tracing::error!(%error, "a check was lost; its component is not checked until it serves anew");
                return;
            }
        };
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
