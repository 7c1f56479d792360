//! Where the next value of a guest is, as the canonical ABI lays values out.

use wasmtime::component::__internal::CanonicalAbiInfo;
use wasmtime::component::__internal::wasmtime_environ::component::VariantInfo;

/// In cells, as arguments come, or in memory behind an offset.
pub(super) enum Place<C> {
    Cells(C),
    Memory(usize),
}

/// Where a value of several parts began: how many cells there were, or the offset.
pub(super) struct Begun(usize);

impl<C: ExactSizeIterator> Place<C> {
    /// Begins a value of several parts.
    pub(super) fn begin(&mut self, abi: &CanonicalAbiInfo) -> Begun {
        Begun(match self {
            Self::Cells(cells) => cells.len(),
            Self::Memory(at) => {
                *at = at.next_multiple_of(abi.align32 as usize);
                *at
            }
        })
    }

    /// Goes from what says which case it is to what the case holds. In cells, that is the next.
    pub(super) fn payload(&mut self, begun: &Begun, info: &VariantInfo) {
        if let Self::Memory(at) = self {
            *at = begun.0 + info.payload_offset32 as usize;
        }
    }

    /// Ends the value: what of its place was not used is passed over.
    pub(super) fn end(&mut self, begun: &Begun, abi: &CanonicalAbiInfo) {
        match self {
            Self::Cells(cells) => {
                let behind = begun.0.saturating_sub(abi.flat_count.unwrap_or_default().into());
                while cells.len() > behind && cells.next().is_some() {}
            }
            Self::Memory(at) => *at = begun.0 + abi.size32 as usize,
        }
    }
}
