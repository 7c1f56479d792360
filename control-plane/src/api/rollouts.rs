//! What revisions of graphs and versions of policies have in common that take over by steps.

use cluster::State;
use cluster::command::RolloutChange;
use cluster::state::NodeRecord;
use model::node::{KNOWS_CANDIDATES, NodeState};
use model::rollout::Ask;
use proto::status::refuse;
use tonic::{Code, Status};

/// Nodes that are named in a refusal.
const NODES_SHOWN: usize = 5;

/// What is wanted of a rollout that is at one of its steps, as a change of how far it is.
pub(super) fn asked(
    what: &str,
    step: usize,
    steps: usize,
    is_paused: bool,
    ask: Ask,
) -> Result<RolloutChange, Status> {
    let why = || "somebody asked for it".to_owned();
    Ok(match ask {
        Ask::Pause => RolloutChange::Pause { why: why() },
        Ask::Resume if !is_paused => {
            let message =
                format!("the rollout of {what} is not paused; a step that waits ends with `rollout next`");
            return Err(refuse(Code::FailedPrecondition, "not_paused", message));
        }
        Ask::Resume => RolloutChange::Resume,
        Ask::Next if step + 1 < steps => RolloutChange::Next { why: why() },
        Ask::Next | Ask::Promote => RolloutChange::Promote { why: why() },
        Ask::Revert => RolloutChange::Revert { why: why() },
    })
}

/// Refuses steps where an agent does not know what a candidate is.
pub(super) fn refuse_old_agents(state: &State) -> Result<(), Status> {
    let is_too_old =
        |node: &&NodeRecord| node.state == NodeState::Ready && node.description.level < KNOWS_CANDIDATES;
    let mut too_old: Vec<String> = state
        .nodes
        .values()
        .filter(is_too_old)
        .map(|node| format!("{} ({})", node.description.name, node.description.version))
        .collect();
    if too_old.is_empty() {
        return Ok(());
    }
    let count = too_old.len();
    too_old.truncate(NODES_SHOWN);
    let message = format!(
        "`rollout` needs agents that know candidates, and {count} are of earlier versions: {}. Upgrade them, or do it at once",
        too_old.join(", ")
    );
    Err(refuse(Code::FailedPrecondition, "agents_too_old", message))
}
