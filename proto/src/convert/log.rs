//! Log lines.

use model::log::{Level, LogLine, LogSource};

use super::{DecodeError, parse, read};
use crate::weft::log::v1 as wire;

impl From<Level> for wire::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::Trace => Self::Trace,
            Level::Debug => Self::Debug,
            Level::Info => Self::Info,
            Level::Warn => Self::Warn,
            Level::Error => Self::Error,
        }
    }
}

impl wire::Level {
    /// The level; `None` where the wire leaves it open.
    pub fn known(self) -> Option<Level> {
        match self {
            Self::Unspecified => None,
            Self::Trace => Some(Level::Trace),
            Self::Debug => Some(Level::Debug),
            Self::Info => Some(Level::Info),
            Self::Warn => Some(Level::Warn),
            Self::Error => Some(Level::Error),
        }
    }
}

impl From<LogSource> for wire::Source {
    fn from(source: LogSource) -> Self {
        match source {
            LogSource::Stdout => Self::Stdout,
            LogSource::Stderr => Self::Stderr,
            LogSource::Logging => Self::Logging,
            LogSource::Agent => Self::Agent,
        }
    }
}

impl From<LogLine> for wire::LogLine {
    fn from(line: LogLine) -> Self {
        Self {
            sequence: line.sequence,
            time_ms: line.time_ms,
            node: line.node.into(),
            graph: line.graph.into(),
            component: line.component.map(String::from).unwrap_or_default(),
            request: line.request.unwrap_or_default(),
            level: wire::Level::from(line.level).into(),
            source: wire::Source::from(line.source).into(),
            message: line.message,
        }
    }
}

impl TryFrom<wire::LogLine> for LogLine {
    type Error = DecodeError;

    fn try_from(line: wire::LogLine) -> Result<Self, DecodeError> {
        let source = match wire::Source::try_from(line.source) {
            Ok(wire::Source::Stdout) => LogSource::Stdout,
            Ok(wire::Source::Stderr) => LogSource::Stderr,
            Ok(wire::Source::Logging) => LogSource::Logging,
            Ok(wire::Source::Agent) => LogSource::Agent,
            Ok(wire::Source::Unspecified) | Err(_) => return Err(DecodeError::unknown("source")),
        };
        let level = wire::Level::try_from(line.level).ok().and_then(wire::Level::known);
        let component = (!line.component.is_empty()).then(|| read("component", line.component));
        Ok(Self {
            sequence: line.sequence,
            time_ms: line.time_ms,
            node: read("node", line.node)?,
            graph: parse("graph", &line.graph)?,
            component: component.transpose()?,
            request: (!line.request.is_empty()).then_some(line.request),
            level: level.ok_or_else(|| DecodeError::unknown("level"))?,
            source,
            message: line.message,
        })
    }
}
