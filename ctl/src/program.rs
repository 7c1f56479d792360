//! The other programs: beside `ctl` itself, or on the path.

use std::env;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// `ctl` itself.
pub fn own() -> Result<PathBuf, Failure> {
    env::current_exe()
        .map_err(|error| Failure::refused(format!("the path of this program is not known: {error}")))
}

/// The program of this name.
pub fn find(name: &str) -> Result<PathBuf, Failure> {
    let beside = own()?.parent().map(Path::to_owned).unwrap_or_default();
    locate(name, &beside, &env::var_os("PATH").unwrap_or_default())
}

fn locate(name: &str, beside: &Path, path: &OsStr) -> Result<PathBuf, Failure> {
    let folders = std::iter::once(beside.to_owned()).chain(env::split_paths(path));
    let found = folders.map(|folder| folder.join(name)).find(|file| is_program(file));
    found.ok_or_else(|| {
        let message = format!("the program `{name}` is neither in {} nor on the PATH", beside.display());
        Failure::refused(message)
            .help("`ctl` starts the programs that lie beside it: install it there, or build it")
            .next(format!("cargo build -p {name}"))
    })
}

fn is_program(file: &Path) -> bool {
    file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_lies_beside_is_taken_before_what_is_on_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let (beside, other) = (folder.path().join("beside"), folder.path().join("other"));
        let path = env::join_paths([&other]).unwrap();
        for folder in [&beside, &other] {
            fs::create_dir(folder).unwrap();
        }
        let error = locate("node-agent", &beside, &path).unwrap_err();
        assert!(error.to_string().contains("the program `node-agent` is neither in"), "{error}");

        let put = |folder: &Path, mode: u32| {
            let file = folder.join("node-agent");
            fs::write(&file, "").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            file
        };
        let there = put(&other, 0o755);
        assert_eq!(locate("node-agent", &beside, &path).unwrap(), there);
        put(&beside, 0o644);
        assert_eq!(locate("node-agent", &beside, &path).unwrap(), there, "no program");
        let here = put(&beside, 0o755);
        assert_eq!(locate("node-agent", &beside, &path).unwrap(), here);
    }
}
