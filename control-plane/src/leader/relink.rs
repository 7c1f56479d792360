//! Links graphs again after the policies have changed.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use cluster::command::{Body, OpenCandidate, Relink};
use cluster::state::{GraphRecord, PolicyRecord};
use cluster::{Command, Outcome, State};
use model::id::{GraphKey, IdError, StateRevision, Uid};
use model::linked::LinkedGraph;
use model::policy::PolicyVersion;
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::linking::{Effect, Linker, PolicySets};
use crate::raft::{Handle, ProposeError};

/// How long graphs that could not be linked are left alone: their artifacts may be uploaded again meanwhile, and each
/// pass links every graph.
const RETRY_BROKEN_AFTER: Duration = Duration::from_secs(60);

/// How often a pass begins anew because a graph changed under it.
const TRIES_MAX: usize = 5;

/// Links graphs again; a cheap handle.
#[derive(Debug, Clone)]
pub struct Relinker {
    raft: Handle,
    linker: Linker,
    /// One pass at a time.
    done: Arc<Mutex<Option<Done>>>,
    opened: Arc<std::sync::Mutex<Option<Opened>>>,
}

/// With which policies each graph that they concern has its candidate, but for those of which a revision takes over by steps.
#[derive(Debug, Clone)]
pub struct Opened {
    policies_at: StateRevision,
    /// The graphs that could not be linked, as sentences.
    broken: Vec<String>,
}

impl Opened {
    /// That of the policies of a state, but for graphs that could not be linked.
    pub(super) const fn with(policies_at: StateRevision, broken: Vec<String>) -> Self {
        Self { policies_at, broken }
    }

    /// Whether that is so in a state that was read later. What was deployed since comes to where the others are.
    pub fn is_of(&self, state: &State) -> bool {
        self.policies_at == state.policies_at && self.broken.is_empty()
    }

    /// Why that cannot come to be as long as these policies are wanted, if it is so.
    pub fn broken(&self, state: &State) -> Option<String> {
        (self.policies_at == state.policies_at && !self.broken.is_empty()).then(|| self.broken.join("; "))
    }
}

/// The last pass that brought everything it could to the log.
#[derive(Debug)]
struct Done {
    policies_at: StateRevision,
    /// Counts as long as a policy takes over by steps: each graph it concerns gets a candidate.
    graphs_at: StateRevision,
    /// The graphs that could not be linked, as sentences.
    broken: Vec<String>,
    when: Instant,
}

/// Why a pass could not be finished: the next one goes on.
#[derive(Debug, thiserror::Error)]
pub enum RelinkError {
    /// Linking itself came to an end.
    #[error("linking was broken off")]
    Lost,
    /// The state moved on.
    #[error("{0} changed meanwhile")]
    Stale(GraphKey),
    /// A revision took over.
    #[error("a revision was promoted meanwhile")]
    Promoted,
    /// An identity could not be made.
    #[error("{0}")]
    Identity(#[from] IdError),
    /// The log.
    #[error("{0}")]
    Propose(#[from] ProposeError),
}

/// The command that gives a graph its new linked form.
pub fn relinking(
    key: &GraphKey,
    record: &GraphRecord,
    policies_at: StateRevision,
    linked: LinkedGraph,
    now_ms: u64,
) -> Command {
    let (key, uid, revision) = (key.clone(), record.uid.clone(), record.running());
    let body = Body::Relink(Box::new(Relink { key, uid, revision, policies_at, linked }));
    Command { now_ms, request: None, body }
}

impl Relinker {
    /// A relinker.
    pub fn new(raft: Handle, linker: Linker) -> Self {
        Self { raft, linker, done: Arc::default(), opened: Arc::default() }
    }

    /// After it, every graph of the state it saw is linked with the policies of that state, but for those that cannot
    /// be, which come back as sentences and stay as they are linked.
    pub async fn pass(&self) -> Result<Vec<String>, RelinkError> {
        let mut tries = 1..TRIES_MAX;
        loop {
            match self.try_pass().await {
                // A deploy came between: it brought its own linked form, or is linked at the next try.
                Err(RelinkError::Stale(_) | RelinkError::Promoted) if tries.next().is_some() => {}
                done => return done,
            }
        }
    }

    async fn try_pass(&self) -> Result<Vec<String>, RelinkError> {
        let mut done = self.done.lock().await;
        let state = self.raft.state();
        if let Some(done) = done.as_ref().filter(|done| done.is_of(&state))
            && (done.broken.is_empty() || done.when.elapsed() < RETRY_BROKEN_AFTER)
        {
            return Ok(done.broken.clone());
        }
        let (linker, seen) = (self.linker.clone(), state.clone());
        let effects = tokio::task::spawn_blocking(move || linker.effects(&seen, &PolicySets::of(&seen)));
        let mut broken = Vec::new();
        let mut effects = effects.await.map_err(|_| RelinkError::Lost)?;
        // Candidates first: what is promoted meanwhile has the policies already, or its graph is another one.
        effects.sort_by_key(|effect| !effect.key.is_candidate);
        for Effect { key, linked } in effects {
            let Some(record) = state.graphs.get(&key) else { continue };
            let linked = match linked {
                Ok(linked) => linked,
                Err(why) => {
                    // Policies are checked against every graph before they are committed, and graphs against every
                    // policy, so this means lost artifacts: the graph stays as it is linked, and it is said aloud.
                    let why = format!("{key} cannot be linked again: {}", why.join("; "));
                    tracing::error!("{why}");
                    broken.push(why);
                    continue;
                }
            };
            let command = relinking(&key, record, state.policies_at, linked, self.raft.now_ms());
            if let Outcome::Refused(_) = self.raft.propose(command).await?.outcome {
                return Err(RelinkError::Stale(key));
            }
        }
        if self.raft.state().promoted_at != state.promoted_at {
            // A graph became what its candidate was, maybe before that was linked again.
            return Err(RelinkError::Promoted);
        }
        let unopened = self.open_candidates(&state).await?;
        let (policies_at, graphs_at) = (state.policies_at, state.graphs_at);
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Opened::with(policies_at, unopened.clone()));
        broken.extend(unopened);
        *done = Some(Done { policies_at, graphs_at, broken: broken.clone(), when: Instant::now() });
        Ok(broken)
    }

    /// Links each graph that a policy concerns which takes over by steps as it would have it, beside what it is. Tells of those
    /// that cannot be, as sentences.
    async fn open_candidates(&self, before: &State) -> Result<Vec<String>, RelinkError> {
        let state = self.raft.state();
        let Some(policy) = taking_over(&state) else { return Ok(Vec::new()) };
        if state.policies_at != before.policies_at {
            return Err(RelinkError::Promoted);
        }
        let (linker, seen) = (self.linker.clone(), state.clone());
        let effects = tokio::task::spawn_blocking(move || linker.candidates(&seen, &PolicySets::of(&seen)));
        let mut broken = Vec::new();
        for Effect { key, linked } in effects.await.map_err(|_| RelinkError::Lost)? {
            let Some(record) = state.graphs.get(&key) else { continue };
            let linked = match linked {
                Ok(linked) => linked,
                Err(why) => {
                    broken.push(format!("{key} cannot be linked with {}: {}", policy.name, why.join("; ")));
                    continue;
                }
            };
            let candidate = Uid::new(Uuid::new_v4().to_string())?;
            let body = Body::OpenCandidate(Box::new(OpenCandidate {
                key: key.clone(),
                uid: record.uid.clone(),
                revision: record.running(),
                policy: policy.clone(),
                policies_at: state.policies_at,
                candidate,
                linked,
            }));
            let command = Command { now_ms: self.raft.now_ms(), request: None, body };
            if let Outcome::Refused(_) = self.raft.propose(command).await?.outcome {
                return Err(RelinkError::Stale(key));
            }
        }
        Ok(broken)
    }

    /// What the last pass has opened. Whoever asks reads the state after it.
    pub fn opened(&self) -> Option<Opened> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Done {
    fn is_of(&self, state: &State) -> bool {
        let is_open = taking_over(state).is_some();
        self.policies_at == state.policies_at && (!is_open || self.graphs_at == state.graphs_at)
    }
}

/// The version of a policy that takes over by steps.
fn taking_over(state: &State) -> Option<PolicyVersion> {
    let version = state.policies.values().find_map(PolicyRecord::taking_over)?;
    Some(PolicyVersion { name: version.spec.name.clone(), generation: version.generation })
}
