//! Calls into running graphs from outside.

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::graph::{DEADLINE_DEFAULT, DEADLINE_MAX};
use model::id::GraphKey;
use model::report::Failure;
use proto::convert::{parse, read};
use proto::status::refuse;
use proto::weft::agent::v1 as wire;
use tokio::sync::watch;
use tonic::{Code, Request, Response, Status};

use crate::reconciler::Table;
use crate::runner::{Call, InvokeError, Runner, Running as _};

/// The service over what runs now.
pub struct Agent<R: Runner> {
    table: watch::Receiver<Arc<Table<R::Running>>>,
}

impl<R: Runner> Agent<R> {
    /// A service over `table`.
    pub fn new(table: watch::Receiver<Arc<Table<R::Running>>>) -> Self {
        Self { table }
    }
}

#[tonic::async_trait]
impl<R: Runner> wire::agent_server::Agent for Agent<R> {
    async fn invoke(
        &self,
        request: Request<wire::InvokeRequest>,
    ) -> Result<Response<wire::InvokeResponse>, Status> {
        let request = request.into_inner();
        let key: GraphKey = parse("graph", &request.graph)?;
        let deadline = match request.deadline_ms {
            0 => DEADLINE_DEFAULT,
            milliseconds => Duration::from_millis(milliseconds).min(DEADLINE_MAX),
        };
        let call = Call {
            component: read("component", request.component)?,
            interface: request.interface,
            function: request.function,
            arguments: request.arguments,
            deadline,
        };
        let running = self.table.borrow().get(&key).cloned();
        let running = running.ok_or_else(|| {
            refuse(Code::NotFound, "graph_not_serving", format!("graph {key} does not serve on this node"))
        })?;
        let start = Instant::now();
        let result = running.invoke(call).await.map_err(|error| status(&error))?;
        let elapsed_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        Ok(Response::new(wire::InvokeResponse { result, elapsed_us }))
    }
}

fn status(error: &InvokeError) -> Status {
    let (code, Failure { reason, message }) = match error {
        InvokeError::NotFound(failure) => (Code::NotFound, failure),
        InvokeError::BadArguments(failure) => (Code::InvalidArgument, failure),
        InvokeError::Deadline(failure) => (Code::DeadlineExceeded, failure),
        InvokeError::Busy(failure) => (Code::ResourceExhausted, failure),
        // Not `Internal`: it is the guest that failed, and the agent that says so works.
        InvokeError::Guest(failure) => (Code::Aborted, failure),
    };
    refuse(code, reason, message)
}
