//! What the leader does on its own: loops that read the state and propose commands.
//!
//! Each is level-triggered: a wake-up carries no data, a pass compares all of the state with what it knows, and a slow timer
//! backs the wake-ups up.

mod collect;
pub mod liveness;
mod members;
pub mod relink;
pub mod rollouts;
mod scaling;
mod scheduler;

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cluster::State;
use cluster::schedule::Planner;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::calls::CallsBook;
use crate::raft::Handle;
use crate::traffic::TrafficBook;
use liveness::Liveness;
use relink::Relinker;

/// A pass is made at least this often, whatever wakes.
const BACKUP_TIMER: Duration = Duration::from_secs(5);

/// Starts the loops; they end with `stop`. One that ends before is lost, and the member with it.
pub fn start(
    stop: &CancellationToken,
    raft: &Handle,
    relinker: &Relinker,
    liveness: &Liveness,
    (traffic, calls): (&TrafficBook, &CallsBook),
    artifact_grace: Duration,
    own_level: u32,
) -> JoinSet<()> {
    let mut loops = JoinSet::new();
    let (places, heard) = (raft.clone(), liveness.clone());
    loops.spawn(while_leading(stop.clone(), raft.clone(), move || {
        let (raft, liveness, planner) = (places.clone(), heard.clone(), Arc::<Mutex<Planner>>::default());
        move |state| {
            let (raft, liveness, planner) = (raft.clone(), liveness.clone(), planner.clone());
            async move { scheduler::pass(&raft, &state, &liveness, &planner).await }
        }
    }));
    loops.spawn(rollouts::run(raft.clone(), relinker.clone(), traffic.clone(), stop.clone()));
    let relinker = relinker.clone();
    loops.spawn(while_leading(stop.clone(), raft.clone(), move || {
        let relinker = relinker.clone();
        move |_| {
            let relinker = relinker.clone();
            async move {
                if let Err(error) = relinker.pass().await {
                    tracing::warn!(%error, "not every graph was linked again yet");
                }
            }
        }
    }));
    let members = raft.clone();
    loops.spawn(while_leading(stop.clone(), raft.clone(), move || {
        let raft = members.clone();
        move |state| {
            let raft = raft.clone();
            async move { members::pass(&raft, &state, own_level).await }
        }
    }));
    loops.spawn(scheduler::let_go(raft.clone(), stop.clone()));
    loops.spawn(scaling::run(raft.clone(), calls.clone(), stop.clone()));
    loops.spawn(liveness.clone().run(stop.clone(), raft.clone()));
    loops.spawn(collect::run(raft.clone(), artifact_grace, stop.clone()));
    loops
}

/// Runs passes on each change of the state, and on the backup timer, whenever this member leads. What they remember of each
/// other ends with that.
async fn while_leading<F, P>(stop: CancellationToken, raft: Handle, begin: impl Fn() -> P)
where
    F: Future<Output = ()>,
    P: Fn(Arc<State>) -> F,
{
    let mut states = raft.changes();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = raft.leads() => {}
        }
        let pass = begin();
        while raft.is_leader() {
            let state = states.borrow_and_update().clone();
            // What a pass has not done, the next one does.
            tokio::select! {
                () = stop.cancelled() => return,
                () = pass(state) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = raft.follows() => {}
                // Cancel safe: the change is still seen by the next call.
                changed = states.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(BACKUP_TIMER) => {}
            }
        }
    }
}
