//! The bytes of every type, as data: what is on the wire changes only when a line here does.

use wasmtime::component::Val;

use super::*;

/// `func(x: TYPE)` called with the value is these bytes.
pub(super) struct Line {
    ty: &'static str,
    pub(super) shape: Shape,
    pub(super) value: Val,
    bytes: &'static str,
}

/// Every line.
pub(super) fn all() -> Vec<Line> {
    let tables: [fn(&mut Table); 5] = [scalars, lists, options, messages, cases];
    let mut table = Table::default();
    tables.iter().for_each(|lines| lines(&mut table));
    table.0
}

#[derive(Default)]
struct Table(Vec<Line>);

impl Table {
    fn line(&mut self, ty: &'static str, shape: Shape, value: Val, bytes: &'static str) {
        self.0.push(Line { ty, shape, value, bytes });
    }
}

/// The bytes are those of the line, and they are the value; a protobuf library agrees.
fn check(lines: fn(&mut Table)) {
    let mut table = Table::default();
    lines(&mut table);
    for Line { ty, shape, value, bytes } in table.0 {
        let signature = of(shape);
        assert_eq!(signature.text(), format!("func(x: {ty})"));
        let found = encode(&signature, std::slice::from_ref(&value));
        assert_eq!(hex(&found), bytes.replace(' ', ""), "{ty}, {value:?}");
        let decoded = signature.decode_arguments(&found, &mut Session::new()).unwrap();
        assert_eq!(decoded, [value], "{ty}");
        assert_eq!(hex(&rewritten(schema(&signature).0, &found)), hex(&found), "{ty}");
    }
}

#[test]
fn scalars_are_one_field() {
    check(scalars);
}

fn scalars(table: &mut Table) {
    table.line("bool", Shape::Bool, Val::Bool(true), "08 01");
    table.line("bool", Shape::Bool, Val::Bool(false), "08 00");
    table.line("s8", Shape::S8, Val::S8(-1), "08 01");
    table.line("s8", Shape::S8, Val::S8(-128), "08 ff01");
    table.line("u8", Shape::U8, Val::U8(255), "08 ff01");
    table.line("s16", Shape::S16, Val::S16(-300), "08 d704");
    table.line("u16", Shape::U16, Val::U16(300), "08 ac02");
    table.line("s32", Shape::S32, Val::S32(i32::MIN), "08 ffffffff0f");
    table.line("u32", Shape::U32, Val::U32(u32::MAX), "08 ffffffff0f");
    table.line("s64", Shape::S64, Val::S64(-1), "08 01");
    table.line("s64", Shape::S64, Val::S64(i64::MIN), "08 ffffffffffffffffff01");
    table.line("u64", Shape::U64, Val::U64(0), "08 00");
    table.line("u64", Shape::U64, Val::U64(u64::MAX), "08 ffffffffffffffffff01");
    table.line("f32", Shape::F32, Val::Float32(1.5), "0d 0000c03f");
    table.line("f64", Shape::F64, Val::Float64(-2.0), "09 00000000000000c0");
    table.line("char", Shape::Char, Val::Char('é'), "08 e901");
    table.line("string", Shape::String, text("Ada"), "0a 03 416461");
    table.line("string", Shape::String, text(""), "0a 00");
    let colours = || Shape::Enum(names(&["red", "green"]));
    table.line("enum { red, green }", colours(), Val::Enum("red".to_owned()), "08 00");
    table.line("enum { red, green }", colours(), Val::Enum("green".to_owned()), "08 01");
    let rights = || Shape::Flags(names(&["read", "write", "run"]));
    let set = Val::Flags(vec!["read".to_owned(), "run".to_owned()]);
    table.line("flags { read, write, run }", rights(), set, "08 05");
    table.line("flags { read, write, run }", rights(), Val::Flags(vec![]), "08 00");
}

#[test]
fn lists_are_repeated_and_scalars_in_them_packed() {
    check(lists);
}

fn lists(table: &mut Table) {
    table.line("list<u8>", Shape::Bytes, Val::List([1, 2, 255].map(Val::U8).into()), "0a 03 0102ff");
    table.line("list<u8>", Shape::Bytes, Val::List(vec![]), "0a 00");
    table.line("list<u32>", list(Shape::U32), Val::List([1, 300].map(Val::U32).into()), "0a 03 01 ac02");
    table.line("list<u32>", list(Shape::U32), Val::List(vec![]), "");
    table.line("list<s8>", list(Shape::S8), Val::List([-1, 1].map(Val::S8).into()), "0a 02 01 02");
    table.line("list<f32>", list(Shape::F32), Val::List(vec![Val::Float32(1.5)]), "0a 04 0000c03f");
    table.line("list<bool>", list(Shape::Bool), Val::List([true, false].map(Val::Bool).into()), "0a 02 01 00");
    table.line("list<string>", list(Shape::String), Val::List(["a", ""].map(text).into()), "0a 01 61 0a 00");
    let colours = list(Shape::Enum(names(&["red", "green"])));
    let value = Val::List(["green", "red"].map(|name| Val::Enum(name.to_owned())).into());
    table.line("list<enum { red, green }>", colours, value, "0a 02 01 00");
    let value = Val::List(vec![Val::List(vec![Val::U8(1)]), Val::List(vec![])]);
    table.line("list<list<u8>>", list(Shape::Bytes), value, "0a 01 01 0a 00");
    let value = Val::List(vec![Val::List(vec![Val::U32(1)]), Val::List(vec![])]);
    table.line("list<list<u32>>", list(list(Shape::U32)), value, "0a 03 0a0101 0a 00");
    let value = Val::List(vec![some(Val::U32(5)), Val::Option(None)]);
    table.line("list<option<u32>>", list(option(Shape::U32)), value, "0a 02 0805 0a 00");
}

#[test]
fn options_are_there_or_not() {
    check(options);
}

fn options(table: &mut Table) {
    table.line("option<u32>", option(Shape::U32), Val::Option(None), "");
    table.line("option<u32>", option(Shape::U32), some(Val::U32(0)), "08 00");
    table.line("option<string>", option(Shape::String), some(text("")), "0a 00");
    table.line("option<list<u32>>", option(list(Shape::U32)), some(Val::List(vec![])), "0a 00");
    table.line(
        "option<list<u32>>",
        option(list(Shape::U32)),
        some(Val::List(vec![Val::U32(7)])),
        "0a 03 0a0107",
    );
    table.line("option<option<u32>>", option(option(Shape::U32)), Val::Option(None), "");
    table.line("option<option<u32>>", option(option(Shape::U32)), some(Val::Option(None)), "0a 00");
    table.line("option<option<u32>>", option(option(Shape::U32)), some(some(Val::U32(1))), "0a 02 0801");
}

#[test]
fn records_and_tuples_are_messages() {
    check(messages);
}

fn messages(table: &mut Table) {
    let ty = "record { id: u32, name: string }";
    let shape = record(vec![("id", Shape::U32), ("name", Shape::String)]);
    let value = Val::Record(vec![("id".to_owned(), Val::U32(7)), ("name".to_owned(), text("Ada"))]);
    table.line(ty, shape, value, "0a 07 0807 1203416461");
    let ty = "record { tags: list<string>, note: option<string> }";
    let shape = record(vec![("tags", list(Shape::String)), ("note", option(Shape::String))]);
    let tags = ("tags".to_owned(), Val::List(vec![text("x")]));
    table.line(ty, shape, Val::Record(vec![tags, ("note".to_owned(), Val::Option(None))]), "0a 03 0a0178");
    let value = Val::Tuple(vec![Val::U8(1), Val::Bool(true)]);
    table.line("tuple<u8, bool>", tuple(vec![Shape::U8, Shape::Bool]), value, "0a 04 0801 1001");
}

#[test]
fn variants_and_results_are_one_case_of_a_message() {
    check(cases);
}

fn cases(table: &mut Table) {
    let ty = "variant { none, text(string), many(list<u32>) }";
    let shape = || {
        let many = list(Shape::U32);
        variant(vec![("none", None), ("text", Some(Shape::String)), ("many", Some(many))])
    };
    table.line(ty, shape(), case("none", None), "0a 02 0a00");
    table.line(ty, shape(), case("text", Some(text("a"))), "0a 03 120161");
    table.line(ty, shape(), case("many", Some(Val::List(vec![Val::U32(1)]))), "0a 05 1a03 0a0101");
    table.line(ty, shape(), case("many", Some(Val::List(vec![]))), "0a 02 1a00");

    let shape = || result(Some(Shape::U32), Some(Shape::String));
    let ok = |value| Val::Result(Ok(value));
    let err = |value| Val::Result(Err(value));
    table.line("result<u32, string>", shape(), ok(Some(Box::new(Val::U32(3)))), "0a 02 0803");
    table.line("result<u32, string>", shape(), err(Some(Box::new(text("no")))), "0a 04 12026e6f");
    table.line("result", result(None, None), ok(None), "0a 02 0a00");
    table.line("result", result(None, None), err(None), "0a 02 1200");
    table.line("result<_, u8>", result(None, Some(Shape::U8)), err(Some(Box::new(Val::U8(1)))), "0a 02 1001");
    let value = ok(Some(Box::new(Val::Option(None))));
    table.line("result<option<u8>>", result(Some(option(Shape::U8)), None), value, "0a 02 0a00");
}

/// In these tests an id is the number of the handle, then 0 for the first resource, and whether it is owned.
#[test]
fn handles_are_messages_with_an_id() {
    let resource = Val::Resource(Session::new().handles[1]);
    let signature = of(handle(true));
    let bytes = encode(&signature, std::slice::from_ref(&resource));
    assert_eq!((signature.text(), hex(&bytes).as_str()), ("func(x: own<connection>)", "0a03088102"));
    let signature = of(list(handle(false)));
    let bytes = encode(&signature, &[Val::List(vec![resource])]);
    assert_eq!((signature.text(), hex(&bytes).as_str()), ("func(x: list<borrow<connection>>)", "0a03088002"));
}

#[test]
fn arguments_are_fields_by_their_position_and_the_result_is_field_1() {
    let signature = function(vec![("a", Shape::U32), ("b", list(Shape::U8)), ("c", Shape::String)], None);
    assert_eq!(hex(&encode(&signature, &[Val::U32(1), Val::List(vec![]), text("c")])), "08011a0163");

    let signature = function(vec![], Some(list(Shape::U32)));
    assert_eq!(signature.text(), "func() -> list<u32>");
    assert!(encode(&signature, &[]).is_empty());
    let value = Val::List(vec![Val::U32(9)]);
    let mut bytes = b"before".to_vec();
    signature.encode_result(Some(&value), &mut Session::new(), &mut bytes).unwrap();
    assert_eq!(bytes, b"before\x0a\x01\x09");
    assert_eq!(signature.decode_result(&bytes[6..], &mut Session::new()).unwrap(), Some(value));

    let signature = function(vec![], None);
    let mut bytes = Vec::new();
    signature.encode_result(None, &mut Session::new(), &mut bytes).unwrap();
    assert!(bytes.is_empty());
    assert_eq!(signature.decode_result(&bytes, &mut Session::new()).unwrap(), None);
}

#[test]
fn a_length_takes_as_many_bytes_as_it_needs() {
    let signature = of(record(vec![("s", Shape::String)]));
    for (length, start) in [(125, "0a7f0a7d"), (126, "0a80010a7e"), (200, "0acb010ac801")] {
        let value = Val::Record(vec![("s".to_owned(), text(&"a".repeat(length)))]);
        let bytes = encode(&signature, std::slice::from_ref(&value));
        assert_eq!(hex(&bytes), format!("{start}{}", "61".repeat(length)));
        assert_eq!(signature.decode_arguments(&bytes, &mut Session::new()).unwrap(), [value]);
    }
}

#[test]
fn equal_types_have_equal_digests() {
    let one = function(vec![("a", Shape::U32)], Some(Shape::String));
    let other = function(vec![("a", Shape::U32)], Some(Shape::String));
    assert_eq!(one.digest(), other.digest());
    let digest = "sha256:ec0734e556bed3ca108509bffab416ba5d0183c23569640c309f16f880ac04b2";
    assert_eq!((one.text(), one.digest().to_string().as_str()), ("func(a: u32) -> string", digest));
    for changed in [
        function(vec![("b", Shape::U32)], Some(Shape::String)),
        function(vec![("a", Shape::S32)], Some(Shape::String)),
        function(vec![("a", Shape::U32)], Some(option(Shape::String))),
        function(vec![("a", Shape::U32)], None),
        Signature::new(true, fields(vec![("a", Shape::U32)]), Some(Shape::String)),
    ] {
        assert_ne!(one.digest(), changed.digest(), "{}", changed.text());
    }
}
