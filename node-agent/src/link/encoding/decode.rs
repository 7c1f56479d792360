//! From bytes to values. The bytes are whatever a peer sent.
//!
//! Nothing is trusted and nothing is guessed: bytes are the one message that the type allows, or an error. What is
//! decoded costs no more memory than [`DECODED_MAX_BYTES`], counted before it is allocated; the stack is bounded by
//! the depth of the type, never by the bytes.

use std::borrow::Cow;

use wasmtime::component::Val;

use super::error::{Located as _, Step};
use super::shape::{Field, Handle, Names, Shape, Variant};
use super::wire::{self, Raw, Reader};
use super::{DecodeError, DecodeProblem, Handles};

/// The most memory that the values of one message take. An element of a list costs 40 bytes and may be one byte of the
/// message, so the length of a message says little. It is what wasmtime allows one call by default when it makes
/// values of a guest's memory, counted alike: what could leave one store can enter the other.
pub(super) const DECODED_MAX_BYTES: usize = 128 << 20;

/// A value in a list, a tuple or a box.
const VALUE_BYTES: usize = size_of::<Val>();

/// Reads the values of one message.
pub(super) struct Decoder<'a> {
    handles: &'a mut dyn Handles,
    budget: Budget,
}

/// How much memory may still be taken.
pub(super) struct Budget {
    left: usize,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self { left: DECODED_MAX_BYTES }
    }

    /// Takes memory for `count` things of `size` bytes, if there is so much.
    pub(super) fn spend(&mut self, count: usize, size: usize) -> Result<(), DecodeProblem> {
        let left = count.checked_mul(size).and_then(|bytes| self.left.checked_sub(bytes));
        self.left = left.ok_or(DecodeProblem::Memory)?;
        Ok(())
    }
}

impl<'a> Decoder<'a> {
    pub(super) fn new(handles: &'a mut dyn Handles) -> Self {
        Self { handles, budget: Budget::new() }
    }

    /// How much memory was asked for.
    #[cfg(any(test, fuzzing))]
    pub(super) fn spent(&self) -> usize {
        DECODED_MAX_BYTES - self.budget.left
    }

    pub(super) fn arguments(&mut self, parameters: &[Field], bytes: &[u8]) -> Result<Vec<Val>, DecodeError> {
        self.spend(parameters.len(), VALUE_BYTES)?;
        let bytes = in_order(
            bytes,
            parameters.len(),
            |index| parameters.get(index).is_some_and(|parameter| parameter.shape.is_repeated()),
            &mut self.budget,
        )?;
        let mut reader = Reader::new(&bytes);
        let mut values = Vec::with_capacity(parameters.len());
        for (number, parameter) in (1..).zip(parameters) {
            let value = self.field(number, &parameter.shape, &mut reader);
            values.push(value.at(|| Step::Argument(number as usize))?);
        }
        Ok(values)
    }

    pub(super) fn result(&mut self, shape: Option<&Shape>, bytes: &[u8]) -> Result<Option<Val>, DecodeError> {
        match shape {
            Some(shape) => self.alone(shape, bytes).map(Some).at(|| Step::Result),
            None => self.nothing(bytes).map(|()| None),
        }
    }

    /// A value that has a field of a message to itself: a list is repeated, and an option may be absent.
    fn field(&mut self, number: u32, shape: &Shape, reader: &mut Reader<'_>) -> Result<Val, DecodeError> {
        match shape {
            Shape::List(element) => self.list(number, element, reader),
            Shape::Option(inner) => match reader.take(number)? {
                Some(raw) => {
                    self.spend(1, VALUE_BYTES)?;
                    let value = self.one(inner, raw).at(|| Step::Some)?;
                    Ok(Val::Option(Some(Box::new(value))))
                }
                None => Ok(Val::Option(None)),
            },
            _ => {
                let raw = reader.take(number)?.ok_or(DecodeProblem::Missing)?;
                self.one(shape, raw)
            }
        }
    }

    /// All fields of this number. A packed list may be in pieces and its elements may be alone, as protobuf's readers
    /// have to allow.
    fn list(&mut self, number: u32, element: &Shape, reader: &mut Reader<'_>) -> Result<Val, DecodeError> {
        let wire = element.wire();
        let start = *reader;
        let mut count: usize = 0;
        while let Some(raw) = reader.take(number)? {
            count += match raw {
                Raw::Length(packed) if element.is_packed() => wire::packed_count(wire, packed),
                _ => 1,
            };
        }
        self.spend(count, VALUE_BYTES)?;
        let mut values = Vec::with_capacity(count);
        let mut entries = Reader::new(reader.since(start));
        while let Some(raw) = entries.take(number)? {
            match raw {
                Raw::Length(packed) if element.is_packed() => {
                    let mut packed = Reader::new(packed);
                    while !packed.is_empty() {
                        let value = packed.raw(wire).map_err(DecodeError::from);
                        let value = value.and_then(|raw| self.one(element, raw));
                        values.push(value.at(|| Step::Element(values.len() + 1))?);
                    }
                }
                raw => {
                    let value = self.one(element, raw);
                    values.push(value.at(|| Step::Element(values.len() + 1))?);
                }
            }
        }
        Ok(Val::List(values))
    }

    /// One value.
    fn one(&mut self, shape: &Shape, raw: Raw<'_>) -> Result<Val, DecodeError> {
        Ok(match (shape, raw) {
            (Shape::Bool, Raw::Varint(number)) => Val::Bool(match number {
                0 => false,
                1 => true,
                _ => return Err(DecodeProblem::Range.into()),
            }),
            (Shape::U8, Raw::Varint(number)) => Val::U8(fit(number)?),
            (Shape::U16, Raw::Varint(number)) => Val::U16(fit(number)?),
            (Shape::U32, Raw::Varint(number)) => Val::U32(fit(number)?),
            (Shape::U64, Raw::Varint(number)) => Val::U64(number),
            (Shape::S8, Raw::Varint(number)) => Val::S8(fit(wire::unzigzag(number))?),
            (Shape::S16, Raw::Varint(number)) => Val::S16(fit(wire::unzigzag(number))?),
            (Shape::S32, Raw::Varint(number)) => Val::S32(fit(wire::unzigzag(number))?),
            (Shape::S64, Raw::Varint(number)) => Val::S64(wire::unzigzag(number)),
            (Shape::F32, Raw::Fixed32(bytes)) => Val::Float32(f32::from_le_bytes(bytes)),
            (Shape::F64, Raw::Fixed64(bytes)) => Val::Float64(f64::from_le_bytes(bytes)),
            (Shape::Char, Raw::Varint(number)) => {
                let char = u32::try_from(number).ok().and_then(char::from_u32);
                Val::Char(char.ok_or(DecodeProblem::Char { number })?)
            }
            (Shape::String, Raw::Length(bytes)) => {
                self.spend(bytes.len(), 1)?;
                Val::String(str::from_utf8(bytes).map_err(|_| DecodeProblem::Utf8)?.to_owned())
            }
            (Shape::Bytes, Raw::Length(bytes)) => {
                self.spend(bytes.len(), VALUE_BYTES)?;
                Val::List(bytes.iter().map(|byte| Val::U8(*byte)).collect())
            }
            (Shape::Enum(names), Raw::Varint(position)) => {
                let name = usize::try_from(position).ok().and_then(|position| names.get(position));
                Val::Enum(self.name(name.ok_or(DecodeProblem::UnknownCase { position })?)?)
            }
            (Shape::Flags(names), Raw::Varint(bits)) => self.flags(names, bits)?,
            (Shape::Record(fields), Raw::Length(bytes)) => self.record(fields, bytes)?,
            (Shape::Tuple(items), Raw::Length(bytes)) => self.tuple(items, bytes)?,
            (Shape::Variant(variant), Raw::Length(bytes)) => self.variant(variant, bytes)?,
            (Shape::Result { ok, err }, Raw::Length(bytes)) => match case(bytes)? {
                (1, raw) => Val::Result(Ok(self.payload(ok.as_deref(), raw).at(|| Step::Ok)?)),
                (2, raw) => Val::Result(Err(self.payload(err.as_deref(), raw).at(|| Step::Err)?)),
                (number, _) => return Err(DecodeProblem::UnknownField { number }.into()),
            },
            (Shape::Handle(handle), Raw::Length(bytes)) => self.handle(handle, bytes)?,
            // Where one value is wanted, they are in a message of their own.
            (Shape::List(_) | Shape::Option(_), Raw::Length(bytes)) => self.alone(shape, bytes)?,
            _ => return Err(DecodeProblem::Wire { expected: shape.wire(), found: raw.wire() }.into()),
        })
    }

    /// A message with one field, 1.
    fn alone(&mut self, shape: &Shape, bytes: &[u8]) -> Result<Val, DecodeError> {
        let bytes = in_order(bytes, 1, |_| shape.is_repeated(), &mut self.budget)?;
        self.field(1, shape, &mut Reader::new(&bytes))
    }

    /// A message without fields.
    fn nothing(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        Ok(in_order(bytes, 0, |_| false, &mut self.budget).map(|_| ())?)
    }

    fn record(&mut self, fields: &[Field], bytes: &[u8]) -> Result<Val, DecodeError> {
        self.spend(fields.len(), size_of::<(String, Val)>())?;
        let bytes = in_order(
            bytes,
            fields.len(),
            |index| fields.get(index).is_some_and(|field| field.shape.is_repeated()),
            &mut self.budget,
        )?;
        let mut reader = Reader::new(&bytes);
        let mut values = Vec::with_capacity(fields.len());
        for (number, field) in (1..).zip(fields) {
            let value = self.field(number, &field.shape, &mut reader);
            let value = value.at(|| Step::Field(field.name.clone()))?;
            values.push((self.name(&field.name)?, value));
        }
        Ok(Val::Record(values))
    }

    fn tuple(&mut self, items: &[Shape], bytes: &[u8]) -> Result<Val, DecodeError> {
        self.spend(items.len(), VALUE_BYTES)?;
        let bytes = in_order(
            bytes,
            items.len(),
            |index| items.get(index).is_some_and(Shape::is_repeated),
            &mut self.budget,
        )?;
        let mut reader = Reader::new(&bytes);
        let mut values = Vec::with_capacity(items.len());
        for (number, item) in (1..).zip(items) {
            let value = self.field(number, item, &mut reader);
            values.push(value.at(|| Step::Item(number as usize))?);
        }
        Ok(Val::Tuple(values))
    }

    fn variant(&mut self, variant: &Variant, bytes: &[u8]) -> Result<Val, DecodeError> {
        let (number, raw) = case(bytes)?;
        let position = number as usize - 1;
        let (Some(name), Some(payload)) = (variant.names.get(position), variant.payloads.get(position)) else {
            return Err(DecodeProblem::UnknownCase { position: position as u64 }.into());
        };
        let value = self.payload(payload.as_ref(), raw).at(|| Step::Case(name.clone()))?;
        Ok(Val::Variant(self.name(name)?, value))
    }

    /// What a case carries; an empty message where it carries nothing.
    fn payload(&mut self, shape: Option<&Shape>, raw: Raw<'_>) -> Result<Option<Box<Val>>, DecodeError> {
        match (shape, raw) {
            (Some(shape), raw) => {
                self.spend(1, VALUE_BYTES)?;
                Ok(Some(Box::new(self.one(shape, raw)?)))
            }
            (None, Raw::Length(bytes)) => self.nothing(bytes).map(|()| None),
            (None, raw) => Err(DecodeProblem::Wire { expected: wire::Wire::Length, found: raw.wire() }.into()),
        }
    }

    fn flags(&mut self, names: &Names, bits: u64) -> Result<Val, DecodeError> {
        self.spend(bits.count_ones() as usize, size_of::<String>())?;
        let mut set = Vec::with_capacity(bits.count_ones() as usize);
        let mut rest = bits;
        while rest != 0 {
            let name = names.get(rest.trailing_zeros() as usize);
            set.push(self.name(name.ok_or(DecodeProblem::UnknownFlags { bits })?)?);
            rest &= rest - 1;
        }
        Ok(Val::Flags(set))
    }

    fn handle(&mut self, handle: &Handle, bytes: &[u8]) -> Result<Val, DecodeError> {
        let Val::U64(id) = self.alone(&Shape::U64, bytes)? else { return Err(DecodeProblem::Missing.into()) };
        let lifted = self.handles.lift(handle.resource, id, handle.owned);
        Ok(Val::Resource(lifted.map_err(DecodeProblem::Handle)?))
    }

    /// A copy of a name, as every value has its own.
    fn name(&mut self, name: &str) -> Result<String, DecodeError> {
        self.spend(name.len(), 1)?;
        Ok(name.to_owned())
    }

    fn spend(&mut self, count: usize, size: usize) -> Result<(), DecodeProblem> {
        self.budget.spend(count, size)
    }
}

/// A message whose fields are in the order of their numbers, all of them known, and one of each but of those that
/// repeat. Writers keep that order, as ours does, and then nothing is copied; readers may not count on it.
pub(super) fn in_order<'b>(
    bytes: &'b [u8],
    fields: usize,
    repeats: impl Fn(usize) -> bool,
    budget: &mut Budget,
) -> Result<Cow<'b, [u8]>, DecodeProblem> {
    let mut reader = Reader::new(bytes);
    let mut last = 0;
    let mut count: usize = 0;
    let mut is_ordered = true;
    while !reader.is_empty() {
        let (number, _) = reader.entry()?;
        if number as usize > fields {
            return Err(DecodeProblem::UnknownField { number });
        }
        if number == last && !repeats(number as usize - 1) {
            return Err(DecodeProblem::Duplicate { number });
        }
        is_ordered &= last <= number;
        last = number;
        count += 1;
    }
    if is_ordered {
        return Ok(Cow::Borrowed(bytes));
    }
    budget.spend(count, size_of::<(u32, &[u8])>())?;
    budget.spend(bytes.len(), 1)?;
    let mut entries = Vec::with_capacity(count);
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        let start = reader;
        let (number, _) = reader.entry()?;
        entries.push((number, reader.since(start)));
    }
    // Elements of a list keep their order, which is that of their places: to keep that of equals, a sort would take
    // memory of its own.
    entries.sort_unstable_by_key(|(number, entry)| (*number, entry.as_ptr()));
    for pair in entries.windows(2) {
        if let [(number, _), (next, _)] = pair
            && number == next
            && !repeats(*number as usize - 1)
        {
            return Err(DecodeProblem::Duplicate { number: *number });
        }
    }
    let mut ordered = Vec::with_capacity(bytes.len());
    for (_, entry) in entries {
        ordered.extend_from_slice(entry);
    }
    Ok(Cow::Owned(ordered))
}

/// The one field of a variant or a result.
pub(super) fn case(bytes: &[u8]) -> Result<(u32, Raw<'_>), DecodeProblem> {
    let mut reader = Reader::new(bytes);
    if reader.is_empty() {
        return Err(DecodeProblem::NoCase);
    }
    let found = reader.entry()?;
    if reader.is_empty() { Ok(found) } else { Err(DecodeProblem::ManyCases) }
}

/// A number in a type that may be too small for it.
pub(super) fn fit<W, N: TryFrom<W>>(number: W) -> Result<N, DecodeProblem> {
    N::try_from(number).map_err(|_| DecodeProblem::Range)
}
