//! Frames of links.

use bytes::Bytes;
use model::id::Generation;
use model::link::{Binding, Body, Call, Frame, GraphVersion, LinkFailure, LinkReason, Open, Piped};
use model::trace::TraceContext;

use super::{DecodeError, each, parse, read, required};
use crate::weft::link::v1 as wire;
use crate::weft::link::v1::{frame, pipe};

impl From<Frame> for wire::Frame {
    fn from(value: Frame) -> Self {
        let body = match value.body {
            Body::Open(open) => frame::Body::Open((*open).into()),
            Body::Call(call) => frame::Body::Call(wire::Call {
                function: call.function,
                arguments: call.arguments,
                deadline_us: call.deadline_us,
                trace: call.trace.map(|trace| trace.to_bytes().to_vec()).unwrap_or_default(),
            }),
            Body::Returned(result) => frame::Body::Returned(wire::Returned { result }),
            Body::Failed(LinkFailure { reason, message }) => {
                frame::Body::Failed(wire::Failed { reason: wire::Reason::from(reason).into(), message })
            }
            Body::Dropped(handles) => frame::Body::Dropped(wire::Dropped { handles }),
            Body::Closed => frame::Body::Closed(wire::Closed {}),
            Body::Pipe { pipe, piped } => {
                frame::Body::Pipe(wire::Pipe { pipe, piped: Some(pipe::Piped::from(piped)) })
            }
        };
        Self { session: value.session, body: Some(body) }
    }
}

impl TryFrom<wire::Frame> for Frame {
    type Error = DecodeError;

    fn try_from(value: wire::Frame) -> Result<Self, DecodeError> {
        let body = match required("body", value.body)? {
            frame::Body::Open(open) => {
                Body::Open(Box::new(Open::try_from(open).map_err(|error| error.under("open"))?))
            }
            frame::Body::Call(call) => Body::Call(Call {
                function: call.function,
                arguments: call.arguments,
                deadline_us: call.deadline_us,
                trace: trace(&call.trace).map_err(|error| error.under("call"))?,
            }),
            frame::Body::Returned(returned) => Body::Returned(returned.result),
            frame::Body::Failed(failed) => {
                let kind = wire::Reason::try_from(failed.reason).map_err(|_| DecodeError::unknown("reason"))?;
                Body::Failed(LinkFailure { reason: kind.try_into()?, message: failed.message })
            }
            frame::Body::Dropped(dropped) => Body::Dropped(dropped.handles),
            frame::Body::Closed(wire::Closed {}) => Body::Closed,
            frame::Body::Pipe(wire::Pipe { pipe, piped }) => Body::Pipe {
                pipe,
                piped: required("piped", piped).map_err(|error| error.under("pipe"))?.into(),
            },
        };
        Ok(Self { session: value.session, body })
    }
}

impl From<Piped> for pipe::Piped {
    fn from(piped: Piped) -> Self {
        match piped {
            Piped::Data(bytes) => Self::Data(bytes),
            Piped::Credit(bytes) => Self::Credit(bytes),
            Piped::Wait => Self::Wait(wire::PipeWait {}),
            Piped::Ready => Self::Ready(wire::PipeReady {}),
            Piped::Ended { failure, taken } => Self::Ended(wire::PipeEnded { failure, taken }),
        }
    }
}

impl From<pipe::Piped> for Piped {
    fn from(piped: pipe::Piped) -> Self {
        match piped {
            // They are a part of the message that they came in, and would keep all of it.
            pipe::Piped::Data(bytes) => Self::Data(Bytes::copy_from_slice(&bytes)),
            pipe::Piped::Credit(bytes) => Self::Credit(bytes),
            pipe::Piped::Wait(wire::PipeWait {}) => Self::Wait,
            pipe::Piped::Ready(wire::PipeReady {}) => Self::Ready,
            pipe::Piped::Ended(wire::PipeEnded { failure, taken }) => Self::Ended { failure, taken },
        }
    }
}

fn trace(bytes: &[u8]) -> Result<Option<TraceContext>, DecodeError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    TraceContext::from_bytes(bytes).map(Some).map_err(|error| DecodeError::malformed("trace", error))
}

impl From<Open> for wire::Open {
    fn from(open: Open) -> Self {
        Self {
            graph: open.version.graph.into(),
            uid: open.version.uid.into(),
            generation: open.version.generation.0,
            from: open.from.into(),
            to: open.to.into(),
            request: open.request,
            functions: open.functions.into_iter().map(Into::into).collect(),
            trace_state: open.trace_state.map(|state| state.as_str().to_owned()).unwrap_or_default(),
        }
    }
}

impl TryFrom<wire::Open> for Open {
    type Error = DecodeError;

    fn try_from(open: wire::Open) -> Result<Self, DecodeError> {
        Ok(Self {
            version: version(&open.graph, open.uid, open.generation)?,
            from: read("from", open.from)?,
            to: read("to", open.to)?,
            request: open.request,
            functions: each("functions", open.functions)?,
            trace_state: match open.trace_state.as_str() {
                "" => None,
                state => Some(parse("trace_state", state)?),
            },
        })
    }
}

fn version(graph: &str, uid: String, generation: u64) -> Result<GraphVersion, DecodeError> {
    Ok(GraphVersion {
        graph: parse("graph", graph)?,
        uid: read("uid", uid)?,
        generation: Generation(generation),
    })
}

impl From<GraphVersion> for wire::ArrivedRequest {
    fn from(version: GraphVersion) -> Self {
        Self { graph: version.graph.into(), uid: version.uid.into(), generation: version.generation.0 }
    }
}

impl TryFrom<wire::ArrivedRequest> for GraphVersion {
    type Error = DecodeError;

    fn try_from(asked: wire::ArrivedRequest) -> Result<Self, DecodeError> {
        version(&asked.graph, asked.uid, asked.generation)
    }
}

impl From<Binding> for wire::Binding {
    fn from(binding: Binding) -> Self {
        Self {
            interface: binding.interface.into(),
            function: binding.function,
            digest: binding.digest.to_string(),
        }
    }
}

impl TryFrom<wire::Binding> for Binding {
    type Error = DecodeError;

    fn try_from(binding: wire::Binding) -> Result<Self, DecodeError> {
        Ok(Self {
            interface: read("interface", binding.interface)?,
            function: binding.function,
            digest: parse("digest", &binding.digest)?,
        })
    }
}

impl From<LinkReason> for wire::Reason {
    fn from(reason: LinkReason) -> Self {
        match reason {
            LinkReason::Unavailable => Self::Unavailable,
            LinkReason::Busy => Self::Busy,
            LinkReason::Denied => Self::Denied,
            LinkReason::Mismatch => Self::Mismatch,
            LinkReason::Lost => Self::Lost,
            LinkReason::Deadline => Self::Deadline,
            LinkReason::Trapped => Self::Trapped,
            LinkReason::Protocol => Self::Protocol,
        }
    }
}

impl TryFrom<wire::Reason> for LinkReason {
    type Error = DecodeError;

    fn try_from(reason: wire::Reason) -> Result<Self, DecodeError> {
        Ok(match reason {
            wire::Reason::Unavailable => Self::Unavailable,
            wire::Reason::Busy => Self::Busy,
            wire::Reason::Denied => Self::Denied,
            wire::Reason::Mismatch => Self::Mismatch,
            wire::Reason::Lost => Self::Lost,
            wire::Reason::Deadline => Self::Deadline,
            wire::Reason::Trapped => Self::Trapped,
            wire::Reason::Protocol => Self::Protocol,
            wire::Reason::Unspecified => return Err(DecodeError::unknown("reason")),
        })
    }
}
