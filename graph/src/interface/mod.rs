//! What a component imports and exports, read from its bytes.

mod convert;
mod nesting;
mod read;
pub mod types;

use model::interface::InterfaceName;
use model::unit::ByteSize;

pub(crate) use convert::interface_of_package;
pub use read::{ReadError, read};
pub use types::{FunctionType, Type};

/// The interfaces of one component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentType {
    /// What it needs, in the order of its binary.
    pub imports: Vec<Interface>,
    /// What it offers.
    pub exports: Vec<Interface>,
    /// The linear memory that an instance has before it does anything: the memories of all its modules, each once.
    pub memory_at_start: ByteSize,
}

/// One interface with the functions that a component uses or offers of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: InterfaceName,
    /// Its functions.
    pub functions: Vec<FunctionType>,
    /// The other interfaces whose types its functions use.
    pub uses: Vec<InterfaceName>,
    /// Whether it has types alone, without resources: they are the same everywhere, and nobody has to offer them.
    pub is_types_only: bool,
}

impl Interface {
    /// A function by its WIT name.
    pub fn function(&self, name: &str) -> Option<&FunctionType> {
        self.functions.iter().find(|function| function.name == name)
    }
}

impl ComponentType {
    /// An export that stands on the track of `name`.
    pub fn export_on_track(&self, name: &InterfaceName) -> Option<&Interface> {
        self.exports.iter().find(|export| export.name.same_track(name))
    }
}
