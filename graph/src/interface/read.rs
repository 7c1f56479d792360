//! From bytes to interfaces: what is not a component that a node would run is refused here, with a typed reason.

use model::graph::{ARTIFACT_MAX, MEMORY_MAX};
use model::unit::ByteSize;
use wasmparser::{BinaryReaderError, FunctionBody, Parser, Payload, Validator, WasmFeatures};
use wit_parser::decoding::{DecodedWasm, decode};

use super::ComponentType;
use super::convert::Reader;
use super::nesting;

/// Modules and components inside each other.
const NESTING_MAX: usize = 16;
/// Functions of one component: this many would keep the compiler busy for minutes.
const FUNCTIONS_MAX: usize = 100_000;
/// Bytes of one function's body: interpreters and generated parsers stay below, and register allocation is worse than
/// linear in it.
const BODY_MAX_BYTES: usize = 1 << 20;
/// Bytes times locals of one function: each local may be live in each block, so that a body of modest size with many
/// locals costs as much as a huge one.
const BODY_MAX_COST: u64 = 1 << 30;
/// Bytes of a page of wasm memory.
const PAGE_BYTES: u64 = 64 << 10;
/// Pages of all memories of one component at its start.
const MEMORY_MAX_PAGES: u64 = MEMORY_MAX.0 / PAGE_BYTES;
/// Imports and exports of one component.
const INTERFACES_MAX: usize = 1_000;
/// The characters of a message, which may carry names of the component.
const MESSAGE_MAX_CHARS: usize = 400;

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

pub(super) fn refuse<T>(reason: &'static str, message: impl Into<String>) -> Result<T, ReadError> {
    Err(ReadError { reason, message: bounded(&message.into()), offset: None })
}

/// A message on one line, cut where it is too long.
fn bounded(message: &str) -> String {
    let mut shown: String =
        message.chars().take(MESSAGE_MAX_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if message.chars().nth(MESSAGE_MAX_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

impl From<BinaryReaderError> for ReadError {
    fn from(error: BinaryReaderError) -> Self {
        let text = error.message();
        let reason = if is_about_nesting(text) {
            "nesting"
        } else if text.contains("type size exceeds") {
            "type_too_large"
        } else if is_about_a_feature(text) {
            "feature"
        } else {
            "malformed"
        };
        let message = bounded(&format!("not a component that can run: {text}"));
        Self { reason, message, offset: Some(error.offset()) }
    }
}

/// Reads the interfaces of a component.
pub fn read(bytes: &[u8]) -> Result<ComponentType, ReadError> {
    check_magic(bytes)?;
    let memory_at_start = check_bounds(bytes)?;
    Validator::new_with_features(features()).validate_all(bytes)?;
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
    if world.imports.len() + world.exports.len() > INTERFACES_MAX {
        return refuse(
            "type_too_large",
            format!("a component has at most {INTERFACES_MAX} imports and exports"),
        );
    }
    let reader = Reader::new(&resolve);
    let imports = reader.imports(world.imports.values())?;
    let exports = reader.exports(world.exports.values())?;
    if exports.is_empty() {
        return refuse("no_exports", "the component exports no interface, so nothing could call it");
    }
    Ok(ComponentType { imports, exports, memory_at_start })
}

fn check_magic(bytes: &[u8]) -> Result<(), ReadError> {
    if bytes.len() as u64 > ARTIFACT_MAX.0 {
        return refuse("component_too_large", format!("a component has at most {ARTIFACT_MAX}"));
    }
    match bytes {
        [0x1f, 0x8b, ..]
        | [b'P', b'K', 3, 4, ..]
        | [0x28, 0xb5, 0x2f, 0xfd, ..]
        | [0xfd, b'7', b'z', b'X', b'Z', 0, ..]
        | [b'B', b'Z', b'h', b'1'..=b'9', ..] => {
            refuse("compressed", "this is a compressed file: give the component itself")
        }
        [0x7f, b'E', b'L', b'F', ..] => refuse(
            "precompiled",
            "this is precompiled code, which is never accepted: give the component itself",
        ),
        _ if is_text(bytes) => refuse("not_binary", "this is the text format: give the binary component"),
        _ if !bytes.starts_with(b"\0asm") || bytes.len() < 8 => refuse("not_wasm", "this is not a wasm binary"),
        [_, _, _, _, _, _, 0, 0, ..] => refuse(
            "core_module",
            "this is a core module, not a component: make one of it with `wasm-tools component new`",
        ),
        _ => Ok(()),
    }
}

fn is_text(bytes: &[u8]) -> bool {
    let text = bytes.trim_ascii_start();
    text.starts_with(b"(") || text.starts_with(b";;")
}

/// What costs too much to compile or run is refused before anything is built of it. Returns the memory at start.
fn check_bounds(bytes: &[u8]) -> Result<ByteSize, ReadError> {
    let mut functions = 0;
    let mut pages = 0_u64;
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::CodeSectionEntry(body) => {
                functions += 1;
                check_body(&body, functions)?;
            }
            Payload::MemorySection(memories) => {
                for memory in memories {
                    pages = pages.saturating_add(memory?.initial);
                    if pages > MEMORY_MAX_PAGES {
                        return refuse(
                            "memory_limit",
                            format!("a component has at most {MEMORY_MAX} at its start"),
                        );
                    }
                }
            }
            Payload::ComponentTypeSection(types) => {
                let range = types.range();
                let section = bytes.get(range.clone()).unwrap_or_default();
                if !nesting::fits(section, range.start, NESTING_MAX)? {
                    return refuse("nesting", format!("types are nested at most {NESTING_MAX} deep"));
                }
            }
            _ => {}
        }
        if depth > NESTING_MAX {
            return refuse("nesting", format!("components are nested at most {NESTING_MAX} deep"));
        }
    }
    Ok(ByteSize(pages * PAGE_BYTES))
}

fn check_body(body: &FunctionBody<'_>, functions: usize) -> Result<(), ReadError> {
    if functions >= FUNCTIONS_MAX {
        return refuse("compile_limit", format!("a component has fewer than {FUNCTIONS_MAX} functions"));
    }
    let bytes = body.range().len();
    if bytes > BODY_MAX_BYTES {
        let message = format!("a function has at most {BODY_MAX_BYTES} bytes, one here has {bytes}");
        return refuse("compile_limit", message);
    }
    let mut locals = 0_u64;
    for group in body.get_locals_reader()? {
        locals = locals.saturating_add(u64::from(group?.0));
    }
    if locals.saturating_mul(bytes as u64) > BODY_MAX_COST {
        let message = format!("a function of {bytes} bytes with {locals} locals takes too long to compile");
        return refuse("compile_limit", message);
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

/// The validator has words and no codes for what it misses.
fn is_about_a_feature(text: &str) -> bool {
    const WORDS: &[&str] =
        &["support", "proposal", "feature", "enabled", "disabled", "require", "multiple memories"];
    WORDS.iter().any(|word| text.contains(word))
}

fn is_about_nesting(text: &str) -> bool {
    ["nesting", "depth", "too deep"].iter().any(|word| text.contains(word))
}
