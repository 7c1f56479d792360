//! The one place where machine code from a file becomes callable.

use wasmtime::Engine;
use wasmtime::component::Component;

use crate::host::seal::Opened;

/// Loads code that this node compiled and sealed itself.
///
/// Only bytes whose seal was verified can be passed, since [`Opened`] is made nowhere else than there.
pub(crate) fn load(engine: &Engine, code: &Opened) -> wasmtime::Result<Component> {
    #[expect(
        unsafe_code,
        reason = "wasmtime trusts serialized code; the type of `code` proves that it is our own"
    )]
    // SAFETY: the bytes were written by `Component::serialize` of this node and carry a MAC under a key that only
    // this node has; wasmtime itself checks version and settings.
    unsafe {
        Component::deserialize(engine, code.bytes())
    }
}
