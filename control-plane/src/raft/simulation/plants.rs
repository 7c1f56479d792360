//! Bugs that are planted in the parts of the simulation, to see that each is found, and by which invariant.

use super::oracle::Invariant;

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// The disk answers before it syncs.
    AnswersBeforeSync,
    /// The disk does not keep votes.
    ForgetsVotes,
    /// The state machine loses the table of requests when it takes a snapshot.
    SnapshotsWithoutRequests,
    /// The state machine skips a command.
    SkipsCommands,
    /// A read is answered from what a member has at hand.
    ReadsWithoutQuorum,
    /// A cut road never heals.
    NeverHeals,
}

impl Plant {
    pub const ALL: [Self; 6] = [
        Self::AnswersBeforeSync,
        Self::ForgetsVotes,
        Self::SnapshotsWithoutRequests,
        Self::SkipsCommands,
        Self::ReadsWithoutQuorum,
        Self::NeverHeals,
    ];

    /// What should find it.
    pub const fn found_by(self) -> &'static [Invariant] {
        match self {
            Self::AnswersBeforeSync => &[Invariant::AcknowledgedKept],
            Self::ForgetsVotes => &[Invariant::VotesKept],
            Self::SnapshotsWithoutRequests | Self::SkipsCommands => &[Invariant::SameState],
            Self::ReadsWithoutQuorum => &[Invariant::FreshReads],
            Self::NeverHeals => &[Invariant::Converges],
        }
    }
}
