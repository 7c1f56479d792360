//! Files of Rust that no target reaches: they look like code, and nothing compiles them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cargo_metadata::Metadata;

use super::Finding;
use super::source::Source;
use super::tree::File;

/// Every file of Rust that is neither the root of a target nor named by a `mod` that is reached.
pub fn check(files: &[File], root: &Path, workspaces: &[&Metadata]) -> Vec<Finding> {
    let roots = workspaces
        .iter()
        .flat_map(|workspace| &workspace.packages)
        .flat_map(|package| &package.targets)
        .filter_map(|target| target.src_path.as_std_path().strip_prefix(root).ok())
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    unreached(files, roots)
}

fn unreached(files: &[File], roots: Vec<String>) -> Vec<Finding> {
    let sources: BTreeMap<&str, &File> =
        files.iter().filter(|file| file.extension() == "rs").map(|file| (file.path.as_str(), file)).collect();
    let mut reached = BTreeSet::new();
    let mut waiting: Vec<(String, bool)> = roots.into_iter().map(|path| (path, true)).collect();
    while let Some((path, is_root)) = waiting.pop() {
        let Some(file) = sources.get(path.as_str()) else { continue };
        if reached.insert(path.clone()) {
            waiting.extend(named(file, is_root, &sources).into_iter().map(|path| (path, false)));
        }
    }
    sources
        .keys()
        .filter(|path| !reached.contains(**path))
        .map(|path| {
            Finding::new(*path, "no `mod` names this file", "name it in the module above it, or delete it")
        })
        .collect()
}

/// The files that a file's `mod` items name.
fn named(file: &File, is_root: bool, sources: &BTreeMap<&str, &File>) -> Vec<String> {
    let source = Source::new(&file.text);
    let blocks = source.modules();
    let (folder, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
    let stem = name.trim_end_matches(".rs");
    let base = if is_root || stem == "mod" { folder.to_owned() } else { format!("{folder}/{stem}") };
    source
        .module_files()
        .into_iter()
        .flat_map(|(at, module)| {
            let inside: String = blocks
                .iter()
                .filter(|block| block.span.contains(&at))
                .map(|block| format!("{}/", block.name))
                .collect();
            ["", "/mod"].map(|end| format!("{base}/{inside}{module}{end}.rs"))
        })
        .filter(|path| sources.contains_key(path.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::unreached;
    use crate::tidy::tree::File;

    #[test]
    fn a_file_that_no_mod_names_is_found() {
        let files: Vec<File> = [
            ("a/src/lib.rs", "mod one; mod two; mod inline { mod deep; } // mod dead;"),
            ("a/src/one.rs", "mod below;"),
            ("a/src/one/below.rs", ""),
            ("a/src/two/mod.rs", "mod beside;"),
            ("a/src/two/beside.rs", ""),
            ("a/src/inline/deep.rs", ""),
            ("a/src/dead.rs", "mod too;"),
            ("a/src/dead/too.rs", ""),
            ("a/tests/it.rs", "mod shared;"),
            ("a/tests/shared/mod.rs", ""),
        ]
        .into_iter()
        .map(|(path, text)| File { path: path.to_owned(), text: text.to_owned() })
        .collect();
        let found = unreached(&files, vec!["a/src/lib.rs".to_owned(), "a/tests/it.rs".to_owned()]);
        let places: Vec<&str> = found.iter().map(|finding| finding.place.as_str()).collect();
        assert_eq!(places, ["a/src/dead.rs", "a/src/dead/too.rs"]);
    }
}
