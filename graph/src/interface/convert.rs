//! From WIT as it was decoded to interfaces by structure, within a budget: what is small as bytes may be huge written out.

use std::cell::Cell;
use std::collections::BTreeSet;

use model::interface::InterfaceName;
use wit_parser::{
    Function, Handle, InterfaceId, Resolve, Type as WitType, TypeDefKind, TypeId, TypeOwner, WorldItem,
};

use super::Interface;
use super::read::{ReadError, refuse};
use super::types::{FunctionType, Resource, Type};

/// How deep a type may be.
const TYPE_DEPTH_MAX: usize = 100;
/// The parts of all types of a component, written out.
const TYPE_PARTS_MAX: usize = 100_000;

pub(super) struct Reader<'a> {
    resolve: &'a Resolve,
    /// What is left of [`TYPE_PARTS_MAX`].
    parts_left: Cell<usize>,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(resolve: &'a Resolve) -> Self {
        Self { resolve, parts_left: Cell::new(TYPE_PARTS_MAX) }
    }

    /// What a component imports: all of it has to be linked.
    pub(super) fn imports<'b>(
        &self,
        items: impl Iterator<Item = &'b WorldItem>,
    ) -> Result<Vec<Interface>, ReadError> {
        self.interfaces(items, "import")
    }

    /// What a component exports under a name that a link can give. Tools that start a language's runtime at build time
    /// leave what they did it with behind, as an instance of its own that nobody calls.
    pub(super) fn exports<'b>(
        &self,
        items: impl Iterator<Item = &'b WorldItem>,
    ) -> Result<Vec<Interface>, ReadError> {
        let is_named = |item: &&WorldItem| match item {
            WorldItem::Interface { id, .. } => self.resolve.id_of(*id).is_some(),
            WorldItem::Function(_) | WorldItem::Type { .. } => true,
        };
        self.interfaces(items.filter(is_named), "export")
    }

    fn interfaces<'b>(
        &self,
        items: impl Iterator<Item = &'b WorldItem>,
        what: &str,
    ) -> Result<Vec<Interface>, ReadError> {
        let mut interfaces = Vec::new();
        for item in items {
            match item {
                WorldItem::Interface { id, .. } => interfaces.push(self.interface(*id, what)?),
                WorldItem::Function(function) => {
                    return refuse(
                        "not_supported_yet",
                        format!(
                            "{what} `{}` is a plain function: only interfaces are supported yet",
                            function.name
                        ),
                    );
                }
                WorldItem::Type { .. } => {}
            }
        }
        Ok(interfaces)
    }

    fn name(&self, id: InterfaceId) -> Option<InterfaceName> {
        self.resolve.id_of(id)?.parse().ok()
    }

    fn interface(&self, id: InterfaceId, what: &str) -> Result<Interface, ReadError> {
        let Some(name) = self.name(id) else {
            return refuse(
                "not_supported_yet",
                format!("an {what} has an interface without a package name: that is not supported yet"),
            );
        };
        let mut uses = BTreeSet::new();
        let interface = &self.resolve.interfaces[id];
        let is_types_only = interface.functions.is_empty() && self.has_no_resources(id)?;
        let functions = interface
            .functions
            .values()
            .map(|function| self.function(id, function, &mut uses))
            .collect::<Result<_, _>>()?;
        Ok(Interface { name, functions, uses: uses.into_iter().collect(), is_types_only })
    }

    /// Whether none of an interface's types is a resource or has a handle in it.
    fn has_no_resources(&self, id: InterfaceId) -> Result<bool, ReadError> {
        let types = &self.resolve.interfaces[id].types;
        let mut uses = BTreeSet::new();
        for found in types.values() {
            if matches!(self.resolve.types[*found].kind, TypeDefKind::Resource) {
                return Ok(false);
            }
            self.defined(id, *found, &mut uses, 0)?;
        }
        // Handles are of one of its own, which were looked for, or of another interface's.
        Ok(uses.is_empty())
    }

    fn function(
        &self,
        id: InterfaceId,
        function: &Function,
        uses: &mut BTreeSet<InterfaceName>,
    ) -> Result<FunctionType, ReadError> {
        self.spend(1)?;
        let mut parameters = Vec::new();
        for parameter in &function.params {
            parameters.push((parameter.name.clone(), self.convert(id, &parameter.ty, uses, 0)?));
        }
        let result = function.result.as_ref().map(|result| self.convert(id, result, uses, 0)).transpose()?;
        let is_async = function.kind.is_async();
        Ok(FunctionType { name: function.name.clone(), is_async, parameters, result })
    }

    /// Takes parts from what a component may have.
    fn spend(&self, parts: usize) -> Result<(), ReadError> {
        let Some(left) = self.parts_left.get().checked_sub(parts) else {
            let message = format!("the types of a component have at most {TYPE_PARTS_MAX} parts, written out");
            return refuse("type_too_large", message);
        };
        self.parts_left.set(left);
        Ok(())
    }

    fn convert(
        &self,
        home: InterfaceId,
        wit: &WitType,
        uses: &mut BTreeSet<InterfaceName>,
        depth: usize,
    ) -> Result<Type, ReadError> {
        if depth > TYPE_DEPTH_MAX {
            return refuse("nesting", format!("types are at most {TYPE_DEPTH_MAX} deep"));
        }
        self.spend(1)?;
        let name = match wit {
            WitType::Id(id) => return self.defined(home, *id, uses, depth),
            WitType::Bool => "bool",
            WitType::U8 => "u8",
            WitType::U16 => "u16",
            WitType::U32 => "u32",
            WitType::U64 => "u64",
            WitType::S8 => "s8",
            WitType::S16 => "s16",
            WitType::S32 => "s32",
            WitType::S64 => "s64",
            WitType::F32 => "f32",
            WitType::F64 => "f64",
            WitType::Char => "char",
            WitType::String => "string",
            WitType::ErrorContext => "error-context",
        };
        Ok(Type::Primitive(name))
    }

    fn defined(
        &self,
        home: InterfaceId,
        id: TypeId,
        uses: &mut BTreeSet<InterfaceName>,
        depth: usize,
    ) -> Result<Type, ReadError> {
        let mut inner = |wit: &WitType| self.convert(home, wit, uses, depth + 1);
        Ok(match &self.resolve.types[id].kind {
            TypeDefKind::Type(alias) => inner(alias)?,
            TypeDefKind::List(element) => Type::List(Box::new(inner(element)?)),
            TypeDefKind::FixedLengthList(element, length) => {
                Type::FixedLengthList(Box::new(inner(element)?), *length)
            }
            TypeDefKind::Map(key, value) => Type::Map(Box::new(inner(key)?), Box::new(inner(value)?)),
            TypeDefKind::Option(some) => Type::Option(Box::new(inner(some)?)),
            TypeDefKind::Result(result) => {
                let ok = result.ok.as_ref().map(&mut inner).transpose()?.map(Box::new);
                Type::Result(ok, result.err.as_ref().map(&mut inner).transpose()?.map(Box::new))
            }
            TypeDefKind::Tuple(tuple) => {
                Type::Tuple(tuple.types.iter().map(&mut inner).collect::<Result<_, _>>()?)
            }
            TypeDefKind::Record(record) => {
                let field = |field: &wit_parser::Field| Ok((field.name.clone(), inner(&field.ty)?));
                Type::Record(record.fields.iter().map(field).collect::<Result<_, ReadError>>()?)
            }
            TypeDefKind::Variant(variant) => {
                self.spend(variant.cases.len())?;
                let case = |case: &wit_parser::Case| {
                    Ok((case.name.clone(), case.ty.as_ref().map(&mut inner).transpose()?))
                };
                Type::Variant(variant.cases.iter().map(case).collect::<Result<_, ReadError>>()?)
            }
            TypeDefKind::Enum(cases) => {
                self.spend(cases.cases.len())?;
                Type::Enum(cases.cases.iter().map(|case| case.name.clone()).collect())
            }
            TypeDefKind::Flags(flags) => {
                self.spend(flags.flags.len())?;
                Type::Flags(flags.flags.iter().map(|flag| flag.name.clone()).collect())
            }
            TypeDefKind::Stream(element) => {
                Type::Stream(element.as_ref().map(inner).transpose()?.map(Box::new))
            }
            TypeDefKind::Future(value) => Type::Future(value.as_ref().map(inner).transpose()?.map(Box::new)),
            TypeDefKind::Handle(Handle::Own(resource)) => Type::Own(self.resource(home, *resource, uses)?),
            TypeDefKind::Handle(Handle::Borrow(resource)) => {
                Type::Borrow(self.resource(home, *resource, uses)?)
            }
            // A resource named as a type stands for an owned handle.
            TypeDefKind::Resource => Type::Own(self.resource(home, id, uses)?),
            TypeDefKind::Unknown => return refuse("malformed", "a type of the interface is not defined"),
        })
    }

    /// Follows `use` to the interface that defines the resource.
    fn resource(
        &self,
        home: InterfaceId,
        mut id: TypeId,
        uses: &mut BTreeSet<InterfaceName>,
    ) -> Result<Resource, ReadError> {
        while let TypeDefKind::Type(WitType::Id(next)) = &self.resolve.types[id].kind {
            id = *next;
        }
        let found = &self.resolve.types[id];
        let name = found.name.clone().unwrap_or_default();
        let interface = match found.owner {
            TypeOwner::Interface(owner) if owner == home => None,
            TypeOwner::Interface(owner) => self.name(owner),
            TypeOwner::World(_) | TypeOwner::None => {
                return refuse(
                    "not_supported_yet",
                    format!("resource `{name}` is defined outside an interface"),
                );
            }
        };
        uses.extend(interface.clone());
        Ok(Resource { interface, name })
    }
}

/// An interface of a package given as text.
pub(crate) fn interface_of_package(
    resolve: &Resolve,
    package: wit_parser::PackageId,
    name: &str,
) -> Option<Interface> {
    let id = *resolve.packages[package].interfaces.get(name)?;
    Reader::new(resolve).interface(id, "export").ok()
}
