//! What systemd itself says of units: whether it understands every line, and how much a unit leaves open.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;

use super::invocation::Program;
use crate::debian;
use crate::tidy::Finding;
use crate::tidy::tree::File;

const DEBIAN_PACKAGES: [&str; 1] = ["systemd"];
/// The first that judges a unit that is a mere file.
const VERSION_LEAST: u32 = 250;
/// The most a unit may leave open, in tenths of `systemd-analyze security`, which gives 96 to a unit without hardening.
/// What is left of the control plane is the network; the agent makes code besides, and reads `/proc/meminfo`.
const EXPOSURE_MOST: [(Program, u32); 2] = [(Program::ControlPlane, 11), (Program::NodeAgent, 12)];

/// Installs systemd's tools where there are none and Debian has them.
pub fn install() {
    if version().is_err() {
        debian::install(&DEBIAN_PACKAGES);
    }
}

/// systemd's own tools.
#[derive(Debug)]
pub struct Systemd {
    scratch: PathBuf,
}

impl Systemd {
    /// Finds them; else why there are none. What is written goes to `scratch`.
    pub fn find(scratch: &Path) -> Result<Self, String> {
        let version = version()
            .map_err(|why| format!("no systemd-analyze here ({why}); on Debian: apt-get install systemd"))?;
        if version < VERSION_LEAST {
            return Err(format!(
                "systemd {version} is here, and {VERSION_LEAST} is the first that judges mere files"
            ));
        }
        Ok(Self { scratch: scratch.to_owned() })
    }

    /// Every line that systemd does not understand, and every part it misses.
    ///
    /// It looks for the program too, which is not installed here: so it is shown a copy that starts an empty one.
    pub fn verify(&self, file: &File) -> anyhow::Result<Vec<Finding>> {
        let path = self.copy(file)?;
        let mut command = Command::new("systemd-analyze");
        command.args(["verify", "--man=no"]).arg(&path);
        let (is_good, said) = run(command)?;
        // It speaks of other units of this machine as well.
        let lines: Vec<&str> = said.lines().filter(|line| line.contains(file.name())).collect();
        let shown = |line: &str| line.replace(&format!("{}/", self.scratch.display()), "");
        let mut findings: Vec<Finding> = lines
            .iter()
            .map(|line| {
                Finding::new(&file.path, shown(line), "systemd.exec(5) and its neighbours say what there is")
            })
            .collect();
        if !is_good && findings.is_empty() {
            findings.push(Finding::new(&file.path, format!("systemd does not take it: {said}"), "mend it"));
        }
        Ok(findings)
    }

    /// Whether a unit leaves no more open than it needs.
    pub fn judge(&self, file: &File, program: Program) -> anyhow::Result<Vec<Finding>> {
        let most = EXPOSURE_MOST.iter().find(|(found, _)| *found == program).map(|(_, most)| *most);
        let most = most.with_context(|| format!("there is no unit of {}", program.name()))?;
        let path = self.copy(file)?;
        let mut command = Command::new("systemd-analyze");
        command.args(["security", "--no-pager", "--offline=true", &format!("--threshold={most}")]).arg(&path);
        let (is_good, said) = run(command)?;
        if is_good {
            return Ok(Vec::new());
        }
        let overall = said.lines().find(|line| line.contains("exposure level")).unwrap_or(&said).trim();
        Ok(vec![Finding::new(
            &file.path,
            format!("leaves more open than {}.{}: {overall}", most / 10, most % 10),
            format!("`systemd-analyze security --offline=true {}` says what", file.path),
        )])
    }

    /// Whether systemd makes users of a file.
    pub fn verify_users(&self, file: &File) -> anyhow::Result<Vec<Finding>> {
        let path = self.scratch.join(file.name());
        fs::write(&path, &file.text)?;
        let mut command = Command::new("systemd-sysusers");
        command.arg("--dry-run").arg(format!("--root={}", self.scratch.display())).arg(&path);
        let (is_good, said) = run(command)?;
        let problem = || format!("systemd does not take it: {}", said.trim());
        Ok(if is_good {
            Vec::new()
        } else {
            vec![Finding::new(&file.path, problem(), "sysusers.d(5) says how")]
        })
    }

    fn copy(&self, file: &File) -> anyhow::Result<PathBuf> {
        let program = self.scratch.join("program");
        fs::write(&program, "")?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        let stands_in = format!("ExecStart={} ", program.display());
        let text = Program::ALL.iter().fold(file.text.clone(), |text, program| {
            text.replace(&format!("ExecStart={} ", program.path()), &stands_in)
        });
        let path = self.scratch.join(file.name());
        fs::write(&path, text)?;
        Ok(path)
    }
}

fn version() -> Result<u32, String> {
    let mut command = Command::new("systemd-analyze");
    command.arg("--version");
    let (_, said) = run(command).map_err(|error| format!("{error:#}"))?;
    let number = said.split_whitespace().nth(1).and_then(|number| number.parse().ok());
    number.ok_or_else(|| format!("it says `{}`", said.trim()))
}

/// Whether it succeeded, and everything it said.
fn run(mut command: Command) -> anyhow::Result<(bool, String)> {
    // In the words that are looked for.
    command.env("LC_ALL", "C").stdin(Stdio::null());
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("run {name}"))?;
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Ok((output.status.success(), said))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::Systemd;
    use crate::command;
    use crate::deploy::invocation::Program;
    use crate::deploy::is_required;
    use crate::tidy::tree::File;

    const UNIT: &str = include_str!("../../../deploy/systemd/weft-control-plane.service");
    const USERS: &str = include_str!("../../../deploy/systemd/weft.sysusers.conf");

    fn check(test: impl FnOnce(&Systemd)) {
        let scratch = tempfile::tempdir().unwrap();
        match Systemd::find(scratch.path()) {
            Ok(systemd) => test(&systemd),
            Err(why) => {
                assert!(!is_required(), "systemd is required here: {why}");
                command::say(&format!("SKIPPED: {why}"));
            }
        }
    }

    fn unit(text: String) -> File {
        File { path: "deploy/systemd/weft-control-plane.service".to_owned(), text }
    }

    #[track_caller]
    fn problems(systemd: &Systemd, from: &str, to: &str) -> Vec<String> {
        assert!(UNIT.contains(from), "{from}");
        let found = systemd.verify(&unit(UNIT.replace(from, to))).unwrap();
        found.into_iter().map(|finding| finding.problem).collect()
    }

    #[test]
    fn a_unit_with_a_mistake_is_refused() {
        check(|systemd| {
            assert_eq!(systemd.verify(&unit(UNIT.to_owned())).unwrap(), []);
            for (from, to) in [
                ("NoNewPrivileges=", "NoNewPrivilegs="),
                ("ProtectSystem=strict", "ProtectSystem=strikt"),
                ("~@privileged", "~@priviledged"),
                ("TimeoutStopSec=30s", "TimeoutStopSec=soon"),
                ("ExecStart=/usr/bin/control-plane", "ExecStart=/usr/bin/nothing-of-ours"),
                ("SetCredential=join-token:none", "SetCredential=join-token:"),
            ] {
                assert_eq!(problems(systemd, from, to).len(), 1, "{to}");
            }
        });
    }

    #[test]
    fn a_unit_that_leaves_much_open_is_refused() {
        check(|systemd| {
            let judge = |text| systemd.judge(&unit(text), Program::ControlPlane).unwrap();
            assert_eq!(judge(UNIT.to_owned()), []);
            for setting in ["CapabilityBoundingSet=\n", "PrivateUsers=yes\n", "ProtectSystem=strict\n"] {
                assert!(UNIT.contains(setting), "{setting}");
                let found = judge(UNIT.replace(setting, ""));
                assert!(found[0].problem.contains("Overall exposure level"), "{setting}: {found:?}");
            }
        });
    }

    #[test]
    fn users_that_nobody_can_make_are_refused() {
        check(|systemd| {
            let users = |text: &str| {
                let file = File { path: "weft.conf".to_owned(), text: text.to_owned() };
                systemd.verify_users(&file).unwrap()
            };
            assert_eq!(users(USERS), []);
            assert_eq!(users("user weft\n").len(), 1);
        });
    }
}
