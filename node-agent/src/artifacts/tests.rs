//! The store against an artifact service in this process, which can be told to misbehave.

use std::sync::atomic::{AtomicUsize, Ordering};

use http::Uri;
use proto::weft::artifact::v1::artifacts_server::{Artifacts, ArtifactsServer};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

use super::*;

const CHUNK: usize = 1_000;

/// What the service does with a request.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Right,
    /// Sends one chunk, then ends.
    BreaksOff,
    /// Sends other bytes of the right length.
    Lies,
}

#[derive(Clone)]
struct Service {
    bytes: Arc<Vec<u8>>,
    manner: Arc<Mutex<Manner>>,
    /// Bytes sent in all.
    sent: Arc<AtomicUsize>,
}

#[tonic::async_trait]
impl Artifacts for Service {
    type GetStream = ReceiverStream<Result<wire::GetResponse, Status>>;

    async fn get(&self, request: Request<wire::GetRequest>) -> Result<Response<Self::GetStream>, Status> {
        let request = request.into_inner();
        let digest = Digest::from_bytes(Sha256::digest(&*self.bytes).into());
        if request.digest != digest.to_string() {
            return Err(Status::not_found("no such artifact"));
        }
        let manner = *self.manner.lock().unwrap();
        let rest = &self.bytes[usize::try_from(request.offset).unwrap()..];
        let size = self.bytes.len() as u64;
        let (sender, receiver) = tokio::sync::mpsc::channel(rest.len() / CHUNK + 1);
        for chunk in rest.chunks(CHUNK).take(if manner == Manner::BreaksOff { 1 } else { usize::MAX }) {
            let chunk = if manner == Manner::Lies { vec![0; chunk.len()] } else { chunk.to_vec() };
            self.sent.fetch_add(chunk.len(), Ordering::Relaxed);
            sender.send(Ok(wire::GetResponse { chunk, size })).await.unwrap();
        }
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn hold(&self, _: Request<wire::HoldRequest>) -> Result<Response<wire::HoldResponse>, Status> {
        Err(Status::unimplemented("agents do not ask"))
    }

    async fn stat(&self, _: Request<wire::StatRequest>) -> Result<Response<wire::StatResponse>, Status> {
        Err(Status::unimplemented("agents do not ask"))
    }

    async fn put(
        &self,
        _: Request<Streaming<wire::PutRequest>>,
    ) -> Result<Response<wire::PutResponse>, Status> {
        Err(Status::unimplemented("agents do not upload"))
    }
}

struct Scene {
    folder: tempfile::TempDir,
    service: Service,
    address: Uri,
    artifact: Artifact,
}

impl Scene {
    async fn new() -> Self {
        let bytes: Vec<u8> = (0..10_500_u32).map(|number| (number % 251) as u8).collect();
        let artifact =
            Artifact { digest: Digest::from_bytes(Sha256::digest(&bytes).into()), size: bytes.len() as u64 };
        let service = Service {
            bytes: Arc::new(bytes),
            manner: Arc::new(Mutex::new(Manner::Right)),
            sent: Arc::default(),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let server = tonic::transport::Server::builder().add_service(ArtifactsServer::new(service.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Self { folder: tempfile::tempdir().unwrap(), service, address, artifact }
    }

    fn store(&self) -> ArtifactStore {
        ArtifactStore::open(self.folder.path(), ControlPlane::unencrypted(std::slice::from_ref(&self.address)))
            .unwrap()
    }

    fn manner(&self, manner: Manner) {
        *self.service.manner.lock().unwrap() = manner;
    }

    fn sent(&self) -> usize {
        self.service.sent.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn a_pull_that_broke_off_goes_on_where_it_stopped() {
    let scene = Scene::new().await;
    let wanted = BTreeSet::from([scene.artifact]);
    scene.manner(Manner::BreaksOff);
    let error = scene.store().ensure(&wanted, Trust::Length).await.unwrap_err();
    assert_eq!(error.reason(), "artifact_unavailable");
    assert!(error.to_string().contains("it ended before its end"), "{error}");
    assert_eq!(scene.sent(), CHUNK);

    scene.manner(Manner::Right);
    // Another store on the same folder: as after a restart.
    let store = scene.store();
    assert!(!store.has(&wanted));
    store.ensure(&wanted, Trust::Length).await.unwrap();
    assert!(store.has(&wanted));
    assert_eq!(scene.sent(), scene.service.bytes.len(), "no byte was sent twice");
    assert_eq!(fs::read(store.path(&scene.artifact.digest)).unwrap(), *scene.service.bytes);
}

#[tokio::test]
async fn wrong_bytes_never_get_the_name() {
    let scene = Scene::new().await;
    let (store, wanted) = (scene.store(), BTreeSet::from([scene.artifact]));
    scene.manner(Manner::Lies);
    let error = store.ensure(&wanted, Trust::Length).await.unwrap_err();
    assert!(error.to_string().contains("hash to something else"), "{error}");
    assert_eq!(fs::read_dir(scene.folder.path().join(FOLDER)).unwrap().count(), 0);

    scene.manner(Manner::Right);
    let smaller = BTreeSet::from([Artifact { size: 5, ..scene.artifact }]);
    let error = store.ensure(&smaller, Trust::Length).await.unwrap_err();
    assert!(error.to_string().contains("5 were assigned"), "{error}");
}

#[tokio::test]
async fn a_file_that_rotted_is_pulled_again_when_its_bytes_are_doubted() {
    let scene = Scene::new().await;
    let (store, wanted) = (scene.store(), BTreeSet::from([scene.artifact]));
    let (one, two) = tokio::join!(store.ensure(&wanted, Trust::Length), store.ensure(&wanted, Trust::Length));
    one.and(two).unwrap();
    assert_eq!(scene.sent(), scene.service.bytes.len(), "two that need it pull it once");

    let path = store.path(&scene.artifact.digest);
    fs::write(&path, vec![0; scene.service.bytes.len()]).unwrap();
    store.ensure(&wanted, Trust::Bytes).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), *scene.service.bytes);
}

#[tokio::test]
async fn no_control_plane_is_an_error_that_may_heal_unless_all_is_here() {
    let scene = Scene::new().await;
    let wanted = BTreeSet::from([scene.artifact]);
    scene.store().ensure(&wanted, Trust::Length).await.unwrap();
    let nowhere = ControlPlane::unencrypted(&[Uri::from_static("http://127.0.0.1:1")]);
    let store = ArtifactStore::open(scene.folder.path(), nowhere).unwrap();
    store.ensure(&wanted, Trust::Bytes).await.unwrap();
    let other = BTreeSet::from([Artifact { digest: Digest::from_bytes([7; 32]), size: 1 }]);
    let error = store.ensure(&other, Trust::Length).await.unwrap_err();
    assert_eq!(error.reason(), "artifact_unavailable");
}

#[tokio::test]
async fn what_nothing_needs_goes_after_its_grace() {
    let scene = Scene::new().await;
    let store = scene.store();
    store.ensure(&BTreeSet::from([scene.artifact]), Trust::Length).await.unwrap();
    let part = durable::beside(&store.path(&Digest::from_bytes([7; 32])), PART);
    fs::write(&part, "half").unwrap();
    let foreign = scene.folder.path().join(FOLDER).join("README");
    fs::write(&foreign, "not ours").unwrap();

    let needed = BTreeSet::from([scene.artifact.digest]);
    assert_eq!(store.collect(&needed, GRACE).await.unwrap(), 0);
    assert!(part.exists(), "its grace has just begun");
    assert_eq!(store.collect(&needed, Duration::ZERO).await.unwrap(), 1);
    assert!(!part.exists() && foreign.exists());
    assert_eq!(store.collect(&BTreeSet::new(), Duration::ZERO).await.unwrap(), 1);
    assert!(!store.path(&scene.artifact.digest).exists());
}
