//! JSON Schemas of the manifests, from the types that parse them.

use schemars::{Schema, SchemaGenerator, generate::SchemaSettings};

use crate::manifest::shape::GraphFile;
use crate::policy_manifest::PolicyFile;

fn generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12().into_generator()
}

/// The schema of `graph.yaml`.
pub fn graph_schema() -> Schema {
    generator().into_root_schema_for::<GraphFile>()
}

/// The schema of `policy.yaml`.
pub fn policy_schema() -> Schema {
    generator().into_root_schema_for::<PolicyFile>()
}
