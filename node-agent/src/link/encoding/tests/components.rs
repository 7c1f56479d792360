//! Signatures of real components.

use model::interface::InterfaceName;
use wasmtime::component::Component;
use wasmtime::component::types::{self, ComponentFunc, ComponentItem};
use wasmtime::{Config, Engine};
use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{LiftLowerAbi, ManglingAndAbi, Resolve};

use super::super::{HostResources, LinkResources};
use super::*;

/// A resource with its kinds of functions, and every type.
const API: &str = "
    interface api {
        resource connection {
            constructor(name: string);
            execute: func(sql: string, arguments: list<value>) -> result<rows, error>;
            open: static func(path: string) -> result<connection, error>;
        }
        resource blob {}
        variant value { null, integer(s64), real(f64), text(string), bytes(list<u8>) }
        record rows { columns: list<string>, rows: list<list<value>>, last: option<u64> }
        enum error { busy, gone }
        flags rights { read, write }
        swap: func(mine: blob, lent: borrow<connection>) -> tuple<connection, blob>;
        all: func(a: bool, b: s8, c: u8, d: s16, e: u16, f: s32, g: u32, h: s64, i: u64, j: f32, k: f64, l: char,
            m: rights, n: option<option<string>>, o: result, p: result<_, u8>) -> error;
        nothing: func();
    }
    interface other {
        use api.{connection};
        lend: func(to: borrow<connection>);
    }";

fn made(world: &str) -> Vec<u8> {
    component(&format!("package test:made;\n{API}\nworld made {{ {world} }}\n"))
}

fn component(text: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("made.wit", text).unwrap_or_else(|error| panic!("{error:#}\n{text}"));
    let world = resolve.select_world(&[package], Some("made")).unwrap();
    let mut module = dummy_module(&resolve, world, ManglingAndAbi::Legacy(LiftLowerAbi::Sync));
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().encode().unwrap()
}

fn interface(item: Option<types::ComponentExtern<'_>>) -> types::ComponentInstance {
    match item.map(|item| item.ty) {
        Some(ComponentItem::ComponentInstance(instance)) => instance,
        other => panic!("{other:?}"),
    }
}

fn named(interface: &str) -> InterfaceName {
    format!("test:made/{interface}").parse().unwrap()
}

/// The functions of an interface, in the order of their names.
fn functions(engine: &Engine, interface: &types::ComponentInstance) -> Vec<(String, ComponentFunc)> {
    let mut found: Vec<_> = interface
        .exports(engine)
        .filter_map(|(name, item)| match item.ty {
            ComponentItem::ComponentFunc(function) => Some((name.to_owned(), function)),
            _ => None,
        })
        .collect();
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    found
}

#[test]
fn importer_and_exporter_have_the_same_signatures() {
    let engine = Engine::default();
    let imports = Component::new(&engine, made("import api;")).unwrap();
    let exports = Component::new(&engine, made("export api;")).unwrap();
    let imports = interface(imports.component_type().get_import(&engine, "test:made/api"));
    let exports = interface(exports.component_type().get_export(&engine, "test:made/api"));
    let texts = |interface: &types::ComponentInstance| -> Vec<String> {
        let of = (&named("api"), interface);
        let resources = LinkResources::of(&engine, [of], HostResources::default());
        let resources = resources.seen_by(&engine, of, 0);
        assert_eq!(resources.names().collect::<Vec<_>>(), [("blob", 0), ("connection", 1)]);
        let functions = functions(&engine, interface);
        functions
            .iter()
            .map(|(name, function)| format!("{name}: {}", Signature::of(function, &resources).unwrap().text()))
            .collect()
    };
    let value = "variant { null, integer(s64), real(f64), text(string), bytes(list<u8>) }";
    let rows = format!("record {{ columns: list<string>, rows: list<list<{value}>>, last: option<u64> }}");
    let error = "enum { busy, gone }";
    let expected = [
        "[constructor]connection: func(name: string) -> own<connection>".to_owned(),
        format!(
            "[method]connection.execute: func(self: borrow<connection>, sql: string, arguments: list<{value}>) \
             -> result<{rows}, {error}>"
        ),
        format!("[static]connection.open: func(path: string) -> result<own<connection>, {error}>"),
        format!(
            "all: func(a: bool, b: s8, c: u8, d: s16, e: u16, f: s32, g: u32, h: s64, i: u64, j: f32, k: f64, \
             l: char, m: flags {{ read, write }}, n: option<option<string>>, o: result, p: result<_, u8>) -> {error}"
        ),
        "nothing: func()".to_owned(),
        "swap: func(mine: own<blob>, lent: borrow<connection>) -> tuple<own<connection>, own<blob>>".to_owned(),
    ];
    assert_eq!(texts(&imports), expected);
    assert_eq!(texts(&exports), expected);
}

#[test]
fn a_resource_is_an_index_and_whether_it_is_owned() {
    let engine = Engine::default();
    let component = Component::new(&engine, made("import api;")).unwrap();
    let api = interface(component.component_type().get_import(&engine, "test:made/api"));
    let of = (&named("api"), &api);
    let resources = LinkResources::of(&engine, [of], HostResources::default());
    let resources = resources.seen_by(&engine, of, 0);
    let functions = functions(&engine, &api);
    let (_, swap) = functions.iter().find(|(name, _)| name == "swap").unwrap();
    let signature = Signature::of(swap, &resources).unwrap();
    let handles: Vec<_> = signature
        .parameters
        .iter()
        .map(|parameter| match &parameter.shape {
            Shape::Handle(handle) => (handle.resource, handle.owned),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(handles, [(Kind::Provider(0), true), (Kind::Provider(1), false)]);
}

#[test]
fn interfaces_of_one_provider_share_their_resources() {
    let engine = Engine::default();
    let wit = "package test:made;
        interface store {
            resource bucket;
            resource aside;
            record held { by: string, it: bucket }
        }
        interface atomics {
            use store.{bucket as pail};
            resource batch;
            take: func(a: borrow<pail>, b: batch) -> pail;
        }
        interface more {
            use store.{bucket as pail, held};
            keep: func(it: held);
            WHICH
        }
        world made { WHAT store; WHAT atomics; WHAT more; }";
    // An importer that does not use all has no name of its own for the resource.
    for (what, which) in [("import", ""), ("export", "put: func(it: borrow<pail>);")] {
        let component = component(&wit.replace("WHAT", what).replace("WHICH", which));
        let component = Component::new(&engine, component).unwrap();
        let ty = component.component_type();
        let found = ["store", "atomics", "more"].map(|name| {
            let full = named(name).to_string();
            (named(name), interface(ty.get_import(&engine, &full).or_else(|| ty.get_export(&engine, &full))))
        });
        let [store, atomics, more] = found.each_ref().map(|(name, instance)| (name, instance));
        // Exports may come in any order.
        let orders = [[store, atomics, more], [atomics, more, store]];
        for order in &orders[..if what == "export" { 2 } else { 1 }] {
            let resources = LinkResources::of(&engine, order.iter().copied(), HostResources::of(&engine, &ty));
            let index = |of, name: &str| {
                let resources = resources.seen_by(&engine, of, 0);
                resources.names().find(|(found, _)| *found == name).map(|(_, index)| index)
            };
            let bucket = index(store, "bucket");
            assert!(bucket.is_some() && bucket == index(atomics, "pail"), "{what}");
            let texts = |of: (&InterfaceName, &types::ComponentInstance), function: &str| -> Vec<String> {
                let functions = functions(&engine, of.1);
                let (_, found) = functions.iter().find(|(name, _)| name == function).unwrap();
                let text = |owner| {
                    Signature::of(found, &resources.seen_by(&engine, of, owner)).unwrap().text().to_owned()
                };
                // An importer has one way to name them.
                (0..if what == "export" { resources.owners() } else { 1 }).map(text).collect()
            };
            let bucket = "test:made/store#bucket";
            let expected = format!("func(a: borrow<{bucket}>, b: own<batch>) -> own<{bucket}>");
            assert!(texts(atomics, "take").contains(&expected), "{what}");
            let expected = format!("func(it: record {{ by: string, it: own<{bucket}> }})");
            assert!(texts(more, "keep").contains(&expected), "{what}");
        }
    }
}

#[test]
fn streams_of_the_host_are_told_from_the_interface_s_own() {
    let engine = Engine::default();
    let wit = "package test:made;
        package wasi:io@0.2.3 {
            interface streams { resource input-stream; resource output-stream; }
        }
        interface other {
            use wasi:io/streams@0.2.3.{input-stream};
            resource thing;
            pass: func(a: borrow<input-stream>, b: thing) -> input-stream;
        }
        world made { import other; }";
    let component = Component::new(&engine, component(wit)).unwrap();
    let ty = component.component_type();
    let other = interface(ty.get_import(&engine, "test:made/other"));
    let of = (&named("other"), &other);
    let resources = LinkResources::of(&engine, [of], HostResources::of(&engine, &ty));
    let resources = resources.seen_by(&engine, of, 0);
    assert_eq!(resources.names().collect::<Vec<_>>(), [("thing", 0)]);
    let functions = functions(&engine, &other);
    let signature = Signature::of(&functions[0].1, &resources).unwrap();
    let stream = "wasi:io/streams/input-stream";
    let expected = format!("func(a: borrow<{stream}>, b: own<thing>) -> own<{stream}>");
    assert_eq!(signature.text(), expected);
}

/// Why a function of this type, in component text, is refused.
fn refusal(definitions: &str, ty: &str) -> String {
    let mut config = Config::new();
    config.wasm_component_model_async(true);
    config.wasm_component_model_error_context(true);
    config.wasm_component_model_fixed_length_lists(true);
    config.wasm_component_model_map(true);
    let engine = Engine::new(&config).unwrap();
    let text = format!("(component {definitions} (import \"f\" (func {ty})))");
    let component = Component::new(&engine, wat::parse_str(&text).unwrap()).unwrap();
    let Some(ComponentItem::ComponentFunc(function)) =
        component.component_type().get_import(&engine, "f").map(|item| item.ty)
    else {
        panic!("{ty} is no function")
    };
    let empty = wat::parse_str("(component (import \"a\" (instance)))").unwrap();
    let component = Component::new(&engine, empty).unwrap();
    let nothing = interface(component.component_type().get_import(&engine, "a"));
    let of = (&named("nothing"), &nothing);
    let resources = LinkResources::of(&engine, [of], HostResources::default());
    Signature::of(&function, &resources.seen_by(&engine, of, 0)).unwrap_err().to_string()
}

#[test]
fn what_cannot_be_carried_is_refused_by_name() {
    let at = |ty: &str| refusal("", &format!("(param \"a\" u8) (param \"b\" (option {ty}))"));
    let expected = |reason: &str| format!("argument 2, some: {reason}");
    assert_eq!(at("(map string u32)"), expected("a `map` is not carried; use a list of tuples"));
    let reason = "a list of fixed length is not carried; use a list or a tuple";
    assert_eq!(at("(list u8 4)"), expected(reason));
    assert_eq!(at("(stream u8)"), expected("a `stream` is not carried inside a value"));
    assert_eq!(at("(future u8)"), expected("a `future` is not carried inside a value"));
    assert_eq!(at("error-context"), expected("an `error-context` is not carried; use a string"));
    let resource = "(import \"r\" (type $r (sub resource)))";
    let reason = "result, ok: a resource that the interface does not define itself is not carried";
    assert_eq!(refusal(resource, "(result (result (own $r)))"), reason);
}

#[test]
fn types_are_bounded() {
    let nested = |depth: usize| {
        let lists: String =
            (1..depth).map(|level| format!("(type $t{level} (list $t{}))", level - 1)).collect();
        format!("(type $t0 (list string)) {lists}")
    };
    let deep = refusal(&nested(64), "(param \"a\" $t63)");
    assert!(deep.ends_with(": types are nested deeper than 64"), "{deep}");
    let pairs: String =
        (1..14).map(|level| format!("(type $t{level} (tuple $t{0} $t{0}))", level - 1)).collect();
    let pairs = format!("(type $t0 (tuple u8 u8)) {pairs}");
    let wide = refusal(&pairs, "(param \"a\" $t13)");
    assert!(wide.ends_with(": the function has more than 10000 types and names, written out"), "{wide}");
    let name = "a".repeat(129);
    let long = refusal("", &format!("(param \"{name}\" u8)"));
    assert_eq!(long, "argument 1: a name is longer than 128 bytes");
}
