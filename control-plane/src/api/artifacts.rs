//! `weft.artifact.v1.Artifacts`.

use std::fs::File;
use std::io::{self, Read as _};
use std::time::Duration;

use cluster::command::Body;
use futures::stream;
use model::digest::Digest;
use model::graph::Artifact;
use proto::CHUNK_MAX_BYTES;
use proto::convert::{parse, required};
use proto::status::refuse;
use proto::weft::artifact::v1 as wire;
use tonic::{Code, Request, Response, Status, Streaming};
use trust::{Role, gate};

use super::mutation::{blocking, propose};
use super::{Answers, Context, refusal, transport_errors, until_stopped};
use crate::artifacts::ArtifactError;
use crate::raft::ProposeError;

/// How long an upload may be silent: longer than any network is gone for a moment, short enough that a client that died
/// does not keep others from uploading the same artifact.
const CHUNK_PATIENCE: Duration = Duration::from_secs(30);

/// The service.
#[derive(Debug, Clone)]
pub struct Artifacts {
    context: Context,
}

impl Artifacts {
    /// The service over `context`.
    pub fn new(context: Context) -> Self {
        Self { context }
    }

    /// Refuses an artifact for which there is no room.
    fn has_room(&self, artifact: Artifact) -> Result<(), Status> {
        let state = self.context.raft.state();
        if state.artifacts.contains_key(&artifact.digest) {
            return Ok(());
        }
        if self.context.raft.is_low_on_disk(self.context.raft.id()) {
            return Err(refusal::propose(&ProposeError::DiskFull));
        }
        let stored: u64 = state.artifacts.values().map(|artifact| artifact.size).sum();
        let quota = self.context.artifact_quota;
        if stored.saturating_add(artifact.size) <= quota.0 {
            return Ok(());
        }
        let message = format!(
            "{} bytes are stored, {} more are asked for, and artifacts may have {quota} in all",
            stored, artifact.size
        );
        Err(refuse(Code::ResourceExhausted, "artifact_quota", message))
    }

    /// Puts what is stored into the replicated state.
    async fn record(&self, artifact: Artifact) -> Result<(), Status> {
        let store = self.context.artifacts.clone();
        let touched = blocking(move || store.touch(&artifact.digest)).await?;
        touched.map_err(|error| refusal::artifact(&error))?;
        if self.context.raft.state().artifacts.contains_key(&artifact.digest) {
            return Ok(());
        }
        self.has_room(artifact)?;
        self.context.replicas.spread(artifact).await.map_err(|error| refusal::replica(&error))?;
        let done = propose(&self.context, None, Body::PutArtifact(artifact)).await?;
        done.map(drop).map_err(|refused| refusal::outcome(&refused))
    }
}

#[tonic::async_trait]
impl wire::artifacts_server::Artifacts for Artifacts {
    async fn stat(&self, request: Request<wire::StatRequest>) -> Result<Response<wire::StatResponse>, Status> {
        let digest: Digest = parse("digest", &request.into_inner().digest)?;
        let store = self.context.artifacts.clone();
        let found = blocking(move || store.stat(&digest)).await?;
        let answer = match found {
            Ok(size) => {
                self.record(Artifact { digest, size }).await?;
                wire::StatResponse { complete: true, offset: size }
            }
            Err(offset) => wire::StatResponse { complete: false, offset },
        };
        Ok(Response::new(answer))
    }

    async fn put(
        &self,
        request: Request<Streaming<wire::PutRequest>>,
    ) -> Result<Response<wire::PutResponse>, Status> {
        let mut chunks = request.into_inner();
        let first = next_message(&mut chunks)
            .await?
            .ok_or_else(|| refuse(Code::InvalidArgument, "empty", "an empty upload"))?;
        let header = required("header", first.header)?;
        let artifact = Artifact { digest: parse("header.digest", &header.digest)?, size: header.size };
        self.has_room(artifact)?;
        let store = self.context.artifacts.clone();
        let upload = blocking(move || store.upload(artifact, header.offset)).await?;
        let Some(mut upload) = upload.map_err(|error| refusal::artifact(&error))? else {
            self.record(artifact).await?;
            return Ok(Response::new(wire::PutResponse { complete: true, offset: artifact.size }));
        };
        let mut chunk = first.chunk;
        loop {
            if chunk.len() > CHUNK_MAX_BYTES {
                let message =
                    format!("a chunk has at most {CHUNK_MAX_BYTES} bytes, this one has {}", chunk.len());
                return Err(refuse(Code::ResourceExhausted, "chunk_too_large", message));
            }
            let (returned, appended) = blocking(move || {
                let appended = upload.append(&chunk);
                (upload, appended)
            })
            .await?;
            appended.map_err(|error| refusal::artifact(&error))?;
            upload = returned;
            match next_chunk(&mut chunks).await? {
                Some(next) => chunk = next,
                None => break,
            }
        }
        let offset = upload.stored();
        let finished = blocking(move || upload.finish()).await?;
        let complete = finished.map_err(|error| refusal::artifact(&error))?;
        if complete {
            self.record(artifact).await?;
        }
        Ok(Response::new(wire::PutResponse { complete, offset }))
    }

    async fn hold(&self, request: Request<wire::HoldRequest>) -> Result<Response<wire::HoldResponse>, Status> {
        let request = request.into_inner();
        let artifact = Artifact { digest: parse("digest", &request.digest)?, size: request.size };
        let held = self.context.replicas.hold(artifact, Some(&request.source)).await;
        held.map_err(|error| refusal::replica(&error))?;
        Ok(Response::new(wire::HoldResponse {}))
    }

    type GetStream = Answers<wire::GetResponse>;

    async fn get(&self, request: Request<wire::GetRequest>) -> Result<Response<Self::GetStream>, Status> {
        // A member that misses it asks all others itself: they must not ask it in turn.
        let is_member = gate::caller(&request, Role::Member).is_ok();
        let request = request.into_inner();
        let digest: Digest = parse("digest", &request.digest)?;
        let open = || {
            let store = self.context.artifacts.clone();
            blocking(move || store.open_at(&digest, request.offset))
        };
        let mut opened = open().await?;
        // The log may say that it is stored before this member has it.
        if matches!(opened, Err(ArtifactError::Missing(_)))
            && !is_member
            && let Some(artifact) = self.context.raft.state().artifacts.get(&digest).copied()
        {
            if let Err(error) = self.context.replicas.hold(artifact, None).await {
                tracing::warn!(%error, "an artifact was asked for that is not here");
            }
            opened = open().await?;
        }
        let (file, size) = opened.map_err(|error| refusal::artifact(&error))?;
        // Read as the client takes it: one that is slow, or never reads, costs a file handle and no thread.
        let chunks = stream::try_unfold(file, move |file| async move {
            let (file, read) = blocking(move || read_chunk(file)).await?;
            let chunk = read.map_err(|error| refuse(Code::Internal, "disk", error.to_string()))?;
            Ok((!chunk.is_empty()).then_some((wire::GetResponse { chunk, size }, file)))
        });
        Ok(Response::new(until_stopped(chunks, &self.context.stop)))
    }
}

fn read_chunk(file: File) -> (File, io::Result<Vec<u8>>) {
    let mut chunk = Vec::with_capacity(CHUNK_MAX_BYTES);
    let read = (&file).take(CHUNK_MAX_BYTES as u64).read_to_end(&mut chunk);
    (file, read.map(|_| chunk))
}

async fn next_message(chunks: &mut Streaming<wire::PutRequest>) -> Result<Option<wire::PutRequest>, Status> {
    match tokio::time::timeout(CHUNK_PATIENCE, chunks.message()).await {
        Ok(message) => message.map_err(transport_errors::in_stream),
        Err(_) => {
            let message = format!("nothing came for {} s: what is stored is kept", CHUNK_PATIENCE.as_secs());
            Err(refuse(Code::DeadlineExceeded, "upload_silent", message))
        }
    }
}

/// The bytes of the next message; a message without any would let an upload go on for ever without coming further.
async fn next_chunk(chunks: &mut Streaming<wire::PutRequest>) -> Result<Option<Vec<u8>>, Status> {
    match next_message(chunks).await? {
        Some(message) if message.chunk.is_empty() => {
            Err(refuse(Code::InvalidArgument, "missing_field", "chunk: required behind the first message"))
        }
        message => Ok(message.map(|message| message.chunk)),
    }
}
