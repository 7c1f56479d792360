//! A type as the encoding needs it: resolved, owned, and bounded by what [`model::link`] says, as `graph` says before a
//! link is made.

use std::sync::Arc;

use model::link::HostResource;

use super::wire::Wire;

/// A type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    Bool,
    S8,
    U8,
    S16,
    U16,
    S32,
    U32,
    S64,
    U64,
    F32,
    F64,
    Char,
    String,
    /// `list<u8>`, which is one value on the wire.
    Bytes,
    /// Any other list.
    List(Box<Shape>),
    Record(Box<[Field]>),
    Tuple(Box<[Shape]>),
    Variant(Variant),
    Enum(Names),
    Option(Box<Shape>),
    Result {
        ok: Option<Box<Shape>>,
        err: Option<Box<Shape>>,
    },
    Flags(Names),
    Handle(Handle),
}

/// A field of a record, or a parameter of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: Arc<str>,
    pub(super) shape: Shape,
}

/// The cases of a variant, and what each carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Variant {
    pub(super) names: Names,
    /// One for each name.
    pub(super) payloads: Box<[Option<Shape>]>,
}

/// A handle of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Handle {
    pub(super) resource: Kind,
    pub(super) name: Arc<str>,
    /// `own`, not `borrow`.
    pub(super) owned: bool,
}

/// Which resource a handle is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One of the provider: an index of [`super::LinkResources`].
    Provider(usize),
    /// One of the host.
    Host(HostResource),
}

/// The names of cases or flags, by position and by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    names: Box<[Arc<str>]>,
    /// Their positions in the order of the names: a guest chooses how many cases its enums have and how many of them
    /// it sends, and the host's time should not be the product of both.
    sorted: Box<[usize]>,
}

impl Names {
    pub(super) fn new(names: Vec<Arc<str>>) -> Self {
        let mut sorted: Vec<usize> = (0..names.len()).collect();
        sorted.sort_by_key(|position| names.get(*position).cloned());
        Self { names: names.into(), sorted: sorted.into() }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<str>> {
        self.names.iter()
    }

    pub(super) fn get(&self, position: usize) -> Option<&Arc<str>> {
        self.names.get(position)
    }

    /// Where a name stands.
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        let place =
            self.sorted.binary_search_by_key(&Some(name), |position| self.get(*position).map(|name| &**name));
        self.sorted.get(place.ok()?).copied()
    }
}

impl Shape {
    /// How one value of it is coded.
    pub(super) fn wire(&self) -> Wire {
        match self {
            Self::Bool
            | Self::S8
            | Self::U8
            | Self::S16
            | Self::U16
            | Self::S32
            | Self::U32
            | Self::S64
            | Self::U64
            | Self::Char
            | Self::Enum(_)
            | Self::Flags(_) => Wire::Varint,
            Self::F32 => Wire::Fixed32,
            Self::F64 => Wire::Fixed64,
            Self::String
            | Self::Bytes
            | Self::List(_)
            | Self::Record(_)
            | Self::Tuple(_)
            | Self::Variant(_)
            | Self::Option(_)
            | Self::Result { .. }
            | Self::Handle(_) => Wire::Length,
        }
    }

    /// Whether a list of it is packed: one field with all its values.
    pub(super) fn is_packed(&self) -> bool {
        self.wire() != Wire::Length
    }

    /// Whether its field may be there more than once.
    pub(super) fn is_repeated(&self) -> bool {
        matches!(self, Self::List(_))
    }

    /// How many cells one value takes of those in which the canonical ABI passes arguments; none, if it is or has a
    /// handle.
    pub(super) fn cells(&self) -> Option<usize> {
        let payload = |shape: Option<&Shape>| shape.map_or(Some(0), Shape::cells);
        Some(match self {
            Self::Handle(_) => return None,
            Self::String | Self::Bytes => 2,
            Self::List(element) => element.cells().map(|_| 2)?,
            Self::Record(fields) => fields.iter().map(|field| field.shape.cells()).sum::<Option<usize>>()?,
            Self::Tuple(items) => items.iter().map(Shape::cells).sum::<Option<usize>>()?,
            Self::Variant(variant) => {
                let cells = variant.payloads.iter().map(|shape| payload(shape.as_ref()));
                1 + cells.collect::<Option<Vec<_>>>()?.into_iter().max().unwrap_or_default()
            }
            Self::Option(inner) => 1 + inner.cells()?,
            Self::Result { ok, err } => 1 + payload(ok.as_deref())?.max(payload(err.as_deref())?),
            Self::Bool
            | Self::S8
            | Self::U8
            | Self::S16
            | Self::U16
            | Self::S32
            | Self::U32
            | Self::S64
            | Self::U64
            | Self::F32
            | Self::F64
            | Self::Char
            | Self::Enum(_)
            | Self::Flags(_) => 1,
        })
    }

    /// What it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::S8 => "s8",
            Self::U8 => "u8",
            Self::S16 => "s16",
            Self::U16 => "u16",
            Self::S32 => "s32",
            Self::U32 => "u32",
            Self::S64 => "s64",
            Self::U64 => "u64",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::Char => "char",
            Self::String => "string",
            Self::Bytes => "list<u8>",
            Self::List(_) => "list",
            Self::Record(_) => "record",
            Self::Tuple(_) => "tuple",
            Self::Variant(_) => "variant",
            Self::Enum(_) => "enum",
            Self::Option(_) => "option",
            Self::Result { .. } => "result",
            Self::Flags(_) => "flags",
            Self::Handle(_) => "handle",
        }
    }
}
