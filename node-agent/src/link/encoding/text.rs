//! The text of a function's type: what it is, whoever wrote it down. Two ends that have the same text read each
//! other's bytes.
//!
//! It is close to WIT, with every type written out where it is used: names of records and variants are not part of a
//! component's type, names of fields, cases, flags and resources are. It is made once for each function of a link, and
//! never parsed.

use std::fmt::{self, Display, Formatter};

use super::shape::{Field, Names, Shape, Variant};

/// Writes `async func(name: type, …) -> type`.
pub(super) fn function(is_async: bool, parameters: &[Field], result: Option<&Shape>) -> String {
    let result = result.map(|shape| format!(" -> {shape}")).unwrap_or_default();
    format!("{}func({}){result}", if is_async { "async " } else { "" }, List(parameters))
}

/// Values with commas between them.
struct List<'a, T>(&'a [T]);

impl<T: Display> Display for List<'_, T> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        for (index, value) in self.0.iter().enumerate() {
            write!(out, "{}{value}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl Display for Field {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.name, self.shape)
    }
}

impl Display for Names {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        for (index, name) in self.iter().enumerate() {
            write!(out, "{}{name}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl Display for Variant {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        for (index, (name, payload)) in self.names.iter().zip(&self.payloads).enumerate() {
            write!(out, "{}{name}", if index == 0 { "" } else { ", " })?;
            if let Some(payload) = payload {
                write!(out, "({payload})")?;
            }
        }
        Ok(())
    }
}

impl Display for Shape {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::List(element) => write!(out, "list<{element}>"),
            Self::Record(fields) => write!(out, "record {{ {} }}", List(fields)),
            Self::Tuple(items) => write!(out, "tuple<{}>", List(items)),
            Self::Variant(variant) => write!(out, "variant {{ {variant} }}"),
            Self::Enum(names) => write!(out, "enum {{ {names} }}"),
            Self::Option(inner) => write!(out, "option<{inner}>"),
            Self::Result { ok: None, err: None } => out.write_str("result"),
            Self::Result { ok: Some(ok), err: None } => write!(out, "result<{ok}>"),
            Self::Result { ok: None, err: Some(err) } => write!(out, "result<_, {err}>"),
            Self::Result { ok: Some(ok), err: Some(err) } => write!(out, "result<{ok}, {err}>"),
            Self::Flags(names) => write!(out, "flags {{ {names} }}"),
            Self::Handle(handle) => {
                write!(out, "{}<{}>", if handle.owned { "own" } else { "borrow" }, handle.name)
            }
            _ => out.write_str(self.kind()),
        }
    }
}
