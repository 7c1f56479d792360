//! The structure of WIT types, with every alias followed to the end.

use std::fmt;

use model::interface::InterfaceName;

/// A function of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionType {
    /// As WIT names it: `execute`, `[method]connection.execute`.
    pub name: String,
    /// Whether it is an `async func`.
    pub is_async: bool,
    /// Its parameters, by name.
    pub parameters: Vec<(String, Type)>,
    /// Its result.
    pub result: Option<Type>,
}

impl FunctionType {
    /// Whether its result has an error that can be this case: of a variant, holding nothing or a string, or of an enum;
    /// or an error that is a string.
    pub fn can_fail_with(&self, case: &str) -> bool {
        let Some(Type::Result(_, Some(error))) = &self.result else { return false };
        match &**error {
            Type::Primitive("string") => true,
            Type::Enum(cases) => cases.iter().any(|name| name == case),
            Type::Variant(cases) => cases.iter().any(|(name, payload)| {
                name == case && matches!(payload, None | Some(Type::Primitive("string")))
            }),
            _ => false,
        }
    }
}

/// A type, by structure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    /// `bool`, `u8`, …, `string`, and `error-context`.
    Primitive(&'static str),
    /// `list<T>`
    List(Box<Type>),
    /// `list<T, N>`
    FixedLengthList(Box<Type>, u32),
    /// `map<K, V>`
    Map(Box<Type>, Box<Type>),
    /// `option<T>`
    Option(Box<Type>),
    /// `result<T, E>`
    Result(Option<Box<Type>>, Option<Box<Type>>),
    /// `tuple<…>`
    Tuple(Vec<Type>),
    /// Fields in order.
    Record(Vec<(String, Type)>),
    /// Cases in order.
    Variant(Vec<(String, Option<Type>)>),
    /// Cases in order.
    Enum(Vec<String>),
    /// Flags in order.
    Flags(Vec<String>),
    /// An owned handle.
    Own(Resource),
    /// A borrowed handle.
    Borrow(Resource),
    /// `stream<T>`
    Stream(Option<Box<Type>>),
    /// `future<T>`
    Future(Option<Box<Type>>),
}

/// A resource type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// The interface that defines it; `None` is the interface of the function.
    pub interface: Option<InterfaceName>,
    /// Its name there.
    pub name: String,
}

impl Resource {
    fn is_same(&self, other: &Self) -> bool {
        let interfaces = match (&self.interface, &other.interface) {
            (None, None) => true,
            (Some(left), Some(right)) => left.same_track(right),
            _ => false,
        };
        interfaces && self.name == other.name
    }
}

/// Where two types differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The way to it: `result ok, field rows, element`.
    pub path: Vec<String>,
    /// What the importer has there.
    pub wanted: String,
    /// What the provider has there.
    pub offered: String,
}

/// Where the type that the importer wants differs from the one that is offered.
pub fn difference(wanted: &FunctionType, offered: &FunctionType) -> Option<Difference> {
    let mut path = Vec::new();
    let (left, right) = (&wanted.parameters, &offered.parameters);
    let names = |list: &[(String, Type)]| list.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    if wanted.is_async != offered.is_async || names(left) != names(right) {
        return Some(Difference { path, wanted: wanted.to_string(), offered: offered.to_string() });
    }
    for ((name, left), (_, right)) in left.iter().zip(right) {
        path.push(format!("parameter {name}"));
        if let Some(found) = compare(left, right, &mut path) {
            return Some(found);
        }
        path.pop();
    }
    path.push("result".to_owned());
    optional(wanted.result.as_ref(), offered.result.as_ref(), &mut path)
}

fn optional(left: Option<&Type>, right: Option<&Type>, path: &mut Vec<String>) -> Option<Difference> {
    match (left, right) {
        (None, None) => None,
        (Some(left), Some(right)) => compare(left, right, path),
        (left, right) => {
            let show = |side: Option<&Type>| side.map_or_else(|| "nothing".to_owned(), ToString::to_string);
            Some(Difference { path: path.clone(), wanted: show(left), offered: show(right) })
        }
    }
}

fn compare(left: &Type, right: &Type, path: &mut Vec<String>) -> Option<Difference> {
    let here = |path: &[String]| {
        Some(Difference { path: path.to_vec(), wanted: left.to_string(), offered: right.to_string() })
    };
    let mut inside = |step: &str, left: &Type, right: &Type| {
        path.push(step.to_owned());
        let found = compare(left, right, path);
        path.pop();
        found
    };
    match (left, right) {
        (Type::List(left), Type::List(right)) => inside("element", left, right),
        (Type::Option(left), Type::Option(right)) => inside("some", left, right),
        (Type::FixedLengthList(left, n), Type::FixedLengthList(right, m)) if n == m => {
            inside("element", left, right)
        }
        (Type::Map(key, value), Type::Map(other_key, other_value)) => {
            inside("key", key, other_key).or_else(|| inside("value", value, other_value))
        }
        (Type::Result(ok, error), Type::Result(other_ok, other_error)) => {
            path.push("ok".to_owned());
            if let Some(found) = optional(ok.as_deref(), other_ok.as_deref(), path) {
                return Some(found);
            }
            path.pop();
            path.push("error".to_owned());
            let found = optional(error.as_deref(), other_error.as_deref(), path);
            path.pop();
            found
        }
        (Type::Tuple(left), Type::Tuple(right)) if left.len() == right.len() => {
            (0..left.len()).find_map(|n| inside(&format!("part {n}"), &left[n], &right[n]))
        }
        (Type::Record(left), Type::Record(right))
            if left.len() == right.len() && left.iter().zip(right).all(|(l, r)| l.0 == r.0) =>
        {
            left.iter().zip(right).find_map(|(l, r)| inside(&format!("field {}", l.0), &l.1, &r.1))
        }
        (Type::Variant(left), Type::Variant(right))
            if left.len() == right.len() && left.iter().zip(right).all(|(l, r)| l.0 == r.0) =>
        {
            left.iter().zip(right).find_map(|(l, r)| {
                path.push(format!("case {}", l.0));
                let found = optional(l.1.as_ref(), r.1.as_ref(), path);
                path.pop();
                found
            })
        }
        (Type::Stream(left), Type::Stream(right)) | (Type::Future(left), Type::Future(right)) => {
            optional(left.as_deref(), right.as_deref(), path)
        }
        (Type::Own(left), Type::Own(right)) | (Type::Borrow(left), Type::Borrow(right))
            if left.is_same(right) =>
        {
            None
        }
        (left, right) if left == right => None,
        _ => here(path),
    }
}

impl fmt::Display for FunctionType {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if self.is_async { "async func(" } else { "func(" })?;
        for (index, (name, parameter)) in self.parameters.iter().enumerate() {
            write!(out, "{}{name}: {parameter}", if index == 0 { "" } else { ", " })?;
        }
        out.write_str(")")?;
        match &self.result {
            Some(result) => write!(out, " -> {result}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner =
            |side: &Option<Box<Type>>| side.as_ref().map_or_else(|| "_".to_owned(), ToString::to_string);
        let join = |parts: Vec<String>| parts.join(", ");
        match self {
            Self::Primitive(name) => out.write_str(name),
            Self::List(element) => write!(out, "list<{element}>"),
            Self::FixedLengthList(element, length) => write!(out, "list<{element}, {length}>"),
            Self::Map(key, value) => write!(out, "map<{key}, {value}>"),
            Self::Option(some) => write!(out, "option<{some}>"),
            Self::Result(None, None) => out.write_str("result"),
            Self::Result(ok, None) => write!(out, "result<{}>", inner(ok)),
            Self::Result(ok, error) => write!(out, "result<{}, {}>", inner(ok), inner(error)),
            Self::Tuple(parts) => {
                write!(out, "tuple<{}>", join(parts.iter().map(ToString::to_string).collect()))
            }
            Self::Record(fields) => {
                write!(out, "record {{ {} }}", join(fields.iter().map(|(n, t)| format!("{n}: {t}")).collect()))
            }
            Self::Variant(cases) => {
                let case = |(name, payload): &(String, Option<Type>)| match payload {
                    Some(payload) => format!("{name}({payload})"),
                    None => name.clone(),
                };
                write!(out, "variant {{ {} }}", join(cases.iter().map(case).collect()))
            }
            Self::Enum(cases) => write!(out, "enum {{ {} }}", cases.join(", ")),
            Self::Flags(flags) => write!(out, "flags {{ {} }}", flags.join(", ")),
            Self::Own(resource) => out.write_str(&resource.name),
            Self::Borrow(resource) => write!(out, "borrow<{}>", resource.name),
            Self::Stream(element) => write!(out, "stream<{}>", inner(element)),
            Self::Future(value) => write!(out, "future<{}>", inner(value)),
        }
    }
}
