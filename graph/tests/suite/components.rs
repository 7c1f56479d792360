//! Bytes that are no component, or none that a node would run: rows 34–45 and 53.

use std::fmt::Write as _;

use graph::interface::{self, ReadError};
use model::unit::ByteSize;
use wasm_encoder::{
    CodeSection, Component, ComponentSectionId, ComponentType, ComponentTypeSection, Function, FunctionSection,
    Instruction, Module, ModuleSection, NestedComponentSection, TypeSection, ValType,
};

use crate::support::{component, data, expect};

const PACKAGES: &str = "package acme:db@1.0.0 {
  interface store {
    resource row { name: func() -> string; }
    record key { id: u32, tags: list<string> }
    variant error { missing, io(string) }
    get: func(key: key) -> result<row, error>;
    put: func(row: borrow<row>) -> option<tuple<u8, char>>;
  }
}";
const WORLD: &str = "import acme:db/store@1.0.0; export acme:db/store@1.0.0;";

fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// A component around a module.
fn around(module: &Module) -> Vec<u8> {
    let mut component = Component::new();
    component.section(&ModuleSection(module));
    component.finish()
}

/// A module of `count` functions with this body.
fn functions(count: u32, body: &Function) -> Module {
    let mut types = TypeSection::new();
    types.ty().function([], []);
    let (mut functions, mut code) = (FunctionSection::new(), CodeSection::new());
    for _ in 0..count {
        functions.function(0);
        code.function(body);
    }
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&code);
    module
}

fn body(locals: u32, instructions: usize) -> Function {
    let mut function = Function::new([(locals, ValType::I32)]);
    (0..instructions).for_each(|_| {
        function.instruction(&Instruction::Nop);
    });
    function.instruction(&Instruction::End);
    function
}

fn nested(depth: usize) -> Component {
    let mut component = Component::new();
    if depth > 0 {
        component.section(&NestedComponentSection(&nested(depth - 1)));
    }
    component
}

/// A component with a type of a component with a type of a component …
fn nested_types(depth: usize) -> Vec<u8> {
    let mut inner = ComponentType::new();
    for _ in 0..depth {
        let mut outer = ComponentType::new();
        outer.ty().component(&inner);
        inner = outer;
    }
    let mut types = ComponentTypeSection::new();
    types.component(&inner);
    let mut component = Component::new();
    component.section(&types);
    component.finish()
}

/// A component whose one exported function takes a list of lists of … of `u8`.
fn deep_type(depth: usize) -> Vec<u8> {
    let mut text = "(component\n(type $t0 (list u8))\n".to_owned();
    for level in 1..depth {
        writeln!(text, "(type $t{level} (list $t{}))", level - 1).unwrap();
    }
    let last = depth - 1;
    write!(
        text,
        "(component $c (import \"f\" (func $f (param \"x\" $t{last}))) (export \"f\" (func $f)))
         (import \"acme:db/deep@1.0.0\" (instance $i (export \"f\" (func (param \"x\" $t{last})))))
         (export \"acme:db/deep@1.0.0\" (instance $i)))"
    )
    .unwrap();
    wat(&text)
}

/// An instance whose functions' types are tuples of tuples: small as bytes, huge when written out.
fn wide_type(depth: usize) -> Vec<u8> {
    let mut text = "(component\n(type $t0 (tuple u8 u8))\n".to_owned();
    for level in 1..depth {
        writeln!(text, "(type $t{level} (tuple $t{0} $t{0}))", level - 1).unwrap();
    }
    let last = depth - 1;
    text.push_str("(import \"acme:db/wide@1.0.0\" (instance $i\n");
    for number in 0..64 {
        writeln!(text, "(export \"f{number}\" (func (param \"x\" $t{last})))").unwrap();
    }
    text.push_str("))\n(export \"acme:db/wide@1.0.0\" (instance $i)))");
    wat(&text)
}

fn with_section(id: ComponentSectionId, length: &[u8]) -> Vec<u8> {
    let mut bytes = Component::new().finish();
    bytes.push(id as u8);
    bytes.extend_from_slice(length);
    bytes
}

fn module_with(text: &str) -> Vec<u8> {
    wat(&format!("(component (core module {text}))"))
}

fn cases() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("34 zero bytes", Vec::new()),
        ("34 magic only", b"\0asm".to_vec()),
        ("34 another file", b"#!/bin/sh\n".to_vec()),
        ("35 core module", wat("(module)")),
        ("36 empty component", Component::new().finish()),
        ("37 text", b"(component)".to_vec()),
        ("37 text behind a comment", b"\n ;; a component\n(component)".to_vec()),
        ("39 section length", with_section(ComponentSectionId::Type, &[0xff, 0xff, 0xff, 0xff, 0x0f])),
        ("39 section length, 10 bytes", with_section(ComponentSectionId::Type, &[0xff; 10])),
        ("39 module length", with_section(ComponentSectionId::CoreModule, &[0xff, 0xff, 0xff, 0xff, 0x0f])),
        ("40 64 MiB + 1", vec![0; (64 << 20) + 1]),
        ("41 gzip", vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]),
        ("41 zip", b"PK\x03\x04\x14\0\0\0\x08\0".to_vec()),
        ("41 zstd", vec![0x28, 0xb5, 0x2f, 0xfd, 0x24, 0, 1, 0]),
        ("41 xz", vec![0xfd, b'7', b'z', b'X', b'Z', 0, 0, 4]),
        ("41 bzip2", b"BZh91AY&SY".to_vec()),
        ("42 100,000 functions", around(&functions(100_000, &body(0, 0)))),
        ("42 a function of 2 MiB", around(&functions(1, &body(0, 2 << 20)))),
        ("42 a function of 128 KiB and 50,000 locals", around(&functions(1, &body(50_000, 128 << 10)))),
        ("43 200 components in each other", nested(200).finish()),
        ("43 100,000 components in each other, cut", deep_cut(100_000)),
        ("43 a type 200 deep", deep_type(200)),
        ("43 5,000 types of components in each other", nested_types(5_000)),
        ("43 a type of 2^16 parts, 64 times", wide_type(16)),
        ("43 a type of 2^11 parts, 64 times", wide_type(11)),
        ("44 memory64", module_with("(memory i64 1)")),
        ("44 shared memory", module_with("(memory 1 2 shared)")),
        ("44 atomics", module_with("(memory 1) (func (drop (i32.atomic.load (i32.const 0))))")),
        ("44 GC", module_with("(type (struct))")),
        ("44 function references", module_with("(type $f (func)) (func (param (ref $f)))")),
        ("44 exceptions", module_with("(tag)")),
        ("44 tail calls", module_with("(func $f (return_call $f))")),
        ("44 two memories", module_with("(memory 1) (memory 1)")),
        (
            "44 relaxed SIMD",
            module_with(
                "(func (param v128) (result v128) (i8x16.relaxed_swizzle (local.get 0) (local.get 0)))",
            ),
        ),
        (
            "44 wide arithmetic",
            module_with("(func (result i64 i64) (i64.mul_wide_s (i64.const 1) (i64.const 1)))"),
        ),
        ("44 custom page sizes", module_with("(memory 1 (pagesize 1))")),
        ("44 stack switching", module_with("(type $f (func)) (type $c (cont $f))")),
        (
            "44 async lift",
            wat("(component
                (core module $m (func (export \"f\") (result i32) i32.const 0)
                    (func (export \"cb\") (param i32 i32 i32) (result i32) i32.const 0))
                (core instance $i (instantiate $m))
                (func (export \"f\") async
                    (canon lift (core func $i \"f\") async (callback (core func $i \"cb\")))))"),
        ),
        ("44 stream type", wat("(component (type (stream u8)))")),
        ("44 error-context", wat("(component (type (list error-context)))")),
        ("45 256 MiB of memory", module_with("(memory 4096)")),
        ("45 4 GiB of memory", module_with("(memory 65536)")),
        ("53 precompiled", b"\x7fELF\x02\x01\x01\0wasmtime".to_vec()),
        (
            "a plain function",
            wat("(component (core module $m (func (export \"f\")))
            (core instance $i (instantiate $m)) (func (export \"f\") (canon lift (core func $i \"f\"))))"),
        ),
        (
            "an import without a package",
            wat("(component (import \"store\" (instance)) (instance $i) (export \"a:b/c\" (instance $i)))"),
        ),
        ("an export without a package", wat("(component (instance $i) (export \"store\" (instance $i)))")),
        (
            "one without a package among the exports",
            wat("(component (instance $i) (export \"store\" (instance $i)) (export \"a:b/c\" (instance $i)))"),
        ),
        ("not valid", module_with("(func (result i32))")),
        ("a WIT package", wit_package()),
        ("bytes behind the end", [component(PACKAGES, WORLD), vec![0xff; 3]].concat()),
    ]
}

/// Headers of components in each other, without their ends.
fn deep_cut(depth: usize) -> Vec<u8> {
    let mut bytes = Component::new().finish();
    for _ in 0..depth {
        bytes.push(ComponentSectionId::Component as u8);
        bytes.extend_from_slice(&[0xff, 0xff, 0xff, 0x0f]);
        bytes.extend_from_slice(&Component::new().finish());
    }
    bytes
}

fn wit_package() -> Vec<u8> {
    let mut resolve = wit_parser::Resolve::default();
    let package = resolve.push_str("a.wit", "package a:b; interface c { f: func(); }").unwrap();
    wit_component::encode(&resolve, package).unwrap()
}

fn show(name: &str, found: &Result<interface::ComponentType, ReadError>) -> String {
    match found {
        Ok(found) => format!("{name}: {} imports, {} exports\n", found.imports.len(), found.exports.len()),
        Err(error) => {
            let at = error.offset.map_or_else(String::new, |at| format!(" at byte {at}"));
            format!("{name}: {}{at}: {error}\n", error.reason)
        }
    }
}

#[test]
fn refused_by_name() {
    let mut shown = String::new();
    for (name, bytes) in cases() {
        let started = std::time::Instant::now();
        shown.push_str(&show(name, &interface::read(&bytes)));
        assert!(started.elapsed().as_secs() < 20, "{name} took {:?}", started.elapsed());
    }
    expect(&data("components.expect"), &shown);
}

/// Row 38.
#[test]
fn cut_at_every_byte() {
    let whole = component(PACKAGES, WORLD);
    let type_of_whole = interface::read(&whole).unwrap();
    for end in 0..whole.len() {
        match interface::read(&whole[..end]) {
            // What follows the last export are custom sections only.
            Ok(found) => assert_eq!(found, type_of_whole, "cut at {end}"),
            Err(error) => {
                let expected = if end < 8 { &["not_wasm"][..] } else { &["malformed", "no_exports"][..] };
                assert!(expected.contains(&error.reason), "cut at {end}: {error:?}");
                if error.reason == "malformed" {
                    assert!(error.offset.is_some_and(|at| at <= end), "cut at {end}: {error:?}");
                }
            }
        }
    }
}

#[test]
fn the_memory_of_an_instance_at_its_start_is_that_of_all_its_modules() {
    let text = r#"(component
        (core module $a (memory 3) (func (export "f")))
        (component (core module (memory 2)))
        (core module (import "m" "m" (memory 9)) (func))
        (core instance $i (instantiate $a))
        (func $f (canon lift (core func $i "f")))
        (instance $api (export "f" (func $f)))
        (export "acme:db/store@1.0.0" (instance $api)))"#;
    assert_eq!(interface::read(&wat(text)).unwrap().memory_at_start, ByteSize(5 << 16));
}

#[test]
fn the_interfaces_are_read() {
    let found = interface::read(&component(PACKAGES, WORLD)).unwrap();
    let mut shown = String::new();
    for (what, interfaces) in [("import", &found.imports), ("export", &found.exports)] {
        for interface in interfaces {
            writeln!(shown, "{what} {}", interface.name).unwrap();
            for function in &interface.functions {
                writeln!(shown, "    {}: {function}", function.name).unwrap();
            }
        }
    }
    expect(&data("interfaces.expect"), &shown);
}
