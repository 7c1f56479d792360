//! What becomes of a revision that takes over by steps: reads the state and how its requests went, changes nothing.
//!
//! A revision does worse if that is sure, not if it looks so: its share of failed requests is taken as low as it may be by
//! chance (the lower bound of Wilson's interval, of three standard deviations; Wilson, "Probable inference, the law of succession, and
//! statistical inference", 1927), and compared with what fails of the stable revision meanwhile. One failure of a few
//! requests reverts nothing, and all of ten do.

use std::time::Duration;

use model::id::GraphKey;
use model::name::NodeName;
use model::rollout::{OnFailure, Phase, RolloutSpec};
use model::status::GraphState;
use model::traffic::{Answered, Counts, LATENCY_PERCENT};
use model::unit::format_duration;

use crate::command::RolloutChange;
use crate::state::{GraphRecord, PolicyRecord, Rollout, State};
use crate::view;

/// Requests to a revision before which it is not judged.
const JUDGED_LEAST: u64 = 10;
/// Requests to each of both revisions before which their latencies are not compared.
const LATENCY_JUDGED_LEAST: u64 = 100;
/// How far from the middle the bound of the interval is, in standard deviations.
const DEVIATIONS: f64 = 3.0;
/// The same for one of the graphs of a policy.
const DEVIATIONS_OF_ONE: f64 = 4.0;
/// What is compared with, in words: where a revision takes over, and where a version of a policy does.
const REVISION: &str = "the stable revision";
const VERSION: &str = "the version in force";

/// How the requests of both revisions went since the step began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Those that the stable revision answered.
    pub stable: Counts,
    /// Those that the new one answered.
    pub candidate: Counts,
}

/// The same, and what there is to compare with where the stable revision answers little in this step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Since the step began.
    pub step: Traffic,
    /// What the stable revision answered since there is this candidate.
    pub stable: Counts,
}

impl Evidence {
    fn add(&mut self, other: &Self) {
        self.step.stable.add(&other.step.stable);
        self.step.candidate.add(&other.step.candidate);
        self.stable.add(&other.stable);
    }

    /// What the new revision is compared with.
    fn baseline(&self) -> &Counts {
        let is_enough = self.step.stable.requests >= LATENCY_JUDGED_LEAST.min(self.step.candidate.requests);
        if is_enough { &self.step.stable } else { &self.stable }
    }
}

/// Whether a graph, or a candidate, answers at the generation that it should: on all nodes where it was placed and that are
/// heard of, and everything of it on at least one. A candidate passes the checks that are made again, too.
pub fn is_well(state: &State, key: &GraphKey) -> bool {
    let Some(record) = state.graphs.get(key) else { return false };
    let Some(placement) = &record.placement else { return false };
    // One that fails where it was promoted would keep its candidate for ever.
    let passes = |name: &NodeName| !key.is_candidate || record.failing_on(name).is_none();
    let serves = |name: &NodeName| {
        record.observed.get(name).is_some_and(|seen| seen.serving == Some(record.generation)) && passes(name)
    };
    let ready = |name: &&NodeName| state.is_ready(name);
    placement.nodes().into_iter().filter(ready).all(serves)
        && record.linked.members().all(|member| placement.nodes_of(member).any(|node| ready(&node)))
}

/// What is to be done about the revision that takes over of a graph, whose candidate has not been well for so long, at a time
/// in milliseconds since 1970; nothing where there is none, or as long as it has to wait. That nobody is sent to a candidate
/// any more is not waited for here.
pub fn decide(
    state: &State,
    key: &GraphKey,
    record: &GraphRecord,
    evidence: &Evidence,
    unwell_for: Duration,
    now_ms: u64,
) -> Option<RolloutChange> {
    let rollout = record.rollout.as_ref()?;
    match rollout.phase {
        Phase::Ending => None,
        Phase::Promoting => is_well(state, key).then_some(RolloutChange::End),
        // Of a policy: it is decided for all of its graphs, but for those that come later than the others.
        Phase::Starting if rollout.policy.is_some() => {
            let policy = state.policies.get(&rollout.policy.as_ref()?.name)?;
            let has_begun = policy.rollout.as_ref()?.phase != Phase::Starting;
            (has_begun && is_well(state, &key.candidate())).then_some(RolloutChange::Begin)
        }
        Phase::Answering { .. } if rollout.policy.is_some() => None,
        Phase::Starting | Phase::Answering { .. } => {
            let candidate_key = key.candidate();
            let candidate = state.graphs.get(&candidate_key)?;
            let how = view::graph_state(state, &candidate_key, candidate);
            if let GraphState::Failed { failure, .. } = &how {
                return failed_of(rollout, format!("it will not serve: {failure}"));
            }
            let sentence = view::standing(state, &how, candidate);
            let is_well = is_well(state, &candidate_key);
            match rollout.phase {
                // It answers as it did before, maybe without a policy that it should have by now.
                Phase::Answering { .. } if !is_well && unwell_for >= rollout.spec.deadline => {
                    failed_of(rollout, late(&rollout.spec, &sentence))
                }
                Phase::Answering { since_ms } => {
                    let change = answering(rollout, evidence, since_ms, now_ms)?;
                    let goes_on = matches!(change, RolloutChange::Next { .. } | RolloutChange::Promote { .. });
                    (is_well || !goes_on).then_some(change)
                }
                _ => starting(rollout, is_well, &sentence, now_ms),
            }
        }
    }
}

fn starting(rollout: &Rollout, is_well: bool, how: &str, now_ms: u64) -> Option<RolloutChange> {
    if is_well {
        return rollout.paused.is_none().then_some(RolloutChange::Begin);
    }
    if now_ms.saturating_sub(rollout.started_ms) < milliseconds(rollout.spec.deadline) {
        return None;
    }
    failed_of(rollout, late(&rollout.spec, how))
}

fn late(spec: &RolloutSpec, how: &str) -> String {
    format!("it does not answer as it should after {}: {how}", format_duration(spec.deadline))
}

fn answering(rollout: &Rollout, evidence: &Evidence, since_ms: u64, now_ms: u64) -> Option<RolloutChange> {
    if let Some(why) = worse(&rollout.spec, evidence, DEVIATIONS, REVISION) {
        return failed_of(rollout, why);
    }
    if rollout.paused.is_some() {
        return None;
    }
    goes_on(&rollout.spec, rollout.step, now_ms.saturating_sub(since_ms), || figures(&evidence.step, REVISION))
}

/// What comes after a step that lasts for so many milliseconds, once its time is over.
fn goes_on(
    spec: &RolloutSpec,
    step: usize,
    lasts_ms: u64,
    figures: impl FnOnce() -> String,
) -> Option<RolloutChange> {
    // A step without an end waits for somebody.
    let hold = spec.steps.get(step)?.hold?;
    if lasts_ms < milliseconds(hold) {
        return None;
    }
    let why = figures();
    let is_last = step + 1 >= spec.steps.len();
    Some(if is_last { RolloutChange::Promote { why } } else { RolloutChange::Next { why } })
}

/// A graph that is asked with a version of a policy that takes over by steps.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The graph.
    pub key: GraphKey,
    /// How its requests went.
    pub evidence: Evidence,
    /// How long its candidate has not been well.
    pub unwell_for: Duration,
}

/// What is to be done about a version of a policy that takes over by steps, with all of the graphs that it concerns, at a time
/// in milliseconds since 1970. It does worse if it does for all of them together, or more surely for one: of many graphs one
/// is sooner off by chance.
pub fn decide_policy(
    state: &State,
    record: &PolicyRecord,
    asked: &[Asked],
    now_ms: u64,
) -> Option<RolloutChange> {
    let rollout = record.rollout.as_deref()?;
    let spec = &rollout.spec;
    let fails = |why: String| failed(spec, rollout.paused.is_some(), why);
    // What is broken without it says nothing of it.
    let is_broken_alone = |key: &GraphKey| {
        let fails = |graph: &GraphRecord| graph.observed.keys().any(|node| graph.failing_on(node).is_some());
        !is_well(state, key) || state.graphs.get(key).is_some_and(fails)
    };
    let is_unwell = |one: &&Asked| !is_well(state, &one.key.candidate()) && !is_broken_alone(&one.key);
    let unwell: Vec<&Asked> = asked.iter().filter(is_unwell).collect();
    for one in &unwell {
        let key = one.key.candidate();
        let Some(candidate) = state.graphs.get(&key) else { continue };
        let how = view::graph_state(state, &key, candidate);
        if let GraphState::Failed { failure, .. } = &how {
            return fails(format!("{} will not serve with it: {failure}", one.key));
        }
        if one.unwell_for >= spec.deadline {
            let sentence = view::standing(state, &how, candidate);
            return fails(format!("with {}, {}", one.key, late(spec, &sentence)));
        }
    }
    let Phase::Answering { since_ms } = rollout.phase else {
        return (unwell.is_empty() && rollout.paused.is_none()).then_some(RolloutChange::Begin);
    };
    let mut sum = Evidence::default();
    for one in asked {
        if let Some(why) = worse(spec, &one.evidence, DEVIATIONS_OF_ONE, VERSION) {
            return fails(format!("with {}, {why}", one.key));
        }
        sum.add(&one.evidence);
    }
    // Graphs that are slow and others that are not, with different shares of each, say nothing together.
    let spec_of_sum = RolloutSpec { max_latency_percent: None, ..spec.clone() };
    if let Some(why) = worse(&spec_of_sum, &sum, DEVIATIONS, VERSION) {
        return fails(match asked {
            [one] => format!("with {}, {why}", one.key),
            _ => why,
        });
    }
    if rollout.paused.is_some() || !unwell.is_empty() {
        return None;
    }
    goes_on(spec, rollout.step, now_ms.saturating_sub(since_ms), || figures(&sum.step, VERSION))
}

fn failed_of(rollout: &Rollout, why: String) -> Option<RolloutChange> {
    failed(&rollout.spec, rollout.paused.is_some(), why)
}

/// What a failure comes to; nothing where it is waited already for somebody to say.
pub fn failed(spec: &RolloutSpec, is_paused: bool, why: String) -> Option<RolloutChange> {
    match spec.on_failure {
        OnFailure::Revert => Some(RolloutChange::Revert { why }),
        OnFailure::Pause => (!is_paused).then_some(RolloutChange::Pause { why }),
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Why what takes over does worse than `stable`, if that is sure by so many standard deviations.
fn worse(spec: &RolloutSpec, evidence: &Evidence, deviations: f64, stable_name: &str) -> Option<String> {
    let (stable, candidate) = (evidence.baseline(), &evidence.step.candidate);
    if candidate.requests >= JUDGED_LEAST {
        let bound = maybe_failed(stable, deviations) + f64::from(spec.max_errors.thousandths()) / 1_000.0;
        if surely_failed(candidate, deviations) > bound {
            return Some(format!(
                "{} of its {} requests failed, and {} of {} of {stable_name}'s: more than {} beyond is not allowed",
                candidate.failures, candidate.requests, stable.failures, stable.requests, spec.max_errors
            ));
        }
    }
    let percent = u64::from(spec.max_latency_percent?);
    if candidate.requests.min(stable.requests) < LATENCY_JUDGED_LEAST {
        return None;
    }
    let (least, _) = candidate.quantile_us(LATENCY_PERCENT)?;
    let (_, most) = stable.quantile_us(LATENCY_PERCENT)?;
    (least > most.saturating_mul(percent) / 100).then(|| {
        format!(
            "{LATENCY_PERCENT} % of its requests took up to more than {}, of {stable_name}'s up to {}: at most {percent} % is \
             allowed",
            shown_us(least),
            shown_us(most)
        )
    })
}

/// What fails at least, whatever chance has done.
fn surely_failed(counts: &Counts, deviations: f64) -> f64 {
    interval(counts, deviations).0
}

/// What fails at most, whatever chance has done; nothing of nothing.
fn maybe_failed(counts: &Counts, deviations: f64) -> f64 {
    if counts.requests == 0 { 0.0 } else { interval(counts, deviations).1 }
}

/// Wilson's interval of the share that fails, of so many standard deviations.
#[allow(clippy::cast_precision_loss, reason = "counts of requests, far below 2^53")]
fn interval(counts: &Counts, deviations: f64) -> (f64, f64) {
    let count = counts.requests.max(1) as f64;
    let share = counts.failures as f64 / count;
    let square = deviations * deviations;
    let middle = share + square / (2.0 * count);
    let spread = deviations * (share * (1.0 - share) / count + square / (4.0 * count * count)).max(0.0).sqrt();
    let whole = 1.0 + square / count;
    ((middle - spread) / whole, (middle + spread) / whole)
}

/// How the requests of both went, in words.
fn figures(traffic: &Traffic, stable_name: &str) -> String {
    let one = |counts: &Counts| {
        let Answered { requests, failures, within_us } = counts.into();
        let slow = within_us.map(|most| format!(", {LATENCY_PERCENT} % within {}", shown_us(most)));
        format!("{requests} requests, {failures} failed{}", slow.unwrap_or_default())
    };
    format!("{}; {stable_name}: {}", one(&traffic.candidate), one(&traffic.stable))
}

fn shown_us(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} us"),
        1_000..10_000 => format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100),
        _ => format!("{} ms", micros / 1_000),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use model::id::RevisionNumber;
    use model::rollout::{Share, Step};
    use model::traffic::{LATENCIES_MAX, latency_index};

    use super::*;

    fn spec(on_failure: OnFailure) -> RolloutSpec {
        let step = |share: &str, hold| Step { share: share.parse().unwrap(), hold };
        RolloutSpec {
            steps: vec![step("10%", Some(Duration::from_secs(60))), step("50%", None)],
            max_errors: "1%".parse().unwrap(),
            max_latency_percent: Some(150),
            deadline: Duration::from_secs(600),
            on_failure,
        }
    }

    fn rollout(step: usize, phase: Phase) -> Rollout {
        Rollout {
            running: RevisionNumber(1),
            spec: spec(OnFailure::Revert),
            started_ms: 0,
            phase,
            step,
            paused: None,
            policy: None,
        }
    }

    fn counts(requests: u64, failures: u64, micros: u64) -> Counts {
        let mut latencies = vec![0; LATENCIES_MAX];
        latencies[latency_index(micros)] = requests;
        Counts { requests, failures, latencies }
    }

    fn evidence(stable: Counts, candidate: Counts) -> Evidence {
        Evidence { stable: stable.clone(), step: Traffic { stable, candidate } }
    }

    #[test]
    fn a_few_failures_of_few_requests_are_chance_and_many_are_not() {
        let cases = [
            ((1_000, 0), (9, 9), false),
            ((1_000, 0), (10, 10), true),
            ((1_000, 0), (10, 1), false),
            ((1_000, 0), (20, 1), false),
            ((1_000, 0), (20, 3), true),
            ((10_000, 0), (1_000, 15), false),
            ((10_000, 0), (1_000, 30), true),
            ((1_000, 200), (1_000, 215), false),
            ((1_000, 200), (1_000, 350), true),
            ((20, 0), (20, 5), false),
            ((20, 0), (20, 20), true),
            ((0, 0), (50, 0), false),
            ((0, 0), (50, 25), true),
        ];
        for (stable, candidate, is_worse) in cases {
            let evidence = evidence(counts(stable.0, stable.1, 500), counts(candidate.0, candidate.1, 500));
            assert_eq!(
                worse(&spec(OnFailure::Revert), &evidence, DEVIATIONS, REVISION).is_some(),
                is_worse,
                "{stable:?} {candidate:?}"
            );
        }
    }

    #[test]
    fn where_the_stable_revision_answers_nothing_more_what_it_did_is_compared_with() {
        let (some, most) = (counts(1_000, 40, 500), counts(1_000, 45, 500));
        let last = Evidence { stable: some, step: Traffic { stable: Counts::default(), candidate: most } };
        assert_eq!(worse(&spec(OnFailure::Revert), &last, DEVIATIONS, REVISION), None, "it always was so");
    }

    #[test]
    fn a_revision_that_is_slower_than_allowed_does_worse() {
        let judged = |stable, candidate| {
            let evidence = evidence(counts(200, 0, stable), counts(200, 0, candidate));
            worse(&spec(OnFailure::Revert), &evidence, DEVIATIONS, REVISION)
        };
        assert_eq!(judged(10_000, 10_000), None);
        assert_eq!(judged(10_000, 14_000), None, "that is allowed");
        let why = judged(10_000, 40_000).unwrap();
        assert!(why.contains("at most 150 % is allowed"), "{why}");
        let few = evidence(counts(200, 0, 10_000), counts(99, 0, 90_000));
        assert_eq!(worse(&spec(OnFailure::Revert), &few, DEVIATIONS, REVISION), None, "too few to say");
    }

    #[test]
    fn a_step_ends_with_its_time_and_one_without_waits() {
        let well = evidence(counts(90, 0, 500), counts(10, 0, 500));
        let first = rollout(0, Phase::Answering { since_ms: 1_000 });
        assert_eq!(answering(&first, &well, 1_000, 60_999), None);
        let Some(RolloutChange::Next { why }) = answering(&first, &well, 1_000, 61_000) else {
            panic!("it goes on")
        };
        assert!(why.starts_with("10 requests, 0 failed, 95 % within"), "{why}");
        let paused = Rollout { paused: Some("somebody".to_owned()), ..first };
        assert_eq!(answering(&paused, &well, 1_000, 61_000), None);
        let last = rollout(1, Phase::Answering { since_ms: 1_000 });
        assert_eq!(answering(&last, &well, 1_000, u64::MAX), None);
    }

    #[test]
    fn what_does_worse_is_given_up_or_waits_for_somebody_once() {
        let badly = evidence(counts(90, 0, 500), counts(20, 20, 500));
        let reverts = rollout(0, Phase::Answering { since_ms: 0 });
        assert!(matches!(answering(&reverts, &badly, 0, 10), Some(RolloutChange::Revert { .. })));
        let mut pauses = Rollout { spec: spec(OnFailure::Pause), ..reverts };
        let Some(RolloutChange::Pause { why }) = answering(&pauses, &badly, 0, 10) else { panic!("it waits") };
        pauses.paused = Some(why);
        assert_eq!(answering(&pauses, &badly, 0, u64::MAX), None);
    }

    #[test]
    fn one_that_does_not_come_up_has_its_deadline() {
        let slow = "it comes up: compiling";
        let rollout = rollout(0, Phase::Starting);
        assert_eq!(starting(&rollout, false, slow, 599_999), None);
        let Some(RolloutChange::Revert { why }) = starting(&rollout, false, slow, 600_000) else {
            panic!("it is late")
        };
        assert_eq!(why, "it does not answer as it should after 10m: it comes up: compiling");
        assert_eq!(starting(&rollout, true, "it answers", 5), Some(RolloutChange::Begin));
        assert_eq!(Share::ALL.to_string(), "100%");
    }
}
