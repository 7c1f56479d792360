//! What guests and the agent said lately, to read and to follow.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use futures::stream::unfold;
use model::id::GraphKey;
use model::log::LogLine;
use proto::convert::{DecodeError, parse, read};
use proto::status::refuse;
use proto::weft::log::v1 as wire;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};

use crate::logs::{LogBook, Reader, Selection};

/// The service over the agent's log.
pub struct Logs {
    book: LogBook,
    stop: CancellationToken,
}

impl Logs {
    /// A service over `book`; followers are let go at `stop`.
    pub fn new(book: LogBook, stop: CancellationToken) -> Self {
        Self { book, stop }
    }
}

#[tonic::async_trait]
impl wire::logs_server::Logs for Logs {
    type TailStream = Pin<Box<dyn Stream<Item = Result<wire::LogLine, Status>> + Send>>;

    async fn tail(&self, request: Request<wire::TailRequest>) -> Result<Response<Self::TailStream>, Status> {
        let request = request.into_inner();
        let key = parse::<GraphKey>("graph", &request.graph)?.base();
        let (follow, count) = (request.follow, usize::try_from(request.lines).unwrap_or(usize::MAX));
        let selection = selection(request)?;
        let (lines, reader) = self.book.tail(&key, selection, count).ok_or_else(|| {
            refuse(
                Code::NotFound,
                "graph_not_here",
                format!("graph {key} has not run on this node since its agent started"),
            )
        })?;
        let follower = follow.then_some(reader);
        Ok(Response::new(Box::pin(stream(lines.into(), follower, self.stop.clone()))))
    }
}

fn selection(request: wire::TailRequest) -> Result<Selection, DecodeError> {
    let level = wire::Level::try_from(request.least_level).map_err(|_| DecodeError::unknown("least_level"))?;
    let component = (!request.component.is_empty()).then(|| read("component", request.component));
    Ok(Selection {
        component: component.transpose()?,
        least_level: level.known(),
        request: (!request.request.is_empty()).then_some(request.request),
        since_ms: request.since_ms,
    })
}

/// These lines, then those of the follower until it ends or the agent does.
fn stream(
    lines: VecDeque<Arc<LogLine>>,
    follower: Option<Reader>,
    stop: CancellationToken,
) -> impl Stream<Item = Result<wire::LogLine, Status>> + Send {
    unfold((lines, follower, stop), |(mut lines, mut follower, stop)| async move {
        if lines.is_empty() {
            let next = follower.as_mut()?.next();
            // Safe to cancel: a follower whose lines were not taken is dropped with them.
            lines = tokio::select! {
                next = next => next?.into(),
                () = stop.cancelled() => return None,
            };
        }
        let line = LogLine::clone(&*lines.pop_front()?);
        Some((Ok(line.into()), (lines, follower, stop)))
    })
}
