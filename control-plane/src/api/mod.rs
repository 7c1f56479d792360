//! The gRPC API. Handlers decode, propose or read, and encode; what is decided is decided elsewhere.

pub mod artifacts;
pub mod backups;
pub mod deadline;
pub mod enrolment;
pub mod events;
pub mod graphs;
pub mod logs;
pub mod members;
mod mutation;
pub mod namespaces;
pub mod nodes;
pub mod policies;
pub(crate) mod refusal;
mod rollouts;
pub mod transport_errors;

use std::pin::Pin;
use std::sync::Arc;

use cluster::State;
use cluster::state::MemberId;
use futures::{Stream, StreamExt as _, stream};
use model::status::GraphStatus;
use model::unit::ByteSize;
use proto::status::refuse;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::artifacts::ArtifactStore;
use crate::calls::CallsBook;
use crate::credentials::Credentials;
use crate::leader::liveness::Liveness;
use crate::leader::relink::Relinker;
use crate::linking::Linker;
use crate::raft::Handle;
use crate::replicas::Replicas;
use crate::routing::Routes;
use crate::traffic::TrafficBook;

/// Manifests that are checked and linked at one time: each may read artifacts of 64 MiB, and all of them wait for the
/// same processors.
const CHECKS_AT_ONCE: usize = 4;

/// What handlers work with; a cheap handle.
#[derive(Debug, Clone)]
pub struct Context {
    /// Who everybody is.
    pub credentials: Credentials,
    /// Consensus.
    pub raft: Handle,
    /// Stored artifacts.
    pub artifacts: ArtifactStore,
    /// Those of all members.
    pub replicas: Replicas,
    /// Checks and links.
    pub linker: Linker,
    /// Links again.
    pub relinker: Relinker,
    /// Who is heard of.
    pub liveness: Liveness,
    /// How requests went to revisions that take over by steps.
    pub traffic: TrafficBook,
    /// How many calls are under way of components that are scaled by them.
    pub calls: CallsBook,
    /// The sessions of agents.
    pub sessions: nodes::Sessions,
    /// What all agents are told of the ingress.
    pub routes: Routes,
    /// The right to check or link manifests.
    pub checks: Checks,
    /// How much all artifacts may have.
    pub artifact_quota: ByteSize,
    /// Set when the member stops.
    pub stop: CancellationToken,
}

impl Context {
    /// Adds to the status of a graph what this member has counted of it, which is nothing where it does not lead.
    fn tell(&self, state: &State, status: &mut GraphStatus) {
        // What it counted when it led is old.
        if self.raft.is_leader() {
            self.calls.tell(state, status);
            self.traffic.tell(status);
        }
    }
}

/// The right to check or link manifests, which few may do at one time; a cheap handle.
#[derive(Debug, Clone)]
pub struct Checks(Arc<Semaphore>);

impl Default for Checks {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(CHECKS_AT_ONCE)))
    }
}

impl Checks {
    /// Runs work that reads and checks much away from the async workers, in its turn.
    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
        // The semaphore is never closed.
        let _turn = self.0.acquire().await.map_err(|error| Status::internal(error.to_string()))?;
        mutation::blocking(work).await
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Ends a stream when the member stops, and says so: streams of watchers do not end by themselves.
fn until_stopped<T: Send + 'static>(
    answers: impl Stream<Item = Result<T, Status>> + Send + 'static,
    stop: &CancellationToken,
) -> Answers<T> {
    let stopped = stop.clone();
    let last = stream::once(async move { stopped.is_cancelled().then(|| Err(stopping())) });
    let last = last.filter_map(std::future::ready);
    Box::pin(answers.take_until(stop.clone().cancelled_owned()).chain(last))
}

/// Where to ask instead, as far as this member knows.
fn not_leader(context: &Context) -> Status {
    let leader = context.raft.membership().leader;
    let state = context.raft.state();
    let address = leader.and_then(|leader| state.members.get(&MemberId(leader)));
    let message = match (leader, address) {
        (Some(leader), Some(record)) => format!("member {leader} leads: ask it, at {}", record.address),
        (Some(leader), None) => format!("member {leader} leads: ask it"),
        (None, _) => "no member leads at this moment: ask again".to_owned(),
    };
    refuse(Code::Unavailable, "not_leader", message)
}

fn stopping() -> Status {
    refuse(Code::Unavailable, "member_stopped", "this control plane stops: ask again in a moment")
}
