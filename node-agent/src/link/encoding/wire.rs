//! Protobuf's bytes: tags, varints and lengths. Knows nothing of values and types.

use std::fmt;

use super::error::DecodeProblem;

/// Seven bits in each byte: 64 bits take ten.
const VARINT_MAX_BYTES: usize = 10;
/// Set in every byte of a varint but the last.
const MORE: u8 = 0x80;
/// The bits of a tag below the field's number.
const WIRE_BITS: u32 = 3;
/// Protobuf's own bound of field numbers.
const NUMBER_MAX: u64 = (1 << 29) - 1;

/// How a field is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    Varint = 0,
    Fixed64 = 1,
    Length = 2,
    Fixed32 = 5,
}

impl fmt::Display for Wire {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Varint => "varint",
            Self::Fixed64 => "fixed64",
            Self::Length => "length",
            Self::Fixed32 => "fixed32",
        })
    }
}

/// A value as the wire has it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Raw<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Length(&'a [u8]),
    Fixed32([u8; 4]),
}

impl Raw<'_> {
    pub(super) fn wire(&self) -> Wire {
        match self {
            Self::Varint(_) => Wire::Varint,
            Self::Fixed64(_) => Wire::Fixed64,
            Self::Length(_) => Wire::Length,
            Self::Fixed32(_) => Wire::Fixed32,
        }
    }
}

/// Reads from the front of bytes that anybody may have sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// One field: its number, and what it holds.
    pub(super) fn entry(&mut self) -> Result<(u32, Raw<'a>), DecodeProblem> {
        let tag = self.varint()?;
        let number = tag >> WIRE_BITS;
        let wire = match tag & ((1 << WIRE_BITS) - 1) {
            0 => Wire::Varint,
            1 => Wire::Fixed64,
            2 => Wire::Length,
            5 => Wire::Fixed32,
            // Groups, which are older than protobuf as we know it, and two that mean nothing.
            _ => return Err(DecodeProblem::Tag { tag }),
        };
        if number == 0 || number > NUMBER_MAX {
            return Err(DecodeProblem::Tag { tag });
        }
        Ok((number as u32, self.raw(wire)?))
    }

    /// The next field, if it has this number.
    pub(super) fn take(&mut self, number: u32) -> Result<Option<Raw<'a>>, DecodeProblem> {
        if self.is_empty() {
            return Ok(None);
        }
        let mut next = *self;
        let (found, raw) = next.entry()?;
        if found != number {
            return Ok(None);
        }
        *self = next;
        Ok(Some(raw))
    }

    /// One value without a tag.
    pub(super) fn raw(&mut self, wire: Wire) -> Result<Raw<'a>, DecodeProblem> {
        Ok(match wire {
            Wire::Varint => Raw::Varint(self.varint()?),
            Wire::Fixed64 => Raw::Fixed64(self.fixed()?),
            Wire::Length => Raw::Length(self.length()?),
            Wire::Fixed32 => Raw::Fixed32(self.fixed()?),
        })
    }

    /// What was read since `start`, which is this reader as it was.
    pub(super) fn since(&self, start: Reader<'a>) -> &'a [u8] {
        let read = start.rest.len().saturating_sub(self.rest.len());
        start.rest.get(..read).unwrap_or_default()
    }

    fn varint(&mut self) -> Result<u64, DecodeProblem> {
        let mut value = 0;
        for (index, byte) in self.rest.iter().take(VARINT_MAX_BYTES).enumerate() {
            // The last byte has room for one bit.
            if index == VARINT_MAX_BYTES - 1 && *byte > 1 {
                return Err(DecodeProblem::Varint);
            }
            value |= u64::from(byte & !MORE) << (7 * index);
            if byte & MORE == 0 {
                self.rest = self.rest.get(index + 1..).unwrap_or_default();
                return Ok(value);
            }
        }
        Err(DecodeProblem::Truncated)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeProblem> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(DecodeProblem::Truncated)?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn length(&mut self) -> Result<&'a [u8], DecodeProblem> {
        let length = self.varint()?;
        let length = usize::try_from(length).map_err(|_| DecodeProblem::Truncated)?;
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(DecodeProblem::Truncated)?;
        self.rest = rest;
        Ok(bytes)
    }
}

/// How many values a packed list can hold: as many as there are ends of varints, or fixed widths.
pub(super) fn packed_count(wire: Wire, bytes: &[u8]) -> usize {
    match wire {
        Wire::Varint => bytes.iter().filter(|byte| **byte & MORE == 0).count(),
        Wire::Fixed64 => bytes.len() / 8,
        Wire::Fixed32 => bytes.len() / 4,
        // Never packed.
        Wire::Length => 0,
    }
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= u64::from(MORE) {
        out.push(value as u8 | MORE);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn put_tag(out: &mut Vec<u8>, number: u32, wire: Wire) {
    put_varint(out, (u64::from(number) << WIRE_BITS) | wire as u64);
}

/// Where something begins whose length stands before it, and is not known yet.
pub(super) struct Begun {
    at: usize,
}

/// Begins something with its length before it.
pub(super) fn begin(out: &mut Vec<u8>) -> Begun {
    // One byte is enough for most; what is longer is moved when it ends, once.
    out.push(0);
    Begun { at: out.len() - 1 }
}

/// Ends it. In between, `out` only grew.
pub(super) fn end(out: &mut Vec<u8>, begun: &Begun) {
    let length = out.len().saturating_sub(begun.at + 1) as u64;
    match out.get_mut(begun.at) {
        Some(byte) if length < u64::from(MORE) => *byte = length as u8,
        Some(_) => {
            let mut bytes = [0; VARINT_MAX_BYTES];
            let mut rest = length;
            let mut count = 0;
            for byte in &mut bytes {
                *byte = rest as u8 | MORE;
                rest >>= 7;
                count += 1;
                if rest == 0 {
                    *byte &= !MORE;
                    break;
                }
            }
            out.splice(begun.at..=begun.at, bytes.into_iter().take(count));
        }
        None => {}
    }
}

pub(super) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}
