//! Values that go straight between a guest's memory and a message are those that go the long way: wasmtime's, and ours.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use proptest::prelude::prop;
use wasmtime::component::{Component, Func, Linker, LinkerInstance};
use wasmtime::{Engine, Result, Store, StoreContextMut};

use super::super::guest::ARGUMENT_CELLS_MAX;
use super::super::{DecodeError, FromGuest, IN_MEMORY, NoHandles, ToGuest, TooLong, with_cells};
use super::hostile::{apply, changes};
use super::strategies::{calls, random};
use super::*;

/// What the function that a guest imports was called with, and what it answers.
struct Host {
    heard: Mutex<Option<Heard>>,
    message: Vec<u8>,
    value: Option<Val>,
}

#[derive(Debug, PartialEq)]
enum Heard {
    Message(Result<Vec<u8>, TooLong>),
    Values(Vec<Val>),
}

/// A guest whose function `run` calls its import `f` with what it was called with, and returns what that does.
struct Guest {
    store: Store<Arc<Host>>,
    run: Func,
    host: Arc<Host>,
}

impl Guest {
    fn new(engine: &Engine, text: &str, signature: &Signature, host: Host, is_direct: bool) -> Result<Self> {
        let component = Component::new(engine, wat::parse_str(text)?)?;
        let mut linker = Linker::new(engine);
        let cells = signature.cells().unwrap();
        if is_direct {
            with_cells!(cells.arguments, ARGUMENTS => match cells.result {
                0 => offer::<ARGUMENTS, 0>(linker.root()),
                1 => offer::<ARGUMENTS, 1>(linker.root()),
                _ => offer::<ARGUMENTS, { IN_MEMORY }>(linker.root()),
            })?;
        } else {
            linker.root().func_new("f", |store, _, arguments, results| {
                *store.data().heard.lock().unwrap() = Some(Heard::Values(arguments.to_vec()));
                results.iter_mut().zip(store.data().value.clone()).for_each(|(result, value)| *result = value);
                Ok(())
            })?;
        }
        let host = Arc::new(host);
        let mut store = Store::new(engine, host.clone());
        let instance = linker.instantiate(&mut store, &component)?;
        let run = instance.get_func(&mut store, "run").unwrap();
        Ok(Self { store, run, host })
    }

    /// Calls it with a message; what it returns is another.
    fn call(&mut self, signature: &Signature, message: &[u8]) -> Result<Result<Vec<u8>, TooLong>> {
        match signature.cells().unwrap().result {
            0 => self.call_for::<0>(message),
            1 => self.call_for::<1>(message),
            _ => self.call_for::<IN_MEMORY>(message),
        }
    }

    fn call_for<const RESULT: usize>(&mut self, message: &[u8]) -> Result<Result<Vec<u8>, TooLong>> {
        let run = self.run.typed::<ToGuest<ARGUMENT_CELLS_MAX>, FromGuest<RESULT>>(&self.store)?;
        Ok(run.call(&mut self.store, ToGuest::arguments(message.to_vec()))?.0)
    }

    fn heard(&self) -> Option<Heard> {
        self.host.heard.lock().unwrap().take()
    }
}

fn offer<const ARGUMENTS: usize, const RESULT: usize>(mut linker: LinkerInstance<'_, Arc<Host>>) -> Result<()> {
    linker.func_wrap("f", |store: StoreContextMut<'_, Arc<Host>>, FromGuest(heard): FromGuest<ARGUMENTS>| {
        *store.data().heard.lock().unwrap() = Some(Heard::Message(heard));
        Ok(ToGuest::<RESULT>::result(store.data().message.clone(), |error| {
            wasmtime::Error::from(error).context("of the link")
        }))
    })
}

/// A guest whose function passes on what comes, whatever its type is.
fn passing(signature: &Signature, encoding: &str) -> String {
    let cells = signature.cells().unwrap();
    let mut types = Types::default();
    let parameters = signature.parameters.iter();
    let parameters: String = parameters
        .map(|parameter| format!("(param \"{}\" {}) ", parameter.name, types.text(&parameter.shape)))
        .collect();
    let result = signature.result.as_ref().map(|shape| format!("(result {})", types.text(shape)));
    let ty = format!("{parameters}{}", result.unwrap_or_default());
    let flat: Vec<&str> = signature.parameters.iter().flat_map(|parameter| core(&parameter.shape)).collect();
    assert_eq!(flat.len(), cells.arguments);
    let flat = flat.join(" ");
    let core_result = signature.result.as_ref().map(core).unwrap_or_default();
    let (lowered, lifted, call) = match cells.result {
        IN_MEMORY => {
            let call =
                "(local.set $at (call $realloc (i32.const 0) (i32.const 0) (i32.const 8) (i32.const 4096)))
                (call $f {} (local.get $at)) (local.get $at)";
            (format!("(param {flat} i32)"), "(result i32)".to_owned(), call)
        }
        _ => {
            let result = format!("(result {})", core_result.join(" "));
            (format!("(param {flat}) {result}"), result, "(call $f {})")
        }
    };
    let gets: String = (0..cells.arguments).map(|index| format!("(local.get {index})")).collect();
    let call = call.replace("{}", &gets);
    let options = format!("(memory $memory) (realloc $realloc) string-encoding={encoding}");
    let definitions = types.definitions;
    format!(
        r#"(component {definitions}
            (import "f" (func $f {ty}))
            (core module $memory
                (memory (export "memory") 1)
                (global $top (mut i32) (i32.const 8))
                (func (export "realloc") (param $old i32) (param $had i32) (param $align i32) (param $bytes i32)
                    (result i32)
                    (local $at i32)
                    (local.set $at (i32.and (i32.add (global.get $top) (i32.sub (local.get $align) (i32.const 1)))
                        (i32.sub (i32.const 0) (local.get $align))))
                    (global.set $top (i32.add (local.get $at) (local.get $bytes)))
                    (block $enough (loop $more
                        (br_if $enough
                            (i32.le_u (global.get $top) (i32.mul (memory.size) (i32.const 65536))))
                        (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))
                        unreachable))
                    (memory.copy (local.get $at) (local.get $old)
                        (select (local.get $had) (local.get $bytes)
                            (i32.lt_u (local.get $had) (local.get $bytes))))
                    (local.get $at)))
            (core instance $a (instantiate $memory))
            (alias core export $a "memory" (core memory $memory))
            (alias core export $a "realloc" (core func $realloc))
            (core func $lowered (canon lower (func $f) {options}))
            (core module $code
                (import "a" "realloc" (func $realloc (param i32 i32 i32 i32) (result i32)))
                (import "a" "f" (func $f {lowered}))
                (func (export "run") (param {flat}) {lifted} (local $at i32) {call}))
            (core instance $b (instantiate $code (with "a" (instance
                (export "realloc" (func $realloc)) (export "f" (func $lowered))))))
            (alias core export $b "run" (core func $run))
            (func (export "run") {ty} (canon lift (core func $run) {options})))"#
    )
}

/// The types of a component in its text. Records, variants, enums and flags need a name.
#[derive(Default)]
struct Types {
    definitions: String,
    count: usize,
}

impl Types {
    fn text(&mut self, shape: &Shape) -> String {
        let named = |names: &Names| -> String { names.iter().map(|name| format!(" \"{name}\"")).collect() };
        let payload = |types: &mut Self, shape: Option<&Shape>| shape.map(|shape| types.text(shape));
        let definition = match shape {
            Shape::Bytes => return "(list u8)".to_owned(),
            Shape::List(element) => return format!("(list {})", self.text(element)),
            Shape::Tuple(items) => {
                let items: Vec<_> = items.iter().map(|item| self.text(item)).collect();
                return format!("(tuple {})", items.join(" "));
            }
            Shape::Option(inner) => return format!("(option {})", self.text(inner)),
            Shape::Result { ok, err } => {
                let ok = payload(self, ok.as_deref()).unwrap_or_default();
                let err = payload(self, err.as_deref()).map(|err| format!("(error {err})"));
                return format!("(result {ok} {})", err.unwrap_or_default());
            }
            Shape::Record(fields) => {
                let field = |field: &Field| format!("(field \"{}\" {})", field.name, self.text(&field.shape));
                format!("(record {})", fields.iter().map(field).collect::<String>())
            }
            Shape::Variant(variant) => {
                let case = |(name, shape): (&Arc<str>, &Option<Shape>)| {
                    format!("(case \"{name}\" {})", payload(self, shape.as_ref()).unwrap_or_default())
                };
                format!(
                    "(variant {})",
                    variant.names.iter().zip(&variant.payloads).map(case).collect::<String>()
                )
            }
            Shape::Enum(names) => format!("(enum{})", named(names)),
            Shape::Flags(names) => format!("(flags{})", named(names)),
            scalar => return scalar.kind().to_owned(),
        };
        self.count += 1;
        let Self { definitions, count } = self;
        write!(
            definitions,
            "(type $d{count} {definition})(import \"t{count}\" (type $t{count} (eq $d{count})))"
        )
        .unwrap();
        format!("$t{count}")
    }
}

/// The core types that a value is passed as.
fn core(shape: &Shape) -> Vec<&'static str> {
    let cases = |payloads: Vec<Option<&Shape>>| {
        let mut joined = vec!["i32"];
        for payload in payloads.into_iter().flatten() {
            for (index, ty) in core(payload).into_iter().enumerate() {
                match joined.get_mut(index + 1) {
                    None => joined.push(ty),
                    Some(known) if *known == ty => {}
                    Some(known @ (&mut "i32" | &mut "f32")) if matches!(ty, "i32" | "f32") => *known = "i32",
                    Some(known) => *known = "i64",
                }
            }
        }
        joined
    };
    match shape {
        Shape::S64 | Shape::U64 => vec!["i64"],
        Shape::F32 => vec!["f32"],
        Shape::F64 => vec!["f64"],
        Shape::String | Shape::Bytes | Shape::List(_) => vec!["i32", "i32"],
        Shape::Record(fields) => fields.iter().flat_map(|field| core(&field.shape)).collect(),
        Shape::Tuple(items) => items.iter().flat_map(core).collect(),
        Shape::Variant(variant) => cases(variant.payloads.iter().map(Option::as_ref).collect()),
        Shape::Option(inner) => cases(vec![Some(inner)]),
        Shape::Result { ok, err } => cases(vec![ok.as_deref(), err.as_deref()]),
        _ => vec!["i32"],
    }
}

/// A function, and messages of it in one.
struct Case {
    signature: Signature,
    arguments: Vec<Val>,
    result: Option<Val>,
    sent: Vec<u8>,
    returned: Vec<u8>,
}

impl Case {
    /// None, if its values do not go straight.
    fn of(call: strategies::Call) -> Option<Self> {
        let strategies::Call { signature, arguments, result } = call;
        signature.cells()?;
        // More than 32 flags have a mapping, and no component has them.
        if signature.text().contains("f-33") {
            return None;
        }
        let (mut sent, mut returned) = (Vec::new(), Vec::new());
        signature.encode_arguments(&arguments, &mut NoHandles, &mut sent).unwrap();
        signature.encode_result(result.as_ref(), &mut NoHandles, &mut returned).unwrap();
        Some(Self { signature, arguments, result, sent, returned })
    }

    fn host(&self) -> Host {
        Host { heard: Mutex::default(), message: self.returned.clone(), value: self.result.clone() }
    }
}

#[test]
fn what_goes_straight_is_what_goes_by_values() {
    let session = Session::new();
    let engine = Engine::default();
    let encodings = prop::sample::select(vec!["utf8", "utf8", "utf16", "latin1+utf16"]);
    let checked = random(300).run(&(calls(&session), encodings), |(call, encoding)| {
        let Some(case) = Case::of(call) else { return Ok(()) };
        let signature = &case.signature;
        let text = passing(signature, encoding);
        let told = || format!("{} {encoding}\n{text}", signature.text());
        let mut results = vec![Val::Bool(false); signature.results()];

        // Values in, a message out: as wasmtime stores them, so they are loaded.
        let mut guest = Guest::new(&engine, &text, signature, case.host(), true)
            .unwrap_or_else(|error| panic!("{error:#} {}", told()));
        guest
            .run
            .call(&mut guest.store, &case.arguments, &mut results)
            .unwrap_or_else(|error| panic!("{error:#} {}", told()));
        assert_eq!(guest.heard(), Some(Heard::Message(Ok(case.sent.clone()))), "{}", told());
        assert_eq!(results.first(), case.result.as_ref(), "{}", told());

        // A message in, values out: as it stores them, so wasmtime loads them.
        let mut guest = Guest::new(&engine, &text, signature, case.host(), false).unwrap();
        let answer = guest.call(signature, &case.sent).unwrap_or_else(|error| panic!("{error:#} {}", told()));
        assert_eq!(guest.heard(), Some(Heard::Values(case.arguments.clone())), "{}", told());
        assert_eq!(answer, Ok(case.returned.clone()), "{}", told());
        Ok(())
    });
    checked.unwrap();
}

/// Why a call failed whose message was not of its type.
fn refused(error: &wasmtime::Error) -> String {
    error.downcast_ref::<DecodeError>().unwrap_or_else(|| panic!("{error:#}")).to_string()
}

#[test]
fn a_changed_message_is_refused_for_the_same_reason_or_is_the_same_values() {
    let session = Session::new();
    let engine = Engine::default();
    let changed = (calls(&session), prop::collection::vec(changes(), 20));
    let checked = random(100).run(&changed, |(call, changes)| {
        let Some(case) = Case::of(call) else { return Ok(()) };
        let signature = &case.signature;
        let text = passing(signature, "utf8");
        for changes in changes {
            let mut sent = case.sent.clone();
            changes.iter().for_each(|change| apply(change, &mut sent));
            let mut guest = Guest::new(&engine, &text, signature, case.host(), false).unwrap();
            match (guest.call(signature, &sent), signature.decode_arguments(&sent, &mut NoHandles)) {
                (Ok(_), Ok(values)) => assert_eq!(guest.heard(), Some(Heard::Values(values))),
                (Err(error), Err(expected)) => assert_eq!(refused(&error), expected.to_string()),
                (found, expected) => panic!("{found:?} {expected:?} {}", signature.text()),
            }
            let mut returned = case.returned.clone();
            changes.iter().for_each(|change| apply(change, &mut returned));
            let expected = signature.decode_result(&returned, &mut NoHandles);
            let host = Host { message: returned, ..case.host() };
            let mut guest = Guest::new(&engine, &text, signature, host, true).unwrap();
            let mut results = vec![Val::Bool(false); signature.results()];
            match (guest.run.call(&mut guest.store, &case.arguments, &mut results), expected) {
                (Ok(()), Ok(value)) => assert_eq!(results.first(), value.as_ref()),
                (Err(error), Err(expected)) => {
                    assert_eq!(refused(&error), expected.to_string());
                    assert!(format!("{error:#}").contains("of the link"), "{error:#}");
                }
                (found, expected) => panic!("{found:?} {expected:?} {}", signature.text()),
            }
        }
        Ok(())
    });
    checked.unwrap();
}

#[test]
fn numbers_that_are_copied_whole_are_counted_where_the_last_is_cut_off() {
    let engine = Engine::default();
    // One by itself, and then one and a quarter in one piece.
    for (shape, bytes) in
        [(Shape::F32, "0a 05 0000c03f00"), (Shape::F64, "09 0000000000000000 0a 0a 00000000000000000000")]
    {
        let signature = of(list(shape));
        let host = Host { heard: Mutex::default(), message: Vec::new(), value: None };
        let mut guest = Guest::new(&engine, &passing(&signature, "utf8"), &signature, host, false).unwrap();
        let error = guest.call(&signature, &unhex(bytes)).unwrap_err();
        let expected = signature.decode_arguments(&unhex(bytes), &mut NoHandles).unwrap_err();
        assert_eq!(refused(&error), expected.to_string());
        assert!(expected.to_string().contains("element "), "{expected}");
    }
}

/// What comes of a guest that calls its import with these cells, in a memory that says `héé` at 16.
fn says(shape: Shape, cells: &str) -> String {
    let signature = of(shape);
    let calls = format!("(call $f {cells})");
    let text = passing(&signature, "utf8");
    let gets: String =
        (0..signature.cells().unwrap().arguments).map(|index| format!("(local.get {index})")).collect();
    let text = text.replace(&format!("(call $f {gets})"), &calls);
    let text = text.replace(
        "(memory (export \"memory\") 1)",
        "(memory (export \"memory\") 1) (data (i32.const 16) \"h\\c3\\a9\\c3\\a9\")",
    );
    assert!(text.contains(&calls) && text.contains("(data "), "{text}");
    let host = Host { heard: Mutex::default(), message: Vec::new(), value: None };
    let mut guest = Guest::new(&Engine::default(), &text, &signature, host, true).unwrap();
    let zero: Vec<Val> = vec![zero(&signature.parameters[0].shape)];
    match guest.run.call(&mut guest.store, &zero, &mut []) {
        Ok(()) => match guest.heard() {
            Some(Heard::Message(Ok(message))) => hex(&message),
            Some(Heard::Message(Err(error))) => error.to_string(),
            other => panic!("{other:?}"),
        },
        Err(error) => error.root_cause().to_string(),
    }
}

fn zero(shape: &Shape) -> Val {
    match shape {
        Shape::String => text(""),
        Shape::Bytes | Shape::List(_) => Val::List(Vec::new()),
        Shape::Char => Val::Char('a'),
        Shape::Bool => Val::Bool(false),
        Shape::U8 => Val::U8(0),
        Shape::S8 => Val::S8(0),
        Shape::Enum(names) => Val::Enum(names.get(0).unwrap().to_string()),
        Shape::Flags(_) => Val::Flags(Vec::new()),
        Shape::Option(_) => Val::Option(None),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_a_guest_says_of_its_memory_is_checked() {
    let words = |words: &[i64]| -> String { words.iter().map(|word| format!("(i32.const {word})")).collect() };
    let bounds = "a pointer or a length of the guest is out of the bounds of its memory";
    let e = || Shape::Enum(names(&["a", "b"]));
    let table: Vec<(Shape, Vec<i64>, &str)> = vec![
        (Shape::String, vec![16, 3], "0a0368c3a9"),
        (Shape::String, vec![16, 2], "incomplete utf-8 byte sequence from index 1"),
        (Shape::String, vec![17, 1], "incomplete utf-8 byte sequence from index 0"),
        (Shape::String, vec![65_535, 1], "0a0100"),
        (Shape::String, vec![65_536, 0], "0a00"),
        (Shape::String, vec![65_536, 1], bounds),
        (Shape::String, vec![-1, -1], bounds),
        (Shape::Bytes, vec![16, 4], "0a0468c3a9c3"),
        (Shape::Bytes, vec![16, 65_536], bounds),
        (Shape::Bytes, vec![0, -1], bounds),
        (list(Shape::U32), vec![18, 0], "a pointer of the guest is not aligned to 4 bytes"),
        (list(Shape::U32), vec![16, 0x4000_0001], bounds),
        (list(Shape::F64), vec![24, 1], "0a080000000000000000"),
        (list(Shape::F64), vec![65_536, 1], bounds),
        (list(list(Shape::Bool)), vec![8, 1], "0a00"),
        (list(Shape::Bool), vec![16, 2], "0a020101"),
        (Shape::Bool, vec![256], "0801"),
        (Shape::U8, vec![257], "0801"),
        (Shape::S8, vec![255], "0801"),
        (Shape::Char, vec![0xd800], "0xd800 is not a character"),
        (Shape::Char, vec![0x11_0000], "0x110000 is not a character"),
        (e(), vec![1], "0801"),
        (e(), vec![2], "2 is not one of 2 cases"),
        (option(Shape::U8), vec![0, 7], ""),
        (option(Shape::U8), vec![2, 7], "2 is not one of 2 cases"),
        (Shape::Flags(names(&["a", "b"])), vec![7], "0803"),
    ];
    for (shape, cells, expected) in table {
        let told = format!("{shape:?} {cells:?}");
        assert_eq!(says(shape, &words(&cells)), expected, "{told}");
    }
}

#[test]
fn a_message_that_is_too_long_is_not_made() {
    let long = "more than 4194304 bytes, and at most so many are carried";
    let grown = "(drop (call $realloc (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 67108864)))";
    let says = |shape: Shape, cells: &str| says(shape, cells);
    // 64 MiB, and 16 Mi empty lists.
    let words =
        |at: i64, count: i64| format!("(i32.const {at}) (block (result i32) {grown} (i32.const {count}))");
    assert_eq!(says(Shape::Bytes, &words(64, 64 << 20)), long);
    assert_eq!(says(Shape::String, &words(64, 64 << 20)), long);
    assert_eq!(says(list(Shape::Bool), &words(64, 64 << 20)), long);
    assert_eq!(says(list(Shape::U64), &words(64, 8 << 20)), long);
    assert_eq!(says(list(list(Shape::Bool)), &words(64, 8 << 20)), long);
}
