//! From a message to a guest's memory. The message is whatever a peer sent, and is held against its type as
//! [`super::super::decode`] does; what its values take is the guest's memory, and bounded by the guest's limit.

use std::slice;

use wasmtime::component::__internal::wasmtime_environ::component::VariantInfo;
use wasmtime::component::__internal::{CanonicalAbiInfo, ComponentTypes, InterfaceType, LowerContext};
use wasmtime::{ValRaw, format_err};

use super::super::decode::{Budget, case, fit, in_order};
use super::super::error::{At, Located as _, Step};
use super::super::wire::{self, Raw, Reader, Wire};
use super::super::{DecodeError, DecodeProblem};
use super::place::Place;
use super::{lower_string, unknown, wire_of};

type Target<'d> = Place<slice::IterMut<'d, ValRaw>>;

/// Why a message does not become values, and where in it that is.
pub(super) type StoreError = At<StoreProblem>;

pub(super) enum StoreProblem {
    /// It is not one of the type.
    Message(DecodeProblem),
    /// The guest has no memory for it, or breaks the rules.
    Guest(wasmtime::Error),
}

impl From<DecodeProblem> for StoreError {
    fn from(problem: DecodeProblem) -> Self {
        StoreProblem::Message(problem).into()
    }
}

impl From<wasmtime::Error> for StoreError {
    fn from(error: wasmtime::Error) -> Self {
        StoreProblem::Guest(error).into()
    }
}

impl StoreError {
    /// What the guest is told; `wrong` says it of a message.
    pub(super) fn into_guest(self, wrong: impl FnOnce(DecodeError) -> wasmtime::Error) -> wasmtime::Error {
        match self.and_then(|problem| match problem {
            StoreProblem::Message(problem) => Ok(problem),
            StoreProblem::Guest(error) => Err(error),
        }) {
            Ok(error) => wrong(error),
            Err(error) => error,
        }
    }
}

/// Stores the values of a tuple: the arguments of a call, or its result.
pub(super) fn message<T>(
    cx: &mut LowerContext<'_, T>,
    ty: InterfaceType,
    bytes: &[u8],
    is_result: bool,
    mut to: Target<'_>,
) -> Result<(), StoreError> {
    let InterfaceType::Tuple(tuple) = ty else { return Err(unknown().into()) };
    let mut storer = Storer { types: cx.types, cx, budget: Budget::new() };
    let tuple = &storer.types[tuple];
    match &*tuple.types {
        [ty] if is_result => storer.alone(*ty, bytes, &mut to).at(|| Step::Result),
        members => storer.fields(&tuple.abi, members, |index| Step::Argument(index + 1), bytes, &mut to),
    }
}

/// Stores values as it reads them.
struct Storer<'a, 'c, T: 'static> {
    cx: &'a mut LowerContext<'c, T>,
    types: &'c ComponentTypes,
    /// For what of the message has to be put in order.
    budget: Budget,
}

impl<T> Storer<'_, '_, T> {
    /// Members, each a field of one message.
    fn fields(
        &mut self,
        abi: &CanonicalAbiInfo,
        members: &[InterfaceType],
        step: impl Fn(usize) -> Step,
        bytes: &[u8],
        to: &mut Target<'_>,
    ) -> Result<(), StoreError> {
        let begun = to.begin(abi);
        let types = self.types;
        let repeats = |index: usize| members.get(index).is_some_and(|ty| repeats(types, *ty));
        let bytes = in_order(bytes, members.len(), repeats, &mut self.budget)?;
        let mut reader = Reader::new(&bytes);
        for (number, ty) in (1..).zip(members) {
            self.field(number, *ty, &mut reader, to).at(|| step(number as usize - 1))?;
        }
        to.end(&begun, abi);
        Ok(())
    }

    /// A value that has a field of a message to itself: a list is repeated, and an option may be absent.
    fn field(
        &mut self,
        number: u32,
        ty: InterfaceType,
        reader: &mut Reader<'_>,
        to: &mut Target<'_>,
    ) -> Result<(), StoreError> {
        match ty {
            InterfaceType::List(list) if repeats(self.types, ty) => {
                self.list(number, self.types[list].element, reader, to)
            }
            InterfaceType::Option(option) => {
                let option = &self.types[option];
                let begun = to.begin(&option.abi);
                let raw = reader.take(number)?;
                self.discriminant(&option.info, raw.is_some().into(), to)?;
                if let Some(raw) = raw {
                    to.payload(&begun, &option.info);
                    self.one(option.ty, raw, to).at(|| Step::Some)?;
                }
                to.end(&begun, &option.abi);
                Ok(())
            }
            _ => {
                let raw = reader.take(number)?.ok_or(DecodeProblem::Missing)?;
                self.one(ty, raw, to)
            }
        }
    }

    /// All fields of this number. A packed list may be in pieces and its elements may be alone, as protobuf's readers
    /// have to allow.
    fn list(
        &mut self,
        number: u32,
        element: InterfaceType,
        reader: &mut Reader<'_>,
        to: &mut Target<'_>,
    ) -> Result<(), StoreError> {
        let wire = wire_of(element);
        let is_packed = wire != Wire::Length;
        let start = *reader;
        let mut count: usize = 0;
        while let Some(raw) = reader.take(number)? {
            count += match raw {
                Raw::Length(packed) if is_packed => wire::packed_count(wire, packed),
                _ => 1,
            };
        }
        let abi = self.types.canonical_abi(&element);
        let at = self.allocate(count, abi)?;
        self.pointer(at, count, to)?;
        let mut to = Place::Memory(at);
        let mut stored = 0;
        let mut entries = Reader::new(reader.since(start));
        while let Some(raw) = entries.take(number)? {
            match raw {
                Raw::Length(packed) if is_packed && matches!(wire, Wire::Fixed32 | Wire::Fixed64) => {
                    // As they are in memory. What is left is no number.
                    let width = abi.size32 as usize;
                    if !packed.len().is_multiple_of(width) {
                        let cut = stored + packed.len() / width + 1;
                        return Err(StoreError::from(DecodeProblem::Truncated)).at(|| Step::Element(cut));
                    }
                    let Place::Memory(at) = &mut to else { return Err(unknown().into()) };
                    self.part(*at, packed.len())?.copy_from_slice(packed);
                    *at += packed.len();
                    stored += packed.len() / width;
                }
                Raw::Length(packed) if is_packed => {
                    let mut packed = Reader::new(packed);
                    while !packed.is_empty() {
                        let raw = packed.raw(wire).map_err(StoreError::from);
                        let value = raw.and_then(|raw| self.one(element, raw, &mut to));
                        stored += 1;
                        value.at(|| Step::Element(stored))?;
                    }
                }
                raw => {
                    stored += 1;
                    self.one(element, raw, &mut to).at(|| Step::Element(stored))?;
                }
            }
        }
        Ok(())
    }

    /// One value.
    fn one(&mut self, ty: InterfaceType, raw: Raw<'_>, to: &mut Target<'_>) -> Result<(), StoreError> {
        match (ty, raw) {
            (InterfaceType::Bool, Raw::Varint(number @ (0 | 1))) => self.put(number, 1, to),
            (InterfaceType::Bool, Raw::Varint(_)) => Err(DecodeProblem::Range.into()),
            (InterfaceType::U8, Raw::Varint(number)) => self.put(fit::<_, u8>(number)?.into(), 1, to),
            (InterfaceType::U16, Raw::Varint(number)) => self.put(fit::<_, u16>(number)?.into(), 2, to),
            (InterfaceType::U32, Raw::Varint(number)) => self.put(fit::<_, u32>(number)?.into(), 4, to),
            (InterfaceType::U64, Raw::Varint(number)) => self.put(number, 8, to),
            // In a cell, their sign is that of 32 bits.
            (InterfaceType::S8, Raw::Varint(number)) => {
                self.put(i32::from(fit::<_, i8>(wire::unzigzag(number))?) as u64, 1, to)
            }
            (InterfaceType::S16, Raw::Varint(number)) => {
                self.put(i32::from(fit::<_, i16>(wire::unzigzag(number))?) as u64, 2, to)
            }
            (InterfaceType::S32, Raw::Varint(number)) => {
                self.put(fit::<_, i32>(wire::unzigzag(number))? as u64, 4, to)
            }
            (InterfaceType::S64, Raw::Varint(number)) => self.put(wire::unzigzag(number) as u64, 8, to),
            (InterfaceType::Float32, Raw::Fixed32(bytes)) => self.put(u32::from_le_bytes(bytes).into(), 4, to),
            (InterfaceType::Float64, Raw::Fixed64(bytes)) => self.put(u64::from_le_bytes(bytes), 8, to),
            (InterfaceType::Char, Raw::Varint(number)) => {
                let char = u32::try_from(number).ok().and_then(char::from_u32);
                self.put(u32::from(char.ok_or(DecodeProblem::Char { number })?).into(), 4, to)
            }
            (InterfaceType::String, Raw::Length(bytes)) => {
                let text = str::from_utf8(bytes).map_err(|_| DecodeProblem::Utf8)?;
                let [at, count] = lower_string(self.cx, text)?;
                self.put(at.into(), 4, to)?;
                self.put(count.into(), 4, to)
            }
            (InterfaceType::List(_), Raw::Length(bytes)) if !repeats(self.types, ty) => {
                let at = self.allocate(bytes.len(), &CanonicalAbiInfo::SCALAR1)?;
                self.part(at, bytes.len())?.copy_from_slice(bytes);
                self.pointer(at, bytes.len(), to)
            }
            (InterfaceType::Enum(ty), Raw::Varint(position)) => {
                let ty = &self.types[ty];
                let known = u32::try_from(position).ok().filter(|case| (*case as usize) < ty.names.len());
                self.discriminant(&ty.info, known.ok_or(DecodeProblem::UnknownCase { position })?, to)
            }
            (InterfaceType::Flags(ty), Raw::Varint(bits)) => {
                let ty = &self.types[ty];
                if bits.checked_shr(ty.names.len() as u32).is_some_and(|unknown| unknown != 0) {
                    return Err(DecodeProblem::UnknownFlags { bits }.into());
                }
                // No component has more than 32 of them.
                self.put(bits, ty.abi.size32 as usize, to)
            }
            (InterfaceType::Record(record), Raw::Length(bytes)) => {
                let record = &self.types[record];
                let members: Vec<InterfaceType> = record.fields.iter().map(|field| field.ty).collect();
                let name = |index: usize| record.fields.get(index).map(|field| field.name.as_str());
                let step = |index| Step::Field(name(index).unwrap_or_default().into());
                self.fields(&record.abi, &members, step, bytes, to)
            }
            (InterfaceType::Tuple(tuple), Raw::Length(bytes)) => {
                let tuple = &self.types[tuple];
                self.fields(&tuple.abi, &tuple.types, |index| Step::Item(index + 1), bytes, to)
            }
            (InterfaceType::Variant(variant), Raw::Length(bytes)) => {
                let variant = &self.types[variant];
                let (number, raw) = case(bytes)?;
                let position = number as usize - 1;
                let (name, payload) = variant
                    .cases
                    .get_index(position)
                    .ok_or(DecodeProblem::UnknownCase { position: position as u64 })?;
                let shape = (&variant.abi, &variant.info);
                self.case(shape, position, *payload, raw, to).at(|| Step::Case(name.as_str().into()))
            }
            (InterfaceType::Result(result), Raw::Length(bytes)) => {
                let result = &self.types[result];
                let shape = (&result.abi, &result.info);
                match case(bytes)? {
                    (1, raw) => self.case(shape, 0, result.ok, raw, to).at(|| Step::Ok),
                    (2, raw) => self.case(shape, 1, result.err, raw, to).at(|| Step::Err),
                    (number, _) => Err(DecodeProblem::UnknownField { number }.into()),
                }
            }
            // Where one value is wanted, they are in a message of their own.
            (InterfaceType::List(_) | InterfaceType::Option(_), Raw::Length(bytes)) => {
                self.alone(ty, bytes, to)
            }
            _ => Err(DecodeProblem::Wire { expected: wire_of(ty), found: raw.wire() }.into()),
        }
    }

    /// A message with one field, 1.
    fn alone(&mut self, ty: InterfaceType, bytes: &[u8], to: &mut Target<'_>) -> Result<(), StoreError> {
        let repeats = repeats(self.types, ty);
        let bytes = in_order(bytes, 1, |_| repeats, &mut self.budget)?;
        self.field(1, ty, &mut Reader::new(&bytes), to)
    }

    /// A case of a variant and what it carries; an empty message where it carries nothing.
    fn case(
        &mut self,
        (abi, info): (&CanonicalAbiInfo, &VariantInfo),
        position: usize,
        payload: Option<InterfaceType>,
        raw: Raw<'_>,
        to: &mut Target<'_>,
    ) -> Result<(), StoreError> {
        let begun = to.begin(abi);
        self.discriminant(info, position as u32, to)?;
        to.payload(&begun, info);
        match (payload, raw) {
            (Some(ty), raw) => self.one(ty, raw, to)?,
            (None, Raw::Length(bytes)) => {
                in_order(bytes, 0, |_| false, &mut self.budget)?;
            }
            (None, raw) => {
                return Err(DecodeProblem::Wire { expected: Wire::Length, found: raw.wire() }.into());
            }
        }
        to.end(&begun, abi);
        Ok(())
    }

    fn discriminant(&mut self, info: &VariantInfo, case: u32, to: &mut Target<'_>) -> Result<(), StoreError> {
        let width = usize::from(info.size);
        self.put(case.into(), width, to)
    }

    /// Memory of the guest for `count` values.
    fn allocate(&mut self, count: usize, abi: &CanonicalAbiInfo) -> Result<usize, StoreError> {
        let bytes = count.checked_mul(abi.size32 as usize).ok_or(DecodeProblem::Memory)?;
        Ok(self.cx.realloc(0, 0, abi.align32, bytes)?)
    }

    fn pointer(&mut self, at: usize, count: usize, to: &mut Target<'_>) -> Result<(), StoreError> {
        self.put(at as u64, 4, to)?;
        self.put(count as u64, 4, to)
    }

    /// A scalar, of which `width` bytes count in memory.
    fn put(&mut self, value: u64, width: usize, to: &mut Target<'_>) -> Result<(), StoreError> {
        match to {
            Place::Cells(cells) => {
                let cell = cells.next().ok_or_else(unknown)?;
                *cell = if width == 8 { ValRaw::u64(value) } else { ValRaw::u32(value as u32) };
            }
            Place::Memory(at) => {
                let start = at.next_multiple_of(width);
                self.part(start, width)?.iter_mut().zip(value.to_le_bytes()).for_each(|(to, from)| *to = from);
                *at = start + width;
            }
        }
        Ok(())
    }

    /// A part of the guest's memory.
    fn part(&mut self, at: usize, bytes: usize) -> Result<&mut [u8], StoreError> {
        let part = self.cx.as_slice_mut().get_mut(at..).and_then(|rest| rest.get_mut(..bytes));
        part.ok_or_else(|| format_err!("the guest gave memory that it does not have").into())
    }
}

/// Whether the field of a type may be there more than once.
fn repeats(types: &ComponentTypes, ty: InterfaceType) -> bool {
    matches!(ty, InterfaceType::List(list) if types[list].element != InterfaceType::U8)
}
