//! Bugs that are planted in the parts of the simulation, to see that each is found, and by which invariant.

use super::oracle::Invariant;

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// The disk answers before it syncs.
    AnswersBeforeSync,
    /// The disk does not keep votes.
    ForgetsVotes,
    /// The network lets one member answer for another.
    AnswersForAnother,
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
    pub const ALL: [Self; 7] = [
        Self::AnswersBeforeSync,
        Self::ForgetsVotes,
        Self::AnswersForAnother,
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
            // Who is counted twice makes a quorum that is none.
            Self::AnswersForAnother => {
                &[Invariant::OneLog, Invariant::AcknowledgedKept, Invariant::LeaderComplete]
            }
            Self::SnapshotsWithoutRequests | Self::SkipsCommands => &[Invariant::SameState],
            Self::ReadsWithoutQuorum => &[Invariant::FreshReads],
            Self::NeverHeals => &[Invariant::Converges],
        }
    }
}
