//! The status of a graph as it changes, across restarts of the control plane: what is committed outlives them.

use std::time::Duration;

use model::id::GraphKey;
use model::status::GraphStatus;
use proto::weft::graph::v1 as wire;
use tonic::{Status, Streaming};

use crate::client::{CallError, Client, Services};

/// The wait before a broken watch is opened again.
const REOPEN_PAUSE: Duration = Duration::from_millis(500);

/// A status as the wire has it, and as it is read.
pub struct Seen {
    /// To be shown as it is.
    pub wire: wire::GraphStatus,
    /// To be judged.
    pub status: GraphStatus,
}

/// A watch that is opened again when it breaks.
pub struct GraphWatch {
    graph: String,
    stream: Option<Streaming<wire::GraphStatus>>,
    /// A watch that is opened again begins with what may be known already.
    last: Option<wire::GraphStatus>,
}

impl GraphWatch {
    /// A watch of one graph; nothing is asked yet.
    pub fn new(key: &GraphKey) -> Self {
        Self { graph: key.to_string(), stream: None, last: None }
    }

    /// The next status: now for the first one, on a change for those after it. Waits for a control plane that is away,
    /// so the caller brings the deadline; an error is final.
    pub async fn next(&mut self, client: &Client) -> Result<Seen, CallError> {
        loop {
            match self.message(client).await {
                Ok(Some(wire)) => {
                    // Changes of other graphs move the state's revision only.
                    let compared = wire::GraphStatus { state_revision: 0, ..wire.clone() };
                    if self.last.as_ref() == Some(&compared) {
                        continue;
                    }
                    self.last = Some(compared);
                    let status = GraphStatus::try_from(wire.clone())?;
                    return Ok(Seen { wire, status });
                }
                Ok(None) | Err(CallError::Unreachable { .. }) => self.stream = None,
                Err(error) => return Err(error),
            }
            tokio::time::sleep(REOPEN_PAUSE).await;
        }
    }

    /// The next message of the stream, which is opened if it is not.
    async fn message(&mut self, client: &Client) -> Result<Option<wire::GraphStatus>, CallError> {
        if self.stream.is_none() {
            let call = |services: Services| {
                let request = wire::WatchRequest { graph: self.graph.clone() };
                async move { services.graphs().watch(request).await }
            };
            self.stream = Some(client.stream(call).await?);
        }
        match &mut self.stream {
            Some(stream) => stream.message().await.map_err(|status: Status| client.error(status)),
            None => Ok(None),
        }
    }
}
