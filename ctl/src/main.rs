//! `ctl`: config, build, run, drain.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use ctl::cli::{self, Cli};
use ctl::exit::Exit;
use ctl::session::Session;
use ctl::terminal::{Look, Terminal};

/// How long a read of a file that hangs may keep a finished run from ending.
const DRAIN_PATIENCE: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    // Config.
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return show_usage(&error).into(),
    };
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let look = Look {
        color: cli.global.color.applies(io::stderr().is_terminal() && !no_color),
        is_watched: io::stderr().is_terminal(),
        can_ask: io::stdin().is_terminal() && io::stderr().is_terminal(),
        width: width_of_stdout(),
        quiet: cli.global.quiet,
    };

    // Build.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: the asynchronous runtime cannot start: {error}");
            return Exit::Failed.into();
        }
    };
    let (mut stdin, mut stdout, mut stderr) = (io::stdin().lock(), io::stdout().lock(), io::stderr());
    let terminal = Terminal::new(&mut stdin, &mut stdout, &mut stderr, look);
    let mut session = Session::new(terminal, &cli.global);

    // Run.
    let exit = runtime.block_on(ctl::run(cli.command, &mut session));

    // Drain.
    runtime.shutdown_timeout(DRAIN_PATIENCE);
    exit.into()
}

/// Help and version go to stdout and are what was asked for; everything else is a wrong command line.
fn show_usage(error: &clap::Error) -> Exit {
    let _ = error.print();
    if cli::is_answer(error) { Exit::Done } else { Exit::Usage }
}

/// Columns of stdout, where a person looks at it.
fn width_of_stdout() -> Option<u16> {
    if !io::stdout().is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0).then_some(size.ws_col)
}
