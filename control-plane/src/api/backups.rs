//! `weft.backup.v1.Backups`.

use std::sync::Arc;
use std::time::Duration;

use cluster::State;
use model::graph::Artifact;
use proto::CHUNK_MAX_BYTES;
use proto::backup::{FORMAT, Verifier};
use proto::status::refuse;
use proto::weft::backup::v1 as wire;
use proto::weft::backup::v1::part::Part as Body;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};

use super::mutation::blocking;
use super::{Answers, Context, refusal, until_stopped};
use crate::artifacts::ArtifactError;
use crate::raft;

/// Backups that are taken at one time: each holds a packed state in memory, and one artifact.
const SAVES_AT_ONCE: usize = 1;
/// How long a client may leave unread what it was sent: others wait for its turn.
const CLIENT_PATIENCE: Duration = Duration::from_secs(10);
/// Parts that wait for a slow client.
const PARTS_WAITING: usize = 4;

/// The service.
#[derive(Debug, Clone)]
pub struct Backups {
    context: Context,
    turns: Arc<Semaphore>,
}

impl Backups {
    /// The service over `context`.
    pub fn new(context: Context) -> Self {
        Self { context, turns: Arc::new(Semaphore::new(SAVES_AT_ONCE)) }
    }
}

#[tonic::async_trait]
impl wire::backups_server::Backups for Backups {
    type SaveStream = Answers<wire::Part>;

    async fn save(&self, _: Request<wire::SaveRequest>) -> Result<Response<Self::SaveStream>, Status> {
        let turn = self.turns.clone().try_acquire_owned();
        let turn =
            turn.map_err(|_| refuse(Code::ResourceExhausted, "backups", "a backup is being taken already"))?;
        let state = self.context.raft.read().await.map_err(|error| refusal::read(&error))?;
        let (sender, parts) = mpsc::channel(PARTS_WAITING);
        let context = self.context.clone();
        tokio::spawn(async move {
            let mut sending = Sending { parts: sender, verifier: Verifier::default() };
            let sent = send(&context, &state, &mut sending).await;
            // The next one need not wait until this client reads how its own has ended, if it ever does.
            drop((turn, state));
            if let Err(Some(status)) = sent {
                // Whoever has gone does not hear why.
                let _ = sending.parts.send(Err(status)).await;
            }
        });
        Ok(Response::new(until_stopped(ReceiverStream::new(parts), &self.context.stop)))
    }
}

/// Parts on their way to a client, by the rules by which it reads them.
struct Sending {
    parts: mpsc::Sender<Result<wire::Part, Status>>,
    verifier: Verifier,
}

impl Sending {
    /// `Err(None)` if the client has gone.
    async fn put(&mut self, body: Body) -> Result<(), Option<Status>> {
        let part = wire::Part { part: Some(body) };
        let taken = self.verifier.take(&part);
        taken.map_err(|error| refuse(Code::DataLoss, error.reason(), error.to_string()))?;
        self.pass(part).await
    }

    async fn end(&mut self) -> Result<(), Option<Status>> {
        let end = self.verifier.end();
        self.pass(end).await
    }

    async fn pass(&self, part: wire::Part) -> Result<(), Option<Status>> {
        match tokio::time::timeout(CLIENT_PATIENCE, self.parts.send(Ok(part))).await {
            Ok(passed) => passed.map_err(|_| None),
            Err(_) => {
                let message = format!("nothing was read for {} s", CLIENT_PATIENCE.as_secs());
                Err(Some(refuse(Code::DeadlineExceeded, "client_silent", message)))
            }
        }
    }
}

async fn send(context: &Context, state: &Arc<State>, sending: &mut Sending) -> Result<(), Option<Status>> {
    let packing = state.clone();
    let packed = blocking(move || {
        raft::encode_state(&packing).map(|bytes| {
            let digest = Sha256::digest(&bytes).to_vec();
            (bytes, digest)
        })
    })
    .await?;
    let (bytes, digest) = packed.map_err(|error| refuse(Code::Internal, "internal", error.to_string()))?;
    let head = head(state, context.raft.now_ms(), bytes.len(), digest);
    sending.put(Body::Head(head)).await?;
    for chunk in bytes.chunks(CHUNK_MAX_BYTES) {
        sending.put(Body::State(chunk.to_vec())).await?;
    }
    drop(bytes);
    for artifact in state.artifacts.values() {
        let bytes = artifact_bytes(context, *artifact).await?;
        let head = wire::ArtifactHead { digest: artifact.digest.to_string(), size: artifact.size };
        sending.put(Body::Artifact(head)).await?;
        for chunk in bytes.chunks(CHUNK_MAX_BYTES) {
            sending.put(Body::Chunk(chunk.to_vec())).await?;
        }
    }
    sending.end().await
}

fn head(state: &State, taken_at_ms: u64, state_bytes: usize, state_sha256: Vec<u8>) -> wire::Head {
    wire::Head {
        format: FORMAT,
        cluster: state.cluster.as_ref().map(ToString::to_string).unwrap_or_default(),
        revision: state.revision.0,
        taken_at_ms,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        state_bytes: state_bytes as u64,
        state_sha256,
        artifacts: state.artifacts.len() as u64,
        artifact_bytes: state.artifacts.values().map(|artifact| artifact.size).sum(),
        graphs: state.graph_count() as u64,
        policies: state.policies.len() as u64,
        nodes: state.nodes.len() as u64,
    }
}

/// The bytes of an artifact, of this member or of another: a backup without them would be none.
async fn artifact_bytes(context: &Context, artifact: Artifact) -> Result<Vec<u8>, Status> {
    let read = || {
        let store = context.artifacts.clone();
        blocking(move || store.read(&artifact.digest))
    };
    match read().await? {
        // Bytes that have rotted are set aside when they are read, and are missing then.
        Err(ArtifactError::Missing(_) | ArtifactError::Mismatch { .. }) => {
            context.replicas.hold(artifact, None).await.map_err(|error| refusal::replica(&error))?;
            read().await?.map_err(|error| refusal::artifact(&error))
        }
        read => read.map_err(|error| refusal::artifact(&error)),
    }
}
