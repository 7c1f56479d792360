//! What a link knows of one function: its types, resolved once, and how its values become bytes.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::digest::Digest;
use model::link::{FLAGS_MAX, NAME_MAX_BYTES, TYPES_DEPTH_MAX, TYPES_MAX};
use sha2::{Digest as _, Sha256};
use wasmtime::component::types::ComponentFunc;
use wasmtime::component::{ResourceType, Type, Val};

use super::decode::Decoder;
use super::encode::Encoder;
use super::error::{Located as _, Step};
use super::guest::{ARGUMENT_CELLS_MAX, Cells, IN_MEMORY, RESULT_CELLS_MAX};
use super::shape::{Field, Handle, Names, Shape, Variant};
use super::{DecodeError, EncodeError, Handles, NoHandles, Refusal, Resources, Unsupported, text};

/// A function as a link carries it.
#[derive(Debug, Clone)]
pub(crate) struct Signature {
    pub(super) parameters: Box<[Field]>,
    pub(super) result: Option<Shape>,
    cells: Option<Cells>,
    text: String,
    digest: Digest,
}

impl Signature {
    /// The signature of a function of an interface with these resources, both of one component.
    pub(crate) fn of(function: &ComponentFunc, resources: &Resources<'_>) -> Result<Self, Unsupported> {
        let mut reader = TypeReader { resources, names: BTreeSet::new(), left: TYPES_MAX };
        let mut parameters = Vec::new();
        for (index, (name, ty)) in function.params().enumerate() {
            let at = || Step::Argument(index + 1);
            let name = reader.name(name).at(at)?;
            parameters.push(Field { name, shape: reader.shape(&ty, TYPES_DEPTH_MAX).at(at)? });
        }
        let results = function.results();
        if results.len() > 1 {
            return Err(Refusal::Results(results.len()).into());
        }
        let mut result = None;
        for ty in results {
            result = Some(reader.shape(&ty, TYPES_DEPTH_MAX).at(|| Step::Result)?);
        }
        Ok(Self::new(function.async_(), parameters.into(), result))
    }

    pub(super) fn new(is_async: bool, parameters: Box<[Field]>, result: Option<Shape>) -> Self {
        let text = text::function(is_async, &parameters, result.as_ref());
        let digest = Digest::from_bytes(Sha256::digest(&text).into());
        let cells = cells(&parameters, result.as_ref());
        Self { parameters, result, cells, text, digest }
    }

    /// How many cells its values take, if they go straight between a guest and a message: if none is a handle, and the
    /// arguments are not too many for cells.
    pub(crate) fn cells(&self) -> Option<Cells> {
        self.cells
    }

    /// Its type, written like WIT. Equal texts mean equal bytes.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The error that this function answers with if something outside of both components fails: the case `name` of its
    /// error type, if that holds nothing or a string; or a string, if its error is one.
    pub(crate) fn error_case(&self, name: &str) -> Option<ErrorCase> {
        let Some(Shape::Result { err: Some(error), .. }) = &self.result else { return None };
        match &**error {
            Shape::String => Some(ErrorCase::Text),
            Shape::Enum(names) => names.position(name).map(|_| ErrorCase::Enum(name.to_owned())),
            Shape::Variant(variant) => {
                let payload = variant.payloads.get(variant.names.position(name)?)?;
                match payload {
                    None => Some(ErrorCase::Variant { name: name.to_owned(), has_text: false }),
                    Some(Shape::String) => Some(ErrorCase::Variant { name: name.to_owned(), has_text: true }),
                    Some(_) => None,
                }
            }
            _ => None,
        }
    }

    /// How many results it has: none or one.
    pub(crate) fn results(&self) -> usize {
        usize::from(self.result.is_some())
    }

    /// The SHA-256 of its text, which both ends compare.
    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    /// Appends the arguments of a call. After an error `out` is as it was.
    pub(crate) fn encode_arguments(
        &self,
        values: &[Val],
        handles: &mut dyn Handles,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let before = out.len();
        let encoded = Encoder::new(handles, out).arguments(&self.parameters, values);
        if encoded.is_err() {
            out.truncate(before);
        }
        encoded
    }

    /// The arguments of a call.
    pub(crate) fn decode_arguments(
        &self,
        bytes: &[u8],
        handles: &mut dyn Handles,
    ) -> Result<Vec<Val>, DecodeError> {
        Decoder::new(handles).arguments(&self.parameters, bytes)
    }

    /// Appends the result of a call, if its type has one. After an error `out` is as it was.
    pub(crate) fn encode_result(
        &self,
        value: Option<&Val>,
        handles: &mut dyn Handles,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let before = out.len();
        let encoded = Encoder::new(handles, out).result(self.result.as_ref(), value);
        if encoded.is_err() {
            out.truncate(before);
        }
        encoded
    }

    /// The result that is this error.
    pub(crate) fn encode_error(&self, error: &ErrorCase, why: &str) -> Result<Vec<u8>, EncodeError> {
        let mut out = Vec::new();
        self.encode_result(Some(&error.value(why)), &mut NoHandles, &mut out)?;
        Ok(out)
    }

    /// The result of a call, if its type has one.
    pub(crate) fn decode_result(
        &self,
        bytes: &[u8],
        handles: &mut dyn Handles,
    ) -> Result<Option<Val>, DecodeError> {
        Decoder::new(handles).result(self.result.as_ref(), bytes)
    }
}

fn cells(parameters: &[Field], result: Option<&Shape>) -> Option<Cells> {
    let arguments = parameters.iter().map(|parameter| parameter.shape.cells()).sum::<Option<usize>>()?;
    let result = match result {
        None => 0,
        Some(shape) => match shape.cells()? {
            cells if cells <= RESULT_CELLS_MAX => cells,
            _ => IN_MEMORY,
        },
    };
    (arguments <= ARGUMENT_CELLS_MAX).then_some(Cells { arguments, result })
}

/// An error of a function's own type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ErrorCase {
    /// A string.
    Text,
    /// A case of an enum.
    Enum(String),
    /// A case of a variant, which may hold a string.
    Variant {
        /// The case.
        name: String,
        /// Whether it holds why.
        has_text: bool,
    },
}

impl ErrorCase {
    /// The function's result, with this error.
    pub(crate) fn value(&self, why: &str) -> Val {
        let text = || Val::String(why.to_owned());
        let error = match self {
            Self::Text => text(),
            Self::Enum(name) => Val::Enum(name.clone()),
            Self::Variant { name, has_text } => Val::Variant(name.clone(), has_text.then(|| Box::new(text()))),
        };
        Val::Result(Err(Some(Box::new(error))))
    }
}

/// Reads wasmtime's types, up to the bounds.
struct TypeReader<'a> {
    resources: &'a Resources<'a>,
    /// One copy of each name, however often its type is used.
    names: BTreeSet<Arc<str>>,
    /// How many types there may still be.
    left: usize,
}

impl TypeReader<'_> {
    /// `depth` is how deep it may still be.
    fn shape(&mut self, ty: &Type, depth: usize) -> Result<Shape, Unsupported> {
        let depth = depth.checked_sub(1).ok_or(Refusal::Depth)?;
        self.left = self.left.checked_sub(1).ok_or(Refusal::Size)?;
        Ok(match ty {
            Type::Bool => Shape::Bool,
            Type::S8 => Shape::S8,
            Type::U8 => Shape::U8,
            Type::S16 => Shape::S16,
            Type::U16 => Shape::U16,
            Type::S32 => Shape::S32,
            Type::U32 => Shape::U32,
            Type::S64 => Shape::S64,
            Type::U64 => Shape::U64,
            Type::Float32 => Shape::F32,
            Type::Float64 => Shape::F64,
            Type::Char => Shape::Char,
            Type::String => Shape::String,
            Type::List(list) => match self.shape(&list.ty(), depth).at(|| Step::Element(1))? {
                Shape::U8 => Shape::Bytes,
                element => Shape::List(Box::new(element)),
            },
            Type::Record(record) => {
                let mut fields = Vec::new();
                for field in record.fields() {
                    let name = self.name(field.name)?;
                    let shape = self.shape(&field.ty, depth).at(|| Step::Field(name.clone()))?;
                    fields.push(Field { name, shape });
                }
                Shape::Record(fields.into())
            }
            Type::Tuple(tuple) => {
                let mut items = Vec::new();
                for (index, item) in tuple.types().enumerate() {
                    items.push(self.shape(&item, depth).at(|| Step::Item(index + 1))?);
                }
                Shape::Tuple(items.into())
            }
            Type::Variant(variant) => {
                let mut names = Vec::new();
                let mut payloads = Vec::new();
                for case in variant.cases() {
                    let name = self.name(case.name)?;
                    payloads.push(self.payload(case.ty.as_ref(), depth).at(|| Step::Case(name.clone()))?);
                    names.push(name);
                }
                Shape::Variant(Variant { names: Names::new(names), payloads: payloads.into() })
            }
            Type::Enum(cases) => Shape::Enum(self.names(cases.names())?),
            Type::Option(option) => Shape::Option(Box::new(self.shape(&option.ty(), depth).at(|| Step::Some)?)),
            Type::Result(result) => Shape::Result {
                ok: self.payload(result.ok().as_ref(), depth).at(|| Step::Ok)?.map(Box::new),
                err: self.payload(result.err().as_ref(), depth).at(|| Step::Err)?.map(Box::new),
            },
            Type::Flags(flags) => {
                let names = flags.names();
                if names.len() > FLAGS_MAX {
                    return Err(Refusal::Flags(names.len()).into());
                }
                Shape::Flags(self.names(names)?)
            }
            Type::Own(resource) => Shape::Handle(self.handle(resource, true)?),
            Type::Borrow(resource) => Shape::Handle(self.handle(resource, false)?),
            // No arm for whatever is new: the next wasmtime shall not compile until somebody has decided.
            Type::Map(_) => return Err(Refusal::Map.into()),
            Type::FixedLengthList(_) => return Err(Refusal::FixedLengthList.into()),
            Type::ErrorContext => return Err(Refusal::ErrorContext.into()),
            Type::Stream(_) => return Err(Refusal::Stream.into()),
            Type::Future(_) => return Err(Refusal::Future.into()),
        })
    }

    fn payload(&mut self, ty: Option<&Type>, depth: usize) -> Result<Option<Shape>, Unsupported> {
        ty.map(|ty| self.shape(ty, depth)).transpose()
    }

    fn handle(&self, resource: &ResourceType, owned: bool) -> Result<Handle, Unsupported> {
        let (resource, name) = self.resources.find(resource).ok_or(Refusal::ForeignResource)?;
        Ok(Handle { resource, name, owned })
    }

    /// Names are counted like types: an enum of many cases is as large as a variant of them.
    fn names<'n>(&mut self, names: impl Iterator<Item = &'n str>) -> Result<Names, Unsupported> {
        Ok(Names::new(names.map(|name| self.name(name)).collect::<Result<_, _>>()?))
    }

    fn name(&mut self, name: &str) -> Result<Arc<str>, Unsupported> {
        self.left = self.left.checked_sub(1).ok_or(Refusal::Size)?;
        if name.len() > NAME_MAX_BYTES {
            return Err(Refusal::Name.into());
        }
        if let Some(known) = self.names.get(name) {
            return Ok(known.clone());
        }
        let name: Arc<str> = name.into();
        self.names.insert(name.clone());
        Ok(name)
    }
}
