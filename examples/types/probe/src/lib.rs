//! Calls every function of `values` and `ledgers` and says what came back.

use weft::examples::ledgers::{self, Ledger};
use weft::examples::moods::Mood;
use weft::examples::values::{self, Access, Color, Counter, Deep, Point, Shape};

wit_bindgen::generate!({ world: "types-probe", path: "../../wit", generate_all });

struct Probe;

export!(Probe);

impl exports::weft::examples::probe::Guest for Probe {
    fn run() -> Vec<String> {
        let mut lines = Vec::new();
        scalars(&mut lines);
        compounds(&mut lines);
        resources(&mut lines);
        shared(&mut lines);
        lines
    }

    fn trap() {
        values::trap();
    }
}

/// Says what was asked for and what came back.
macro_rules! say {
    ($lines:expr, $call:expr) => {
        $lines.push(format!("{}: {:?}", stringify!($call), $call))
    };
}

fn point(x: i32, label: &str) -> Point {
    Point { x, y: f64::from(x) / 3.0, label: label.to_owned() }
}

fn scalars(lines: &mut Vec<String>) {
    say!(lines, (values::same_bool(false), values::same_bool(true)));
    say!(lines, (values::same_u8(0), values::same_u8(u8::MAX)));
    say!(lines, (values::same_s8(i8::MIN), values::same_s8(-1), values::same_s8(i8::MAX)));
    say!(lines, (values::same_u16(0), values::same_u16(u16::MAX)));
    say!(lines, (values::same_s16(i16::MIN), values::same_s16(i16::MAX)));
    say!(lines, (values::same_u32(0), values::same_u32(u32::MAX)));
    say!(lines, (values::same_s32(i32::MIN), values::same_s32(i32::MAX)));
    say!(lines, (values::same_u64(0), values::same_u64(u64::MAX)));
    say!(lines, (values::same_s64(i64::MIN), values::same_s64(i64::MAX)));
    say!(lines, (values::same_f32(-0.0), values::same_f32(f32::MIN_POSITIVE), values::same_f32(f32::INFINITY)));
    say!(lines, values::same_f32(f32::NAN).is_nan());
    say!(lines, (values::same_f64(-0.0), values::same_f64(f64::MAX), values::same_f64(f64::NEG_INFINITY)));
    say!(lines, values::same_f64(f64::NAN).is_nan());
    say!(lines, (values::same_char('\0'), values::same_char('é'), values::same_char('\u{10ffff}')));
    say!(lines, (values::same_string(""), values::same_string("añ\u{0}\u{1f980}")));
}

fn compounds(lines: &mut Vec<String>) {
    say!(lines, (values::same_bytes(&[]), values::same_bytes(&[0, 255, 7])));
    let large: Vec<u8> = (0..1_500_000_u32).map(|byte| byte as u8).collect();
    say!(lines, values::same_bytes(&large) == large);
    say!(lines, values::same_numbers(&[i64::MIN, -1, 0, 1, i64::MAX]));
    say!(lines, values::same_strings(&[String::new(), "two".to_owned()]));
    say!(lines, values::same_pair((7, "seven")));
    say!(lines, values::same_point(&point(-5, "p")));
    say!(lines, values::same_shape(&Shape::Circle(2.5)));
    say!(lines, values::same_shape(&Shape::Polygon(vec![point(1, "a"), point(2, "b")])));
    say!(lines, values::same_shape(&Shape::Text("t".to_owned())));
    say!(lines, values::same_shape(&Shape::Nothing));
    say!(lines, (values::same_color(Color::Red), values::same_color(Color::Blue)));
    say!(lines, (values::same_access(Access::empty()), values::same_access(Access::READ | Access::EXECUTE)));
    say!(lines, (values::same_option(None), values::same_option(Some("")), values::same_option(Some("some"))));
    say!(lines, (values::same_outcome(Ok(1)), values::same_outcome(Err("no"))));
    say!(lines, (values::same_unit_outcome(Ok(())), values::same_unit_outcome(Err(()))));
    let deep = Deep {
        points: vec![None, Some(point(9, "deep"))],
        pairs: vec![(1, 'x'), (2, 'ÿ')],
        outcome: Err(Shape::Polygon(vec![point(3, "err")])),
        nested: vec![vec![], vec![None, Some(None), Some(Some(7))]],
        color: Color::Green,
        access: Access::WRITE,
    };
    say!(lines, values::same_deep(&deep));
    say!(lines, values::same_deep(&Deep { outcome: Ok(vec!["fine".to_owned()]), points: Vec::new(), ..deep }));
    say!(lines, values::many(1, "b", &[point(4, "c")], Some(Color::Red), true));
    say!(lines, values::nothing());
}

fn resources(lines: &mut Vec<String>) {
    say!(lines, (values::count(), values::count(), values::count()));
    let one = Counter::new(10);
    say!(lines, (one.add(5), one.value()));
    let many = values::make(&[1, 2, 3]);
    let all: Vec<&Counter> = many.iter().chain([&one]).collect();
    say!(lines, values::sum(&all));
    drop(all);
    say!(lines, values::dropped());
    drop(many);
    say!(lines, values::dropped());
    let merged = Counter::merge(one, Counter::new(100));
    say!(lines, (merged.value(), values::dropped()));
    say!(lines, values::find(0).map(|counter| counter.value()));
    say!(lines, values::find(6).map(|counter| counter.add(1)));
    for _ in 0..100 {
        drop(Counter::new(1));
    }
    say!(lines, values::dropped());
    drop(merged);
    say!(lines, values::dropped());
}

/// Resources of one interface in the functions of another.
fn shared(lines: &mut Vec<String>) {
    let lent = Counter::new(1000);
    let ledger = Ledger::new(Counter::new(7));
    say!(lines, (ledger.put(Counter::new(20)), ledger.put(Counter::new(300))));
    say!(lines, (ledger.sum_with(&lent), lent.add(1)));
    // What one interface gave back is one of the other's.
    let last = ledger.take();
    say!(lines, last.as_ref().map(|counter| (counter.value(), values::sum(&[counter, &lent]))));
    say!(lines, (ledger.take().is_some(), ledger.take().is_some(), ledger.take().is_some()));
    say!(lines, values::dropped());
    let halves = ledgers::split(Counter::new(9), Color::Green);
    say!(
        lines,
        halves.as_ref().map(|all| all.iter().map(|held| (held.at.x, held.it.value())).collect::<Vec<_>>())
    );
    let joined = ledgers::join(halves.unwrap_or_default());
    say!(lines, (joined.value(), values::dropped()));
    say!(lines, ledgers::split(joined, Color::Blue).map(|all| all.len()));
    say!(lines, ledgers::tell(Mood::Sad, &["why".to_owned(), String::new()]));
    // A ledger that is dropped takes with it what it keeps.
    ledger.put(Counter::new(1));
    drop((ledger, lent, last));
    say!(lines, values::dropped());
}
