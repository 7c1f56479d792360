//! Passes every call on, with resources of its own in front of the provider's.

use exports::weft::examples::ledgers::{self, GuestLedger, Held};
use exports::weft::examples::values::{
    Access, Color, Counter, CounterBorrow, Deep, Guest, GuestCounter, Point, Shape,
};
use weft::examples::moods::{Mood, Report};
use weft::examples::{ledgers as inner_ledgers, values as inner};

wit_bindgen::generate!({ world: "types-pass", path: "../../wit", generate_all });

struct Pass;

export!(Pass);

/// A counter of the provider.
struct Passed(inner::Counter);

impl GuestCounter for Passed {
    fn new(start: u32) -> Self {
        Self(inner::Counter::new(start))
    }

    fn add(&self, n: u32) -> u32 {
        self.0.add(n)
    }

    fn value(&self) -> u32 {
        self.0.value()
    }

    fn merge(a: Counter, b: Counter) -> Counter {
        let merged = inner::Counter::merge(a.into_inner::<Passed>().0, b.into_inner::<Passed>().0);
        Counter::new(Passed(merged))
    }
}

fn point_in(v: Point) -> inner::Point {
    inner::Point { x: v.x, y: v.y, label: v.label }
}

fn point_out(v: inner::Point) -> Point {
    Point { x: v.x, y: v.y, label: v.label }
}

fn shape_in(v: Shape) -> inner::Shape {
    match v {
        Shape::Circle(radius) => inner::Shape::Circle(radius),
        Shape::Polygon(points) => inner::Shape::Polygon(points.into_iter().map(point_in).collect()),
        Shape::Text(text) => inner::Shape::Text(text),
        Shape::Nothing => inner::Shape::Nothing,
    }
}

fn shape_out(v: inner::Shape) -> Shape {
    match v {
        inner::Shape::Circle(radius) => Shape::Circle(radius),
        inner::Shape::Polygon(points) => Shape::Polygon(points.into_iter().map(point_out).collect()),
        inner::Shape::Text(text) => Shape::Text(text),
        inner::Shape::Nothing => Shape::Nothing,
    }
}

fn color_in(v: Color) -> inner::Color {
    match v {
        Color::Red => inner::Color::Red,
        Color::Green => inner::Color::Green,
        Color::Blue => inner::Color::Blue,
    }
}

fn color_out(v: inner::Color) -> Color {
    match v {
        inner::Color::Red => Color::Red,
        inner::Color::Green => Color::Green,
        inner::Color::Blue => Color::Blue,
    }
}

fn access_in(v: Access) -> inner::Access {
    inner::Access::from_bits_retain(v.bits())
}

fn access_out(v: inner::Access) -> Access {
    Access::from_bits_retain(v.bits())
}

impl Guest for Pass {
    type Counter = Passed;

    fn same_bool(v: bool) -> bool {
        inner::same_bool(v)
    }

    fn same_u8(v: u8) -> u8 {
        inner::same_u8(v)
    }

    fn same_s8(v: i8) -> i8 {
        inner::same_s8(v)
    }

    fn same_u16(v: u16) -> u16 {
        inner::same_u16(v)
    }

    fn same_s16(v: i16) -> i16 {
        inner::same_s16(v)
    }

    fn same_u32(v: u32) -> u32 {
        inner::same_u32(v)
    }

    fn same_s32(v: i32) -> i32 {
        inner::same_s32(v)
    }

    fn same_u64(v: u64) -> u64 {
        inner::same_u64(v)
    }

    fn same_s64(v: i64) -> i64 {
        inner::same_s64(v)
    }

    fn same_f32(v: f32) -> f32 {
        inner::same_f32(v)
    }

    fn same_f64(v: f64) -> f64 {
        inner::same_f64(v)
    }

    fn same_char(v: char) -> char {
        inner::same_char(v)
    }

    fn same_string(v: String) -> String {
        inner::same_string(&v)
    }

    fn same_bytes(v: Vec<u8>) -> Vec<u8> {
        inner::same_bytes(&v)
    }

    fn same_numbers(v: Vec<i64>) -> Vec<i64> {
        inner::same_numbers(&v)
    }

    fn same_strings(v: Vec<String>) -> Vec<String> {
        inner::same_strings(&v)
    }

    fn same_pair(v: (u32, String)) -> (u32, String) {
        inner::same_pair((v.0, &v.1))
    }

    fn same_point(v: Point) -> Point {
        point_out(inner::same_point(&point_in(v)))
    }

    fn same_shape(v: Shape) -> Shape {
        shape_out(inner::same_shape(&shape_in(v)))
    }

    fn same_color(v: Color) -> Color {
        color_out(inner::same_color(color_in(v)))
    }

    fn same_access(v: Access) -> Access {
        access_out(inner::same_access(access_in(v)))
    }

    fn same_option(v: Option<String>) -> Option<String> {
        inner::same_option(v.as_deref())
    }

    fn same_outcome(v: Result<u32, String>) -> Result<u32, String> {
        inner::same_outcome(v.as_ref().map(|ok| *ok).map_err(String::as_str))
    }

    fn same_unit_outcome(v: Result<(), ()>) -> Result<(), ()> {
        inner::same_unit_outcome(v)
    }

    fn same_deep(v: Deep) -> Deep {
        let inner::Deep { points, pairs, outcome, nested, color, access } = inner::same_deep(&inner::Deep {
            points: v.points.into_iter().map(|point| point.map(point_in)).collect(),
            pairs: v.pairs,
            outcome: v.outcome.map_err(shape_in),
            nested: v.nested,
            color: color_in(v.color),
            access: access_in(v.access),
        });
        Deep {
            points: points.into_iter().map(|point| point.map(point_out)).collect(),
            pairs,
            outcome: outcome.map_err(shape_out),
            nested,
            color: color_out(color),
            access: access_out(access),
        }
    }

    fn many(a: u8, b: String, c: Vec<Point>, d: Option<Color>, e: bool) -> String {
        let c: Vec<inner::Point> = c.into_iter().map(point_in).collect();
        inner::many(a, &b, &c, d.map(color_in), e)
    }

    fn nothing() {
        inner::nothing();
    }

    fn count() -> u32 {
        inner::count()
    }

    fn trap() {
        inner::trap();
    }

    fn sum(all: Vec<CounterBorrow<'_>>) -> u32 {
        let all: Vec<&inner::Counter> = all.iter().map(|counter| &counter.get::<Passed>().0).collect();
        inner::sum(&all)
    }

    fn make(values: Vec<u32>) -> Vec<Counter> {
        inner::make(&values).into_iter().map(|counter| Counter::new(Passed(counter))).collect()
    }

    fn find(value: u32) -> Result<Counter, String> {
        inner::find(value).map(|counter| Counter::new(Passed(counter)))
    }

    fn dropped() -> u32 {
        inner::dropped()
    }
}

/// A ledger of the provider.
struct PassedLedger(inner_ledgers::Ledger);

impl GuestLedger for PassedLedger {
    fn new(first: Counter) -> Self {
        Self(inner_ledgers::Ledger::new(first.into_inner::<Passed>().0))
    }

    fn put(&self, it: Counter) -> u32 {
        self.0.put(it.into_inner::<Passed>().0)
    }

    fn take(&self) -> Option<Counter> {
        self.0.take().map(|counter| Counter::new(Passed(counter)))
    }

    fn sum_with(&self, lent: CounterBorrow<'_>) -> u32 {
        self.0.sum_with(&lent.get::<Passed>().0)
    }
}

impl ledgers::Guest for Pass {
    type Ledger = PassedLedger;

    fn split(it: Counter, color: Color) -> Result<Vec<Held>, String> {
        let held = inner_ledgers::split(it.into_inner::<Passed>().0, color_in(color))?;
        let out =
            |held: inner_ledgers::Held| Held { at: point_out(held.at), it: Counter::new(Passed(held.it)) };
        Ok(held.into_iter().map(out).collect())
    }

    fn tell(of: Mood, words: Vec<String>) -> Report {
        inner_ledgers::tell(of, &words)
    }

    fn join(all: Vec<Held>) -> Counter {
        let held =
            |held: Held| inner_ledgers::Held { at: point_in(held.at), it: held.it.into_inner::<Passed>().0 };
        Counter::new(Passed(inner_ledgers::join(all.into_iter().map(held).collect())))
    }
}
