//! Bytes that are not the message, and values that are not of the type: each with the place and the reason.

use std::error::Error as _;

use wasmtime::component::Val;

use super::super::decode::DECODED_MAX_BYTES;
use super::*;

fn check(signature: &Signature, bytes: &str, expected: &str) {
    let bytes = unhex(bytes);
    let error = signature.decode_arguments(&bytes, &mut Session::new()).unwrap_err();
    assert_eq!(error.to_string(), expected, "{}", hex(&bytes));
}

#[test]
fn fields_are_there_once_and_no_others_are() {
    check(&of(Shape::U32), "", "argument 1: the field is missing");
    check(&of(Shape::Bytes), "", "argument 1: the field is missing");
    check(&of(Shape::U32), "0801 0802", "field 1 is there twice");
    check(&of(option(Shape::U32)), "0801 0802", "field 1 is there twice");
    check(&of(Shape::Bytes), "0a00 0a00", "field 1 is there twice");
    check(&of(Shape::U32), "0801 1001", "field 2 is not of this message");
    check(&function(vec![], None), "0801", "field 1 is not of this message");
    let two = function(vec![("a", Shape::U8), ("b", Shape::U8)], None);
    check(&two, "0801", "argument 2: the field is missing");
    check(&two, "1001 0801 1001", "field 2 is there twice");
    check(&of(tuple(vec![Shape::U8, Shape::U8])), "0a 02 1001", "argument 1, item 1: the field is missing");
    let nested = of(list(list(Shape::U8)));
    check(&nested, "0a 02 1001", "argument 1, element 1: field 2 is not of this message");
}

#[test]
fn the_way_to_a_problem_is_told() {
    let rows = record(vec![("rows", list(Shape::String))]);
    let signature = function(vec![("a", Shape::U8), ("b", rows)], None);
    let expected = "argument 2, field rows, element 2: the string is not UTF-8";
    check(&signature, "0801 12 06 0a0161 0a01ff", expected);
    let deep = result(None, Some(variant(vec![("why", Some(option(Shape::Char)))])));
    let expected = "result, err, case why, some: 0xd800 is not a character";
    let error = function(vec![], Some(deep))
        .decode_result(&unhex("0a 08 12 06 0a 04 08 80b003"), &mut Session::new())
        .unwrap_err();
    assert_eq!(error.to_string(), expected);
}

#[test]
fn numbers_fit_their_types() {
    check(&of(Shape::Bool), "08 02", "argument 1: the number does not fit its type");
    check(&of(Shape::U8), "08 8002", "argument 1: the number does not fit its type");
    check(&of(Shape::S8), "08 8002", "argument 1: the number does not fit its type");
    check(&of(Shape::U32), "08 ffffffffff01", "argument 1: the number does not fit its type");
    check(&of(list(Shape::U8)), "0a 03 01 8002", "argument 1, element 2: the number does not fit its type");
    check(&of(Shape::Char), "08 80b003", "argument 1: 0xd800 is not a character");
    check(&of(Shape::Enum(names(&["a", "b"]))), "08 02", "argument 1: the type has no case 2");
    let flags = Shape::Flags(names(&["a", "b"]));
    check(&of(flags), "08 05", "argument 1: the type does not have all flags of 0x5");
}

#[test]
fn a_variant_is_one_of_its_cases() {
    let shape = || variant(vec![("none", None), ("text", Some(Shape::String))]);
    check(&of(shape()), "0a 00", "argument 1: no case is there");
    check(&of(shape()), "0a 05 0a00 120161", "argument 1: more than one case is there");
    check(&of(shape()), "0a 04 0a00 0a00", "argument 1: more than one case is there");
    check(&of(shape()), "0a 02 1a00", "argument 1: the type has no case 2");
    let filled = "argument 1, case none: field 1 is not of this message";
    check(&of(shape()), "0a 04 0a02 0801", filled);
    let wire = "argument 1, case none: wire type length should be there, and varint is";
    check(&of(shape()), "0a 02 0801", wire);
    check(&of(result(None, None)), "0a 02 1a00", "argument 1: field 3 is not of this message");
}

#[test]
fn bytes_are_protobuf() {
    check(&of(Shape::U32), "08", "the bytes end too soon");
    check(&of(Shape::U32), "08 ff", "the bytes end too soon");
    check(&of(Shape::F64), "09 00000000", "the bytes end too soon");
    check(&of(Shape::String), "0a 05 61", "the bytes end too soon");
    check(&of(Shape::String), "0a ffffffffffffffffff01 61", "the bytes end too soon");
    check(&of(list(Shape::F32)), "0a 05 0000c03f00", "argument 1, element 2: the bytes end too soon");
    check(&of(Shape::U64), "08 ffffffffffffffffff02", "a varint has more than 64 bits");
    check(&of(Shape::U64), "08 ffffffffffffffffffff01", "a varint has more than 64 bits");
    check(&of(Shape::U64), "00 01", "0 is not the tag of a field");
    check(&of(Shape::U64), "0b 0c", "11 is not the tag of a field");
    check(&of(Shape::U64), "808080808001", "34359738368 is not the tag of a field");
    check(&of(Shape::U64), "0a 00", "argument 1: wire type varint should be there, and length is");
    check(&of(Shape::String), "08 00", "argument 1: wire type length should be there, and varint is");
    check(&of(Shape::String), "0a 01 ff", "argument 1: the string is not UTF-8");
}

#[test]
fn handles_are_those_of_the_session() {
    let reason = |bytes: &str| {
        let error = of(handle(true)).decode_arguments(&unhex(bytes), &mut Session::new()).unwrap_err();
        assert_eq!(error.to_string(), "argument 1: the handle cannot be taken");
        error.source().unwrap().to_string()
    };
    assert_eq!(reason("0a 02 0864"), "handle 100 is not of this session");
    assert_eq!(reason("0a 03 088108"), "handle 1025 is not of this session");
    check(&of(handle(true)), "0a 00", "argument 1: the field is missing");
    check(&of(handle(true)), "0a 04 0801 0801", "argument 1: field 1 is there twice");
}

/// Two bytes or one are a value of 40: what a message may cost is not seen from its length.
#[test]
fn memory_is_counted_before_it_is_taken() {
    let fit = DECODED_MAX_BYTES / size_of::<Val>();
    let many = |bytes: &[u8], count: usize| bytes.repeat(count);
    let mut packed = vec![0x0a];
    super::super::wire::put_varint(&mut packed, (fit + 1) as u64);
    packed.resize(packed.len() + fit + 1, 0);
    let nested = of(list(list(Shape::String)));
    for (signature, bytes) in [
        (of(Shape::Bytes), packed.clone()),
        (of(list(Shape::Bool)), packed),
        (of(list(option(Shape::Bool))), many(&[0x0a, 0], fit + 1)),
        (nested, many(&[0x0a, 0], fit + 1)),
    ] {
        let error = signature.decode_arguments(&bytes, &mut Session::new()).unwrap_err();
        let expected = "the values would take more memory than one message may";
        assert!(error.to_string().ends_with(expected), "{}: {error}", signature.text());
    }
}

/// Sorting took memory that was not counted: a sort that keeps the order of equals works in a second copy.
#[test]
fn sorting_fields_is_counted() {
    let signature = function(vec![("a", Shape::String), ("b", list(Shape::String))], None);
    for count in [10, 1_000, 100_000] {
        let not_utf8 = [0x0a, 1, 0xff];
        let bytes = [[0x12, 0].repeat(count), not_utf8.into()].concat();
        assert!(!fuzz::arguments(&signature, &bytes, &mut Session::new()));
    }
}

#[test]
fn values_of_another_type_are_not_written() {
    let refused = |shape: Shape, value: Val| {
        let mut bytes = vec![1];
        let error = of(shape).encode_arguments(&[value], &mut Session::new(), &mut bytes).unwrap_err();
        assert_eq!(bytes, [1], "what was written stays");
        error.to_string()
    };
    assert_eq!(refused(Shape::U32, Val::U64(1)), "argument 1: the value is not a u32");
    let mixed = Val::List(vec![Val::U8(1), Val::S8(1)]);
    assert_eq!(refused(Shape::Bytes, mixed), "argument 1: the value is not a list<u8>");
    let rows = record(vec![("a", Shape::U8)]);
    let named = Val::Record(vec![("b".to_owned(), Val::U8(1))]);
    assert_eq!(refused(rows.clone(), named), "argument 1: the type has no `b` there");
    let empty = Val::Record(vec![]);
    assert_eq!(refused(rows, empty), "argument 1: there are 0 where 1 should be");
    let full = case("none", Some(Val::U8(1)));
    let expected = "argument 1, case none: there are 1 where 0 should be";
    assert_eq!(refused(variant(vec![("none", None)]), full), expected);

    let none = of(Shape::U8).encode_arguments(&[], &mut Session::new(), &mut vec![]).unwrap_err();
    assert_eq!(none.to_string(), "there are 0 where 1 should be");
    let extra = of(Shape::U8).encode_result(Some(&Val::U8(1)), &mut Session::new(), &mut vec![]);
    assert_eq!(extra.unwrap_err().to_string(), "there are 1 where 0 should be");
    let mut nobody = Session { handles: vec![] };
    let resource = Val::Resource(Session::new().handles[0]);
    let error = of(handle(true)).encode_arguments(&[resource], &mut nobody, &mut vec![]).unwrap_err();
    assert_eq!(error.to_string(), "argument 1: the handle cannot be sent");
}
