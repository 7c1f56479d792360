//! The schemas in `docs/schema`: generated, and at one with the parser.

use std::path::Path;

use graph::schema::{graph_schema, policy_schema};
use schemars::Schema;
use serde_json::Value;

use crate::support::{expect, files};

fn check(schema: &Schema, name: &str, folder: &str) {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema");
    if crate::support::is_update() {
        std::fs::create_dir_all(&docs).unwrap();
    }
    let shown = serde_json::to_string_pretty(schema.as_value()).unwrap() + "\n";
    expect(&docs.join(name), &shown);
    jsonschema::draft202012::meta::validate(schema.as_value()).unwrap();
    let validator = jsonschema::validator_for(schema.as_value()).unwrap();
    let (mut taken, mut refused) = (0, 0);
    for path in files(folder, &["yaml"]) {
        // What is no YAML, or not one document of it, is no matter of a schema.
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let Ok(value) = serde_saphyr::from_str::<Value>(&text) else { continue };
        let is_good = path.file_name().unwrap().to_str().unwrap().starts_with("good-");
        if is_good {
            let mistakes: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
            assert!(mistakes.is_empty(), "{}: {mistakes:?}", path.display());
            taken += 1;
        } else if !validator.is_valid(&value) {
            refused += 1;
        }
    }
    assert!(taken > 0 && refused > 0, "{taken} taken, {refused} refused");
}

#[test]
fn of_graphs() {
    check(&graph_schema(), "graph.schema.json", "manifests");
}

#[test]
fn of_policies() {
    check(&policy_schema(), "policy.schema.json", "policies");
}

/// Editors complete what the schema describes: a field without a description is half a field.
#[test]
fn every_field_is_described() {
    for schema in [graph_schema(), policy_schema()] {
        let root = schema.as_value();
        let definitions = root.get("$defs").and_then(Value::as_object);
        for (name, object) in definitions.into_iter().flatten().chain([(&"the root".to_owned(), root)]) {
            for (field, property) in object.get("properties").and_then(Value::as_object).into_iter().flatten() {
                assert!(property.get("description").is_some(), "{field} of {name}");
            }
        }
    }
}
