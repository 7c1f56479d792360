//! The client against a control plane that fails as it is told to.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures::Stream;
use model::digest::Digest;
use model::graph::Artifact;
use proto::CHUNK_MAX_BYTES;
use proto::status::refuse;
use proto::weft::artifact::v1 as wire;
use proto::weft::artifact::v1::artifacts_server::{Artifacts, ArtifactsServer};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::{Code, Request, Response, Status, Streaming};
use trust::Clients;

use super::*;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::testing::credentials;

/// What the control plane does and has seen.
#[derive(Debug, Default)]
struct Script {
    /// Answers of `Stat` to come; behind the last one, what is stored is said.
    stats: VecDeque<Status>,
    /// What each `Stat` asked for.
    asked: Vec<String>,
    stored: Vec<u8>,
    size: u64,
    /// How many messages each upload to come may have before its connection breaks.
    breaks: VecDeque<usize>,
    /// Where each upload began.
    offsets: Vec<u64>,
    credentials: Option<TempDir>,
}

#[derive(Debug, Clone, Default)]
struct Fake(Arc<Mutex<Script>>);

impl Fake {
    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.0.lock().unwrap()
    }
}

#[tonic::async_trait]
impl Artifacts for Fake {
    async fn stat(&self, request: Request<wire::StatRequest>) -> Result<Response<wire::StatResponse>, Status> {
        let mut script = self.script();
        script.asked.push(request.into_inner().digest);
        if let Some(status) = script.stats.pop_front() {
            return Err(status);
        }
        let offset = script.stored.len() as u64;
        Ok(Response::new(wire::StatResponse { complete: offset > 0 && offset == script.size, offset }))
    }

    async fn put(
        &self,
        request: Request<Streaming<wire::PutRequest>>,
    ) -> Result<Response<wire::PutResponse>, Status> {
        let mut chunks = request.into_inner();
        let most = self.script().breaks.pop_front().unwrap_or(usize::MAX);
        let mut seen = 0;
        while let Some(put) = chunks.message().await? {
            let mut script = self.script();
            if let Some(header) = put.header {
                script.offsets.push(header.offset);
                script.size = header.size;
            }
            script.stored.extend(put.chunk);
            seen += 1;
            if seen >= most {
                return Err(Status::unavailable("the connection is gone"));
            }
        }
        let script = self.script();
        let offset = script.stored.len() as u64;
        Ok(Response::new(wire::PutResponse { complete: offset == script.size, offset }))
    }

    async fn hold(&self, _: Request<wire::HoldRequest>) -> Result<Response<wire::HoldResponse>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }

    type GetStream = Pin<Box<dyn Stream<Item = Result<wire::GetResponse, Status>> + Send>>;

    async fn get(&self, _: Request<wire::GetRequest>) -> Result<Response<Self::GetStream>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }
}

async fn start(stats: impl IntoIterator<Item = Status>) -> (Fake, Client) {
    let (keyring, folder) = credentials();
    let fake = Fake::default();
    fake.script().stats.extend(stats);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: Address = listener.local_addr().unwrap().to_string().parse().unwrap();
    let server = tonic::transport::Server::builder().add_service(ArtifactsServer::new(fake.clone()));
    tokio::spawn(server.serve_with_incoming(trust::incoming(listener, keyring, Clients::Required)));
    let client = Client::new(address, Some(folder.path().join("operator.pem")), None);
    // Read when the first call is made.
    fake.script().credentials = Some(folder);
    (fake, client)
}

/// A mutation as far as the client can tell: its id travels where the fake can see it.
async fn mutate(client: &Client, id: Option<&RequestId>) -> Result<wire::StatResponse, CallError> {
    let call = |services: Services, id: String| async move {
        services.artifacts().stat(wire::StatRequest { digest: id }).await
    };
    client.mutate(id, call).await
}

fn lost() -> Status {
    Status::unavailable("the connection is gone")
}

#[tokio::test]
async fn a_mutation_whose_answer_was_lost_is_repeated_under_its_id() {
    let unknown = refuse(Code::DeadlineExceeded, "unknown_outcome", "no quorum in time");
    let (fake, client) = start([lost(), unknown]).await;
    mutate(&client, None).await.unwrap();
    let asked = fake.script().asked.clone();
    assert_eq!(asked.len(), 3);
    assert!(!asked[0].is_empty() && asked.iter().all(|id| *id == asked[0]), "{asked:?}");

    let id = RequestId::new("ci-42").unwrap();
    mutate(&client, Some(&id)).await.unwrap();
    assert_eq!(fake.script().asked.last().unwrap(), "ci-42");
}

#[tokio::test]
async fn a_mutation_that_stays_unknown_says_so_and_how_to_repeat_it() {
    let (fake, client) = start(std::iter::repeat_with(lost).take(20)).await;
    let failure = Failure::from(mutate(&client, None).await.unwrap_err());
    assert_eq!(failure.exit(), Exit::StillRunning);
    let asked = fake.script().asked.clone();
    assert_eq!(asked.len(), 1 + PAUSES.len(), "it is bounded");
    let Failure::StillRunning { next, .. } = failure else { panic!("it is not known") };
    assert!(next.contains(&asked[0]), "{next}");
}

#[tokio::test]
async fn a_refusal_is_final_and_keeps_its_reason() {
    let (fake, client) = start([refuse(Code::InvalidArgument, "unknown_field", "no such field")]).await;
    let Err(CallError::Refused { reason, message, .. }) = mutate(&client, None).await else {
        panic!("it was refused");
    };
    assert_eq!((reason.as_deref(), message.as_str()), (Some("unknown_field"), "no such field"));
    assert_eq!(fake.script().asked.len(), 1);
}

#[tokio::test]
async fn where_nobody_listens_nothing_was_applied() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: Address = listener.local_addr().unwrap().to_string().parse().unwrap();
    drop(listener);
    let client = Client::new(address, None, None);
    let Err(CallError::Unreachable { request, message, .. }) = mutate(&client, None).await else {
        panic!("nobody listens");
    };
    assert_eq!(request, None, "repeating is safe without the id");
    assert!(message.contains("refused"), "{message}");
}

#[tokio::test]
async fn an_upload_that_breaks_goes_on_where_it_was() {
    let (fake, client) = start([]).await;
    let bytes: Arc<[u8]> = (0..3 * CHUNK_MAX_BYTES + 7).map(|n| (n % 251) as u8).collect();
    let artifact = Artifact { digest: Digest::from_bytes([7; 32]), size: bytes.len() as u64 };
    // Behind the header and one chunk, then behind the header alone.
    fake.script().breaks.extend([2, 1]);
    let sent = client.upload(&artifact, &bytes).await.unwrap();
    assert_eq!(sent, Uploaded::Sent(artifact.size));
    let chunk = CHUNK_MAX_BYTES as u64;
    assert_eq!(fake.script().offsets, [0, chunk, chunk]);
    assert!(fake.script().stored == *bytes, "every byte once, in order");

    assert_eq!(client.upload(&artifact, &bytes).await.unwrap(), Uploaded::Skipped);
}

#[tokio::test]
async fn an_upload_that_never_comes_further_is_given_up() {
    let (fake, client) = start([]).await;
    let bytes: Arc<[u8]> = vec![1; 10].into();
    let artifact = Artifact { digest: Digest::from_bytes([7; 32]), size: 10 };
    fake.script().breaks.extend([1; 50]);
    let failure = Failure::from(client.upload(&artifact, &bytes).await.unwrap_err());
    assert_eq!(failure.exit(), Exit::Unreachable);
    assert_eq!(fake.script().offsets.len(), 1 + PAUSES.len());
}
