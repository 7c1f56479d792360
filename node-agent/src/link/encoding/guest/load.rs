//! From a guest's memory to a message. What the guest says of places and lengths is not trusted.

use std::slice;

use model::link::MESSAGE_MAX_BYTES;
use wasmtime::component::__internal::wasmtime_environ::component::{StringEncoding, VariantInfo};
use wasmtime::component::__internal::{CanonicalAbiInfo, ComponentTypes, InterfaceType, LiftContext};
use wasmtime::component::Lift as _;
use wasmtime::{ValRaw, bail, format_err};

use super::super::wire::{self, Wire};
use super::place::Place;
use super::{unknown, wire_of};

type Source<'c> = Place<slice::Iter<'c, ValRaw>>;

/// Why values do not become a message.
pub(super) enum LoadError {
    /// See [`super::TooLong`].
    TooLong,
    /// The guest broke the rules, and traps.
    Guest(wasmtime::Error),
}

impl From<wasmtime::Error> for LoadError {
    fn from(error: wasmtime::Error) -> Self {
        Self::Guest(error)
    }
}

/// The message of the values of a tuple: those of a call's arguments, or its result.
pub(super) fn message(
    cx: &mut LiftContext<'_>,
    ty: InterfaceType,
    mut from: Source<'_>,
) -> Result<Vec<u8>, LoadError> {
    let mut loader = Loader { types: cx.types, memory: cx.memory(), cx, out: Vec::new() };
    let InterfaceType::Tuple(tuple) = ty else { return Err(unknown().into()) };
    let tuple = &loader.types[tuple];
    loader.fields(&tuple.abi, tuple.types.iter().copied(), &mut from)?;
    Ok(loader.out)
}

/// Writes values behind what `out` holds.
struct Loader<'a, 'c> {
    cx: &'a mut LiftContext<'c>,
    types: &'c ComponentTypes,
    memory: &'c [u8],
    out: Vec<u8>,
}

impl<'c> Loader<'_, 'c> {
    /// Members, each a field of one message.
    fn fields(
        &mut self,
        abi: &CanonicalAbiInfo,
        members: impl Iterator<Item = InterfaceType>,
        from: &mut Source<'_>,
    ) -> Result<(), LoadError> {
        let begun = from.begin(abi);
        for (number, ty) in (1..).zip(members) {
            self.field(number, ty, from)?;
        }
        from.end(&begun, abi);
        Ok(())
    }

    /// A value that has a field of a message to itself: a list is repeated, and an option may be absent.
    fn field(&mut self, number: u32, ty: InterfaceType, from: &mut Source<'_>) -> Result<(), LoadError> {
        match ty {
            InterfaceType::List(list) if self.types[list].element != InterfaceType::U8 => {
                self.list(number, self.types[list].element, from)
            }
            InterfaceType::Option(option) => {
                let option = &self.types[option];
                let begun = from.begin(&option.abi);
                if self.discriminant(from, &option.info, 2)? == 1 {
                    from.payload(&begun, &option.info);
                    self.tagged(number, option.ty, from)?;
                }
                from.end(&begun, &option.abi);
                Ok(())
            }
            _ => self.tagged(number, ty, from),
        }
    }

    fn list(&mut self, number: u32, element: InterfaceType, from: &mut Source<'_>) -> Result<(), LoadError> {
        let (at, count) = (self.word(from)?, self.word(from)?);
        let abi = self.types.canonical_abi(&element);
        let bytes = self.part(at, count, abi.size32 as usize, abi.align32 as usize)?;
        if count == 0 {
            return Ok(());
        }
        let wire = wire_of(element);
        if wire == Wire::Length {
            let mut from = Place::Memory(at);
            for _ in 0..count {
                self.tagged(number, element, &mut from)?;
            }
            return Ok(());
        }
        // An element takes a byte or more of a message.
        self.room(count)?;
        wire::put_tag(&mut self.out, number, Wire::Length);
        if matches!(wire, Wire::Fixed32 | Wire::Fixed64) {
            return self.bytes(bytes);
        }
        let begun = wire::begin(&mut self.out);
        self.out.reserve(count);
        let mut from = Place::Memory(at);
        for _ in 0..count {
            self.one(element, &mut from)?;
        }
        wire::end(&mut self.out, &begun);
        self.room(0)
    }

    /// One value with its tag.
    fn tagged(&mut self, number: u32, ty: InterfaceType, from: &mut Source<'_>) -> Result<(), LoadError> {
        self.room(0)?;
        wire::put_tag(&mut self.out, number, wire_of(ty));
        self.one(ty, from)
    }

    /// One value without its tag. A list and an option are in a message of their own.
    fn one(&mut self, ty: InterfaceType, from: &mut Source<'_>) -> Result<(), LoadError> {
        let varint = match ty {
            InterfaceType::Bool => u64::from(self.bits(from, 1)? != 0),
            InterfaceType::U8 => u64::from(self.bits(from, 1)? as u8),
            InterfaceType::U16 => u64::from(self.bits(from, 2)? as u16),
            InterfaceType::U32 => u64::from(self.bits(from, 4)? as u32),
            InterfaceType::U64 => self.bits(from, 8)?,
            InterfaceType::S8 => wire::zigzag(i64::from(self.bits(from, 1)? as i8)),
            InterfaceType::S16 => wire::zigzag(i64::from(self.bits(from, 2)? as i16)),
            InterfaceType::S32 => wire::zigzag(i64::from(self.bits(from, 4)? as i32)),
            InterfaceType::S64 => wire::zigzag(self.bits(from, 8)? as i64),
            InterfaceType::Char => {
                let number = self.bits(from, 4)? as u32;
                let char =
                    char::from_u32(number).ok_or_else(|| format_err!("{number:#x} is not a character"))?;
                u64::from(u32::from(char))
            }
            InterfaceType::Enum(ty) => {
                let ty = &self.types[ty];
                u64::from(self.discriminant(from, &ty.info, ty.names.len())?)
            }
            InterfaceType::Flags(ty) => {
                let ty = &self.types[ty];
                // No component has more than 32 of them.
                let bits = self.bits(from, ty.abi.size32 as usize)?;
                // Those that the type does not have mean nothing.
                bits & u64::MAX.checked_shr(u64::BITS - ty.names.len() as u32).unwrap_or_default()
            }
            InterfaceType::Float32 => {
                let bits = self.bits(from, 4)? as u32;
                self.out.extend_from_slice(&bits.to_le_bytes());
                return Ok(());
            }
            InterfaceType::Float64 => {
                let bits = self.bits(from, 8)?;
                self.out.extend_from_slice(&bits.to_le_bytes());
                return Ok(());
            }
            InterfaceType::String => return self.string(from),
            InterfaceType::List(list) if self.types[list].element == InterfaceType::U8 => {
                let (at, count) = (self.word(from)?, self.word(from)?);
                let bytes = self.part(at, count, 1, 1)?;
                return self.bytes(bytes);
            }
            _ => {
                let begun = wire::begin(&mut self.out);
                self.message(ty, from)?;
                wire::end(&mut self.out, &begun);
                return Ok(());
            }
        };
        wire::put_varint(&mut self.out, varint);
        Ok(())
    }

    /// What is in the message of one value.
    fn message(&mut self, ty: InterfaceType, from: &mut Source<'_>) -> Result<(), LoadError> {
        match ty {
            InterfaceType::Record(record) => {
                let record = &self.types[record];
                self.fields(&record.abi, record.fields.iter().map(|field| field.ty), from)
            }
            InterfaceType::Tuple(tuple) => {
                let tuple = &self.types[tuple];
                self.fields(&tuple.abi, tuple.types.iter().copied(), from)
            }
            InterfaceType::Variant(variant) => {
                let variant = &self.types[variant];
                let payload = |case: usize| variant.cases.get_index(case).and_then(|(_, payload)| *payload);
                self.case(&variant.abi, &variant.info, variant.cases.len(), payload, from)
            }
            InterfaceType::Result(result) => {
                let result = &self.types[result];
                let payload = |case: usize| if case == 0 { result.ok } else { result.err };
                self.case(&result.abi, &result.info, 2, payload, from)
            }
            InterfaceType::List(_) | InterfaceType::Option(_) => self.field(1, ty, from),
            _ => Err(unknown().into()),
        }
    }

    /// One field, which says by its number which case it is.
    fn case(
        &mut self,
        abi: &CanonicalAbiInfo,
        info: &VariantInfo,
        cases: usize,
        payload: impl FnOnce(usize) -> Option<InterfaceType>,
        from: &mut Source<'_>,
    ) -> Result<(), LoadError> {
        let begun = from.begin(abi);
        let case = self.discriminant(from, info, cases)?;
        from.payload(&begun, info);
        match payload(case as usize) {
            Some(ty) => self.tagged(case + 1, ty, from)?,
            None => {
                wire::put_tag(&mut self.out, case + 1, Wire::Length);
                wire::put_varint(&mut self.out, 0);
            }
        }
        from.end(&begun, abi);
        Ok(())
    }

    fn string(&mut self, from: &mut Source<'_>) -> Result<(), LoadError> {
        let (at, count) = (self.word(from)?, self.word(from)?);
        if self.cx.options().string_encoding == StringEncoding::Utf8 {
            let bytes = self.part(at, count, 1, 1)?;
            str::from_utf8(bytes).map_err(wasmtime::Error::from)?;
            return self.bytes(bytes);
        }
        // A copy more, for the few guests that have their strings otherwise.
        let cells = [at, count].map(|word| ValRaw::u32(word as u32));
        let text = String::linear_lift_from_flat(self.cx, InterfaceType::String, &cells)?;
        self.bytes(text.as_bytes())
    }

    /// Bytes behind their length.
    fn bytes(&mut self, bytes: &[u8]) -> Result<(), LoadError> {
        self.room(bytes.len())?;
        wire::put_varint(&mut self.out, bytes.len() as u64);
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    /// Whether `more` bytes may be added.
    fn room(&self, more: usize) -> Result<(), LoadError> {
        if self.out.len() + more > MESSAGE_MAX_BYTES { Err(LoadError::TooLong) } else { Ok(()) }
    }

    /// Which case of a variant it is.
    fn discriminant(&self, from: &mut Source<'_>, info: &VariantInfo, cases: usize) -> wasmtime::Result<u32> {
        let width = usize::from(info.size);
        let case = self.bits(from, width)? as u32;
        if case as usize >= cases {
            bail!("{case} is not one of {cases} cases");
        }
        Ok(case)
    }

    /// A place or a length.
    fn word(&self, from: &mut Source<'_>) -> wasmtime::Result<usize> {
        Ok(self.bits(from, 4)? as u32 as usize)
    }

    /// A scalar of `width` bytes. A cell may hold more.
    fn bits(&self, from: &mut Source<'_>, width: usize) -> wasmtime::Result<u64> {
        match from {
            Place::Cells(cells) => {
                let cell = cells.next().ok_or_else(unknown)?;
                Ok(if width == 8 { cell.get_u64() } else { cell.get_u32().into() })
            }
            Place::Memory(at) => {
                let start = at.next_multiple_of(width);
                let bytes = self.part(start, 1, width, 1)?;
                *at = start + width;
                let mut all = [0; 8];
                all.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
                Ok(u64::from_le_bytes(all))
            }
        }
    }

    /// A part of the guest's memory.
    fn part(&self, at: usize, count: usize, size: usize, align: usize) -> wasmtime::Result<&'c [u8]> {
        if !at.is_multiple_of(align) {
            bail!("a pointer of the guest is not aligned to {align} bytes");
        }
        let end = count.checked_mul(size).and_then(|bytes| bytes.checked_add(at));
        let part = end.and_then(|end| self.memory.get(at..end));
        part.ok_or_else(|| format_err!("a pointer or a length of the guest is out of the bounds of its memory"))
    }
}
