//! Types and values made by hand or by chance.

mod accepted;
mod bytes;
mod components;
mod guest;
mod hostile;
mod json;
mod python;
mod random;
mod refused;
mod strategies;

use std::sync::Arc;

use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, Value};
use wasmtime::component::Val;

use super::fuzz::Session;
use super::shape::{Field, Handle, Kind, Names, Shape, Variant};
use super::{Handles as _, Signature, descriptor, fuzz};

/// A function with one parameter `x`.
fn of(shape: Shape) -> Signature {
    function(vec![("x", shape)], None)
}

fn function(parameters: Vec<(&str, Shape)>, result: Option<Shape>) -> Signature {
    Signature::new(false, fields(parameters), result)
}

fn fields(fields: Vec<(&str, Shape)>) -> Box<[Field]> {
    fields.into_iter().map(|(name, shape)| Field { name: name.into(), shape }).collect()
}

fn names(names: &[&str]) -> Names {
    Names::new(names.iter().map(|name| Arc::from(*name)).collect())
}

fn record(of: Vec<(&str, Shape)>) -> Shape {
    Shape::Record(fields(of))
}

fn tuple(items: Vec<Shape>) -> Shape {
    Shape::Tuple(items.into())
}

fn list(element: Shape) -> Shape {
    Shape::List(Box::new(element))
}

fn option(inner: Shape) -> Shape {
    Shape::Option(Box::new(inner))
}

fn result(ok: Option<Shape>, err: Option<Shape>) -> Shape {
    Shape::Result { ok: ok.map(Box::new), err: err.map(Box::new) }
}

fn variant(cases: Vec<(&str, Option<Shape>)>) -> Shape {
    let (cases, payloads): (Vec<&str>, Vec<Option<Shape>>) = cases.into_iter().unzip();
    Shape::Variant(Variant { names: names(&cases), payloads: payloads.into() })
}

fn handle(owned: bool) -> Shape {
    Shape::Handle(Handle { resource: Kind::Provider(0), name: "connection".into(), owned })
}

fn text(value: &str) -> Val {
    Val::String(value.to_owned())
}

fn some(value: Val) -> Val {
    Val::Option(Some(Box::new(value)))
}

fn case(name: &str, payload: Option<Val>) -> Val {
    Val::Variant(name.to_owned(), payload.map(Box::new))
}

fn hex(bytes: &[u8]) -> String {
    hex::encode(bytes)
}

fn unhex(text: &str) -> Vec<u8> {
    hex::decode(text.replace(' ', "")).unwrap()
}

fn encode(signature: &Signature, arguments: &[Val]) -> Vec<u8> {
    let mut bytes = Vec::new();
    signature.encode_arguments(arguments, &mut Session::new(), &mut bytes).unwrap();
    bytes
}

/// The schema of a function's messages: of its arguments and of its result.
fn schema(signature: &Signature) -> (MessageDescriptor, MessageDescriptor) {
    let mut pool = DescriptorPool::new();
    let file = descriptor::file("test.v1", &[("do-it", signature)]);
    pool.add_file_descriptor_proto(file).unwrap_or_else(|error| panic!("{error}: {}", signature.text()));
    let message = |name| pool.get_message_by_name(name).unwrap();
    (message("test.v1.DoItArguments"), message("test.v1.DoItResult"))
}

/// What a protobuf library makes of bytes that it was given the schema of. It must know every field.
fn rewritten(schema: MessageDescriptor, bytes: &[u8]) -> Vec<u8> {
    use prost_reflect::prost::Message as _;
    let message = DynamicMessage::decode(schema, bytes).unwrap();
    assert_no_unknown(&Value::Message(message.clone()));
    message.encode_to_vec()
}

fn assert_no_unknown(value: &Value) {
    match value {
        Value::Message(message) => {
            assert_eq!(message.unknown_fields().count(), 0, "{message:?}");
            message.fields().for_each(|(_, value)| assert_no_unknown(value));
        }
        Value::List(values) => values.iter().for_each(assert_no_unknown),
        _ => {}
    }
}
