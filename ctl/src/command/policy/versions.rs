//! Where the versions of a policy stand: which one is in force, and which one takes over by steps.

use model::id::Generation;
use model::rollout::PolicyRolloutStatus;
use proto::convert::required;
use proto::weft::policy::v1 as wire;

use crate::client::CallError;
use crate::render::policy_rollout;

/// Where the versions of a policy stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Versions {
    /// None where the first one takes over by steps, or was given up.
    pub(super) in_force: Option<Generation>,
    /// The one that takes over by steps.
    pub(super) rollout: Option<PolicyRolloutStatus>,
}

impl Versions {
    /// As a list of policies tells it.
    pub(super) fn of_summary(policy: &wire::PolicySummary) -> Result<Self, CallError> {
        Self::new(policy, policy.generation)
    }

    /// As the page of a policy tells it, of whichever version that is.
    pub(super) fn of_answer(answer: &wire::GetResponse) -> Result<Self, CallError> {
        let policy = required("policy", answer.policy.clone())?;
        let is_given_up =
            |version: &u64| answer.given_up.iter().any(|given_up| given_up.generation == *version);
        let newest = answer.generations.iter().find(|version| !is_given_up(version));
        Self::new(&policy, newest.copied().unwrap_or_default())
    }

    /// `newest` is the last one that was not given up.
    fn new(policy: &wire::PolicySummary, newest: u64) -> Result<Self, CallError> {
        let rollout = policy.rollout.clone().map(PolicyRolloutStatus::try_from).transpose()?;
        let in_force = match &rollout {
            Some(rollout) => rollout.stable,
            None if policy.not_in_force || newest == 0 => None,
            None => Some(Generation(newest)),
        };
        Ok(Self { in_force, rollout })
    }

    /// The version in force in few words, and what takes over from it.
    pub(super) fn cell(&self) -> String {
        let in_force = self.in_force.map_or_else(|| "none".to_owned(), |version| version.to_string());
        match self.rollout.as_ref().and_then(policy_rollout::hint) {
            Some(hint) => format!("{in_force}, {hint}"),
            None => in_force,
        }
    }

    /// What a version is, behind its number.
    pub(super) fn mark(&self, version: u64, given_up: &[wire::GivenUp]) -> &'static str {
        let is = |other: Option<Generation>| other == Some(Generation(version));
        if is(self.in_force) {
            " (in force)"
        } else if is(self.rollout.as_ref().map(|rollout| rollout.version.generation)) {
            " (takes over by steps)"
        } else if given_up.iter().any(|given_up| given_up.generation == version) {
            " (given up)"
        } else {
            ""
        }
    }
}
