//! Bugs that are planted on purpose: each has a test that must catch it, under its name. They are of debug builds alone: a
//! release build has no flag for them, and nothing that could carry one.

#[cfg(debug_assertions)]
use clap::Args;
use clap::ValueEnum;

/// A bug that can be planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Bug {
    /// A read answers from what this member has.
    StaleRead,
    /// Who believes to lead reads without asking a quorum.
    UnconfirmedRead,
    /// A read asks the leader how far it is, and does not wait until this member is.
    UnappliedRead,
    /// A change is acknowledged before anybody else has it.
    AcknowledgedUncommitted,
    /// A snapshot does not hold what became of requests.
    ForgottenRequests,
    /// A deploy ignores which revision was expected.
    IgnoredExpectation,
    /// A watch leaves an event out now and then.
    LostEvent,
    /// A watch that resumes begins with what was seen last.
    RepeatedEvent,
    /// Applying a command reads the clock.
    ClockInApply,
    /// A snapshot that is received is kept, and not taken over.
    LostSnapshot,
    /// The id of a member that was removed is given again.
    ReusedMemberId,
    /// A vote is kept in memory.
    UnsavedVote,
    /// Who hears of no leader asks for votes without asking first whether it would get them.
    NoPreVote,
    /// Entries count as durable before they are.
    UnwaitedBarrier,
}

/// The bug that is planted, if one is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Planted {
    #[cfg(debug_assertions)]
    bug: Option<Bug>,
}

#[cfg(not(debug_assertions))]
const _: () = assert!(size_of::<Planted>() == 0, "a release build carries no bug");

/// What only tests tell a control plane.
#[cfg(debug_assertions)]
#[derive(Debug, Clone, Default, Args)]
pub struct Flags {
    /// A bug to be caught.
    #[arg(long, hide = true, value_enum)]
    pub planted_bug: Option<Bug>,
    /// Bytes of commands after which the log is replaced by a snapshot.
    #[arg(long, hide = true)]
    pub log_max_bytes: Option<usize>,
    /// Be as an earlier version, as far as others can tell.
    #[arg(long, hide = true)]
    pub pretend_feature_level: Option<u32>,
}

impl Planted {
    /// This bug, or none.
    #[cfg(debug_assertions)]
    pub const fn of(bug: Option<Bug>) -> Self {
        Self { bug }
    }

    /// None, whatever is asked for.
    #[cfg(not(debug_assertions))]
    pub const fn of(_: Option<Bug>) -> Self {
        Self {}
    }

    /// Whether this one is planted.
    #[cfg(debug_assertions)]
    pub fn has(self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Whether this one is planted: none is.
    #[cfg(not(debug_assertions))]
    pub const fn has(self, _: Bug) -> bool {
        false
    }
}
