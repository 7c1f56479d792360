//! How a new revision takes over from the one before: by steps, each with a share of the requests.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{Generation, GraphKey, RevisionNumber};
use crate::policy::PolicyVersion;
use crate::traffic::Answered;

/// The most steps of one rollout.
pub const STEPS_MAX: usize = 20;
/// The longest that one step, or the wait for a revision to answer, may take.
pub const HOLD_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a revision that does not say may take until it answers.
pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(600);
/// How many more of its requests may fail than of the stable revision's, for a rollout that does not say: 1 %.
pub const MAX_ERRORS_DEFAULT: Share = Share(10);
/// The least and the most that the latency of a revision may be bounded to, in percent of the stable one's.
pub const MAX_LATENCY_PERCENT: std::ops::RangeInclusive<u32> = 101..=10_000;

/// A part of all requests, in thousandths; written `10%`, `0.5%`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Share(u16);

/// Why a text or a number is not a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a share is from `0%` to `100%`, with at most one digit behind the point, as in `0.5%`")]
pub struct ShareError;

impl Share {
    /// All.
    pub const ALL: Self = Self(1_000);

    /// A share of so many thousandths.
    pub const fn new(thousandths: u16) -> Result<Self, ShareError> {
        if thousandths <= Self::ALL.0 { Ok(Self(thousandths)) } else { Err(ShareError) }
    }

    /// In thousandths.
    pub const fn thousandths(self) -> u16 {
        self.0
    }
}

impl FromStr for Share {
    type Err = ShareError;

    fn from_str(text: &str) -> Result<Self, ShareError> {
        let number = text.strip_suffix('%').ok_or(ShareError)?;
        let (whole, tenths) = match number.split_once('.') {
            Some((whole, tenths)) if tenths.len() == 1 => (whole, tenths),
            Some(_) => return Err(ShareError),
            None => (number, "0"),
        };
        // `parse` alone would take a sign.
        if whole.is_empty()
            || whole.len() > 3
            || !whole.bytes().chain(tenths.bytes()).all(|c| c.is_ascii_digit())
        {
            return Err(ShareError);
        }
        let read = |digits: &str| digits.parse::<u16>().map_err(|_| ShareError);
        Self::new(read(whole)? * 10 + read(tenths)?)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 10, self.0 % 10) {
            (whole, 0) => write!(out, "{whole}%"),
            (whole, tenths) => write!(out, "{whole}.{tenths}%"),
        }
    }
}

/// How revisions of a graph take over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutSpec {
    /// One after the other; after the last one the revision answers everything. Never none.
    pub steps: Vec<Step>,
    /// How many more of its requests may fail than of the stable revision's meanwhile.
    pub max_errors: Share,
    /// How long its slowest requests but one in twenty may take, in percent of the stable revision's; unbounded if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_latency_percent: Option<u32>,
    /// How long it may take until it answers on all of its nodes.
    pub deadline: Duration,
    /// What becomes of a revision that does not come up, or does worse.
    pub on_failure: OnFailure,
}

/// One step of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What the new revision answers.
    pub share: Share,
    /// How long; until somebody says so if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Duration>,
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.hold {
            Some(hold) => write!(out, "{} for {}", self.share, crate::unit::format_duration(hold)),
            None => write!(out, "{} until it is promoted", self.share),
        }
    }
}

/// What becomes of a revision that does not come up, or does worse.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// The stable revision answers everything again.
    #[default]
    Revert,
    /// It stays at its step until somebody says what becomes of it.
    Pause,
}

/// How far a rollout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "phase")]
pub enum Phase {
    /// The new revision comes up, and nobody is sent to it.
    Starting,
    /// It answers the share of its step.
    Answering {
        /// Since when, milliseconds since 1970.
        since_ms: u64,
    },
    /// The graph becomes what the new revision is, node by node, whose candidate answers everything meanwhile.
    Promoting,
    /// Nobody is sent to the candidate any more; it is let go of once every ingress knows.
    Ending,
}

/// What somebody wants of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// Stay at this step.
    Pause,
    /// Go on.
    Resume,
    /// Go to the next step now, also where one waits to be promoted.
    Next,
    /// Let the new revision answer everything now.
    Promote,
    /// Go back to the stable revision.
    Revert,
}

/// What people are told of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutStatus {
    /// The new revision.
    pub revision: RevisionNumber,
    /// Its candidate's generation.
    pub generation: Generation,
    /// The one that answers the rest.
    pub stable: RevisionNumber,
    /// How far it is.
    pub phase: Phase,
    /// The step it is at, from 0.
    pub step: usize,
    /// All of them.
    pub steps: Vec<Step>,
    /// Set where it stays at its step: by whom or why.
    pub paused: Option<String>,
    /// How its candidate is, as a sentence.
    pub candidate: String,
    /// How the requests of this step went, where the member that answers knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<StepTraffic>,
}

/// How the requests of one step went, since the member that leads counts them: it begins anew where another one leads, where
/// a paused step goes on, and where the candidate is linked anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepTraffic {
    /// Since when, milliseconds since 1970.
    pub since_ms: u64,
    /// Those that the stable revision answered.
    pub stable: Answered,
    /// Those that the new one answered.
    pub candidate: Answered,
}

/// The most candidates of a policy that are told of one by one.
pub const CANDIDATES_SHOWN: usize = 100;

/// What people are told of a version of a policy that takes over by steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRolloutStatus {
    /// The version.
    pub version: PolicyVersion,
    /// The one in force for the rest; none where there was no such policy before.
    pub stable: Option<Generation>,
    /// How far it is: [`Phase::Promoting`] and [`Phase::Ending`] are of one graph alone.
    pub phase: Phase,
    /// The step it is at, from 0.
    pub step: usize,
    /// All of them.
    pub steps: Vec<Step>,
    /// Set where it stays at its step: by whom or why.
    pub paused: Option<String>,
    /// The graphs that are asked with it, of a policy; of a graph, itself. At most [`CANDIDATES_SHOWN`], those that are not as
    /// they should be first.
    pub candidates: Vec<CandidateStatus>,
    /// How many there are.
    pub count: usize,
}

/// What people are told of a graph as a policy would have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateStatus {
    /// The graph.
    pub graph: GraphKey,
    /// How it is with the policy, as a sentence.
    pub how: String,
}

/// A rollout that came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reverted {
    /// The revision that was given up.
    pub revision: RevisionNumber,
    /// Why.
    pub why: String,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn shares_read_what_they_write() {
        for text in ["0%", "0.5%", "10%", "99.9%", "100%"] {
            assert_eq!(text.parse::<Share>().unwrap().to_string(), text);
        }
        for text in ["", "%", "10", "-1%", "+1%", "100.1%", "101%", "1.25%", ".5%", "5.%", "1000%", "1 %", "é%"]
        {
            assert!(text.parse::<Share>().is_err(), "{text:?}");
        }
        assert!(Share::new(1_001).is_err());
    }
}
