//! Revisions that take over by steps.

use std::time::Duration;

use model::id::{Generation, RevisionNumber};
use model::rollout::{
    Ask, CandidateStatus, Phase, PolicyRolloutStatus, Reverted, RolloutStatus, Share, Step, StepTraffic,
};
use model::traffic::Answered;

use super::{DecodeError, each, parse, required};
use crate::weft::graph::v1 as wire;

/// Reads a share in thousandths.
pub(super) fn share(field: &str, thousandths: u32) -> Result<Share, DecodeError> {
    let read = u16::try_from(thousandths).ok().map(Share::new);
    match read {
        Some(Ok(share)) => Ok(share),
        Some(Err(_)) | None => {
            Err(DecodeError::malformed(field, format!("{thousandths} thousandths are no share")))
        }
    }
}

impl From<Step> for wire::RolloutStep {
    fn from(step: Step) -> Self {
        let hold_ms = step.hold.map(|hold| u64::try_from(hold.as_millis()).unwrap_or(u64::MAX));
        Self { share: step.share.thousandths().into(), hold_ms }
    }
}

impl TryFrom<wire::RolloutStep> for Step {
    type Error = DecodeError;

    fn try_from(step: wire::RolloutStep) -> Result<Self, DecodeError> {
        Ok(Self { share: share("share", step.share)?, hold: step.hold_ms.map(Duration::from_millis) })
    }
}

fn written(phase: Phase) -> (wire::RolloutPhase, u64) {
    match phase {
        Phase::Starting => (wire::RolloutPhase::Starting, 0),
        Phase::Answering { since_ms } => (wire::RolloutPhase::Answering, since_ms),
        Phase::Promoting => (wire::RolloutPhase::Promoting, 0),
        Phase::Ending => (wire::RolloutPhase::Ending, 0),
    }
}

fn phase(phase: wire::RolloutPhase, since_ms: u64) -> Result<Phase, DecodeError> {
    Ok(match phase {
        wire::RolloutPhase::Unspecified => return Err(DecodeError::unknown("phase")),
        wire::RolloutPhase::Starting => Phase::Starting,
        wire::RolloutPhase::Answering => Phase::Answering { since_ms },
        wire::RolloutPhase::Promoting => Phase::Promoting,
        wire::RolloutPhase::Ending => Phase::Ending,
    })
}

impl From<RolloutStatus> for wire::Rollout {
    fn from(rollout: RolloutStatus) -> Self {
        let (phase, since_ms) = written(rollout.phase);
        Self {
            revision: rollout.revision.0,
            generation: rollout.generation.0,
            stable_revision: rollout.stable.0,
            phase: phase.into(),
            since_ms,
            step: u32::try_from(rollout.step).unwrap_or(u32::MAX),
            steps: rollout.steps.into_iter().map(Into::into).collect(),
            paused: rollout.paused.unwrap_or_default(),
            candidate: rollout.candidate,
            traffic: rollout.traffic.map(Into::into),
        }
    }
}

impl TryFrom<wire::Rollout> for RolloutStatus {
    type Error = DecodeError;

    fn try_from(rollout: wire::Rollout) -> Result<Self, DecodeError> {
        let phase = phase(rollout.phase(), rollout.since_ms)?;
        Ok(Self {
            revision: RevisionNumber(rollout.revision),
            generation: Generation(rollout.generation),
            stable: RevisionNumber(rollout.stable_revision),
            phase,
            step: usize::try_from(rollout.step).unwrap_or(usize::MAX),
            steps: each("steps", rollout.steps)?,
            paused: (!rollout.paused.is_empty()).then_some(rollout.paused),
            candidate: rollout.candidate,
            traffic: rollout.traffic.map(Into::into),
        })
    }
}

impl From<StepTraffic> for wire::StepTraffic {
    fn from(traffic: StepTraffic) -> Self {
        Self {
            stable: Some(traffic.stable.into()),
            candidate: Some(traffic.candidate.into()),
            since_ms: traffic.since_ms,
        }
    }
}

impl From<wire::StepTraffic> for StepTraffic {
    fn from(traffic: wire::StepTraffic) -> Self {
        let read = |answered: Option<wire::Answered>| answered.map(Into::into).unwrap_or_default();
        Self { stable: read(traffic.stable), candidate: read(traffic.candidate), since_ms: traffic.since_ms }
    }
}

impl From<Answered> for wire::Answered {
    fn from(answered: Answered) -> Self {
        let Answered { requests, failures, within_us } = answered;
        Self { requests, failures, within_us }
    }
}

impl From<wire::Answered> for Answered {
    fn from(answered: wire::Answered) -> Self {
        let wire::Answered { requests, failures, within_us } = answered;
        Self { requests, failures, within_us }
    }
}

impl From<PolicyRolloutStatus> for wire::PolicyRollout {
    fn from(rollout: PolicyRolloutStatus) -> Self {
        let (phase, since_ms) = written(rollout.phase);
        Self {
            version: Some(rollout.version.into()),
            stable_generation: rollout.stable.unwrap_or_default().0,
            phase: phase.into(),
            since_ms,
            step: u32::try_from(rollout.step).unwrap_or(u32::MAX),
            steps: rollout.steps.into_iter().map(Into::into).collect(),
            paused: rollout.paused.unwrap_or_default(),
            candidates: rollout.candidates.into_iter().map(Into::into).collect(),
            count: u32::try_from(rollout.count).unwrap_or(u32::MAX),
        }
    }
}

impl TryFrom<wire::PolicyRollout> for PolicyRolloutStatus {
    type Error = DecodeError;

    fn try_from(rollout: wire::PolicyRollout) -> Result<Self, DecodeError> {
        Ok(Self {
            phase: phase(rollout.phase(), rollout.since_ms)?,
            version: required("version", rollout.version)?.try_into()?,
            stable: (rollout.stable_generation != 0).then_some(Generation(rollout.stable_generation)),
            step: usize::try_from(rollout.step).unwrap_or(usize::MAX),
            steps: each("steps", rollout.steps)?,
            paused: (!rollout.paused.is_empty()).then_some(rollout.paused),
            candidates: each("candidates", rollout.candidates)?,
            count: usize::try_from(rollout.count).unwrap_or(usize::MAX),
        })
    }
}

impl From<CandidateStatus> for wire::PolicyCandidate {
    fn from(candidate: CandidateStatus) -> Self {
        Self { graph: candidate.graph.into(), how: candidate.how }
    }
}

impl TryFrom<wire::PolicyCandidate> for CandidateStatus {
    type Error = DecodeError;

    fn try_from(candidate: wire::PolicyCandidate) -> Result<Self, DecodeError> {
        Ok(Self { graph: parse("graph", &candidate.graph)?, how: candidate.how })
    }
}

impl From<Reverted> for wire::Reverted {
    fn from(reverted: Reverted) -> Self {
        Self { revision: reverted.revision.0, why: reverted.why }
    }
}

impl From<wire::Reverted> for Reverted {
    fn from(reverted: wire::Reverted) -> Self {
        Self { revision: RevisionNumber(reverted.revision), why: reverted.why }
    }
}

impl From<Ask> for wire::RolloutAsk {
    fn from(ask: Ask) -> Self {
        match ask {
            Ask::Pause => Self::Pause,
            Ask::Resume => Self::Resume,
            Ask::Next => Self::Next,
            Ask::Promote => Self::Promote,
            Ask::Revert => Self::Revert,
        }
    }
}

impl TryFrom<wire::RolloutAsk> for Ask {
    type Error = DecodeError;

    fn try_from(ask: wire::RolloutAsk) -> Result<Self, DecodeError> {
        Ok(match ask {
            wire::RolloutAsk::Unspecified => return Err(DecodeError::missing("ask")),
            wire::RolloutAsk::Pause => Self::Pause,
            wire::RolloutAsk::Resume => Self::Resume,
            wire::RolloutAsk::Next => Self::Next,
            wire::RolloutAsk::Promote => Self::Promote,
            wire::RolloutAsk::Revert => Self::Revert,
        })
    }
}
