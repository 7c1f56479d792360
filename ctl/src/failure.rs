//! Why a command did not do what it was asked, as people read it: what, why, and what to do next.

use std::io;

use crate::client::CallError;
use crate::credentials::CredentialsError;
use crate::exit::Exit;
use crate::terminal::Terminal;

/// Why a command ended early.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Something was refused or went wrong.
    #[error("{message}")]
    Refused {
        /// A stable word, shown in brackets.
        reason: Option<String>,
        /// A sentence.
        message: String,
        /// What to do.
        help: Option<String>,
        /// The next command.
        next: Option<String>,
    },
    /// A manifest was refused; the text has excerpts of it.
    #[error("{rendered}")]
    Manifest {
        /// The diagnostics as text.
        rendered: String,
        /// One line below them.
        summary: String,
    },
    /// The time is up.
    #[error("{message}")]
    StillRunning {
        /// What was waited for.
        message: String,
        /// How to go on looking.
        next: String,
    },
    /// Nobody answers.
    #[error("{message}")]
    Unreachable {
        /// What was tried.
        message: String,
        /// What to do.
        help: String,
    },
    /// The command line, in a way that its parser cannot see.
    #[error("{0}")]
    Usage(String),
    /// Our own output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    /// A refusal in one sentence.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::Refused { reason: None, message: message.into(), help: None, next: None }
    }

    /// Says what to do.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        if let Self::Refused { help, .. } = &mut self {
            *help = Some(text.into());
        }
        self
    }

    /// Says which command to run next.
    #[must_use]
    pub fn next(mut self, command: impl Into<String>) -> Self {
        if let Self::Refused { next, .. } = &mut self {
            *next = Some(command.into());
        }
        self
    }

    /// The number this ends with.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Refused { .. } | Self::Manifest { .. } => Exit::Failed,
            Self::StillRunning { .. } => Exit::StillRunning,
            Self::Unreachable { .. } => Exit::Unreachable,
            Self::Usage(_) => Exit::Usage,
            // A reader that has seen enough (`ctl logs | head`) is no failure.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
            Self::Output(_) => Exit::Failed,
        }
    }

    /// Writes it to the terminal's error stream.
    pub fn show(&self, terminal: &mut Terminal<'_>) -> io::Result<()> {
        if self.exit() == Exit::Done {
            return Ok(());
        }
        let (reason, help, next) = match self {
            Self::Manifest { rendered, summary } => {
                terminal.error_text(rendered)?;
                return terminal.error(None, summary);
            }
            Self::Refused { reason, help, next, .. } => (reason.as_deref(), help.as_deref(), next.as_deref()),
            Self::StillRunning { next, .. } => (None, None, Some(next.as_str())),
            Self::Unreachable { help, .. } => (None, Some(help.as_str()), None),
            Self::Usage(_) => (None, Some("ctl --help"), None),
            Self::Output(_) => (None, None, None),
        };
        terminal.error(reason, &self.to_string())?;
        for (word, text) in [("help", help), ("next", next)] {
            if let Some(text) = text {
                terminal.error_text(&format!("  {word}: {text}\n"))?;
            }
        }
        Ok(())
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused { reason, message, diagnostics, .. } => {
                // Without the document at hand, what the diagnostics say is still worth more than the summary.
                let lines: Vec<String> = diagnostics.iter().map(|found| found.message.clone()).collect();
                let help = (!lines.is_empty()).then(|| lines.join("; "));
                Self::Refused { reason, message, help, next: None }
            }
            CallError::Unreachable { address, message, request } => Self::Unreachable {
                message: format!("the control plane at {address} does not answer: {message}"),
                help: match request {
                    None => "repeating is safe; is the address right (--addr, CTL_ADDR)? `ctl dev` starts one"
                        .to_owned(),
                    Some(id) => format!(
                        "whether it was applied is not known; repeating with `--request-id {id}` applies it at most once"
                    ),
                },
            },
            CallError::Unknown { message, request } => Self::StillRunning {
                message: format!("whether it was applied is not known: {message}"),
                next: format!(
                    "repeat with `--request-id {request}`: it is applied at most once; or look with `ctl events`"
                ),
            },
            CallError::Credentials(error) => Self::refused(error.to_string()).help(CredentialsError::help()),
            CallError::Answer(error) => {
                Self::refused(format!("the control plane's answer cannot be read: {error}"))
                    .help("ctl and the control plane are of different versions")
            }
        }
    }
}
