//! Whether our programs take the command lines of `deploy/`: they are asked, so that nothing here keeps a second list of
//! flags.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, ensure};

use super::invocation::{Invocation, Program};
use crate::binaries;
use crate::tidy::Finding;

/// What tells a program where its state is.
const DATA_DIR: &str = "WEFT_DATA_DIR";
/// What tells it where its token is.
const TOKEN_FILE: &str = "WEFT_JOIN_TOKEN_FILE";
/// How long a program may take to stop where it finds no state and no token.
const TRIAL_PATIENCE: Duration = Duration::from_secs(20);
/// The pause between two looks at whether it has stopped.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How much of what a program says is shown.
const SHOWN_LINES: usize = 6;

/// A program that is built, and what it says of itself.
#[derive(Debug)]
pub struct Built {
    path: PathBuf,
    /// The flag of each variable, where it has one.
    variables: BTreeMap<String, Option<String>>,
}

impl Built {
    /// Finds a program and asks what it takes; else why it cannot be asked.
    pub fn find(root: &Path, target_dir: &Path, program: Program) -> Result<Self, String> {
        let path = binaries::folder(target_dir).join(program.name());
        let name = program.name();
        let built = fs::metadata(&path).and_then(|found| found.modified());
        let built = built
            .map_err(|_| format!("{name} is not built; `cargo build --workspace --bins --examples` does"))?;
        let source = root.join(name).join("src");
        let changed = newest(&source).map_err(|error| format!("{}: {error}", source.display()))?;
        if built < changed {
            return Err(format!(
                "{name} is older than its source; `cargo build --workspace --bins --examples` mends it"
            ));
        }
        Self::ask(path).map_err(|error| format!("{error:#}"))
    }

    /// Asks a program what it takes.
    fn ask(path: PathBuf) -> anyhow::Result<Self> {
        let output = run(Command::new(&path).arg("--help"))?;
        ensure!(output.status == Some(0), "{} --help: {}", path.display(), output.said);
        Ok(Self { path, variables: variables(&output.said) })
    }

    /// Whether the program takes a command line and its variables, and does not stop for want of another.
    pub fn check(&self, invocation: &Invocation) -> anyhow::Result<Vec<Finding>> {
        let name = invocation.program.name();
        let wrong =
            |problem: String| Finding::new(&invocation.place, problem, format!("`{name} --help` lists all"));
        let unknown: Vec<Finding> = invocation
            .variables
            .keys()
            .filter(|variable| !self.variables.contains_key(*variable))
            .map(|variable| wrong(format!("{name} reads no {variable}")))
            .collect();
        if !unknown.is_empty() {
            return Ok(unknown);
        }
        let output = run(Command::new(&self.path).args(self.line(invocation)).arg("--help"))?;
        if output.status != Some(0) {
            return Ok(vec![wrong(format!(
                "{name} does not take `{}`: {}",
                shown_line(invocation),
                output.shown()
            ))]);
        }
        // With --init it would make a cluster here and now.
        let starts =
            invocation.program != Program::Ctl && !invocation.arguments.iter().any(|word| word == "--init");
        if invocation.is_whole && starts {
            return Ok(self.try_out(invocation)?.map(wrong).into_iter().collect());
        }
        Ok(Vec::new())
    }

    /// The arguments with the variables as flags before them: a flag's value is looked at even where help is asked for, a
    /// variable's is not.
    fn line(&self, invocation: &Invocation) -> Vec<String> {
        let flags = invocation.variables.iter().filter_map(|(variable, value)| {
            let flag = self.variables.get(variable)?.as_ref()?;
            Some(format!("{flag}={value}"))
        });
        flags.chain(invocation.arguments.iter().cloned()).collect()
    }

    /// Starts the program where there is neither state nor token: it must get as far as that, past every setting.
    fn try_out(&self, invocation: &Invocation) -> anyhow::Result<Option<String>> {
        let scratch = tempfile::tempdir()?;
        let mut command = Command::new(&self.path);
        command.args(&invocation.arguments).env_clear().envs(&invocation.variables);
        command.env(DATA_DIR, scratch.path().join("data"));
        if invocation.variables.contains_key(TOKEN_FILE) {
            command.env(TOKEN_FILE, scratch.path().join("token"));
        }
        let output = run(&mut command)?;
        let scratch = scratch.path().display().to_string();
        let is_past_settings = output.status == Some(1) && output.said.contains(&scratch);
        Ok((!is_past_settings).then(|| format!("does not start so: {}", output.shown())))
    }
}

/// How a program ended.
struct Output {
    /// Nothing where it had to be ended.
    status: Option<i32>,
    said: String,
}

impl Output {
    fn shown(&self) -> String {
        let end = match self.status {
            Some(status) => format!("exit code {status}"),
            None => format!("not ended within {} s", TRIAL_PATIENCE.as_secs()),
        };
        let said: Vec<&str> =
            self.said.lines().map(str::trim).filter(|line| !line.is_empty()).take(SHOWN_LINES).collect();
        format!("{}; {end}", said.join(" / "))
    }
}

/// Runs a program that ends by itself, with the environment it is given and nothing of this one's.
fn run(command: &mut Command) -> anyhow::Result<Output> {
    let path = PathBuf::from(command.get_program());
    let variables: Vec<_> =
        command.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect();
    let said = tempfile::tempfile()?;
    command.env_clear().envs(variables).stdin(Stdio::null());
    command.stdout(said.try_clone()?).stderr(said.try_clone()?);
    let mut child = command.spawn().with_context(|| format!("run {}", path.display()))?;
    let deadline = Instant::now() + TRIAL_PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status.code();
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            break None;
        }
        std::thread::sleep(LOOK_EVERY);
    };
    let mut text = String::new();
    let mut said = said;
    std::io::Seek::rewind(&mut said)?;
    said.read_to_string(&mut text)?;
    Ok(Output { status, said: text })
}

fn shown_line(invocation: &Invocation) -> String {
    let variables = invocation.variables.iter().map(|(name, value)| format!("{name}={value}"));
    variables.chain(invocation.arguments.iter().cloned()).collect::<Vec<_>>().join(" ")
}

/// The variables in a help text, `[env: NAME=]`, each with the flag that it stands below.
fn variables(help: &str) -> BTreeMap<String, Option<String>> {
    let mut flag = None;
    let mut is_next = false;
    let mut found = BTreeMap::new();
    for line in help.lines() {
        let mut words = line.split_whitespace();
        if line.trim_start().starts_with('-')
            && let Some(word) = words.find(|word| word.starts_with("--"))
        {
            flag = Some(word.trim_end_matches(',').to_owned());
        }
        // Text is wrapped between any two words.
        for word in line.split_whitespace() {
            if is_next && let Some((name, _)) = word.split_once('=') {
                found.insert(name.to_owned(), flag.clone());
            }
            is_next = word == "[env:";
        }
    }
    found
}

/// When a folder's youngest file was changed.
fn newest(folder: &Path) -> std::io::Result<SystemTime> {
    let mut newest = SystemTime::UNIX_EPOCH;
    let mut folders = BTreeSet::from([folder.to_owned()]);
    while let Some(folder) = folders.pop_first() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.insert(entry.path());
            } else {
                newest = newest.max(entry.metadata()?.modified()?);
            }
        }
    }
    Ok(newest)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::{Built, variables};
    use crate::deploy::invocation::{Invocation, Program};

    /// What is found wrong with a command line: variables, then arguments.
    #[track_caller]
    fn problems(line: &str) -> Vec<String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/deploy/program.sh");
        let (variables, arguments): (Vec<&str>, Vec<&str>) =
            line.split_whitespace().partition(|word| !word.starts_with('-'));
        let variables: BTreeMap<String, String> = variables
            .iter()
            .map(|word| word.split_once('=').unwrap())
            .map(|(k, v)| (k.into(), v.into()))
            .collect();
        let arguments = arguments.into_iter().map(str::to_owned).collect();
        let program = Program::ControlPlane;
        let invocation = Invocation { place: "x".to_owned(), program, arguments, variables, is_whole: true };
        let built = Built::ask(path).unwrap();
        built.check(&invocation).unwrap().into_iter().map(|finding| finding.problem).collect()
    }

    #[test]
    fn what_a_program_takes_is_good() {
        assert_eq!(problems("WEFT_LISTEN=10.0.0.1:1 --one"), Vec::<String>::new());
    }

    #[test]
    fn flags_variables_and_values_that_a_program_does_not_take_are_refused() {
        assert!(problems("--two")[0].contains("unexpected argument '--two'"));
        assert_eq!(problems("WEFT_LISTNE=10.0.0.1:1"), ["control-plane reads no WEFT_LISTNE"]);
        assert!(problems("WEFT_LISTEN=10.0.0.1")[0].contains("unexpected argument '--listen=10.0.0.1'"));
    }

    #[test]
    fn settings_that_do_not_go_together_are_refused() {
        assert!(problems("WEFT_LISTEN=0.0.0.0:1")[0].contains("needs --one"));
    }

    #[test]
    fn variables_are_read_from_help() {
        let help = "  -o, --output <FORMAT>\n      How [default: table]\n      --addr <URL>\n      Where [env:\n      CTL_ADDR=]\n";
        assert_eq!(variables(help), BTreeMap::from([("CTL_ADDR".to_owned(), Some("--addr".to_owned()))]));
    }
}
