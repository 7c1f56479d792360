//! What a program runs on: its clock and its disk, as a test wants them.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/hardware/faults.c");

/// The hardware of one program; well at the beginning.
#[derive(Debug)]
pub struct Hardware {
    library: PathBuf,
    switches: PathBuf,
    file: File,
}

impl Hardware {
    /// Hardware for so many programs, with files in `folder`; why there are none where no C compiler is.
    pub fn make(folder: &Path, count: usize) -> Result<Vec<Self>, String> {
        let library = folder.join("hardware.so");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).args([SOURCE, "-ldl"]);
        let output = compiler.output().map_err(|error| format!("there is no C compiler, `cc`: {error}"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let one = |number: usize| {
            let switches = folder.join(format!("hardware-{number}"));
            let file = File::options().write(true).create(true).truncate(true).open(&switches)?;
            file.set_len(16)?;
            Ok(Self { library: library.clone(), switches, file })
        };
        let all: Result<Vec<Self>, std::io::Error> = (1..=count).map(one).collect();
        all.map_err(|error| error.to_string())
    }

    /// What a program on it has in its environment.
    pub fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [("LD_PRELOAD", self.library.clone()), ("HARDWARE_FAULTS", self.switches.clone())]
    }

    /// Puts its clock ahead, or back, by so many seconds.
    pub fn clock_is_off_by(&self, seconds: i64) {
        self.file.write_all_at(&seconds.to_ne_bytes(), 0).expect("a file can be written");
    }

    /// Lets each sync of its disk take so much longer; those under way too.
    pub fn syncs_take(&self, ms: i64) {
        self.file.write_all_at(&ms.to_ne_bytes(), 8).expect("a file can be written");
    }
}
