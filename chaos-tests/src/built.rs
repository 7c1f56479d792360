//! What the tests run: the binaries and the guests, built before.

use std::path::{Path, PathBuf};

/// The binary of this name, beside the running test.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let folder = test.parent().and_then(Path::parent).expect("tests are in the folder `deps`");
    let path = folder.join(name);
    assert!(
        path.exists(),
        "{} is not built: run `cargo xtask test`, or `cargo build -p {name}` first",
        path.display()
    );
    path
}

/// A folder of `examples/`, with its guests built.
pub fn example(name: &str) -> PathBuf {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository").join("examples").join(name);
    assert!(
        folder.join("build").exists(),
        "the guests of examples/{name} are not built: run `cargo xtask test`, or `cargo xtask guests` first"
    );
    folder
}
