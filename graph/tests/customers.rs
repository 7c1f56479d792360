//! The founding example, from its manifests and the components on disk to a linked graph.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "tests read their data")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use graph::link::{Linked, PolicyInForce, Types, link};
use graph::{interface, manifest, policy_manifest};
use model::digest::Digest;
use model::graph::Artifact;
use model::id::Generation;

fn example(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/customers").join(path)
}

/// A digest that is as good as any here: told apart by the file's number.
fn artifacts(paths: &[&str]) -> (BTreeMap<String, Artifact>, Types) {
    let mut artifacts = BTreeMap::new();
    let mut types = Types::new();
    for (number, path) in (1_u8..).zip(paths) {
        let bytes = std::fs::read(example(path))
            .unwrap_or_else(|error| panic!("{path}: {error}: build the guests with `cargo xtask guests`"));
        let artifact = Artifact { digest: Digest::from_bytes([number; 32]), size: bytes.len() as u64 };
        artifacts.insert((*path).to_owned(), artifact);
        if path.ends_with(".wasm") {
            types.insert(artifact.digest, Arc::new(interface::read(&bytes).unwrap()));
        }
    }
    (artifacts, types)
}

fn customers(policies: bool) -> Linked {
    let (artifacts, types) = artifacts(&["./build/app.wasm", "./seed.sql", "./build/pii-proxy.wasm"]);
    let manifest = manifest::parse(&std::fs::read(example("graph.yaml")).unwrap()).unwrap();
    let policy = policy_manifest::parse(&std::fs::read(example("pii-firewall.yaml")).unwrap()).unwrap();
    let spec = policy.resolve(&artifacts).unwrap();
    graph::link::check_policy(&spec, &types).unwrap();
    let in_force = [PolicyInForce { generation: Generation(7), spec }];
    let spec = manifest.resolve(&artifacts).unwrap();
    link(manifest.key(), &spec, &types, if policies { &in_force } else { &[] }).unwrap()
}

fn ways(linked: &Linked) -> Vec<String> {
    let graph = &linked.graph;
    let own = graph.links.iter().filter(|link| graph::plan::is_own(graph, link));
    own.filter(|link| link.interface.package == "spin").map(|link| graph::plan::way(graph, link)).collect()
}

#[test]
fn the_application_reaches_the_database_itself_without_the_policy() {
    assert_eq!(ways(&customers(false)), ["app -> crm-db"]);
}

#[test]
fn the_policy_stands_between_the_application_and_the_database() {
    let linked = customers(true);
    assert_eq!(ways(&linked), ["app -> [pii-firewall] -> crm-db"]);
    assert_eq!(linked.graph.policies.len(), 1);
    let verdicts: Vec<String> = linked
        .graph
        .links
        .iter()
        .find(|link| link.from.as_str() == "app--pii-firewall" && link.interface.package == "spin")
        .unwrap()
        .functions
        .iter()
        .map(|function| format!("{}: {}", function.name, function.verdict))
        .collect();
    assert_eq!(
        verdicts,
        [
            "[method]connection.execute: remotable with a lease (resource connection)",
            "[static]connection.open: remotable with a lease (resource connection)",
        ]
    );
}

#[test]
fn linking_the_same_twice_gives_the_same() {
    assert_eq!(customers(true), customers(true));
}
