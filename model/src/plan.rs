//! What a deploy or a policy change would do, as a value that is shown before it is done.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{GraphKey, RevisionNumber};
use crate::linked::LinkedGraph;
use crate::placement::Placement;
use crate::rollout::Step;

/// What a deploy would do to one graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Names the inputs: the same id means the same change of the same state.
    pub id: String,
    /// The graph.
    pub key: GraphKey,
    /// The revision it has now.
    pub base: Option<RevisionNumber>,
    /// What would change, in reading order.
    pub changes: Vec<Change>,
    /// The graph as it would be linked.
    pub linked: LinkedGraph,
    /// Which part of it would run where, if it could be placed now.
    pub placement: Option<Placement>,
    /// What is allowed and worth a thought.
    pub warnings: Vec<String>,
    /// Which part of the graph runs where now.
    #[serde(default)]
    pub placed: Option<Placement>,
    /// How the revision would take over.
    #[serde(default)]
    pub takeover: Takeover,
    /// What the same pass would place or move of other graphs.
    #[serde(default)]
    pub moves: Vec<Move>,
}

/// How a revision would take over from the one before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Takeover {
    /// By a control plane of an earlier version nothing is said of it.
    #[default]
    Unsaid,
    /// On each node where it answers.
    AtOnce {
        /// Why not by steps.
        why: String,
    },
    /// Step by step, and all of it after the last one.
    Steps(Vec<Step>),
    /// Not at this moment: the deploy would be refused.
    Refused {
        /// Why.
        why: String,
    },
}

impl fmt::Display for Takeover {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsaid => Ok(()),
            Self::AtOnce { why } => write!(out, "takes over at once: {why}"),
            Self::Steps(steps) => {
                let steps: Vec<String> = steps.iter().map(ToString::to_string).collect();
                write!(out, "takes over by steps: {}, then all", steps.join(", "))
            }
            Self::Refused { why } => write!(out, "would be refused: {why}"),
        }
    }
}

/// Where a graph would go besides the one that is planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// The graph.
    pub key: GraphKey,
    /// Where it is; nowhere yet if left out.
    pub from: Option<Placement>,
    /// Where it would be.
    pub to: Placement,
}

impl Plan {
    /// Whether the deploy would change nothing.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// One line of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What happens to the object.
    pub kind: ChangeKind,
    /// The object: `component app`, `link app -> crm-db`, `ingress crm.example.com/`.
    pub subject: String,
    /// From what to what.
    pub detail: String,
}

/// What happens to an object of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// It is new.
    Add,
    /// It is there before and after.
    Change,
    /// It goes.
    Remove,
}

impl fmt::Display for ChangeKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Add => "+",
            Self::Change => "~",
            Self::Remove => "-",
        })
    }
}
