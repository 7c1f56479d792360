//! Components, and the manifests that name them.

use std::collections::BTreeMap;

use proto::weft::graph::v1::Artifact;
use sha2::{Digest as _, Sha256};
use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{LiftLowerAbi, ManglingAndAbi, Resolve};

const STOCK: &str = "count: func(item: string) -> u32;";
/// What someone made of it without a new version.
const OTHER_STOCK: &str = "count: func(item: string, colour: u8) -> u32;";

/// A component of a world, with bodies that trap.
fn component(stock: &str, world: &str) -> Vec<u8> {
    let package = format!(
        "package acme:shop@1.0.0 {{\n  interface stock {{ {stock} }}\n  \
         interface sales {{ sell: func(item: string) -> bool; }}\n}}"
    );
    let http = "package wasi:http@0.2.0 { interface incoming-handler { handle: func(); } }";
    let text = format!("package test:made;\n{package}\n{http}\nworld made {{\n{world}\n}}\n");
    let mut resolve = Resolve::default();
    let package = resolve.push_str("made.wit", &text).unwrap();
    let world = resolve.select_world(&[package], Some("made")).unwrap();
    let mut module = dummy_module(&resolve, world, ManglingAndAbi::Legacy(LiftLowerAbi::Sync));
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().encode().unwrap()
}

/// Knows how many there are.
pub(crate) fn store() -> Vec<u8> {
    component(STOCK, "export acme:shop/stock@1.0.0;")
}

/// Sells what the store has.
pub(crate) fn front() -> Vec<u8> {
    component(STOCK, "import acme:shop/stock@1.0.0; export acme:shop/sales@1.0.0;")
}

/// Stands between the two.
pub(crate) fn proxy() -> Vec<u8> {
    component(STOCK, "import acme:shop/stock@1.0.0; export acme:shop/stock@1.0.0;")
}

/// Stands between two others, whose stock it takes for this one.
pub(crate) fn odd_proxy() -> Vec<u8> {
    component(OTHER_STOCK, "import acme:shop/stock@1.0.0; export acme:shop/stock@1.0.0;")
}

/// Takes requests of the ingress, as far as its name says.
pub(crate) fn web() -> Vec<u8> {
    component(STOCK, "export wasi:http/incoming-handler@0.2.0;")
}

/// The artifact that some bytes are.
pub(crate) fn artifact(bytes: &[u8]) -> Artifact {
    let digest = Sha256::digest(bytes);
    Artifact { digest: format!("sha256:{}", hex::encode(digest)), size: bytes.len() as u64 }
}

/// The artifacts of [`shop`] and [`site`], under the names they give them.
pub(crate) fn shop_artifacts() -> BTreeMap<String, Artifact> {
    BTreeMap::from([
        ("./front.wasm".to_owned(), artifact(&front())),
        ("./store.wasm".to_owned(), artifact(&store())),
        ("./web.wasm".to_owned(), artifact(&web())),
    ])
}

/// A graph that answers at one path of every host.
pub(crate) fn site(name: &str, path: &str) -> String {
    format!(
        "version: 1\ngraph: {name}\ningress:\n  - {{http: {{path: {path}}}, to: web}}\n\
         components:\n  web: {{source: ./web.wasm}}\n"
    )
}

/// A graph of two components, one of which has a setting.
pub(crate) fn shop(name: &str, setting: &str) -> String {
    format!(
        "version: 1\ngraph: {name}\ncomponents:\n  front: {{source: ./front.wasm, config: {{setting: \"{setting}\"}}}}\n  \
         store: {{source: ./store.wasm}}\n"
    )
}

/// A graph of one component that no policy below concerns.
pub(crate) fn lonely(name: &str) -> String {
    format!("version: 1\ngraph: {name}\ncomponents:\n  store: {{source: ./store.wasm}}\n")
}

/// A policy that puts `component` on every way to the stock.
pub(crate) fn policy(name: &str, component: &str, priority: u32) -> String {
    format!(
        "version: 1\npolicy: {name}\nmatch: {{interface: \"acme:shop/stock@1\"}}\ninterpose:\n  - component: {component}\n\
         order: {{phase: inspect, priority: {priority}}}\n"
    )
}

/// The artifacts of policies.
pub(crate) fn policy_artifacts() -> BTreeMap<String, Artifact> {
    BTreeMap::from([
        ("./proxy.wasm".to_owned(), artifact(&proxy())),
        ("./odd.wasm".to_owned(), artifact(&odd_proxy())),
    ])
}
