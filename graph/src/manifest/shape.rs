//! The shape of `graph.yaml`: parser, JSON Schema and documentation in one.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Spanned;

/// A graph of WebAssembly components: the components, the links between their imports and exports, and how requests
/// reach them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct GraphFile {
    /// The version of this format: 1.
    #[schemars(with = "u32")]
    pub version: Spanned<u32>,
    /// The graph's name, unique in its namespace.
    #[schemars(with = "String")]
    pub graph: Spanned<String>,
    /// The namespace; `default` if left out.
    #[schemars(with = "Option<String>")]
    pub namespace: Option<Spanned<String>>,
    /// What policies select on.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub labels: BTreeMap<String, Spanned<String>>,
    /// `inferred` (an import with one possible provider is linked to it) or `explicit` (every link is written out).
    #[schemars(with = "Option<String>")]
    pub wiring: Option<Spanned<String>>,
    /// How requests reach the graph.
    #[serde(default)]
    #[schemars(with = "Vec<IngressEntry>")]
    pub ingress: Vec<Spanned<IngressEntry>>,
    /// The components by name.
    #[schemars(with = "BTreeMap<String, ComponentEntry>")]
    pub components: BTreeMap<String, Spanned<ComponentEntry>>,
    /// What the node's host offers to this graph, by name; components and capabilities share their names.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, CapabilityEntry>")]
    pub capabilities: BTreeMap<String, Spanned<CapabilityEntry>>,
    /// The links that are written out.
    #[serde(default)]
    #[schemars(with = "Vec<LinkEntry>")]
    pub links: Vec<Spanned<LinkEntry>>,
}

/// One way in.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct IngressEntry {
    /// HTTP requests.
    pub http: Option<HttpEntry>,
    /// The component that exports `wasi:http/incoming-handler`.
    #[schemars(with = "String")]
    pub to: Spanned<String>,
}

/// Which HTTP requests.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct HttpEntry {
    /// The host; any that no other route names if left out.
    #[schemars(with = "Option<String>")]
    pub host: Option<Spanned<String>>,
    /// The path prefix, by whole segments; `/` if left out.
    #[schemars(with = "Option<String>")]
    pub path: Option<Spanned<String>>,
}

/// A component.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ComponentEntry {
    /// The wasm file, relative to the manifest.
    #[schemars(with = "String")]
    pub source: Spanned<String>,
    /// `sha256:` and 64 hex digits; the file must have it.
    #[schemars(with = "Option<String>")]
    pub digest: Option<Spanned<String>>,
    /// What policies select on, besides the graph's labels.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub labels: BTreeMap<String, Spanned<String>>,
    /// Read by the component through `wasi:config/store`.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
    /// Read by the component through `fermyon:spin/variables`.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// Where its HTTP requests may go: origins, as in `https://api.example.com`. Everything else is refused.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub egress: Vec<Spanned<String>>,
    /// How much it may use.
    #[serde(default)]
    pub limits: LimitsEntry,
}

/// How much a component may use.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct LimitsEntry {
    /// Memory of one instance: `64Ki` to `128Mi`; `64Mi` if left out.
    #[schemars(with = "Option<String>")]
    pub memory: Option<Spanned<String>>,
    /// The longest one call may take: up to `10m`; `10s` if left out.
    #[schemars(with = "Option<String>")]
    pub deadline: Option<Spanned<String>>,
}

/// A capability.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct CapabilityEntry {
    /// `sqlite`.
    #[serde(rename = "type")]
    #[schemars(with = "String")]
    pub kind: Spanned<String>,
    /// The name a guest opens; `default` if left out.
    #[schemars(with = "Option<String>")]
    pub database: Option<Spanned<String>>,
    /// An SQL script, relative to the manifest, that is run once when the database is created.
    #[schemars(with = "Option<String>")]
    pub seed: Option<Spanned<String>>,
}

/// A link.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct LinkEntry {
    /// The importing component.
    #[schemars(with = "String")]
    pub from: Spanned<String>,
    /// Its import: `ns:pkg/interface@version`; the version may be cut (`@2`) or left out.
    #[schemars(with = "String")]
    pub interface: Spanned<String>,
    /// The component or capability that satisfies it.
    #[schemars(with = "String")]
    pub to: Spanned<String>,
}
