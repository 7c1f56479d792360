//! Processes of an earlier run on the same data directory that outlived it: found and ended before a new run begins.
//!
//! A pid alone proves nothing, since the system gives it out again. A process is ours only if its program and its
//! `--data-dir` are those that were started here. Where there is no `/proc`, nothing is ended: the locks of the data
//! directories refuse a second process.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use super::folder::Folder;
use crate::failure::Failure;
use crate::terminal::Terminal;

/// The programs that `ctl dev` starts; a child is `ctl` until it has become the program.
const PROGRAMS: [&str; 3] = ["control-plane", "node-agent", "ctl"];
/// How long a leftover may drain: longer than the agent's own drain deadline of 20 s.
const DRAIN_PATIENCE: Duration = Duration::from_secs(25);
/// How often it is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Whether `pid` is a process that an earlier run started for `data`.
fn is_ours(pid: u32, data: &Path) -> bool {
    let of_process = |file: &str| Path::new("/proc").join(pid.to_string()).join(file);
    let Ok(program) = fs::read_link(of_process("exe")) else { return false };
    // A program that was built anew since it was started.
    let program = program.to_string_lossy();
    let program = program.strip_suffix(" (deleted)").unwrap_or(&program);
    let name = Path::new(program).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let arguments = fs::read(of_process("cmdline")).unwrap_or_default();
    PROGRAMS.contains(&name) && names_folder(&arguments, data)
}

/// Whether a command line, its words separated by NUL, has `--data-dir` with this folder.
fn names_folder(arguments: &[u8], data: &Path) -> bool {
    let words: Vec<&[u8]> = arguments.split(|byte| *byte == 0).collect();
    let data = data.as_os_str().as_encoded_bytes();
    words.windows(2).any(|pair| pair[0] == b"--data-dir" && pair[1] == data)
}

/// Ends what an earlier run left behind: agents first, each with time to drain.
pub(super) async fn end(folder: &Folder, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let found = folder.pids()?;
    let (members, agents): (Vec<_>, Vec<_>) = found.into_iter().partition(|(name, _)| name == super::MEMBER);
    for (name, pid) in agents.into_iter().chain(members) {
        let data = folder.data_of(&name);
        if is_ours(pid, &data) {
            terminal
                .progress(&format!("{name} (pid {pid}) was left by an earlier `ctl dev`: it is stopped"))?;
            stop(&name, pid, &data).await?;
        }
        // It is gone, and with it what the file stood for.
        let _ = fs::remove_file(folder.pid_of(&name));
    }
    Ok(())
}

async fn stop(name: &str, pid: u32, data: &Path) -> Result<(), Failure> {
    for (signal, patience) in [(Signal::TERM, DRAIN_PATIENCE), (Signal::KILL, Duration::from_secs(5))] {
        let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
        // Gone meanwhile is what is wanted; not allowed shows below.
        let _ = kill_process(raw, signal);
        let until = Instant::now() + patience;
        while Instant::now() < until {
            if !is_ours(pid, data) {
                return Ok(());
            }
            sleep(LOOK_EVERY).await;
        }
    }
    Err(Failure::refused(format!("{name} (pid {pid}) of an earlier `ctl dev` does not end"))
        .help("end it by hand; it may belong to another user"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ours_only_with_our_folder() {
        let line = |words: &[&str]| {
            words.iter().flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect::<Vec<u8>>()
        };
        let data = Path::new("/d/.weft/n1");
        assert!(names_folder(&line(&["node-agent", "--name", "n1", "--data-dir", "/d/.weft/n1"]), data));
        for other in [
            &["node-agent", "--data-dir", "/d/.weft/n10"][..],
            &["node-agent", "--data-dir=/d/.weft/n1"],
            &["vi", "/d/.weft/n1"],
            &[],
        ] {
            assert!(!names_folder(&line(other), data), "{other:?}");
        }
    }

    #[test]
    fn this_test_is_no_leftover_and_neither_is_nobody() {
        assert!(!is_ours(std::process::id(), Path::new("/")));
        assert!(!is_ours(u32::MAX, Path::new("/")));
    }
}
