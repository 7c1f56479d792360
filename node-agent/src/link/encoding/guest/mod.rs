//! Calls whose values go straight between a guest's memory and a message: nothing is made of them in between, and a
//! `list<u8>` is copied whole.
//!
//! Byte for byte the messages of [`super::encode`] and [`super::decode`], for all types but handles, which need their
//! store. ADR 7 says why this stands on what wasmtime's `#[derive(ComponentType, Lift, Lower)]` stands on: its traits
//! with hidden functions, which a program may not be written against without pinning wasmtime's version, as ours does.
//! All `unsafe` is in this file.

#![allow(unsafe_code, reason = "wasmtime's traits for types of components are unsafe to implement")]

mod load;
mod place;
mod store;

use std::mem::MaybeUninit;
use std::slice;

use model::link::MESSAGE_MAX_BYTES;
use wasmtime::component::__internal::{
    CanonicalAbiInfo, InstanceType, InterfaceType, LiftContext, LowerContext,
};
use wasmtime::component::{ComponentNamedList, ComponentType, Lift, Lower};
use wasmtime::{ValRaw, ensure, format_err};

use self::load::LoadError;
use self::place::Place;
use super::DecodeError;
use super::wire::Wire;

/// The most cells that the arguments of a call take; those of more are in memory.
pub(crate) const ARGUMENT_CELLS_MAX: usize = 16;
/// The most cells that a result takes.
pub(super) const RESULT_CELLS_MAX: usize = 1;
/// Stands for a result that is in memory.
pub(crate) const IN_MEMORY: usize = ARGUMENT_CELLS_MAX + 1;

/// How many of the canonical ABI's cells the values of a function take, which has to be known when it is linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cells {
    /// At most [`ARGUMENT_CELLS_MAX`].
    pub(crate) arguments: usize,
    /// None, one or [`IN_MEMORY`].
    pub(crate) result: usize,
}

/// What `$call` makes of a number of cells as the constant `$name`: it is compiled once for each number that there is.
macro_rules! with_cells {
    ($cells:expr, $name:ident => $call:expr) => {
        with_cells!($cells, $name => $call, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16)
    };
    ($cells:expr, $name:ident => $call:expr, $($each:literal)*) => {
        match $cells {
            $($each => {
                const $name: usize = $each;
                $call
            })*
            more => Err(wasmtime::format_err!("no function takes {more} cells")),
        }
    };
}
pub(crate) use with_cells;

/// The arguments or the result of a guest, as a message.
pub(crate) struct FromGuest<const CELLS: usize>(pub(crate) Result<Vec<u8>, TooLong>);

/// The message would be longer than messages are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {MESSAGE_MAX_BYTES} bytes, and at most so many are carried")]
pub(crate) struct TooLong;

/// A message that becomes the arguments or the result of a guest.
pub(crate) struct ToGuest<const CELLS: usize> {
    message: Vec<u8>,
    is_result: bool,
    /// What the call ends with if they are not what its type says.
    wrong: Box<dyn Fn(DecodeError) -> wasmtime::Error + Send + Sync>,
}

impl<const CELLS: usize> ToGuest<CELLS> {
    /// The arguments of a call.
    pub(crate) fn arguments(message: Vec<u8>) -> Self {
        Self { message, is_result: false, wrong: Box::new(wasmtime::Error::from) }
    }

    /// The result of one, and what the call ends with if it is not of the result's type.
    pub(crate) fn result(
        message: Vec<u8>,
        wrong: impl Fn(DecodeError) -> wasmtime::Error + Send + Sync + 'static,
    ) -> Self {
        Self { message, is_result: true, wrong: Box::new(wrong) }
    }

    fn store<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        place: Place<slice::IterMut<'_, ValRaw>>,
    ) -> wasmtime::Result<()> {
        store::message(cx, ty, &self.message, self.is_result, place)
            .map_err(|error| error.into_guest(&self.wrong))
    }
}

impl<const CELLS: usize> FromGuest<CELLS> {
    fn load(
        cx: &mut LiftContext<'_>,
        ty: InterfaceType,
        place: Place<slice::Iter<'_, ValRaw>>,
    ) -> wasmtime::Result<Self> {
        match load::message(cx, ty, place) {
            Ok(message) => Ok(Self(Ok(message))),
            Err(LoadError::TooLong) => Ok(Self(Err(TooLong))),
            Err(LoadError::Guest(error)) => Err(error),
        }
    }
}

/// Nothing is said of sizes in memory: those are of the type, and asked of it when there is one.
const fn abi(cells: usize) -> CanonicalAbiInfo {
    CanonicalAbiInfo { flat_count: Some(cells as u8), ..CanonicalAbiInfo::ZERO }
}

/// Whether a type is where `cells` says that it is.
fn typecheck(
    ty: &InterfaceType,
    types: &InstanceType<'_>,
    cells: usize,
    fits: impl FnOnce(usize) -> bool,
) -> wasmtime::Result<()> {
    let needed = types.types.canonical_abi(ty).flat_count(ARGUMENT_CELLS_MAX);
    let fits = match needed {
        _ if cells == IN_MEMORY => needed.is_none_or(|needed| needed > RESULT_CELLS_MAX),
        Some(needed) => fits(needed),
        None => false,
    };
    ensure!(fits, "a type of {needed:?} cells is not one of {cells}");
    Ok(())
}

// SAFETY: `Lower` is an array of `ValRaw`. Whoever has a type of `CELLS` cells has exactly those, which `typecheck`
// sees to, and nothing is in memory that is not checked against it: `load` takes slices of it that may not be there.
unsafe impl<const CELLS: usize> ComponentType for FromGuest<CELLS> {
    type Lower = [ValRaw; CELLS];

    const ABI: CanonicalAbiInfo = abi(CELLS);

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> wasmtime::Result<()> {
        typecheck(ty, types, CELLS, |needed| needed == CELLS)
    }
}

// SAFETY: it stands for a tuple, which it is checked to be when it is loaded.
unsafe impl<const CELLS: usize> ComponentNamedList for FromGuest<CELLS> {}

// SAFETY: nothing is read but cells that are there and memory that is there.
unsafe impl<const CELLS: usize> Lift for FromGuest<CELLS> {
    fn linear_lift_from_flat(
        cx: &mut LiftContext<'_>,
        ty: InterfaceType,
        cells: &Self::Lower,
    ) -> wasmtime::Result<Self> {
        Self::load(cx, ty, Place::Cells(cells.iter()))
    }

    fn linear_lift_from_memory(
        cx: &mut LiftContext<'_>,
        ty: InterfaceType,
        bytes: &[u8],
    ) -> wasmtime::Result<Self> {
        // They are of the memory, and none, as `ABI` says: where they are is all that they tell.
        let at = bytes.as_ptr().addr().checked_sub(cx.memory().as_ptr().addr());
        let at = at.ok_or_else(|| format_err!("the values are not in the guest's memory"))?;
        Self::load(cx, ty, Place::Memory(at))
    }
}

// SAFETY: as for `FromGuest`; where a type has fewer cells than there are, those behind are zeros.
unsafe impl<const CELLS: usize> ComponentType for ToGuest<CELLS> {
    type Lower = [ValRaw; CELLS];

    const ABI: CanonicalAbiInfo = abi(CELLS);

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> wasmtime::Result<()> {
        typecheck(ty, types, CELLS, |needed| needed <= CELLS)
    }
}

// SAFETY: as for `FromGuest`.
unsafe impl<const CELLS: usize> ComponentNamedList for ToGuest<CELLS> {}

// SAFETY: all cells are written, and memory only where it is there.
unsafe impl<const CELLS: usize> Lower for ToGuest<CELLS> {
    fn linear_lower_to_flat<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        cells: &mut MaybeUninit<Self::Lower>,
    ) -> wasmtime::Result<()> {
        let mut values = [ValRaw::u64(0); CELLS];
        self.store(cx, ty, Place::Cells(values.iter_mut()))?;
        cells.write(values);
        Ok(())
    }

    fn linear_lower_to_memory<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        at: usize,
    ) -> wasmtime::Result<()> {
        self.store(cx, ty, Place::Memory(at))
    }
}

/// Where a guest wants a string: its place and its length, in the units of its encoding.
fn lower_string<T>(cx: &mut LowerContext<'_, T>, text: &str) -> wasmtime::Result<[u32; 2]> {
    let mut cells = MaybeUninit::new([ValRaw::u64(0); 2]);
    text.linear_lower_to_flat(cx, InterfaceType::String, &mut cells)?;
    // SAFETY: they were values from the start.
    let cells = unsafe { cells.assume_init() };
    Ok(cells.map(|cell| cell.get_u32()))
}

/// How one value of a type is coded.
fn wire_of(ty: InterfaceType) -> Wire {
    match ty {
        InterfaceType::Bool
        | InterfaceType::S8
        | InterfaceType::U8
        | InterfaceType::S16
        | InterfaceType::U16
        | InterfaceType::S32
        | InterfaceType::U32
        | InterfaceType::S64
        | InterfaceType::U64
        | InterfaceType::Char
        | InterfaceType::Enum(_)
        | InterfaceType::Flags(_) => Wire::Varint,
        InterfaceType::Float32 => Wire::Fixed32,
        InterfaceType::Float64 => Wire::Fixed64,
        _ => Wire::Length,
    }
}

/// What cannot be, since the function was linked by its type.
fn unknown() -> wasmtime::Error {
    format_err!("the guest's values are not of the type that its function was linked with")
}
