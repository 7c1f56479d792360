//! A control plane of one graph that answers as a test says and keeps what it was asked, for whole command lines.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};

use futures::{Stream, StreamExt as _, stream};
use proto::weft::artifact::v1 as artifact;
use proto::weft::artifact::v1::artifacts_server::{Artifacts, ArtifactsServer};
use proto::weft::graph::v1 as wire;
use proto::weft::graph::v1::graphs_server::{Graphs, GraphsServer};
use tempfile::TempDir;
use tonic::transport::Server;
use tonic::transport::server::Router;
use tonic::{Request, Response, Status, Streaming};

use super::{Ran, credentials, ctl, serve};

/// What it answers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answers {
    /// `Get`, and what a `Rollout` comes to.
    pub(crate) status: wire::GraphStatus,
    /// `Deploy`.
    pub(crate) deployed: wire::DeployResponse,
    /// `Watch`: one after the other; behind the last one nothing changes any more.
    pub(crate) watched: Vec<wire::GraphStatus>,
    /// Instead of all mutations.
    pub(crate) refusal: Option<Status>,
}

/// What it was asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    pub(crate) deploys: Vec<wire::DeployRequest>,
    pub(crate) rollouts: Vec<wire::RolloutRequest>,
}

/// A control plane of graphs alone.
pub(crate) struct FakeGraphs {
    server: FakeServer,
    asked: Arc<Mutex<Asked>>,
}

#[allow(clippy::unwrap_used, reason = "tests")]
impl FakeGraphs {
    /// Listens at once.
    pub(crate) fn start(answers: Answers) -> Self {
        let asked = Arc::<Mutex<Asked>>::default();
        let service = Service { answers, asked: asked.clone() };
        Self { server: FakeServer::start(routes(service)), asked }
    }

    /// Runs `ctl` against it.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> Ran {
        self.server.ctl(arguments)
    }

    /// What it was asked until now.
    pub(crate) fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap()
    }

    /// A manifest beside the file that it names.
    pub(crate) fn manifest(&self) -> String {
        self.server.file("app.wasm", "app");
        self.server.file("graph.yaml", "version: 1\ngraph: crm\ncomponents:\n  app: {source: app.wasm}\n")
    }
}

/// A server in a thread of its own, as long as the process lives, and a folder with the `operator.pem` that it lets in.
pub(super) struct FakeServer {
    address: String,
    folder: TempDir,
}

#[allow(clippy::unwrap_used, reason = "tests")]
impl FakeServer {
    pub(super) fn start(router: Router) -> Self {
        let (keyring, folder) = credentials();
        Self { address: serve(keyring, router), folder }
    }

    /// Runs `ctl` against it.
    pub(super) fn ctl(&self, arguments: &[&str]) -> Ran {
        let credentials = self.folder.path().join("operator.pem");
        let mut all = vec!["--addr", &self.address, "--credentials", credentials.to_str().unwrap()];
        all.extend(arguments);
        ctl(&all)
    }

    /// Writes a file into its folder, and says where it is.
    pub(super) fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

#[derive(Debug, Clone)]
pub(super) struct Service {
    pub(super) answers: Answers,
    pub(super) asked: Arc<Mutex<Asked>>,
}

/// What a control plane of graphs alone answers to.
pub(super) fn routes(service: Service) -> Router {
    Server::builder().add_service(GraphsServer::new(service.clone())).add_service(ArtifactsServer::new(service))
}

impl Service {
    #[allow(clippy::unwrap_used, clippy::result_large_err, reason = "tests")]
    fn mutate(&self, keep: impl FnOnce(&mut Asked)) -> Result<(), Status> {
        keep(&mut self.asked.lock().unwrap());
        self.answers.refusal.clone().map_or(Ok(()), Err)
    }
}

pub(super) fn unasked<T>() -> Result<T, Status> {
    Err(Status::unimplemented("not asked for here"))
}

#[tonic::async_trait]
impl Graphs for Service {
    async fn deploy(
        &self,
        request: Request<wire::DeployRequest>,
    ) -> Result<Response<wire::DeployResponse>, Status> {
        self.mutate(|asked| asked.deploys.push(request.into_inner()))?;
        Ok(Response::new(self.answers.deployed.clone()))
    }

    async fn rollout(
        &self,
        request: Request<wire::RolloutRequest>,
    ) -> Result<Response<wire::RolloutResponse>, Status> {
        self.mutate(|asked| asked.rollouts.push(request.into_inner()))?;
        Ok(Response::new(wire::RolloutResponse { status: Some(self.answers.status.clone()) }))
    }

    async fn get(&self, _: Request<wire::GetRequest>) -> Result<Response<wire::GetResponse>, Status> {
        let status = Some(self.answers.status.clone());
        Ok(Response::new(wire::GetResponse { status, ..wire::GetResponse::default() }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<wire::GraphStatus, Status>> + Send>>;

    async fn watch(&self, _: Request<wire::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let seen = stream::iter(self.answers.watched.clone().into_iter().map(Ok));
        Ok(Response::new(Box::pin(seen.chain(stream::pending()))))
    }

    async fn plan(&self, _: Request<wire::PlanRequest>) -> Result<Response<wire::PlanResponse>, Status> {
        unasked()
    }

    async fn rollback(
        &self,
        _: Request<wire::RollbackRequest>,
    ) -> Result<Response<wire::DeployResponse>, Status> {
        unasked()
    }

    async fn list(&self, _: Request<wire::ListRequest>) -> Result<Response<wire::ListResponse>, Status> {
        unasked()
    }

    async fn delete(&self, _: Request<wire::DeleteRequest>) -> Result<Response<wire::DeleteResponse>, Status> {
        unasked()
    }

    async fn history(
        &self,
        _: Request<wire::HistoryRequest>,
    ) -> Result<Response<wire::HistoryResponse>, Status> {
        unasked()
    }

    async fn invoke(&self, _: Request<wire::InvokeRequest>) -> Result<Response<wire::InvokeResponse>, Status> {
        unasked()
    }
}

/// It has every artifact already.
#[tonic::async_trait]
impl Artifacts for Service {
    async fn stat(
        &self,
        _: Request<artifact::StatRequest>,
    ) -> Result<Response<artifact::StatResponse>, Status> {
        Ok(Response::new(artifact::StatResponse { complete: true, offset: 0 }))
    }

    async fn put(
        &self,
        _: Request<Streaming<artifact::PutRequest>>,
    ) -> Result<Response<artifact::PutResponse>, Status> {
        unasked()
    }

    async fn hold(
        &self,
        _: Request<artifact::HoldRequest>,
    ) -> Result<Response<artifact::HoldResponse>, Status> {
        unasked()
    }

    type GetStream = Pin<Box<dyn Stream<Item = Result<artifact::GetResponse, Status>> + Send>>;

    async fn get(&self, _: Request<artifact::GetRequest>) -> Result<Response<Self::GetStream>, Status> {
        unasked()
    }
}
