//! What guests and the agent say of a graph.

use serde::{Deserialize, Serialize};

use crate::id::GraphKey;
use crate::name::{ComponentName, NodeName};

/// One line of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Grows by one for each line of one agent's life.
    pub sequence: u64,
    /// When the node took it, milliseconds since 1970.
    pub time_ms: u64,
    /// The node.
    pub node: NodeName,
    /// The graph.
    pub graph: GraphKey,
    /// The component; `None` where the agent speaks for the graph.
    pub component: Option<ComponentName>,
    /// The request or instance this belongs to, as answered to the client.
    pub request: Option<String>,
    /// How grave it is.
    pub level: Level,
    /// Where it came from.
    pub source: LogSource,
    /// The text, bounded, without its line end.
    pub message: String,
}

/// How grave a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Finest.
    Trace,
    /// For those who write the component.
    Debug,
    /// Usual.
    Info,
    /// Something is off.
    Warn,
    /// A request failed.
    Error,
}

impl Level {
    /// The word shown to people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "TRACE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
        }
    }
}

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogSource {
    /// The guest's standard output.
    Stdout,
    /// The guest's standard error.
    Stderr,
    /// `wasi:logging`.
    Logging,
    /// The agent: a trap, a timeout, a refusal.
    Agent,
}

impl LogSource {
    /// The word shown to people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Logging => "logging",
            Self::Agent => "agent",
        }
    }
}
