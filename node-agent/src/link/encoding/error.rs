//! Why a value does not cross, and where in the value that is.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use model::link::{FLAGS_MAX, NAME_MAX_BYTES, TYPES_DEPTH_MAX, TYPES_MAX};

use super::HandleError;
use super::wire::Wire;

/// One step from a value to what is in it. All are counted from 1, as protobuf numbers fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// A parameter of the function.
    Argument(usize),
    /// The function's result.
    Result,
    /// A field of a record.
    Field(Arc<str>),
    /// A member of a tuple.
    Item(usize),
    /// An element of a list.
    Element(usize),
    /// The payload of a variant's case.
    Case(Arc<str>),
    /// What an option holds.
    Some,
    /// What a result holds that is well.
    Ok,
    /// What a result holds that is not.
    Err,
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument(number) => write!(out, "argument {number}"),
            Self::Result => out.write_str("result"),
            Self::Field(name) => write!(out, "field {name}"),
            Self::Item(number) => write!(out, "item {number}"),
            Self::Element(number) => write!(out, "element {number}"),
            Self::Case(name) => write!(out, "case {name}"),
            Self::Some => out.write_str("some"),
            Self::Ok => out.write_str("ok"),
            Self::Err => out.write_str("err"),
        }
    }
}

/// A problem, and the way to it: `argument 2, field rows, element 17: the field is missing`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct At<P> {
    problem: P,
    /// The innermost first, since it is found on the way out.
    steps: Vec<Step>,
}

impl<P> From<P> for At<P> {
    fn from(problem: P) -> Self {
        Self { problem, steps: Vec::new() }
    }
}

impl<P> At<P> {
    /// The same way, to what is made of the problem; or what else is.
    pub(super) fn and_then<Q, E>(self, other: impl FnOnce(P) -> Result<Q, E>) -> Result<At<Q>, E> {
        Ok(At { problem: other(self.problem)?, steps: self.steps })
    }
}

impl<P: fmt::Display> fmt::Display for At<P> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.steps.iter().rev().enumerate() {
            write!(out, "{}{step}", if index == 0 { "" } else { ", " })?;
        }
        write!(out, "{}{}", if self.steps.is_empty() { "" } else { ": " }, self.problem)
    }
}

impl<P: Error> Error for At<P> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.problem.source()
    }
}

/// Adds a step to the way, on the way out.
pub(super) trait Located {
    fn at(self, step: impl FnOnce() -> Step) -> Self;
}

impl<T, P> Located for Result<T, At<P>> {
    fn at(self, step: impl FnOnce() -> Step) -> Self {
        self.map_err(|mut error| {
            error.steps.push(step());
            error
        })
    }
}

/// Why a function cannot be called over a link.
pub(crate) type Unsupported = At<Refusal>;
/// Why a value cannot be written.
pub(crate) type EncodeError = At<EncodeProblem>;
/// Why bytes are not the value that they should be.
pub(crate) type DecodeError = At<DecodeProblem>;

/// A type that no link carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Its equal keys would need a rule of their own.
    #[error("a `map` is not carried; use a list of tuples")]
    Map,
    /// Not in WIT as it is released.
    #[error("a list of fixed length is not carried; use a list or a tuple")]
    FixedLengthList,
    /// Not in WIT as it is released.
    #[error("an `error-context` is not carried; use a string")]
    ErrorContext,
    /// It is not a value, but a way for many.
    #[error("a `stream` is not carried inside a value")]
    Stream,
    /// It is not a value, but a way for one.
    #[error("a `future` is not carried inside a value")]
    Future,
    /// They have to fit a `uint64`.
    #[error("{0} flags are not carried; {FLAGS_MAX} are the most")]
    Flags(usize),
    /// Its handles would mean something in another session only.
    #[error("a resource that the interface does not define itself is not carried")]
    ForeignResource,
    /// One message has room for one result.
    #[error("{0} results are not carried; one is the most")]
    Results(usize),
    /// See [`TYPES_DEPTH_MAX`].
    #[error("types are nested deeper than {TYPES_DEPTH_MAX}")]
    Depth,
    /// See [`TYPES_MAX`].
    #[error("the function has more than {TYPES_MAX} types and names, written out")]
    Size,
    /// See [`NAME_MAX_BYTES`].
    #[error("a name is longer than {NAME_MAX_BYTES} bytes")]
    Name,
}

/// What is wrong with a value to be written. wasmtime checks values before we see them, so all but the handle is a
/// mistake of the caller's: another signature, or a value that no component made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EncodeProblem {
    /// It is of another type.
    #[error("the value is not a {expected}")]
    Type {
        /// What the signature has there.
        expected: &'static str,
    },
    /// There are too many or too few.
    #[error("there are {found} where {expected} should be")]
    Count {
        /// What the signature has there.
        expected: usize,
        /// What there is.
        found: usize,
    },
    /// A field, case or flag that the type does not have.
    #[error("the type has no `{name}` there")]
    Name {
        /// What it is called.
        name: String,
    },
    /// See [`HandleError`].
    #[error("the handle cannot be sent")]
    Handle(#[source] HandleError),
}

/// What is wrong with bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeProblem {
    /// They end too soon.
    #[error("the bytes end too soon")]
    Truncated,
    /// A varint does not end within ten bytes, or not within 64 bits.
    #[error("a varint has more than 64 bits")]
    Varint,
    /// A tag says what no tag says: field 0, or a group.
    #[error("{tag} is not the tag of a field")]
    Tag {
        /// What it says.
        tag: u64,
    },
    /// A field is coded otherwise.
    #[error("wire type {expected} should be there, and {found} is")]
    Wire {
        /// What the type needs.
        expected: Wire,
        /// What there is.
        found: Wire,
    },
    /// Every field is written, even at its default.
    #[error("the field is missing")]
    Missing,
    /// Neither end knows which is meant.
    #[error("field {number} is there twice")]
    Duplicate {
        /// Its number.
        number: u32,
    },
    /// The ends agreed on the type when the link opened.
    #[error("field {number} is not of this message")]
    UnknownField {
        /// Its number.
        number: u32,
    },
    /// A variant or a result that is nothing.
    #[error("no case is there")]
    NoCase,
    /// A variant or a result that is several things.
    #[error("more than one case is there")]
    ManyCases,
    /// A case that the type does not have.
    #[error("the type has no case {position}")]
    UnknownCase {
        /// Its position, from 0.
        position: u64,
    },
    /// Flags that the type does not have.
    #[error("the type does not have all flags of {bits:#x}")]
    UnknownFlags {
        /// Those that are set.
        bits: u64,
    },
    /// A number that the type has no room for.
    #[error("the number does not fit its type")]
    Range,
    /// A string that is none.
    #[error("the string is not UTF-8")]
    Utf8,
    /// A number that is no character.
    #[error("{number:#x} is not a character")]
    Char {
        /// What is there.
        number: u64,
    },
    /// See [`super::decode::DECODED_MAX_BYTES`].
    #[error("the values would take more memory than one message may")]
    Memory,
    /// See [`HandleError`].
    #[error("the handle cannot be taken")]
    Handle(#[source] HandleError),
}
