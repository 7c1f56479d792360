//! On how many nodes a component runs that is scaled by its calls: reads what is under way, changes nothing.
//!
//! There are as many nodes as the calls need that are under way on all of them together. More come at once, at most twice as
//! many at one time: what is measured while a graph is carried to new nodes says little of what comes after. Fewer come once
//! no more were needed for a while, so that a pause between two waves of requests costs nothing. Between the two is a band
//! in which nothing changes, because what is measured is never the same twice.

use std::collections::VecDeque;
use std::time::Duration;

use model::linked::LinkedGraph;
use model::name::{ComponentName, NodeName};
use model::rollout::Phase;
use model::scale::{Calls, Scaling};

use crate::state::{GraphRecord, Scaled, State};

/// By how much more calls than are aimed at, in percent, there must be before there are more nodes.
const TOLERANCE_PERCENT: u64 = 10;
/// How many times as many nodes there are after one decision at the most.
const GROWTH_MOST: u32 = 2;
/// Thousandths of a call in one.
const WHOLE: u64 = 1_000;

/// On how many nodes a component of a linked graph should run, whose scaled numbers are these.
pub fn replicas(linked: &LinkedGraph, scaled: &Scaled, member: &ComponentName) -> u32 {
    match linked.scaling.get(member) {
        Some(scaling) => scaling.within(scaled.get(member).copied().unwrap_or_default()),
        None => linked.replicas.get(member).copied().unwrap_or(1),
    }
}

/// The same of a graph that is linked so, or is to be, and goes on from `record`: with as many nodes as it has, within its
/// bounds. The one place where the scheduler reads it.
pub fn wanted(linked: &LinkedGraph, record: Option<&GraphRecord>, member: &ComponentName) -> u32 {
    let has = || record.map_or(0, |record| replicas(&record.linked, &record.scaled, member));
    match linked.scaling.get(member) {
        Some(scaling) => scaling.within(has()),
        None => linked.replicas.get(member).copied().unwrap_or(1),
    }
}

/// The scaled numbers of what follows a graph: each component goes on with as many nodes as it had, within its new bounds.
pub(crate) fn carried(before: &LinkedGraph, scaled: &Scaled, after: &LinkedGraph) -> Scaled {
    let number = |(member, scaling): (&ComponentName, &Scaling)| {
        let count = scaling.within(replicas(before, scaled, member));
        (count > scaling.min()).then(|| (member.clone(), count))
    };
    after.scaling.iter().filter_map(number).collect()
}

/// Whether a graph can be scaled up: each component that is scaled answers somewhere as it was last placed, it is not moved,
/// and does not become another revision. What is measured until then is of where it was. That it answers wherever it was
/// placed is not asked for: one node that cannot serve would keep the others from getting help. Before there are fewer, it is
/// ([`crate::rollout::is_well`]).
pub fn is_settled(state: &State, record: &GraphRecord) -> bool {
    let becomes = record.rollout.as_ref().is_some_and(|rollout| rollout.phase == Phase::Promoting);
    let Some(placement) = &record.placement else { return false };
    let serves = |name: &NodeName| {
        let seen = record.observed.get(name);
        state.is_ready(name) && seen.is_some_and(|seen| seen.serving == Some(record.generation))
    };
    let answers = |member: &ComponentName| placement.nodes_of(member).any(serves);
    record.leaving.is_none() && !becomes && record.linked.scaling.keys().all(answers)
}

/// How many nodes were needed lately, and since when: what has to be known before there are fewer. Time counts from anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// When how many were needed, oldest first; of these that come earlier and are not more than a later one none is kept, so
    /// that the first is the most.
    needed: VecDeque<(Duration, u32)>,
}

impl Demand {
    /// Of what runs on so many nodes, and of which nothing else is known at a time.
    pub fn new(at: Duration, count: u32) -> Self {
        Self { needed: [(at, count)].into() }
    }

    /// Notes how many are needed at a time. Those are forgotten that count no more, but for the last of them.
    pub fn note(&mut self, at: Duration, count: u32, window: Duration) {
        while self.needed.back().is_some_and(|(_, last)| *last <= count) {
            self.needed.pop_back();
        }
        self.needed.push_back((at, count));
        let is_old = |(then, _): &(Duration, u32)| then.saturating_add(window) < at;
        while self.needed.len() > 1 && self.needed.front().is_some_and(is_old) {
            self.needed.pop_front();
        }
    }

    /// The most that were needed since the window began.
    pub fn most(&self) -> u32 {
        self.needed.front().map_or(u32::MAX, |(_, count)| *count)
    }
}

/// How many nodes the calls need that are under way on all of them, within the bounds.
pub fn needed(scaling: &Scaling, calls: Calls) -> u32 {
    let aimed_at = u64::from(scaling.concurrency()) * WHOLE;
    scaling.within(u32::try_from(calls.thousandths().div_ceil(aimed_at)).unwrap_or(u32::MAX))
}

/// On how many nodes a component should run from now on that runs on `now`; nothing where that stays. `most` were needed of
/// late.
pub fn decide(scaling: &Scaling, now: u32, calls: Calls, most: u32) -> Option<u32> {
    let needed = needed(scaling, calls);
    let bearable = u64::from(scaling.concurrency()) * u64::from(now) * WHOLE / 100 * (100 + TOLERANCE_PERCENT);
    let next = if needed > now && calls.thousandths() > bearable {
        needed.min(now.saturating_mul(GROWTH_MOST))
    } else if needed < now {
        most.max(needed).min(now)
    } else {
        now
    };
    let next = scaling.within(next);
    (next != now).then_some(next)
}

/// What is done and why, in words.
pub(crate) fn sentence(member: &ComponentName, scaling: &Scaling, from: u32, to: u32, calls: Calls) -> String {
    let nodes = if to == 1 { "node" } else { "nodes" };
    format!(
        "{member} from {from} to {to} {nodes}: {calls} calls under way, {} aimed at per node",
        scaling.concurrency()
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{ProptestConfig, Strategy, prop_assert, prop_assert_eq, proptest};

    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);

    fn scaling(min: u32, max: u32, concurrency: u32) -> Scaling {
        Scaling::new(min, max, concurrency, WINDOW).unwrap()
    }

    fn calls(whole: u64) -> Calls {
        Calls::from_thousandths(whole * WHOLE)
    }

    #[test]
    fn more_nodes_come_at_once_and_at_most_twice_as_many() {
        let scaling = scaling(1, 8, 50);
        // Nodes now, calls under way, and on how many nodes next.
        let cases = [
            (1, 0, None),
            (1, 50, None),
            (1, 55, None),
            (1, 56, Some(2)),
            (1, 180, Some(2)),
            (2, 180, Some(4)),
            (4, 180, None),
            (4, 200, None),
            (4, 220, None),
            (4, 221, Some(5)),
            (4, 100_000, Some(8)),
            (8, 100_000, None),
        ];
        for (now, under_way, expected) in cases {
            assert_eq!(decide(&scaling, now, calls(under_way), 8), expected, "{now} {under_way}");
        }
    }

    #[test]
    fn fewer_come_down_to_what_was_needed_of_late() {
        let scaling = scaling(2, 8, 50);
        for (now, under_way, most, expected) in [
            (8, 0, 8, None),
            (8, 0, 5, Some(5)),
            (5, 0, 2, Some(2)),
            (5, 0, 0, Some(2)),
            (2, 0, 0, None),
            (5, 200, 4, Some(4)),
            (5, 210, 4, None),
            (5, 0, 9, None),
        ] {
            assert_eq!(decide(&scaling, now, calls(under_way), most), expected, "{now} {under_way} {most}");
        }
        // Bounds that have changed count at once.
        assert_eq!(decide(&scaling, 12, calls(0), 12), Some(8));
        assert_eq!(decide(&scaling, 1, calls(0), 1), Some(2));
    }

    #[test]
    fn what_was_needed_counts_as_long_as_the_window() {
        let at = Duration::from_secs;
        let mut demand = Demand::new(at(0), 4);
        demand.note(at(1), 1, WINDOW);
        assert_eq!(demand.most(), 4, "nothing is known of the time before");
        demand.note(at(30), 3, WINDOW);
        demand.note(at(60), 1, WINDOW);
        assert_eq!(demand.most(), 4);
        demand.note(at(61), 1, WINDOW);
        assert_eq!(demand.most(), 3);
        demand.note(at(90), 2, WINDOW);
        assert_eq!(demand.most(), 3);
        demand.note(at(91), 1, WINDOW);
        assert_eq!(demand.most(), 2);
        demand.note(at(500), 1, WINDOW);
        assert_eq!(demand.most(), 1);
    }

    #[test]
    fn a_component_goes_on_with_as_many_nodes_as_it_had() {
        let app: ComponentName = "app".parse().unwrap();
        let fixed = |count| LinkedGraph { replicas: [(app.clone(), count)].into(), ..LinkedGraph::default() };
        let by_calls = |min, max| LinkedGraph {
            scaling: [(app.clone(), scaling(min, max, 50))].into(),
            ..LinkedGraph::default()
        };
        let scaled: Scaled = [(app.clone(), 5_u32)].into_iter().collect();
        let on = |before: &LinkedGraph, scaled: &Scaled, after: &LinkedGraph| {
            replicas(after, &carried(before, scaled, after), &app)
        };
        assert_eq!(on(&by_calls(1, 8), &scaled, &by_calls(2, 9)), 5);
        assert_eq!(on(&by_calls(1, 8), &scaled, &by_calls(6, 9)), 6);
        assert_eq!(on(&by_calls(1, 8), &scaled, &by_calls(1, 3)), 3);
        assert_eq!(on(&by_calls(1, 8), &scaled, &fixed(2)), 2);
        assert_eq!(on(&fixed(4), &Scaled::default(), &by_calls(1, 8)), 4);
        assert_eq!(on(&LinkedGraph::default(), &Scaled::default(), &by_calls(1, 8)), 1);
        assert!(carried(&by_calls(1, 8), &scaled, &by_calls(6, 9)).is_empty(), "the least goes without saying");
    }

    #[test]
    fn a_decision_says_its_figures() {
        let said = sentence(&"app".parse().unwrap(), &scaling(1, 8, 50), 2, 4, calls(180));
        assert_eq!(said, "app from 2 to 4 nodes: 180 calls under way, 50 aimed at per node");
    }

    fn any_scaling() -> impl Strategy<Value = Scaling> {
        (1..20_u32, 0..20_u32, 1..200_u32)
            .prop_map(|(min, more, concurrency)| scaling(min, min + more, concurrency))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_decision_is_within_bounds_and_after_few_there_is_none(
            scaling in any_scaling(),
            first in 1..40_u32,
            thousandths in 0..5_000_000_u64,
            most in 0..50_u32,
        ) {
            let calls = Calls::from_thousandths(thousandths);
            let mut now = scaling.within(first);
            for _ in 0..8 {
                let Some(next) = decide(&scaling, now, calls, most) else { break };
                prop_assert!(next == scaling.within(next) && next != now);
                prop_assert!(next <= now.max(1) * GROWTH_MOST);
                prop_assert!(next > now || next >= most.min(now), "never below what was needed of late");
                now = next;
            }
            prop_assert_eq!(decide(&scaling, now, calls, most), None, "the same calls lead to one number");
            let borne = u64::from(now) * u64::from(scaling.concurrency()) * WHOLE * (100 + TOLERANCE_PERCENT) / 100;
            prop_assert!(thousandths <= borne + WHOLE || now == scaling.max());
        }

        #[test]
        fn the_most_that_was_needed_is_that_of_the_window(
            noted in vec((1..20_u64, 1..12_u32), 1..60),
        ) {
            let mut demand = Demand::new(Duration::ZERO, 7);
            let (mut at, mut all) = (0, vec![(0, 7)]);
            for (after, count) in noted {
                at += after;
                all.push((at, count));
                demand.note(Duration::from_secs(at), count, WINDOW);
                let within = all.iter().filter(|(then, _)| then + WINDOW.as_secs() >= at);
                let most = within.map(|(_, count)| *count).max().unwrap();
                prop_assert_eq!(demand.most(), most);
                prop_assert!(demand.needed.len() <= 12);
            }
        }
    }
}
