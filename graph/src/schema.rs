//! JSON Schemas of the manifests, from the types that parse them: parser, editor help and documentation are one.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

use crate::manifest::shape::GraphFile;
use crate::policy_manifest::PolicyFile;

pub(crate) static GRAPH: LazyLock<Schema> = LazyLock::new(schema_of::<GraphFile>);
pub(crate) static POLICY: LazyLock<Schema> = LazyLock::new(schema_of::<PolicyFile>);

/// The schema of `graph.yaml`.
pub fn graph_schema() -> Schema {
    GRAPH.clone()
}

/// The schema of `policy.yaml`.
pub fn policy_schema() -> Schema {
    POLICY.clone()
}

fn schema_of<T: JsonSchema>() -> Schema {
    let settings = SchemaSettings::draft2020_12().with_transform(RecursiveTransform(without_null));
    settings.into_generator().into_root_schema_for::<T>()
}

/// A field that may be left out need not be `null` as well.
fn without_null(schema: &mut Schema) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = &types[..] {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(options)) = schema.get("anyOf") {
        let others: Vec<&Value> = options.iter().filter(|option| **option != json!({"type": "null"})).collect();
        if let [Value::Object(only)] = others[..] {
            let only = only.clone();
            schema.remove("anyOf");
            schema.ensure_object().extend(only);
        }
    }
    if [json!(null), json!({}), json!([])].iter().any(|empty| schema.get("default") == Some(empty)) {
        schema.remove("default");
    }
}
