//! A manifest and the files it names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::built;

/// A manifest and the files it names.
#[derive(Debug, Clone)]
pub struct Bundle {
    folder: PathBuf,
    manifest: String,
}

impl Bundle {
    /// `examples/{example}/{file}`.
    pub fn example(example: &str, file: &str) -> Self {
        let folder = built::example(example);
        let path = folder.join(file);
        let manifest =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { folder, manifest }
    }

    /// A manifest whose files are in a folder.
    pub fn of(folder: PathBuf, manifest: String) -> Self {
        Self { folder, manifest }
    }

    /// The graph of an example.
    pub fn graph(example: &str) -> Self {
        Self::example(example, "graph.yaml")
    }

    /// With one part of the text replaced, which must be there.
    #[must_use]
    pub fn with(mut self, part: &str, by: &str) -> Self {
        assert!(self.manifest.contains(part), "{part:?} is not in the manifest:\n{}", self.manifest);
        self.manifest = self.manifest.replace(part, by);
        self
    }

    /// With the component whose file ends so bound to a node.
    #[must_use]
    pub fn on(self, file: &str, node: &str) -> Self {
        self.with(file, &format!("{file}, placement: {{require: {{node: {node}}}}}"))
    }

    /// The text.
    pub fn manifest(&self) -> &str {
        &self.manifest
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The bytes of each file, by the name that the manifest gives it.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let paths: Vec<String> = match graph::manifest::parse(self.manifest.as_bytes()) {
            Ok(manifest) => manifest.sources().iter().map(|source| source.path.clone()).collect(),
            Err(_) => match graph::policy_manifest::parse(self.manifest.as_bytes()) {
                Ok(policy) => policy.sources().iter().map(|source| source.path.clone()).collect(),
                Err(wrong) => panic!("neither a graph nor a policy: {wrong:?}"),
            },
        };
        let read = |path: String| {
            let file = self.folder.join(&path);
            let bytes = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            (path, bytes)
        };
        paths.into_iter().map(read).collect()
    }

    /// Writes it and its files to a folder, for tools that read files; returns the manifest's path.
    pub fn write(&self, folder: &Path, name: &str) -> PathBuf {
        for (path, bytes) in self.files() {
            let file = folder.join(path);
            std::fs::create_dir_all(file.parent().expect("a file has a folder")).expect("a folder can be made");
            std::fs::write(file, bytes).expect("a file can be written");
        }
        let path = folder.join(name);
        std::fs::write(&path, &self.manifest).expect("a manifest can be written");
        path
    }
}
