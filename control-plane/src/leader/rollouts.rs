//! Lets revisions and versions of policies take over by steps: looks at them, and proposes what `cluster::rollout` decides.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use cluster::command::{Body, ChangePolicyRollout, ChangeRollout, RolloutChange};
use cluster::rollout::{Asked, Evidence, Traffic, decide, decide_policy, failed, is_well};
use cluster::state::{GraphRecord, PolicyRecord, Rollout};
use cluster::{Command, State};
use model::id::{Generation, GraphKey, RevisionNumber};
use model::name::PolicyName;
use model::rollout::Phase;
use model::traffic::Counts;
use model::unit::format_duration;
use tokio_util::sync::CancellationToken;

use super::relink::{Opened, Relinker};
use super::scheduler::ROUTES_SETTLE;
use crate::raft::Handle;
use crate::traffic::{CandidateId, TrafficBook};

/// How often they are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long a member leads before it decides, and looks at a step before it ends: agents have found it by then, and told of
/// what they answer.
const TOLD_AFTER: Duration = Duration::from_secs(3);

/// A step of a rollout, as far as this member has seen it.
struct Seen {
    revision: RevisionNumber,
    phase: Phase,
    step: usize,
    /// Which candidate it was.
    candidate: CandidateId,
    /// What was counted when it was first seen.
    before: Traffic,
    /// When that was.
    since: Instant,
    /// Since when its requests are counted, milliseconds since 1970.
    since_ms: u64,
    /// When the candidate was last as it should be, and when it was last not.
    well: Instant,
    unwell: Instant,
    /// What the stable revision answered while the candidate had other generations, and what it did since.
    stable_before: Counts,
    stable: Counts,
}

impl Seen {
    fn is(&self, record: &GraphRecord, rollout: &Rollout) -> bool {
        (self.revision, self.phase, self.step) == (record.number(), rollout.phase, rollout.step)
    }

    /// Whether it has been seen for long enough, and well.
    fn is_told(&self) -> bool {
        self.since.max(self.unwell).elapsed() >= TOLD_AFTER
    }
}

/// Looks at all of them, whenever this member leads, until `stop`.
pub(super) async fn run(raft: Handle, relinker: Relinker, traffic: TrafficBook, stop: CancellationToken) {
    let mut seen: BTreeMap<GraphKey, Seen> = BTreeMap::new();
    let mut leads: Option<Instant> = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        if !raft.is_leader() {
            (leads, seen) = (None, BTreeMap::new());
            traffic.keep(&BTreeSet::new());
            continue;
        }
        if leads.get_or_insert_with(Instant::now).elapsed() < TOLD_AFTER {
            continue;
        }
        // Before the state: what was opened is in that.
        let opened = relinker.opened();
        let state = raft.state();
        for body in look(&state, &traffic, &mut seen, opened.as_ref(), raft.now_ms()) {
            let command = Command { now_ms: raft.now_ms(), request: None, body };
            if let Err(error) = raft.propose_as_leader(command).await {
                tracing::warn!(%error, "a rollout does not go on yet");
            }
        }
    }
}

/// What is to be done.
fn look(
    state: &State,
    book: &TrafficBook,
    seen: &mut BTreeMap<GraphKey, Seen>,
    opened: Option<&Opened>,
    now_ms: u64,
) -> Vec<Body> {
    let rolled =
        state.graphs.iter().filter_map(|(key, record)| Some((key, record, record.rollout.as_deref()?)));
    let (mut bodies, mut now, mut candidates) = (Vec::new(), BTreeMap::new(), BTreeSet::new());
    let (mut asked, mut are_told) = (Vec::new(), true);
    for (key, record, rollout) in rolled {
        let generation = state.graphs.get(&key.candidate()).map(|candidate| candidate.generation);
        let candidate = (key.clone(), generation.unwrap_or(Generation(0)));
        candidates.insert(candidate.clone());
        let counted = book.sum(&candidate);
        let known = seen.remove(key).filter(|known| known.is(record, rollout));
        let known = match known {
            // Another candidate of the same revision, as policies have it now, is counted from nothing.
            Some(mut known) if known.candidate != candidate => {
                known.stable_before.add(&known.stable);
                Seen { candidate, before: Traffic::default(), since_ms: now_ms, ..known }
            }
            Some(known) => known,
            None => Seen {
                revision: record.number(),
                phase: rollout.phase,
                step: rollout.step,
                candidate,
                before: counted.clone(),
                since: Instant::now(),
                since_ms: now_ms,
                well: Instant::now(),
                unwell: Instant::now(),
                stable_before: Counts::default(),
                stable: Counts::default(),
            },
        };
        let (well, unwell) = match is_well(state, &key.candidate()) {
            true => (Instant::now(), known.unwell),
            false => (known.well, Instant::now()),
        };
        let known = Seen { well, unwell, stable: counted.stable.clone(), ..known };
        let step = Traffic {
            stable: counted.stable.since(&known.before.stable),
            candidate: counted.candidate.since(&known.before.candidate),
        };
        if matches!(rollout.phase, Phase::Answering { .. }) {
            book.note_step(&known.candidate, rollout.step, &step, known.since_ms);
        }
        let mut stable = known.stable_before.clone();
        stable.add(&counted.stable);
        let evidence = Evidence { step, stable };
        let (unwell_for, is_told) = (known.well.elapsed(), known.is_told());
        if record.open_policy().is_some() {
            are_told &= is_told;
            asked.push(Asked { key: key.clone(), evidence: evidence.clone(), unwell_for });
        }
        let is_forgotten = rollout.phase == Phase::Ending && known.since.elapsed() >= ROUTES_SETTLE;
        let change = match is_forgotten {
            true => Some(RolloutChange::Finish),
            false => decide(state, key, record, &evidence, unwell_for, now_ms),
        };
        let change = change.filter(|change| !ends_step(change) || is_told);
        bodies.extend(change.map(|change| changing(key, record, rollout, change)));
        now.insert(key.clone(), known);
    }
    *seen = now;
    book.keep(&candidates);
    for (name, record) in state.policies.iter().filter(|(_, record)| record.rollout.is_some()) {
        let change = of_policy(state, record, &asked, opened, now_ms);
        let change = change.filter(|change| !ends_step(change) || are_told);
        bodies.extend(change.and_then(|change| changing_policy(name, record, change)));
    }
    bodies
}

/// What is to be done about the version of a policy that takes over by steps, if one does. It neither begins nor goes on before
/// each graph that it concerns has its candidate, nor while all of these wait for rollouts of their own.
fn of_policy(
    state: &State,
    record: &PolicyRecord,
    asked: &[Asked],
    opened: Option<&Opened>,
    now_ms: u64,
) -> Option<RolloutChange> {
    let rollout = record.rollout.as_ref()?;
    let waits = asked.is_empty() && state.graphs.values().any(|graph| graph.rollout.is_some());
    let is_ready = !waits && opened.is_some_and(|opened| opened.is_of(state));
    let goes_on = |change: &RolloutChange| ends_step(change) || *change == RolloutChange::Begin;
    let change = decide_policy(state, record, asked, now_ms).filter(|change| is_ready || !goes_on(change));
    if change.is_some() || rollout.phase != Phase::Starting {
        return change;
    }
    let why = opened.and_then(|opened| opened.broken(state))?;
    let deadline_ms = u64::try_from(rollout.spec.deadline.as_millis()).unwrap_or(u64::MAX);
    if now_ms.saturating_sub(rollout.started_ms) < deadline_ms {
        return None;
    }
    let why =
        format!("not every graph could be linked within {}: {why}", format_duration(rollout.spec.deadline));
    failed(&rollout.spec, rollout.paused.is_some(), why)
}

/// Whether a change ends a step, of which some has to have been seen.
const fn ends_step(change: &RolloutChange) -> bool {
    matches!(change, RolloutChange::Next { .. } | RolloutChange::Promote { .. })
}

/// The command that changes how far a policy is, if a version of it takes over by steps.
pub(crate) fn changing_policy(name: &PolicyName, record: &PolicyRecord, change: RolloutChange) -> Option<Body> {
    let (rollout, version) = (record.rollout.as_ref()?, record.taking_over()?);
    Some(Body::ChangePolicyRollout(Box::new(ChangePolicyRollout {
        name: name.clone(),
        generation: version.generation,
        phase: rollout.phase,
        step: rollout.step,
        is_paused: rollout.paused.is_some(),
        change,
    })))
}

/// The command that changes a rollout as it is.
pub(crate) fn changing(key: &GraphKey, record: &GraphRecord, rollout: &Rollout, change: RolloutChange) -> Body {
    Body::ChangeRollout(Box::new(ChangeRollout {
        key: key.clone(),
        uid: record.uid.clone(),
        revision: record.number(),
        phase: rollout.phase,
        step: rollout.step,
        is_paused: rollout.paused.is_some(),
        change,
    }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use cluster::state::{PolicyRollout, PolicyVersionRecord};
    use model::id::{StateRevision, Uid};
    use model::linked::LinkedGraph;
    use model::policy::{Action, Mode, OnFailure, Order, PolicySpec, Selector};
    use model::rollout::{DEADLINE_DEFAULT, MAX_ERRORS_DEFAULT, RolloutSpec, Share, Step};

    use super::*;

    fn spec() -> RolloutSpec {
        RolloutSpec {
            steps: vec![Step { share: Share::ALL, hold: Some(Duration::from_millis(1)) }],
            max_errors: MAX_ERRORS_DEFAULT,
            max_latency_percent: None,
            deadline: DEADLINE_DEFAULT,
            on_failure: model::rollout::OnFailure::Revert,
        }
    }

    /// A policy whose first version takes over by one step.
    fn policy(phase: Phase) -> PolicyRecord {
        let spec = PolicySpec {
            name: "pii".parse().unwrap(),
            selector: Selector {
                interface: "a:b/c".parse().unwrap(),
                namespaces: BTreeSet::new(),
                graphs: BTreeSet::new(),
                labels: BTreeMap::new(),
                except: Vec::new(),
            },
            action: Action::Deny("no".to_owned()),
            order: Order { phase: model::policy::Phase::Inspect, priority: 0 },
            mandatory: false,
            on_failure: OnFailure::Closed,
            mode: Mode::Enforce,
            rollout: Some(self::spec()),
        };
        let version = PolicyVersionRecord {
            generation: Generation(7),
            applied_at_ms: 0,
            manifest: String::new(),
            spec,
            given_up: None,
        };
        let rollout = PolicyRollout { spec: self::spec(), started_ms: 0, phase, step: 0, paused: None };
        PolicyRecord { versions: [version].into_iter().collect(), rollout: Some(Box::new(rollout)) }
    }

    fn state(graph: Option<Phase>) -> State {
        let rollout = graph.map(|phase| Rollout {
            running: RevisionNumber(1),
            spec: spec(),
            started_ms: 0,
            phase,
            step: 0,
            paused: None,
            policy: None,
        });
        let record = GraphRecord::new(Uid::new("u").unwrap(), 0, LinkedGraph::default());
        let record = GraphRecord { rollout: rollout.map(Box::new), ..record };
        let graphs = [("shop/web".parse().unwrap(), record)].into_iter().collect();
        State { graphs, policies_at: StateRevision(7), ..State::default() }
    }

    #[test]
    fn a_policy_does_not_begin_before_its_candidates_are_there_nor_without_any_while_graphs_are_rolled_out() {
        let starting = policy(Phase::Starting);
        let opened = |at: u64| Opened::with(StateRevision(at), Vec::new());
        let decided = |state: &State, opened: Option<&Opened>| of_policy(state, &starting, &[], opened, 0);
        assert_eq!(decided(&state(None), None), None, "nobody has looked yet");
        assert_eq!(decided(&state(None), Some(&opened(6))), None, "what was looked at is of before");
        assert_eq!(decided(&state(None), Some(&opened(7))), Some(RolloutChange::Begin));
        for phase in [Phase::Ending, Phase::Starting] {
            assert_eq!(decided(&state(Some(phase)), Some(&opened(7))), None, "it is waited for");
        }
        let answering = policy(Phase::Answering { since_ms: 0 });
        assert_eq!(of_policy(&state(Some(Phase::Ending)), &answering, &[], Some(&opened(7)), 5_000), None);
        let goes_on = of_policy(&state(None), &answering, &[], Some(&opened(7)), 5_000);
        assert!(matches!(goes_on, Some(RolloutChange::Promote { .. })), "{goes_on:?}");
    }

    #[test]
    fn one_for_which_a_graph_cannot_be_linked_is_given_up_at_its_deadline_and_says_why() {
        let starting = policy(Phase::Starting);
        let broken = Opened::with(StateRevision(7), vec!["shop/web cannot be linked".to_owned()]);
        let decided = |now_ms| of_policy(&state(None), &starting, &[], Some(&broken), now_ms);
        let deadline_ms = u64::try_from(DEADLINE_DEFAULT.as_millis()).unwrap();
        assert_eq!(decided(deadline_ms - 1), None);
        let Some(RolloutChange::Revert { why }) = decided(deadline_ms) else { panic!("it is given up") };
        assert_eq!(why, "not every graph could be linked within 10m: shop/web cannot be linked");
    }
}
