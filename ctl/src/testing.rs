//! Runs a command line in this process, and keeps what it wrote.

use clap::Parser as _;

use crate::cli::Cli;
use crate::exit::Exit;
use crate::session::Session;
use crate::terminal::{Look, Terminal};

/// What a run wrote, and how it ended.
pub(crate) struct Ran {
    pub(crate) exit: Exit,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `ctl` with these arguments, as a pipe sees it.
#[allow(clippy::unwrap_used, reason = "tests")]
pub(crate) fn ctl(arguments: &[&str]) -> Ran {
    let cli = Cli::try_parse_from(std::iter::once("ctl").chain(arguments.iter().copied())).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut stdin, mut stdout, mut stderr) = (std::io::empty(), Vec::new(), Vec::new());
    let look = Look { quiet: cli.global.quiet, ..Look::plain() };
    let terminal = Terminal::new(&mut stdin, &mut stdout, &mut stderr, look);
    let mut session = Session::new(terminal, &cli.global);
    let exit = runtime.block_on(crate::run(cli.command, &mut session));
    drop(session);
    Ran { exit, stdout: String::from_utf8(stdout).unwrap(), stderr: String::from_utf8(stderr).unwrap() }
}
