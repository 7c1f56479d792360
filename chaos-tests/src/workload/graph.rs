//! The smallest graph that can be deployed. Its key is its name, its value stands in its configuration.

use std::collections::BTreeMap;

use proto::weft::graph::v1::Artifact;

use crate::api::{Api, digest, shown};
use crate::wait::{SOON, until};

/// A component with one function.
const COMPONENT: &str = r#"(component
  (core module $module (func (export "count") (result i32) i32.const 0))
  (core instance $instance (instantiate $module))
  (func $count (result u32) (canon lift (core func $instance "count")))
  (instance $stock (export "count" (func $count)))
  (export "acme:shop/stock@1.0.0" (instance $stock)))"#;
const FILE: &str = "./store.wasm";
const NAMESPACE: &str = "default";
/// Where the value begins in a manifest, and where it ends.
const BEFORE: &str = "{value: ";
const BEHIND: char = '}';

/// What stands for the graph's component.
#[derive(Debug)]
pub(super) struct Graph {
    artifact: Artifact,
}

impl Graph {
    /// With its component at the members.
    pub(super) async fn uploaded(apis: &[Api]) -> Self {
        let bytes = wat::parse_str(COMPONENT).expect("the text is a component");
        let artifact = Artifact { digest: digest(&bytes), size: bytes.len() as u64 };
        until("the component is stored", SOON, async || {
            match apis[0].put(&artifact.digest, bytes.len(), 0, &bytes).await {
                Ok(put) if put.complete => Ok(()),
                Ok(put) => Err(format!("{put:?}")),
                Err(status) => Err(shown(&status)),
            }
        })
        .await;
        Self { artifact }
    }

    /// The manifest's artifacts.
    pub(super) fn artifacts(&self) -> BTreeMap<String, Artifact> {
        BTreeMap::from([(FILE.to_owned(), self.artifact.clone())])
    }
}

/// The manifest of a graph with this value.
pub(super) fn manifest(key: &str, value: &str) -> String {
    format!(
        "version: 1\nnamespace: {NAMESPACE}\ngraph: {key}\n\
         components: {{store: {{source: {FILE}, config: {BEFORE}{value}{BEHIND}}}}}\n"
    )
}

/// The value in a manifest.
pub(super) fn value_of(manifest: &str) -> &str {
    let value = manifest.split_once(BEFORE).and_then(|(_, rest)| rest.split_once(BEHIND));
    value.unwrap_or_else(|| panic!("no value in {manifest}")).0
}

/// The name of a graph, as the control plane says it.
pub(super) fn full_name(key: &str) -> String {
    format!("{NAMESPACE}/{key}")
}

/// The key of a graph whose name the control plane says.
pub(super) fn key_of(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(_, key)| key)
}

/// All keys.
pub(super) fn keys(count: u64) -> impl Iterator<Item = String> {
    (0..count).map(key)
}

/// One of them.
pub(super) fn key(number: u64) -> String {
    format!("k{number}")
}
