//! Artifacts go up by digest: what is stored is skipped, what broke off goes on where it was.

use std::sync::Arc;

use futures::stream;
use model::graph::Artifact;
use proto::CHUNK_MAX_BYTES;
use proto::weft::artifact::v1 as wire;
use tonic::Code;

use super::{CallError, Client, PAUSES};

/// How long one attempt may take: the largest artifact over a slow line, and then it goes on where it was.
const UPLOAD_PATIENCE: std::time::Duration = std::time::Duration::from_secs(120);

/// What an upload had to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uploaded {
    /// It was there.
    Skipped,
    /// So many bytes were sent.
    Sent(u64),
}

impl Client {
    /// Sees to it that `bytes`, whose digest and length are `artifact`, are stored.
    pub async fn upload(&self, artifact: &Artifact, bytes: &Arc<[u8]>) -> Result<Uploaded, CallError> {
        let mut stored = self.stored(artifact).await?;
        if stored.complete {
            return Ok(Uploaded::Skipped);
        }
        let mut sent = 0;
        let mut pauses = PAUSES.iter();
        loop {
            let before = stored.offset;
            let put = self.put(artifact, bytes, before).await;
            if put.as_ref().is_err_and(|error| !is_passing(error)) {
                return put.map(|_| Uploaded::Sent(sent));
            }
            stored = self.stored(artifact).await?;
            sent += stored.offset.saturating_sub(before);
            if stored.complete {
                return Ok(Uploaded::Sent(sent));
            }
            // A try that came further starts the count again; so the bytes bound the tries.
            if stored.offset > before {
                pauses = PAUSES.iter();
            }
            match (pauses.next(), put) {
                (Some(pause), _) => tokio::time::sleep(*pause).await,
                (None, Err(error)) => return Err(error),
                (None, Ok(_)) => return Err(self.stuck(artifact)),
            }
        }
    }

    fn stuck(&self, artifact: &Artifact) -> CallError {
        CallError::Unreachable {
            address: self.address.to_string(),
            message: format!("the upload of {} does not come further", artifact.digest),
            request: None,
        }
    }

    async fn stored(&self, artifact: &Artifact) -> Result<wire::StatResponse, CallError> {
        let digest = artifact.digest.to_string();
        let call = |services: super::Services| {
            let request = wire::StatRequest { digest: digest.clone() };
            async move { services.artifacts().stat(request).await }
        };
        self.read(call).await
    }

    async fn put(
        &self,
        artifact: &Artifact,
        bytes: &Arc<[u8]>,
        offset: u64,
    ) -> Result<wire::PutResponse, CallError> {
        let call = |services: super::Services| {
            let chunks = stream::iter(chunks(artifact, bytes.clone(), offset));
            async move { services.artifacts().put(chunks).await }
        };
        match self.once(UPLOAD_PATIENCE, call).await? {
            Ok(answer) => Ok(answer),
            Err(status) => Err(self.error(status)),
        }
    }
}

/// Whether asking for the offset again and going on there may help.
fn is_passing(error: &CallError) -> bool {
    match error {
        CallError::Refused { reason, code, .. } => {
            *code == Code::Aborted || matches!(reason.as_deref(), Some("upload_offset" | "upload_busy"))
        }
        CallError::Unreachable { .. } => true,
        CallError::Unknown { .. } | CallError::Answer(_) | CallError::Credentials(_) => false,
    }
}

/// The messages of an upload from `offset` on: the header, then chunks.
fn chunks(
    artifact: &Artifact,
    bytes: Arc<[u8]>,
    offset: u64,
) -> impl Iterator<Item = wire::PutRequest> + use<> {
    let header = wire::PutHeader { digest: artifact.digest.to_string(), size: artifact.size, offset };
    let first = wire::PutRequest { header: Some(header), chunk: Vec::new() };
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
    let starts = (start..bytes.len()).step_by(CHUNK_MAX_BYTES);
    let rest = starts.map(move |from| {
        let to = from.saturating_add(CHUNK_MAX_BYTES).min(bytes.len());
        wire::PutRequest { header: None, chunk: bytes[from..to].to_vec() }
    });
    std::iter::once(first).chain(rest)
}

#[cfg(test)]
mod tests {
    use model::digest::Digest;

    use super::*;

    #[test]
    fn an_upload_goes_on_where_it_broke_off() {
        let bytes: Arc<[u8]> = (0..CHUNK_MAX_BYTES + 10).map(|n| (n % 251) as u8).collect();
        let artifact = Artifact { digest: Digest::from_bytes([7; 32]), size: bytes.len() as u64 };
        for offset in [0, 5, CHUNK_MAX_BYTES, CHUNK_MAX_BYTES + 10, CHUNK_MAX_BYTES + 11] {
            let sent: Vec<_> = chunks(&artifact, bytes.clone(), offset as u64).collect();
            assert_eq!(sent[0].header.as_ref().map(|header| header.offset), Some(offset as u64));
            assert!(sent[1..].iter().all(|put| put.header.is_none() && !put.chunk.is_empty()));
            assert!(sent.iter().all(|put| put.chunk.len() <= CHUNK_MAX_BYTES));
            let joined: Vec<u8> = sent.into_iter().flat_map(|put| put.chunk).collect();
            assert_eq!(joined, bytes[offset.min(bytes.len())..], "from {offset}");
        }
    }
}
