//! Every function answers what it is given; the counters are real, and their ends are counted.

use std::cell::{Cell, RefCell};

use exports::weft::examples::ledgers::{self, GuestLedger, Held};
use exports::weft::examples::values::{
    Access, Color, Counter, CounterBorrow, Deep, Guest, GuestCounter, Point, Shape,
};
use weft::examples::moods::{Mood, Report};

wit_bindgen::generate!({ world: "types-echo", path: "../../wit", generate_all });

struct Echo;

export!(Echo);

thread_local! {
    static CALLS: Cell<u32> = const { Cell::new(0) };
    static DROPPED: Cell<u32> = const { Cell::new(0) };
}

/// A counter.
struct Kept(Cell<u32>);

impl Drop for Kept {
    fn drop(&mut self) {
        DROPPED.set(DROPPED.get() + 1);
    }
}

impl GuestCounter for Kept {
    fn new(start: u32) -> Self {
        Self(Cell::new(start))
    }

    fn add(&self, n: u32) -> u32 {
        self.0.set(self.0.get().wrapping_add(n));
        self.0.get()
    }

    fn value(&self) -> u32 {
        self.0.get()
    }

    fn merge(a: Counter, b: Counter) -> Counter {
        Counter::new(Kept::new(a.get::<Kept>().value().wrapping_add(b.get::<Kept>().value())))
    }
}

impl Guest for Echo {
    type Counter = Kept;

    fn same_bool(v: bool) -> bool {
        v
    }

    fn same_u8(v: u8) -> u8 {
        v
    }

    fn same_s8(v: i8) -> i8 {
        v
    }

    fn same_u16(v: u16) -> u16 {
        v
    }

    fn same_s16(v: i16) -> i16 {
        v
    }

    fn same_u32(v: u32) -> u32 {
        v
    }

    fn same_s32(v: i32) -> i32 {
        v
    }

    fn same_u64(v: u64) -> u64 {
        v
    }

    fn same_s64(v: i64) -> i64 {
        v
    }

    fn same_f32(v: f32) -> f32 {
        v
    }

    fn same_f64(v: f64) -> f64 {
        v
    }

    fn same_char(v: char) -> char {
        v
    }

    fn same_string(v: String) -> String {
        v
    }

    fn same_bytes(v: Vec<u8>) -> Vec<u8> {
        v
    }

    fn same_numbers(v: Vec<i64>) -> Vec<i64> {
        v
    }

    fn same_strings(v: Vec<String>) -> Vec<String> {
        v
    }

    fn same_pair(v: (u32, String)) -> (u32, String) {
        v
    }

    fn same_point(v: Point) -> Point {
        v
    }

    fn same_shape(v: Shape) -> Shape {
        v
    }

    fn same_color(v: Color) -> Color {
        v
    }

    fn same_access(v: Access) -> Access {
        v
    }

    fn same_option(v: Option<String>) -> Option<String> {
        v
    }

    fn same_outcome(v: Result<u32, String>) -> Result<u32, String> {
        v
    }

    fn same_unit_outcome(v: Result<(), ()>) -> Result<(), ()> {
        v
    }

    fn same_deep(v: Deep) -> Deep {
        v
    }

    fn many(a: u8, b: String, c: Vec<Point>, d: Option<Color>, e: bool) -> String {
        format!("{a} {b} {c:?} {d:?} {e}")
    }

    fn nothing() {}

    fn count() -> u32 {
        CALLS.set(CALLS.get() + 1);
        CALLS.get()
    }

    fn trap() {
        core::arch::wasm32::unreachable()
    }

    fn sum(all: Vec<CounterBorrow<'_>>) -> u32 {
        all.iter().fold(0, |sum, counter| sum.wrapping_add(counter.get::<Kept>().value()))
    }

    fn make(values: Vec<u32>) -> Vec<Counter> {
        values.into_iter().map(|value| Counter::new(Kept::new(value))).collect()
    }

    fn find(value: u32) -> Result<Counter, String> {
        if value == 0 { Err("there is no counter 0".to_owned()) } else { Ok(Counter::new(Kept::new(value))) }
    }

    fn dropped() -> u32 {
        DROPPED.get()
    }
}

/// Counters that are kept.
struct Ledger(RefCell<Vec<Counter>>);

fn value(counter: &Counter) -> u32 {
    counter.get::<Kept>().value()
}

impl GuestLedger for Ledger {
    fn new(first: Counter) -> Self {
        Self(RefCell::new(vec![first]))
    }

    fn put(&self, it: Counter) -> u32 {
        let mut kept = self.0.borrow_mut();
        kept.push(it);
        kept.len() as u32
    }

    fn take(&self) -> Option<Counter> {
        self.0.borrow_mut().pop()
    }

    fn sum_with(&self, lent: CounterBorrow<'_>) -> u32 {
        let kept = self.0.borrow();
        kept.iter().fold(lent.get::<Kept>().value(), |sum, counter| sum.wrapping_add(value(counter)))
    }
}

impl ledgers::Guest for Echo {
    type Ledger = Ledger;

    fn split(it: Counter, color: Color) -> Result<Vec<Held>, String> {
        let held = |part: u32, label: &str| Held {
            at: Point { x: part as i32, y: 0.5, label: label.to_owned() },
            it: Counter::new(Kept::new(part)),
        };
        let half = value(&it) / 2;
        match color {
            Color::Red => Ok(vec![held(value(&it), "red")]),
            Color::Green => Ok(vec![held(half, "one"), held(value(&it) - half, "other")]),
            Color::Blue => Err(format!("{} is not split by blue", value(&it))),
        }
    }

    fn tell(of: Mood, words: Vec<String>) -> Report {
        Report { of, words }
    }

    fn join(all: Vec<Held>) -> Counter {
        Counter::new(Kept::new(all.iter().fold(0, |sum, held| sum.wrapping_add(value(&held.it)))))
    }
}
