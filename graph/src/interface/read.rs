//! From bytes to interfaces: what is not a component that a node would run is refused here, with a typed reason.

use std::collections::BTreeSet;

use model::graph::ARTIFACT_MAX;
use model::interface::InterfaceName;
use wasmparser::{Parser, Payload, Validator, WasmFeatures};
use wit_parser::decoding::{DecodedWasm, decode};
use wit_parser::{
    Function, Handle, InterfaceId, Resolve, Type as WitType, TypeDefKind, TypeId, TypeOwner, WorldItem,
};

use super::types::{FunctionType, Resource, Type};
use super::{ComponentType, Interface};

/// Modules and components inside each other.
const NESTING_MAX: usize = 16;
/// Functions of one component: more would keep the compiler busy for minutes.
const FUNCTIONS_MAX: usize = 100_000;
/// Bytes of one function's body; register allocation is worse than linear in it.
const BODY_MAX_BYTES: usize = 4 << 20;
/// Pages of one memory at start: 128 MiB.
const MEMORY_MAX_PAGES: u64 = 2_048;
/// How deep a type may be.
const TYPE_DEPTH_MAX: usize = 100;

/// Why bytes are not a component that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ReadError {
    /// A stable word: `core_module`, `malformed`, `feature`.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
    /// The byte it is at.
    pub offset: Option<usize>,
}

fn refuse<T>(reason: &'static str, message: impl Into<String>) -> Result<T, ReadError> {
    Err(ReadError { reason, message: message.into(), offset: None })
}

/// Reads the interfaces of a component.
pub fn read(bytes: &[u8]) -> Result<ComponentType, ReadError> {
    check_magic(bytes)?;
    check_bounds(bytes)?;
    let mut validator = Validator::new_with_features(features());
    validator.validate_all(bytes).map_err(|error| {
        let text = error.message().to_owned();
        let reason = if is_about_a_feature(&text) { "feature" } else { "malformed" };
        ReadError {
            reason,
            message: format!("not a component that can run: {text}"),
            offset: Some(error.offset()),
        }
    })?;
    let (resolve, world) = match decode(bytes) {
        Ok(DecodedWasm::Component(resolve, world)) => (resolve, world),
        Ok(DecodedWasm::WitPackage(..)) => {
            return refuse("not_component", "this is a WIT package, not a component");
        }
        Err(error) => {
            return refuse("malformed", format!("the component's interface cannot be read: {error:#}"));
        }
    };
    let world = &resolve.worlds[world];
    let reader = Reader { resolve: &resolve };
    let imports = reader.interfaces(world.imports.values(), "import")?;
    let exports = reader.interfaces(world.exports.values(), "export")?;
    if exports.is_empty() {
        return refuse("no_exports", "the component exports no interface, so nothing could call it");
    }
    Ok(ComponentType { imports, exports })
}

fn check_magic(bytes: &[u8]) -> Result<(), ReadError> {
    if bytes.len() as u64 > ARTIFACT_MAX.0 {
        return refuse("component_too_large", format!("a component has at most {ARTIFACT_MAX}"));
    }
    match bytes {
        [0x1f, 0x8b, ..] | [b'P', b'K', 3, 4, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            refuse("compressed", "this is a compressed file: give the component itself")
        }
        [0x7f, b'E', b'L', b'F', ..] => refuse(
            "precompiled",
            "this is precompiled code, which is never accepted: give the component itself",
        ),
        [b'(', ..] | [b';', ..] => refuse("not_binary", "this is the text format: give the binary component"),
        _ if !bytes.starts_with(b"\0asm") || bytes.len() < 8 => refuse("not_wasm", "this is not a wasm binary"),
        [_, _, _, _, _, _, 0, 0, ..] => refuse(
            "core_module",
            "this is a core module, not a component: make one of it with `wasm-tools component new`",
        ),
        _ => Ok(()),
    }
}

/// What costs too much to compile or run is refused before anything is built of it.
fn check_bounds(bytes: &[u8]) -> Result<(), ReadError> {
    let mut functions = 0;
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        let malformed = |error: wasmparser::BinaryReaderError| ReadError {
            reason: "malformed",
            message: format!("the binary is malformed: {}", error.message()),
            offset: Some(error.offset()),
        };
        match payload.map_err(malformed)? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::CodeSectionEntry(body) => {
                functions += 1;
                if body.range().len() > BODY_MAX_BYTES || functions > FUNCTIONS_MAX {
                    return refuse(
                        "compile_limit",
                        format!(
                            "a component has at most {FUNCTIONS_MAX} functions of at most {BODY_MAX_BYTES} bytes each"
                        ),
                    );
                }
            }
            Payload::MemorySection(memories) => {
                for memory in memories {
                    if memory.map_err(malformed)?.initial > MEMORY_MAX_PAGES {
                        return refuse("memory_limit", "a memory has at most 128Mi at its start");
                    }
                }
            }
            _ => {}
        }
        if depth > NESTING_MAX {
            return refuse("nesting", format!("components are nested at most {NESTING_MAX} deep"));
        }
    }
    Ok(())
}

/// What the nodes' engines accept, and nothing else.
fn features() -> WasmFeatures {
    let mut features = WasmFeatures::empty();
    features.insert(WasmFeatures::MUTABLE_GLOBAL);
    features.insert(WasmFeatures::SATURATING_FLOAT_TO_INT);
    features.insert(WasmFeatures::SIGN_EXTENSION);
    features.insert(WasmFeatures::REFERENCE_TYPES);
    features.insert(WasmFeatures::MULTI_VALUE);
    features.insert(WasmFeatures::BULK_MEMORY);
    features.insert(WasmFeatures::SIMD);
    features.insert(WasmFeatures::FLOATS);
    features.insert(WasmFeatures::EXTENDED_CONST);
    features.insert(WasmFeatures::COMPONENT_MODEL);
    features.insert(WasmFeatures::GC_TYPES);
    features
}

fn is_about_a_feature(text: &str) -> bool {
    ["support", "proposal", "feature", "not enabled", "threads must be enabled"]
        .iter()
        .any(|word| text.contains(word))
}

struct Reader<'a> {
    resolve: &'a Resolve,
}

impl Reader<'_> {
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
        let functions = &self.resolve.interfaces[id].functions;
        let functions = functions
            .values()
            .map(|function| self.function(id, function, &mut uses))
            .collect::<Result<_, _>>()?;
        Ok(Interface { name, functions, uses: uses.into_iter().collect() })
    }

    fn function(
        &self,
        id: InterfaceId,
        function: &Function,
        uses: &mut BTreeSet<InterfaceName>,
    ) -> Result<FunctionType, ReadError> {
        let mut parameters = Vec::new();
        for parameter in &function.params {
            parameters.push((parameter.name.clone(), self.convert(id, &parameter.ty, uses, 0)?));
        }
        let result = function.result.as_ref().map(|result| self.convert(id, result, uses, 0)).transpose()?;
        let is_async = function.kind.is_async();
        Ok(FunctionType { name: function.name.clone(), is_async, parameters, result })
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
                let case = |case: &wit_parser::Case| {
                    Ok((case.name.clone(), case.ty.as_ref().map(&mut inner).transpose()?))
                };
                Type::Variant(variant.cases.iter().map(case).collect::<Result<_, ReadError>>()?)
            }
            TypeDefKind::Enum(cases) => Type::Enum(cases.cases.iter().map(|case| case.name.clone()).collect()),
            TypeDefKind::Flags(flags) => {
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
    Reader { resolve }.interface(id, "export").ok()
}
