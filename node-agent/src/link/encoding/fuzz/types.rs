//! Types as bytes, so that a fuzzer that knows bytes alone makes types. Any bytes are a type, and what is behind it is
//! the message.

use std::sync::Arc;

use model::link::{FLAGS_MAX, NAME_MAX_BYTES, TYPES_DEPTH_MAX, TYPES_MAX};

use super::super::Signature;
use super::super::shape::{Field, Handle, Kind, Names, Shape, Variant};

/// The types that are one byte, which is their position here.
const SCALARS: [Shape; 14] = [
    Shape::Bool,
    Shape::S8,
    Shape::U8,
    Shape::S16,
    Shape::U16,
    Shape::S32,
    Shape::U32,
    Shape::S64,
    Shape::U64,
    Shape::F32,
    Shape::F64,
    Shape::Char,
    Shape::String,
    Shape::Bytes,
];
/// Behind them, the types that more bytes follow.
const LIST: u8 = 14;
const RECORD: u8 = 15;
const TUPLE: u8 = 16;
const VARIANT: u8 = 17;
const ENUM: u8 = 18;
const OPTION: u8 = 19;
const RESULT: u8 = 20;
const FLAGS: u8 = 21;
const HANDLE: u8 = 22;
const KINDS: u8 = 23;

/// How many parameters a function, members a record or tuple, and cases a variant may have.
const PARAMETERS: u8 = 4;
const MEMBERS: u8 = 8;
/// How many resources there are.
const RESOURCES: u8 = 2;

/// A function, and the bytes behind it.
pub(super) fn read(input: &[u8]) -> (Signature, &[u8]) {
    let mut reader = TypeReader { rest: input, names: 0, left: TYPES_MAX };
    reader.names = usize::from(reader.byte()) % (NAME_MAX_BYTES + 1);
    let count = reader.byte() % PARAMETERS;
    let shapes = (0..count).map(|_| reader.shape(TYPES_DEPTH_MAX)).collect();
    let parameters = reader.fields(shapes);
    let has_result = reader.flag();
    let result = has_result.then(|| reader.shape(TYPES_DEPTH_MAX));
    (Signature::new(false, parameters, result), reader.rest)
}

struct TypeReader<'a> {
    rest: &'a [u8],
    /// How long names are, at least.
    names: usize,
    /// How many types there may still be.
    left: usize,
}

impl TypeReader<'_> {
    /// Behind the end are zeros.
    fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *byte
    }

    fn flag(&mut self) -> bool {
        self.byte() % 2 == 1
    }

    /// From 1 to `max`, which may be 256.
    fn count(&mut self, max: usize) -> usize {
        usize::from(self.byte()) % max + 1
    }

    /// Types beyond the bounds are a bool each.
    fn shape(&mut self, depth: usize) -> Shape {
        let (Some(depth), Some(left)) = (depth.checked_sub(1), self.left.checked_sub(1)) else {
            return Shape::Bool;
        };
        self.left = left;
        match self.byte() % KINDS {
            LIST => match self.shape(depth) {
                Shape::U8 => Shape::Bytes,
                element => Shape::List(Box::new(element)),
            },
            RECORD => {
                let members = self.members(depth);
                Shape::Record(self.fields(members))
            }
            TUPLE => Shape::Tuple(self.members(depth).into()),
            VARIANT => {
                let count = self.count(MEMBERS.into());
                let payloads: Vec<_> = (0..count).map(|_| self.payload(depth)).collect();
                Shape::Variant(Variant { names: self.names(count), payloads: payloads.into() })
            }
            ENUM => {
                let count = self.count(256).min(self.left + 1);
                self.left = self.left.saturating_sub(count);
                Shape::Enum(self.names(count))
            }
            OPTION => Shape::Option(Box::new(self.shape(depth))),
            RESULT => {
                let mut payload = || self.payload(depth).map(Box::new);
                Shape::Result { ok: payload(), err: payload() }
            }
            FLAGS => {
                let count = self.count(FLAGS_MAX);
                Shape::Flags(self.names(count))
            }
            HANDLE => {
                let resource = Kind::Provider(usize::from(self.byte() % RESOURCES));
                Shape::Handle(Handle { resource, name: "r".into(), owned: self.flag() })
            }
            scalar => SCALARS[usize::from(scalar)].clone(),
        }
    }

    fn payload(&mut self, depth: usize) -> Option<Shape> {
        self.flag().then(|| self.shape(depth))
    }

    fn members(&mut self, depth: usize) -> Vec<Shape> {
        let count = self.count(MEMBERS.into());
        (0..count).map(|_| self.shape(depth)).collect()
    }

    fn fields(&self, shapes: Vec<Shape>) -> Box<[Field]> {
        shapes.into_iter().enumerate().map(|(index, shape)| Field { name: self.name(index), shape }).collect()
    }

    fn names(&self, count: usize) -> Names {
        Names::new((0..count).map(|index| self.name(index)).collect())
    }

    fn name(&self, index: usize) -> Arc<str> {
        let digits = self.names.saturating_sub(1);
        format!("n{index:0>digits$}").into()
    }
}

/// The bytes of a function: [`read`] makes another of them whose messages are the same. Its names are not kept.
#[cfg(test)]
pub(in super::super) fn write(signature: &Signature) -> Vec<u8> {
    let mut out = vec![0, signature.parameters.len() as u8];
    signature.parameters.iter().for_each(|parameter| put(&parameter.shape, &mut out));
    put_payload(signature.result.as_ref(), &mut out);
    out
}

#[cfg(test)]
fn put(shape: &Shape, out: &mut Vec<u8>) {
    let count = |kind: u8, count: usize| [kind, (count - 1) as u8];
    match shape {
        Shape::List(element) => {
            out.push(LIST);
            put(element, out);
        }
        Shape::Record(fields) => {
            out.extend(count(RECORD, fields.len()));
            fields.iter().for_each(|field| put(&field.shape, out));
        }
        Shape::Tuple(items) => {
            out.extend(count(TUPLE, items.len()));
            items.iter().for_each(|item| put(item, out));
        }
        Shape::Variant(variant) => {
            out.extend(count(VARIANT, variant.payloads.len()));
            variant.payloads.iter().for_each(|payload| put_payload(payload.as_ref(), out));
        }
        Shape::Enum(names) => out.extend(count(ENUM, names.iter().count())),
        Shape::Option(inner) => {
            out.push(OPTION);
            put(inner, out);
        }
        Shape::Result { ok, err } => {
            out.push(RESULT);
            put_payload(ok.as_deref(), out);
            put_payload(err.as_deref(), out);
        }
        Shape::Flags(names) => out.extend(count(FLAGS, names.iter().count())),
        Shape::Handle(handle) => {
            let Kind::Provider(resource) = handle.resource else { panic!("not of a random type") };
            out.extend([HANDLE, resource as u8, handle.owned.into()]);
        }
        scalar => out.push(SCALARS.iter().position(|known| known == scalar).unwrap() as u8),
    }
}

#[cfg(test)]
fn put_payload(shape: Option<&Shape>, out: &mut Vec<u8>) {
    out.push(shape.is_some().into());
    if let Some(shape) = shape {
        put(shape, out);
    }
}
