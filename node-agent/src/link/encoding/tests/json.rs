//! Values in protobuf's JSON, made from the values by what `docs/wit-protobuf.md` says. No message is read for it, so
//! that it tells whether a reader of our messages has the values that we meant.

use prost_reflect::FieldDescriptor;
use serde_json::{Map, Value, json};

use super::super::shape::Names;
use super::*;

/// The message of a call's arguments.
pub(super) fn arguments(
    schema: &MessageDescriptor,
    signature: &Signature,
    values: &[Val],
    session: &mut Session,
) -> Value {
    let shapes = signature.parameters.iter().map(|parameter| &parameter.shape);
    Writer { session }.message(schema, shapes.zip(values))
}

/// The message of a call's result.
pub(super) fn result(
    schema: &MessageDescriptor,
    signature: &Signature,
    value: Option<&Val>,
    session: &mut Session,
) -> Value {
    Writer { session }.message(schema, signature.result.iter().zip(value))
}

struct Writer<'a> {
    session: &'a mut Session,
}

impl Writer<'_> {
    fn message<'v>(
        &mut self,
        schema: &MessageDescriptor,
        members: impl Iterator<Item = (&'v Shape, &'v Val)>,
    ) -> Value {
        let mut fields = Map::new();
        for (number, (shape, value)) in (1..).zip(members) {
            let field = schema.get_field(number).unwrap();
            let value = match (shape, value) {
                (Shape::List(_), Val::List(values)) if values.is_empty() => continue,
                (Shape::Option(_), Val::Option(None)) => continue,
                (Shape::List(element), Val::List(values)) => {
                    values.iter().map(|value| self.one(&field, element, value)).collect()
                }
                (Shape::Option(inner), Val::Option(Some(value))) => self.one(&field, inner, value),
                _ => self.one(&field, shape, value),
            };
            fields.insert(field.name().to_owned(), value);
        }
        fields.into()
    }

    fn one(&mut self, field: &FieldDescriptor, shape: &Shape, value: &Val) -> Value {
        let kind = field.kind();
        let message = || kind.as_message().unwrap();
        match (shape, value) {
            (Shape::Bool, Val::Bool(value)) => json!(value),
            (Shape::U8, Val::U8(value)) => json!(value),
            (Shape::U16, Val::U16(value)) => json!(value),
            (Shape::U32, Val::U32(value)) => json!(value),
            (Shape::S8, Val::S8(value)) => json!(value),
            (Shape::S16, Val::S16(value)) => json!(value),
            (Shape::S32, Val::S32(value)) => json!(value),
            // Readers in JavaScript have no integers of 64 bits.
            (Shape::U64, Val::U64(value)) => json!(value.to_string()),
            (Shape::S64, Val::S64(value)) => json!(value.to_string()),
            (Shape::F32, Val::Float32(value)) => float((*value).into()),
            (Shape::F64, Val::Float64(value)) => float(*value),
            (Shape::Char, Val::Char(value)) => json!(u32::from(*value)),
            (Shape::String, Val::String(value)) => json!(value),
            (Shape::Bytes, Val::List(values)) => json!(base64(values)),
            (Shape::Enum(names), Val::Enum(name)) => {
                let number = position(names, name) as i32;
                json!(kind.as_enum().unwrap().get_value(number).unwrap().name())
            }
            (Shape::Flags(names), Val::Flags(set)) => {
                let bits: u64 = set.iter().map(|name| 1 << position(names, name)).sum();
                json!(bits.to_string())
            }
            (Shape::Record(fields), Val::Record(values)) => {
                let shapes = fields.iter().map(|field| &field.shape);
                self.message(message(), shapes.zip(values.iter().map(|(_, value)| value)))
            }
            (Shape::Tuple(items), Val::Tuple(values)) => self.message(message(), items.iter().zip(values)),
            (Shape::Variant(variant), Val::Variant(name, payload)) => {
                let at = position(&variant.names, name);
                self.case(message(), at + 1, variant.payloads[at].as_ref(), payload.as_deref())
            }
            (Shape::Result { ok, .. }, Val::Result(Ok(payload))) => {
                self.case(message(), 1, ok.as_deref(), payload.as_deref())
            }
            (Shape::Result { err, .. }, Val::Result(Err(payload))) => {
                self.case(message(), 2, err.as_deref(), payload.as_deref())
            }
            (Shape::Handle(handle), Val::Resource(resource)) => {
                let id = self.session.lower(handle.resource, resource, handle.owned).unwrap();
                json!({ "id": id.to_string() })
            }
            (Shape::List(_), Val::List(_)) | (Shape::Option(_), Val::Option(_)) => {
                self.message(message(), [(shape, value)].into_iter())
            }
            _ => panic!("{value:?} is not a {}", shape.kind()),
        }
    }

    fn case(
        &mut self,
        schema: &MessageDescriptor,
        number: usize,
        shape: Option<&Shape>,
        payload: Option<&Val>,
    ) -> Value {
        let field = schema.get_field(number as u32).unwrap();
        let value = match (shape, payload) {
            (Some(shape), Some(payload)) => self.one(&field, shape, payload),
            _ => json!({}),
        };
        json!({ field.name(): value })
    }
}

fn position(names: &Names, name: &str) -> usize {
    names.iter().position(|known| **known == *name).unwrap()
}

fn float(value: f64) -> Value {
    if value.is_nan() {
        json!("NaN")
    } else if value.is_infinite() {
        json!(if value > 0.0 { "Infinity" } else { "-Infinity" })
    } else {
        json!(value)
    }
}

/// Three bytes are four letters; what is missing of them is `=`.
fn base64(values: &[Val]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let byte = |value: Option<&Val>| match value {
        Some(Val::U8(byte)) => usize::from(*byte),
        _ => 0,
    };
    let letters = |three: &[Val]| {
        let bits = byte(three.first()) << 16 | byte(three.get(1)) << 8 | byte(three.get(2));
        (0..4).map(|at| (bits >> (18 - 6 * at)) & 63).map(|at| char::from(LETTERS[at])).collect::<Vec<_>>()
    };
    values
        .chunks(3)
        .flat_map(|three| {
            let there = letters(three).into_iter().take(three.len() + 1);
            there.chain(std::iter::repeat('=')).take(4)
        })
        .collect()
}
