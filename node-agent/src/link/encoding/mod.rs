//! How the values of a call cross a link: protobuf derived from WIT, written and read by hand.
//!
//! A [`Signature`] is made once for each function of a link, from wasmtime's types, and holds all that a call needs;
//! no type of wasmtime's is walked while calls run. Both ends compare the digests of their signatures when the link
//! opens. Nothing here does I/O, waits or keeps state: bytes in, values out, and handles through [`Handles`].
//!
//! `docs/wit-protobuf.md` is the mapping, with bytes, and what a reader accepts.

mod decode;
#[cfg(test)]
mod descriptor;
mod encode;
mod error;
#[cfg(any(test, fuzzing))]
#[allow(clippy::unwrap_used, reason = "tests")]
pub(crate) mod fuzz;
mod guest;
mod resources;
mod shape;
mod signature;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
mod tests;
mod text;
mod wire;

use wasmtime::component::ResourceAny;

pub(crate) use self::error::{DecodeError, DecodeProblem, EncodeError, EncodeProblem, Refusal, Unsupported};
pub(crate) use self::guest::{ARGUMENT_CELLS_MAX, Cells, FromGuest, IN_MEMORY, ToGuest, TooLong, with_cells};
pub(crate) use self::resources::{HostResources, LinkResources, Resources};
pub(crate) use self::shape::Kind;
pub(crate) use self::signature::{ErrorCase, Signature};

/// The handles of one session: what stands for a resource on the wire, and what it stands for here.
///
/// A call whose encoding or decoding fails half-way may have moved handles already. Its session is told so by the
/// error, and has to end: nothing is moved back.
pub(crate) trait Handles {
    /// The id under which a handle of this store crosses. An `owned` one leaves this store.
    fn lower(&mut self, resource: Kind, handle: &ResourceAny, owned: bool) -> Result<u64, HandleError>;

    /// The handle that an id stands for. Whatever a peer sends arrives here: ids that never were, that are of another
    /// resource, and one owned id twice in a message.
    fn lift(&mut self, resource: Kind, id: u64, owned: bool) -> Result<ResourceAny, HandleError>;
}

/// For values that have no handle in them.
struct NoHandles;

impl Handles for NoHandles {
    fn lower(&mut self, _resource: Kind, _handle: &ResourceAny, _owned: bool) -> Result<u64, HandleError> {
        Err(HandleError::Lost)
    }

    fn lift(&mut self, _resource: Kind, id: u64, _owned: bool) -> Result<ResourceAny, HandleError> {
        Err(HandleError::Unknown { id })
    }
}

/// Why a handle cannot cross.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HandleError {
    /// No handle of this session and this resource: the peer breaks the rules.
    #[error("handle {id} is not of this session")]
    Unknown {
        /// What the peer calls it.
        id: u64,
    },
    /// The session has as many as it may.
    #[error("the session has {max} handles, and may have no more")]
    Full {
        /// How many it may have.
        max: usize,
    },
    /// The session has as many of the host's as it may.
    #[error("the session has {max} streams, and may have no more")]
    Pipes {
        /// How many it may have.
        max: usize,
    },
    /// The session is over.
    #[error("the session is over")]
    Lost,
    /// The store refuses it.
    #[error("the store refuses the handle: {message}")]
    Store {
        /// What wasmtime says.
        message: String,
    },
}
