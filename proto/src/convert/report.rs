//! Reports.

use model::id::Generation;
use model::report::{Failure, GraphReport, Progress, Report};

use super::{DecodeError, each, parse, read};
use crate::weft::node::v1 as wire;

impl From<Report> for wire::Report {
    fn from(report: Report) -> Self {
        Self {
            node: report.node.into(),
            accepted: report.accepted.0,
            graphs: report.graphs.into_iter().map(Into::into).collect(),
            // Whoever sends it knows whether it waits for an answer.
            heartbeat: 0,
        }
    }
}

impl TryFrom<wire::Report> for Report {
    type Error = DecodeError;

    fn try_from(report: wire::Report) -> Result<Self, DecodeError> {
        Ok(Self {
            node: read("node", report.node)?,
            accepted: Generation(report.accepted),
            graphs: each("graphs", report.graphs)?,
        })
    }
}

impl From<GraphReport> for wire::GraphReport {
    fn from(report: GraphReport) -> Self {
        let (phase, failure) = match report.progress {
            Progress::Fetching => (wire::Phase::Fetching, None),
            Progress::Compiling => (wire::Phase::Compiling, None),
            Progress::Starting => (wire::Phase::Starting, None),
            Progress::Serving => (wire::Phase::Serving, None),
            Progress::Failed(failure) => (wire::Phase::Failed, Some(failure)),
            Progress::Retrying(failure) => (wire::Phase::Retrying, Some(failure)),
        };
        let (reason, message) = failure.map(|f| (f.reason, f.message)).unwrap_or_default();
        Self {
            graph: report.key.into(),
            uid: report.uid.into(),
            serving: report.serving.unwrap_or_default().0,
            desired: report.desired.0,
            phase: phase.into(),
            reason,
            message,
            failing: report.failing.unwrap_or_default(),
        }
    }
}

impl TryFrom<wire::GraphReport> for GraphReport {
    type Error = DecodeError;

    fn try_from(report: wire::GraphReport) -> Result<Self, DecodeError> {
        let failure = Failure { reason: report.reason, message: report.message };
        let progress = match wire::Phase::try_from(report.phase) {
            Ok(wire::Phase::Fetching) => Progress::Fetching,
            Ok(wire::Phase::Compiling) => Progress::Compiling,
            Ok(wire::Phase::Starting) => Progress::Starting,
            Ok(wire::Phase::Serving) => Progress::Serving,
            Ok(wire::Phase::Failed) => Progress::Failed(failure),
            Ok(wire::Phase::Retrying) => Progress::Retrying(failure),
            Ok(wire::Phase::Unspecified) | Err(_) => return Err(DecodeError::unknown("phase")),
        };
        Ok(Self {
            key: parse("graph", &report.graph)?,
            uid: read("uid", report.uid)?,
            serving: (report.serving != 0).then_some(Generation(report.serving)),
            desired: Generation(report.desired),
            progress,
            failing: (!report.failing.is_empty()).then_some(report.failing),
        })
    }
}
