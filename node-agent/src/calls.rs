//! How many calls are under way on this node of components that are scaled by them.
//!
//! A call of a component is under way as long as there is an instance for it, or it waits for one: for a request, for a session
//! of a link, or for what either calls on the same node. What is told is the average since it was last told, of the time that
//! all calls have taken together: it says as much of many short calls as of a few long ones.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use model::id::GraphKey;
use model::name::ComponentName;
use model::scale::Calls;
use proto::weft::node::v1 as wire;

/// Components that are told of at one time; of others it is not known how busy they are, and there are not fewer nodes
/// for them. More than a node has room for graphs that are asked all the time.
const TOLD_MAX: usize = 10_000;

/// What is measured of each component that is scaled.
type Book = BTreeMap<(GraphKey, ComponentName), Arc<Meter>>;

/// What is counted; a cheap handle.
#[derive(Debug, Clone, Default)]
pub struct CallBook(Arc<Mutex<Book>>);

/// The calls of one component of one graph, whatever its generation.
#[derive(Debug)]
pub(crate) struct Meter(Mutex<Measured>);

#[derive(Debug)]
struct Measured {
    under_way: u32,
    /// What all calls have taken together since `begun` until `seen`.
    taken: Duration,
    seen: Instant,
    begun: Instant,
}

/// The meters of the components behind one root; mostly there are none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meters(Arc<[Arc<Meter>]>);

/// A call that is under way until this is dropped.
#[derive(Debug)]
pub(crate) struct UnderWay(Meters);

impl Measured {
    fn pass(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.seen);
        self.taken = self.taken.saturating_add(passed.saturating_mul(self.under_way));
        self.seen = self.seen.max(now);
    }

    /// The average until now; counts anew from here.
    fn average(&mut self, now: Instant) -> Calls {
        self.pass(now);
        let elapsed = self.seen.saturating_duration_since(self.begun).as_nanos();
        // What is told twice at one moment is what is under way then.
        let thousandths =
            (self.taken.as_nanos() * 1_000).checked_div(elapsed).unwrap_or(u128::from(self.under_way) * 1_000);
        (self.taken, self.begun) = (Duration::ZERO, self.seen);
        Calls::from_thousandths(u64::try_from(thousandths).unwrap_or(u64::MAX))
    }
}

impl Meter {
    fn new(now: Instant) -> Self {
        Self(Mutex::new(Measured { under_way: 0, taken: Duration::ZERO, seen: now, begun: now }))
    }

    fn change(&self, now: Instant, change: impl FnOnce(u32) -> u32) {
        let mut measured = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        measured.pass(now);
        measured.under_way = change(measured.under_way);
    }

    fn average(&self, now: Instant) -> Calls {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).average(now)
    }
}

impl Meters {
    /// A call begins.
    pub(crate) fn begin(&self) -> UnderWay {
        if !self.0.is_empty() {
            let now = Instant::now();
            self.0.iter().for_each(|meter| meter.change(now, |count| count.saturating_add(1)));
        }
        UnderWay(self.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if !self.0.0.is_empty() {
            let now = Instant::now();
            self.0.0.iter().for_each(|meter| meter.change(now, |count| count.saturating_sub(1)));
        }
    }
}

impl CallBook {
    /// What counts the calls of these components of a graph, for as long as it is held.
    pub(crate) fn of<'a>(&self, graph: &GraphKey, members: impl Iterator<Item = &'a ComponentName>) -> Meters {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut meter = |member: &ComponentName| {
            let meter = book.entry((graph.clone(), member.clone()));
            meter.or_insert_with(|| Arc::new(Meter::new(Instant::now()))).clone()
        };
        Meters(members.map(&mut meter).collect())
    }

    /// What was under way of each, on average since this was last asked. Those that nobody holds any more are forgotten.
    pub(crate) fn told(&self) -> Vec<wire::CallsUnderWay> {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        book.retain(|_, meter| Arc::strong_count(meter) > 1);
        let now = Instant::now();
        let told = book.iter().take(TOLD_MAX).map(|((graph, component), meter)| wire::CallsUnderWay {
            graph: graph.to_string(),
            component: component.to_string(),
            thousandths: meter.average(now).thousandths(),
        });
        told.collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_average_is_of_the_time_that_all_calls_take() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let meter = Meter::new(begun);
        let change = |seconds, by: i32| meter.change(at(seconds), |count| count.saturating_add_signed(by));
        assert_eq!(meter.average(at(2)).thousandths(), 0);
        change(4, 3);
        change(6, -1);
        // Two seconds of nothing, two of three, four of two.
        assert_eq!(meter.average(at(10)).thousandths(), 1_750);
        assert_eq!(meter.average(at(10)).thousandths(), 2_000, "at one moment it is what is under way");
        change(15, -2);
        assert_eq!(meter.average(at(20)).thousandths(), 1_000);
        assert_eq!(meter.average(at(21)).thousandths(), 0);
    }

    #[test]
    fn what_nobody_holds_any_more_is_not_told() {
        let (book, graph) = (CallBook::default(), "shop/web".parse().unwrap());
        let (app, back): (ComponentName, ComponentName) = ("app".parse().unwrap(), "back".parse().unwrap());
        let both = book.of(&graph, [&app, &back].into_iter());
        let later = book.of(&graph, [&app].into_iter());
        let call = both.begin();
        let told = |book: &CallBook| {
            let told = book.told().into_iter();
            told.map(|told| (told.component, told.thousandths > 0)).collect::<Vec<_>>()
        };
        assert_eq!(told(&book), [("app".to_owned(), true), ("back".to_owned(), true)]);
        drop(both);
        assert_eq!(told(&book).len(), 2, "a call that is under way is counted to its end");
        drop(call);
        assert_eq!(told(&book).len(), 1, "another generation has one of them");
        assert_eq!(told(&book), [("app".to_owned(), false)]);
        drop(later);
        assert!(book.told().is_empty());
    }
}
