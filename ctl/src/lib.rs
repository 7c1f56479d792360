//! `ctl`: YAML in, status out.
//!
//! A command reads its arguments, asks the control plane through [`client`], and writes through [`terminal`]; nothing
//! else reads a clock or a socket, and nothing but [`credentials`] the environment.

pub mod cli;
pub mod client;
pub mod clock;
pub mod command;
pub mod credentials;
pub mod exit;
pub mod failure;
pub mod follow;
pub mod lookup;
pub mod manifest;
pub mod offline;
pub mod program;
pub mod reference;
pub mod render;
pub mod session;
pub mod terminal;
pub mod watch;

use crate::cli::Command;
use crate::exit::Exit;
use crate::session::Session;

/// Runs one command, and says on the error stream why it did not do what it was asked.
pub async fn run(command: Command, session: &mut Session<'_>) -> Exit {
    let failure = match command.run(session).await {
        Ok(exit) => return exit,
        Err(failure) => failure,
    };
    // Where the error stream is gone too, the number is all that can be said.
    let _ = failure.show(&mut session.terminal);
    failure.exit()
}

/// Everything that a test in this crate needs to run a command line without a process.
#[cfg(test)]
pub(crate) mod testing;
