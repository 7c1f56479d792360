//! Bytes that we would not write, and read: what protobuf allows other writers.

use wasmtime::component::Val;

use super::*;

fn check(signature: &Signature, bytes: &str, expected: &[Val]) {
    let bytes = unhex(bytes);
    assert_eq!(signature.decode_arguments(&bytes, &mut Session::new()).unwrap(), expected, "{}", hex(&bytes));
}

#[test]
fn fields_may_be_in_any_order() {
    let signature =
        function(vec![("a", Shape::U8), ("b", list(Shape::String)), ("c", option(Shape::U8))], None);
    let expected = [Val::U8(1), Val::List(["x", "y"].map(text).into()), some(Val::U8(3))];
    check(&signature, "0801 120178 120179 1803", &expected);
    check(&signature, "1803 120178 0801 120179", &expected);
    check(&signature, "120178 120179 1803 0801", &expected);
    let inner = of(tuple(vec![Shape::U8, Shape::Bool]));
    check(&inner, "0a 04 1001 0802", &[Val::Tuple(vec![Val::U8(2), Val::Bool(true)])]);
}

#[test]
fn packed_lists_may_be_in_pieces_or_not_packed() {
    let signature = of(list(Shape::U32));
    let expected = [Val::List([1, 2, 300, 4].map(Val::U32).into())];
    check(&signature, "0a 05 01 02 ac02 04", &expected);
    check(&signature, "08 01 08 02 08 ac02 08 04", &expected);
    check(&signature, "08 01 0a 03 02 ac02 0a 00 08 04", &expected);
    let floats = of(list(Shape::F32));
    let expected = [Val::List([1.5, 1.5].map(Val::Float32).into())];
    check(&floats, "0d 0000c03f 0a 04 0000c03f", &expected);
}

#[test]
fn varints_may_be_longer_than_they_need() {
    check(&of(Shape::U8), "08 8100", &[Val::U8(1)]);
    check(&of(Shape::String), "8a00 8100 61", &[text("a")]);
}
