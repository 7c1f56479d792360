//! How a run ends, as the number that scripts and CI see.

use std::process::ExitCode;

/// The end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Failed or refused.
    Failed,
    /// `plan --exit-code` found changes.
    Changes,
    /// The time is up, and the work goes on without us; or nobody knows whether it was done.
    StillRunning,
    /// No control plane, or none that leads: repeating is safe.
    Unreachable,
    /// The command line is wrong. 64 as in `sysexits.h`, so that a typo never looks like "changes".
    Usage,
}

impl Exit {
    /// The number.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Changes => 2,
            Self::StillRunning => 3,
            Self::Unreachable => 4,
            Self::Usage => 64,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
