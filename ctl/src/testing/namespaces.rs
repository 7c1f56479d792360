//! A control plane of namespaces that answers as a test says and keeps which quotas it was asked for.

use std::sync::{Arc, Mutex, MutexGuard};

use proto::weft::namespace::v1 as wire;
use proto::weft::namespace::v1::namespaces_server::{Namespaces, NamespacesServer};
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::Ran;
use super::graphs::FakeServer;

/// A control plane in a thread of its own, as long as the process lives.
pub(crate) struct FakeNamespaces {
    server: FakeServer,
    asked: Arc<Mutex<Vec<wire::SetQuotaRequest>>>,
}

#[allow(clippy::unwrap_used, reason = "tests")]
impl FakeNamespaces {
    /// Of this one it takes quotas as members of earlier versions do.
    pub(crate) const KNOWS_NO_RESERVES: &'static str = "old";

    /// Listens at once, and has these namespaces; each has these graphs.
    pub(crate) fn start(namespaces: Vec<wire::Namespace>, graphs: Vec<wire::GraphUsage>) -> Self {
        let asked = Arc::<Mutex<Vec<wire::SetQuotaRequest>>>::default();
        let service = Service { namespaces, graphs, asked: asked.clone() };
        let router = Server::builder().add_service(NamespacesServer::new(service));
        Self { server: FakeServer::start(router), asked }
    }

    /// Runs `ctl` against it.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> Ran {
        self.server.ctl(arguments)
    }

    /// Which quotas it was asked for until now.
    pub(crate) fn asked(&self) -> MutexGuard<'_, Vec<wire::SetQuotaRequest>> {
        self.asked.lock().unwrap()
    }
}

#[derive(Debug, Clone)]
struct Service {
    namespaces: Vec<wire::Namespace>,
    graphs: Vec<wire::GraphUsage>,
    asked: Arc<Mutex<Vec<wire::SetQuotaRequest>>>,
}

impl Service {
    fn find(&self, name: &str) -> Result<wire::Namespace, Status> {
        let found = self.namespaces.iter().find(|namespace| namespace.name == name).cloned();
        found.ok_or_else(|| Status::not_found(name))
    }
}

#[tonic::async_trait]
impl Namespaces for Service {
    async fn list(&self, _: Request<wire::ListRequest>) -> Result<Response<wire::ListResponse>, Status> {
        Ok(Response::new(wire::ListResponse { namespaces: self.namespaces.clone() }))
    }

    async fn get(&self, request: Request<wire::GetRequest>) -> Result<Response<wire::GetResponse>, Status> {
        let namespace = Some(self.find(&request.into_inner().name)?);
        Ok(Response::new(wire::GetResponse { namespace, graphs: self.graphs.clone() }))
    }

    #[allow(clippy::unwrap_used, reason = "tests")]
    async fn set_quota(
        &self,
        request: Request<wire::SetQuotaRequest>,
    ) -> Result<Response<wire::SetQuotaResponse>, Status> {
        let request = request.into_inner();
        let found = self.find(&request.namespace)?;
        let knows_all = request.namespace != FakeNamespaces::KNOWS_NO_RESERVES;
        let earlier = |quota| wire::Quota { reserved: None, priority: None, ..quota };
        let quota = if knows_all { request.quota } else { request.quota.map(earlier) };
        let namespace = Some(wire::Namespace { quota, ..found });
        self.asked.lock().unwrap().push(request);
        Ok(Response::new(wire::SetQuotaResponse { namespace }))
    }
}
