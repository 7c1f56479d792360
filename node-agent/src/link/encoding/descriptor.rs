//! The protobuf schema of functions, from the same types that their values are written by.
//!
//! For tests only as yet: with it any protobuf library reads what we write, and we read what it writes. Typed gRPC
//! will serve it to clients.
//!
//! The syntax is proto2, because it can say what holds: a field is required, and an option is optional. proto3 has one
//! word for both.

use std::collections::BTreeSet;

use prost_reflect::prost_types::field_descriptor_proto::{Label, Type};
use prost_reflect::prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto, FieldOptions,
    FileDescriptorProto, OneofDescriptorProto,
};

use super::Signature;
use super::shape::{Names, Shape};

/// What a case carries that carries nothing.
const EMPTY: &str = "Empty";
/// What stands for a resource.
const HANDLE: &str = "Handle";

/// The schema of functions by their names: for `get-row` the messages `GetRowArguments` and `GetRowResult`.
pub(super) fn file(package: &str, functions: &[(&str, &Signature)]) -> FileDescriptorProto {
    let mut handle = Message::new(HANDLE, package);
    handle.field("id", 1, &Shape::U64);
    let mut messages = vec![Message::new(EMPTY, package).proto, handle.proto];
    for (name, signature) in functions {
        let name = camel(name);
        let mut arguments = Message::new(&format!("{name}Arguments"), package);
        for (number, parameter) in (1..).zip(&signature.parameters) {
            arguments.field(&parameter.name, number, &parameter.shape);
        }
        let mut result = Message::new(&format!("{name}Result"), package);
        if let Some(shape) = &signature.result {
            result.field("value", 1, shape);
        }
        messages.extend([arguments.proto, result.proto]);
    }
    FileDescriptorProto {
        name: Some(format!("{package}.proto")),
        package: Some(package.to_owned()),
        message_type: messages,
        syntax: Some("proto2".to_owned()),
        ..FileDescriptorProto::default()
    }
}

/// A message as it grows.
struct Message<'a> {
    package: &'a str,
    /// With the package, and with a dot before it: a name that is the same wherever it is used.
    full_name: String,
    proto: DescriptorProto,
    /// Fields, types and values of enums share one scope.
    taken: BTreeSet<String>,
}

impl<'a> Message<'a> {
    fn new(name: &str, package: &'a str) -> Self {
        Self::inside(name, &format!(".{package}"), package)
    }

    fn inside(name: &str, scope: &str, package: &'a str) -> Self {
        Self {
            package,
            full_name: format!("{scope}.{name}"),
            proto: DescriptorProto { name: Some(name.to_owned()), ..DescriptorProto::default() },
            taken: BTreeSet::new(),
        }
    }

    /// The name, or with a number behind it if there is one already.
    fn take(&mut self, name: String) -> String {
        let mut free = name.clone();
        let mut number = 2;
        while !self.taken.insert(free.clone()) {
            free = format!("{name}_{number}");
            number += 1;
        }
        free
    }

    /// A field to itself.
    fn field(&mut self, name: &str, number: i32, shape: &Shape) {
        match shape {
            Shape::List(element) => self.add(name, number, Label::Repeated, None, Some(element)),
            Shape::Option(inner) => self.add(name, number, Label::Optional, None, Some(inner)),
            _ => self.add(name, number, Label::Required, None, Some(shape)),
        }
    }

    /// One of several.
    fn cases<'s>(&mut self, cases: impl Iterator<Item = (&'s str, Option<&'s Shape>)>) {
        let name = self.take("case".to_owned());
        self.proto.oneof_decl.push(OneofDescriptorProto { name: Some(name), options: None });
        for (number, (name, shape)) in (1..).zip(cases) {
            self.add(name, number, Label::Optional, Some(0), shape);
        }
    }

    fn add(&mut self, name: &str, number: i32, label: Label, oneof_index: Option<i32>, shape: Option<&Shape>) {
        let (kind, type_name) = match shape {
            Some(shape) => self.kind(name, shape),
            None => (Type::Message, Some(format!(".{}.{EMPTY}", self.package))),
        };
        let is_packed = label == Label::Repeated && shape.is_some_and(Shape::is_packed);
        let field = FieldDescriptorProto {
            name: Some(self.take(snake(name))),
            number: Some(number),
            label: Some(label.into()),
            r#type: Some(kind.into()),
            type_name,
            oneof_index,
            options: is_packed.then(|| FieldOptions { packed: Some(true), ..FieldOptions::default() }),
            ..FieldDescriptorProto::default()
        };
        self.proto.field.push(field);
    }

    /// The type of one value, and its name if it has one.
    fn kind(&mut self, name: &str, shape: &Shape) -> (Type, Option<String>) {
        let kind = match shape {
            Shape::Bool => Type::Bool,
            Shape::S8 | Shape::S16 | Shape::S32 => Type::Sint32,
            Shape::S64 => Type::Sint64,
            Shape::U8 | Shape::U16 | Shape::U32 | Shape::Char => Type::Uint32,
            Shape::U64 | Shape::Flags(_) => Type::Uint64,
            Shape::F32 => Type::Float,
            Shape::F64 => Type::Double,
            Shape::String => Type::String,
            Shape::Bytes => Type::Bytes,
            Shape::Enum(names) => return (Type::Enum, Some(self.enumeration(name, names))),
            Shape::Handle(_) => return (Type::Message, Some(format!(".{}.{HANDLE}", self.package))),
            _ => return (Type::Message, Some(self.nested(name, shape))),
        };
        (kind, None)
    }

    fn nested(&mut self, name: &str, shape: &Shape) -> String {
        let name = self.take(camel(name));
        let mut nested = Self::inside(&name, &self.full_name, self.package);
        match shape {
            Shape::Record(fields) => {
                for (number, field) in (1..).zip(fields) {
                    nested.field(&field.name, number, &field.shape);
                }
            }
            Shape::Tuple(items) => {
                for (number, item) in (1..).zip(items) {
                    nested.field(&format!("item-{number}"), number, item);
                }
            }
            Shape::Variant(variant) => {
                let names = variant.names.iter().map(AsRef::as_ref);
                nested.cases(names.zip(variant.payloads.iter().map(Option::as_ref)));
            }
            Shape::Result { ok, err } => {
                nested.cases([("ok", ok.as_deref()), ("err", err.as_deref())].into_iter());
            }
            _ => nested.field("value", 1, shape),
        }
        let full_name = nested.full_name;
        self.proto.nested_type.push(nested.proto);
        full_name
    }

    fn enumeration(&mut self, name: &str, names: &Names) -> String {
        let prefix = snake(name);
        let name = self.take(camel(name));
        let value = (0..)
            .zip(names.iter())
            .map(|(number, case)| EnumValueDescriptorProto {
                name: Some(self.take(format!("{prefix}_{}", snake(case)).to_uppercase())),
                number: Some(number),
                options: None,
            })
            .collect();
        let full_name = format!("{}.{name}", self.full_name);
        self.proto.enum_type.push(EnumDescriptorProto {
            name: Some(name),
            value,
            ..EnumDescriptorProto::default()
        });
        full_name
    }
}

/// `[method]row.get-cell` is `method_row_get_cell`.
fn snake(name: &str) -> String {
    words(name).collect::<Vec<_>>().join("_")
}

/// `get-cell` is `GetCell`.
fn camel(name: &str) -> String {
    words(name)
        .map(|word| {
            let mut letters = word.chars();
            letters
                .next()
                .map(|first| first.to_ascii_uppercase())
                .into_iter()
                .chain(letters)
                .collect::<String>()
        })
        .collect()
}

fn words(name: &str) -> impl Iterator<Item = String> {
    name.split(|letter: char| !letter.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
}
