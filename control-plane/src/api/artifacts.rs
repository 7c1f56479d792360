//! `weft.artifact.v1.Artifacts`.

use std::io::Read as _;
use std::pin::Pin;

use cluster::command::Body;
use futures::Stream;
use model::digest::Digest;
use model::graph::Artifact;
use proto::CHUNK_MAX_BYTES;
use proto::convert::{parse, required};
use proto::status::refuse;
use proto::weft::artifact::v1 as wire;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

use super::mutation::{blocking, propose};
use super::{Context, refusal};

/// Chunks of a download that wait for a slow reader.
const CHUNKS_AHEAD: usize = 4;

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

    /// Puts what is stored into the replicated state.
    async fn record(&self, artifact: Artifact) -> Result<(), Status> {
        if self.context.raft.state().artifacts.contains_key(&artifact.digest) {
            return Ok(());
        }
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
        let first =
            chunks.message().await?.ok_or_else(|| refuse(Code::InvalidArgument, "empty", "an empty upload"))?;
        let header = required("header", first.header)?;
        let artifact = Artifact { digest: parse("header.digest", &header.digest)?, size: header.size };
        let store = self.context.artifacts.clone();
        let upload = blocking(move || store.upload(artifact, header.offset)).await?;
        let mut upload = upload.map_err(|error| refusal::artifact(&error))?;
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
            match chunks.message().await? {
                Some(next) => chunk = next.chunk,
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

    type GetStream = Pin<Box<dyn Stream<Item = Result<wire::GetResponse, Status>> + Send>>;

    async fn get(&self, request: Request<wire::GetRequest>) -> Result<Response<Self::GetStream>, Status> {
        let request = request.into_inner();
        let digest: Digest = parse("digest", &request.digest)?;
        let store = self.context.artifacts.clone();
        let opened = blocking(move || store.open_at(&digest, request.offset)).await?;
        let (mut file, size) = opened.map_err(|error| refusal::artifact(&error))?;
        let (sender, receiver) = tokio::sync::mpsc::channel(CHUNKS_AHEAD);
        tokio::task::spawn_blocking(move || {
            let mut buffer = vec![0; CHUNK_MAX_BYTES];
            loop {
                let item = match file.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(count) => Ok(wire::GetResponse { chunk: buffer[..count].to_vec(), size }),
                    Err(error) => Err(Status::data_loss(error.to_string())),
                };
                let is_last = item.is_err();
                if sender.blocking_send(item).is_err() || is_last {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}
