//! Scales components by their calls: looks at what is under way, and proposes what `cluster::scaling` decides.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cluster::command::{Body, Rescale, Scale};
use cluster::rollout::is_well;
use cluster::scaling::{Demand, decide, is_settled, needed, replicas};
use cluster::state::GraphRecord;
use cluster::{Command, State};
use model::id::{Generation, GraphKey, Uid};
use model::name::ComponentName;
use tokio_util::sync::CancellationToken;

use crate::calls::CallsBook;
use crate::raft::Handle;

/// How often they are looked at: more often than agents tell.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a member leads, or a graph answers where it was placed, before there are more nodes though not all of those that
/// it has have told: what is known is enough to see that there is too much.
const TOLD_AFTER: Duration = Duration::from_secs(3);

/// A graph with components that are scaled, as far as this member has seen it.
struct Seen {
    uid: Uid,
    generation: Generation,
    /// Since when it answers where it was placed, as it was last decided.
    settled: Option<Instant>,
    demands: BTreeMap<ComponentName, Demand>,
}

/// Looks at all of them, whenever this member leads, until `stop`.
pub(super) async fn run(raft: Handle, calls: CallsBook, stop: CancellationToken) {
    let begun = Instant::now();
    let mut seen: BTreeMap<GraphKey, Seen> = BTreeMap::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        if !raft.is_leader() {
            seen.clear();
            calls.clear();
            continue;
        }
        let state = raft.state();
        calls.keep(&state);
        for body in look(&state, &calls, &mut seen, begun) {
            let command = Command { now_ms: raft.now_ms(), request: None, body };
            if let Err(error) = raft.propose_as_leader(command).await {
                tracing::warn!(%error, "a graph is not scaled yet");
            }
        }
    }
}

/// What is to be done. Time is what has passed since `begun`.
fn look(state: &State, calls: &CallsBook, seen: &mut BTreeMap<GraphKey, Seen>, begun: Instant) -> Vec<Body> {
    let scaled =
        state.graphs.iter().filter(|(key, graph)| !key.is_candidate && !graph.linked.scaling.is_empty());
    let (mut bodies, mut now) = (Vec::new(), BTreeMap::new());
    for (key, record) in scaled {
        let known = seen.remove(key).filter(|known| known.uid == record.uid);
        let mut known = known.unwrap_or_else(|| Seen {
            uid: record.uid.clone(),
            generation: record.generation,
            settled: None,
            demands: BTreeMap::new(),
        });
        let is_as_before = known.generation == record.generation;
        known.generation = record.generation;
        known.settled = match is_settled(state, key, record) {
            true => known.settled.filter(|_| is_as_before).or_else(|| Some(Instant::now())),
            false => None,
        };
        let changes = changes(state, calls, (key, record), &mut known, begun);
        if !changes.is_empty() {
            // What is told of the time until now says nothing of what comes of it.
            known.settled = known.settled.map(|_| Instant::now());
            let (key, uid, generation) = (key.clone(), record.uid.clone(), record.generation);
            bodies.push(Body::Scale(Box::new(Scale { key, uid, generation, changes })));
        }
        now.insert(key.clone(), known);
    }
    *seen = now;
    bodies
}

/// The components of a graph that should run on other numbers of nodes.
fn changes(
    state: &State,
    calls: &CallsBook,
    (key, record): (&GraphKey, &GraphRecord),
    known: &mut Seen,
    begun: Instant,
) -> BTreeMap<ComponentName, Rescale> {
    let at = begun.elapsed();
    // One that comes up may be asked for more than it has been.
    let has_candidate = state.graphs.contains_key(&key.candidate());
    let is_whole_well = !has_candidate || is_well(state, &key.candidate());
    let mut changes = BTreeMap::new();
    known.demands.retain(|name, _| record.linked.scaling.contains_key(name));
    for (name, scaling) in &record.linked.scaling {
        let from = replicas(&record.linked, &record.scaled, name);
        let reading = known.settled.map(|since| (since, calls.read(state, key, name, Some(since))));
        let known_of = reading.filter(|(_, reading)| reading.is_whole && is_whole_well);
        // What is not known may be as much as there is room for.
        let count = known_of.map_or(from, |(_, reading)| needed(scaling, reading.calls));
        let demand = known.demands.entry(name.clone()).or_insert_with(|| Demand::new(at, from));
        demand.note(at, count, scaling.down_after());
        let Some((since, reading)) = reading else { continue };
        if !reading.is_whole && since.elapsed() < TOLD_AFTER {
            continue;
        }
        if let Some(to) = decide(scaling, from, reading.calls, demand.most()) {
            changes.insert(name.clone(), Rescale { from, to, calls: reading.calls });
        }
    }
    changes
}
