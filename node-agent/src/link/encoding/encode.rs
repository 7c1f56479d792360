//! From values to bytes.

use wasmtime::component::{ResourceAny, Val};

use super::error::{Located as _, Step};
use super::shape::{Field, Handle, Names, Shape, Variant};
use super::wire::{self, Wire};
use super::{EncodeError, EncodeProblem, Handles};

/// Writes values behind what `out` holds.
pub(super) struct Encoder<'a> {
    handles: &'a mut dyn Handles,
    out: &'a mut Vec<u8>,
}

impl<'a> Encoder<'a> {
    pub(super) fn new(handles: &'a mut dyn Handles, out: &'a mut Vec<u8>) -> Self {
        Self { handles, out }
    }

    /// The message of a call's arguments: field n is parameter n.
    pub(super) fn arguments(&mut self, parameters: &[Field], values: &[Val]) -> Result<(), EncodeError> {
        same_count(parameters.len(), values.len())?;
        for ((number, parameter), value) in (1..).zip(parameters).zip(values) {
            self.field(number, &parameter.shape, value).at(|| Step::Argument(number as usize))?;
        }
        Ok(())
    }

    /// The message of a call's result: field 1, or nothing.
    pub(super) fn result(&mut self, shape: Option<&Shape>, value: Option<&Val>) -> Result<(), EncodeError> {
        match (shape, value) {
            (Some(shape), Some(value)) => self.field(1, shape, value).at(|| Step::Result),
            (None, None) => Ok(()),
            _ => Err(EncodeProblem::Count {
                expected: usize::from(shape.is_some()),
                found: usize::from(value.is_some()),
            }
            .into()),
        }
    }

    /// A value that has a field of a message to itself: a list is repeated, and an option may be absent.
    fn field(&mut self, number: u32, shape: &Shape, value: &Val) -> Result<(), EncodeError> {
        match (shape, value) {
            (Shape::List(element), Val::List(values)) => self.list(number, element, values),
            (Shape::Option(_), Val::Option(None)) => Ok(()),
            (Shape::Option(inner), Val::Option(Some(value))) => {
                self.tagged(number, inner, value).at(|| Step::Some)
            }
            _ => self.tagged(number, shape, value),
        }
    }

    fn list(&mut self, number: u32, element: &Shape, values: &[Val]) -> Result<(), EncodeError> {
        if !element.is_packed() {
            for (index, value) in values.iter().enumerate() {
                self.tagged(number, element, value).at(|| Step::Element(index + 1))?;
            }
            return Ok(());
        }
        if values.is_empty() {
            return Ok(());
        }
        wire::put_tag(self.out, number, Wire::Length);
        let begun = wire::begin(self.out);
        self.out.reserve(values.len());
        for (index, value) in values.iter().enumerate() {
            self.one(element, value).at(|| Step::Element(index + 1))?;
        }
        wire::end(self.out, &begun);
        Ok(())
    }

    /// One value with its tag.
    fn tagged(&mut self, number: u32, shape: &Shape, value: &Val) -> Result<(), EncodeError> {
        wire::put_tag(self.out, number, shape.wire());
        self.one(shape, value)
    }

    /// One value without its tag. A list and an option are in a message of their own: where one value is wanted, they
    /// could be several, or none.
    fn one(&mut self, shape: &Shape, value: &Val) -> Result<(), EncodeError> {
        let out = &mut *self.out;
        match (shape, value) {
            (Shape::Bool, Val::Bool(value)) => wire::put_varint(out, u64::from(*value)),
            (Shape::U8, Val::U8(value)) => wire::put_varint(out, u64::from(*value)),
            (Shape::U16, Val::U16(value)) => wire::put_varint(out, u64::from(*value)),
            (Shape::U32, Val::U32(value)) => wire::put_varint(out, u64::from(*value)),
            (Shape::U64, Val::U64(value)) => wire::put_varint(out, *value),
            (Shape::S8, Val::S8(value)) => wire::put_varint(out, wire::zigzag(i64::from(*value))),
            (Shape::S16, Val::S16(value)) => wire::put_varint(out, wire::zigzag(i64::from(*value))),
            (Shape::S32, Val::S32(value)) => wire::put_varint(out, wire::zigzag(i64::from(*value))),
            (Shape::S64, Val::S64(value)) => wire::put_varint(out, wire::zigzag(*value)),
            (Shape::F32, Val::Float32(value)) => out.extend_from_slice(&value.to_le_bytes()),
            (Shape::F64, Val::Float64(value)) => out.extend_from_slice(&value.to_le_bytes()),
            (Shape::Char, Val::Char(value)) => wire::put_varint(out, u64::from(u32::from(*value))),
            (Shape::String, Val::String(value)) => {
                wire::put_varint(out, value.len() as u64);
                out.extend_from_slice(value.as_bytes());
            }
            (Shape::Bytes, Val::List(values)) => bytes(out, values)?,
            (Shape::Enum(names), Val::Enum(name)) => wire::put_varint(out, position(names, name)? as u64),
            (Shape::Flags(names), Val::Flags(set)) => wire::put_varint(out, bits(names, set)?),
            (Shape::Record(fields), Val::Record(values)) => return self.record(fields, values),
            (Shape::Tuple(items), Val::Tuple(values)) => return self.tuple(items, values),
            (Shape::Variant(variant), Val::Variant(name, payload)) => {
                return self.variant(variant, name, payload.as_deref());
            }
            (Shape::Result { ok, .. }, Val::Result(Ok(value))) => {
                return self.case(1, ok.as_deref(), value.as_deref()).at(|| Step::Ok);
            }
            (Shape::Result { err, .. }, Val::Result(Err(value))) => {
                return self.case(2, err.as_deref(), value.as_deref()).at(|| Step::Err);
            }
            (Shape::Handle(handle), Val::Resource(resource)) => return self.handle(handle, resource),
            (Shape::List(_), Val::List(_)) | (Shape::Option(_), Val::Option(_)) => {
                return self.message(|encoder| encoder.field(1, shape, value));
            }
            _ => return Err(EncodeProblem::Type { expected: shape.kind() }.into()),
        }
        Ok(())
    }

    /// What `body` writes, with its length before it.
    fn message(&mut self, body: impl FnOnce(&mut Self) -> Result<(), EncodeError>) -> Result<(), EncodeError> {
        let begun = wire::begin(self.out);
        body(self)?;
        wire::end(self.out, &begun);
        Ok(())
    }

    fn record(&mut self, fields: &[Field], values: &[(String, Val)]) -> Result<(), EncodeError> {
        same_count(fields.len(), values.len())?;
        self.message(|encoder| {
            for ((number, field), (name, value)) in (1..).zip(fields).zip(values) {
                if *field.name != **name {
                    return Err(EncodeProblem::Name { name: name.clone() }.into());
                }
                encoder.field(number, &field.shape, value).at(|| Step::Field(field.name.clone()))?;
            }
            Ok(())
        })
    }

    fn tuple(&mut self, items: &[Shape], values: &[Val]) -> Result<(), EncodeError> {
        same_count(items.len(), values.len())?;
        self.message(|encoder| {
            for ((number, item), value) in (1..).zip(items).zip(values) {
                encoder.field(number, item, value).at(|| Step::Item(number as usize))?;
            }
            Ok(())
        })
    }

    fn variant(&mut self, variant: &Variant, name: &str, value: Option<&Val>) -> Result<(), EncodeError> {
        let position = position(&variant.names, name)?;
        let payload = variant.payloads.get(position).and_then(Option::as_ref);
        self.case(position as u32 + 1, payload, value)
            .at(|| Step::Case(variant.names.get(position).cloned().unwrap_or_default()))
    }

    /// A message of one field, which says by its number which case it is.
    fn case(&mut self, number: u32, shape: Option<&Shape>, value: Option<&Val>) -> Result<(), EncodeError> {
        self.message(|encoder| match (shape, value) {
            (Some(shape), Some(value)) => encoder.tagged(number, shape, value),
            (None, None) => {
                wire::put_tag(encoder.out, number, Wire::Length);
                wire::put_varint(encoder.out, 0);
                Ok(())
            }
            _ => Err(EncodeProblem::Count {
                expected: usize::from(shape.is_some()),
                found: usize::from(value.is_some()),
            }
            .into()),
        })
    }

    fn handle(&mut self, handle: &Handle, resource: &ResourceAny) -> Result<(), EncodeError> {
        let id = self.handles.lower(handle.resource, resource, handle.owned).map_err(EncodeProblem::Handle)?;
        self.message(|encoder| {
            wire::put_tag(encoder.out, 1, Wire::Varint);
            wire::put_varint(encoder.out, id);
            Ok(())
        })
    }
}

fn same_count(expected: usize, found: usize) -> Result<(), EncodeProblem> {
    if expected == found { Ok(()) } else { Err(EncodeProblem::Count { expected, found }) }
}

fn position(names: &Names, name: &str) -> Result<usize, EncodeProblem> {
    names.position(name).ok_or_else(|| EncodeProblem::Name { name: name.to_owned() })
}

/// The flags that are set, the first being the lowest bit.
fn bits(names: &Names, set: &[String]) -> Result<u64, EncodeProblem> {
    let mut bits = 0;
    for name in set {
        // No type has more names than `FLAGS_MAX`, which is the width of the mask.
        bits |= 1 << position(names, name)?;
    }
    Ok(bits)
}

/// `list<u8>`: its length is known, so it is written in one go.
fn bytes(out: &mut Vec<u8>, values: &[Val]) -> Result<(), EncodeError> {
    wire::put_varint(out, values.len() as u64);
    let mut is_bytes = true;
    out.extend(values.iter().map(|value| match value {
        Val::U8(byte) => *byte,
        _ => {
            is_bytes = false;
            0
        }
    }));
    if is_bytes { Ok(()) } else { Err(EncodeProblem::Type { expected: Shape::Bytes.kind() }.into()) }
}
